"""Whatever a text file holds, it is read rightly or refused in one sentence that names it.

Two kinds of property: what is written is read back, by an independent reader too; and a damaged
file is either refused or read as an independent strict reader does. `make test-slow` tries more.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.comparison.tables import cases_table, write_figures
from landmark_dir.elastix.transform_files import format_translation, read_chain
from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import FARTHEST_MM
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import (
    read_csv,
    read_elastix_points,
    read_point_list,
    write_csv,
    write_elastix_points,
    write_point_list,
)
from landmark_dir.io.slicer_points import PointList
from landmark_dir.points import PointPairs
from landmark_dir.registration.result import Result, open_run
from landmark_dir.study.cases import COLUMNS, FILES, read_cases
from landmark_dir.study.pooled import has_figures, pooled
from landmark_dir.transforms.bspline import BSpline
from landmark_dir.transforms.chain import Chain, Linear, read_transform, write_after

WRITTEN_MM = 1e-6  # six decimals
PLACES = st.floats(-FARTHEST_MM, FARTHEST_MM)
POINTS = st.lists(st.tuples(PLACES, PLACES, PLACES), min_size=1, max_size=8)
LABELS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=12)
ODD = (
    b"1e400", b"1e308", b"-1e308", b"nan", b"inf", b"1_0", b"0x1", b"--1", b'"', b"(", b")", b"//",
    b",", b"\n", b"\r", b"\0", b"\x0c", b"\x1c", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xff", b"9" * 400,
)  # fmt: skip
ODD_JSON = st.sampled_from(
    [
        None, True, False, 0, -1, 3, 2**70, 10**400, 1e308, float("nan"), float("inf"), "", "1",
        "NaN", "mm", "LPS", "RAS", [], {}, [None], [[1, 2, 3]], [1, 2], [1, 2, 3, 4], ["mm"],
        [True, 1, 2], ["1", "2", "3"], {"mm": 1}, [[[[[[]]]]]],
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes deleted, flipped, inserted, cut off; up to three times."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        taken = draw(st.sampled_from((0, 0, 1, 1, 2, 10, len(content))))
        put = draw(st.sampled_from((b"", *ODD)) | st.binary(max_size=2))
        content = content[:at] + put + content[at + taken :]
    return content


@st.composite
def odd_json(draw: st.DrawFn, value: Any) -> Any:
    """Some part of a JSON document replaced, or left out."""
    value = deepcopy(value)
    places = list(_places(value))
    for _ in range(draw(st.integers(1, 2))):
        inside, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 4)) == 0 and isinstance(inside, dict):
            inside.pop(key, None)
        elif key in inside or isinstance(inside, list):
            inside[key] = draw(ODD_JSON)
    return draw(st.sampled_from([value] * 20 + [[value], None, 3, "run"]))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if type(value) is list else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


@contextmanager
def refused_or(path: Path) -> Iterator[None]:
    """Let pass only a refusal, and only one sentence that names `path`."""
    try:
        yield
    except LandmarkDirError as error:
        said = str(error)
        assert str(path) in said, said
        assert "\n" not in said, said
        assert len(said.replace(str(path), "")) < 400, said


def number(word: bytes | str) -> float:
    """A number as strict readers know it."""
    text = word.decode("ascii") if isinstance(word, bytes) else word
    assert re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text, re.ASCII), text
    assert abs(float(text)) <= FARTHEST_MM
    return float(text)


# --- elastix point files -------------------------------------------------------------------------


def elastix_tokens(path: Path) -> list[list[float]]:
    """As elastix reads: word by word."""
    kind, count, *words = path.read_bytes().split()
    assert kind == b"point"
    assert len(words) == 3 * int(count)
    return np.reshape([number(word) for word in words], (-1, 3)).tolist()


@given(POINTS)
def test_elastix_points_are_read_back(folder: Path, points: list[tuple[float, ...]]) -> None:
    path = folder / "points.txt"
    write_elastix_points(points, path)
    read = read_elastix_points(path)
    assert_allclose(read, points, rtol=0, atol=WRITTEN_MM)
    assert_array_equal(read, elastix_tokens(path))


@given(damaged(b"point\n3\n1.500000 -20.250000 3.000000\n4.0 5.0 -6.0\n7 8e1 9.000001\n"))
def test_damaged_elastix_points(folder: Path, content: bytes) -> None:
    path = folder / "damaged.txt"
    path.write_bytes(content)
    with refused_or(path):
        assert_array_equal(read_elastix_points(path), elastix_tokens(path))


# --- 3D Slicer -----------------------------------------------------------------------------------


def markups(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """What a markups file says, taken literally."""
    (markup,) = json.loads(path.read_text("utf-8"))["markups"]
    assert markup.get("coordinateUnits", "mm") in ("mm", ["mm"])
    sign = {"LPS": 1, "RAS": -1}[markup.get("coordinateSystem", "LPS")]
    points = markup["controlPoints"]
    for point in points:
        assert point.get("positionStatus", "defined") == "defined"
        assert [type(value) in (int, float) for value in point["position"]] == [True] * 3
        assert all(abs(value) <= FARTHEST_MM for value in point["position"])
    places = np.array([point["position"] for point in points], float).reshape(-1, 3)
    return places * [sign, sign, 1], tuple(point.get("label", "") for point in points)


def fcsv(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """What a file of older versions says, by line and cell."""
    lines = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n").decode().split("\n")
    head = [re.split("=", line.lstrip("# "), maxsplit=1) for line in lines if line.startswith("#")]
    said = {name.strip(): value.strip() for name, *rest in head for value in rest}
    sign = {"LPS": 1, "RAS": -1, "1": 1, "0": -1}[said["CoordinateSystem"]]
    names = said.get("columns", "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID")
    body = [line for line in lines if line.strip() and not line.startswith("#")]
    cells = [dict(zip(names.split(","), next(csv.reader([line])), strict=True)) for line in body]
    places = [[number(cell[axis].strip(" \t")) for axis in "xyz"] for cell in cells]
    found = np.reshape(places, (-1, 3)) * [sign, sign, 1]
    return found, tuple(cell.get("label", "") for cell in cells)


SLICER: dict[str, Callable[[Path], tuple[np.ndarray, tuple[str, ...]]]] = {
    "p.mrk.json": markups,
    "p.fcsv": fcsv,
}


@pytest.mark.parametrize("name", SLICER)
@given(POINTS, st.data())
def test_slicer_points_are_read_back(
    name: str, folder: Path, points: list[tuple[float, ...]], data: st.DataObject
) -> None:
    labels = data.draw(st.tuples(*[LABELS] * len(points)))
    path = folder / name
    write_point_list(PointList(np.array(points), labels), path)
    listed = read_point_list(path)
    assert_allclose(listed.points, points, rtol=0, atol=WRITTEN_MM)
    assert listed.labels == labels
    places, names = SLICER[name](path)
    assert_array_equal(listed.points, places)
    assert names == labels


def written(name: str, folder: Path) -> bytes:
    points = np.array([[1.5, -20.25, 3], [4, 5, -6]])
    write_point_list(PointList(points, ("apex", 'carina, "left"')), folder / name)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("name", SLICER)
@given(st.data())
def test_damaged_slicer_points(name: str, folder: Path, data: st.DataObject) -> None:
    path = folder / name
    path.write_bytes(data.draw(damaged(written(name, folder))))
    with refused_or(path):
        listed = read_point_list(path)
        places, labels = SLICER[name](path)
        assert_array_equal(listed.points, places)
        assert listed.labels == labels


@given(st.data())
def test_odd_markups(folder: Path, data: st.DataObject) -> None:
    document = json.loads(written("odd.mrk.json", folder))
    path = folder / "odd.mrk.json"
    path.write_text(json.dumps(data.draw(odd_json(document))))
    with refused_or(path):
        listed = read_point_list(path)
        places, labels = markups(path)
        assert_array_equal(listed.points, places)
        assert listed.labels == labels


@pytest.mark.parametrize("text", ["[" * 100_000, '{"markups": ' * 2000, "9" * 5000, "{}", "null"])
def test_no_json_of_markups(text: str, folder: Path) -> None:
    path = folder / "deep.mrk.json"
    path.write_text(text)
    with refused_or(path):
        read_point_list(path)
        pytest.fail("was read")


# --- CSV of landmarks and of cases ---------------------------------------------------------------


@given(POINTS, st.data())
def test_landmarks_are_read_back(
    folder: Path, points: list[tuple[float, ...]], data: st.DataObject
) -> None:
    moving = data.draw(st.permutations(points))
    score = data.draw(st.lists(st.floats(0, 1), min_size=len(points), max_size=len(points)))
    path = folder / "landmarks.csv"
    write_csv(PointPairs(np.array(points), np.array(moving), np.array(score)), path)
    read = read_csv(path)
    for found, want in ((read.fixed, points), (read.moving, moving), (read.score, score)):
        assert_allclose(found, want, rtol=0, atol=WRITTEN_MM)
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    assert_array_equal(np.column_stack([read.fixed, read.moving, read.score]), table)


LANDMARKS = (
    b"fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z,score\n"
    b"1.500000,2.0,3,4,5,-6.25,0.500000\n1,2,3,4,5,6,1.0\n"
)


@given(damaged(LANDMARKS))
def test_damaged_landmarks(folder: Path, content: bytes) -> None:
    path = folder / "damaged.csv"
    path.write_bytes(content)
    with refused_or(path):
        read = read_csv(path)
        head, *lines = content.decode("ascii").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert head.encode() == LANDMARKS.split(b"\n")[0]
        rows = [[number(word.strip(" \t")) for word in line.split(",")] for line in lines if line]
        table = np.column_stack([read.fixed, read.moving, read.score])
        assert_array_equal(table, np.reshape(rows, (-1, 7)))


CASES = b"case,fixed,moving,fixed_mask\none,a.nii,b.nii,\ntwo,b.nii,./a.nii,a.nii\n"


@given(damaged(CASES))
def test_damaged_cases(folder: Path, content: bytes) -> None:
    for name in ("a.nii", "b.nii"):
        (folder / name).touch()
    path = folder / "cases.csv"
    path.write_bytes(content)
    with refused_or(path):
        cases = read_cases(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = [[cell.strip() for cell in row] for row in csv.reader(file)]
        header, *rows = [row for row in table if any(row)]
        assert len(cases) == len(rows)
        for case, row in zip(cases, rows, strict=True):
            cells = dict(zip(header, row, strict=True))
            assert case.name == cells.pop("case", "") or not cells.get("case")
            files = {name: folder / cell for name, cell in cells.items() if cell and name in FILES}
            assert case.files == files
            assert case.extra == {name: cells[name] for name in cells if name not in COLUMNS}


# --- transform files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grid() -> sitk.Image:
    image = sitk.Image(8, 7, 6, sitk.sitkInt16)
    image.SetSpacing((2.0, 2.0, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    return image


AFFINE = (
    b'(Transform "AffineTransform")\n(NumberOfParameters 12)\n'
    b"(TransformParameters 1.1 0.1 0 -0.1 0.9 0 0 0.2 1 5 -6 7.5)\n"
    b'(InitialTransformParametersFileName "NoInitialTransform")\n'
    b'(HowToCombineTransforms "Compose") // as ever\n(CenterOfRotationPoint 10 20 30.5)\n'
)


def transform_files(folder: Path, grid: sitk.Image) -> tuple[Path, Path, BSpline]:
    """A b-spline after a shift, as files."""
    start, bent = folder / "start.txt", folder / "bent.txt"
    start.write_text(format_translation([3.0, -2.0, 5.0], grid))
    values = np.random.default_rng(0).normal(size=(3, 4, 4, 5)).round(3)
    spline = BSpline(values, np.array([-9.0, 8.5, 7.0]), np.array([9.0, 8.0, 7.0]), np.eye(3))
    return write_after(spline, start, bent), folder / "bent.1.txt", spline


def said_in(text: str, name: str) -> list[float]:
    """The numbers of a parameter, taken literally."""
    lines = [line.partition("//")[0] for line in text.splitlines()]
    (found,) = [
        m[1] for line in lines if (m := re.fullmatch(rf"\(\s*{name}\s(.*)\)", line.strip()))
    ]
    return [number(word) for word in found.replace('"', " ").split()]


def assert_as_said(chain: Chain, text: str) -> None:
    """Compare the first step with what the file says."""
    step, values = chain.steps[0], said_in(text, "TransformParameters")
    if isinstance(step, BSpline):
        assert_array_equal(step.coefficients.ravel(), values)
        assert_array_equal(step.coefficients.shape[:0:-1], said_in(text, "GridSize"))
        assert_array_equal(step.spacing, said_in(text, "GridSpacing"))
        assert_array_equal(step.origin, said_in(text, "GridOrigin"))
        assert_array_equal(step.direction.T.ravel(), said_in(text, "GridDirection"))
    else:
        assert isinstance(step, Linear)
        assert_array_equal(step.shift, values[-3:])
        if len(values) == 12:
            assert_array_equal(step.matrix.ravel(), values[:9])
            assert_array_equal(step.centre, said_in(text, "CenterOfRotationPoint"))


@given(st.lists(PLACES, min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_transforms_are_read_back(
    folder: Path, grid: sitk.Image, shift: list[float], seed: int
) -> None:
    start = folder / "written.txt"
    start.write_text(format_translation(shift, grid))
    rng = np.random.default_rng(seed)
    size = rng.integers(4, 7, 3)
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    spline = BSpline(rng.normal(size=(3, *size)), rng.normal(size=3), rng.uniform(1, 9, 3), turned)
    file = write_after(spline, start, folder / "again.txt")
    bent, moved = read_transform(file).steps
    assert_array_equal(moved.shift, shift)
    for name in ("coefficients", "origin", "spacing", "direction"):
        assert_array_equal(getattr(bent, name), getattr(spline, name))
    assert_as_said(read_transform(file), file.read_text())


@pytest.mark.parametrize("kind", ["affine", "b-spline", "initial"])
@given(st.data())
def test_damaged_transforms(kind: str, folder: Path, grid: sitk.Image, data: st.DataObject) -> None:
    file, initial, _ = transform_files(folder, grid)
    if kind == "affine":
        file.write_bytes(AFFINE)
    target = initial if kind == "initial" else file
    target.write_bytes(data.draw(damaged(target.read_bytes())))
    for read in (read_chain, read_transform):
        with refused_or(folder):
            read(file)
    with refused_or(folder):
        chain = read_transform(file)
        if kind != "initial":
            assert_as_said(chain, file.read_text("utf-8-sig"))


NEEDED = ("CenterOfRotationPoint", "GridSize", "GridOrigin", "GridSpacing", "GridDirection")


@pytest.mark.parametrize("name", [*NEEDED, "TransformParameters", "Transform"])
@pytest.mark.parametrize(
    "value", [None, "", "1", "nan nan nan", "1 2 1e308", '"a" "b" "c"', "-1 0 1"]
)
def test_a_transform_without_what_it_needs(
    name: str, value: str | None, folder: Path, grid: sitk.Image
) -> None:
    file, _, _ = transform_files(folder, grid)
    if name == "CenterOfRotationPoint":
        file.write_bytes(AFFINE)
    text = "" if value is None else f"({name} {value})"
    content = re.sub(rf"\({name} [^)]*\)", text, file.read_text())
    assert content != file.read_text()
    file.write_text(content)
    if value == "-1 0 1" and name in ("CenterOfRotationPoint", "GridOrigin"):
        assert read_transform(file)
        return
    with pytest.raises(LandmarkDirError, match=r"bent\.txt: "):
        read_transform(file)


def test_a_grid_that_is_shifted_or_cyclic_is_refused(folder: Path, grid: sitk.Image) -> None:
    file, _, _ = transform_files(folder, grid)
    text = file.read_text()
    for old, new in (("(GridIndex 0 0 0)", "(GridIndex 1 0 0)"), ('"false"', '"true"')):
        file.write_text(text.replace(old, new, 1))
        with pytest.raises(LandmarkDirError, match="GridIndex 0 0 0 that is not cyclic"):
            read_transform(file)


def test_an_unclosed_quote_behind_many_numbers_is_refused_at_once(folder: Path) -> None:
    path = folder / "quote.txt"
    path.write_text(
        '(Transform "AffineTransform")\n(TransformParameters ' + "0.123 " * 100_000 + '")'
    )
    with pytest.raises(LandmarkDirError, match="line 2: expected"):
        read_chain(path)


# --- run folders ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, grid: sitk.Image) -> Path:
    """A run folder made without an engine."""
    run = tmp_path_factory.mktemp("runs") / "run"
    run.mkdir()
    (run / run_folder.TRANSFORM).write_text(format_translation([1, 2, 3], grid))
    sitk.WriteImage(grid, run / run_folder.WARPED)
    source = {"path": "gone.nii", "sha256": "0" * 64}
    content = {
        "landmark_dir": "0.1",
        "inputs": {
            "fixed": source | {
                "spacing_mm": grid.GetSpacing(), "origin_mm": grid.GetOrigin(),
                "direction": grid.GetDirection(),
            },
            "moving": source,
        },
        "options": {"threads": 1},
        "metrics": {
            "correlation": 0.93, "folded_share": 0.0, "residual_mm": {"median": 0.5, "max": 2.0},
        },
        "warnings": ["few landmarks"],
        "verdict": {"verdict": "good", "reasons": ["all is well"]},
    }  # fmt: skip
    run_folder.write_json(run / run_folder.RUN_JSON, content)
    write_csv(PointPairs(np.ones((2, 3)), np.ones((2, 3)), np.ones(2)), run / "landmarks.csv")
    return run


def assert_as_recorded(result: Result, content: Any) -> None:
    """Compare with what `run.json` says, and let it speak."""
    assert result.metrics == content["metrics"]
    assert result.warnings == content["warnings"]
    assert list(result.verdict) == [content["verdict"][key] for key in ("verdict", "reasons")]
    assert list(result.warped.GetSpacing()) == content["inputs"]["fixed"]["spacing_mm"]
    assert result.verdict.verdict in result.summary()
    assert "run" in repr(result)


def test_a_made_run_is_opened(run: Path) -> None:
    result = open_run(run)
    assert_as_recorded(result, json.loads((run / run_folder.RUN_JSON).read_text()))
    assert len(result.landmarks) == 2


@pytest.mark.parametrize("by", ["bytes", "values"])
@pytest.mark.parametrize("warped", [True, False])
@given(st.data())
def test_a_damaged_run_json(warped: bool, by: str, run: Path, data: st.DataObject) -> None:
    path = run / run_folder.RUN_JSON
    sound = path.read_bytes()
    aside = run.parent / "aside.nii.gz"
    try:
        if not warped:
            (run / run_folder.WARPED).rename(aside)
        if by == "bytes":
            path.write_bytes(data.draw(damaged(sound)))
        else:
            path.write_text(json.dumps(data.draw(odd_json(json.loads(sound)))))
        with refused_or(run):
            assert_as_recorded(open_run(run), json.loads(path.read_text("utf-8")))
    finally:
        path.write_bytes(sound)
        if not warped:
            aside.rename(run / run_folder.WARPED)


@given(st.data())
def test_a_damaged_comparison_json(folder: Path, data: st.DataObject) -> None:
    state = {"tre_mm": {"mean": 1.5, "points": 3}, "mean_dice": 0.9, "correlation": 0.9}
    arm = state | {"folded_share": 0.0, "seconds": 3.5, "verdict": "good"}
    states = {"before": state, "affine": state, "without": arm, "with": arm}
    content = {"states": states, "with_minus_without": {}, "warnings": []}
    path = folder / run_folder.COMPARISON_JSON
    path.write_text(json.dumps(data.draw(odd_json(content))))
    with refused_or(folder):
        figures = {"case": "one", **run_folder.read_json(path)}
        if not has_figures(figures.get("states")):
            return
        assert cases_table([figures], pooled([figures]))
        write_figures([figures], folder / "out.csv")
