"""The child's side: load one engine, then answer requests until the input ends.

Started by `Child` as `python -m landmark_dir.elastix.worker ENGINE PARENT`. An engine is a
module with `version()` and three calls on files; each leaves its results in `folder`:

    register(folder, fixed, moving, parameters, ...)    TransformParameters.0.txt, elastix.log
    warp_image(folder, transform, moving)               result.mha, transformix.log
    map_points(folder, transform, points)               outputpoints.txt, transformix.log
"""

import sys
from importlib import import_module
from typing import Any

from landmark_dir.child_process import answer_requests, end_with_parent


def main(engine_name: str, parent: int) -> None:
    """Answer `{"call": name, "arguments": {...}}` requests.

    Parameters
    ----------
    parent : int
        Number of the process that asks; the worker ends with it.
    """
    end_with_parent(parent)
    engine = f"landmark_dir.elastix.{engine_name}"  # it is slow to load, and may print

    def call(request: dict[str, Any]) -> None:
        getattr(import_module(engine), request["call"])(**request["arguments"])

    answer_requests(call, lambda: import_module(engine).version())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
