"""A file of cases is read strictly: right, or refused with its line."""

from pathlib import Path

import pytest

from landmark_dir.comparison.cases import read_cases
from landmark_dir.errors import LandmarkDirError

POINTS = "point\n1\n1.0 2.0 3.0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.nii", "b.nii", "l.nii", "m.nii"):
        (tmp_path / name).touch()
    (tmp_path / "p.txt").write_text(POINTS)
    (tmp_path / "series").mkdir()
    return tmp_path


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "cases.csv"
    file.write_text(text, encoding=encoding)
    return file


def test_paths_are_relative_to_the_file_and_cells_may_be_empty(folder: Path) -> None:
    text = (
        "case, fixed, moving, fixed_points, moving_points, "
        "fixed_labels, moving_labels, moving_mask\n"
        "Müller-1.2, a.nii, series, p.txt, p.txt, , , m.nii\r\n"
        "\n"
        f", {folder / 'b.nii'}, a.nii, , , l.nii, l.nii,\n"
    )
    one, two = read_cases(written(folder, text, "utf-8-sig"))  # as Excel saves it
    assert (one.name, two.name) == ("Müller-1.2", "case02")
    assert one.files["moving"] == folder / "series"
    assert one.files["moving_mask"] == folder / "m.nii"
    assert one.both("points") == (folder / "p.txt", folder / "p.txt")
    assert one.both("labels") is None
    assert two.files["fixed"] == folder / "b.nii"
    assert two.both("labels") == (folder / "l.nii", folder / "l.nii")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("fixed,moving\n", "no case"),
        ("fixed;moving\na.nii;b.nii\n", "line 1: unknown column 'fixed;moving'"),
        ("fixed,moving,weight\na.nii,b.nii,1\n", "line 1: unknown column 'weight'"),
        ("case,fixed\nx,a.nii\n", "line 1: column moving is missing"),
        ("fixed,moving,fixed\na.nii,b.nii,a.nii\n", "line 1: a column comes twice"),
        ("fixed,moving\na.nii,b.nii\na.nii\n", "line 3: 1 cells, but the header has 2"),
        ("fixed,moving\na.nii,\n", "line 2: no moving image"),
        ("fixed,moving\n\na.nii,c.nii\n", "line 3: moving .*c.nii: no such file"),
        ("fixed,moving,fixed_mask\na.nii,b.nii,series\n", "line 2: fixed_mask .*series"),
        ("fixed,moving,fixed_points\na.nii,b.nii,p.txt\n", "line 2: fixed_points alone"),
        (
            "fixed,moving,fixed_points,moving_points\na.nii,b.nii,p.txt,a.nii\n",
            "line 2: .*a.nii, line 1: expected the word 'point'",
        ),
        ("case,fixed,moving\n../x,a.nii,b.nii\n", "line 2: the case '../x' becomes a folder"),
        ("case,fixed,moving\n.x,a.nii,b.nii\n", "becomes a folder"),
        ("case,fixed,moving\nComparison.json,a.nii,b.nii\n", "becomes a folder"),
        ("case,fixed,moving\nX,a.nii,b.nii\nx,b.nii,a.nii\n", "line 3: the name x comes twice"),
        ('fixed,moving\n"a.nii,b.nii\n', "expected a CSV file"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder: Path, text: str, said: str) -> None:
    with pytest.raises(LandmarkDirError, match=f"cases.csv.*{said}"):
        read_cases(written(folder, text))


def test_what_is_no_text_is_refused(folder: Path) -> None:
    (folder / "cases.csv").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(LandmarkDirError, match="UTF-8"):
        read_cases(folder / "cases.csv")
    with pytest.raises(LandmarkDirError, match="none.csv: cannot be read"):
        read_cases(folder / "none.csv")
