"""The command line: every bad input is one sentence, and nothing is left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result
from small_pairs import Case

from landmark_dir.cli import main, shared
from landmark_dir.elastix import engines as installed
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import read_elastix_points
from landmark_dir.models.weights import shipped_weights

ALONE = ("--no-landmarks", "--threads", "1")
COMMAND = [sys.executable, "-c", "from landmark_dir.cli.main import main; main()"]

pytestmark = pytest.mark.usefixtures("few_iterations")


def run(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main.main, [str(argument) for argument in arguments])


def refused(result: Result, code: int, *said: str) -> None:
    """Check for one sentence, the exit code and no traceback."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    errors = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output
    for words in said:
        assert words in errors[0]


@pytest.fixture
def ct(oblique_ct: sitk.Image, tmp_path: Path) -> Path:
    """A folder with `fixed.nii.gz` and `moving.nii.gz` of 24 x 20 x 12 voxels."""
    folder = tmp_path / "ct"
    folder.mkdir()
    for name in ("fixed", "moving"):
        sitk.WriteImage(oblique_ct, str(folder / f"{name}.nii.gz"))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a run would be written: alone in its folder."""
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / "run"


def nothing_left(out: Path) -> bool:
    """No run, and no hidden half of one."""
    return not list(out.parent.iterdir())


# --- bad images ---------------------------------------------------------------------------------


def as_float(image: sitk.Image, change: Callable[[np.ndarray], None]) -> sitk.Image:
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    change(values)
    changed = sitk.GetImageFromArray(values)
    changed.CopyInformation(image)
    return changed


def with_value(value: float) -> Callable[[sitk.Image], sitk.Image]:
    return lambda image: as_float(image, lambda values: values.__setitem__((1, 2, 3), value))


BAD_IMAGES: dict[str, tuple[Callable[[sitk.Image], sitk.Image], str]] = {
    "2D": (lambda image: image[:, :, 3], "24 x 20 voxels, expected one 3D volume"),
    "4D": (lambda image: sitk.JoinSeries([image, image]), "expected one 3D volume"),
    "RGB": (
        lambda image: sitk.Compose([sitk.Cast(image, sitk.sitkUInt8)] * 3),
        "expected one number a voxel",
    ),
    "NaN": (with_value(np.nan), "1 of 5760 voxels are NaN or infinite"),
    "inf": (with_value(np.inf), "1 of 5760 voxels are NaN or infinite"),
    "constant": (lambda image: image * 0, "every voxel is 0"),
}


@pytest.mark.parametrize(("change", "said"), BAD_IMAGES.values(), ids=BAD_IMAGES)
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_what_is_no_volume_is_refused(
    side: str,
    change: Callable[[sitk.Image], sitk.Image],
    said: str,
    oblique_ct: sitk.Image,
    ct: Path,
    out: Path,
) -> None:
    bad = ct / f"{side}.nrrd"
    sitk.WriteImage(change(oblique_ct), str(bad))
    images = {"fixed": ct / "fixed.nii.gz", "moving": ct / "moving.nii.gz", side: bad}
    refused(run("register", images["fixed"], images["moving"], "-o", out), 1, str(bad), said)
    assert nothing_left(out)


def test_missing_foreign_and_truncated_files_are_refused(ct: Path, out: Path) -> None:
    fixed = ct / "fixed.nii.gz"
    refused(run("register", fixed, ct / "none.nii", "-o", out), 1, "none.nii: no such file")
    (ct / "text.nii").write_text("this is no image")
    refused(run("register", fixed, ct / "text.nii", "-o", out), 1, "text.nii: not a whole NIfTI")
    (ct / "cut.nii.gz").write_bytes(fixed.read_bytes()[:5000])
    refused(run("register", fixed, ct / "cut.nii.gz", "-o", out), 1, "cut.nii.gz: cut short")
    assert nothing_left(out)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_refused(ct: Path, out: Path) -> None:
    (ct / "fixed.nii.gz").chmod(0)
    refused(run("register", ct / "fixed.nii.gz", ct / "moving.nii.gz", "-o", out), 1)


def test_no_overlap_offers_the_centres(oblique_ct: sitk.Image, ct: Path, out: Path) -> None:
    oblique_ct.SetOrigin((500.0, 0.0, 0.0))
    sitk.WriteImage(oblique_ct, str(ct / "far.mha"))
    result = run("register", ct / "fixed.nii.gz", ct / "far.mha", "-o", out)
    refused(result, 1, "overlap in 0%", "--align centers")
    assert nothing_left(out)


@pytest.mark.engine
def test_no_ct_is_warned_of_and_centres_align(case: Case, tmp_path: Path) -> None:
    moving = case.phantom.moving + 1000  # no air below -500 any more
    moving.SetOrigin(np.add(moving.GetOrigin(), (0, 0, 300)).tolist())
    sitk.WriteImage(case.phantom.fixed, str(tmp_path / "fixed.mha"))
    sitk.WriteImage(moving, str(tmp_path / "moving.mha"))
    images, out = (tmp_path / "fixed.mha", tmp_path / "moving.mha"), tmp_path / "run"
    result = run("register", *images, "-o", out, *ALONE, "--align", "centers")
    assert result.exit_code == 0, result.output
    assert "warning: moving: looks like HU + 1024" in result.output
    assert "note: moving: looks like HU + 1024" in result.output
    assert "subtract 1024" in run_folder.read_run_json(out)["warnings"][0]


# --- bad masks, points, weights, options --------------------------------------------------------


def test_bad_masks_are_refused(oblique_ct: sitk.Image, ct: Path, out: Path) -> None:
    images = "register", ct / "fixed.nii.gz", ct / "moving.nii.gz", "-o", out
    sitk.WriteImage(sitk.Cast(oblique_ct * 0, sitk.sitkUInt8), str(ct / "empty.mha"))
    sitk.WriteImage(oblique_ct[:, :, 2:] > 0, str(ct / "short.mha"))
    for side in ("fixed", "moving"):
        refused(run(*images, f"--{side}-mask", ct / "empty.mha"), 1, "mask is empty")
        refused(run(*images, f"--{side}-mask", ct / "short.mha"), 1, "24 x 20 x 10 voxels, but")
        refused(run(*images, f"--{side}-mask", ct / "none.mha"), 1, "no such file")
    assert nothing_left(out)


GOOD = "point\n3\n-100 45 -400\n-99 44 -399\n-98 43 -398\n"  # inside the oblique volume
BAD_POINTS = {
    "no header": (GOOD.removeprefix("point\n"), "line 1: expected the word 'point'"),
    "wrong count": (GOOD.replace("3", "4", 1), "line 2: header says 4 points, file holds 3"),
    "comma": (GOOD.replace("-99 44", "-99,44"), "line 4: comma"),
    "NaN": (GOOD.replace("44", "nan"), "line 4: expected 3 numbers"),
    "inf": (GOOD.replace("44", "inf"), "line 4: expected 3 numbers"),
    "none": ("point\n0\n", "line 2: no points"),
    "unequal": ("point\n1\n-100 45 -400\n", "holds 1 points"),
    "elsewhere": (GOOD.replace("-", ""), "lie outside"),
}


@pytest.mark.parametrize(("text", "said"), BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_points_are_refused(text: str, said: str, ct: Path, out: Path) -> None:
    (ct / "good.txt").write_text(GOOD)
    (ct / "bad.txt").write_text(text)
    images = "register", ct / "fixed.nii.gz", ct / "moving.nii.gz", "-o", out
    refused(run(*images, "--points", ct / "bad.txt", ct / "good.txt"), 1, said)
    refused(run(*images, "--points", ct / "good.txt", ct / "none.txt"), 1, "cannot be read")
    assert nothing_left(out)


def test_swapped_points_are_named(oblique_ct: sitk.Image, ct: Path, out: Path) -> None:
    oblique_ct.SetOrigin(np.add(oblique_ct.GetOrigin(), (24, 0, 0)).tolist())
    sitk.WriteImage(oblique_ct, str(ct / "right.mha"))
    (ct / "left.txt").write_text("point\n1\n-110 45 -400\n")
    (ct / "right.txt").write_text("point\n1\n-70 45 -395\n")
    points = "--points", ct / "right.txt", ct / "left.txt"
    result = run("register", ct / "fixed.nii.gz", ct / "right.mha", "-o", out, *points)
    refused(result, 1, "lie outside", "swapped")


def test_bad_weights_are_told_before_anything_runs(ct: Path, out: Path) -> None:
    images = "register", ct / "fixed.nii.gz", ct / "moving.nii.gz", "-o", out
    refused(run(*images, "--weights", "nosuch"), 1, "nosuch", "shipped names (default, paper")
    tampered = bytearray(shipped_weights()["paper"].read_bytes())
    tampered[-1000] ^= 1
    (ct / "edited.safetensors").write_bytes(tampered)
    result = run(*images, "--weights", ct / "edited.safetensors")
    refused(result, 1, "edited.safetensors: the tensors do not match the SHA-256")
    assert "affine" not in result.output
    assert nothing_left(out)


@pytest.mark.parametrize(
    "option",
    [
        ("--landmark-weight", "abc"),
        ("--landmark-weight", "0.1,0.2"),
        ("--landmark-weight", "nan"),
        ("--landmark-weight", "-1"),
        ("--threads", "0"),
        ("--threads", "two"),
        ("--seed", "0"),
        ("--search-mm", "-1"),
        ("--min-score", "2"),
        ("--max-landmarks", "0"),
        ("--backend", "ants"),
        ("--preset", "brain"),
        ("--align", "moments"),
        ("--device", "tpu"),
        ("--on-few-landmarks", "ignore"),
        ("--points", "only-one.txt"),
        ("--nosuch",),
    ],
    ids=" ".join,
)
def test_usage_errors_are_found_before_anything_is_read(option: tuple[str], out: Path) -> None:
    refused(run("register", "none.nii", "none.nii", "-o", out, *option), 2)
    assert nothing_left(out)


# --- too few landmarks --------------------------------------------------------------------------


@pytest.mark.engine
def test_few_landmarks_fail_or_go_on_as_told(case_files: Path, out: Path) -> None:
    command = ("register", case_files / "fixed.nii.gz", case_files / "moving.nii.gz", "-o", out)
    options = ("--threads", "1", "--min-score", "1")
    result = run(*command, *options)
    refused(result, 1, "0 landmarks found, expected at least 30", "register-without")
    assert nothing_left(out)
    result = run(*command, *options, "--on-few-landmarks", "register-without")
    said = "0 landmarks found, expected at least 30; registered without landmarks"
    assert result.exit_code == 0, result.output
    assert f"warning: {said}" in result.output  # the log
    assert f"note: {said}" in result.output  # the exit message
    assert run_folder.read_run_json(out)["warnings"] == [said]
    assert run_folder.read_run_json(out)["metrics"]["landmarks"] == 0


# --- engines and installation -------------------------------------------------------------------


def test_no_engine_says_how_to_get_one(
    ct: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    if installed.available():
        pytest.skip("a SimpleITK with elastix inside")
    images = ct / "fixed.nii.gz", ct / "moving.nii.gz"
    refused(run("register", *images, "-o", out), 1, "pip install itk-elastix", "apt install")
    assert nothing_left(out)
    assert "engine: none" in run("info").output


def test_info_tells_versions_engines_and_weights() -> None:
    said = run("info").output
    for words in (
        "landmark_dir",
        "SimpleITK",
        "torch",
        "device",
        "weights default, paper",
        "engine",
    ):
        assert words in said
    assert "warning" not in said


def test_info_warns_of_two_simpleitks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SimpleITK", "SimpleITK_SimpleElastix"):
        (tmp_path / f"{name}-3.0.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 3.0\n"
        (tmp_path / f"{name}-3.0.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(tmp_path)
    result = run("info")
    assert result.exit_code == 0
    assert "warning: SimpleITK and SimpleITK-SimpleElastix are both installed" in result.output


# --- run folders and disks ----------------------------------------------------------------------


def test_an_occupied_folder_is_refused_first(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    result = run("register", "none.nii", "none.nii", "-o", out)
    refused(result, 1, "exists already", "--overwrite")
    refused(run("demo", "-o", out, "--overwrite"), 1, "left alone")
    assert [file.name for file in out.iterdir()] == ["thesis.txt"]


def test_failing_leaves_an_earlier_run_and_no_new_parents(ct: Path, out: Path) -> None:
    out.mkdir()
    run_folder.write_json(out / run_folder.RUN_JSON, {"earlier": True})
    refused(run("register", "none.nii", "none.nii", "-o", out, "--overwrite"), 1, "no such file")
    assert run_folder.read_run_json(out) == {"earlier": True}
    refused(run("register", "none.nii", "none.nii", "-o", out.parent / "a" / "b" / "run"), 1)
    assert os.listdir(out.parent) == ["run"]


def test_a_file_in_the_way_is_one_sentence(ct: Path, out: Path) -> None:
    out.parent.rmdir()
    out.parent.write_text("a file where the parent folder should be")
    images = ct / "fixed.nii.gz", ct / "moving.nii.gz"
    refused(run("register", *images, "-o", out), 1, "cannot be created")


DISK = """
mount -t tmpfs -o size={size},{mode} tmpfs {folder} && {command}
code=$?
ls -A {folder}
exit $code
"""


def on_disk(folder: Path, size: str, mode: str, *arguments: object) -> tuple[int, str, str]:
    """Run on a small disk of its own, which only the command sees; or skip."""
    command = " ".join(f"'{part}'" for part in (*COMMAND, *arguments))
    script = DISK.format(folder=folder, size=size, mode=mode, command=command)
    unshare = ["unshare", "--mount", "--map-root-user"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs user namespaces to make a small disk")
    done = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.engine
@pytest.mark.parametrize("size", ["150k", "400k", "700k"], ids=["images", "affine", "b-spline"])
def test_full_disk_is_one_sentence_and_leaves_nothing(
    size: str, case_files: Path, out: Path
) -> None:
    images = case_files / "fixed.nii.gz", case_files / "moving.nii.gz"
    points = "--points", case_files / "guides_fixed.txt", case_files / "guides_moving.txt"
    command = ("register", *images, *points, "--threads", 1, "-q")
    code, left, said = on_disk(out.parent, size, "rw", *command, "-o", out)
    assert code == 1
    assert left == ""
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "is full" in errors[0] or "No space left" in errors[0]
    assert len(errors[0]) < 400
    assert "Traceback" not in said


def test_read_only_disk_is_one_sentence(ct: Path, out: Path) -> None:
    images = ct / "fixed.nii.gz", ct / "moving.nii.gz"
    code, left, said = on_disk(out.parent, "1m", "ro", "register", *images, *ALONE, "-o", out)
    assert (code, left) == (1, "")
    assert said.startswith(f"Error: {out} cannot be created, {out.parent} may not be written to;")


# --- what follows a run -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(case_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by the command line."""
    out = tmp_path_factory.mktemp("cli") / "new" / "run"  # its parent is made
    images = case_files / "fixed.nii.gz", case_files / "moving.nii.gz"
    result = run("register", *images, "-o", out, *ALONE)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith(f"{out}: not checked (no landmarks")
    told = [line.split("%  ")[1].split(",")[0] for line in result.output.splitlines()[:-1]]
    stages = list(dict.fromkeys(stage.split(":")[0] for stage in told))
    want = ["start", "write images", "affine", "b-spline", "warp", "metrics", "report", "done"]
    assert stages == want
    return out


@pytest.mark.engine
def test_warp_and_warp_points_write_files(finished: Path, case_files: Path, tmp_path: Path) -> None:
    warped, points = tmp_path / "warped.mha", tmp_path / "mapped.txt"
    moving, judges = case_files / "moving.nii.gz", case_files / "judges_fixed.txt"
    assert run("warp", finished, moving, "-o", warped).exit_code == 0
    assert run("warp-points", finished, judges, "-o", points).exit_code == 0
    want = sitk.GetArrayFromImage(sitk.ReadImage(str(finished / run_folder.WARPED)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(warped))), want)
    truth = read_elastix_points(case_files / "judges_moving.txt")
    error = np.linalg.norm(read_elastix_points(points) - truth, axis=1)
    assert error.mean() < 5.0  # mm; 10 at the start


@pytest.mark.engine
def test_bad_use_of_a_run_is_refused(finished: Path, case_files: Path, tmp_path: Path) -> None:
    image, points = case_files / "moving.nii.gz", case_files / "judges_fixed.txt"
    here = tmp_path / "here"
    here.mkdir()
    refused(run("warp", tmp_path, image, "-o", here / "a.mha"), 1, "finished run folder")
    refused(run("warp", finished, image, "-o", here / "a.jpg"), 2, "a.jpg: unknown suffix")
    refused(run("warp", finished, image, "-o", image / "a.mha"), 1, "moving.nii.gz is a file")
    refused(run("warp", finished, image, "-o", image), 2, "is read, and would be lost")
    refused(run("warp-points", finished, points, "-o", points), 2, "is read, and would be lost")
    for name in (run_folder.WARPED, run_folder.TRANSFORM, "transform.1.txt"):
        suffix = ("warp", image) if name.endswith(".gz") else ("warp-points", points)
        refused(run(suffix[0], finished, suffix[1], "-o", finished / name), 2, "belongs to the run")
    refused(run("warp-points", finished, points, "-o", "/dev/full"), 2, "neither a file nor a")
    odd = here / os.fsdecode(b"\xff.mha")
    refused(run("warp", finished, image, "-o", odd), 2, "no UTF-8 text")
    refused(run("warp", finished, here / "none.mha", "-o", here / "a.mha"), 1, "no such file")
    refused(run("warp-points", finished, image, "-o", here / "p.txt"), 1, "expected a text file")
    refused(run("warp-points", finished, points, "-o", here), 2, "found a folder")
    empty = tmp_path / "none.txt"
    empty.write_text("point\n0\n")
    refused(run("warp-points", finished, empty, "-o", here / "p.txt"), 1, "no points")
    assert not list(here.iterdir())
    broken = Path(shutil.copytree(finished, tmp_path / "broken"))
    (broken / run_folder.TRANSFORM).write_text("(Transform")
    refused(run("warp-points", broken, points, "-o", here / "p.txt"), 1, "transform file ")
    elsewhere = shutil.copy(finished / run_folder.TRANSFORM, tmp_path / "t.txt")
    text = Path(elsewhere).read_text().replace('"transform.1.txt"', f'"{finished}/transform.1.txt"')
    (broken / run_folder.TRANSFORM).write_text(text)
    refused(run("warp-points", broken, points, "-o", here / "p.txt"), 1, "outside of its folder")
    (broken / run_folder.TRANSFORM).unlink()
    refused(run("warp", broken, image, "-o", here / "a.mha"), 1, "has no transform.txt")


@pytest.mark.engine
def test_elastix_errors_name_a_log_that_exists(case_files: Path, out: Path) -> None:
    mask = sitk.ReadImage(str(case_files / "fixed.nii.gz")) * 0
    mask[0:2, 0, 0] = 1  # two voxels of air at a corner, beyond the moving image
    sitk.WriteImage(sitk.Cast(mask, sitk.sitkUInt8), str(out.parent / "mask.mha"))
    images = case_files / "fixed.nii.gz", case_files / "moving.nii.gz"
    result = run("register", *images, "-o", out, *ALONE, "--fixed-mask", out.parent / "mask.mha")
    refused(result, 1, "; see ")
    log = Path(result.output.strip().split("; see ")[1])
    assert "Description" in log.read_text()
    shutil.rmtree(log.parent)
    assert os.listdir(out.parent) == ["mask.mha"]


# --- killed half-way ----------------------------------------------------------------------------


def engines(parent: int | None = None) -> set[int]:
    """Processes of engines that still run; those of one parent, or all."""
    fields = "pid=,ppid=,stat=,args="
    listing = subprocess.run(["ps", "-wweo", fields], capture_output=True, text=True).stdout
    rows = [line.split(None, 3) for line in listing.splitlines()]
    return {
        int(pid)
        for pid, above, stat, args in rows
        if "landmark_dir.elastix.worker" in args
        and not stat.startswith("Z")
        and parent in (None, int(above))
    }


@pytest.mark.engine
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_killed_half_way_nothing_looks_finished(name: str, case_files: Path, out: Path) -> None:
    images = [str(case_files / f"{side}.nii.gz") for side in ("fixed", "moving")]
    options = [*ALONE, "--no-affine", "-o", str(out)]
    with subprocess.Popen(
        [*COMMAND, "register", *images, *options], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "b-spline" not in process.stderr.readline():
            assert process.poll() is None
        mine = engines(process.pid)
        assert mine
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=20)
    assert "Traceback" not in said
    if name == "SIGKILL":
        assert not out.exists()
        assert not list(out.parent.glob(f".landmark-dir-*/new/run/{run_folder.RUN_JSON}"))
        wait_for(lambda: not engines() & mine, 5.0)
    else:
        assert process.returncode == shared.INTERRUPTED
        assert said.splitlines()[-1] == "Aborted, nothing was written"
        assert nothing_left(out)
        assert not engines() & mine


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- progress -----------------------------------------------------------------------------------


def test_progress_rewrites_one_line_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    progress = shared.Shown(quiet=False)
    progress.rewrite = True
    progress("affine: resolution 1 of 4, iteration 3", 0.1)
    progress("b-spline: " + "x" * 100, 0.5)
    progress.done()
    said = capsys.readouterr().err
    lines = said.split(shared.CLEAR_LINE)
    assert "\n" not in said
    assert lines[1].endswith("10%  affine: resolution 1 of 4")
    assert max(map(len, lines)) == 39


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    progress = shared.Shown(quiet=True)
    progress("affine", 0.1)
    progress.done()
    assert capsys.readouterr().err == ""


def test_on_a_pipe_no_silence_is_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line is said again, with the share done and the time left."""
    monkeypatch.setattr(shared, "REPEAT_S", 1.0)
    progress = shared.Shown(quiet=False)
    progress.started -= 30.0
    progress("landmarks: encode fixed", 0.25)
    progress("landmarks: encode moving", 0.5)  # no line of its own
    said = ""
    end = time.monotonic() + 10
    while "encode moving" not in said and time.monotonic() < end:
        time.sleep(0.1)
        said += capsys.readouterr().err
    progress.done()
    lines = said.splitlines()
    assert lines[0] == "   30 s  25%  landmarks: encode fixed, about 90 s left"
    assert "50%  landmarks: encode moving, about 3" in lines[1]


def test_help_names_every_option(case_files: Path) -> None:
    said = run("register", "--help").output
    for option in ("--no-landmarks", "--points", "--align", "--on-few-landmarks", "--overwrite"):
        assert option in said
    assert json.loads(json.dumps(run("--version").output)).startswith("main, version")


@pytest.mark.engine
def test_a_finished_run_gives_field_jacobian_inverse_and_export(
    finished: Path, case_files: Path, tmp_path: Path
) -> None:
    like = ("--like", case_files / "moving.nii.gz")
    for command, name, said, *more in (
        ("field", "field.nii.gz", "field.nii.gz"),
        ("jacobian", "jacobian.mha", "0.00% folded"),
        ("inverse", "inverse.nii.gz", "residual mean 0.0", *like),
        ("export", "t.h5", "put it on the moving volume"),
        ("export", "t.tfm", "sitk.ReadTransform"),
    ):
        result = run(command, finished, "-o", tmp_path / name, *more)
        assert result.exit_code == 0, result.output
        assert said in result.output
        assert (tmp_path / name).is_file()
    result = run("export", finished, "-o", tmp_path / "t.mat")
    refused(result, 2, "expected one of .h5, .tfm")
