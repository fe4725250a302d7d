"""Names of structures in DICOM objects."""

from collections.abc import Iterable

from pydicom.dataset import Dataset

from landmark_dir.structures.structure import Structure

DESCRIPTION = "structures carried by landmark_dir"  # of a series
LONGEST = 64  # characters of a label or a name: VR LO
UNICODE = "ISO_IR 192"


def label_text(structure: Structure) -> str:
    """The name of a structure as DICOM may have it."""
    return " ".join(structure.name.replace("\\", "/").split())[:LONGEST]


def in_unicode(made: Dataset, names: Iterable[str]) -> None:
    """Let an object have names in any letters."""
    if not all(name.isascii() for name in names):
        made.SpecificCharacterSet = UNICODE
