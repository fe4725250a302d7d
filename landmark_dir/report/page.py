"""One self-contained page of a run or a comparison: verdict, images, landmarks, maps, figures."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.geometry import Points, physical_to_index
from landmark_dir.parallel import share
from landmark_dir.points import PointPairs
from landmark_dir.report.markup import asset, document, names_table, rows_table, shown
from landmark_dir.report.plots import distance_plots
from landmark_dir.report.volumes import GREY_HU, packed, packed_map, place_colours, shown_grid

Table: TypeAlias = tuple[str, Sequence[str], Sequence[Sequence[object]]]  # title, header, rows
TABLES = ("metrics", "start", "inputs", "options", "seconds", "cpu_seconds", "versions", "weights")
CAUTION = (
    "For research only. Residuals at guiding landmarks are no measure of accuracy; held-back "
    "landmarks guided nothing, but come from the same network. A Jacobian determinant of 0 or "
    "below is a transform that is not one to one there. Distances in mm. Where the moving image "
    "has no data its smallest value stands."
)


@dataclass(frozen=True)
class Arm:
    """One registration, as the page shows it.

    Attributes
    ----------
    name : str
    warped : sitk.Image or None
        Moving image on the fixed grid; None for a run that ends with its landmarks.
    displacement_mm, jacobian : sitk.Image or None
        What the b-spline adds to the affine map, mm, and the determinant of dT/dx, on any grid.
    distances_mm : mapping
        Title -> distances [N], mm.
    run : mapping
        Content of `run.json`.
    """

    name: str
    warped: sitk.Image | None
    displacement_mm: sitk.Image | None
    jacobian: sitk.Image | None
    distances_mm: Mapping[str, NDArray[np.float64]]
    run: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """Everything a page shows.

    Attributes
    ----------
    before : sitk.Image
        The moving image on the fixed grid before any registration.
    arms : sequence of Arm
        One, or two of a comparison.
    pairs : PointPairs
        Landmarks, held back ones included.
    moving_before : ndarray, shape (N, 3)
        Where their moving points are seen in `before`, LPS mm.
    residual_mm : ndarray, shape (N,), or None
    held_back : ndarray of bool, shape (N,)
    tables : sequence of Table
        Shown below the verdict.
    """

    title: str
    fixed: sitk.Image
    moving: sitk.Image
    before: sitk.Image
    arms: Sequence[Arm]
    pairs: PointPairs
    moving_before: Points
    residual_mm: NDArray[np.float64] | None
    held_back: NDArray[np.bool_]
    tables: Sequence[Table]


def write_report(path: Path, content: Content) -> None:
    """Write the page; it needs no network and no other file."""
    body = (
        f"{''.join(_verdict(arm) for arm in content.arms)}{_warnings(content.arms)}"
        f"{''.join(rows_table(*table) for table in content.tables)}"
        f"{asset('viewer.html')}{_plots(content.arms)}{_runs(content.arms)}<p>{CAUTION}</p>"
    )
    page = document(content.title, asset("page.css"), body, _data(content), asset("page.js"))
    path.write_text(page, encoding="utf-8")


def _verdict(arm: Arm) -> str:
    """The verdict and its reasons, and one line of figures."""
    verdict = arm.run.get("verdict")
    if verdict is None:
        return f"<p>{html.escape(arm.name)}: {_figures(arm.run)}</p>"
    word = html.escape(verdict["verdict"])
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in verdict["reasons"])
    return (
        f'<section class="verdict {word}"><h2>{html.escape(arm.name)}: {word}</h2>'
        f"<ul>{reasons}</ul><p>{_figures(arm.run)}</p></section>"
    )


def _figures(run: Mapping[str, Any]) -> str:
    names = {"landmarks": "landmarks", "held_back": "held back", "correlation": "correlation"}
    names |= {"folded_share": "folded share", "sd_log_jacobian": "SD of log Jacobian"}
    metrics = run["metrics"]
    found = [f"{text} {shown(metrics[name])}" for name, text in names.items() if name in metrics]
    return html.escape(" · ".join(found))


def _warnings(arms: Sequence[Arm]) -> str:
    warnings = dict.fromkeys(warning for arm in arms for warning in arm.run["warnings"])
    return "".join(f'<p class="warning">{html.escape(warning)}</p>' for warning in warnings)


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


def _data(content: Content) -> dict[str, Any]:
    """What the script draws."""
    grid = shown_grid(content.fixed)
    images = [("fixed", content.fixed), ("moving, before", content.before)]
    maps = []
    for arm in content.arms:
        if arm.warped is not None:
            images.append((f"warped, {arm.name}", arm.warped))
        for kind, image in (("displacement", arm.displacement_mm), ("jacobian", arm.jacobian)):
            if image is not None:
                maps.append(packed_map(f"{kind}, {arm.name}", image, grid, kind))
    return {
        "size": grid.GetSize(),
        "spacing": grid.GetSpacing(),
        "greys": GREY_HU,
        "images": list(share(lambda named: packed(*named, grid), images)),
        "maps": maps,
        "landmarks": _landmarks(content, grid),
    }


def _landmarks(content: Content, grid: sitk.Image) -> list[list[Any]]:
    """Place in fixed (x, y, z), in before (x, y, z), colour, score, residual, held back or not."""
    pairs = content.pairs

    def places(points: Points) -> list[list[float]]:
        found: list[list[float]] = physical_to_index(grid, points).round(2).tolist()
        return found

    residual = [None] * len(pairs) if content.residual_mm is None else content.residual_mm.round(3)
    return [
        [*fixed, *before, colour, score, None if left is None else float(left), bool(held)]
        for fixed, before, colour, score, left, held in zip(
            places(pairs.fixed),
            places(content.moving_before),
            place_colours(pairs.fixed),
            pairs.score.round(3).tolist(),
            residual,
            content.held_back,
            strict=True,
        )
    ]
