"""Structures written and read again, and what their files say to others."""

from pathlib import Path

import highdicom
import made_dicom as made
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_structures import FRAME, image_of, inside, series, structures
from numpy.testing import assert_allclose
from pydicom import uid

from landmark_dir.errors import BadArgument, BadStructures
from landmark_dir.geometry import index_to_physical
from landmark_dir.io.dicom import choose_series
from landmark_dir.io.dicom_files import quiet
from landmark_dir.io.dicom_headers import read_source
from landmark_dir.structures.reading import read_structures
from landmark_dir.structures.structure import Structure, cropped
from landmark_dir.structures.writing import grid_of, write_structures

DICOM = ("seg", "rtstruct")


def flipped(image: sitk.Image) -> sitk.Image:
    """The same scan with slices from head to feet, which turns its rows, too."""
    turned = sitk.Flip(image, (False, True, True))
    return sitk.Cast(turned, image.GetPixelID())


@pytest.mark.parametrize("name", ["x.seg.nrrd", "seg", "rtstruct"])
@pytest.mark.parametrize("turn", [lambda image: image, flipped], ids=["oblique", "flipped"])
def test_what_is_written_is_read_again(
    name: str, turn, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    """Voxel by voxel, with names, numbers and colours; the source is another way round."""
    given = structures(oblique_ct)
    source = series(turn(oblique_ct), tmp_path / "ct")
    kind = name if name in DICOM else None
    out = tmp_path / (f"{name}.dcm" if kind else name)
    write_structures(given, out, source if kind else grid_of(source), kind)
    found = read_structures(out, grid_of(source), source.frame_of_reference)
    assert [(one.name, one.number) for one in found] == [(one.name, one.number) for one in given]
    for one, want in zip(found, given, strict=True):
        assert_allclose(one.colour, want.colour, atol=4 if kind == "seg" else 0)  # CIELab, 16 bits
        assert np.array_equal(inside(one.mask, oblique_ct), inside(want.mask, oblique_ct))
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [out.name]


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nrrd", "x.mha"])
def test_a_label_map_has_numbers_and_no_overlap(
    name: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    given = structures(oblique_ct)
    write_structures([given[0], given[3]], tmp_path / name, oblique_ct)
    found = read_structures(tmp_path / name)
    assert [(one.name, one.number) for one in found] == [("label 1", 1), ("label 4", 4)]
    for one, want in zip(found, (given[0], given[3]), strict=True):
        assert np.array_equal(inside(one.mask, oblique_ct), inside(want.mask, oblique_ct))
    sitk.ReadImage(str(tmp_path / name))
    with pytest.raises(BadStructures, match="GTV Läsion 1 and liver overlap, and a label map"):
        write_structures(given, tmp_path / f"two{name}", oblique_ct)
    assert not (tmp_path / f"two{name}").exists()


def test_numbers_that_no_label_has_are_given_anew(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    given = structures(oblique_ct)
    twice = [Structure(one.name, 0, None, one.mask) for one in (given[0], given[3])]
    write_structures(twice, tmp_path / "x.nrrd", oblique_ct)
    assert [one.number for one in read_structures(tmp_path / "x.nrrd")] == [1, 2]


def test_segments_refer_to_the_images(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    source = series(oblique_ct, tmp_path / "ct")
    write_structures(structures(oblique_ct), tmp_path / "x.dcm", source, "seg")
    found = highdicom.seg.segread(tmp_path / "x.dcm")
    assert (found.Rows, found.Columns) == (20, 24)
    assert found.SegmentsOverlap == "YES"
    for frame in found.PerFrameFunctionalGroupsSequence:
        (derived,) = frame.DerivationImageSequence
        (image,) = derived.SourceImageSequence
        k = int(image.ReferencedSOPInstanceUID.rsplit(".", 1)[1]) - 1
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        assert_allclose(place, index_to_physical(oblique_ct, [(0, 0, k)])[0], atol=1e-4)  # mm


def test_contours_lie_on_the_images_they_name(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    source = series(oblique_ct, tmp_path / "ct")
    write_structures(structures(oblique_ct), tmp_path / "x.dcm", source, "rtstruct")
    found = pydicom.dcmread(tmp_path / "x.dcm")
    count = 0
    for roi in found.ROIContourSequence:
        for contour in roi.ContourSequence:
            (image,) = contour.ContourImageSequence
            k = int(image.ReferencedSOPInstanceUID.rsplit(".", 1)[1]) - 1
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints > 2
            index = [oblique_ct.TransformPhysicalPointToContinuousIndex(p) for p in points.tolist()]
            assert_allclose(np.array(index)[:, 2], k, atol=1e-4)  # slices
            halves = np.array(index)[:, :2] * 2
            assert_allclose(halves, np.rint(halves), atol=1e-3)
            count += 1
    assert count > 20


@pytest.mark.parametrize("kind", DICOM)
def test_the_object_belongs_to_the_exam(kind: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    """Patient, study and frame of reference are the source's, ids are new, nothing is private."""

    def changed(k: int, dataset: pydicom.Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Jörg"
        with quiet():
            dataset.PatientSex = "?"
        dataset.add_new((0x0011, 0x0010), "LO", "MAKER")
        dataset.add_new((0x0011, 0x1001), "LO", "secret")

    with quiet():
        made.write_series(oblique_ct, tmp_path / "ct", changed)
    source = read_source(choose_series(tmp_path / "ct", None), "ct")
    write_structures(structures(oblique_ct), tmp_path / "x.dcm", source, kind)
    found = pydicom.dcmread(tmp_path / "x.dcm")
    header = source.headers[0]
    for keyword in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "StudyDate"):
        with quiet():
            assert found[keyword].value == header[keyword].value
    assert found.FrameOfReferenceUID == FRAME
    assert found.SeriesInstanceUID != header.SeriesInstanceUID
    assert found.SOPInstanceUID == found.file_meta.MediaStorageSOPInstanceUID
    assert found.file_meta.MediaStorageSOPClassUID == found.SOPClassUID
    assert not [one for one in found.iterall() if one.tag.is_private]
    names = found.get("SegmentSequence") or found.StructureSetROISequence
    assert names[0].get("SegmentLabel", names[0].get("ROIName")) == "GTV Läsion 1"


@pytest.mark.parametrize("kind", DICOM)
def test_of_a_file_with_many_frames(kind: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    file = made.write_enhanced(oblique_ct, tmp_path / "ct.dcm")
    source = read_source(choose_series(file, None), "ct")
    given = structures(oblique_ct)
    write_structures(given, tmp_path / "x.dcm", source, kind)
    for one, want in zip(read_structures(tmp_path / "x.dcm", oblique_ct), given, strict=True):
        assert np.array_equal(inside(one.mask, oblique_ct), inside(want.mask, oblique_ct))


@pytest.mark.parametrize("kind", DICOM)
def test_of_a_tilted_series(kind: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    """Its grid is a right-angled box around the images; no slice of that is an image."""

    def tilted(k: int, dataset: pydicom.Dataset) -> None:
        step = np.reshape(oblique_ct.GetDirection(), (3, 3))[:, 1]
        made.moved(dataset, 0.9 * k * step)

    made.write_series(oblique_ct, tmp_path / "ct", tilted)
    source = read_source(choose_series(tmp_path / "ct", None), "ct")
    assert not source.stack.even
    grid = grid_of(source)
    given = structures(grid)
    write_structures(given, tmp_path / "x.dcm", source, kind)
    for one, want in zip(read_structures(tmp_path / "x.dcm", grid), given, strict=True):
        assert np.array_equal(inside(one.mask, grid), inside(want.mask, grid))


def test_a_structure_without_voxels_keeps_its_name(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    given = structures(oblique_ct)[:2]
    nothing = Structure("gone", 9, None, cropped(oblique_ct * 0))
    source = series(oblique_ct, tmp_path / "ct")
    for kind, names in (("seg", "SegmentSequence"), ("rtstruct", "StructureSetROISequence")):
        out = tmp_path / f"{kind}.dcm"
        write_structures([*given, nothing], out, source, kind)
        assert len(pydicom.dcmread(out)[names].value) == 3
        assert len(read_structures(out, oblique_ct)) == 2
    with pytest.raises(BadStructures, match="no voxel of the series lies in a structure"):
        write_structures([nothing], tmp_path / "none.dcm", source, "seg")
    assert not (tmp_path / "none.dcm").exists()


def test_a_contour_longer_than_explicit_vr_has_room_for(tmp_path: Path) -> None:
    """A comb with many teeth."""
    comb = np.zeros((4, 40, 1700), bool)
    comb[1:3, 10:30, 10:1690:4] = comb[1:3, 10:12, 10:1690] = True
    image = sitk.Cast(image_of(comb, sitk.Image(1700, 40, 4, sitk.sitkInt16)), sitk.sitkInt16)
    source = series(image, tmp_path / "ct")
    write_structures(
        [Structure("comb", 1, None, cropped(image))], tmp_path / "x.dcm", source, "rtstruct"
    )
    found = pydicom.dcmread(tmp_path / "x.dcm")
    assert found.file_meta.TransferSyntaxUID == uid.ImplicitVRLittleEndian
    longest = found.ROIContourSequence[0].ContourSequence[0].ContourData
    assert len("\\".join(str(value) for value in longest)) > 2**16  # bytes
    (read,) = read_structures(tmp_path / "x.dcm", image)
    assert np.array_equal(inside(read.mask, image), comb)


def test_kinds_and_suffixes(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    given = structures(oblique_ct)
    for name, kind, said in (
        ("x.dcm", None, "say what it is to be with --as: seg or rtstruct"),
        ("x.dcm", "labels", "say what it is to be"),
        ("x.nrrd", "seg", "expected a name that ends in .dcm for --as seg"),
        ("x.png", None, "unknown suffix, expected one of .nii, .nii.gz, .mha, .nrrd, .dcm"),
    ):
        with pytest.raises(BadArgument, match=said):
            write_structures(given, tmp_path / name, oblique_ct, kind)
    with pytest.raises(BadStructures, match="needs the DICOM series that it is of"):
        write_structures(given, tmp_path / "x.dcm", oblique_ct, "seg")
    assert not list(tmp_path.iterdir())
