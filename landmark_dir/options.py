"""How to register: every choice, checked before anything is read."""

from dataclasses import dataclass, field
from typing import Literal

from landmark_dir.backends import INSTALL
from landmark_dir.outliers import OutlierOptions
from landmark_dir.parameters import bundled, resolutions, with_points_metric

PRESETS = {"default": "bspline"}  # name -> file in elastix_params
CHOICES = {  # option -> what it may be
    "backend": ("auto", *INSTALL),
    "align": ("world", "centers"),
    "preset": tuple(PRESETS),
    "on_few_landmarks": ("fail", "register-without"),
    "device": ("auto", "cpu", "cuda"),
}
RANGES = {  # option -> least and most
    "min_landmarks": (1, 100_000),
    "max_landmarks": (1, 100_000),
    "threads": (1, 1024),
    "seed": (1, 2**31 - 1),
    "search_mm": (0, 1000),
    "min_score": (0, 1),
}
WEIGHT_FADING = 0.1  # of the points term, from one resolution to the next


@dataclass(frozen=True)
class RegisterOptions:
    """How to register.

    Attributes
    ----------
    landmarks : bool
        Find landmarks and let them guide the b-spline stage.
    affine : bool
        Affine stage first.
    align : 'world' or 'centers'
        Where to start: from the world coordinates as they are, or from the image centres.
    preset : str
        Parameter file of the b-spline stage.
    landmark_weight : tuple of float
        Metric weight of the points, one per resolution, or one for the first resolution that
        then fades by `WEIGHT_FADING`.
    bending_energy : float
        Weight of the bending energy penalty of the b-spline; 0 leaves it out.
    max_landmarks, min_landmarks : int
        Most pairs elastix is given, and least to be worth it.
    on_few_landmarks : 'fail' or 'register-without'
    backend : 'auto', 'itkelastix', 'simpleelastix' or 'executable'
    weights : str
        Shipped name (`default`, `paper`) or file.
    device : 'auto', 'cpu' or 'cuda'
    threads : int, optional
        CPU threads of network and engine; None: all.
    seed : int
        elastix `RandomSeed`.
    search_mm : float
        Through-plane reach, mm: around where the far search leads; with `paper`, around the slice.
    min_score : float
        Least score of a pair, 0..1: its probability to be within 2 mm; with `paper`, the network's
        own matching probability.
    """

    landmarks: bool = True
    affine: bool = True
    align: Literal["world", "centers"] = "world"
    preset: str = "default"
    landmark_weight: tuple[float, ...] = (0.1,)
    bending_energy: float = 0.0
    max_landmarks: int = 2500
    min_landmarks: int = 30
    on_few_landmarks: Literal["fail", "register-without"] = "fail"
    backend: str = "auto"
    weights: str = "default"
    device: str = "auto"
    threads: int | None = None
    seed: int = 121212
    search_mm: float = 10.0
    min_score: float = 0.5
    outliers: OutlierOptions = field(default_factory=OutlierOptions)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                found = getattr(self, name)
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}, found {found!r}")
        for name, (low, high) in RANGES.items():
            found = getattr(self, name)
            if found is not None and not low <= found <= high:
                raise ValueError(f"{name}: expected {low} to {high}, found {found}")
        if self.max_landmarks < self.min_landmarks:
            raise ValueError(
                f"max_landmarks: expected at least min_landmarks ({self.min_landmarks}), "
                f"found {self.max_landmarks}"
            )
        with_points_metric(bundled(PRESETS[self.preset]), self.metric_weights())  # it checks them

    def metric_weights(self) -> tuple[float, ...]:
        """Metric weight of the points at each resolution."""
        if len(self.landmark_weight) > 1:
            return self.landmark_weight
        levels = range(resolutions(bundled(PRESETS[self.preset])))
        return tuple(weight * WEIGHT_FADING**k for weight in self.landmark_weight for k in levels)


DEFAULTS = RegisterOptions()
