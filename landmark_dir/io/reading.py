"""What reading an image file gives: the image, and what a person should know of how it was read."""

from typing import NamedTuple

import SimpleITK as sitk


class Reading(NamedTuple):
    """An image, and warnings: one sentence each, without the name of the file."""

    image: sitk.Image
    warnings: tuple[str, ...] = ()
