"""One self-contained page of findings: each in both scans, side by side, centred on it."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from landmark_dir.geometry import as_points
from landmark_dir.report.markup import VIEWER_SCRIPTS, asset, document
from landmark_dir.report.scene import Mark, Picture, scene, voxels
from landmark_dir.report.volumes import shown_grid
from landmark_dir.report.worst_places import on_page

SIDES = ("fixed", "moving")
PLANES = {"axial": (0, 1), "coronal": (0, 2)}  # which of x, y, z runs across and down
PIXELS = 280  # of a picture, each way
LEAST_MM, AROUND = 60.0, 2.5  # shown of the scan: that, or so many times the finding
WINDOWS_HU = {"lung": (-1350.0, 150.0), "soft tissue": (-160.0, 240.0)}
LUNG_BELOW_HU = -400.0  # median around a place
QUALITY = 80
OUTLINE, CROSS = (255, 176, 0), (120, 190, 255)
CAUTION = (
    "For research only. In 95 % of simulated follow-ups the true place lay within the circle; "
    "a real change of tissue may lie outside. Look at each picture."
)


LEGEND = (
    "<p><b>Orange</b>: outline, where it was drawn. <b>Blue cross</b>: the place, as given or as "
    "carried. <b>Blue circle</b>: around the carried place, where the true one lies in 95 of 100 "
    "cases. Cuts along the axes of the patient, as radiologists look at them: R, L, A, P, H, F.</p>"
)


@dataclass(frozen=True)
class Spot:
    """A finding as the page shows it.

    Attributes
    ----------
    name, caption : str
    side : str
        The scan that it was given in.
    places : mapping
        LPS mm (3,) by side.
    masks : mapping
        By side, where one is known there.
    radius_mm : float or None
        Around the carried place.
    size_mm : float
        How much of the scan it takes.
    doubtful : bool
    """

    name: str
    caption: str
    side: str
    places: Mapping[str, NDArray[np.float64]]
    masks: Mapping[str, sitk.Image]
    radius_mm: float | None
    size_mm: float
    doubtful: bool


def write_findings_page(
    path: Path,
    title: str,
    spots: Sequence[Spot],
    images: Mapping[str, sitk.Image | None],
    warped: sitk.Image | None = None,
) -> None:
    """Write the page; a scan that is not at hand leaves its pictures out, and the page says so.

    Parameters
    ----------
    warped : sitk.Image, optional
        The moving image on the fixed grid; with the fixed image it makes the viewer.
    """
    missing = [side for side in SIDES if images[side] is None]
    said = "".join(
        f"<p>The {side} scan is not where it was, so the page has no pictures of it.</p>"
        for side in missing
    )
    fixed = images["fixed"]
    viewer, data, script = "", None, ""
    if fixed is not None and warped is not None:
        grid = shown_grid(fixed)
        viewer = _places(spots, grid) + asset("viewer.html")
        pictures = [Picture("fixed", fixed), Picture("moving, registered", warped)]
        marks = [_mark_of(spot, grid) for spot in spots]
        data = scene(grid, pictures, marks, called="findings", shown="place")
        script = asset(*VIEWER_SCRIPTS)
    body = (
        said
        + viewer
        + LEGEND
        + "".join(_shown(spot, images) for spot in spots)
        + f"<p>{CAUTION}</p>"
    )
    style = asset("base.css", "viewer.css", "findings.css")
    path.write_text(document(title, style, body, data, script), encoding="utf-8")


def _places(spots: Sequence[Spot], grid: sitk.Image) -> str:
    """A list of the findings; a button leads to each that the viewer shows."""
    items = ""
    for spot in spots:
        index, name = on_page(grid, as_points([spot.places["fixed"]])), html.escape(spot.name)
        words = f"{name}: {_kind(spot)}"
        if index is not None:
            at = " ".join(map(str, index))
            words = f'<button type="button" data-go="{at}">{name}</button> {_kind(spot)}'
        items += f"<li>{words}</li>"
    return f'<h2>Findings</h2><ol class="findings">{items}</ol>'


def _mark_of(spot: Spot, grid: sitk.Image) -> Mark:
    (index,) = voxels(grid, as_points([spot.places["fixed"]]))
    colour = "#{:02x}{:02x}{:02x}".format(*OUTLINE)
    return Mark(index, index, colour, f"{spot.name}, {_kind(spot)}", held=spot.doubtful)


def _kind(spot: Spot) -> str:
    return "doubtful" if spot.doubtful else "good"


def _shown(spot: Spot, images: Mapping[str, sitk.Image | None]) -> str:
    figures = ""
    for plane in PLANES:
        for side in SIDES:
            image = images[side]
            if image is None:
                continue
            picture, window = _picture(spot, side, plane, image)
            about = f"{side}, {plane}, {window}, {_size_mm(spot):.0f} mm wide"
            name = html.escape(f"{spot.name}: {about}")
            figures += (
                f'<figure><img alt="{name}" src="{picture}" width="{PIXELS}" height="{PIXELS}">'
                f"<figcaption>{about}</figcaption></figure>"
            )
    kind = _kind(spot)
    return (
        f'<section class="{kind}"><h2>{html.escape(spot.name)}: <span>{kind}</span></h2>'
        f"<p>{html.escape(spot.caption)}</p>"
        f'<div class="pictures">{figures}</div></section>'
    )


def _picture(spot: Spot, side: str, plane: str, image: sitk.Image) -> tuple[str, str]:
    """One plane of one scan around the finding, as a data URL, and its window."""
    size_mm = _size_mm(spot)
    grid = _plane(spot.places[side], plane, size_mm)
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    cut = _cut(image, grid, plane, sitk.sitkLinear, lowest)
    middle = cut[PIXELS // 3 : -PIXELS // 3, PIXELS // 3 : -PIXELS // 3]
    window = "lung" if np.median(middle) < LUNG_BELOW_HU else "soft tissue"
    low, high = WINDOWS_HU[window]
    grey = np.clip(255 * (cut - low) / (high - low), 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey).convert("RGB")
    draw = ImageDraw.Draw(picture)
    if side in spot.masks:
        mask = _cut(spot.masks[side], grid, plane, sitk.sitkNearestNeighbor, 0) > 0
        draw.bitmap((0, 0), Image.fromarray(_edge(mask)), fill=OUTLINE)
    _letters(draw, plane)
    _mark(draw, None if side == spot.side else spot.radius_mm, PIXELS / size_mm)
    stream = io.BytesIO()
    picture.save(stream, format="webp", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}", window


def _size_mm(spot: Spot) -> float:
    """How much of a scan its pictures show, each way."""
    return max(LEAST_MM, AROUND * spot.size_mm)


def _letters(draw: ImageDraw.ImageDraw, plane: str) -> None:
    """Which way the patient lies."""
    middle, far = PIXELS // 2, PIXELS - 12
    up, down = ("A", "P") if plane == "axial" else ("H", "F")
    for at, letter in {(4, middle): "R", (far, middle): "L", (middle, 2): up}.items():
        draw.text(at, letter, fill=CROSS)
    draw.text((middle, far), down, fill=CROSS)


def _plane(place: NDArray[np.float64], plane: str, size_mm: float) -> sitk.Image:
    """A plane of the patient's axes around a place; its rows run down the picture."""
    across, down = PLANES[plane]
    step = size_mm / PIXELS
    size, sign = [1, 1, 1], np.ones(3)
    size[across] = size[down] = PIXELS
    sign[2] = -1.0 if down == 2 else 1.0  # the head is up
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([step] * 3)
    grid.SetDirection(np.diag(sign).ravel().tolist())
    half = np.zeros(3)
    half[[across, down]] = (PIXELS - 1) / 2 * step
    grid.SetOrigin((place - sign * half).tolist())
    return grid


def _cut(
    image: sitk.Image, grid: sitk.Image, plane: str, how: int, outside: float
) -> NDArray[np.float32]:
    """Values [PIXELS, PIXELS] of a plane."""
    shown = sitk.Resample(image, grid, sitk.Transform(), how, outside, sitk.sitkFloat32)
    values: NDArray[np.float32] = sitk.GetArrayFromImage(shown)
    return values[0] if plane == "axial" else values[:, 0]


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The outer border of a mask, 0 / 255."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    border = sitk.BinaryContour(image, True)
    return np.asarray(sitk.GetArrayFromImage(border) * 255, dtype=np.uint8)


def _mark(draw: ImageDraw.ImageDraw, radius_mm: float | None, pixels_a_mm: float) -> None:
    """A cross that leaves the place itself free, and the circle that the place lies in."""
    middle, gap, end = PIXELS / 2, PIXELS * 0.06, PIXELS * 0.12
    for sign in (-1, 1):
        one, two = middle + sign * gap, middle + sign * end
        draw.line([(one, middle), (two, middle)], fill=CROSS)
        draw.line([(middle, one), (middle, two)], fill=CROSS)
    if radius_mm is not None:
        r = radius_mm * pixels_a_mm
        draw.ellipse([middle - r, middle - r, middle + r, middle + r], outline=CROSS)


def described(row: Mapping[str, Any]) -> str:
    """What the table says of a finding, as sentences."""
    radius = row["radius_95_mm"]
    own = row["of"]
    side = "moving" if own == "fixed" else "fixed"
    place = ", ".join(f"{row[f'{side}_{axis}']:.1f}" for axis in "xyz")
    sure = "how sure is not known" if radius is None else f"within {radius:.1f} mm in 95 of 100"
    said = [
        f"Given in the {own} scan (slice {row[f'{own}_slice']}); in the {side} scan "
        f"at ({place}) mm, LPS, slice {row[f'{side}_slice']}, {sure}: {row['place']}."
    ]
    if row["reasons"]:
        said.append(f"Why: {row['reasons']}.")
    if row["change"]:
        became = f" as {row['is']}, {row['off_mm']:.1f} mm off" if row["is"] else ""
        said.append(f"{row['change'].capitalize()}{became}.")
    if row["volume_change_percent"] is not None:
        said.append(
            f"Volume {row['volume_mm3']:.0f} to {row['found_volume_mm3']:.0f} mm³ "
            f"({row['volume_change_percent']:+.0f} %), longest diameter {row['longest_mm']:.1f} to "
            f"{row['found_longest_mm']:.1f} mm ({row['longest_change_percent']:+.0f} %)."
        )
    return " ".join(said)
