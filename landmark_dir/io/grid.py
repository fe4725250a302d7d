"""Whether the voxel grid of an image can be used: sane sizes, axes at right angles.

One rule for all formats. elastix, NIfTI and most viewers know grids with axes at right angles
only, and a result has to lie on the grid of FIXED itself. So axes that are off by a rounded header
are straightened, and others are refused.
"""

import math

import numpy as np
import SimpleITK as sitk

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import FARTHEST_MM, corners, index_to_mm
from landmark_dir.io.reading import Reading

SPACING_MM = (1e-3, 100.0)  # smallest and largest voxel that can be a CT's, micro-CT included
ROUNDED = 1e-6  # of a cosine: float32 in a header, 0.0005 mm at the end of 500 mm
SILENT_MM = 0.02  # straightening moves no corner by more: not worth a word
STRAIGHTENED_MM = 0.5  # straightening moves a corner by more: refused


def checked_grid(image: sitk.Image, name: str) -> Reading:
    """Return a 3D image with axes at right angles, or refuse it; `name` is for the message.

    Raises
    ------
    BadVolume
        If a spacing or place cannot be true, or straightening would move a corner by more than
        `STRAIGHTENED_MM`.
    """
    places = corners(image)
    spacing = np.linalg.norm(index_to_mm(image), axis=0)
    if not (np.isfinite(places).all() and np.isfinite(spacing).all()):
        raise BadVolume(f"{name}: the header's origin or spacing is not a number; repair it")
    if spacing.min() < SPACING_MM[0] or spacing.max() > SPACING_MM[1]:
        raise BadVolume(
            f"{name}: voxels of {' x '.join(f'{one:.4g}' for one in spacing)} mm, expected "
            f"{SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm; repair the spacing or its unit"
        )
    if np.abs(places).max() > FARTHEST_MM:
        raise BadVolume(
            f"{name}: a corner lies {np.abs(places).max():.4g} mm from the origin, expected at "
            f"most {FARTHEST_MM:g} mm; repair the header's origin"
        )
    return _straightened(image, name)


def _straightened(image: sitk.Image, name: str) -> Reading:
    cosines = np.reshape(image.GetDirection(), (3, 3))
    if np.abs(cosines.T @ cosines - np.eye(3)).max() <= ROUNDED:
        return Reading(image)
    straight = _nearest_right_angled(image)
    moved_mm = np.linalg.norm(corners(straight) - corners(image), axis=1).max()
    if moved_mm <= SILENT_MM:
        return Reading(straight)
    found = f"its axes are {_degrees_off(image):.2g} degrees from right angles"
    if moved_mm > STRAIGHTENED_MM:
        raise BadVolume(
            f"{name}: {found}, to straighten them would move a corner by {moved_mm:.2g} mm, "
            f"expected at most {STRAIGHTENED_MM:g} mm; resample it to a grid with right angles "
            "first, such as with Resample Scalar/Vector/DWI Volume of 3D Slicer"
        )
    return Reading(straight, (f"{found}; straightened, which moves a corner by {moved_mm:.2g} mm",))


def _nearest_right_angled(image: sitk.Image) -> sitk.Image:
    """Return the image on the nearest grid with right angles and the same centre."""
    steps = index_to_mm(image)
    lengths = np.linalg.norm(steps, axis=0)
    u, _, vt = np.linalg.svd(steps / lengths)
    straight = sitk.Image(image)
    straight.SetSpacing(lengths.tolist())
    straight.SetDirection((u @ vt).ravel().tolist())
    off = corners(image).mean(axis=0) - corners(straight).mean(axis=0)
    straight.SetOrigin((np.asarray(image.GetOrigin()) + off).tolist())
    return straight


def _degrees_off(image: sitk.Image) -> float:
    """The largest deviation of two axes from a right angle, degrees."""
    steps = index_to_mm(image)
    cosines = steps / np.linalg.norm(steps, axis=0)
    off = np.abs(cosines.T @ cosines - np.diag(np.ones(3)))
    return math.degrees(math.asin(min(1.0, off[~np.eye(3, dtype=bool)].max())))
