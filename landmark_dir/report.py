"""Pictures of a run, and one self-contained HTML page that shows them."""

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmark_dir.geometry import Points, centre, physical_to_index
from landmark_dir.points import PointPairs
from landmark_dir.slices import to_network

TILE_MM = 32.0  # checkerboard
LANDMARK_SLICES = 3
MIN_FOR_PLANE = 10  # landmarks; fewer do not tell how a plane lies
MIN_COSINE = 0.8  # between the two planes; more than 37 degrees are points in a row, not a tilt
MARGIN_MM = 10.0  # around the landmarks
PLANES = {"axial": "RA", "coronal": "RH", "sagittal": "AH"}  # letters: left and upper border
AIR = -1000.0  # HU
BACKGROUND = "#111111"

Array: TypeAlias = NDArray[np.float64]


def _grey(image: sitk.Image) -> Array:
    """Give the voxels [z, y, x] as 0..1, in the network's grey scale: lung shows beside liver."""
    return np.asarray((to_network(sitk.GetArrayViewFromImage(image)) + 1) / 2, dtype=np.float64)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, facecolor=BACKGROUND)
    return stream.getvalue()


def _show(axes: Axes, pixels: Array, aspect: float, title: str, borders: str = "RA") -> None:
    """Draw one cut, its title, and the letters of its left and upper border."""
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=aspect)
    axes.set_title(title, color="white", fontsize=10)
    axes.set_axis_off()
    for letter, at in zip(borders, ((0.02, 0.5), (0.5, 0.95)), strict=True):
        axes.text(*at, letter, color="#fc6", transform=axes.transAxes, fontsize=9, ha="center")


def _as_seen(image: sitk.Image) -> sitk.Image:
    """Turn the array by quarters so that x runs to the left, y to the back, z to the head.

    Rows and columns of an axial slice are then as radiologists look at them; an oblique grid
    stays as oblique as it is.
    """
    return sitk.DICOMOrient(image, "LPS")


def place_colours(points: Points) -> Array:
    """RGB [N, 3] that follows the place (x, y) among the points, as in [paper] fig. 3."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y, _ = ((points - low) / np.maximum(high - low, 1e-9)).T
    return np.stack([x, y, 1 - 0.5 * (x + y)], axis=1) * 0.85 + 0.15


def landmark_picture(fixed: sitk.Image, moving: sitk.Image, pairs: PointPairs) -> bytes:
    """PNG: landmarks on three fixed slices and where they are in moving, coloured by place.

    The moving image is cut along the plane that fits the moving points best.
    """
    fixed = _as_seen(fixed)
    depth = np.round(physical_to_index(fixed, pairs.fixed)[:, 2]).astype(int)
    shown = _fullest_slices(depth)
    figure = Figure(figsize=(9, 4.2 * len(shown)), facecolor=BACKGROUND, layout="tight")
    for row, k in enumerate(shown):
        here = pairs.select(depth == k)
        slice_ = fixed[:, :, k : k + 1]
        cut = sitk.Resample(moving, _plane_of(here, slice_), sitk.Transform(), sitk.sitkLinear, AIR)
        name = f"fixed, {len(here)} landmarks at z = {centre(slice_)[0, 2]:.0f} mm"
        sides = (slice_, here.fixed, name), (cut, here.moving, "moving, the same landmarks")
        for column, (image, points, title) in enumerate(sides):
            axes = figure.add_subplot(len(shown), 2, 2 * row + column + 1)
            x_mm, y_mm, _ = image.GetSpacing()
            _show(axes, _grey(image)[0], y_mm / x_mm, title)
            x, y, _ = physical_to_index(image, points).T
            colours = place_colours(here.fixed)
            axes.scatter(x, y, c=colours, s=22, linewidths=0.6, edgecolors="black")
    return _png(figure)


def _fullest_slices(depth: NDArray[np.int64]) -> list[int]:
    """The fullest slice of each third of the depth."""
    slices, counts = np.unique(depth, return_counts=True)
    parts = np.array_split(np.arange(len(slices)), LANDMARK_SLICES)
    return [int(slices[part[np.argmax(counts[part])]]) for part in parts if len(part)]


def _plane_of(here: PointPairs, slice_: sitk.Image) -> sitk.Image:
    """An empty slice of 1 mm pixels through the moving points of one fixed slice."""
    across, down, normal = np.reshape(slice_.GetDirection(), (3, 3)).T
    middle = here.moving.mean(axis=0)
    fitted = np.linalg.svd(here.moving - middle)[2][2]  # the way in which they vary least
    if len(here) >= MIN_FOR_PLANE and abs(fitted @ normal) > MIN_COSINE:
        normal = fitted * np.sign(fitted @ normal)
        across = across - (across @ normal) * normal
        across /= np.linalg.norm(across)
        down = np.cross(normal, across)
    centre_mm = middle + centre(slice_)[0] - here.fixed.mean(axis=0)
    centre_mm -= ((centre_mm - middle) @ normal) * normal
    offset_mm = np.abs((here.moving - centre_mm) @ np.stack([across, down], axis=1)).max(axis=0)
    extent_mm = np.multiply(slice_.GetSize(), slice_.GetSpacing())[:2]
    extent_mm = np.maximum(extent_mm, 2 * offset_mm + MARGIN_MM)  # every landmark on its picture
    plane = sitk.Image([*(int(mm) for mm in extent_mm), 1], sitk.sitkUInt8)
    plane.SetDirection(np.stack([across, down, normal], axis=1).ravel().tolist())
    half = (extent_mm - 1) / 2
    plane.SetOrigin((centre_mm - half[0] * across - half[1] * down).tolist())
    return plane


def checkerboard_picture(
    fixed: sitk.Image, before: sitk.Image, after: sitk.Image | None = None
) -> bytes:
    """PNG: fixed against moving, before and after, as checkerboards in three planes.

    `before` and `after` are the moving image on the fixed grid.
    """
    names = ("before", "after") if after is not None else ("before",)
    volumes = [_as_seen(image) for image in (fixed, before, after) if image is not None]
    spacing_zyx = volumes[0].GetSpacing()[::-1]
    arrays = [_grey(volume) for volume in volumes]
    figure = Figure(figsize=(9, 12.5), facecolor=BACKGROUND, layout="tight")
    for row, (plane, borders) in enumerate(PLANES.items()):  # cut through z, y, x
        cuts = [np.take(array, array.shape[row] // 2, axis=row) for array in arrays]
        if row:
            cuts = [cut[::-1] for cut in cuts]  # the head is up
        down_mm, across_mm = (mm for axis, mm in enumerate(spacing_zyx) if axis != row)
        tiles = _tiles(cuts[0].shape, (down_mm, across_mm))
        for column, (name, other) in enumerate(zip(names, cuts[1:], strict=True)):
            axes = figure.add_subplot(3, 2, 2 * row + column + 1)
            board = np.where(tiles, cuts[0], other)
            _show(axes, board, down_mm / across_mm, f"{plane}, {name} registration", borders)
    return _png(figure)


def _tiles(shape: tuple[int, ...], spacing_mm: tuple[float, float]) -> NDArray[np.bool_]:
    rows, columns = (
        (np.arange(n) * mm // TILE_MM).astype(int) for n, mm in zip(shape, spacing_mm, strict=True)
    )
    return np.asarray((rows[:, None] + columns) % 2 == 0)


def _table(title: str, rows: Mapping[str, Any]) -> str:
    body = "".join(
        f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(_shown(value))}</td></tr>"
        for key, value in rows.items()
    )
    return f"<h2>{html.escape(title)}</h2><table>{body}</table>"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return str(value)


TABLES = ("inputs", "options", "seconds", "versions", "weights")
CAUTION = (
    "For research only. The residual is taken at the landmarks that guided and is no measure of "
    "accuracy; a folded share above 0 means a transform that is not one to one there. Distances in "
    "mm. Black tiles: the moving image has no data there."
)
STYLE = """
body { background: #111; color: #ddd; font: 15px system-ui, sans-serif; margin: 2em auto;
       max-width: 60em; padding: 0 1em }
table { border-collapse: collapse } th { text-align: left; font-weight: normal; color: #999 }
th, td { padding: .2em 1.5em .2em 0; vertical-align: top; overflow-wrap: anywhere }
img { max-width: 100% } .warning { color: #fc6 }
"""


def write_report(
    path: Path,
    run: Mapping[str, Any],
    fixed: sitk.Image,
    moving: sitk.Image,
    before: sitk.Image,
    after: sitk.Image | None,
    pairs: PointPairs,
) -> None:
    """Write `report.html`: the content of `run.json` and the pictures, in one file.

    `before` and `after` are the moving image on the fixed grid; a run that ends with its
    landmarks has no `after`.
    """
    pictures = {
        "Fixed and moving in turn, tile by tile": checkerboard_picture(fixed, before, after)
    }
    if len(pairs):
        pictures["Landmarks, coloured by place"] = landmark_picture(fixed, moving, pairs)
    parts = [f"<p class=warning>{html.escape(warning)}</p>" for warning in run["warnings"]]
    parts.append(_table("Result", run["metrics"]))
    parts += [_figure(title, picture) for title, picture in pictures.items()]
    parts += [_table(name.capitalize(), run[name]) for name in TABLES if run[name]]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>landmark_dir run</title>"
        f"<style>{STYLE}</style><h1>Landmark-guided registration</h1><p>{CAUTION}</p>"
        f"{''.join(parts)}</html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _figure(title: str, png: bytes) -> str:
    title = html.escape(title)
    data = base64.b64encode(png).decode()
    return f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{data}">'
