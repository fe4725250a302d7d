"""What ITK says while it reads is heard, and only while it is listened to."""

import struct
from pathlib import Path

import pytest
import SimpleITK as sitk

from landmark_dir.io.itk_warnings import heard_from_itk
from landmark_dir.io.reading import Reading
from landmark_dir.io.volumes import read_volume, read_with_warnings


def warned_of_by_itk(image: sitk.Image, path: Path) -> Path:
    """Write a NIfTI with a pixdim that is not that of its sform."""
    sitk.WriteImage(image, str(path))
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 88, 7.0)
    path.write_bytes(content)
    return path


def test_warnings_are_heard_once_each(
    oblique_ct: sitk.Image, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = warned_of_by_itk(oblique_ct, tmp_path / "ct.nii")
    with heard_from_itk() as heard:
        sitk.ReadImage(str(path))
        sitk.ReadImage(str(path))
    assert heard == [f"ITK says: {path} has unexpected scales in sform"]
    assert "unexpected scales" not in capfd.readouterr().err
    sitk.ReadImage(str(path))
    assert len(heard) == 1
    assert "unexpected scales" in capfd.readouterr().err


def test_an_error_ends_the_listening(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), heard_from_itk() as heard:
        sitk.ReadImage(str(tmp_path / "none.nii"))
    assert heard == []


def test_warnings_of_itk_come_with_an_image_that_it_reads(
    oblique_ct: sitk.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = warned_of_by_itk(oblique_ct, tmp_path / "ct.nii")
    monkeypatch.setattr(
        "landmark_dir.io.volumes.read_series", lambda *_: Reading(sitk.ReadImage(str(path)))
    )
    warnings = read_with_warnings(tmp_path).warnings
    assert warnings == (f"ITK says: {path} has unexpected scales in sform",)
    assert read_volume(path).GetSpacing()[2] == pytest.approx(4.0)
