"""Whether two scans show the same region of the body, and how to lay one over the other."""

import re

import numpy as np
import SimpleITK as sitk

from landmark_dir.geometry import centre, index_to_mm
from landmark_dir.io.volumes import overlap_fraction
from landmark_dir.registration.inputs import MIN_OVERLAP
from landmark_dir.study.finding.exams import Volume

MIN_IN_COMMON = 0.3  # of the shorter scan; chest and abdomen scans share less at the diaphragm
MIN_ALIKE = 0.5  # shorter / longer; a half that lies anywhere in the whole is off by a quarter

# what BodyPartExamined calls head, neck, chest, abdomen, pelvis; other names tell nothing
REGIONS = (
    "HEAD|BRAIN|SKULL|SINUS|ORBIT|KOPF",
    "NECK|CSPINE|HALS",
    "CHEST|THORAX|LUNG|HEART|CARDIAC|TSPINE|CAP|TAP",
    "ABD|LIVER|KIDNEY|PANCREAS|COLON|LSPINE|CAP|TAP",
    "PELV|BLADDER|PROSTATE|HIP|BECKEN|CAP|TAP",
)


def other_parts(one: str, other: str) -> bool:
    """Tell whether two BodyPartExamined have nothing in common; unknown ones may."""
    one, other = (re.sub(r"[^A-Z]", "", part.upper()) for part in (one, other))
    if not (one and other) or one in other or other in one:
        return False
    return not (_regions(one) & _regions(other))


def _regions(part: str) -> set[int]:
    """Return the regions that a name speaks of, and those between them."""
    named = [n for n, words in enumerate(REGIONS) if re.search(words, part)]
    return set(range(min(named), max(named) + 1)) if named else set()


def share_in_common(fixed: Volume, moving: Volume) -> float:
    """Share of the shorter scan that lies beside the other along the body axis, 0..1."""
    (low, high), (other_low, other_high) = span_mm(fixed.box), span_mm(moving.box)
    shorter = min(high - low, other_high - other_low)
    return max(0.0, min(high, other_high) - max(low, other_low)) / shorter


def in_world(fixed: Volume, moving: Volume) -> bool:
    """Tell whether a registration can start from where the scanners say that the scans lie."""
    return (
        share_in_common(fixed, moving) >= MIN_IN_COMMON
        and overlap_fraction(fixed.box, moving.box) >= MIN_OVERLAP
    )


def alike_in_length(fixed: Volume, moving: Volume) -> bool:
    """Tell whether the scans are long enough to lay centre on centre."""
    shorter, longer = sorted(high - low for low, high in (span_mm(v.box) for v in (fixed, moving)))
    return shorter / longer >= MIN_ALIKE


def span_mm(box: sitk.Image) -> tuple[float, float]:
    """Where a scan begins and ends along the body axis (z, LPS), at its middle, mm.

    Taken from the middle line of its slices: the corners of a turned scan reach further.
    """
    along = index_to_mm(box)[2]
    axis = int(np.abs(np.reshape(box.GetDirection(), (3, 3))[2]).argmax())
    half = abs(float(along[axis])) * box.GetSize()[axis] / 2
    middle = float(centre(box)[0, 2])
    return middle - half, middle + half
