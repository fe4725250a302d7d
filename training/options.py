"""One training, as in `training/configs/*.toml`."""

import dataclasses
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landmark_dir.models.weights import NETWORKS
from training.data.augment import AugmentOptions


@dataclass(frozen=True)
class PaperOptions:
    """What only the `paper` network's training has.

    Attributes
    ----------
    keypoints : int
        K, landmarks sampled per image.
    cells : bool
        Sample at most one landmark per 8 x 8 px cell (sec. 2.4); else the K best pixels.
    valid_mask : bool
        Ask matches to lie in the body (sec. 2.4).
    match_px : float
        thresh_pixels.
    margin_pos, margin_neg : float
        m_pos and m_neg.
    hinge, cross_entropy : float
        Factors of the two parts of eq. 3; 1 in the paper, 0 leaves a part out.
    border_px : int
        Landmarks this close to the image's edge never match.
    """

    keypoints: int
    cells: bool
    valid_mask: bool
    match_px: float
    margin_pos: float
    margin_neg: float
    hinge: float
    cross_entropy: float
    border_px: int


@dataclass(frozen=True)
class SeekOptions:
    """What only the `default` network's training has.

    Attributes
    ----------
    points : int
        Sought per pair and direction.
    matchability : float
        Factor of its cross entropy.
    border_px : int
        Points this close to the image's edge are not sought.
    """

    points: int
    matchability: float
    border_px: int


RECIPES: dict[str, type[PaperOptions] | type[SeekOptions]] = {
    "paper": PaperOptions,
    "default": SeekOptions,
}


@dataclass(frozen=True)
class TrainOptions:
    """The constants of a training; [paper] sec. 2.6 names most of them.

    Attributes
    ----------
    network : str
        A name out of `landmark_dir.models.weights.NETWORKS`.
    seed : int
        Pair n of the training draws its random numbers from (seed, n) alone.
    epochs : float
        How often each training slice is seen.
    batch : int
        Pairs a step, over all processes.
    crop_px : int
        Side of the square images, px of 1 mm.
    learning_rate, final_learning_rate : float
        Adam's, at the start and, by a cosine, at the end.
    weight_decay : float
    mixed_precision : bool
        Encode in bfloat16 where the device computes in it.
    threshold : float
        thresh_landmark, for validation.
    augment : AugmentOptions
    recipe : PaperOptions or SeekOptions
        The table of the network's own name.
    """

    network: str
    seed: int
    epochs: float
    batch: int
    crop_px: int
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    mixed_precision: bool
    threshold: float
    augment: AugmentOptions
    recipe: PaperOptions | SeekOptions

    @classmethod
    def read(cls, path: Path) -> "TrainOptions":
        """Read a config file.

        Raises
        ------
        ValueError
            If a key is unknown or missing, or the file is not TOML; the sentence names it.
        """
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: expected a TOML file, found {error}") from error
        name = values.get("network")
        if name not in RECIPES:
            known = ", ".join(RECIPES)
            raise ValueError(f"{path}: network: expected one of {known}, found {name!r}")
        augment, recipe = values.pop("augment", {}), values.pop(name, {})
        _check_keys(cls, {*values, "augment", "recipe"}, str(path))
        _check_keys(AugmentOptions, set(augment), f"{path}, [augment]")
        _check_keys(RECIPES[name], set(recipe), f"{path}, [{name}]")
        _check_types(cls, values, str(path))
        _check_types(AugmentOptions, augment, f"{path}, [augment]")
        _check_types(RECIPES[name], recipe, f"{path}, [{name}]")
        return cls(**values, augment=AugmentOptions(**augment), recipe=RECIPES[name](**recipe))

    def __post_init__(self) -> None:
        stride = NETWORKS[self.network].stride
        if self.crop_px < stride or self.crop_px % stride:
            raise ValueError(f"crop_px: expected a multiple of {stride}, found {self.crop_px}")
        for name in ("epochs", "batch", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: expected more than 0, found {getattr(self, name)}")

    def steps(self, slices: int) -> int:
        """How many steps `epochs` of so many slices take."""
        return max(1, round(self.epochs * slices / self.batch))


def _check_keys(kind: type, found: set[str], place: str) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    wrong = {"unknown": sorted(found - known), "missing": sorted(known - found)}
    if any(wrong.values()):
        what = "; ".join(f"{key} {', '.join(names)}" for key, names in wrong.items() if names)
        raise ValueError(f"{place}: {what}; see training/configs for all keys")


def _check_types(kind: type, values: dict[str, Any], place: str) -> None:
    for name, wanted in typing.get_type_hints(kind).items():
        if name not in values:
            continue
        # a whole number is a fine float; True is no number
        fits = (float, int) if wanted is float else (wanted,)
        if type(values[name]) not in fits:
            raise ValueError(f"{place}: {name} must be {wanted.__name__}, found {values[name]!r}")
