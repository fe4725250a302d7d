"""The page of a study: counts, the table of cases, pictures; opened in a real browser."""

import base64
import html
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
from needs import needs

from landmark_dir.evaluation.verdict import WORDS as VERDICTS
from landmark_dir.report import study_table
from landmark_dir.report.study_page import StudyContent, write_study_page
from landmark_dir.report.study_table import NO_RESULT, WORDS, columns_of

HOSTILE = "</script><script>document.title='caught'</script><img src=x onerror=alert(1)>\"'&"
MANY = 10_000
WEBP = base64.b64decode("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoBAAEAAgA0JaQAA3AA/vuUAAA=")


def done(name: str, verdict: str, **figures: Any) -> dict[str, Any]:
    row = {"case": name, "folder": f"cases/{name}", "state": "done", "verdict": verdict}
    return {**row, "reasons": f"{verdict} because", "error": "", **figures}


def ended(name: str, error: str) -> dict[str, Any]:
    row = {"case": name, "folder": "", "state": "failed", "verdict": "", "reasons": ""}
    return {**row, "error": error, "seconds": 3.2}


ROWS = [
    done("P10", "good", correlation=0.97123, folded_share=0.0, seconds=61.4, age="9", site="Süd"),
    done("P2", "doubtful", correlation=0.9, folded_share=0.00123, seconds=70.0, age="63"),
    ended("P3", f"moving: {HOSTILE}"),
    done("P4", "failed", correlation=float("nan"), folded_share=0.04, seconds=55.0, age="7.5"),
    done("P5", "not checked", correlation=0.95, seconds=58.0, none=None, empty=""),
    done(HOSTILE, "doubtful", correlation=0.88, seconds=90.0, extra=HOSTILE),
]


def study(
    rows: list[dict[str, Any]],
    previews: Callable[[Mapping[str, Any]], Path | None] = lambda row: None,
    **changed: Any,
) -> StudyContent:
    table = (f"Mean {HOSTILE}", ["", "without", "with"], [[HOSTILE, "2.31", "1.60"]])
    about = {"options": HOSTILE, "cases an hour": "12"}
    given = {"about": about, "compared": False, "left": 2, "pooled": [table]} | changed
    return StudyContent(title=f"Title {HOSTILE}", rows=rows, previews=previews, **given)


def written(content: StudyContent, folder: Path) -> str:
    write_study_page(folder / "study.html", content)
    return (folder / "study.html").read_text("utf-8")


def data_of(page: str) -> dict[str, Any]:
    """What the script of a page is given."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def picture(folder: Path, size: int = 0) -> Path:
    path = folder / "preview.webp"
    path.write_bytes(WEBP + bytes(max(0, size - len(WEBP))))
    return path


def many(count: int) -> list[dict[str, Any]]:
    """Doubtful cases with as many figures as a comparison has."""
    rng = np.random.default_rng(0)
    names = [f"{s}_{n}" for s in ("before", "affine", "without", "with") for n in FIGURES]
    return [
        done(f"P{n:05d}", "doubtful", **dict(zip(names, rng.random(len(names)), strict=True)))
        | {"reasons": "a group of neighbouring landmarks is 7.2 mm away from where it belongs " * 2}
        for n in range(count)
    ]


FIGURES = (
    *(f"{at}_mm_{of}" for at in ("tre", "held_back") for of in ("mean", "median", "p95", "max")),
    *("mean_dice", "correlation", "folded_share", "sd_log_jacobian", "seconds"),
)


def test_every_verdict_has_a_place() -> None:
    assert set(WORDS) == {*VERDICTS, NO_RESULT}


def test_the_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    page = written(study(ROWS, lambda row: picture(tmp_path), compared=True), tmp_path)
    assert HOSTILE not in page
    assert page.count("<script") == 2
    assert "<img" not in page
    unquoted = re.sub(r'"[^"]*"', '""', page)
    assert not re.search(r"<[a-z][^>]* on[a-z]+=", unquoted)  # no handler within a tag
    assert not re.search(r"(src|href)\s*=\s*[\"']?(?!data:)[a-z]+:", page)
    assert page.count(html.escape(HOSTILE)) >= 4  # title twice, pooled, about


def test_the_counts_come_first(tmp_path: Path) -> None:
    page = written(study(ROWS), tmp_path)
    tiles = re.findall(r"<li class=[^>]*><b>([\d,]+)</b> <strong>([a-z ]+)</strong>", page)
    found = {name: int(count) for count, name in tiles}
    want = {"good": 1, "not checked": 1, "doubtful": 2, "failed": 1, "no result": 1, "left": 2}
    assert found == want
    assert "5 of 8 cases registered; 3 to look at." in page


def test_a_study_without_cases_is_a_page(tmp_path: Path) -> None:
    page = written(study([], pooled=[], about={}, left=0), tmp_path)
    assert "0 of 0 cases registered; 0 to look at." in page
    assert data_of(page)["rows"] == []
    assert "<svg" not in page


def test_the_worst_come_first_and_otherwise_the_order_stays(tmp_path: Path) -> None:
    data = data_of(written(study(ROWS), tmp_path))
    assert [row[0] for row in data["rows"]] == ["P3", "P4", "P2", HOSTILE, "P5", "P10"]
    assert [WORDS[row[1]] for row in data["rows"]][:3] == ["no result", "failed", "doubtful"]
    assert data["rows"][0][2].startswith("moving: ")  # the error, where there are no reasons
    assert data["rows"][1][2] == "failed because"


def test_columns_are_key_figures_then_the_rest_and_never_empty() -> None:
    columns = columns_of(ROWS)
    shown = [column.name for column in columns if column.shown]
    assert shown == ["folded_share", "correlation", "seconds"]
    assert [column.name for column in columns[3:]] == ["age", "site", "extra"]
    compared = columns_of(many(1))
    shown = [column.name for column in compared if column.shown]
    arms = "without", "with"
    names = "tre_mm_mean", "held_back_mm_mean", "mean_dice"
    assert shown == [*(f"{arm}_{name}" for name in names for arm in arms), "with_seconds"]
    titles = {column.name: column.title for column in compared}
    assert titles["with_tre_mm_mean"] == "TRE (mm), with"
    assert titles["affine_tre_mm_p95"] == "affine_tre_mm_p95"  # the name in results.csv


def test_numbers_are_rounded_to_what_is_shown(tmp_path: Path) -> None:
    row = done("P1", "good", correlation=0.97128, folded_share=0.00123, my_folded_share=0.5)
    row |= {"with_held_back_mm_max": 2.3456, "other": 1234.567, "count": np.int64(7)}
    row |= {"flag": True, "gone": float("inf")}
    data = data_of(written(study([row]), tmp_path))
    cells = dict(zip((c["name"] for c in data["columns"]), data["rows"][0][3:], strict=True))
    want = {"correlation": 0.971, "folded_share": 0.12, "my_folded_share": 0.5}
    want |= {"with_held_back_mm_max": 2.35, "other": 1235, "count": 7}
    assert cells == want | {"flag": "True"}


def test_links_lead_to_the_reports_of_what_is_done(tmp_path: Path) -> None:
    odd = done("a", "good") | {"folder": "cases/Müller #7 100%?"}
    away = done("b", "good") | {"folder": "//elsewhere"}
    data = data_of(written(study([odd, away, done("c", "good", folder=""), *ROWS[2:3]]), tmp_path))
    links = dict(zip((row[0] for row in data["rows"]), data["links"], strict=True))
    assert links["a"] == "./cases/M%C3%BCller%20%237%20100%25%3F/report.html"
    assert links["b"] == ".///elsewhere/report.html"  # a folder, and no other host
    assert (links["c"], links["P3"]) == (None, None)


def test_only_failed_and_doubtful_cases_have_pictures(tmp_path: Path) -> None:
    asked = []

    def previews(row: Mapping[str, Any]) -> Path | None:
        asked.append(row["case"])
        return {"P4": picture(tmp_path), "P2": tmp_path / "missing.webp"}.get(row["case"])

    data = data_of(written(study(ROWS, previews), tmp_path))
    assert asked == ["P4", "P2", HOSTILE]
    assert data["previews"] == {"1": base64.b64encode(WEBP).decode()}


def test_pictures_end_where_there_is_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_table, "PREVIEW_CHARACTERS", 2 * 4 * -(-len(WEBP) // 3))
    rows = [done(str(n), "doubtful") for n in range(4)] + [done("worst", "failed")]
    data = data_of(written(study(rows, lambda row: picture(tmp_path)), tmp_path))
    assert [data["rows"][int(number)][0] for number in data["previews"]] == ["worst", "0"]


def test_distributions_are_of_what_has_a_result(tmp_path: Path) -> None:
    page = written(study(ROWS), tmp_path)
    assert re.findall(r'role="img" aria-label="([^"]+)"', page) == [
        *("folded (%)", "correlation", "seconds")
    ]
    assert "median 61, 90 % from 56 to 86 (5 cases)" in page  # not the one that ended in an error
    compared = written(study(many(50), compared=True), tmp_path)
    for arm in ("arm0", "arm1"):
        assert compared.count(f'class="{arm}" stroke') == 5
    assert "without: median 0." in compared


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 10,000 doubtful cases with pictures of 15 KB."""
    folder = tmp_path_factory.mktemp("large")
    preview = picture(folder, 15_000)
    content = study(many(MANY), lambda row: preview, compared=True)
    started = time.monotonic()
    write_study_page(folder / "study.html", content)
    assert time.monotonic() - started < 10  # s; takes 2
    return folder / "study.html"


def test_ten_thousand_cases_are_less_than_20_mb(large: Path) -> None:
    assert 12e6 < large.stat().st_size < 20e6


# --- in a browser -------------------------------------------------------------------------------

CASES = "Array.from(document.querySelectorAll('#body th')).map(e => e.textContent)"
WHERE = "document.getElementById('where').textContent"


def opened_page(path: Path, width: int = 1400, scheme: str = "light") -> chromium.Page:
    needs("chromium")
    return chromium.Page(path, width, scheme=scheme).ready()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    folder = tmp_path_factory.mktemp("study")
    written(study(ROWS, lambda row: picture(folder) if row["case"] == "P4" else None), folder)
    page = opened_page(folder / "study.html")
    yield page
    page.close()


@pytest.fixture(scope="module")
def opened_large(large: Path) -> Iterator[chromium.Page]:
    page = opened_page(large)
    yield page
    page.close()


def sort_by(title: str) -> str:
    return (
        "(() => { const cell = Array.from(document.querySelectorAll('#head th'))"
        f".find(e => e.textContent === {title!r}); cell.firstChild.click();"
        "return cell.getAttribute('aria-sort') })()"
    )


def tick(title: str) -> str:
    return (
        "Array.from(document.querySelectorAll('label'))"
        f".find(e => e.textContent.startsWith({title!r})).firstChild.click()"
    )


def find(text: str) -> str:
    return (
        f"(() => {{ const e = document.getElementById('find'); e.value = {text!r};"
        "e.dispatchEvent(new Event('input')) })()"
    )


@pytest.mark.engine
def test_it_opens_without_errors_requests_or_strange_scripts(opened: chromium.Page) -> None:
    assert opened.said == []
    assert [url for url in opened.requested if not url.startswith(("data:", "file:"))] == []
    assert opened.run("document.title").startswith("Title </script>")  # text, and not run
    assert opened.run(CASES) == ["P3", "P4", "P2", HOSTILE, "P5", "P10"]
    assert opened.run(WHERE) == "1 to 6 of 6 cases"
    scopes = "Array.from(document.querySelectorAll('table th')).every(e => e.scope)"
    assert opened.run(scopes)


@pytest.mark.engine
def test_the_policy_stops_what_is_not_of_the_page(opened: chromium.Page) -> None:
    opened.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.caught = 1';"
        "document.body.append(s) })()"
    )
    assert opened.run("window.caught === undefined")
    assert any("Content Security Policy" in said for said in opened.said)
    opened.said.clear()


@pytest.mark.engine
def test_failed_and_doubtful_cases_show_pictures_or_where_they_are(opened: chromium.Page) -> None:
    seen = opened.run(
        "Array.from(document.querySelectorAll('#body tr')).map(row => [row.querySelectorAll('img')"
        ".length, row.querySelector('.why').innerText])"
    )
    assert [count for count, _ in seen] == [0, 1, 0, 0, 0, 0]
    assert re.search(r"fixed\s+before\s+after", seen[1][1])
    assert ["open the report" in text for _, text in seen] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    opened.wait("document.querySelector('#body img').naturalWidth === 1")  # the policy allows it
    link = "document.querySelectorAll('#body th a')[1].getAttribute('href')"
    assert opened.run(link) == "./cases/P2/report.html"


@pytest.mark.engine
def test_headers_sort_and_what_is_not_known_comes_last(opened: chromium.Page) -> None:
    assert opened.run(sort_by("correlation")) == "ascending"
    assert opened.run(CASES) == [HOSTILE, "P2", "P5", "P10", "P3", "P4"]
    assert opened.run(sort_by("correlation")) == "descending"
    assert opened.run(CASES) == ["P10", "P5", "P2", HOSTILE, "P3", "P4"]
    assert opened.run(sort_by("case")) == "ascending"
    assert opened.run(CASES)[1:] == ["P2", "P3", "P4", "P5", "P10"]  # numbers in names as numbers
    assert opened.run("document.querySelectorAll('[aria-sort]').length") == 1
    opened.run(tick("age"))
    opened.run(sort_by("age"))  # a column of the user's, numbers as text
    assert opened.run(CASES)[:3] == ["P4", "P10", "P2"]
    opened.run(tick("age"))
    opened.run(sort_by("verdict"))
    assert opened.run(CASES)[0] == "P3"


@pytest.mark.engine
def test_cases_are_found_by_any_text_and_by_verdict(opened: chromium.Page) -> None:
    opened.run(find("süd"))  # in a column that is not shown
    assert opened.run(CASES) == ["P10"]
    assert opened.run(WHERE) == "1 to 1 of 1 cases found among 6"
    opened.run(find("because 0.12"))  # each word somewhere
    assert opened.run(CASES) == ["P2"]
    opened.run(find("nowhere"))
    assert opened.run(WHERE) == "no case found among 6"
    opened.run(find(""))
    for verdict in ("doubtful", "no result"):
        opened.run(tick(verdict))
    assert opened.run(CASES) == ["P4", "P5", "P10"]
    for verdict in ("doubtful", "no result"):
        opened.run(tick(verdict))
    assert len(opened.run(CASES)) == 6


@pytest.mark.engine
def test_columns_are_chosen(opened: chromium.Page) -> None:
    heads = "Array.from(document.querySelectorAll('#head th')).map(e => e.textContent)"
    shown = ["case", "verdict", "why", "folded (%)", "correlation", "seconds"]
    assert opened.run(heads) == shown
    opened.run(tick("extra"))
    assert opened.run(heads) == [*shown, "extra"]
    texts = opened.run("Array.from(document.querySelectorAll('#body td')).map(e => e.textContent)")
    assert HOSTILE in texts
    assert "0.12" in texts
    opened.run(tick("extra"))


@pytest.mark.engine
def test_the_keyboard_reaches_everything(opened: chromium.Page) -> None:
    opened.run("document.getElementById('find').focus()")
    reached = []
    for _ in range(25):
        opened.tab.keyboard.press("Tab")
        reached.append(opened.run("document.activeElement.textContent.slice(0, 20)"))
        if reached[-1] == "seconds":
            break
    assert reached[-6:] == ["case", "verdict", "why", "folded (%)", "correlation", "seconds"]
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for way in ("ascending", "descending"):
        opened.tab.keyboard.press("Enter")
        sort = "document.activeElement.parentElement.getAttribute('aria-sort')"
        assert opened.run(sort) == way  # and the focus stays
    opened.run(sort_by("verdict"))


@pytest.mark.engine
def test_ten_thousand_cases_are_there_at_once(opened_large: chromium.Page) -> None:
    page = opened_large
    seconds = page.run("performance.now() / 1000")  # since the page was asked for, and more
    print(f"10,000 cases: {seconds:.2f} s")
    assert page.said == []
    assert seconds < 3
    assert page.run("document.querySelectorAll('#body tr').length") == 100
    took = page.run(
        "(() => { const t = performance.now();"
        "document.querySelectorAll('#head th button')[3].click(); return performance.now() - t })()"
    )
    print(f"sorted in {took:.0f} ms")
    assert took < 1000  # ms


@pytest.mark.engine
def test_the_table_is_turned_page_by_page(opened_large: chromium.Page) -> None:
    page = opened_large
    page.run(sort_by("case"))
    assert page.run(WHERE) == "1 to 100 of 10,000 cases"
    assert page.run("document.getElementById('previous').disabled")
    page.run("document.getElementById('next').click()")
    assert page.run(WHERE) == "101 to 200 of 10,000 cases"
    assert page.run(CASES)[0] == "P00100"
    page.run(find("p0999"))
    assert page.run(WHERE) == "1 to 10 of 10 cases found among 10,000"
    assert page.run("document.getElementById('next').disabled")
    page.run(find(""))


@pytest.mark.engine
@pytest.mark.parametrize(("width", "scheme"), [(1400, "dark"), (800, "light")])
def test_it_is_legible_and_fits(width: int, scheme: str, tmp_path: Path) -> None:
    written(study([*ROWS, *many(3)], compared=True), tmp_path)
    page = opened_page(tmp_path / "study.html", width, scheme)
    assert page.faults() == []
    assert page.run("document.documentElement.scrollWidth") <= width
    page.close()
