"""Pairs in a folder: which exams, which series, what is left out, and that nobody is named."""

import csv
import os
import shutil
from pathlib import Path

import made_dicom as made
import made_exams
import numpy as np
import pytest
import SimpleITK as sitk
from made_exams import DAYS, SECRETS, scan, write

from landmark_dir.errors import BadArgument, BadRunFolder, LandmarkDirError
from landmark_dir.geometry import corners
from landmark_dir.io.volumes import overlap_fraction, read_volume
from landmark_dir.study.finding.exams import volume_of
from landmark_dir.study.finding.find_pairs import FoundPairs, find_pairs
from landmark_dir.study.finding.pairs_file import COLUMNS, pairs_files, write_pairs
from landmark_dir.study.finding.same_region import other_parts, share_in_common, span_mm

OTHER = {"PatientID": "77", "PatientName": "Else^Some", "PatientBirthDate": "19600101"}


def cases(found: FoundPairs) -> list[str]:
    """Numbers of the exams in each pair."""
    return [pair.case.partition("-")[2] for pair in found.pairs]


def reasons(found: FoundPairs) -> str:
    return "\n".join(f"{row.exam}|{row.what}|{row.why}" for row in found.left_out)


def three_exams(folder: Path, **tags: str) -> None:
    for study in (2, 3, 1):  # not in the order of time
        write(folder / f"{study}" / "DICOM" / "a", scan(turned=study == 2), study=study, **tags)


# --- which exams ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "expected"),
    [("consecutive", ["1-2", "2-3"]), ("first", ["1-2", "1-3"]), ("all", ["1-2", "1-3", "2-3"])],
)
def test_exams_of_a_patient_are_paired_in_the_order_of_time(
    which: str, expected: list[str], tmp_path: Path
) -> None:
    three_exams(tmp_path)
    write(tmp_path / "deep" / "er" / "x", study=4, **OTHER)
    write(tmp_path / "y", study=5, **OTHER)
    found = find_pairs(tmp_path, which=which)
    assert sorted(cases(found)) == sorted([*expected, "1-2"])
    assert len({pair.patient for pair in found.pairs}) == 2
    days = {"1-2": 154, "1-3": 422, "2-3": 268}
    for pair in found.pairs:
        assert (pair.align, pair.fixed.series, pair.fixed.slices) == ("world", "", 40)
        if pair.fixed.path.name == "a":
            numbers = pair.fixed.path.parts[-3], pair.moving.path.parts[-3]
            assert pair.days == days["-".join(numbers)]
            assert pair.case.endswith("-".join(numbers))


def test_a_follow_up_is_paired_with_the_latest_prior_of_its_region(tmp_path: Path) -> None:
    for study, part, slices in ((1, "CHEST", 60), (2, "HEAD", 60), (3, "THORAX", 60)):
        write(tmp_path / f"{study}", scan(slices), study=study, BodyPartExamined=part)
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-3"]
    assert "2||with exam 1: other parts of the body (CHEST and HEAD)" in reasons(found)


@pytest.mark.parametrize(
    ("z_mm", "slices", "align"),
    [(-310, 40, "world"), (-210, 40, "world"), (-150, 40, "centers"), (900, 24, "centers")],
)
def test_scans_apart_are_laid_centre_on_centre(
    z_mm: float, slices: int, align: str, tmp_path: Path
) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", scan(slices, z_mm=z_mm), study=2)
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.align == align
    assert pair.in_common == pytest.approx({-310: 1.0, -210: 0.5}.get(int(z_mm), 1.0), abs=1e-6)


def test_scans_of_other_length_that_lie_apart_are_no_pair(tmp_path: Path) -> None:
    write(tmp_path / "a", scan(60))
    write(tmp_path / "b", scan(20, z_mm=700), study=2)
    found = find_pairs(tmp_path)
    assert not found.pairs
    assert "1||with exam 2: another region of the body: 0% of the shorter" in reasons(found)


def test_what_has_no_place_in_time_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a", study=1, StudyDate=None)
    write(tmp_path / "b", study=2)
    write(tmp_path / "c", study=3, StudyDate=None, AcquisitionDate=DAYS[2])
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2"]
    assert found.pairs[0].days == 268
    assert "||no date" in reasons(found)


def test_an_exam_begins_with_its_first_series(tmp_path: Path) -> None:
    for name, day in (("a", "20240110"), ("b", "20240112")):
        write(tmp_path / name, StudyDate=None, AcquisitionDate=day)
    write(tmp_path / "c", study=2, StudyDate="20240111")
    (pair,) = find_pairs(tmp_path).pairs
    assert (pair.days, pair.moving.path.name) == (1, "c")


def test_exams_of_one_time_are_no_follow_up(tmp_path: Path) -> None:
    write(tmp_path / "a", study=1, StudyTime="1015")
    write(tmp_path / "b", study=4, StudyTime="1015")
    assert "the same date and time" in reasons(find_pairs(tmp_path))
    write(tmp_path / "c", study=7, StudyTime="1630")
    assert [pair.days for pair in find_pairs(tmp_path).pairs] == [0]


def test_lone_exams_and_exams_of_nobody_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b" / "c", study=2, PatientID="", SeriesDescription="Sorrowful Annabel")
    found = find_pairs(tmp_path)
    assert not found.pairs
    assert "1||the patient's only exam" in reasons(found)
    assert "|b/c|no PatientID" in reasons(found)


def test_one_id_with_two_birth_dates_is_no_patient(tmp_path: Path) -> None:
    three_exams(tmp_path)
    write(tmp_path / "4", study=4, StudyDate="20250101", PatientBirthDate="19990101")
    found = find_pairs(tmp_path)
    assert not found.pairs
    assert reasons(found).count("several birth dates") == 4


# --- which series --------------------------------------------------------------------------------


def test_thin_soft_series_come_first(tmp_path: Path) -> None:
    for study in (1, 2):
        place = tmp_path / f"{study}"
        write(place / "a", scan(40, 5.0), study=study, SeriesDescription="thick")
        write(place / "b", scan(100, 2.0), study=study, SeriesDescription="thin")
        lung = {"ConvolutionKernel": "B70f", "SeriesDescription": "lung"}
        write(place / "c", scan(200, 1.0), study=study, **lung)
        unknown = {"ConvolutionKernel": "own", "SeriesDescription": "unknown"}
        write(place / "d", scan(200, 1.0), study=study, **unknown)
        localizer = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        write(place / "e", study=study, SeriesDescription="scanner", ImageType=localizer)
        write(place / "f", scan(8), study=study, SeriesDescription="few")
    found = find_pairs(tmp_path)
    (pair,) = found.pairs
    assert (pair.fixed.description, pair.moving.description) == ("thin", "thin")
    assert (pair.fixed.path.name, pair.fixed.slice_mm) == ("b", pytest.approx(2.0))
    for said in ("thick|thin is taken", "lung|thin is taken", "unknown|thin is taken"):
        assert f"1|{said}" in reasons(found)
    assert "2|scanner|a localizer" in reasons(found)
    assert "2|few|8 slices, expected at least 16" in reasons(found)


def test_a_series_of_the_region_is_taken_before_a_thinner_one(tmp_path: Path) -> None:
    write(tmp_path / "a" / "thorax", scan(80, 2.5, z_mm=0), SeriesDescription="thorax")
    write(tmp_path / "b" / "thorax", scan(40, 5, z_mm=0), study=2, SeriesDescription="thorax")
    write(tmp_path / "b" / "pelvis", scan(200, 1, z_mm=-900), study=2, SeriesDescription="pelvis")
    (pair,) = find_pairs(tmp_path).pairs
    assert (pair.moving.description, pair.align) == ("thorax", "world")


def test_the_same_reconstruction_is_taken_of_both(tmp_path: Path) -> None:
    for name, study in (("arterial", 1), ("venous", 1), ("venous", 2)):
        write(tmp_path / f"{study}" / name, study=study, SeriesDescription=name)
    (pair,) = find_pairs(tmp_path).pairs
    assert pair.fixed.description == pair.moving.description == "venous"


def test_a_series_that_cannot_be_read_gives_way(tmp_path: Path) -> None:
    three_exams(tmp_path)
    thin = scan(100, 2.0)
    write(tmp_path / "1" / "thin", thin, SeriesDescription="thin")
    (tmp_path / "1" / "thin" / "050.dcm").unlink()
    write(tmp_path / "2" / "thin", thin, study=2, SeriesDescription="thin")
    (tmp_path / "2" / "thin" / "050.dcm").write_bytes(b"cut")
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2", "2-3"]
    assert {pair.fixed.slices for pair in found.pairs} == {40}
    assert "1|thin|slices lie" in reasons(found) or "slices are missing" in reasons(found)
    assert "2|thin|beside its slices lies 050.dcm: not a DICOM file" in reasons(found)


def test_other_views_and_reformats_are_left_out(tmp_path: Path) -> None:
    three_exams(tmp_path)
    coronal = scan(100, 1.0)
    coronal.SetDirection((1, 0, 0, 0, 0, 1, 0, -1, 0))
    write(tmp_path / "1" / "cor", coronal, SeriesDescription="cor")
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2", "2-3"]
    assert "1|cor|coronal or sagittal slices" in reasons(found)


# --- how it is read ------------------------------------------------------------------------------


def test_every_pair_can_be_read_as_it_is_written(tmp_path: Path) -> None:
    """Series that share a folder, acquisitions in one series, frames in one file, turned slices."""
    shared, ids = tmp_path / "flat", {}
    shared.mkdir()
    for name, kernel in (("soft", "B30f"), ("bone", "B60f")):
        ids[name] = write(tmp_path / name, scan(50, 4.0), ConvolutionKernel=kernel)
        for file in (tmp_path / name).iterdir():
            file.rename(shared / f"{name}{file.name}")
    phases = tmp_path / "phases"
    for n in (1, 2):
        same = {"study": 2, "series": 5, "AcquisitionNumber": str(n)}
        write(phases / f"{n}", scan(40 + 10 * (n - 1), 4.0, turned=True), **same, SOPInstanceUID="")
    frames = tmp_path / "frames.dcm"
    image = scan(45, 4.0)

    def third(dataset: made.Dataset) -> None:
        dataset.PatientID, dataset.PatientName = made_exams.PATIENT, made_exams.NAME
        dataset.StudyDate = DAYS[2]

    made.write_enhanced(image, frames, change_file=third)
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2", "2-3"]
    first, second = found.pairs
    assert (first.fixed.path, first.fixed.series) == (shared, ids["soft"])
    assert (first.moving.path, first.moving.series) == (phases, "#2")
    assert (second.moving.path, second.moving.series) == (frames, "")
    for side in (first.fixed, first.moving, second.moving):
        read = read_volume(side.path, side.series or None)
        assert (read.GetDepth(), read.GetSpacing()[2]) == (
            side.slices,
            pytest.approx(side.slice_mm),
        )


def test_one_of_several_copies_is_taken(tmp_path: Path) -> None:
    three_exams(tmp_path)
    shutil.copytree(tmp_path / "2", tmp_path / "copy of 2")
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2", "2-3"]
    place = found.pairs[0].moving.path
    assert read_volume(place).GetDepth() == 40
    assert "40 files are copies of others; those in 2/DICOM/a are taken" in reasons(found)
    for file in (tmp_path / "copy of 2" / "DICOM" / "a").iterdir():
        file.rename(tmp_path / "2" / "DICOM" / "a" / f"copy of {file.name}")
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-3"]
    assert "40 of its 80 files are copies of others" in reasons(found)


def test_a_damaged_copy_gives_way_to_a_whole_one(tmp_path: Path) -> None:
    three_exams(tmp_path)
    shutil.copytree(tmp_path / "2", tmp_path / "copy of 2")
    (tmp_path / "2" / "DICOM" / "a" / "020.dcm").write_bytes(b"cut")
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2", "2-3"]
    assert read_volume(found.pairs[0].moving.path).GetDepth() == 40


def test_a_path_that_no_csv_file_can_hold_is_left_out(tmp_path: Path) -> None:
    three_exams(tmp_path)
    write(tmp_path / "2" / "a\nb", scan(60, 4.0), study=2, SeriesDescription="odd")
    write(tmp_path / os.fsdecode(b"\xff"), scan(60, 4.0), study=2, SeriesDescription="bytes")
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2", "2-3"]
    assert reasons(found).count("its path holds what a CSV file cannot") == 2
    write_pairs(found, tmp_path / "pairs.csv")


def test_a_dicomdir_and_an_unreadable_folder_are_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_exams(tmp_path)
    for file in tmp_path.rglob("*.dcm"):
        file.rename(file.with_name(f"I{file.stem}"))
    for folder in sorted(tmp_path.glob("[123]/DICOM/a")):
        folder.rename(folder.with_name("A"))
    made.write_directory(tmp_path)
    (tmp_path / "closed").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"junk" * 30)
    real = Path.iterdir

    def iterdir(folder: Path):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    found = find_pairs(tmp_path)
    assert cases(found) == ["1-2", "2-3"]
    assert "|closed|cannot be read (Permission denied)" in reasons(found)
    assert "|odd/x.dcm|" in reasons(found)


# --- nobody is named -----------------------------------------------------------------------------


def written(found: FoundPairs, out: Path) -> str:
    write_pairs(found, out, overwrite=True)
    return "".join(file.read_text("utf-8") for file in pairs_files(out, overwrite=True))


def test_nothing_that_is_written_tells_who_it_is(tmp_path: Path) -> None:
    said = "Thorax SORROWFUL,annabel PID-4711 *12.03.1948 2024-01-10 B30f"
    for study in (1, 2, 3):
        place = tmp_path / "in" / f"{study}"
        write(place / "a", study=study, SeriesDescription=said)
        write(place / "b", scan(8), study=study, SeriesDescription=said)
        write(place / "c", scan(30), study=study, SeriesDescription=said)
        write(place / "d", study=study, SeriesDescription=said, PatientID="", StudyDate="")
    (tmp_path / "in" / "1" / "c" / "003.dcm").write_bytes(b"")
    text = written(find_pairs(tmp_path / "in", which="all"), tmp_path / "out.csv")
    assert "Thorax" in text
    assert "7f46721c-1-3" in text
    for secret in SECRETS:
        assert secret.casefold() not in text.casefold()
    assert made_exams.ROOT not in text  # a UID tells it, too, and none is needed here


def test_ids_are_kept_if_wanted(tmp_path: Path) -> None:
    three_exams(tmp_path, PatientID="PID 4711/a")
    three_exams(tmp_path / "other", PatientID="PID_4711_a")
    found = find_pairs(tmp_path, keep_ids=True)
    assert {pair.patient for pair in found.pairs} == {"PID 4711/a", "PID_4711_a"}
    assert len({pair.case for pair in found.pairs}) == 4
    assert all(pair.case.startswith("PID_4711_a-") for pair in found.pairs)


def test_it_is_said_that_paths_tell_who_it_is(tmp_path: Path) -> None:
    three_exams(tmp_path / "a")
    assert find_pairs(tmp_path).notes == []
    (tmp_path / "a").rename(tmp_path / "sorrowful_annabel")
    assert "called after 1 of 1 patients" in find_pairs(tmp_path).notes[0]


# --- files ---------------------------------------------------------------------------------------


def write_file(path: Path, image: sitk.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize(
    ("exams", "days"),
    [(("20231230", "20240102", "20240301"), [3, 59]), (("9", "10", "100"), [None, None])],
)
def test_files_are_paired_by_their_names(
    exams: tuple[str, ...], days: list[int | None], tmp_path: Path
) -> None:
    for exam in exams:
        write_file(tmp_path / "P-1_x" / f"P-1_x_{exam}_ct.nii.gz", scan(turned=True))
    write_file(tmp_path / "P-1_x" / f"P-2_{exams[0]}_ct.nii.gz", scan())  # of another patient
    write_file(tmp_path / "P-1_x" / "P-1_x_base_ct.nii.gz", scan())
    found = find_pairs(tmp_path, "{patient}/{patient}_{exam}_*.nii.gz")
    assert cases(found) == ["1-2", "2-3"]
    assert [pair.days for pair in found.pairs] == days
    assert [pair.fixed.path.name.split("_")[2] for pair in found.pairs] == list(exams[:2])
    assert {pair.align for pair in found.pairs} == {"world"}
    assert "'base' is neither a date" in reasons(found)
    assert "P-1" not in "".join(pair.case for pair in found.pairs)
    assert "called after 1 of 1" in found.notes[0]


def test_damaged_and_short_files_are_left_out(tmp_path: Path) -> None:
    for exam in ("1", "2"):
        write_file(tmp_path / "a" / f"{exam}.nii.gz", scan())
    write_file(tmp_path / "a" / "3.nii.gz", scan(10))
    (tmp_path / "a" / "4.nii.gz").write_bytes(b"cut")
    found = find_pairs(tmp_path, "{patient}/{exam}.nii.gz", keep_ids=True)
    assert [pair.case for pair in found.pairs] == ["a-1-2"]
    assert "3|3.nii.gz|10 slices along the body, expected at least 16" in reasons(found)
    assert "4|4.nii.gz|" in reasons(found)


@pytest.mark.parametrize("pattern", ["{patient}.nii", "{exam}.nii", "{patient}_{exam}_{kind}.nii"])
def test_patterns_that_cannot_be_right_are_refused(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="pattern: expected"):
        find_pairs(tmp_path, pattern)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no DICOM")
    with pytest.raises(LandmarkDirError, match=r"say with --pattern .* '{patient}/{exam}_ct"):
        find_pairs(tmp_path)
    with pytest.raises(LandmarkDirError, match="fits the pattern"):
        find_pairs(tmp_path, "{patient}/{exam}.nii")
    with pytest.raises(LandmarkDirError, match="found no such one"):
        find_pairs(tmp_path / "none")
    with pytest.raises(BadArgument, match="consecutive, first, all"):
        find_pairs(tmp_path, which="last")


# --- the CSV file --------------------------------------------------------------------------------


def test_paths_are_relative_where_that_is_near(tmp_path: Path) -> None:
    three_exams(tmp_path / "data" / "in")
    found = find_pairs(tmp_path / "data" / "in")
    for out, expected in (
        ("data/in/pairs.csv", "1/DICOM/a"),
        ("lists/pairs.csv", "../data/in/1/DICOM/a"),
        ("far/away/from/it.csv", str(tmp_path / "data/in/1/DICOM/a")),
    ):
        write_pairs(found, tmp_path / out)
        with (tmp_path / out).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == COLUMNS
        assert rows[0]["fixed"] == expected
        assert (tmp_path / out).parent.joinpath(rows[0]["fixed"]).is_dir()
        assert (rows[0]["days"], rows[0]["in_common"], rows[0]["fixed_slice_mm"]) == (
            *("154", f"{found.pairs[0].in_common:.2f}"),
            "5",
        )


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    three_exams(tmp_path)
    found = find_pairs(tmp_path)
    out = tmp_path / "pairs.csv"
    (tmp_path / "pairs.left-out.csv").write_text("mine")
    with pytest.raises(BadRunFolder, match="pairs.left-out.csv exists already"):
        write_pairs(found, out)
    assert not out.exists()
    write_pairs(found, out, overwrite=True)
    assert out.is_file()
    with pytest.raises(BadArgument, match=r"ends in \.csv"):
        write_pairs(found, tmp_path / "pairs.txt")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BadRunFolder, match="is a folder"):
        write_pairs(found, tmp_path / "folder.csv", overwrite=True)


# --- the place of a scan -------------------------------------------------------------------------


def boxed(image: sitk.Image):
    grid = image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    return volume_of(*grid)


def test_a_box_fills_the_place_of_its_scan() -> None:
    image, other = scan(100, 2.0, turned=True), scan(70, 2.2, z_mm=-280.0)
    box = boxed(image).box
    assert box.GetNumberOfPixels() <= 32**3
    outer = [
        one.TransformContinuousIndexToPhysicalPoint(
            [k * n - 0.5 for k, n in zip(end, size, strict=True)]
        )
        for one, size in ((image, image.GetSize()), (box, box.GetSize()))
        for end in np.ndindex(2, 2, 2)
    ]
    np.testing.assert_allclose(outer[:8], outer[8:], atol=1e-9)
    # what a registration asks of the volumes, asked of their boxes
    for pair in ((image, other), (other, image)):
        assert overlap_fraction(*(boxed(one).box for one in pair)) == pytest.approx(
            overlap_fraction(*pair), abs=1e-9
        )


def test_a_turned_scan_reaches_as_far_as_its_middle() -> None:
    upright, turned = boxed(scan()), boxed(scan(turned=True))
    assert span_mm(upright.box) == pytest.approx((-312.5, -112.5))  # half a slice around centres
    image = scan(turned=True)
    z = [image.TransformContinuousIndexToPhysicalPoint((5.5, 4.5, k))[2] for k in (-0.5, 39.5)]
    assert span_mm(turned.box) == pytest.approx(z)
    assert corners(turned.box)[:, 2].min() < z[0]
    assert share_in_common(upright, turned) == share_in_common(turned, upright)
    below = boxed(scan(20, z_mm=-260.0))
    assert share_in_common(upright, below) == pytest.approx(1.0)
    assert share_in_common(upright, boxed(scan(20, z_mm=-362.5))) == pytest.approx(0.475)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ("CHEST", "THORAX", False),
        ("CHEST", "CHESTABDOMEN", False),
        ("CHEST_TO_PELVIS", "ABDOMEN", False),
        ("ABDOMEN", "CHESTABDPELVIS", False),
        ("LIVER", "ABDOMEN", False),
        ("", "HEAD", False),
        ("HEAD", "CHEST", True),
        ("ABDOMEN", "THORAX", True),
        ("KNEE", "CHEST", True),
    ],
)
def test_body_parts(one: str, other: str, apart: bool) -> None:
    assert other_parts(one, other) is apart
    assert other_parts(other, one) is apart
