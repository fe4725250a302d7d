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

MEGAPIXELS = 7e6  # of one volume, at most: a page of four stays well below 15 MB
LEAST_MM = 1.0  # finer voxels are not shown in-plane
LARGEST_SIDE = 16_000  # pixels, of a WebP picture
QUALITY = 55  # of its lossy compression, 0..100
PREVIEW_BOX = 320, 200  # pixels, width and height, that one image of a preview has at most
MAP_RANGE = 255  # steps of a map

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


def packed(name: str, image: sitk.Image, grid: sitk.Image) -> dict[str, Any]:
    """An image on the grid of the page as one picture of tiles, slice after slice."""
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    shown = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, lowest)
    picture, columns = _tiled(_grey(sitk.GetArrayViewFromImage(shown)))
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="webp", quality=QUALITY, method=2)
    data = base64.b64encode(stream.getvalue()).decode()
    return {"name": name, "src": f"data:image/webp;base64,{data}", "columns": columns}


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


def packed_map(name: str, image: sitk.Image, grid: sitk.Image, kind: str) -> dict[str, Any]:
    """A coarse scalar image as bytes between its least and largest value."""
    seen = as_seen(image)
    values = sitk.GetArrayFromImage(seen).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if kind == "jacobian":  # symmetric about 1 on a logarithmic scale, folded ones told apart
        low, high = -1.0, 1.0
        values = np.where(values > 0, np.clip(np.log2(np.maximum(values, 1e-6)), low, high), np.nan)
    steps = np.nan_to_num(1 + (values - low) / max(high - low, 1e-9) * (MAP_RANGE - 1), nan=0)
    first = physical_to_index(grid, [seen.GetOrigin()])[0] * np.array(grid.GetSpacing())
    return {
        "name": name,
        "kind": kind,
        "low": low,
        "high": high,
        "size": seen.GetSize(),
        "spacing": seen.GetSpacing(),
        "first": first.round(3).tolist(),
        "data": base64.b64encode(np.round(steps).astype(np.uint8).tobytes()).decode(),
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
    picture = _in_a_row(images, _middle(body), PREVIEW_BOX)
    picture.save(path, format="webp", quality=QUALITY, method=6)


def _middle(body: sitk.Image) -> int:
    """The axial slice half-way through a mask; that of the volume where the mask is empty."""
    inside = np.flatnonzero(sitk.GetArrayFromImage(as_seen(body)).any(axis=(1, 2)))
    return int(inside[[0, -1]].mean()) if len(inside) else as_seen(body).GetDepth() // 2


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
