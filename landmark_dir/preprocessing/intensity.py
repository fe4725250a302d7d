"""What grey values mean: the one place that knows Hounsfield units.

An `InputScale` says how the values of one kind of image become the units a network is trained on,
and where air, body and lung lie. Weights name the scale they were trained on. Images of another
modality, whose values have no scale, are put on that of CT by their own distribution (`OntoCt`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume


@dataclass(frozen=True)
class InputScale:
    """Grey values of one modality, and network units.

    Attributes
    ----------
    name : str
        As in the metadata of weights.
    unit : str
    knots, network_knots : tuple of float
        Piecewise linear from grey values to network units, -1..1; beyond the knots it is clipped.
    windows : tuple of (low, high)
        What the `default` network sees as channels.
    air : float
        What stands outside an image.
    body_above : float
        The edge of the body.
    lung_above : float
        Lung is denser than this, the air outside is not.
    soft_tissue : (low, high)
        Where most voxels of a body lie.
    """

    name: str
    unit: str
    knots: tuple[float, ...]
    network_knots: tuple[float, ...]
    windows: tuple[tuple[float, float], ...]
    air: float
    body_above: float
    lung_above: float
    soft_tissue: tuple[float, float]

    def to_network(self, values: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Map grey values to network units, -1..1, in any shape."""
        return np.asarray(np.interp(values, self.knots, self.network_knots), dtype=np.float32)

    def from_network(self, units: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map network units back to grey values, in any shape; what was clipped stays so."""
        return np.asarray(np.interp(units, self.network_knots, self.knots), dtype=np.float64)


CT = InputScale(
    name="ct-hu",
    unit="HU",
    # One channel, invertible: soft tissue gets the largest share of the range, lung and bone keep
    # their order. The paper is silent about grey values.
    knots=(-1024.0, -950.0, -200.0, 250.0, 2000.0),
    network_knots=(-1.0, -0.95, -0.5, 0.6, 1.0),
    windows=((-160.0, 240.0), (-1000.0, -200.0), (150.0, 1300.0)),  # soft tissue, lung, bone
    air=-1024.0,
    body_above=-500.0,  # half-way from air (-1000) to soft tissue (0): the edge a scanner blurs
    lung_above=-950.0,  # bar emphysema [Gevenois 1996]
    soft_tissue=(-200.0, 200.0),  # fat, muscle, organs, blood
)
AIR_HU = -1000.0  # air as a scanner measures it
SCANNER_HU = (-1024.0, 3071.0)  # what a 12-bit CT stores
OFFSET = 1024.0  # of HU that are stored without sign
NOISE_HU = 60.0  # below the offset air; fat is as far below water, and there is much of it
LEAST_AIR, LEAST_SOFT_TISSUE = 0.002, 0.02  # share of the voxels of a CT
MOST_OF_A_BODY = 0.7  # share of its voxels that is soft tissue; of a thigh 0.9
SCALES = {scale.name: scale for scale in (CT,)}
DARKEST, BRIGHTEST = 0.1, 99.5  # percentiles: beyond are artefacts and single bright vessels
BACKGROUND = -0.97  # network units of values half-way from the darkest to the edge of the body
STEPS = 1000  # from the darkest to the brightest
MOST_OF_A_RIM = 0.7  # share of it that is bright; arms and shoulders reach it, too
THINNED = np.s_[::2, ::4, ::4]  # what is enough to see a distribution


def within_scanner_range(image: sitk.Image) -> sitk.Image:
    """Clip HU to what a scanner stores; the same image where there is nothing to clip."""
    values, (low, high) = sitk.GetArrayViewFromImage(image), SCANNER_HU
    if values.min() >= low and values.max() <= high:
        return image
    return sitk.Clamp(image, image.GetPixelID(), low, high)


def _known(image: sitk.Image, padding: sitk.Image | None) -> NDArray[Any]:
    """Voxels of an image, thinned; none of padding."""
    values: NDArray[Any] = sitk.GetArrayViewFromImage(image)[THINNED]
    if padding is None:
        return values
    return np.asarray(values[sitk.GetArrayViewFromImage(padding)[THINNED] == 0])


@dataclass(frozen=True)
class OntoCt:
    """Grey values of another modality on the scale of CT, by their own distribution.

    What is darker than tissue becomes air, tissue is spread evenly over what a network sees of a
    body. So the numbers mean nothing but an order; a piecewise linear, rising map.

    Attributes
    ----------
    darkest, edge, brightest : float
        Grey values of the background, of the edge of the body, and of the brightest tissue.
    """

    darkest: float
    edge: float
    brightest: float

    @classmethod
    def of(cls, image: sitk.Image, name: str, padding: sitk.Image | None = None) -> "OntoCt":
        """The map of an image; `name` is what messages call it.

        The threshold of least cross entropy divides tissue from background [Li and Tam 1998];
        padding is background.

        Raises
        ------
        BadVolume
            If almost all voxels have one value.
        """
        values = sitk.GetArrayViewFromImage(image)[THINNED].astype(np.float64)
        if padding is not None:
            known = sitk.GetArrayViewFromImage(padding)[THINNED] == 0
            values = np.where(known, values, values[known].min(initial=values.max()))
        darkest, brightest = np.percentile(values, (DARKEST, BRIGHTEST)).tolist()
        if darkest == brightest:
            raise BadVolume(
                f"{name}: expected a scan, found one value ({darkest:g}) in almost all voxels"
            )
        # cross entropy wants positive values, and the filter seeks in steps of about 1
        steps = STEPS * ((values - darkest) / (brightest - darkest)).clip(0, 1)
        divide = sitk.LiThresholdImageFilter()
        divide.SetNumberOfHistogramBins(STEPS)
        divide.Execute(sitk.GetImageFromArray(steps))
        edge = darkest + divide.GetThreshold() / STEPS * (brightest - darkest)
        return cls(darkest, edge, brightest)

    def apply(self, image: sitk.Image) -> sitk.Image:
        """The image on the scale of CT, int16."""
        own = (self.darkest, (self.darkest + self.edge) / 2, self.edge, self.brightest)
        units = (-1.0, BACKGROUND, float(CT.to_network(np.array(CT.body_above))), 1.0)
        knots = np.unique([*units, *CT.network_knots])  # where either of both maps bends
        values = np.interp(knots, units, own)
        hu = CT.from_network(knots)
        source = sitk.GetArrayViewFromImage(image)
        seen = np.empty(source.shape, np.int16)
        for plane, made in zip(source, seen, strict=True):
            made[:] = np.rint(np.interp(plane, values, hu))
        result = sitk.GetImageFromArray(seen)
        result.CopyInformation(image)
        return result

    def doubt(self, image: sitk.Image) -> str | None:
        """One sentence if the background is no background, or None."""
        values = sitk.GetArrayViewFromImage(image)[THINNED]
        rim = np.concatenate([values[:, [0, -1]].ravel(), values[:, :, [0, -1]].ravel()])
        if np.mean(rim > self.edge) < MOST_OF_A_RIM:
            return None
        return (
            "no dark background: most voxels at the rim of its slices are as bright as tissue; is "
            "it inverted, or cut out of a body?"
        )


def is_cut_out(image: sitk.Image, padding: sitk.Image | None = None) -> bool:
    """Tell whether an image without air may be HU all the same: fat, and mostly soft tissue."""
    values, (low, high) = _known(image, padding), CT.soft_tissue
    no_air = np.mean(values < CT.body_above) < LEAST_AIR
    return bool(
        no_air
        and np.mean(values < -NOISE_HU) > LEAST_AIR
        and np.mean((values > low) & (values < high)) > MOST_OF_A_BODY
    )


def looks_like_ct(image: sitk.Image, padding: sitk.Image | None = None) -> str | None:
    """Return one sentence that says why the voxels are hardly HU, or None if they may be.

    Parameters
    ----------
    padding : sitk.Image, optional
        0 / 1 on the grid of `image`: voxels that do not count. They take the place of air.
    """
    values = _known(image, padding)
    if said := _shifted(values):
        return said
    low, high = CT.soft_tissue
    if padding is None and np.mean(values < CT.body_above) < LEAST_AIR:
        least = values.min()
        return f"no air below {CT.body_above:g} HU (smallest voxel {least:g}); is this CT in HU?"
    soft_tissue = np.mean((values > low) & (values < high))
    if soft_tissue < LEAST_SOFT_TISSUE:
        return (
            f"only {soft_tissue:.1%} of the voxels within {high:g} HU of water; is this CT in HU?"
        )
    return None


def _shifted(values: NDArray[Any]) -> str | None:
    """What to say of values that would be HU without an offset of 1024; None of others."""
    hu = values.astype(np.float64) - OFFSET
    body, (low, high) = hu > CT.body_above, CT.soft_tissue
    if np.mean(values < -NOISE_HU) > LEAST_AIR or not LEAST_AIR < np.mean(~body) < 1:
        return None
    tissue = hu[body]
    if np.mean((tissue > low) & (tissue < high)) < MOST_OF_A_BODY:
        return None
    air, water = (np.median(part) + OFFSET for part in (hu[~body], tissue))
    return (
        f"looks like HU + {OFFSET:g}, expected HU: air lies near {air:.0f} and tissue near "
        f"{water:.0f}; subtract {OFFSET:g}"
    )
