"""Landmark-guided deformable registration of CT volumes with elastix.

The public names are loaded when first used, so that importing the package loads neither torch
nor itk.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

from landmark_dir.errors import LandmarkDirError

__version__ = version("landmark_dir")

_PUBLIC = {
    "register": "registration.pipeline",
    "find_landmarks": "registration.pipeline",
    "match_slices": "matching.slices",
    "compare": "comparison.compare",
    "batch": "study.batch",
    "open_run": "registration.result",
    "Result": "registration.result",
    "warp": "registration.apply",
    "warp_points": "registration.apply",
    "export": "registration.apply",
    "follow": "findings.follow",
    "RegisterOptions": "options",
    "PointPairs": "points",
    "read_volume": "io.volumes",
    "make_phantom": "phantom.scanner",
}
__all__ = ["LandmarkDirError", "__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
