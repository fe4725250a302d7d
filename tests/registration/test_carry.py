"""Structures carried through a known transform, and through a run on the command line."""

import json
import shutil
from pathlib import Path

import made_exams
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result
from made_structures import image_of, inside
from small_pairs import Case

import landmark_dir
from landmark_dir.cli.main import main
from landmark_dir.errors import BadVolume
from landmark_dir.geometry import (
    corners,
    index_to_physical,
    physical_to_index,
    shape_zyx,
    voxel_centres,
)
from landmark_dir.io.dicom import choose_series
from landmark_dir.io.dicom_headers import read_source
from landmark_dir.io.run_folder import RUN_JSON
from landmark_dir.io.volumes import read_volume
from landmark_dir.registration.carry import carry, way
from landmark_dir.structures.reading import read_structures
from landmark_dir.structures.structure import Structure, cropped
from landmark_dir.structures.writing import write_structures
from landmark_dir.transforms.bspline_fit import fit_spline
from landmark_dir.transforms.chain import Chain, Linear
from landmark_dir.transforms.fields import invert_points


def ball(grid: sitk.Image, index_xyz: tuple[float, float, float], radius_mm: float) -> sitk.Image:
    centre = index_to_physical(grid, [index_xyz])
    far = np.linalg.norm(voxel_centres(grid) - centre, axis=1).reshape(shape_zyx(grid))
    return cropped(image_of(far < radius_mm, grid))


def moved(mask: sitk.Image, grid: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Whether points [N, 3], one a voxel of the grid, lie in a voxel of a mask; looked up."""
    index = np.rint(physical_to_index(mask, points)).astype(int)
    there = ((index >= 0) & (index < mask.GetSize())).all(axis=1)
    found = np.zeros(len(points), bool)
    x, y, z = index[there].T
    found[there] = sitk.GetArrayViewFromImage(mask)[z, y, x] != 0
    return found.reshape(shape_zyx(grid))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


class Pair:
    """An oblique fixed and a moving grid, both anisotropic, in other places; T bends and turns."""

    def __init__(self, oblique: sitk.Image) -> None:
        turn = np.reshape(oblique.GetDirection(), (3, 3))
        self.fixed = sitk.Image(60, 50, 30, sitk.sitkInt16)
        self.fixed.SetSpacing((1.1, 1.1, 2.5))
        self.fixed.SetDirection(turn.ravel().tolist())
        self.fixed.SetOrigin((-120.0, 35.0, -410.0))
        self.moving = sitk.Image(70, 60, 40, sitk.sitkInt16)
        self.moving.SetSpacing((0.9, 0.9, 2.0))
        self.moving.SetDirection((turn @ turn).ravel().tolist())
        self.moving.SetOrigin((410.0, -77.0, 120.0))
        rng = np.random.default_rng(3)
        centre = index_to_physical(self.fixed, [(29.5, 24.5, 14.5)])[0]
        away = index_to_physical(self.moving, [(34.5, 29.5, 19.5)])[0] - centre
        points = index_to_physical(self.fixed, rng.uniform(0, self.fixed.GetSize(), (400, 3)))
        shifts = 2 * np.sin(points / 20 + [0, 1, 2])  # mm
        spline = fit_spline(points, shifts, corners(self.fixed), grid_mm=20.0)
        self.chain = Chain((Linear(turn, centre, away), spline))


@pytest.fixture
def pair(oblique_ct: sitk.Image) -> Pair:
    return Pair(oblique_ct)


@pytest.mark.parametrize("inverse", [False, True])
def test_structures_go_where_the_transform_says(pair: Pair, inverse: bool) -> None:
    """Against the transform itself, voxel by voxel; and each keeps its volume."""
    own, other = (pair.fixed, pair.moving) if inverse else (pair.moving, pair.fixed)
    middle = (np.array(own.GetSize()) - 1) / 2
    masks = [ball(own, tuple(middle + shift), r) for shift, r in (((0, 0, 0), 12), ((9, 3, 2), 4))]
    given = [Structure(f"ball {n}", n, (9, n, 9), mask) for n, mask in enumerate(masks, 4)]
    found = carry(given, way(pair.chain, pair.fixed, pair.moving, inverse=inverse))
    centres = voxel_centres(other)
    points = invert_points(pair.chain, centres) if inverse else pair.chain.map_points(centres)
    for one, before, least in zip(found, given, (0.93, 0.8), strict=True):
        after = one.structure
        assert (after.name, after.number, after.colour) == (
            *(before.name, before.number, before.colour),
        )
        assert one.inside == 1
        assert dice(inside(after.mask, other), moved(before.mask, other, points)) > least
        own_points = index_to_physical(
            before.mask, np.argwhere(sitk.GetArrayViewFromImage(before.mask))[:, ::-1]
        )
        there = (
            pair.chain.map_points(own_points) if inverse else invert_points(pair.chain, own_points)
        )
        place = index_to_physical(
            after.mask, np.argwhere(sitk.GetArrayViewFromImage(after.mask))[:, ::-1]
        )
        assert np.linalg.norm(place.mean(axis=0) - there.mean(axis=0)) < 0.3  # mm


def test_a_shift_of_whole_voxels_changes_no_voxel(pair: Pair) -> None:
    grid = pair.moving
    step = index_to_physical(grid, [(3, -2, 1)])[0] - grid.GetOrigin()
    shift = Chain((Linear(np.eye(3), np.zeros(3), step),))
    given = Structure("ball", 1, None, ball(grid, (30, 30, 20), 9))
    (found,) = carry([given], way(shift, grid, grid))
    before, after = (inside(one.mask, grid) for one in (given, found.structure))
    assert np.array_equal(np.roll(before, (-1, 2, -3), axis=(0, 1, 2)), after)


@pytest.mark.parametrize("radius_mm", [2.0, 4.0, 10.0])
def test_small_structures_keep_their_volume(pair: Pair, radius_mm: float) -> None:
    """Turned and between voxels; nearest neighbour scatters, a threshold of a half loses some."""
    linear = Chain(pair.chain.steps[:1])
    rng = np.random.default_rng(1)
    volumes = []
    for _ in range(10):
        mask = ball(pair.moving, tuple(rng.uniform(-3, 3, 3) + (34.5, 29.5, 19.5)), radius_mm)
        (found,) = carry([Structure("ball", 1, None, mask)], way(linear, pair.fixed, pair.moving))
        volumes.append((found.before_ml, found.structure.volume_ml))
    before, after = np.array(volumes).T * 1000
    voxel = np.prod(pair.fixed.GetSpacing())  # mm3
    assert (np.abs(after - before) <= np.maximum(1.2 * voxel, 0.005 * before)).all()
    assert (after - before).mean() == pytest.approx(0, abs=max(1.5, 0.001 * before.mean()))


def test_neighbours_stay_neighbours_and_overlaps_stay(pair: Pair) -> None:
    """A block cut in two shares no voxel afterwards, and hardly one gets lost between them."""
    block = np.zeros(shape_zyx(pair.moving), bool)
    block[12:28, 15:45, 20:50] = True
    left = block.copy()
    left[:, :, 33:] = False
    masks = {"left": left, "right": block & ~left, "all": block}
    given = [
        Structure(name, n, None, cropped(image_of(mask, pair.moving)))
        for n, (name, mask) in enumerate(masks.items(), 1)
    ]
    found = carry(given, way(pair.chain, pair.fixed, pair.moving))
    one, other, both = (inside(said.structure.mask, pair.fixed) for said in found)
    assert not (one & other).any()
    assert dice(one | other, both) > 0.99
    assert (one & both).sum() > 0.99 * one.sum()


def test_what_ends_outside_is_kept_and_said(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """One half outside, one wholly: a name without voxels."""
    linear = Chain(pair.chain.steps[:1])
    edge = physical_to_index(pair.moving, linear.map_points(corners(pair.fixed)[:1]))[0]
    grid = sitk.Image(pair.moving)
    far = sitk.Image(ball(grid, (34.5, 29.5, 19.5), 6))
    far.SetOrigin((np.array(far.GetOrigin()) + 500).tolist())
    wide = sitk.Image(80, 80, 80, sitk.sitkUInt8)
    wide.SetOrigin((index_to_physical(grid, [edge])[0] - 40).tolist())
    given = [
        Structure("half", 1, None, ball(wide, (40, 40, 40), 8)),
        Structure("gone", 2, None, far),
        Structure("whole", 3, None, ball(grid, (34.5, 29.5, 19.5), 6)),
    ]
    found = {one.structure.name: one for one in carry(given, way(linear, pair.fixed, grid))}
    assert found["gone"].inside == 0
    assert found["gone"].structure.volume_ml == 0
    assert 0.05 < found["half"].inside < 0.4  # an eighth, at a corner
    assert found["half"].structure.volume_ml == pytest.approx(
        found["half"].before_ml * found["half"].inside, rel=0.15
    )
    assert "gone: 100 % of it lies outside the other scan and is cut off" in caplog.text
    assert "half: " in caplog.text
    assert "whole: " not in caplog.text
    with pytest.raises(BadVolume, match="lies wholly outside what the run maps"):
        carry(given[1:2], way(linear, pair.fixed, grid), "x.nrrd")


@pytest.fixture(scope="module")
def exams(few_iterations: None, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two exams, their `run`, and structures on both; leave it as it is."""
    folder = tmp_path_factory.mktemp("exams")
    for study, side in enumerate(("fixed", "moving"), 1):
        image = sitk.Cast(getattr(case.phantom, side), sitk.sitkInt16)
        made_exams.write(folder / side, image, study=study)
        read = read_volume(folder / side)
        size = np.array(read.GetSize())
        given = [
            Structure("liver", 3, (200, 100, 0), ball(read, tuple(size * 0.5), 50)),
            Structure("GTV Läsion", 7, (255, 0, 0), ball(read, tuple(size * 0.52), 20)),
        ]
        source = read_source(choose_series(folder / side, None), side)
        for kind in ("seg", "rtstruct"):
            write_structures(given, folder / f"{side}_{kind}.dcm", source, kind)
        write_structures(given[:1], folder / f"{side}.nii.gz", read)
    landmark_dir.register(
        folder / "fixed", folder / "moving", folder / "run", threads=1, points=case.guides
    )
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["warp", *map(str, arguments), "--labels"])


@pytest.mark.engine
@pytest.mark.parametrize(("given", "wanted"), [("seg", "rtstruct"), ("rtstruct", "seg")])
@pytest.mark.parametrize("inverse", [False, True])
def test_structures_through_a_run(
    given: str, wanted: str, inverse: bool, exams: Path, tmp_path: Path
) -> None:
    own, other = ("fixed", "moving") if inverse else ("moving", "fixed")
    file, out = exams / f"{own}_{given}.dcm", tmp_path / "out.dcm"
    flags = ("--inverse",) if inverse else ()
    said = call(exams / "run", file, "-o", out, "--as", wanted, *flags)
    assert said.exit_code == 0, said.output
    assert " GTV Läsion: 3" in said.stdout
    source = read_source(choose_series(exams / other, None), other)
    grid, own_grid = read_volume(exams / other), read_volume(exams / own)
    found = read_structures(out, grid, source.frame_of_reference)
    assert [one.name for one in found] == ["liver", "GTV Läsion"]
    if wanted == "rtstruct":  # segments count from 1
        assert [one.number for one in found] == ([3, 7] if given == "rtstruct" else [1, 2])
    assert all(one.colour is not None for one in found)
    assert pydicom.dcmread(out).StudyInstanceUID == source.study

    chain = landmark_dir.open_run(exams / "run").chain
    centres = voxel_centres(grid)
    points = invert_points(chain, centres) if inverse else chain.map_points(centres)
    before = read_structures(file, own_grid)
    for one, was in zip(found, before, strict=True):
        assert dice(inside(one.mask, grid), moved(was.mask, grid, points)) > 0.88


@pytest.mark.engine
def test_a_label_map_agrees_with_simpleitk(exams: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.nii.gz"
    said = call(exams / "run", exams / "moving.nii.gz", "-o", out)
    assert said.exit_code == 0, said.output
    assert "3 label 3: " in said.stdout
    result = landmark_dir.open_run(exams / "run")
    labels = sitk.ReadImage(str(exams / "moving.nii.gz"))
    want = sitk.Resample(labels, result.grid, result.transform, sitk.sitkNearestNeighbor, 0)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
    assert set(np.unique(found)) == {0, 3}
    assert dice(found == 3, sitk.GetArrayFromImage(want) == 3) > 0.96


@pytest.mark.engine
def test_what_cannot_be_is_said_in_one_sentence(exams: Path, tmp_path: Path) -> None:
    seg, out = exams / "moving_seg.dcm", tmp_path / "out.dcm"
    wrong_side = call(exams / "run", exams / "fixed_seg.dcm", "-o", tmp_path / "x.seg.nrrd")
    assert "expected segments in frame of reference" in wrong_side.output
    assert "say what it is to be with --as" in call(exams / "run", seg, "-o", out).output
    onto_a_slice = call(exams / "run", seg, "-o", exams / "fixed" / "000.dcm", "--as", "seg")
    assert "is a slice of a series, and would be lost" in onto_a_slice.output
    run = Path(shutil.copytree(exams / "run", tmp_path / "run"))
    content = json.loads((run / RUN_JSON).read_text("utf-8"))
    for side in ("fixed", "moving"):
        content["inputs"][side] |= {"dicom": None, "path": str(tmp_path / "gone.nii.gz")}
    (run / RUN_JSON).write_text(json.dumps(content), "utf-8")
    not_dicom = call(run, seg, "-o", out, "--as", "seg")
    assert "was not read from DICOM; if it was converted" in not_dicom.output
    assert not out.exists()
    told = call(run, seg, "-o", out, "--as", "seg", "--fixed-dicom", exams / "fixed")
    assert told.exit_code == 0, told.output
    image = CliRunner().invoke(main, ["warp", "run", "x", "-o", "y.nrrd", "--inverse"])
    assert "--inverse goes with --labels" in image.output
