"""A file of cases is read strictly: right, or refused with its line."""

import dataclasses
from pathlib import Path

import pytest

from landmark_dir.errors import LandmarkDirError
from landmark_dir.options import RegisterOptions
from landmark_dir.study.cases import COLUMNS, MANY, folder_name, read_cases, spread, write_cases

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
        "fixed_labels, moving_labels, moving_mask, rigid, ignore\n"
        "Müller-1.2, a.nii, series, p.txt, p.txt, , , m.nii, l.nii, m.nii\r\n"
        "\n"
        f", {folder / 'b.nii'}, a.nii, , , l.nii, l.nii, , ,\n"
    )
    one, two = read_cases(written(folder, text, "utf-8-sig"))  # as Excel saves it
    assert (one.name, two.name) == ("Müller-1.2", "case02")
    assert one.files["moving"] == folder / "series"
    assert one.files["moving_mask"] == folder / "m.nii"
    assert (one.files["rigid"], one.files["ignore"]) == (folder / "l.nii", folder / "m.nii")
    assert one.both("points") == (folder / "p.txt", folder / "p.txt")
    assert one.both("labels") is None
    assert two.files["fixed"] == folder / "b.nii"
    assert two.both("labels") == (folder / "l.nii", folder / "l.nii")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("fixed,moving\n", "no case"),
        ("fixed;moving\na.nii;b.nii\n", "line 1: column fixed is missing; expected commas"),
        ("fixed,moving,fixed_point\na.nii,b.nii,1\n", "line 1: column 'fixed_point' looks like"),
        ("fixed,moving,Align\na.nii,b.nii,1\n", "line 1: column 'Align' looks like 'align'"),
        ("fixed,moving,\na.nii,b.nii,1\n", "line 1: a column comes twice or has no name"),
        ("fixed,moving,align\na.nii,b.nii,middle\n", "line 2: align: expected one of auto"),
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


def test_other_columns_are_carried_along_and_names_may_be_anything(folder: Path) -> None:
    text = "case,fixed,moving,site,fixed_series,align\nÄ / ../b c,a.nii,b.nii,north,1.2.3,centers\n"
    (case,) = read_cases(written(folder, text))
    assert (case.name, case.extra, case.align) == ("Ä / ../b c", {"site": "north"}, "centers")
    assert case.series == {"fixed_series": "1.2.3"}
    assert case.options(RegisterOptions()).align == "centers"
    assert case.folder == folder_name(case.name)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "Comparison.json ", "con", "NUL.txt", ".x", "x.", "Ä", "a b", "x" * 300]
)
def test_unsafe_names_get_a_safe_folder_of_their_own(name: str) -> None:
    made = folder_name(name)
    assert made != name
    assert len(made) <= 60
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert folder_name(f"{name}!") != made
    assert folder_name(made) == made


def test_very_many_cases_are_spread_over_folders(folder: Path) -> None:
    (case,) = read_cases(written(folder, "fixed,moving\na.nii,b.nii\n"))
    many = [dataclasses.replace(case, name=f"p{k}") for k in range(MANY + 1)]
    assert "/" not in spread(many[:MANY])[0].folder
    above = {one.folder.split("/")[0] for one in spread(many)}
    assert len(above) == 256
    assert all(len(name) == 2 for name in above)


def test_what_is_written_is_read_again(folder: Path) -> None:
    header = "case,fixed,moving,note,moving_mask,align"
    text = f'{header}\nÄ,a.nii,series,"a, b",m.nii,\nb,b.nii,a.nii,,,world\n'
    cases = read_cases(written(folder, text))
    write_cases(cases, folder / "again.csv")
    assert read_cases(folder / "again.csv") == cases
    assert set(COLUMNS) < set((folder / "again.csv").read_text().splitlines()[0].split(","))


def test_missing_files_may_be_left_to_the_run(folder: Path) -> None:
    (case,) = read_cases(written(folder, "fixed,moving\na.nii,none.nii\n"), check_files=False)
    assert case.files["moving"] == folder / "none.nii"
