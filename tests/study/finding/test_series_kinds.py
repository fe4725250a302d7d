"""What the tags of a series tell of its kind, and what is written of a patient."""

import re

import pytest

from landmark_dir.io.dicom_series import Header
from landmark_dir.study.cases import folder_name
from landmark_dir.study.finding import anonymous
from landmark_dir.study.finding.exams import SHARP, SOFT, UNKNOWN
from landmark_dir.study.finding.series_kinds import sharpness, why_no_scan

NOTHING = dict.fromkeys(Header._fields, "")


@pytest.mark.parametrize(
    ("kernel", "description", "expected"),
    [
        ("B30f", "", SOFT),
        ("I31f\\3", "", SOFT),
        ("Br40d\\3", "Lunge 1.0", SOFT),  # the kernel, not what is looked at
        ("Bf39", "", SOFT),
        ("B60f", "", SHARP),
        ("I70f\\3", "", SHARP),
        ("Br64d", "Abdomen soft", SHARP),
        ("Bl57d", "", SHARP),
        ("STANDARD", "", SOFT),
        ("LUNG", "", SHARP),
        ("BONEPLUS", "", SHARP),
        ("FC08", "", SOFT),
        ("FC51", "", SHARP),
        ("B", "", SOFT),
        ("L", "", SHARP),
        ("own", "", UNKNOWN),
        ("", "Thorax 1.0 B70f", SHARP),
        ("", "Thorax 1.0  Br36", SOFT),
        ("", "CHEST_LUNG_1.25", SHARP),
        ("", "Abdomen 5mm", UNKNOWN),
        ("", "Th12 to L 4, plan B", UNKNOWN),
    ],
)
def test_sharp_and_soft_kernels(kernel: str, description: str, expected: int) -> None:
    said = NOTHING | {"ConvolutionKernel": kernel, "SeriesDescription": description}
    assert sharpness(Header(**said)) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"Modality": "MR"}, "modality MR"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, "a localizer"),
        ({"SeriesDescription": "Topogram  0.6  T20s"}, "a localizer"),
        ({"SeriesDescription": "THIN_MIP_cor"}, "a projection"),
        ({"ImageType": "DERIVED\\SECONDARY\\PROJECTION IMAGE"}, "a projection"),
        ({"SeriesDescription": "Patient Protocol"}, "protocol sheet"),
        ({"SeriesDescription": "Dose Report"}, "dose"),
        ({"SeriesDescription": "PreMonitoring"}, "a bolus test"),
        ({"SeriesDescription": "Low Dose Chest 1.0"}, None),
        ({"SeriesDescription": "Trauma protocol, optimip 1.0"}, None),
        ({"ImageType": "DERIVED\\SECONDARY\\AXIAL"}, None),
    ],
)
def test_series_that_are_no_scan_of_the_body(tags: dict[str, str], expected: str | None) -> None:
    why = why_no_scan(Header(**(NOTHING | {"Modality": "CT"} | tags)))
    assert why is None if expected is None else expected in str(why)


def test_hashes_are_as_long_as_tells_patients_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"P{n}" for n in range(40)]
    assert {len(label) for label in anonymous.labels(ids, False).values()} == {8}
    monkeypatch.setattr(anonymous, "SHORTEST_HASH", 1)
    found = anonymous.labels(ids, False)
    assert len(set(found.values())) == 40
    assert 2 <= len(found["P0"]) <= 4


@pytest.mark.parametrize("label", ["a b/c", "Ü.", "-", "..", "=1+1", "x" * 20])
def test_a_case_has_a_name_and_a_folder_of_its_own(label: str) -> None:
    names = anonymous.case_names({"one": label, "other": label.upper()})
    assert all(re.fullmatch(r"\w([\w.-]*\w)?", name) for name in names.values())
    assert len({folder_name(f"{name}-1-2").lower() for name in names.values()}) == 2


def test_what_tells_who_it_is_goes() -> None:
    private = anonymous.private_words("X12", "Li^Ann=Other^Way", "19500102")
    assert anonymous.without("LI liver\tAnnual 2 X12 5/2/1950 b 19500102\n1.25", private) == (
        "liver ual 2 b 1.25"
    )
    assert not anonymous.tells_who("/data/liver/02", private)
    assert anonymous.tells_who("/data/li_02", private)
