"""What is measured: our networks, SIFT, and anybody's function, each asked alike and checked."""

import importlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import LandmarkDirError
from landmark_dir.matching.slices import match_with
from landmark_dir.models.weights import LoadedWeights, load_weights, shipped_weights
from training.evaluation import baselines

Array: TypeAlias = NDArray[np.float64]
Matcher: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float32]], Sequence[Any]]

BASELINES: dict[str, Matcher] = {
    "SIFT-InverseConsistency": baselines.sift_inverse_consistency,
    "SIFT-RatioTest": baselines.sift_ratio_test,
    "SIFT-InverseConsistency, soft tissue": partial(
        baselines.sift_inverse_consistency, window_hu=baselines.SOFT_TISSUE_HU
    ),
    "SIFT-RatioTest, soft tissue": partial(
        baselines.sift_ratio_test, window_hu=baselines.SOFT_TISSUE_HU
    ),
}


class Answer(NamedTuple):
    """What a matcher found in a pair, checked."""

    xy_1: Array  # [N, 2] px
    xy_2: Array
    ms: float
    score: Array | None  # [N]; None: the matcher gives none


def network_matcher(loaded: LoadedWeights) -> Matcher:
    """`landmark_dir.match_slices` with weights that are loaded once."""
    return partial(match_with, loaded.network)


def external_matcher(name: str) -> Matcher:
    """The callable `module:function`.

    Raises
    ------
    LandmarkDirError
        If there is none.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise LandmarkDirError(
            f"matcher {name}: expected module:function that can be imported, {error}"
        ) from error
    if not callable(found):
        raise LandmarkDirError(f"matcher {name}: expected a function, found {found!r}")
    matcher: Matcher = found
    return matcher


def answer(name: str, matcher: Matcher, hu_1: Any, hu_2: Any) -> Answer:
    """Ask a matcher, take the time, and check what it says.

    Raises
    ------
    LandmarkDirError
        If it is not (xy_1, xy_2) or (xy_1, xy_2, score) with finite points, row by row.
    """
    started = time.perf_counter()
    said = matcher(hu_1, hu_2)
    ms = 1000 * (time.perf_counter() - started)
    if not isinstance(said, Sequence) or len(said) not in (2, 3):
        raise LandmarkDirError(
            f"matcher {name}: expected (xy_1, xy_2) or (xy_1, xy_2, score), found {type(said)}"
        )
    xy_1, xy_2 = (_checked_points(name, i + 1, said[i]) for i in (0, 1))
    if len({len(xy_1), *map(len, said[1:])}) > 1:
        counts = ", ".join(str(len(part)) for part in said)
        raise LandmarkDirError(f"matcher {name}: expected equal counts, row by row, found {counts}")
    score = np.asarray(said[2], dtype=np.float64) if len(said) == 3 else None
    return Answer(xy_1, xy_2, ms, score)


def _checked_points(name: str, image: int, points: Any) -> Array:
    xy = np.asarray(points, dtype=np.float64)
    if xy.size == 0:
        return np.zeros((0, 2))
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise LandmarkDirError(
            f"matcher {name}: expected points of image {image} of shape (N, 2), found {xy.shape}"
        )
    if not np.isfinite(xy).all():
        raise LandmarkDirError(
            f"matcher {name}: expected finite points of image {image}, "
            f"found {int((~np.isfinite(xy)).any(axis=1).sum())} that are not"
        )
    return xy


def weights_name(weights: str) -> str:
    """What a weights file is called in tables: a shipped name, else folder/file."""
    if weights in shipped_weights():
        return weights
    return "/".join(Path(weights).with_suffix("").parts[-2:])


def collect_matchers(
    weights: Sequence[str], external: Sequence[str], *, with_baselines: bool
) -> tuple[dict[str, Matcher], dict[str, str]]:
    """All matchers by name, and the SHA-256 of the weights among them.

    Raises
    ------
    LandmarkDirError
        If one cannot be loaded, two have the same name, or there is none.
    """
    loaded = {one: load_weights(one) for one in weights}
    named: list[tuple[str, Matcher]] = [
        *((weights_name(one), network_matcher(loaded[one])) for one in loaded),
        *((one, external_matcher(one)) for one in external),
    ]
    if with_baselines:
        baselines.opencv()
        named += BASELINES.items()
    names = [name for name, _ in named]
    if not names or len(set(names)) < len(names):
        raise LandmarkDirError(
            f"matchers: expected one or more of different names, found {', '.join(names) or 'none'}"
        )
    return dict(named), {weights_name(name): one.sha256 for name, one in loaded.items()}
