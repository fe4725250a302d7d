"""One rule for grids whose axes are not at right angles, whatever the format."""

from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import corners, index_to_mm, same_grid
from landmark_dir.io.grid import SILENT_MM, STRAIGHTENED_MM, checked_grid
from landmark_dir.io.volumes import check_mask, check_volume, read_with_warnings

# mm that each slice slides along y; 12 slices of 4 mm, so 0.143 degrees a hundredth
SILENT, SAID, REFUSED = 0.001, 0.02, 1.0
FORMATS = ("nii", "nii.gz", "img", "mha", "nrrd")


def slid(image: sitk.Image, slide_mm: float) -> np.ndarray:
    """Steps of one voxel, LPS mm, as columns, with slices that slide along y."""
    steps = index_to_mm(image)
    steps[:, 2] += slide_mm * steps[:, 1] / np.linalg.norm(steps[:, 1])
    return steps


def with_steps(image: sitk.Image, steps: np.ndarray) -> sitk.Image:
    lengths = np.linalg.norm(steps, axis=0)
    other = sitk.Image(image)
    other.SetSpacing(lengths.tolist())
    other.SetDirection((steps / lengths).ravel().tolist())
    return other


def written(image: sitk.Image, steps: np.ndarray, path: Path) -> Path:
    values = sitk.GetArrayFromImage(image).T
    if path.suffix == ".nrrd":
        header = {"space": "left-posterior-superior", "space directions": steps.T}
        nrrd.write(str(path), values, header | {"space origin": image.GetOrigin()})
    elif path.suffix == ".mha":
        sitk.WriteImage(with_steps(image, steps), str(path))
    else:
        affine = np.eye(4)
        affine[:3] = np.diag([-1, -1, 1]) @ np.column_stack([steps, image.GetOrigin()])
        kind = nibabel.Nifti1Pair if path.suffix == ".img" else nibabel.Nifti1Image
        made = kind(values, None)
        made.set_sform(affine, 1)
        made.set_qform(None, 0)
        made.header["pixdim"][1:4] = np.linalg.norm(steps, axis=0)
        nibabel.save(made, path)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_one_rule_in_every_format(suffix: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    for slide_mm in (SILENT, SAID):
        steps = slid(oblique_ct, slide_mm)
        image, warnings, *_ = read_with_warnings(
            written(oblique_ct, steps, tmp_path / f"ct.{suffix}")
        )
        cosines = np.reshape(image.GetDirection(), (3, 3))
        assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-9)
        moved = corners(image) - corners(with_steps(oblique_ct, steps))
        moved_mm = np.linalg.norm(moved, axis=1).max()
        if slide_mm == SILENT:
            assert moved_mm <= SILENT_MM
            assert not warnings
        else:
            assert SILENT_MM < moved_mm <= STRAIGHTENED_MM
            assert len(warnings) == 1
            assert "0.29 degrees from right angles; straightened, which moves" in warnings[0]
            assert f"by {moved_mm:.2g} mm" in warnings[0]
    path = written(oblique_ct, slid(oblique_ct, REFUSED), tmp_path / f"ct.{suffix}")
    with pytest.raises(BadVolume, match=f"ct.{suffix}: its axes are 14 degrees from right angles"):
        read_with_warnings(path)


def test_the_rule_for_images_in_memory(
    oblique_ct: sitk.Image, caplog: pytest.LogCaptureFixture
) -> None:
    assert same_grid(check_volume(oblique_ct, "ct"), oblique_ct, 0.0)
    check_volume(with_steps(oblique_ct, slid(oblique_ct, SAID)), "my scan")
    assert "my scan: its axes are 0.29 degrees from right angles" in caplog.text
    with pytest.raises(BadVolume, match="my scan: its axes are 14 degrees from right angles"):
        check_volume(with_steps(oblique_ct, slid(oblique_ct, REFUSED)), "my scan")


def test_a_scaled_direction_in_memory_is_part_of_the_spacing(oblique_ct: sitk.Image) -> None:
    scaled = sitk.Image(oblique_ct)
    scaled.SetDirection((2 * np.array(oblique_ct.GetDirection())).tolist())
    checked = check_volume(scaled, "ct")
    assert same_grid(checked, scaled, 1e-9)
    assert_allclose(checked.GetSpacing(), (3, 4, 8))


def test_the_middle_stays_where_it_is(oblique_ct: sitk.Image) -> None:
    sheared = with_steps(oblique_ct, slid(oblique_ct, SAID))
    straight = checked_grid(sheared, "ct").image
    assert_allclose(corners(straight).mean(axis=0), corners(sheared).mean(axis=0), atol=1e-9)
    assert_allclose(straight.GetSpacing(), sheared.GetSpacing())


def test_a_mask_with_a_rounded_direction_takes_the_grid_of_its_image(
    oblique_ct: sitk.Image,
) -> None:
    mask = check_mask(with_steps(oblique_ct > 0, slid(oblique_ct, SAID / 2)), oblique_ct, "mask")
    assert same_grid(mask, oblique_ct, 0.0)


@pytest.mark.parametrize(
    ("spacing", "origin", "said"),
    [
        ((1e-30, 1, 1), (0, 0, 0), "voxels of 1e-30 x 1 x 1 mm, expected 0.001 to 100 mm"),
        ((1, 1, 3000), (0, 0, 0), "voxels of 1 x 1 x 3000 mm"),
        ((1, 1, 1), (0, 0, 1e9), "a corner lies 1e.09 mm from the origin"),
        ((1, 1, 1), (0, 0, np.nan), "not a number"),
    ],
)
def test_what_no_header_means_is_refused(
    spacing: tuple[float, ...], origin: tuple[float, ...], said: str, oblique_ct: sitk.Image
) -> None:
    oblique_ct.SetSpacing(spacing)
    oblique_ct.SetOrigin(origin)
    with pytest.raises(BadVolume, match=f"ct: .*{said}"):
        check_volume(oblique_ct, "ct")
