"""Pictures of a run, and one self-contained HTML page that shows them."""

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmark_dir.geometry import physical_to_index
from landmark_dir.points import PointPairs

WINDOW_HU = (-300.0, 400.0)  # shows fat, soft tissue and the outline of lung and bone
TILE_MM = 32.0  # checkerboard
LANDMARK_SLICES = 3
PLANES = ("axial", "coronal", "sagittal")
BACKGROUND = "#111111"


def _grey(array: NDArray[np.generic]) -> NDArray[np.float64]:
    low, high = WINDOW_HU
    return np.clip((array.astype(np.float64) - low) / (high - low), 0, 1)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80, facecolor=BACKGROUND)
    return stream.getvalue()


def _blank(axes: Axes, title: str) -> None:
    axes.set_title(title, color="white", fontsize=9)
    axes.set_axis_off()


def place_colours(xy: NDArray[np.float64], extent: tuple[int, int]) -> NDArray[np.float64]:
    """RGB [N, 3] that follows the place in the image, as in [paper] fig. 3."""
    x, y = (xy / np.asarray(extent, dtype=np.float64)).clip(0, 1).T
    return np.stack([x, y, 1 - 0.5 * (x + y)], axis=1) * 0.85 + 0.15


def landmark_picture(fixed: sitk.Image, moving: sitk.Image, pairs: PointPairs) -> bytes:
    """PNG: landmarks on fixed slices and on the moving slices they lead to, coloured by place.

    The slices are those of each image's own grid; moving points are shown on the slice at the
    middle of their depths.
    """
    at_fixed = physical_to_index(fixed, pairs.fixed)
    at_moving = physical_to_index(moving, pairs.moving)
    slices, counts = np.unique(np.round(at_fixed[:, 2]).astype(int), return_counts=True)
    shown = _spread_slices(slices, counts)
    figure = Figure(figsize=(9, 4.2 * max(len(shown), 1)), facecolor=BACKGROUND, layout="tight")
    for row, k in enumerate(shown):
        here = np.round(at_fixed[:, 2]).astype(int) == k
        colours = place_colours(at_fixed[here, :2], fixed.GetSize()[:2])
        depth = int(np.clip(np.median(np.round(at_moving[here, 2])), 0, moving.GetSize()[2] - 1))
        for column, (image, index, slice_k, name) in enumerate(
            ((fixed, at_fixed, k, "fixed"), (moving, at_moving, depth, "moving"))
        ):
            axes = figure.add_subplot(len(shown), 2, 2 * row + column + 1)
            x_mm, y_mm, _ = image.GetSpacing()
            pixels = _grey(sitk.GetArrayViewFromImage(image)[slice_k])
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=y_mm / x_mm)
            axes.scatter(index[here, 0], index[here, 1], c=colours, s=9, linewidths=0)
            _blank(axes, f"{name}, slice {slice_k}, {here.sum()} landmarks")
    return _png(figure)


def _spread_slices(slices: NDArray[np.int64], counts: NDArray[np.int64]) -> list[int]:
    """The fullest slice of each third of the depth."""
    parts = np.array_split(np.arange(len(slices)), LANDMARK_SLICES)
    return [int(slices[part[np.argmax(counts[part])]]) for part in parts if len(part)]


def checkerboard_picture(fixed: sitk.Image, moving: sitk.Image, warped: sitk.Image) -> bytes:
    """PNG: fixed against moving, before and after, as checkerboards in three planes.

    `warped` lies on the fixed grid; `moving` is laid there by its world coordinates.
    """
    before = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear, WINDOW_HU[0])
    figure = Figure(figsize=(9, 12), facecolor=BACKGROUND, layout="tight")
    volumes = [_grey(sitk.GetArrayViewFromImage(i)) for i in (fixed, before, warped)]
    for row in range(3):  # the axis cut through: z, y, x
        middle = volumes[0].shape[row] // 2
        cuts = [np.take(v, middle, axis=row) for v in volumes]
        spacing = [s for i, s in enumerate(fixed.GetSpacing()[::-1]) if i != row]  # down, across
        tiles = _tiles(cuts[0].shape, spacing)
        for column, (other, name) in enumerate(((cuts[1], "before"), (cuts[2], "after"))):
            axes = figure.add_subplot(3, 2, 2 * row + column + 1)
            board = np.where(tiles, cuts[0], other)
            axes.imshow(board, cmap="gray", vmin=0, vmax=1, aspect=spacing[0] / spacing[1])
            if row:
                axes.invert_yaxis()  # the head is up
            _blank(axes, f"{PLANES[row]}, {name}: fixed and moving in turn")
    return _png(figure)


def _tiles(shape: tuple[int, ...], spacing_mm: list[float]) -> NDArray[np.bool_]:
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
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return str(value)


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
    warped: sitk.Image,
    pairs: PointPairs,
) -> None:
    """Write `report.html`: the content of `run.json` and the pictures, in one file."""
    pictures = {"Fixed and moving as a checkerboard": checkerboard_picture(fixed, moving, warped)}
    if len(pairs):
        pictures["Landmarks, coloured by place"] = landmark_picture(fixed, moving, pairs)
    parts = [f"<p class=warning>{html.escape(w)}</p>" for w in run["warnings"]]
    parts += [_table(name, run[name]) for name in ("metrics", "inputs", "seconds")]
    for title, picture in pictures.items():
        data = base64.b64encode(picture).decode()
        parts.append(
            f'<h2>{html.escape(title)}</h2><img alt="" src="data:image/png;base64,{data}">'
        )
    parts += [_table(name, run[name]) for name in ("options", "versions")]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>landmark_dir run</title>"
        f"<style>{STYLE}</style><h1>Landmark-guided registration</h1>{''.join(parts)}</html>\n"
    )
    path.write_text(page)
