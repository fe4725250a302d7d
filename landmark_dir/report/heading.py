"""The head of a page: which pair, registered how and when, what to think of it."""

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any

from landmark_dir.report.content import Answer, Arm

FIGURES = {  # of `run.json`: text, factor, decimals, unit
    "landmarks": ("landmarks", 1, 0, ""),
    "held_back": ("held back", 1, 0, ""),
    "correlation": ("correlation", 1, 3, ""),
    "folded_share": ("folded", 100, 2, " %"),
    "sd_log_jacobian": ("SD of log Jacobian", 1, 3, ""),
}
UNNAMED = "an image in memory"


def title_of(run: Mapping[str, Any]) -> str:
    """Which image was registered to which."""
    inputs = run.get("inputs", {})
    fixed, moving = (_name(inputs.get(side)) for side in ("fixed", "moving"))
    if fixed == moving == UNNAMED:
        return "Two images, registered"
    return f"{moving} registered to {fixed}"


def pair(run: Mapping[str, Any], start: str = "") -> str:
    """Both images, the days between them, and who registered them, when, from which start."""
    inputs = run.get("inputs", {})
    rows = "".join(
        f'<tr><th scope="row">{side}</th><td>{html.escape(_image(inputs.get(side)))}</td></tr>'
        for side in ("fixed", "moving")
    )
    said = [_days(inputs.get("moving") or {}), _registered(run), start]
    lines = "".join(f"<p>{html.escape(text)}</p>" for text in said if text)
    return f'<div class="pair"><table>{rows}</table>{lines}</div>'


def _name(source: Mapping[str, Any] | None) -> str:
    """A file or series as people call it."""
    source = source or {}
    series = (source.get("dicom") or {}).get("description")
    path = source.get("path")
    return str(series or (PurePath(path).name if path else UNNAMED))


def _image(source: Mapping[str, Any] | None) -> str:
    """Name, size and voxels of one side."""
    source = source or {}
    told = [_name(source)]
    if size := source.get("size_xyz"):
        told.append(" x ".join(map(str, size)))
    if spacing := source.get("spacing_mm"):
        told.append(" x ".join(f"{mm:.2f}" for mm in spacing) + " mm")
    if "grey_values" in source:
        told.append("no CT: grey values put on the scale of CT, the numbers are an order only")
    return ", ".join(told)


def _days(moving: Mapping[str, Any]) -> str:
    days = moving.get("days_after_fixed")
    if days is None:
        return ""
    if days == 0:
        return "Both were taken on the same day."
    return f"Moving was taken {abs(days)} days {'after' if days > 0 else 'before'} fixed."


def _registered(run: Mapping[str, Any]) -> str:
    told = f"Registered by landmark_dir {run.get('landmark_dir', 'of an unknown version')}"
    if finished := run.get("finished"):
        told += f", {datetime.fromisoformat(finished):%Y-%m-%d %H:%M} UTC"
    return f"{told}; T maps fixed points to moving points."


def verdict(arm: Arm) -> str:
    """The verdict, its reasons in a sentence, and one line of figures."""
    found = arm.run.get("verdict")
    if found is None:
        return f'<section class="verdict"><p>{_figures(arm)}</p></section>'
    word = html.escape(found["verdict"])
    reasons = html.escape("; ".join(found["reasons"]))
    return (
        f'<section class="verdict {word.replace(" ", "-")}"><h2>{html.escape(arm.name)}: '
        f"<strong>{word}</strong></h2><p>{reasons[:1].upper()}{reasons[1:]}.</p>"
        f'<p class="figures">{_figures(arm)}</p></section>'
    )


def _figures(arm: Arm) -> str:
    metrics = arm.run["metrics"]
    found = [
        f"{text} {_number(metrics[name], factor, digits)}{unit}"
        for name, (text, factor, digits, unit) in FIGURES.items()
        if metrics.get(name) is not None
    ]
    return html.escape(" · ".join(found))


def _number(value: float, factor: int, digits: int) -> str:
    return f"{value * factor:.{digits}f}"


def answer(given: Answer | None) -> str:
    """Whether landmarks helped, as a box."""
    if given is None:
        return ""
    figures = "".join(f"<p>{html.escape(line)}</p>" for line in given.figures)
    caveats = "".join(f"<li>{html.escape(line)}</li>" for line in given.caveats)
    return (
        f'<section class="answer"><h2>{html.escape(given.headline)}</h2>{figures}'
        f"{f'<ul>{caveats}</ul>' if caveats else ''}</section>"
    )


def warnings(arms: Sequence[Arm]) -> str:
    """What a person should know of the runs, each thing once."""
    said = dict.fromkeys(warning for arm in arms for warning in arm.run["warnings"])
    return "".join(f'<p class="warning">Note: {html.escape(warning)}</p>' for warning in said)
