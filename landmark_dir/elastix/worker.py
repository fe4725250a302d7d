"""The child's side: load one engine, then answer requests until the input ends.

Started by `child.Child` as `python -m landmark_dir.elastix.worker ENGINE PARENT`. An engine is a
module with `version()` and three calls on files; each leaves its results in `folder`:

    register(folder, fixed, moving, parameters, ...)    TransformParameters.0.txt, elastix.log
    warp_image(folder, transform, moving)               result.mha, transformix.log
    map_points(folder, transform, points)               outputpoints.txt, transformix.log
"""

import json
import os
import sys
from importlib import import_module
from typing import Any, TextIO

from landmark_dir.elastix.child import end_with_parent


def main(engine_name: str, parent: int) -> None:
    """Answer `{"call": name, "arguments": {...}}` lines from stdin, one line each.

    Parameters
    ----------
    parent : int
        Number of the process that asks; the worker ends with it.
    """
    end_with_parent(parent)
    answers = _own_stdout()
    engine = import_module(f"landmark_dir.elastix.{engine_name}")
    _send(answers, {"answer": engine.version()})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            getattr(engine, request["call"])(**request["arguments"])
        except Exception as error:
            _send(answers, {"error": str(error)})
        else:
            _send(answers, {"answer": None})


def _own_stdout() -> TextIO:
    """Keep stdout for the answers; what engines print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _send(answers: TextIO, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
