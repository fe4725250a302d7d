"""What an exam is: the scans of one patient at one time, and where each lies in space."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

from landmark_dir.errors import BadVolume, LandmarkDirError
from landmark_dir.io.dicom_series import below, files_in

MIN_SLICES = 16  # fewer are a localizer, a bolus test or a biopsy step, no region of the body
BOX_VOXELS = 32  # along each axis; as finely as `overlap_fraction` looks
NO_CELL = re.compile(r"[\x00-\x1f\ud800-\udfff]")  # control characters, bytes that are no UTF-8
SOFT, UNKNOWN, SHARP = 0, 1, 2  # kernels, the best for registration first


class Volume(NamedTuple):
    """Where a scan lies, read from headers alone.

    Attributes
    ----------
    box : sitk.Image
        A few large voxels that fill the place of the scan's own.
    slices : int
        Along the body axis.
    series : str
        What `--fixed-series` has to say to read it from its path; empty: nothing.
    """

    box: sitk.Image
    slices: int
    slice_mm: float
    series: str = ""


@dataclass(eq=False)
class Scan:
    """A series or file that may be registered, and how to learn where it lies.

    Attributes
    ----------
    read : callable
        Returns its volumes, one for each acquisition, or raises why it cannot be read.
    description, body_part : str
        As the scanner has them; empty if unknown.
    sharpness : int
        `SOFT`, `UNKNOWN` or `SHARP`.
    slice_mm : float
        Distance of the slices as far as it is known before `read`.
    why_not : str
        Why it cannot be read, once that was tried.
    """

    path: Path
    read: Callable[[], list[Volume]]
    slices: int
    slice_mm: float
    description: str = ""
    body_part: str = ""
    sharpness: int = UNKNOWN
    why_not: str = ""

    @cached_property
    def volumes(self) -> list[Volume]:
        """Its volumes, the thinnest slices first; none if it cannot be read."""
        parts = self.path.parts
        if any(part != part.strip() or NO_CELL.search(part) for part in parts):
            self.why_not = "its path holds what a CSV file cannot; rename its files or folders"
            return []
        try:
            found = self.read()
        except (LandmarkDirError, OSError) as error:
            self.why_not = str(error)
            return []
        return sorted(found, key=lambda volume: (round(volume.slice_mm, 1), -volume.slices))


class Unused(NamedTuple):
    """A series or file that cannot be used, and why."""

    what: str
    why: str


@dataclass(eq=False)
class Exam:
    """The scans of one patient at one time.

    Attributes
    ----------
    patient : str
        PatientID, or the patient's part of a file name: nothing that is written may hold it.
    when : tuple or None
        Sorts the exams of a patient; None: unknown.
    day : date or None
        For the days between two exams.
    born : str
        PatientBirthDate, if known.
    private : set of str
        Words that tell who it is.
    """

    patient: str
    when: tuple[object, ...] | None = None
    day: date | None = None
    born: str = ""
    scans: list[Scan] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    private: set[str] = field(default_factory=set)


def volume_of(
    size_xyz: Sequence[int],
    spacing_mm: ArrayLike,
    origin: ArrayLike,
    direction: ArrayLike,
    series: str = "",
) -> Volume:
    """Describe a grid, given as ITK has it.

    Raises
    ------
    BadVolume
        If it has fewer than `MIN_SLICES` along the body axis.
    """
    size, spacing = np.asarray(size_xyz), np.asarray(spacing_mm, np.float64)
    axes = np.asarray(direction, np.float64).reshape(3, 3)
    along = int(np.abs(axes[2]).argmax())
    if size[along] < MIN_SLICES:
        raise BadVolume(f"{size[along]} slices along the body, expected at least {MIN_SLICES}")
    few = np.minimum(size, BOX_VOXELS)
    wider = spacing * size / few
    box = sitk.Image(few.tolist(), sitk.sitkUInt8)
    box.SetSpacing(wider.tolist())
    box.SetDirection(axes.ravel().tolist())
    box.SetOrigin((np.asarray(origin) + axes @ ((wider - spacing) / 2)).tolist())
    return Volume(box, int(size[along]), float(spacing[along]), series)


def files_below(folder: Path) -> tuple[dict[Path, list[Path]], list[Unused]]:
    """Return the files in a folder and in those below it, and the folders that cannot be read."""
    unused: list[Unused] = []
    files: dict[Path, list[Path]] = {}
    for place in below(folder, lambda error: unused.append(unreadable(error, folder))):
        try:
            files[place] = files_in(place)
        except OSError as error:
            unused.append(unreadable(error, folder))
    return files, unused


def unreadable(error: OSError, folder: Path) -> Unused:
    """What cannot be read below a folder, and why."""
    where = os.path.relpath(str(error.filename or folder), folder)
    return Unused(where, f"cannot be read ({error.strerror}); check its rights")
