"""CT series on disk: what is found, and how it is cut into slices."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose

from landmark_dir.io.volumes import write_volume
from training.data.pack import STEP_HU, from_levels, to_levels
from training.data.sources import MARGIN_PX, find_sources, read_slices, whole_hu


@pytest.fixture
def data(thick_ct: sitk.Image, tmp_path: Path) -> Path:
    """Two volumes, one in a folder below."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    write_volume(thick_ct, tmp_path / "data" / "anna-a.nii.gz")
    write_volume(thick_ct + 8, tmp_path / "data" / "deep" / "anna-b.mha")
    return tmp_path / "data"


def test_decoded_slices_differ_by_no_more_than_half_a_step(data: Path) -> None:
    (sources, _) = find_sources([data / "anna-a.nii.gz"], None)
    series = read_slices(sources[0])
    off = np.abs(from_levels(to_levels(series.hu, STEP_HU), STEP_HU) - series.hu.astype(int))
    soft = series.body & (series.hu >= -208) & (series.hu <= 256)
    assert soft.any()
    assert off[soft].max() <= STEP_HU / 2
    assert off[series.body & (series.hu >= -950) & (series.hu <= 2000)].max() <= STEP_HU
    rows, columns = (np.flatnonzero(series.body.any(axes)) for axes in ((0, 2), (0, 1)))
    assert rows[0] <= MARGIN_PX
    assert columns[0] <= MARGIN_PX


def test_thin_slices_are_averaged(thick_ct: sitk.Image, tmp_path: Path) -> None:
    thin = sitk.JoinSeries([thick_ct[:, :, 1], thick_ct[:, :, 1] + 10] * 4)
    thin.SetSpacing((3.0, 3.0, 1.0))
    write_volume(thin, tmp_path / "thin.nii.gz")
    (sources, _) = find_sources([tmp_path], None)
    series = read_slices(sources[0])
    assert series.z_mm == (0.0, 2.0, 4.0, 6.0)
    assert (series.hu[0] == series.hu[3]).all()
    single = sitk.JoinSeries([thick_ct[:, :, 1]] * 8)
    single.SetSpacing((3.0, 3.0, 2.0))
    write_volume(single, tmp_path / "single.nii.gz")
    other = read_slices(find_sources([tmp_path / "single.nii.gz"], None)[0][0])
    assert_allclose(series.hu[0].mean() - other.hu[0].mean(), 5, atol=0.1)  # half of 10 HU


def test_halves_are_rounded_up() -> None:
    values = np.array([-1.5, -0.5, 0.49, 0.5, 1e9], np.float32)
    assert whole_hu(values).tolist() == [-1, 0, 0, 1, 32767]


def test_wrong_sources_and_patterns_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder, an .npz or a volume .* found nothing"):
        find_sources([tmp_path / "none.nii"], None)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="found another kind of file"):
        find_sources([tmp_path / "note.txt"], None)
    with pytest.raises(ValueError, match="finds no patient in 'deep/anna-b'"):
        find_sources([data], "^([a-z]+)-a")
