"""Two exams as DICOM whose transform is known, without a registration."""

from pathlib import Path
from typing import NamedTuple

import made_exams
import numpy as np
import pytest
import SimpleITK as sitk

from landmark_dir.geometry import corners, index_to_physical
from landmark_dir.io.dicom import choose_series
from landmark_dir.io.dicom_headers import SourceSeries, read_source
from landmark_dir.transforms.bspline_fit import fit_spline
from landmark_dir.transforms.chain import Chain, Linear
from landmark_dir.transforms.warp import warp_image


class Pair(NamedTuple):
    """Two exams of one patient, and T between them."""

    fixed_image: sitk.Image
    moving_image: sitk.Image
    fixed: SourceSeries
    moving: SourceSeries
    chain: Chain

    @property
    def warped(self) -> sitk.Image:
        return warp_image(self.moving_image, self.chain, self.fixed_image)


@pytest.fixture
def pair(oblique_ct: sitk.Image, tmp_path: Path) -> Pair:
    """Oblique and anisotropic, in two studies and frames of reference; T turns, shears and bends.

    The moving exam lies far away, in another orientation.
    """
    turn = np.reshape(oblique_ct.GetDirection(), (3, 3))
    rng = np.random.default_rng(3)
    moving = sitk.GetImageFromArray(rng.integers(-1000, 1000, (20, 26, 22)).astype(np.int16))
    moving.SetSpacing((1.9, 1.9, 3.1))
    moving.SetDirection((turn @ turn).ravel().tolist())
    moving.SetOrigin((410.0, -77.0, 120.0))

    centre = index_to_physical(oblique_ct, [(11.5, 9.5, 5.5)])[0]
    away = index_to_physical(moving, [(10.5, 12.5, 9.5)])[0] - centre
    matrix = turn + 0.05 * rng.normal(size=(3, 3))
    points = index_to_physical(oblique_ct, rng.uniform(0, oblique_ct.GetSize(), (60, 3)))
    spline = fit_spline(points, rng.normal(0, 2, (60, 3)), corners(oblique_ct), grid_mm=12.0)
    chain = Chain((Linear(matrix, centre, away), spline))  # it bends, then goes away

    sources = []
    for study, (name, image) in enumerate((("fixed", oblique_ct), ("moving", moving)), 1):
        made_exams.write(tmp_path / name, image, study=study)
        series = choose_series(tmp_path / name, None)
        sources.append(read_source(series, name))
    return Pair(oblique_ct, moving, *sources, chain)
