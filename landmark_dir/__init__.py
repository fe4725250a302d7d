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
    "register": "pipeline",
    "find_landmarks": "pipeline",
    "warp": "applying",
    "warp_points": "applying",
    "RegisterOptions": "options",
    "Result": "pipeline",
    "match_slices": "matching",
    "PointPairs": "points",
    "read_volume": "volume",
    "make_phantom": "phantom",
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
