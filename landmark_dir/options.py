"""Every choice of a registration: its default, what it may be, and what it means, each said once.

Options are frozen dataclasses, grouped by what they steer, that check themselves when they are
made. The command line, the messages of errors and `help(landmark_dir.RegisterOptions)` come from
the same lines. The names of all choices differ, so `RegisterOptions.of` takes them flat, without
their group.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from landmark_dir.choices import Checked, choice, choices, documented
from landmark_dir.errors import BadArgument


class Preset(NamedTuple):
    """How the deformable stage runs."""

    parameters: str | None  # file in elastix_params; None: landmarks alone, no elastix
    passes: int = 2  # how often the network matches, each time on what the landmarks so far leave
    landmarks: int = 2500  # most pairs elastix is given
    resolutions: int = 3  # of the file


PRESETS = {
    "default": Preset("bspline"),
    "fast": Preset("bspline_fast", passes=1, landmarks=1500),
    "fine": Preset("bspline_fine", passes=3, landmarks=5000),
    "lung": Preset("bspline_lung"),
    "points-only": Preset(None),
}
LEAST_SCORE, LEAST_SCORE_3D = 0.5, 0.3  # of a pair of slices, and of a landmark in 3D
ENGINES = ("itkelastix", "simpleelastix", "executable")  # in the order in which `auto` tries them


@documented
@dataclass(frozen=True)
class OutlierOptions(Checked):
    """When a pair contradicts its neighbours; see `matching.outliers`."""

    neighbours: int = choice(
        24,
        int,
        "Nearest pairs, by fixed point, that a pair is compared with.",
        low=5,
        high=1000,
        on_command_line=False,
    )
    coarse_mm: float = choice(
        15.0,
        float,
        "Largest distance from the neighbours' median displacement, mm.",
        low=0,
        on_command_line=False,
    )
    factor: float = choice(
        4.0,
        float,
        "Largest residual from the neighbours' affine motion, in medians.",
        low=0,
        on_command_line=False,
    )
    floor_mm: float = choice(
        4.0, float, "Residuals below this are never outliers, mm.", low=0, on_command_line=False
    )
    rounds: int = choice(
        8, int, "Most repetitions of the affine test.", low=0, high=100, on_command_line=False
    )
    links: int = choice(
        8,
        int,
        "Nearest pairs that a pair may be linked with.",
        low=1,
        high=1000,
        on_command_line=False,
    )
    strain: float = choice(
        0.3,
        float,
        "Largest change of displacement within tissue, mm per mm of distance.",
        low=0,
        on_command_line=False,
    )
    part_share: float = choice(
        0.05,
        float,
        "Least share of all pairs in a linked part that is kept.",
        low=0,
        high=1,
        on_command_line=False,
    )


@documented
@dataclass(frozen=True)
class MatchingOptions(Checked):
    """How landmarks are picked and matched."""

    min_score: float | None = choice(
        None,
        float,
        "Least score of a pair, 0 to 1: the probability that it is within 2 mm of the truth "
        "(with --weights paper: that network's own matching probability).",
        low=0,
        high=1,
        unset="0.3; with --weights paper, and of single slices, 0.5",
    )
    search_mm: float = choice(
        10.0,
        float,
        "How far to search through-plane, mm, around the place where a coarse search leads "
        "(with --weights paper: around the fixed slice).",
        low=0,
        high=1000,
    )
    landmark_threshold: float | None = choice(
        None,
        float,
        "Least landmark probability ([paper] sec. 2.6) or matchability, 0 to 1.",
        low=0,
        high=1,
        unset="the network's own",
        on_command_line=False,
    )

    def least_score(self, *, calibrated_3d: bool = False) -> float:
        """`min_score`, or what holds without: less where the score is that of landmarks in 3D."""
        if self.min_score is not None:
            return self.min_score
        return LEAST_SCORE_3D if calibrated_3d else LEAST_SCORE


@documented
@dataclass(frozen=True)
class NetworkOptions(Checked):
    """Which network finds landmarks, and how often it looks."""

    weights: str = choice(
        "default", str, "Network: the name of shipped weights (default, paper), or a weights file."
    )
    passes: int | None = choice(
        None,
        int,
        "How often the network matches, each time on what the landmarks so far leave.",
        low=1,
        high=10,
        unset="as the preset says",
    )


@documented
@dataclass(frozen=True)
class GuideOptions(Checked):
    """Which landmarks guide the b-spline stage, and how strongly."""

    max_landmarks: int | None = choice(
        None,
        int,
        "Most pairs of points that elastix is given.",
        low=1,
        high=100_000,
        unset="as the preset says",
    )
    min_landmarks: int = choice(
        30, int, "Least pairs of points that may guide.", low=1, high=100_000
    )
    on_few_landmarks: str = choice(
        "fail",
        str,
        "What to do when fewer landmarks are found.",
        among=("fail", "register-without"),
    )
    hold_back: float = choice(
        0.1,
        float,
        "Share of the matched places, 0 to 0.5, that only the verdict uses; about 500 at most.",
        low=0,
        high=0.5,
    )
    landmark_weight: tuple[float, ...] = choice(
        (0.1,),
        tuple,
        "Metric weight of the points: one number for all resolutions, or one for each.",
        low=0,
    )
    start: str = choice(
        "landmarks",
        str,
        "Where the b-spline stage starts: from the dense motion of the network's landmarks, at its "
        "finest level; or from the affine map at its coarsest, as without landmarks.",
        among=("landmarks", "affine"),
    )


@documented
@dataclass(frozen=True)
class DeformableOptions(Checked):
    """The b-spline stage."""

    preset: str = choice("default", str, "Settings of the deformable stage.", among=tuple(PRESETS))
    bending_energy: float = choice(
        0.0, float, "Weight of the bending energy penalty; 0 leaves it out.", low=0
    )


@documented
@dataclass(frozen=True)
class ComputeOptions(Checked):
    """What computes, and on how many threads."""

    backend: str = choice(
        "auto",
        str,
        "Registration engine; auto takes the first installed.",
        among=("auto", *ENGINES),
    )
    device: str = choice("auto", str, "Where the network runs.", among=("auto", "cpu", "cuda"))
    threads: int | None = choice(
        None,
        int,
        "CPU threads of network and engine.",
        low=1,
        high=1024,
        unset="all; in a study cores / workers",
    )
    seed: int = choice(121212, int, "Seed of elastix's random samples.", low=1, high=2**31 - 1)


@documented
@dataclass(frozen=True)
class RegisterOptions(Checked):
    """How to register.

    `RegisterOptions.of(threads=2, preset="fast")` takes all choices flat, and `but` changes some.
    """

    landmarks: bool = choice(True, bool, "Find landmarks and let them guide the b-spline stage.")
    affine: bool = choice(True, bool, "Run an affine stage first.")
    align: str = choice(
        "auto",
        str,
        "Where to start: from the world coordinates of both headers, from the image centres, or "
        "(auto) from the world where landmarks say it is about right, else from a rigid motion "
        "found from landmarks, or from the given points.",
        among=("auto", "world", "centers"),
    )
    modality: str = choice(
        "auto",
        str,
        "What grey values are: HU (ct); or those of MR, or of any other modality, which are put on "
        "the scale of CT by their own distribution (other); or, of each image, what they look like "
        "(auto).",
        among=("auto", "ct", "other"),
    )
    matching: MatchingOptions = field(default_factory=MatchingOptions)
    outliers: OutlierOptions = field(default_factory=OutlierOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    guides: GuideOptions = field(default_factory=GuideOptions)
    deformable: DeformableOptions = field(default_factory=DeformableOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most_landmarks() < self.guides.min_landmarks:
            raise BadArgument(
                f"max_landmarks: expected at least min_landmarks ({self.guides.min_landmarks}), "
                f"found {self.most_landmarks()}"
            )
        preset, given = self.preset(), len(self.guides.landmark_weight)
        if preset.parameters is None and not self.landmarks:
            raise BadArgument(
                f"preset {self.deformable.preset}: is made of landmarks alone; leave landmarks on"
            )
        if preset.parameters is not None and given not in (1, preset.resolutions):
            raise BadArgument(
                f"landmark_weight: expected one number, or one for each of {preset.resolutions} "
                f"resolutions, found {given}"
            )

    @classmethod
    def of(cls, **changes: Any) -> "RegisterOptions":
        """Options from flat names: `RegisterOptions.of(threads=2, max_landmarks=500)`.

        Raises
        ------
        BadArgument
            If a name is unknown, or a value is not allowed.
        """
        return cls().but(**changes)

    def but(self, **changes: Any) -> "RegisterOptions":
        """The same options with some choices changed, by their flat names.

        Raises
        ------
        BadArgument
            As `of`.
        """
        own = {one.name for one in dataclasses.fields(self)}
        changed = {name: changes.pop(name) for name in own & set(changes)}
        for one in dataclasses.fields(self):
            group = changed.get(one.name, getattr(self, one.name))
            inner = {n for n, *_ in choices(group)} if dataclasses.is_dataclass(group) else set()
            if mine := inner & set(changes):
                parts = {name: changes.pop(name) for name in mine}
                changed[one.name] = dataclasses.replace(group, **parts)
        if changes:
            known = ", ".join(name for name, _, said in choices(self) if said.on_command_line)
            raise BadArgument(f"{next(iter(changes))}: unknown option; expected some of {known}")
        return dataclasses.replace(self, **changed)

    def flat(self) -> dict[str, Any]:
        """Every choice by its name, without its group, as in `run.json`."""
        found: dict[str, Any] = {}
        for group in (self, *(getattr(self, one.name) for one in dataclasses.fields(self))):
            if dataclasses.is_dataclass(group):
                names = [f.name for f in dataclasses.fields(group) if "choice" in f.metadata]
                found |= {name: getattr(group, name) for name in names}
        return found | {"weights": str(self.network.weights)}

    def preset(self) -> Preset:
        """What the chosen preset stands for."""
        return PRESETS[self.deformable.preset]

    def most_landmarks(self) -> int:
        """Most pairs elastix is given."""
        return self.guides.max_landmarks or self.preset().landmarks

    def match_passes(self) -> int:
        """How often the network matches."""
        return self.network.passes or self.preset().passes

    def metric_weights(self) -> tuple[float, ...]:
        """Metric weight of the points at each resolution."""
        weights = self.guides.landmark_weight
        return weights * self.preset().resolutions if len(weights) == 1 else weights


@documented
@dataclass(frozen=True)
class DicomOptions(Checked):
    """How a run becomes DICOM objects."""

    grid_mm: float = choice(
        3.0,
        float,
        "Distance of the vectors of a Deformable Spatial Registration, mm.",
        low=0.5,
        high=50,
    )
    allow_other_patient: bool = choice(
        False,
        bool,
        "Go on where the PatientIDs of both exams differ; what is written is of the fixed exam's "
        "patient.",
    )


DEFAULTS = RegisterOptions()


def changed(options: object, changes: dict[str, Any]) -> RegisterOptions:
    """What a public function was given: options, and single choices by name.

    Raises
    ------
    BadArgument
        If `options` is something else, a name is unknown, or a value is not allowed.
    """
    if not isinstance(options, RegisterOptions):
        raise BadArgument(f"options: expected RegisterOptions, found {type(options).__name__}")
    return options.but(**changes)
