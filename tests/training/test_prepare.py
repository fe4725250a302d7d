"""From files on disk to a pack: patients, resuming, what is left out."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from landmark_dir.io.volumes import write_volume
from training import prepare as preparing
from training.data.pack import (
    STEP_HU,
    BadPack,
    from_levels,
    list_series,
    pack_hash,
    read_pack,
    to_levels,
)
from training.data.sources import MIN_BODY_PX, Source, find_sources, read_slices
from training.prepare import choose_validation, error_figures, main, prepare

UID = "1.2.826.0.1.3680043.2.1125.1"


@pytest.fixture
def data(thick_ct: sitk.Image, tmp_path: Path) -> Path:
    """Volumes of two patients, in files and folders."""
    (tmp_path / "data" / "deep" / "er").mkdir(parents=True)
    write_volume(thick_ct, tmp_path / "data" / "anna-a.nii.gz")
    write_volume(thick_ct + 8, tmp_path / "data" / "deep" / "anna-b.mha")
    write_volume(thick_ct + 16, tmp_path / "data" / "deep" / "er" / "bert.nrrd")
    return tmp_path / "data"


def run(*words: object) -> object:
    """Run the command line; return what it exits with."""
    try:
        return main([str(word) for word in words])
    except SystemExit as left:
        return left.code


def write_dicom(image: sitk.Image, folder: Path, series: str, modality: str = "CT") -> None:
    """Write a series of Jane Doe, one file a slice."""
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.reshape(image.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetDepth()):
        one = image[:, :, k]
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        tags = {
            "0008|0018": f"{series}.{k + 1}",
            "0008|0060": modality,
            "0010|0010": "Doe^Jane",
            "0010|0020": "hospital-number-4711",
            "0020|000e": series,
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.9f}" for value in direction[:, :2].T.ravel()),
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for key, value in tags.items():
            one.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"jane-doe-{series[-2:]}-{k}.dcm"))
        writer.Execute(one)


def test_a_folder_becomes_a_pack(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [data, "-o", tmp_path / "pack", "--patient-pattern", "([a-z]+)(-.)?$", "--jobs", 1]
    assert run(*words) == 0
    shown = capsys.readouterr().out
    entries = list_series(tmp_path / "pack")
    assert {entry.patient: 0 for entry in entries} == {"anna": 0, "bert": 0}
    assert {entry.split for entry in entries} == {"training", "validation"}
    assert re.search(r"training +[12] +1 +[48] +\d", shown)
    slices = [
        part for split in ("training", "validation") for part in read_pack(tmp_path / "pack", split)
    ]
    assert len(slices) == 12
    assert slices[1].z_mm == pytest.approx(4.0)
    assert all(int(part.body.sum()) > MIN_BODY_PX for part in slices)


def test_patients_are_split_by_their_own_hash() -> None:
    many = [f"p{i}" for i in range(400)]
    held = choose_validation(many, 0.15, {})
    assert 30 < len(held) < 90
    assert choose_validation(many[:200], 0.15, {}) == held & set(many[:200])
    assert len(choose_validation(["a", "b"], 1e-9, {})) == 1
    assert len(choose_validation(["a", "b"], 0.999, {})) == 1
    assert choose_validation(["a"], 0.15, {}) == set()
    chosen = choose_validation(["a", "b"], 1e-9, {})
    known = {p: "validation" if p in chosen else "training" for p in "ab"}
    assert choose_validation(many, 0.15, known) == held | chosen  # type: ignore[arg-type]


def test_the_same_patient_on_both_sides_is_refused(data: Path, tmp_path: Path) -> None:
    first, second = data / "anna-a.nii.gz", data / "deep"
    pattern = "(anna|bert)"
    training, _ = find_sources([first], pattern)
    validation, _ = find_sources([second], pattern)
    with pytest.raises(BadPack, match="patient anna: found in training and in validation"):
        prepare(training, validation, tmp_path / "pack", pattern=pattern)
    prepare(training, [], tmp_path / "pack", pattern=pattern)
    with pytest.raises(BadPack, match="patient anna: found in training and in validation"):
        prepare([], validation, tmp_path / "pack", pattern=pattern)


def test_a_packed_series_is_not_made_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Source] = []

    def counted(source: Source) -> object:
        made.append(source)
        return read_slices(source)

    monkeypatch.setattr(preparing, "read_slices", counted)
    words = [data, "-o", tmp_path / "pack", "--jobs", 1]
    assert run(data / "anna-a.nii.gz", *words[1:]) == 0
    assert run(*words) == 0
    before = pack_hash(tmp_path / "pack")
    assert run(*words) == 0
    assert [source.name for source in made] == ["anna-a", "anna-b", "bert"]
    assert pack_hash(tmp_path / "pack") == before
    assert "made with step_hu 20, now 16" in str(run(*words, "--step-hu", 16))
    assert "a step of 4 HU needs" in str(run(*words, "--step-hu", 4))


def test_a_process_makes_the_same_pack(data: Path, tmp_path: Path) -> None:
    sources, _ = find_sources([data / "anna-a.nii.gz"], None)  # one: a process starts slowly
    for jobs in (1, 2):
        assert prepare(sources, [], tmp_path / f"pack{jobs}", jobs=jobs) == {}
    assert pack_hash(tmp_path / "pack1") == pack_hash(tmp_path / "pack2")


def test_what_cannot_be_packed_is_listed(
    data: Path,
    thick_ct: sitk.Image,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (data / "cut.nii.gz").write_bytes((data / "anna-a.nii.gz").read_bytes()[:5000])
    write_volume(sitk.Cast(thick_ct > 0, sitk.sitkInt16), data / "labels.nii.gz")
    write_volume(thick_ct[:12, :12], data / "small.nii.gz")
    os.link(data / "anna-a.nii.gz", data / "deep" / "anna-a.nii.gz")
    assert run(data, "-o", tmp_path / "pack", "--jobs", 1) == 0
    said = capsys.readouterr().err
    assert "left out 4 series:" in said
    for reason in (
        r"cut.nii.gz: cut short or damaged",
        r"labels.nii.gz: no air below -500 HU",
        r"small.nii.gz: ",
        r"deep/anna-a.nii.gz: same name, size and date as \S+data/anna-a.nii.gz",
    ):
        assert re.search(reason, said)
    assert len(list_series(tmp_path / "pack")) == 3
    assert run(data / "cut.nii.gz", "-o", tmp_path / "none", "--jobs", 1) == 1


def test_arrays_of_an_npz(thick_ct: sitk.Image, tmp_path: Path) -> None:
    plane = np.kron(sitk.GetArrayFromImage(thick_ct)[2], np.ones((3, 3))).astype(np.int16)
    bad = {"anna_002": plane[None], "anna_003": np.where(plane > 500, np.nan, plane)}
    arrays = {"anna_000": plane, "bert_x_001": plane.T, **bad}
    np.savez(tmp_path / "some.npz", **arrays)  # type: ignore[arg-type]
    sources, _ = find_sources([tmp_path], None)
    skipped = prepare(sources, [], tmp_path / "pack", share=0)
    read = read_pack(tmp_path / "pack", "training")
    assert [part.patient for part in read] == ["anna", "bert_x"]
    assert len({part.series for part in read}) == 2
    assert [reason.split(": ")[1].split(" ")[1] for reason in skipped.values()] == ["is", "holds"]


def test_dicom_series_at_any_depth_and_nobody_named(
    thick_ct: sitk.Image,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = tmp_path / "data" / "Doe Jane" / "study"
    study.mkdir(parents=True)
    (study / "report.txt").write_text("Jane Doe is fine")
    write_dicom(thick_ct, study / "both", f"{UID}.11")
    write_dicom(thick_ct + 8, study / "both", f"{UID}.22")
    write_dicom(thick_ct, study / "mr", f"{UID}.33", "MR")
    write_dicom(thick_ct[:, :, :2], study / "scout", f"{UID}.44")
    out = tmp_path / "pack"
    assert run(tmp_path / "data", "-o", out, "--jobs", 1) == 0
    said = capsys.readouterr().err
    assert "modality MR, not CT" in said
    assert "x 2 voxels, expected at least 4" in said
    assert len(list_series(out)) == 2
    assert len({entry.patient for entry in list_series(out)}) == 1
    written = b"".join(file.name.encode() + file.read_bytes() for file in out.iterdir()).lower()
    for word in (b"doe", b"jane", b"4711", b"study", b"both", UID.encode()):
        assert word not in written


def test_error_figures_are_exact(data: Path, tmp_path: Path) -> None:
    sources, _ = find_sources([data], None)
    prepare(sources, [], tmp_path / "pack", share=0)
    off = []
    for source in sources:
        series = read_slices(source)
        decoded = from_levels(to_levels(series.hu, STEP_HU), STEP_HU).astype(int)
        off.append(np.abs(decoded - series.hu)[series.body])
    mean, p95, worst = error_figures(list_series(tmp_path / "pack"))
    every = np.concatenate(off)
    assert mean == pytest.approx(every.mean())
    assert p95 == np.quantile(every, 0.95, method="inverted_cdf")
    assert worst == every.max()


@pytest.mark.data
def test_two_real_volumes(data_dir: Path, tmp_path: Path) -> None:
    training, _ = find_sources([data_dir / "ct/training/sts-012.nii.gz"], None)
    validation, _ = find_sources([data_dir / "ct/validation/sts-044.nii.gz"], None)
    assert prepare(training, validation, tmp_path / "pack") == {}
    for split, patient in (("training", "sts-012"), ("validation", "sts-044")):
        parts = read_pack(tmp_path / "pack", split)  # type: ignore[arg-type]
        assert {part.patient for part in parts} == {patient}
        assert len(parts) > 30
    mean, p95, _ = error_figures(list_series(tmp_path / "pack"))
    assert mean < STEP_HU / 3  # a quarter in soft tissue if all HU were as frequent, half in lung
    assert p95 <= STEP_HU
    size_bytes = sum(entry.size_bytes for entry in list_series(tmp_path / "pack"))
    files = [Path(source.place) for source in training + validation]
    assert size_bytes < 0.6 * sum(file.stat().st_size for file in files)


def test_a_source_without_ct_and_a_bad_pattern_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    said = run(tmp_path / "empty", "-o", tmp_path / "pack")
    assert said == f"error: {tmp_path / 'empty'}: no CT series found"
    assert not (tmp_path / "pack").exists()
    assert run(tmp_path, "-o", tmp_path / "pack", "--patient-pattern", "(case") == 2
    assert "--patient-pattern: expected a regular expression" in capsys.readouterr().err
