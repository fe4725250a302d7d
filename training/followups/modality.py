"""How another modality may show what a CT shows: MR-like and cone-beam-like images.

Nothing here is physics. An MR-like image has another order of grey values, a bias field and Rician
noise; a cone-beam-like one has less contrast, shading, cupping and much noise. The body, its motion
and its points stay those of the CT.
"""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmark_dir.preprocessing.intensity import AIR_HU

# Signal at HU: air and cortical bone are dark in both; fat is bright in the first, water in the
# second.
SIGNALS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mr-t1": (
        (-1000, -500, -250, -110, -40, 0, 25, 60, 120, 250, 500, 1000),
        (0.0, 0.05, 0.4, 0.95, 0.6, 0.2, 0.3, 0.5, 0.7, 0.75, 0.4, 0.05),
    ),
    "mr-t2": (
        (-1000, -500, -250, -110, -40, 0, 25, 60, 120, 250, 500, 1000),
        (0.0, 0.05, 0.3, 0.6, 0.7, 1.0, 0.75, 0.35, 0.25, 0.4, 0.2, 0.05),
    ),
}
MODALITIES = (*SIGNALS, "cbct")
SMOOTH_MM = 1.2  # CT noise must not become the noise of another curve
BRIGHTEST = 900.0  # of the numbers that are stored
BIAS, BIAS_MM = 0.35, 150.0  # largest natural logarithm of the sensitivity; distance of its nodes
RICE = 0.02  # noise, of the brightest
SLOPE, OFFSET = 0.85, 60.0  # cone beam
CUPPING, SHADING, SHADING_MM, NOISE_HU = 100.0, 60.0, 120.0, 50.0  # cone beam, HU


def as_modality(image: sitk.Image, modality: str, seed: int) -> sitk.Image:
    """A CT as another modality may show it, on the same grid.

    Parameters
    ----------
    image : sitk.Image
        HU.
    modality : str
        One of `MODALITIES`.
    seed : int
        Of noise, bias and shading.
    """
    rng = np.random.default_rng([MODALITIES.index(modality), seed])
    spacing = np.array(image.GetSpacing())[::-1]
    hu = sitk.GetArrayFromImage(image).astype(np.float32)
    values = _cone_beam(hu, spacing, rng) if modality == "cbct" else _mr(hu, spacing, modality, rng)
    result = sitk.GetImageFromArray(np.rint(values).astype(np.int16))
    result.CopyInformation(image)
    return result


def _mr(
    hu: NDArray[np.float32], spacing: NDArray[np.float64], kind: str, rng: np.random.Generator
) -> NDArray[np.float32]:
    smooth = ndimage.gaussian_filter(hu, [0, *(SMOOTH_MM / spacing[1:])])
    signal = np.interp(smooth, *SIGNALS[kind]).astype(np.float32)
    signal *= np.exp(BIAS * _waves(hu.shape, spacing, BIAS_MM, rng))
    real, imaginary = (RICE * rng.standard_normal(hu.shape, np.float32) for _ in range(2))
    return np.asarray(BRIGHTEST * np.hypot(signal + real, imaginary))


def _cone_beam(
    hu: NDArray[np.float32], spacing: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    tissue = hu > AIR_HU / 2
    y, x = (
        (np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(hu.shape[1:], spacing[1:], strict=True)
    )
    away = np.hypot(y[:, None], x)
    cup = CUPPING * np.clip(1 - (away / away.max()) ** 2, 0, 1)
    shade = SHADING * _waves(hu.shape, spacing, SHADING_MM, rng)
    noise = NOISE_HU * rng.standard_normal(hu.shape, np.float32)
    return np.asarray(SLOPE * hu + OFFSET + tissue * (shade - cup) + noise, np.float32)


def _waves(
    shape: tuple[int, ...], spacing: NDArray[np.float64], apart_mm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A smooth random field between -1 and 1."""
    nodes = np.ceil(np.array(shape) * spacing / apart_mm).astype(int) + 3
    coarse = rng.uniform(-1, 1, nodes).astype(np.float32)
    places = [np.arange(n) * mm / apart_mm + 1 for n, mm in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*places, indexing="ij")).astype(np.float32)
    return np.asarray(ndimage.map_coordinates(coarse, grid, np.float32, order=3))
