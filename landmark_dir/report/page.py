"""One self-contained page of a run or a comparison: the pair, the verdict, images, figures."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmark_dir.report import heading
from landmark_dir.report.content import Arm, Content
from landmark_dir.report.markup import VIEWER_SCRIPTS, asset, document, names_table, rows_table
from landmark_dir.report.plots import distance_plots
from landmark_dir.report.scene import named_images, run_scene
from landmark_dir.report.volumes import lost_hu, shown_grid, stills
from landmark_dir.report.worst_places import on_page, worst_places

TABLES = ("metrics", "start", "inputs", "options", "seconds", "versions", "weights")
CAUTION = (
    "For research only. Residuals at guiding landmarks are no measure of accuracy; held-back "
    "landmarks guided nothing, but come from the same network. A Jacobian determinant of 0 or "
    "below is a transform that is not one to one there. Where the moving image has no data its "
    "smallest value stands."
)


def write_report(path: Path, content: Content) -> None:
    """Write the page; it needs no network and no other file."""
    grid = shown_grid(content.fixed)
    data = run_scene(content, grid)
    run = content.arms[-1].run
    head = (
        f"{heading.pair(run, content.start)}{heading.answer(content.answer)}"
        f"{''.join(heading.verdict(arm) for arm in reversed(content.arms))}"
        f"{heading.warnings(content.arms)}{_worst(content, grid)}"
    )
    lost = lost_hu(content.fixed, grid, data["images"][0]) if data["unit"] else None
    body = (
        f'<div class="screen"><div class="head">{head}</div>{asset("viewer.html")}</div>'
        f'<p class="lost">{_lost(content.fixed, grid, lost)}</p>{_stills(content)}'
        f"{''.join(rows_table(*table) for table in content.tables)}{_plots(content.arms)}"
        f"{_runs(content.arms)}<p>{CAUTION}</p>"
    )
    style = asset("base.css", "viewer.css", "page.css")
    page = document(heading.title_of(run), style, body, data, asset(*VIEWER_SCRIPTS))
    path.write_text(page, encoding="utf-8")


def _worst(content: Content, grid: sitk.Image) -> str:
    """The list of the worst places; a button leads to each that the page shows."""
    items = ""
    for why, place in worst_places(content):
        index = on_page(grid, place)
        words = html.escape(f"({', '.join(f'{mm:.0f}' for mm in place[0])})")
        if index is not None:
            at = " ".join(map(str, index))
            words = f'<button type="button" data-go="{at}">{words}</button>'
        items += f"<li>{words} {html.escape(why)}</li>"
    if not items:
        return ""
    return (
        '<section class="worst"><h2>Look here first</h2><p>Places in the fixed image, mm, LPS; '
        f"press one to go there.</p><ol>{items}</ol></section>"
    )


def _lost(fixed: sitk.Image, grid: sitk.Image, lost: float | None) -> str:
    """What the page does not show of the images."""
    from_mm, to_mm = (" x ".join(f"{mm:.2f}" for mm in i.GetSpacing()) for i in (fixed, grid))
    said = (
        "The images of this page are compressed: 8-bit greys, finest between -200 and 250 HU and "
        "clipped at -1024 and 2000"
    )
    if lost is not None:
        said += f"; in soft tissue 95 % of the voxels of the fixed image are within {lost:.0f} HU"
    if not np.allclose(np.sort(fixed.GetSpacing()), np.sort(grid.GetSpacing())):
        said += f". Voxels of {to_mm} mm instead of {from_mm} mm"
    return f"{said}. For measurements take the files. “moving” is shown as it lay before."


def _stills(content: Content) -> str:
    """A fixed set of slices, for print and for readers without scripts."""
    images = named_images(content)
    names = html.escape(", ".join(images))
    figures = "".join(
        f'<figure><img src="{url}" alt="axial slice {number}: {names}"><figcaption>Slice {number}, '
        f"from the left: {names}</figcaption></figure>"
        for number, url in stills(list(images.values()), content.body).items()
    )
    return f'<section class="stills"><h2>Slices</h2>{figures}</section>'


def _plots(arms: Sequence[Arm]) -> str:
    """Each kind of distance with all arms that have it."""
    titles = dict.fromkeys(title for arm in arms for title in arm.distances_mm)
    plots = ""
    for title in titles:
        having = [arm for arm in arms if title in arm.distances_mm]
        plots += distance_plots(title, {arm.name: arm.distances_mm[title] for arm in having})
    return f"<h2>Distances</h2>{plots}" if plots else ""


def _runs(arms: Sequence[Arm]) -> str:
    """What each run was made of, folded away."""
    return "".join(
        f"<details><summary>{html.escape(arm.name)}: {name}</summary>"
        f"{names_table(arm.run[name])}</details>"
        for arm in arms
        for name in TABLES
        if arm.run.get(name)
    )
