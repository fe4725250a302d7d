"""One self-contained page of a study: how many cases went well, which to look at, all figures."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmark_dir.io.run_folder import ARMS
from landmark_dir.report.content import Table
from landmark_dir.report.markup import asset, document, rows_table, shown
from landmark_dir.report.plots import cases_plot
from landmark_dir.report.study_table import (
    MEASURES,
    NO_RESULT,
    WORDS,
    Previews,
    Row,
    figure,
    study_data,
    word,
)

MEANING = {  # what is said below each number of cases
    "good": "nothing odd was found",
    "doubtful": "look at these",
    "failed": "not to be used",
    "not checked": "nothing to check by",
    NO_RESULT: "ended in an error",
    "left": "not done yet",
}
CAUTION = (
    "For research only. A verdict is a screen, no proof of accuracy. Held-back landmarks guided "
    "nothing, but come from the same network. Each case counts once."
)


@dataclass(frozen=True)
class StudyContent:
    """Everything the page of a study shows.

    Attributes
    ----------
    title : str
    about : mapping
        What the study was made with, for a small table.
    compared : bool
        Each case was registered without and with landmarks.
    rows : sequence of mapping
        One for each case, as the columns of the table of results, in the order of the cases:
        `case`, `folder` (of its report, relative to the page), `state` (done or failed), `verdict`,
        `reasons`, `error`, and any figures and texts.
    left : int
        Number of cases that are not done yet.
    pooled : sequence of Table
        What all cases say together.
    previews : callable
        The small picture of a row, WebP; None if it has none. Asked for failed and doubtful cases.
    """

    title: str
    about: Mapping[str, str]
    compared: bool
    rows: Sequence[Row]
    left: int
    pooled: Sequence[Table]
    previews: Previews


def write_study_page(path: Path, study: StudyContent) -> None:
    """Write the page; it needs no network, and no other file but the reports it leads to."""
    body = (
        f"{_counts(study)}{_pooled(study)}{_plots(study)}{asset('study.html')}"
        f"{_about(study.about)}<p>{CAUTION}</p>"
    )
    data = study_data(study.rows, study.previews)
    page = document(study.title, asset("base.css", "study.css"), body, data, asset("study.js"))
    path.write_text(page, encoding="utf-8")


def _counts(study: StudyContent) -> str:
    """How many cases came out how: a sentence, a bar, large numbers."""
    counts = Counter(map(word, study.rows))
    found = {name: counts[name] for name in reversed(WORDS) if name != NO_RESULT}
    found |= {NO_RESULT: counts[NO_RESULT], "left": study.left}
    every = max(len(study.rows) + study.left, 1)
    bar = "".join(
        f'<i class="{_css(name)}" style="flex-grow:{n}"></i>' for name, n in found.items() if n
    )
    tiles = "".join(
        f'<li class="{_css(name)}{"" if n else " none"}"><b>{n:,}</b> <strong>{name}</strong> '
        f"<span>{_percent(n, every)}{MEANING[name]}</span></li>"
        for name, n in found.items()
    )
    return (
        f'<p class="lead">{_lead(study, counts)}</p>'
        f'<div class="bar" aria-hidden="true">{bar}</div><ul class="tiles">{tiles}</ul>'
    )


def _lead(study: StudyContent, counts: Mapping[str, int]) -> str:
    """The state of the study in a sentence."""
    look = counts["failed"] + counts["doubtful"]
    done, every = len(study.rows) - counts[NO_RESULT], len(study.rows) + study.left
    each = ", each without and with landmarks" if study.compared else ""
    return f"{done:,} of {every:,} cases registered{each}; {look:,} to look at."


def _css(name: str) -> str:
    return name.replace(" ", "-")


def _percent(number: int, every: int) -> str:
    return f"{number / every:.0%}; " if number else ""


def _pooled(study: StudyContent) -> str:
    """What all cases say together: in a comparison, whether landmarks helped."""
    tables = "".join(rows_table(*table) for table in study.pooled)
    return f'<section class="pooled" aria-label="over all cases">{tables}</section>' * bool(tables)


def _plots(study: StudyContent) -> str:
    """How many cases with a result have which value, for each figure that is there."""
    having = [row for row in study.rows if word(row) != NO_RESULT]
    held_back = f"held_back_mm_{'mean' if study.compared else 'median'}"
    plots = ""
    for measure in ("tre_mm_mean", held_back, "folded_share", "correlation", "seconds"):
        arms = {arm: _figures(having, f"{arm}_{measure}") for arm in ARMS}
        if not any(map(len, arms.values())):
            arms = {"": _figures(having, measure)}
        if there := {arm: values for arm, values in arms.items() if len(values)}:
            title, digits = MEASURES[measure]
            plots += cases_plot(title, there, digits)
    return f'<h2>Distribution over cases</h2><div class="plots">{plots}</div>' if plots else ""


def _figures(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    found = (figure(row, name) for row in rows)
    return np.array([value for value in found if value is not None])


def _about(about: Mapping[str, str]) -> str:
    items = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(shown(value))}</dd></div>"
        for name, value in about.items()
    )
    return f"<h2>About this study</h2><dl>{items}</dl>" if items else ""
