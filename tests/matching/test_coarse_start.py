"""The start that is found from the landmarks of turned slices."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from landmark_dir.matching.coarse_start import View

ANGLES = (-170.0, -30.0, 0.0, 45.0, 100.0)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("degrees", ANGLES)
def test_a_view_is_a_proper_turn_and_found_again(degrees: float, behind: bool) -> None:
    view = View(degrees, behind)
    assert_allclose(np.linalg.det(view.turn), 1.0, atol=1e-12)
    again = View.like(view.turn.T)
    assert (again.behind, pytest.approx(again.degrees)) == (behind, degrees)
