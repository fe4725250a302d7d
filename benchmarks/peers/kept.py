"""The measured rows, in a JSON file that several runs may add to."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    """All rows; none where there is no file."""
    rows: list[Row] = json.loads(file.read_text()) if file.is_file() else []
    return rows


def add(file: Path, row: Row) -> None:
    """Put a row in the place of that of the same peer and pair."""
    with _locked(file):
        others = [one for one in read(file) if key(one) != key(row)]
        rows = sorted([*others, row], key=key)
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(rows, indent=1) + "\n")
        partial.replace(file)


def key(row: Row) -> tuple[str, str]:
    """What a row is of."""
    return row["peer"], row["pair"]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Wait for others that write; it is the folder that is locked, so nothing is left there."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
