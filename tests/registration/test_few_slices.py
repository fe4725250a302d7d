"""An exam of a few slices: elastix finds samples in what both images show, or it is refused."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from small_pairs import Case

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import distances_mm, inside
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.pipeline import register
from landmark_dir.registration.stages import _grid_points
from training.followups.pair import FollowUp, make_follow_up, truth_points

QUICK = RegisterOptions.of(threads=1, preset="fast")
SIZE_ZYX = (99, 328, 432)


def slab(layers: int, tilt: float = 0.0) -> np.ndarray:
    """A mask of that many slices; `tilt` slices from one side to the other."""
    z, x = np.arange(SIZE_ZYX[0])[:, None], np.arange(SIZE_ZYX[2])
    first = 50 + np.round(tilt * x / SIZE_ZYX[2])
    return np.repeat(((z >= first) & (z < first + layers))[:, None], SIZE_ZYX[1], axis=1)


@pytest.mark.parametrize("tilt", [0.0, 20.0])
@pytest.mark.parametrize("layers", [2, 3, 6])
@pytest.mark.parametrize("wider", [0, 1])
def test_a_grid_of_so_many_points_meets_a_few_slices(layers: int, tilt: float, wider: int) -> None:
    mask = slab(layers, tilt)
    count = _grid_points(sitk.GetImageFromArray(mask.astype(np.uint8)))
    assert count is not None
    sides = [np.flatnonzero(mask.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    size = [side.max() - side.min() + 1 + 2 * wider for side in sides]
    step = round((np.prod(size) / count) ** (1 / 3))  # voxels; as elastix rounds
    starts = [
        side.min() - wider + (n - ((n - 1) // step * step + 1)) // 2
        for side, n in zip(sides, size, strict=True)
    ]
    z, y, x = (
        np.arange(start, start + n, step)[: 1 + (n - 1) // step]
        for start, n in zip(starts, size, strict=True)
    )
    y, x = y[(y >= 0) & (y < SIZE_ZYX[1])], x[(x >= 0) & (x < SIZE_ZYX[2])]
    assert mask[np.ix_(z, y, x)].sum() > 1000


def test_a_whole_volume_needs_no_finer_grid() -> None:
    assert _grid_points(sitk.GetImageFromArray(slab(40).astype(np.uint8))) is None


@pytest.mark.engine
def test_less_than_two_slices_in_common_are_refused(case: Case, tmp_path: Path) -> None:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    thin = sitk.Image(moving[:, :, 16:20])
    thin.SetSpacing((*moving.GetSpacing()[:2], moving.GetSpacing()[2] / 4))
    plain = QUICK.but(landmarks=False, align="centers")
    with pytest.raises(BadVolume, match=r"share 1\.\d slices of the fixed image, .*thinner slices"):
        register(fixed, thin, tmp_path / "run", plain)


@pytest.fixture(scope="module")
def legs(data_dir: Path) -> FollowUp:
    volume = read_volume(data_dir / "ct" / "validation" / "sts-044.nii.gz")
    return make_follow_up(volume, "small", 306)


@pytest.mark.data
@pytest.mark.engine
@pytest.mark.parametrize(
    ("side", "count", "landmarks"),
    [("moving", 4, False), ("moving", 12, True), ("moving", 12, False), ("fixed", 4, False)],
)
def test_a_few_slices_of_real_ct(
    legs: FollowUp, side: str, count: int, landmarks: bool, tmp_path: Path
) -> None:
    images = {"fixed": legs.fixed, "moving": legs.moving}
    first = images[side].GetSize()[2] // 2 - count // 2
    images[side] = images[side][:, :, first : first + count]
    result = register(**images, out=tmp_path / "run", options=QUICK.but(landmarks=landmarks))
    fixed, moving = truth_points(legs, 2000, 0)
    seen = inside(images["fixed"], fixed) & inside(images["moving"], moving)
    off = distances_mm(result.chain.map_points(fixed[seen]), moving[seen])
    assert seen.sum() > 50
    assert off.mean() < 2.5  # mm; nothing done leaves 4 to 9
