import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from needs import needs
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from landmark_dir.elastix import engines
from landmark_dir.elastix.engine import Engine
from landmark_dir.elastix.engines import (
    SIMPLEELASTIX_PYTHON,
    available,
    find_engine,
)
from landmark_dir.elastix.job import Job
from landmark_dir.elastix.log import LogFollower, failure
from landmark_dir.elastix.parameters import (
    ParameterMap,
    bundled,
    format_map,
    parse,
    with_points_metric,
)
from landmark_dir.elastix.transform_files import (
    format_translation,
    read_chain,
    store_transform,
    write_chain,
)
from landmark_dir.elastix.transformix import map_points, warp_image
from landmark_dir.errors import BackendMissing, ElastixFailed
from landmark_dir.geometry import Points, same_grid, voxel_centres
from landmark_dir.io.point_files import write_elastix_points

ENGINES = ("itkelastix", "simpleelastix", "executable")
RESOLUTIONS, ITERATIONS = 2, 60
SHIFT = np.array([3.0, -2.0, 4.0])  # mm, the part of the motion an initial transform knows


def start(name: str) -> Engine:
    """An engine, or skip. SimpleElastix may live in another virtual environment."""
    needs(name)
    return find_engine(name, threads=1)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = start(request.param)
    yield engine
    engine.close()


def truth(points: Points) -> Points:
    """T, fixed to moving: a shift and a smooth bend of up to 7 mm."""
    x, y, z = (points / 25.0).T
    bend = np.stack([4 * np.sin(y), 4 * np.cos(z), 4 * np.sin(x)], axis=1)
    return points + SHIFT + bend


def texture(points: Points) -> NDArray[np.float64]:
    """HU of a made-up anatomy: 150 soft spheres."""
    rng = np.random.default_rng(1)
    centres, heights = rng.uniform(-70, 70, (150, 3)), rng.uniform(-300, 300, 150)
    hu = np.full(len(points), -100.0)
    for centre, height in zip(centres, heights, strict=True):
        hu += height * np.exp(-((points - centre) ** 2).sum(axis=1) / (2 * 9.0**2))
    return hu


def rotation(seed: int) -> list[float]:
    """Direction cosines some 15 degrees off the axes."""
    q, r = np.linalg.qr(np.eye(3) + 0.15 * np.random.default_rng(seed).normal(size=(3, 3)))
    return (q * np.sign(np.diag(r))).ravel().tolist()


def empty_volume(size: tuple[int, int, int], spacing: tuple[float, ...], seed: int) -> sitk.Image:
    """An oblique, anisotropic int16 volume whose centre lies at the world's origin."""
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetDirection(rotation(seed))
    middle = [(n - 1) / 2 for n in size]
    image.SetOrigin([-c for c in image.TransformContinuousIndexToPhysicalPoint(middle)])
    return image


def filled(grid: sitk.Image, hu: NDArray[np.float64]) -> sitk.Image:
    array = np.rint(hu).astype(np.int16).reshape(grid.GetSize()[::-1])
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(grid)
    return image


class Pair:
    """moving(T(x)) = fixed(x), as files; `points` guide, `others` judge."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(2)
        fixed_grid = empty_volume((40, 36, 22), (2.5, 2.6, 4.0), seed=3)
        moving_grid = empty_volume((44, 48, 30), (2.8, 2.5, 3.5), seed=4)
        noise = rng.normal(0, 15, fixed_grid.GetNumberOfPixels())
        self.fixed = filled(fixed_grid, texture(truth(voxel_centres(fixed_grid))) + noise)
        self.moving = filled(moving_grid, texture(voxel_centres(moving_grid)))
        self.points, self.others = rng.uniform(-35, 35, (2, 150, 3))
        sitk.WriteImage(self.fixed, str(folder / "fixed.mha"))
        sitk.WriteImage(self.moving, str(folder / "moving.mha"))
        write_elastix_points(self.points, folder / "fixed points.txt")
        write_elastix_points(truth(self.points), folder / "moving points.txt")
        (folder / "shift.txt").write_text(format_translation(SHIFT, self.fixed))
        self.folder = folder

    def job(self, folder: Path, *, guided: bool) -> Job:
        job = Job(
            folder,
            self.folder / "fixed.mha",
            self.folder / "moving.mha",
            small_parameters(),
            initial_transform=self.folder / "shift.txt",
        )
        if not guided:
            return job
        return replace(
            job,
            parameters=with_points_metric(job.parameters, [0.1, 0.1]),
            fixed_points=self.folder / "fixed points.txt",
            moving_points=self.folder / "moving points.txt",
        )


def small_parameters(iterations: int = ITERATIONS) -> ParameterMap:
    return {
        **bundled("bspline"),
        "NumberOfResolutions": (str(RESOLUTIONS),),
        "ImagePyramidSchedule": tuple("222111"),
        "GridSpacingSchedule": ("2", "1"),
        "MaximumNumberOfIterations": (str(iterations),),
        "NumberOfSpatialSamples": ("512",),
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("the pair, with a space & a comma"))


@pytest.fixture(scope="module")
def guided(engine: Engine, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transform of the guided registration."""
    folder = tmp_path_factory.mktemp(f"{engine.name}, guided & bent")
    return engine.register(pair.job(folder, guided=True))


def tre_mm(engine: Engine, transform: Path, pair: Pair) -> float:
    error = map_points(engine, transform, pair.others) - truth(pair.others)
    return float(np.linalg.norm(error, axis=1).mean())


def nearby(image: sitk.Image, label: sitk.Image) -> NDArray[np.float64]:
    """The values of `image` where `label` is set."""
    return sitk.GetArrayFromImage(image)[sitk.GetArrayFromImage(label) > 0].astype(float)


# --- registration -------------------------------------------------------------------------------


@pytest.mark.engine
def test_points_guide_the_registration(
    engine: Engine, pair: Pair, guided: Path, tmp_path: Path
) -> None:
    seen: list[tuple[float, str]] = []
    job = pair.job(tmp_path, guided=False)
    alone = engine.register(job, lambda stage, fraction: seen.append((fraction, stage)))
    assert tre_mm(engine, guided, pair) < 0.7 * tre_mm(engine, alone, pair)
    assert tre_mm(engine, guided, pair) < 1.0  # mm; 4.9 before
    assert seen == sorted(seen)
    last = f"resolution {RESOLUTIONS} of {RESOLUTIONS}, iteration {ITERATIONS - 1}"
    assert seen[-1] == (1.0, last)
    assert (tmp_path / "elastix.log").is_file()


@pytest.mark.engine
def test_same_seed_gives_the_same_map(
    engine: Engine, pair: Pair, guided: Path, tmp_path: Path
) -> None:
    again = engine.register(pair.job(tmp_path, guided=True))
    assert_allclose(
        map_points(engine, again, pair.others), map_points(engine, guided, pair.others), atol=1e-6
    )


@pytest.mark.engine
def test_engines_agree(pair: Pair, tmp_path: Path) -> None:
    mapped = {}
    for name in ENGINES:
        if name not in available():
            continue
        engine = start(name)
        folder = tmp_path / name
        folder.mkdir()
        transform = engine.register(pair.job(folder, guided=True))
        mapped[name] = map_points(engine, transform, pair.others)
        engine.close()
    if len(mapped) < 2:
        needs(*ENGINES)
    first, *others = mapped.values()
    for other in others:
        assert_allclose(other, first, atol=0.05)  # mm; 5.0 and 5.3 round differently


@pytest.mark.engine
def test_a_fixed_mask_counts(engine: Engine, pair: Pair, tmp_path: Path) -> None:
    mask = sitk.Cast(pair.fixed > -2000, sitk.sitkUInt8)
    half = sitk.GetArrayFromImage(mask)
    half[:, :, :20] = 0
    masked = sitk.GetImageFromArray(half)
    masked.CopyInformation(mask)
    maps = []
    for name, image in (("whole", mask), ("half", masked)):
        folder = tmp_path / name
        folder.mkdir()
        sitk.WriteImage(image, str(folder / "mask.mha"))
        job = replace(pair.job(folder, guided=False), fixed_mask=folder / "mask.mha")
        maps.append(map_points(engine, engine.register(job), pair.others))
    assert np.abs(maps[0] - maps[1]).max() > 0.5  # mm
    empty = sitk.Image(pair.moving.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(pair.moving)
    sitk.WriteImage(empty, str(tmp_path / "empty.mha"))
    job = replace(pair.job(tmp_path, guided=False), moving_mask=tmp_path / "empty.mha")
    with pytest.raises(ElastixFailed, match="Too many samples map outside.*a mask is empty"):
        engine.register(job)


@pytest.mark.engine
def test_no_overlap_is_told_in_the_words_of_the_log(
    engine: Engine, pair: Pair, tmp_path: Path
) -> None:
    far = tmp_path / "far.txt"
    far.write_text(format_translation([500.0, 0.0, 0.0], pair.fixed))
    job = replace(pair.job(tmp_path, guided=False), initial_transform=far)
    with pytest.raises(ElastixFailed, match=r"Too many samples map outside .*align.*elastix\.log"):
        engine.register(job)
    assert map_points(engine, far, np.zeros((1, 3)))[0, 0] == 500.0  # and it goes on working


@pytest.mark.engine
def test_bad_image_file_and_bad_parameters(engine: Engine, pair: Pair, tmp_path: Path) -> None:
    job = replace(pair.job(tmp_path, guided=False), moving=tmp_path / "none.mha")
    with pytest.raises(ElastixFailed, match=r"none\.mha"):
        engine.register(job)
    unknown = {**job.parameters, "Transform": ("NoSuchTransform",)}
    with pytest.raises(ElastixFailed, match=r"NoSuchTransform|installed|component"):
        engine.register(replace(pair.job(tmp_path, guided=False), parameters=unknown))
    crash = {**job.parameters, "Optimizer": ("PreconditionedStochasticGradientDescent",)}
    with pytest.raises(ValueError, match="Optimizer to be one of"):
        engine.register(replace(job, parameters=crash))


def test_points_without_their_metric_are_refused(pair: Pair, tmp_path: Path) -> None:
    job = pair.job(tmp_path, guided=True)
    with pytest.raises(ValueError, match="have no effect without each other"):
        replace(job, parameters=small_parameters())
    with pytest.raises(ValueError, match="have no effect without each other"):
        replace(job, fixed_points=None, moving_points=None)
    with pytest.raises(ValueError, match="both point files or neither"):
        replace(job, moving_points=None)


# --- transforms ---------------------------------------------------------------------------------


@pytest.mark.engine
def test_translation_file_moves_fixed_points(engine: Engine, pair: Pair) -> None:
    mapped = map_points(engine, pair.folder / "shift.txt", pair.points)
    assert_allclose(mapped, pair.points + SHIFT, atol=2e-6)  # mm, six decimals in and out


@pytest.mark.engine
def test_chain_is_applied_initial_first(engine: Engine, pair: Pair, tmp_path: Path) -> None:
    shift = parse(format_translation([30.0, 0.0, 0.0], pair.fixed))
    quarter_turn = {
        **shift,
        "Transform": ("AffineTransform",),
        "NumberOfParameters": ("12",),
        "TransformParameters": tuple("0 -1 0 1 0 0 0 0 1 0 0 0".split()),
        "CenterOfRotationPoint": ("0", "0", "0"),
    }
    transform = write_chain([quarter_turn, shift], tmp_path, "turn")  # the shift comes first
    mapped = map_points(engine, transform, np.array([[1.0, 2.0, 3.0]]))
    assert_allclose(mapped, [[-2.0, 31.0, 3.0]], atol=1e-6)  # the other order gives (28, 1, 3)


@pytest.mark.engine
def test_stored_transform_may_be_moved(
    engine: Engine, pair: Pair, guided: Path, tmp_path: Path
) -> None:
    want = map_points(engine, guided, pair.others)
    run = tmp_path / "run"
    run.mkdir()
    assert store_transform(guided, run, outside=-1000.0) == run / "transform.txt"
    moved = run.rename(tmp_path / "moved (and, renamed)")
    assert str(tmp_path) not in (moved / "transform.txt").read_text()
    assert_allclose(map_points(engine, moved / "transform.txt", pair.others), want, atol=1e-9)
    (moved / "transform.1.txt").unlink()
    with pytest.raises(ElastixFailed, match=r"transform file .*transform\.1\.txt: cannot be read"):
        map_points(engine, moved / "transform.txt", pair.others)


@pytest.mark.engine
def test_plain_transformix_agrees_with_a_stored_transform(
    engine: Engine, pair: Pair, guided: Path, tmp_path: Path
) -> None:
    """What the README tells users to do, with the oldest elastix around."""
    needs("executable")
    sitk.WriteImage(pair.moving, str(tmp_path / "moving.mha"))
    lowest = float(sitk.GetArrayViewFromImage(pair.moving).min())
    store_transform(guided, tmp_path, outside=lowest)
    call = ["transformix", "-tp", "transform.txt", "-in", "moving.mha", "-out", str(tmp_path)]
    subprocess.run(call, cwd=tmp_path, capture_output=True, check=True)
    plain = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "result.mha")))
    values = sitk.GetArrayViewFromImage(pair.moving)
    want = sitk.GetArrayFromImage(warp_image(engine, guided, pair.moving))
    assert_allclose(plain.clip(values.min(), values.max()), want, atol=0.51)  # HU, rounding


def test_read_chain_refuses_circles_and_other_files(pair: Pair, tmp_path: Path) -> None:
    shift = parse(format_translation(SHIFT, pair.fixed))
    circle = tmp_path / "a.txt"
    circle.write_text(format_map({**shift, "InitialTransformParametersFileName": ("a.txt",)}))
    with pytest.raises(ElastixFailed, match="comes back to"):
        read_chain(circle)
    circle.write_text(format_map({**shift, "HowToCombineTransforms": ("Add",)}))
    with pytest.raises(ElastixFailed, match="expected HowToCombineTransforms Compose"):
        read_chain(circle)
    circle.write_text(format_map(bundled("affine")))
    with pytest.raises(ElastixFailed, match="expected an elastix transform file"):
        read_chain(circle)


# --- images and points --------------------------------------------------------------------------


@pytest.mark.engine
def test_warped_image_lies_on_the_fixed_grid(engine: Engine, pair: Pair, guided: Path) -> None:
    warped = warp_image(engine, guided, pair.moving)
    assert same_grid(warped, pair.fixed)
    assert warped.GetPixelID() == sitk.sitkInt16
    centres = voxel_centres(pair.fixed)
    middle = (np.abs(centres) < 30).all(axis=1).reshape(pair.fixed.GetSize()[::-1])
    error = (sitk.GetArrayFromImage(warped) - sitk.GetArrayFromImage(pair.fixed))[middle]
    assert np.abs(error).mean() < 20  # HU; 12 of it is noise, 75 without registration


@pytest.mark.engine
@pytest.mark.parametrize(
    "pixel", [sitk.sitkInt16, sitk.sitkUInt8, sitk.sitkFloat32, sitk.sitkFloat64, sitk.sitkInt32]
)
def test_images_keep_their_type_and_range(engine: Engine, pair: Pair, pixel: int) -> None:
    box = sitk.Cast(pair.moving > 0, pixel) * 100 + 50  # sharp edges make splines overshoot
    warped = warp_image(engine, pair.folder / "shift.txt", sitk.Cast(box, pixel))
    values = sitk.GetArrayFromImage(warped)
    assert warped.GetPixelID() == pixel
    assert values.min() == 50
    assert values.max() == 150


@pytest.mark.engine
@pytest.mark.parametrize("pixel", [sitk.sitkUInt8, sitk.sitkUInt16, sitk.sitkInt32])
def test_labels_stay_labels(engine: Engine, pair: Pair, pixel: int) -> None:
    highest = {sitk.sitkUInt8: 255, sitk.sitkUInt16: 65535, sitk.sitkInt32: 2**24}[pixel]
    labels = sitk.Cast(pair.moving > 0, pixel) * (highest - 7) + 7
    warped = warp_image(engine, pair.folder / "shift.txt", labels, labels=True)
    assert warped.GetPixelID() == pixel
    assert set(np.unique(sitk.GetArrayFromImage(warped))) == {0, 7, highest}  # 0 outside


def test_labels_beyond_single_precision_are_refused(pair: Pair) -> None:
    labels = sitk.Cast(pair.moving > 0, sitk.sitkInt32) * (2**24 + 1)
    engine = Engine("itkelastix")
    with pytest.raises(ValueError, match="expected labels up to 16777216"):
        warp_image(engine, pair.folder / "shift.txt", labels, labels=True)
    engine.close()


@pytest.mark.engine
def test_no_points_map_to_no_points(engine: Engine, tmp_path: Path) -> None:
    assert map_points(engine, tmp_path / "not needed.txt", np.zeros((0, 3))).shape == (0, 3)


# --- the child process --------------------------------------------------------------------------


@pytest.mark.engine
def test_engine_says_its_version_and_leaves_threads_alone(engine: Engine) -> None:
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    assert any(digit in engine.version() for digit in "0123456789")
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == before
    assert "itk" not in sys.modules


@pytest.mark.engine
def test_a_killed_engine_is_told_and_replaced(engine: Engine, pair: Pair, tmp_path: Path) -> None:
    def kill(stage: str, fraction: float) -> None:
        os.killpg(engine._child._process.pid, signal.SIGKILL)

    long = replace(pair.job(tmp_path, guided=False), parameters=small_parameters(100_000))
    with pytest.raises(ElastixFailed, match=f"engine {engine.name} died: signal SIGKILL"):
        engine.register(long, kill)
    assert_allclose(map_points(engine, pair.folder / "shift.txt", np.zeros((1, 3))), [SHIFT])


@pytest.mark.engine
def test_what_ends_the_wait_ends_the_engine(engine: Engine, pair: Pair, tmp_path: Path) -> None:
    def interrupt(stage: str, fraction: float) -> None:
        raise KeyboardInterrupt

    long = replace(pair.job(tmp_path, guided=False), parameters=small_parameters(100_000))
    with pytest.raises(KeyboardInterrupt):
        engine.register(long, interrupt)
    assert not engine._child.alive()


PARENT = """
import sys
from pathlib import Path
from landmark_dir.elastix.job import Job
from landmark_dir.elastix.engine import Engine
from landmark_dir.elastix.parameters import read_parameters

folder, fixed, moving, name, python = sys.argv[1:]
engine = Engine(name, threads=1, python=python)
print(engine._child._process.pid, flush=True)
job = Job(Path(folder), Path(fixed), Path(moving), read_parameters(Path(folder) / "long.txt"))
engine.register(job, lambda stage, fraction: print(stage, flush=True))
"""


def group_members(group: int) -> list[str]:
    """Processes of a group that still run."""
    done = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    return [row[2] for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


@pytest.mark.engine
@pytest.mark.usefixtures("heard_signals")
@pytest.mark.skipif(os.name != "posix", reason="signals and process groups of POSIX")
def test_ctrl_c_ends_parent_and_child(engine: Engine, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(format_map(small_parameters(100_000)))
    files = [str(tmp_path), str(pair.folder / "fixed.mha"), str(pair.folder / "moving.mha")]
    command = [sys.executable, "-c", PARENT, *files, engine.name, engine._python]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        group = int(parent.stdout.readline())
        parent.stdout.readline()  # it iterates
        assert group_members(group)
        parent.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, said = parent.communicate(timeout=20)
        assert time.monotonic() - started < 2.0
    assert parent.returncode != 0
    assert "KeyboardInterrupt" in said
    assert group_members(group) == []


def test_engine_that_cannot_be_loaded_says_why() -> None:
    engine = Engine("nosuchengine")
    with pytest.raises(ElastixFailed, match="cannot be loaded: .*nosuchengine"):
        engine.version()
    engine.close()


# --- finding engines ----------------------------------------------------------------------------


def test_find_engine_refuses_unknown_names_and_threads() -> None:
    with pytest.raises(
        ValueError, match="backend: expected one of auto, itkelastix, .*found 'ants'"
    ):
        find_engine("ants")
    with pytest.raises(ValueError, match="threads: expected 1 to 1024, found 0"):
        find_engine("auto", threads=0)


def test_missing_backend_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    if "executable" in available():
        pytest.skip("an elastix that is found without a PATH")
    with pytest.raises(BackendMissing, match="apt install elastix"):
        find_engine("executable")
    monkeypatch.setattr(engines, "available", dict)
    with pytest.raises(BackendMissing, match="pip install itk-elastix.*SimpleElastix.*apt install"):
        find_engine("auto")


@pytest.mark.engine
def test_auto_takes_the_first_engine_available() -> None:
    backend = find_engine("auto", threads=1)
    assert backend.name == next(iter(available()))
    backend.close()


def test_a_wrong_python_for_simpleelastix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIMPLEELASTIX_PYTHON, "/nowhere/python")
    with pytest.raises(BackendMissing, match=f"{SIMPLEELASTIX_PYTHON} names /nowhere/python"):
        find_engine("simpleelastix")


# --- the log ------------------------------------------------------------------------------------


def test_log_follower_reports_the_newest_iteration(tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    log = tmp_path / "elastix.log"
    follow = LogFollower(log, [4, 10], lambda *told: seen.append(told))
    follow()  # no file yet
    log.write_text("Resolution: 0\n1:ItNr\t2:Metric\n0\t-0.1\n1\t-0.2\n2")
    follow()
    follow()
    with log.open("a") as stream:
        stream.write("\t-0.3\nResolution: 1\n0\t-0.2\n")
    follow()
    assert seen == [
        ("resolution 1 of 2, iteration 1", 0.25),
        ("resolution 2 of 2, iteration 0", 0.55),
    ]


def test_failure_quotes_the_log_else_the_message(tmp_path: Path) -> None:
    log = tmp_path / "elastix.log"
    raised = "/itk.cxx:1:\nITK ERROR: Reader(0x12): No file.\nName = a.mha"
    assert failure(log, raised) == "No file. Name = a.mha"
    log.write_text("x\nDescription: ITK ERROR: Metric(0x12ab): No image, sorry.\n\nErrors!\n")
    assert failure(log, "see elastix log") == "No image, sorry"
