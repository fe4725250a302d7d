"""Run a notebook from the current folder, and print what it prints: `run_notebook.py NOTEBOOK`."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": "."}}).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    print(*(one["text"] for one in outputs if one["output_type"] == "stream"), sep="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
