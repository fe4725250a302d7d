"""Volumes for the page: packed into one picture each, which the page cuts in any plane."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from landmark_dir.geometry import Points, physical_to_index
from landmark_dir.preprocessing.intensity import CT

MEGAPIXELS = 11e6  # of one volume, at most: a page of five stays below 15 MB and opens quickly
LEAST_MM = 1.0  # finer voxels are not shown in-plane
LARGEST_SIDE = 16_000  # pixels, of a WebP picture
QUALITY = 55  # of its lossy compression, 0..100
PREVIEW_BOX = 320, 200  # pixels, width and height, that one image of a preview has at most
MAP_RANGE = 255  # steps of a map
BENDS_MM = 6.0  # vectors nearer to each other are thinned out
METHOD = 2  # of the WebP encoder: 0 quick, 6 small
STILLS = (0.25, 0.5, 0.75)  # of the height of the body: slices for print
STILL_BOX = 260, 220  # pixels, width and height of one of them, at most

GREY_HU = {  # how the page turns stored greys into HU
    "hu": list(CT.knots),
    "grey": [round(255 * (value + 1) / 2, 2) for value in CT.network_knots],
}


def as_seen(image: sitk.Image) -> sitk.Image:
    """Turn the array by quarters so that x runs to the left, y to the back, z to the head.

    Rows and columns of an axial slice are then as radiologists look at them; an oblique grid
    stays as oblique as it is.
    """
    return sitk.DICOMOrient(image, "LPS")


def shown_grid(fixed: sitk.Image) -> sitk.Image:
    """The grid of the page, in the frame of the fixed image: its slices, fewer pixels if many."""
    seen = as_seen(fixed)
    size, spacing = np.array(seen.GetSize()), np.array(seen.GetSpacing())
    wanted = np.maximum(spacing, [LEAST_MM, LEAST_MM, 0])
    pixels = np.prod(size * spacing / wanted)
    if pixels > MEGAPIXELS:
        wanted[:2] *= np.sqrt(pixels / MEGAPIXELS)
    count = np.maximum(1, np.floor((size - 1) * spacing / wanted + 1e-6).astype(int) + 1)
    grid = sitk.Image(count.tolist(), sitk.sitkUInt8)
    grid.SetSpacing(wanted.tolist())
    grid.SetOrigin(seen.GetOrigin())
    grid.SetDirection(seen.GetDirection())
    return grid


def packed(image: sitk.Image, grid: sitk.Image) -> dict[str, Any]:
    """An image on the grid of the page as one picture of tiles, slice after slice."""
    picture, columns = _tiled(_grey(_shown(image, grid)))
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="webp", quality=QUALITY, method=METHOD)
    return {"src": base64.b64encode(stream.getvalue()).decode(), "columns": columns}


def _shown(image: sitk.Image, grid: sitk.Image) -> NDArray[Any]:
    """The grey values [z, y, x] of an image on the grid of the page."""
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    shown = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, lowest)
    return np.asarray(sitk.GetArrayFromImage(shown))


def lost_hu(image: sitk.Image, grid: sitk.Image, made: dict[str, Any]) -> float | None:
    """What 95 % of the soft tissue of a packed image differs by, at most, at voxels of the page."""
    width, height, depth = grid.GetSize()
    picture = Image.open(io.BytesIO(base64.b64decode(made["src"]))).convert("L")
    tiles = np.asarray(picture).reshape(-1, height, made["columns"], width).swapaxes(1, 2)
    grey = tiles.reshape(-1, height, width)[:depth]
    values = _shown(image, grid)
    low, high = CT.soft_tissue
    tissue = (values > low) & (values < high)
    if not tissue.any():
        return None
    seen = np.interp(grey[tissue], GREY_HU["grey"], GREY_HU["hu"])
    return float(np.percentile(np.abs(seen - values[tissue]), 95))


def _grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values of an image as the page stores them, 0..255."""
    return np.round((CT.to_network(values) + 1) * 127.5).astype(np.uint8)


def _tiled(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    depth, height, width = grey.shape
    columns = int(np.clip(np.ceil(np.sqrt(depth * height / width)), 1, LARGEST_SIDE // width))
    rows = -(-depth // columns)
    tiles = np.zeros((rows * columns, height, width), np.uint8)
    tiles[:depth] = grey
    tiles = tiles.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    return tiles.reshape(rows * height, columns * width), columns


def packed_jacobian(name: str, image: sitk.Image, grid: sitk.Image) -> dict[str, Any]:
    """Determinants as bytes: on a logarithmic scale about 1, from half to twice; 0 is folded."""
    seen = as_seen(image)
    values = sitk.GetArrayFromImage(seen).astype(np.float64)
    low, high = -1.0, 1.0
    share = (np.clip(np.log2(np.maximum(values, 1e-6)), low, high) - low) / (high - low)
    steps = np.where(values > 0, np.round(1 + share * (MAP_RANGE - 1)), 0).astype(np.uint8)
    return {
        **_map_grid(name, "jacobian", seen, grid),
        **{"low": low, "high": high},
        "data": base64.b64encode(steps.tobytes()).decode(),
    }


def packed_bends(name: str, image: sitk.Image, grid: sitk.Image) -> dict[str, Any]:
    """Vectors, mm, as signed bytes along the axes of the page; every second of a fine grid."""
    seen = as_seen(image)
    every = [2 if step < BENDS_MM and size > 2 else 1 for step, size in _steps(seen)]
    seen = seen[:: every[0], :: every[1], :: every[2]]
    to_page = np.reshape(grid.GetDirection(), (3, 3))  # v @ D: along the axes
    vectors = sitk.GetArrayFromImage(seen).astype(np.float64) @ to_page
    size_mm = np.linalg.norm(vectors, axis=-1)
    step = max(float(np.abs(vectors).max()) / 127, 1e-6)
    return {
        **_map_grid(name, "displacement", seen, grid),
        **{"low": 0.0, "high": round(max(float(size_mm.max()), 0.1), 2), "step": step},
        "data": base64.b64encode(np.round(vectors / step).astype(np.int8).tobytes()).decode(),
    }


def _steps(image: sitk.Image) -> list[tuple[float, int]]:
    return list(zip(image.GetSpacing(), image.GetSize(), strict=True))


def _map_grid(name: str, kind: str, seen: sitk.Image, grid: sitk.Image) -> dict[str, Any]:
    """Where a coarse map lies on the page: its first voxel in mm along the axes of the grid."""
    first = physical_to_index(grid, [seen.GetOrigin()])[0] * np.array(grid.GetSpacing())
    return {
        "name": name,
        "kind": kind,
        "size": seen.GetSize(),
        "spacing": seen.GetSpacing(),
        "first": first.round(3).tolist(),
    }


def place_colours(points: Points) -> list[str]:
    """Colours [N] that follow the place (x, y) among the points, as in [paper] fig. 3."""
    if not len(points):
        return []
    low, high = points.min(axis=0), points.max(axis=0)
    x, y, _ = ((points - low) / np.maximum(high - low, 1e-9)).T
    rgb = np.stack([x, y, 1 - 0.5 * (x + y)], axis=1) * 0.85 + 0.15
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in np.round(255 * rgb).astype(int)]


def side_by_side(images: Sequence[sitk.Image]) -> str:
    """The middle axial slices of images on one grid, beside each other, as the URL of a PNG."""
    width, height, depth = as_seen(images[0]).GetSize()
    stream = io.BytesIO()
    _in_a_row(images, depth // 2, (width, LARGEST_SIDE)).save(stream, format="png")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def write_preview(path: Path, images: Sequence[sitk.Image], body: sitk.Image) -> None:
    """Write the slice at the middle of the body in each image, beside each other, as WebP."""
    picture = _in_a_row(images, _slice_at(body, 0.5), PREVIEW_BOX)
    picture.save(path, format="webp", quality=QUALITY, method=6)


def stills(images: Sequence[sitk.Image], body: sitk.Image) -> dict[int, str]:
    """Slices of images on one grid, beside each other: number from 1 -> URL of a WebP."""
    found = {}
    for k in sorted({_slice_at(body, share) for share in STILLS}):
        stream = io.BytesIO()
        _in_a_row(images, k, STILL_BOX).save(stream, format="webp", quality=QUALITY, method=4)
        data = base64.b64encode(stream.getvalue()).decode()
        found[k + 1] = f"data:image/webp;base64,{data}"
    return found


def _slice_at(body: sitk.Image, share: float) -> int:
    """The axial slice at a share of the height of a mask; of the volume where it is empty."""
    inside = np.flatnonzero(sitk.GetArrayFromImage(as_seen(body)).any(axis=(1, 2)))
    if not len(inside):
        return int(as_seen(body).GetDepth() * share)
    return int(inside[0] + share * (inside[-1] - inside[0]))


def _in_a_row(images: Sequence[sitk.Image], k: int, box: tuple[int, int]) -> Image.Image:
    """Slice k of images on one grid, each as large as fits in a box of (width, height) pixels."""
    seen = [as_seen(image)[:, :, k] for image in images]
    size_mm = np.multiply(seen[0].GetSize(), seen[0].GetSpacing())
    width, height = np.maximum(1, np.rint(size_mm * np.min(box / size_mm))).astype(int).tolist()
    joined = Image.new("L", (width * len(seen), height))
    for number, one in enumerate(seen):
        picture = Image.fromarray(_grey(sitk.GetArrayViewFromImage(one)))
        joined.paste(picture.resize((width, height)), (number * width, 0))
    return joined
