"""How to register: every choice, checked before anything is read."""

from dataclasses import dataclass, field
from typing import Literal

from landmark_dir.elastix.engines import INSTALL
from landmark_dir.elastix.parameters import bundled, resolutions, with_points_metric
from landmark_dir.matching.outliers import OutlierOptions


@dataclass(frozen=True)
class Preset:
    """How the deformable stage runs.

    Attributes
    ----------
    parameters : str or None
        File in elastix_params; None: landmarks alone, no elastix.
    passes : int
        How often the network matches, each time on what the landmarks so far leave.
    landmarks : int
        Most pairs elastix is given.
    """

    parameters: str | None
    passes: int = 2
    landmarks: int = 2500


PRESETS = {
    "default": Preset("bspline"),
    "fast": Preset("bspline_fast", passes=1, landmarks=1500),
    "fine": Preset("bspline_fine", passes=3, landmarks=5000),
    "lung": Preset("bspline_lung"),
    "points-only": Preset(None),
}
CHOICES = {  # option -> what it may be
    "backend": ("auto", *INSTALL),
    "align": ("world", "centers"),
    "preset": tuple(PRESETS),
    "start": ("landmarks", "affine"),
    "on_few_landmarks": ("fail", "register-without"),
    "device": ("auto", "cpu", "cuda"),
}
RANGES = {  # option -> least and most
    "min_landmarks": (1, 100_000),
    "max_landmarks": (1, 100_000),
    "passes": (1, 10),
    "hold_back": (0, 0.5),
    "threads": (1, 1024),
    "seed": (1, 2**31 - 1),
    "search_mm": (0, 1000),
    "min_score": (0, 1),
}


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
    start : 'landmarks' or 'affine'
        Where the b-spline stage starts if the network found landmarks: from the smooth motion they
        say, at its finest level; or from the affine map, at its coarsest, as without landmarks.
    landmark_weight : tuple of float
        Metric weight of the points: one for all resolutions, or one for each. A start from
        landmarks leaves the last of them.
    bending_energy : float
        Weight of the bending energy penalty of the b-spline; 0 leaves it out.
    max_landmarks : int, optional
        Most pairs elastix is given; None: as the preset says.
    min_landmarks : int
        Least pairs to be worth it.
    passes : int, optional
        How often the network matches; None: as the preset says.
    hold_back : float
        Share of the network's pairs, 0..0.5, that only the verdict sees; at most 500 pairs.
    robust : bool
        Register without landmarks, too, and keep what fits the held-back landmarks better.
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
    start: Literal["landmarks", "affine"] = "landmarks"
    landmark_weight: tuple[float, ...] = (0.1,)
    bending_energy: float = 0.0
    max_landmarks: int | None = None
    min_landmarks: int = 30
    passes: int | None = None
    hold_back: float = 0.1
    robust: bool = False
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
        if self.most_landmarks() < self.min_landmarks:
            raise ValueError(
                f"max_landmarks: expected at least min_landmarks ({self.min_landmarks}), "
                f"found {self.max_landmarks}"
            )
        if self.robust and not (self.landmarks and self.hold_back):
            raise ValueError("robust: needs landmarks, and some of them held back")
        self._check_elastix()

    def _check_elastix(self) -> None:
        parameters = PRESETS[self.preset].parameters
        if parameters is not None:
            with_points_metric(bundled(parameters), self.metric_weights())  # it checks them
        elif not self.landmarks or self.robust:
            raise ValueError(f"preset {self.preset}: is landmarks alone, and cannot do without")

    def most_landmarks(self) -> int:
        """Most pairs elastix is given."""
        return self.max_landmarks or PRESETS[self.preset].landmarks

    def match_passes(self) -> int:
        """How often the network matches."""
        return self.passes or PRESETS[self.preset].passes

    def metric_weights(self) -> tuple[float, ...]:
        """Metric weight of the points at each resolution."""
        parameters = PRESETS[self.preset].parameters
        if len(self.landmark_weight) != 1 or parameters is None:
            return self.landmark_weight
        return self.landmark_weight * resolutions(bundled(parameters))


DEFAULTS = RegisterOptions()
