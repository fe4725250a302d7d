"""What reading an image file gives: the image, and what a person should know of how it was read."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import SimpleITK as sitk

if TYPE_CHECKING:
    from landmark_dir.io.dicom_series import Series


class Reading(NamedTuple):
    """An image, and how it was read.

    Attributes
    ----------
    warnings : tuple of str
        One sentence each, without the name of the file.
    path : Path or None
        Where it was read from.
    series : Series or None
        The DICOM series, if it is one.
    """

    image: sitk.Image
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    series: "Series | None" = None
