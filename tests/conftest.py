"""Shared fixtures: small volumes in a geometry that proves something."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import settings
from numpy.typing import NDArray
from run_schema import complaints
from small_pairs import Case, make_case

from landmark_dir.elastix.parameters import ParameterMap
from landmark_dir.io import run_folder
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from landmark_dir.registration import stages

# the same examples each time; `make test-slow` tries the other number
EXAMPLES = {"derandomize": True, "database": None, "deadline": timedelta(seconds=10)}
settings.register_profile("quick", max_examples=60, **EXAMPLES)
settings.register_profile("many", max_examples=3000, **EXAMPLES)
settings.load_profile("quick")

OBLIQUE = (0.9, -0.3, 0.316, 0.338, 0.938, -0.072, -0.275, 0.172, 0.946)  # orthonormalised below


@pytest.fixture
def oblique_ct() -> sitk.Image:
    """A rotated, anisotropic, off-origin int16 volume of 24 x 20 x 12 voxels."""
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(-1000, 1000, (12, 20, 24)).astype(np.int16))
    u, _, vt = np.linalg.svd(np.reshape(OBLIQUE, (3, 3)))
    image.SetDirection((u @ vt).ravel().tolist())
    image.SetSpacing((1.5, 2.0, 4.0))
    image.SetOrigin((-120.0, 35.0, -410.0))
    return image


@pytest.fixture(scope="session")
def thick_ct() -> sitk.Image:
    """A made patient, 300 x 240 mm, slices of 4 mm, oblique; int16."""
    options = PhantomOptions(size_xyz=(100, 80, 4), spacing_mm=(3.0, 3.0, 4.0))
    return sitk.Cast(make_phantom(options).fixed, sitk.sitkInt16)


@pytest.fixture(scope="session")
def tissue() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A slice, an ellipse of soft tissue with smooth texture, and its body."""
    height, width = 290, 370
    y, x = np.mgrid[:height, :width]
    body = np.hypot((x / width - 0.5) / 0.43, (y / height - 0.5) / 0.44) < 1
    texture = 50 + 20 * np.sin(x / 9) + 20 * np.cos(y / 11)
    return np.where(body, texture, -1000).round().astype(np.float32), body


@pytest.fixture(scope="session", autouse=True)
def every_run_json_is_as_the_schema_says() -> Iterator[None]:
    """Hold each `run.json` that a test writes in this process against the schema."""
    write = run_folder.write_run_json

    def checked(folder: Path, content: dict[str, Any]) -> None:
        write(folder, content)
        assert complaints(run_folder.read_run_json(folder)) == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "write_run_json", checked)
        yield


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """Let children hear signals that are ignored here, and so by them: under nohup, or with `&`."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        is_ctrl_c = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def case() -> Case:
    """The default small pair: rotated, off-origin, the moving image on a grid of its own."""
    return make_case()


@pytest.fixture(scope="session")
def case_files(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of `case`; leave it as it is."""
    return case.write(tmp_path_factory.mktemp("case") / "in put")  # a space, as users have them


@pytest.fixture(scope="module")
def few_iterations() -> Iterator[None]:
    """Let the real engines stop after a sixth of the iterations, to be quick."""
    shipped = stages.bundled

    def shortened(name: str) -> ParameterMap:
        return {**shipped(name), "MaximumNumberOfIterations": ("40",)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "bundled", shortened)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real CT, or skip."""
    folder = needs.data_folder()
    if folder is None:
        pytest.skip(needs.NO_DATA)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name in one line what was not tried, and how to get it."""
    skipped = terminalreporter.getreports("skipped")
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    if said := needs.summary(reasons):
        terminalreporter.write_line(said)
