"""The pairs, as files that every program reads alike, and the points they are measured at.

A pair is a folder: `fixed.nii.gz`, `moving.nii.gz`, masks of both bodies, and `points.npz` with
`fixed` and `moving` [N, 3], LPS mm, and `certain` [N], false where a pair of points is in doubt.
The moving image of the lung pair is shifted, and its points with it, so that both image centres lie
at one place: so every program starts from there.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from benchmarks.common import data_folder
from benchmarks.followups import TRUTHS, truth
from benchmarks.kernels import places
from benchmarks.lung import DOUBTFUL
from landmark_dir.geometry import Points, centre
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.run_folder import new_run_folder
from landmark_dir.io.volumes import read_volume, write_volume
from landmark_dir.preprocessing.body_mask import body_mask
from training.followups.motion import MOTIONS
from training.followups.pair import make_follow_up

MOTION_ORDER = sorted(MOTIONS)  # large first: it tells the programs apart


@dataclass(frozen=True)
class Pair:
    """One pair on disk."""

    name: str
    folder: Path

    @property
    def fixed(self) -> Path:
        """The fixed image."""
        return self.folder / "fixed.nii.gz"

    @property
    def moving(self) -> Path:
        """The moving image."""
        return self.folder / "moving.nii.gz"

    @property
    def fixed_body(self) -> Path:
        """The fixed body, 0 / 1."""
        return self.folder / "fixed_body.nii.gz"

    @property
    def moving_body(self) -> Path:
        """The moving body, 0 / 1."""
        return self.folder / "moving_body.nii.gz"

    def points(self) -> tuple[Points, Points, NDArray[np.bool_]]:
        """Where the error is measured: fixed and true moving points [N, 3], LPS mm; certain [N]."""
        with np.load(self.folder / "points.npz") as stored:
            return stored["fixed"], stored["moving"], stored["certain"]


def volumes() -> list[Path]:
    """The validation volumes that follow-ups are made of, in order of names."""
    return sorted((data_folder() / "ct" / "validation").glob("*.nii.gz"))


def names() -> list[str]:
    """All pairs, in the order in which they are measured."""
    cases = [path.name.split(".")[0] for path in volumes()]
    return ["lung", "null", *(f"{motion}/{case}" for motion in MOTION_ORDER for case in cases)]


def group(name: str) -> str:
    """What is averaged in the table: `lung`, `null`, `large` or `small`."""
    return name.split("/")[0]


def prepared(name: str, folder: Path) -> Pair:
    """The pair as files in `folder`, written unless they are there."""
    pair = Pair(name, folder / name.replace("/", "-"))
    if not pair.folder.is_dir():
        pair.folder.parent.mkdir(parents=True, exist_ok=True)
        fixed, moving, points, partners = _made(name)
        with new_run_folder(pair.folder) as made:
            for side, image in (("fixed", fixed), ("moving", moving)):
                # whole HU; what all programs read alike
                write_volume(sitk.Cast(image, sitk.sitkInt16), made / f"{side}.nii.gz")
                write_volume(body_mask(image), made / f"{side}_body.nii.gz")
            certain = np.ones(len(points), bool)
            certain[DOUBTFUL] = name != "lung"
            np.savez(made / "points.npz", fixed=points, moving=partners, certain=certain)
    return pair


def _made(name: str) -> tuple[sitk.Image, sitk.Image, Points, Points]:
    """Both images in whole HU, and the points."""
    kind = group(name)
    if kind == "lung":
        return _lung()
    if kind == "null":
        return _null()
    cases = [path.name.split(".")[0] for path in volumes()]
    seed = cases.index(name.split("/")[1])
    pair = make_follow_up(read_volume(volumes()[seed]), kind, seed)
    truths = truth(pair, TRUTHS, 1000 + seed)  # the points of `benchmarks.followups`
    return pair.fixed, pair.moving, truths.fixed, truths.moving


def _lung() -> tuple[sitk.Image, sitk.Image, Points, Points]:
    """The real lung pair, from centre to centre, at the expert points."""
    folder = data_folder() / "pairs" / "elastix-lung"
    expert = read_pairs(folder / "expert_fixed.txt", folder / "expert_moving.txt")
    fixed = read_volume(folder / "fixed.nii.gz")
    moving = read_volume(folder / "moving.nii.gz")
    shift = (centre(fixed) - centre(moving)).ravel()
    moving.SetOrigin((np.array(moving.GetOrigin()) + shift).tolist())
    return fixed, moving, expert.fixed, expert.moving + shift


def _null() -> tuple[sitk.Image, sitk.Image, Points, Points]:
    """One scan, two kernels, nothing moved: voxel centres of the body, as in `kernels`."""
    folder = data_folder() / "pairs" / "lungpetctdx-a0002-kernels"
    fixed = read_volume(folder / "kernel-a.nii.gz")
    points = places(body_mask(fixed))
    return fixed, read_volume(folder / "kernel-b.nii.gz"), points, points
