"""Dice, surface distance and volume of label maps on a rotated, anisotropic grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.evaluation.overlap import check_label_map, dice, overlaps, present


def labels_like(image: sitk.Image, values: NDArray[np.integer]) -> sitk.Image:
    labels = sitk.GetImageFromArray(values.astype(np.uint16))
    labels.CopyInformation(image)
    return labels


def blob(image: sitk.Image, centre_zyx: tuple[float, ...], radius_mm: float) -> sitk.Image:
    """A bumpy ball of label 3."""
    z, y, x = np.indices(image.GetSize()[::-1])
    steps = [i - c for i, c in zip((z, y, x), centre_zyx, strict=True)]
    far = np.sqrt(sum((s * mm) ** 2 for s, mm in zip(steps, (4.0, 2.0, 1.5), strict=True)))
    return labels_like(image, 3 * (far < radius_mm + 2 * np.sin(x + y)))


def hd95_by_distance_maps(one: sitk.Image, other: sitk.Image) -> float:
    """The same from ITK's contours and exact distance maps."""
    contours = [sitk.LabelContour(sitk.Cast(image > 0, sitk.sitkUInt8)) for image in (one, other)]
    directed = []
    for of, to in (contours, contours[::-1]):
        far = sitk.SignedMaurerDistanceMap(to, squaredDistance=False, useImageSpacing=True)
        at = sitk.GetArrayFromImage(of) > 0
        directed.append(np.percentile(np.abs(sitk.GetArrayFromImage(far)[at]), 95))
    return float(max(directed))


def test_two_voxels_three_slices_apart(oblique_ct: sitk.Image) -> None:
    values = np.zeros((2, 12, 20, 24), dtype=int)
    values[0, 4, 10, 11] = values[1, 7, 10, 11] = 5
    found = overlaps(*(labels_like(oblique_ct, v) for v in values), [5])[5]
    assert found.dice == 0
    assert found.hd95_mm == pytest.approx(12.0)  # 3 slices of 4 mm
    assert found.fixed_ml == found.warped_ml == pytest.approx(0.012)  # 1.5 x 2 x 4 mm


def test_the_surface_distance_is_the_one_of_distance_maps(oblique_ct: sitk.Image) -> None:
    one, other = blob(oblique_ct, (5.5, 9.5, 11.5), 9), blob(oblique_ct, (6, 10, 13), 12)
    found = overlaps(one, other, [3])[3]
    assert found.hd95_mm == pytest.approx(hd95_by_distance_maps(one, other), abs=1e-4)  # float32
    assert found.hd95_mm > 3
    assert overlaps(other, one, [3])[3].hd95_mm == found.hd95_mm
    assert found.dice == dice(one, other, 3)
    voxels = int((sitk.GetArrayViewFromImage(one) == 3).sum())
    assert found.fixed_ml == pytest.approx(voxels * 0.012)


def test_each_label_is_seen_alone(oblique_ct: sitk.Image) -> None:
    values = np.zeros((12, 20, 24), dtype=int)
    values[2:5], values[5:8, 4:9], values[8:] = 1, 7, 2
    fixed = labels_like(oblique_ct, values)
    shifted = labels_like(oblique_ct, np.roll(values, 1, axis=2))
    found = overlaps(fixed, shifted, [1, 2, 7])
    assert list(found) == [1, 2, 7]
    for label in found:
        assert found[label].dice == dice(fixed, shifted, label)
    assert overlaps(fixed, fixed, [7])[7][:2] == (1.0, 0.0)


def test_a_label_that_got_lost_has_no_surface(oblique_ct: sitk.Image) -> None:
    fixed, nothing = (
        blob(oblique_ct, (6, 10, 12), 8),
        labels_like(oblique_ct, np.zeros((12, 20, 24))),
    )
    lost = overlaps(fixed, nothing, [3, 4])
    assert (lost[3].dice, lost[3].warped_ml) == (0.0, 0.0)
    assert np.isnan(lost[3].hd95_mm)
    assert np.isnan(lost[4].dice)


def test_dice(oblique_ct: sitk.Image) -> None:
    labels = oblique_ct > 0
    assert dice(labels, labels, 1) == 1
    assert dice(labels, 1 - labels, 1) == 0
    assert np.isnan(dice(labels, labels, 7))


def test_what_is_no_label_map_of_the_image_is_refused(oblique_ct: sitk.Image) -> None:
    labels = blob(oblique_ct, (6, 10, 12), 8)
    assert present(check_label_map(labels, oblique_ct, "labels")) == {3}
    beside = sitk.Image(labels)
    beside.SetOrigin((np.array(labels.GetOrigin()) + [0.2, 0, 0]).tolist())  # mm; voxels are 1.5
    for wrong, said in (
        (beside, "resample it onto the image"),
        (oblique_ct, "is this an image?"),
        (labels * 0, "is 0 everywhere"),
    ):
        with pytest.raises(BadVolume, match="labels: .*" + said.replace("?", r"\?")):
            check_label_map(wrong, oblique_ct, "labels")
