"""Structures of every kind of file, told by content; written here apart from the package."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_structures import (
    FRAME,
    balls,
    circle,
    contour,
    image_of,
    inside,
    on_slice,
    write_rtstruct,
    write_seg,
    write_slicer,
)
from numpy.testing import assert_allclose

from landmark_dir.errors import BadStructures, BadVolume
from landmark_dir.structures.reading import read_structures


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.mha", "labels.nrrd"])
def test_a_label_map(name: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    first, _, last = balls(oblique_ct)
    sitk.WriteImage(image_of(first + 7 * last, oblique_ct), str(tmp_path / name))
    found = read_structures(tmp_path / name)
    assert [(one.name, one.number, one.colour) for one in found] == [
        ("label 1", 1, None),
        ("label 7", 7, None),
    ]
    for one, want in zip(found, (first, last), strict=True):
        assert np.array_equal(inside(one.mask, oblique_ct), want)
        assert one.mask.GetSize() != oblique_ct.GetSize()
        assert one.volume_ml == pytest.approx(want.sum() * 12 / 1000)  # 1.5 x 2 x 4 mm


def test_a_slicer_segmentation_in_layers(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    one, two, three = balls(oblique_ct)
    layers = np.stack([(one + 2 * three).T, two.T * 1])
    fields = {}
    for n, (name, layer, value) in enumerate((("GTV Laesion", 0, 1), ("organ", 1, 1), ("", 0, 2))):
        fields |= {
            f"Segment{n}_ID": f"Segment_{n + 1}",
            f"Segment{n}_Name": name,
            f"Segment{n}_Layer": str(layer),
            f"Segment{n}_LabelValue": str(value),
            f"Segment{n}_Color": "1 0.2 0.0",
        }
    file = write_slicer(tmp_path / "any.name", layers, oblique_ct, **fields)
    found = read_structures(file)
    assert [(one.name, one.number) for one in found] == [
        ("GTV Läsion", 1),
        ("organ", 2),
        ("Segment_3", 3),
    ]
    assert found[0].colour == (255, 51, 0)
    for structure, want in zip(found, (one, two, three), strict=True):
        assert np.array_equal(inside(structure.mask, oblique_ct), want)


def test_a_slicer_segmentation_keeps_its_label_values(
    oblique_ct: sitk.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ball = balls(oblique_ct)[0]
    fields = {"Segment0_Name": "a", "Segment0_LabelValue": "4", "Segment1_Name": "gone"}
    fields |= {"Segment1_LabelValue": "5", "Segment10_LabelValue": "6"}
    file = write_slicer(tmp_path / "s.seg.nrrd", (4 * ball).T, oblique_ct, **fields)
    (found,) = read_structures(file)
    assert (found.name, found.number, found.colour) == ("a", 4, None)
    assert "left out: gone: no voxel lies in it" in caplog.text


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_dicom_seg(kind: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    one, two, three = balls(oblique_ct)
    chosen = (one, three) if kind == "LABELMAP" else (one, two, three)  # that has no overlap
    file = write_seg(tmp_path / "x", np.stack(chosen, -1).astype(np.uint8), oblique_ct, kind)
    found = read_structures(file, frame_of_reference=FRAME)
    assert [one.name for one in found] == [f"ball {n}" for n in range(len(chosen))]
    assert [one.number for one in found] == [n + 1 for n in range(len(chosen))]
    assert_allclose([one.colour for one in found][1], (255, 60, 0), atol=2)  # CIELab rounds
    for structure, want in zip(found, chosen, strict=True):
        assert np.array_equal(inside(structure.mask, oblique_ct), want)


def test_a_fractional_seg_begins_at_a_half(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    ball = balls(oblique_ct)[0]
    share = np.where(ball, 0.6, 0.4)[..., None]
    file = write_seg(tmp_path / "x.dcm", share, oblique_ct, "FRACTIONAL")
    (found,) = read_structures(file)
    assert np.array_equal(inside(found.mask, oblique_ct), ball)


def test_frames_of_a_seg_in_any_order_and_few(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    """Frames shuffled; of one segment only two slices that are far apart, of another only one."""
    ball = np.zeros(balls(oblique_ct)[0].shape, bool)
    ball[2, 4:9, 5:12] = ball[9, 4:9, 5:12] = True
    slice_only = np.zeros_like(ball)
    slice_only[6, 3:5, 3:9] = True
    file = tmp_path / "x.dcm"
    write_seg(file, np.stack([ball, slice_only], -1).astype(np.uint8), oblique_ct, "FRACTIONAL")
    dataset = pydicom.dcmread(file)
    order = [2, 0, 1]
    dataset.PixelData = dataset.pixel_array[order].tobytes()
    groups = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [groups[n] for n in order]
    dataset.save_as(file)
    for structure, want in zip(read_structures(file), (ball, slice_only), strict=True):
        assert np.array_equal(inside(structure.mask, oblique_ct), want)


def test_one_slice_only(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    lesion = np.zeros(balls(oblique_ct)[0].shape, bool)
    lesion[6, 3:5, 3:9] = True
    file = write_seg(tmp_path / "x.dcm", lesion[..., None].astype(np.uint8), oblique_ct)
    (found,) = read_structures(file)
    assert np.array_equal(inside(found.mask, oblique_ct), lesion)


def test_an_rtstruct(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    """A tube with a hole by a nested contour, one by XOR, two islands a slice."""
    outer, inner = circle(13.1, (18, 20)), circle(5.1, (18, 20))
    islands = circle(3.1, (6, 10)), circle(4.1, (24, 30))
    slices = range(2, 8)
    tube = [contour(on_slice(oblique_ct, one, k)) for k in slices for one in (inner, outer)]
    xor = [
        contour(on_slice(oblique_ct, one, k), "CLOSEDPLANAR_XOR")
        for k in slices
        for one in (outer, inner)
    ]
    two = [contour(on_slice(oblique_ct, one, k)) for k in slices for one in islands]
    rois = [("Röhre ^1", tube), ("xor", xor), ("islands", two)]
    file = write_rtstruct(tmp_path / "rs", rois)
    found = read_structures(file, oblique_ct, FRAME)
    assert [(one.name, one.number, one.colour) for one in found] == [
        ("Röhre ^1", 5, (255, 0, 0)),
        ("xor", 6, (255, 9, 0)),
        ("islands", 7, (255, 18, 0)),
    ]
    x, y, z = oblique_ct.GetSize()
    places = np.moveaxis(np.indices((z, y, x)), 0, -1)[..., ::-1] * oblique_ct.GetSpacing()
    within = [
        np.hypot(places[..., 0] - a, places[..., 1] - b) < radius
        for a, b, radius in ((18, 20, 13.1), (18, 20, 5.1), (6, 10, 3.1), (24, 30, 4.1))
    ]
    level = np.isin(np.arange(z), slices)[:, None, None]
    want = [level & within[0] & ~within[1]] * 2 + [level & (within[2] | within[3])]
    for structure, mask in zip(found, want, strict=True):
        assert np.array_equal(inside(structure.mask, oblique_ct), mask)


def test_what_holds_no_volume_is_left_out_and_named(
    oblique_ct: sitk.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    point = contour(np.zeros((1, 3)), "POINT")
    disk = contour(on_slice(oblique_ct, circle(9.1, (18, 20)), 4))
    far = contour(on_slice(oblique_ct, circle(9.1, (900, 20)), 4))
    rois = [("iso", [point]), ("liver", [disk, point]), ("empty", []), ("couch", [far])]
    file = write_rtstruct(tmp_path / "rs.dcm", rois)
    (found,) = read_structures(tmp_path, oblique_ct)  # the only one in the folder
    assert found.name == "liver"
    for said in (
        "iso: no closed contour, only 1 POINT",
        "liver: contours that hold no area are left out: 1 POINT",
        "empty: no closed contour",
        "couch: no voxel of the scan lies in it",
    ):
        assert said in caplog.text
    write_rtstruct(file, [("iso", [point])])
    with pytest.raises(BadStructures, match="no structure with a volume on this scan\n  iso: no"):
        read_structures(file, oblique_ct)


def test_another_frame_of_reference_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    disk = contour(on_slice(oblique_ct, circle(9.1, (18, 20)), 4))
    file = write_rtstruct(tmp_path / "rs.dcm", [("liver", [disk])], frame="1.2.3")
    with pytest.raises(BadStructures, match=f"in frame of reference {FRAME}, found 1.2.3; give"):
        read_structures(file, oblique_ct, FRAME)
    assert read_structures(file, oblique_ct)  # not known
    seg = write_seg(tmp_path / "s", balls(oblique_ct)[0][..., None].astype(np.uint8), oblique_ct)
    with pytest.raises(BadStructures, match=f"in frame of reference 1.2.4, found {FRAME}; give"):
        read_structures(seg, frame_of_reference="1.2.4")


def test_what_cannot_be_read_is_said_in_one_sentence(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    disk = contour(on_slice(oblique_ct, circle(9.1, (18, 20)), 4))
    rtstruct = write_rtstruct(tmp_path / "rs.dcm", [("liver", [disk])])
    with pytest.raises(BadStructures, match="on the grid of a scan only; give the scan"):
        read_structures(rtstruct)
    sitk.WriteImage(oblique_ct * 0, str(tmp_path / "zero.nrrd"))
    with pytest.raises(BadStructures, match="every voxel is 0"):
        read_structures(tmp_path / "zero.nrrd")
    with pytest.raises(BadVolume, match="no such file"):
        read_structures(tmp_path / "none.nrrd")
    (tmp_path / "text.txt").write_text("liver")
    with pytest.raises(BadVolume, match="not a whole NIfTI, MHA, NRRD or DICOM image"):
        read_structures(tmp_path / "text.txt")
    seg = write_seg(
        tmp_path / "s.dcm", balls(oblique_ct)[0][..., None].astype(np.uint8), oblique_ct
    )
    with pytest.raises(BadStructures, match=r"2 SEG or RTSTRUCT files \(rs.dcm, s.dcm\); name one"):
        read_structures(tmp_path)
    for file in (seg, rtstruct):
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        with pytest.raises((BadStructures, BadVolume), match=f"{file}: .*(damaged|not a whole)"):
            read_structures(file, oblique_ct)
