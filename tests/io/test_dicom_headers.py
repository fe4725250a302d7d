"""Headers of a series in order, and new objects of the same exam."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import made_dicom as made
import pydicom
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose
from pydicom import uid
from pydicom.dataset import Dataset

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import corners
from landmark_dir.io.dicom import choose_series
from landmark_dir.io.dicom_files import quiet
from landmark_dir.io.dicom_headers import (
    SourceSeries,
    new_object,
    read_source,
    refer_to,
    set_frame_of_reference,
    write_object,
)
from landmark_dir.io.volumes import read_volume


def source_of(folder: Path) -> SourceSeries:
    return read_source(choose_series(folder, None), str(folder))


def test_headers_lie_in_the_order_of_the_slices_without_pixels(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def shuffled(k: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = (5 * k) % 12 + 1

    made.write_series(oblique_ct, tmp_path, shuffled, name="{:03d}")
    for k in range(6):  # the names tell nothing, either
        first, last = tmp_path / f"{k:03d}", tmp_path / f"{11 - k:03d}"
        (first.rename(tmp_path / "x"), last.rename(first), (tmp_path / "x").rename(last))
    found = source_of(tmp_path)
    want = [f"{made.SERIES}.{k + 1}" for k in range(12)]
    assert [header.SOPInstanceUID for header in found.headers] == want
    assert not any("PixelData" in header for header in found.headers)
    assert (found.study, found.frame_of_reference) == (f"{made.SERIES}.9", f"{made.SERIES}.8")


def test_corners_are_those_of_the_image(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path)
    assert_allclose(source_of(tmp_path).corners, corners(read_volume(tmp_path)), atol=1e-9)


def test_a_file_of_many_frames_is_one_header(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_enhanced(oblique_ct, tmp_path / "ct.dcm")
    found = source_of(tmp_path / "ct.dcm")
    assert len(found.headers) == 1
    assert len(found.stack.planes) == 12


def test_an_acquisition_is_chosen(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def later(_: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = 2
        dataset.SOPInstanceUID += ".7"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID

    made.write_series(oblique_ct, tmp_path)
    made.write_series(oblique_ct, tmp_path, later, name="later{:03d}.dcm")
    series = choose_series(tmp_path, None)
    ids = [header.SOPInstanceUID for header in read_source(series, "it", 2).headers]
    assert ids == [f"{made.SERIES}.{k + 1}.7" for k in range(12)]
    with pytest.raises(BadVolume, match="2 acquisitions"):
        read_source(series, "it")


def test_a_series_that_cannot_be_referred_to_is_refused(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def without(_: int, dataset: Dataset) -> None:
        del dataset.FrameOfReferenceUID

    made.write_series(oblique_ct, tmp_path, without)
    with pytest.raises(BadVolume, match="no FrameOfReferenceUID"):
        source_of(tmp_path)


def test_a_new_object_belongs_to_the_exam_and_is_new(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def tagged(_: int, dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Änne"
        dataset.PatientBirthDate = "19480312"
        dataset.AccessionNumber = "A 1"
        dataset.TimezoneOffsetFromUTC = "-0930"
        other = made.item(PatientID="elsewhere")
        other.private_block(0x0099, "somebody", create=True).add_new(1, "LO", "secret")
        dataset.OtherPatientIDsSequence = [other]
        dataset.private_block(0x0099, "somebody", create=True).add_new(1, "LO", "secret")
        dataset.WindowCenter = 40

    made.write_series(oblique_ct, tmp_path / "ct", tagged)
    source = source_of(tmp_path / "ct")
    first = new_object(source.headers[0], uid.SpatialRegistrationStorage, "REG", "a registration")
    set_frame_of_reference(first, source.headers[0])
    refer_to(first, [source])
    write_object(first, tmp_path / "new.dcm")
    assert b"secret" not in (tmp_path / "new.dcm").read_bytes()
    again = pydicom.dcmread(tmp_path / "new.dcm")  # without force: it has its preamble
    assert again.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert again.PatientName == "Müller^Änne"
    assert again.OtherPatientIDsSequence[0].PatientID == "elsewhere"
    copied = ("PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber")
    for keyword in (*copied, "FrameOfReferenceUID"):
        assert again[keyword].value == source.headers[0][keyword].value
    for keyword in (
        "PatientSex",
        "ReferringPhysicianName",
        "StudyID",
        "PositionReferenceIndicator",
    ):
        assert again[keyword].is_empty  # type 2
    assert "WindowCenter" not in again
    assert again.SeriesInstanceUID not in (source.series.id, again.SOPInstanceUID)
    second = new_object(source.headers[0], again.SOPClassUID, "REG", "")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert re.fullmatch(r"2\.25\.[1-9][0-9]*", again[keyword].value)
        assert again[keyword].value != second[keyword].value
    (listed,) = again.ReferencedSeriesSequence
    assert len(listed.ReferencedInstanceSequence) == 12
    assert "StudiesContainingOtherReferencedInstancesSequence" not in again


def test_the_time_is_that_of_the_zone_of_the_exam() -> None:
    header = made.item(StudyInstanceUID="1.2")
    times = []
    for zone in ("-0930", "+1400"):
        header.TimezoneOffsetFromUTC = zone
        new = new_object(header, uid.SpatialRegistrationStorage, "REG", "")
        times.append(datetime.strptime(new.ContentDate + new.ContentTime, "%Y%m%d%H%M%S"))
    apart = times[1] - times[0] - timedelta(hours=23, minutes=30)
    assert abs(apart.total_seconds()) < 60


def test_values_that_break_a_rule_of_form_are_copied_as_they_are(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def odd(_: int, dataset: Dataset) -> None:
        dataset.StudyDate = "2020.02.28"  # as before DICOM 3
        dataset.PatientID = "x" * 80
        dataset.PatientAge = "54"
        dataset.TimezoneOffsetFromUTC = "Berlin"

    with quiet():
        made.write_series(oblique_ct, tmp_path / "ct", odd)
    source = source_of(tmp_path / "ct")
    new = new_object(source.headers[0], uid.SpatialRegistrationStorage, "REG", "a registration")
    write_object(new, tmp_path / "new.dcm")
    again = pydicom.dcmread(tmp_path / "new.dcm")
    with quiet():
        assert (again.PatientID, again.StudyDate) == ("x" * 80, "2020.02.28")


def test_two_studies_are_listed_apart(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path / "a")
    made.write_series(oblique_ct, tmp_path / "b", series=f"{made.SERIES}.22")
    one, other = source_of(tmp_path / "a"), source_of(tmp_path / "b")
    new = new_object(one.headers[0], uid.SpatialRegistrationStorage, "REG", "")
    refer_to(new, [one, other])
    assert [item.SeriesInstanceUID for item in new.ReferencedSeriesSequence] == [made.SERIES]
    (study,) = new.StudiesContainingOtherReferencedInstancesSequence
    assert study.StudyInstanceUID == other.study
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == other.series.id
