"""Real CT: guidance helps where something moved, and stays still where nothing did."""

from pathlib import Path

import pytest

from benchmarks import kernels, lung

pytestmark = [pytest.mark.data, pytest.mark.engine]


@pytest.fixture(autouse=True)
def _data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDMARK_DIR_DATA", str(data_dir))


def test_landmarks_bring_the_lung_pair_closer() -> None:
    affine, without, guided = (row[4] for row in lung.run("auto"))  # mean TRE, mm, 50 pairs
    assert guided < without < affine
    assert without < 1.62  # mm, what a prototype reached without landmarks
    assert guided < 1.40  # mm; 1.27 by the prototype's other network


def test_nothing_moves_between_two_kernels() -> None:
    landmarks, without, guided = kernels.rows()
    assert landmarks[2] <= 1.0  # mm, median
    assert without[1] <= 0.5  # mm, mean inside the body
    assert guided[1] <= 0.5
