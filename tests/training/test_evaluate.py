"""The whole command: the files it leaves, and wrong options."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.pack import CtSeries, write_series
from training.evaluate import main
from training.evaluation.matchers import BASELINES


def made_slices(seed: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Three slices with soft blobs in a body, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:150, :180].astype(float)
    body = ((x - 90) / 80) ** 2 + ((y - 75) / 65) ** 2 < 1
    hu = np.zeros(body.shape)
    for cx, cy, height, sigma in rng.uniform((15, 15, -150, 2), (165, 135, 150, 6), (200, 4)):
        hu += height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    stack = np.repeat(np.where(body, hu, -1000)[None], 3, axis=0)
    return stack.astype(np.int16), np.repeat(body[None], 3, axis=0)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    for seed, patient in enumerate("ab"):
        hu, body = made_slices(seed)
        series = CtSeries(patient, patient, "made", hu, body, (0.0, 3.0, 6.0))
        write_series(tmp_path / "pack", series, "validation")
    return tmp_path / "pack"


def test_the_command_leaves_everything(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    hu = made_slices(0)[0][0]
    np.savez(tmp_path / "real.npz", p1_prior=hu, p1_current=hu[5:, :-9])
    out = tmp_path / "out"
    call = ["--pack", str(pack), "-o", str(out), "--weights", "--sets", "intensity"]
    call += ["--per-patient", "2", "--followup-slices", str(tmp_path / "real.npz")]
    main(call)
    printed = capsys.readouterr().out
    assert printed.strip() == (out / "table.md").read_text().strip()
    assert "| intensity | SIFT-RatioTest | " in printed
    assert "## followup-slices" in printed
    names = {"table.md", "pairs.csv", "errors.npz", "evaluation.json", "figure2.png"}
    names |= {"reliability.png"}
    names |= {"figure3-intensity.png", "figure3-followup-slices.png"}
    assert {file.name for file in out.iterdir()} == names
    with (out / "pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    baselines = len(BASELINES)
    assert len(rows) == baselines * (len({(r["set"], r["pair"]) for r in rows}))
    assert float(rows[0]["median_mm"]) < 0.5
    with np.load(out / "errors.npz") as arrays:
        assert len(arrays["intensity/SIFT-RatioTest"]) > 30
    about = json.loads((out / "evaluation.json").read_text())
    assert about["weights_sha256"] == {}
    assert about["pack_sha256"]
    with pytest.raises(SystemExit, match="exists already; name another folder or give --overwrite"):
        main(call)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (["--sets", "affine,bent"], "found bent"),
        (["--weights", "--no-baselines"], "found none"),
        (["--weights", "no_such_file"], "neither a file nor one of the shipped names"),
    ],
)
def test_wrong_options_are_one_sentence(
    pack: Path, tmp_path: Path, changed: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit, match=sentence):
        main(["--pack", str(pack), "-o", str(tmp_path / "out"), "--no-baselines", *changed])
    assert not (tmp_path / "out").exists()
