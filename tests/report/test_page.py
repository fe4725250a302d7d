"""The report: one file, nothing from elsewhere, opened in a real browser."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
import SimpleITK as sitk
from needs import needs
from numpy.testing import assert_allclose
from PIL import Image
from small_pairs import Case, make_case

from landmark_dir.geometry import index_to_physical
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.intensity import CT
from landmark_dir.report import volumes
from landmark_dir.report.page import Arm, Content, write_report
from landmark_dir.report.volumes import as_seen, packed, packed_map, place_colours, shown_grid

HOSTILE = "</script><script>document.title='caught'</script><img src=x onerror=alert(1)>\"'"
RUN = {
    "verdict": {"verdict": "doubtful", "reasons": [f"odd {HOSTILE}"]},
    "warnings": [f"moving: {HOSTILE} is odd"],
    "metrics": {"landmarks": 3, "residual_mm": {"mean": 0.5}, "correlation": float("nan")},
    "inputs": {"fixed": {"path": f"{HOSTILE}.nii", "size_xyz": (4, 5, 6)}},
    "seconds": {"affine": 1.5},
    "options": {"threads": None, "landmark_weight": (0.1, 0.2)},
    "versions": {"python": "3"},
    "weights": None,
}


def content(case: Case, *, arms: int = 2, pairs: PointPairs | None = None) -> Content:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    before = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear, -1000.0)
    pairs = case.guides if pairs is None else pairs
    grid = fixed[::2, ::2, ::2]
    bends = sitk.Cast(grid, sitk.sitkFloat32) * 0.01 + 10.0
    determinant = sitk.Cast(grid, sitk.sitkFloat32) * 0.0005 + 0.4
    distances = {f"TRE at {HOSTILE}": np.linspace(0, 5, 50)}
    made = [
        Arm(f"arm {n} {HOSTILE}", before + n * 50, bends, determinant, distances, RUN)
        for n in range(arms)
    ]
    if not arms:
        made = [Arm("landmarks", None, None, None, {}, {**RUN, "verdict": None})]
    held = np.arange(len(pairs)) % 10 == 0
    residual = np.full(len(pairs), 0.42) if arms else None
    tables = [("Both arms", ["", "mean"], [[HOSTILE, 0.5]])]
    zero = np.zeros(3)
    return Content(
        f"Title {HOSTILE}", fixed, moving, before, zero, made, pairs, residual, held, tables
    )


def data_of(page: str) -> dict[str, Any]:
    """What the script of a page is given."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.mark.parametrize("arms", [0, 1, 2])
def test_page_is_self_contained_and_escaped(case: Case, arms: int, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, content(case, arms=arms))
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(?!data:)[a-z]+:", page)
    assert page.count("<script") == 2
    assert "<img" not in page
    assert HOSTILE not in page
    assert len(data_of(page)["images"]) == 2 + arms
    assert len(data_of(page)["maps"]) == 2 * arms


def test_page_without_landmarks(case: Case, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", content(case, pairs=PointPairs.empty()))
    assert data_of((tmp_path / "report.html").read_text("utf-8"))["landmarks"] == []


def test_landmarks_lie_where_they_are(case: Case, tmp_path: Path) -> None:
    """Voxels of the page, back in the world, are the landmarks."""
    shown = content(case)
    write_report(tmp_path / "report.html", shown)
    rows = data_of((tmp_path / "report.html").read_text("utf-8"))["landmarks"]
    grid = shown_grid(shown.fixed)
    fixed = index_to_physical(grid, [row[:3] for row in rows])
    before = index_to_physical(grid, [row[3:6] for row in rows])
    assert_allclose(fixed, case.guides.fixed, atol=0.1)  # mm; a hundredth of a voxel of 6 mm
    assert_allclose(before, case.guides.moving, atol=0.1)
    assert [row[9] for row in rows[:3]] == [True, False, False]
    assert rows[0][8] == 0.42


def test_a_packed_volume_is_the_image(case: Case) -> None:
    fixed = case.phantom.fixed
    grid = shown_grid(fixed)
    made = packed("fixed", fixed, grid)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["src"].split(",")[1]))))
    nx, ny, nz = grid.GetSize()
    grey = picture[..., 0] if picture.ndim == 3 else picture
    tiles = grey.reshape(-1, ny, made["columns"], nx).swapaxes(1, 2).reshape(-1, ny, nx)[:nz]
    want = (CT.to_network(sitk.GetArrayFromImage(as_seen(fixed))) + 1) * 127.5
    assert np.abs(tiles - want).mean() < 6  # of 255: lossy
    assert np.corrcoef(tiles.ravel(), want.ravel())[0, 1] > 0.99


def test_a_large_volume_is_shown_on_fewer_pixels(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    fixed = case.phantom.fixed
    monkeypatch.setattr(volumes, "MEGAPIXELS", 20_000)
    grid = shown_grid(fixed)
    assert np.prod(grid.GetSize()) <= 20_000
    assert grid.GetSize()[2] == as_seen(fixed).GetSize()[2]  # all slices stay
    extent = [
        np.multiply(np.subtract(i.GetSize(), 1), i.GetSpacing()) for i in (grid, as_seen(fixed))
    ]
    assert (extent[0] <= extent[1] + 1e-6).all()


def test_a_map_keeps_its_place_and_tells_folding(oblique_ct: sitk.Image) -> None:
    values = np.full(oblique_ct.GetSize()[::-1], 1.0, np.float32)
    values[3, 4, 5] = -0.5
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(oblique_ct)
    grid = shown_grid(oblique_ct)
    made = packed_map("jacobian", image[4:, 2:, 1:], grid, "jacobian")
    steps = np.frombuffer(base64.b64decode(made["data"]), np.uint8)
    assert (steps == 0).sum() == 1
    assert set(np.unique(steps)) == {0, 128}
    inside = np.array(made["first"]) + (np.array(made["size"]) - 1) * made["spacing"]
    assert (np.array(made["first"]) > -0.01).all()
    assert (inside < np.array(grid.GetSize()) * grid.GetSpacing() + 0.01).all()


def test_colours_follow_the_place() -> None:
    points = np.array([[0.0, 0, 0], [100, 0, 5], [0, 100, 9], [0, 0, 99]])
    colours = place_colours(points)
    assert colours[0] == colours[3]
    assert len(set(colours)) == 3
    assert place_colours(points[:0]) == []


def test_any_storage_order_is_seen_from_the_feet() -> None:
    """Patient's right on the left, front up: x grows along rows, y down, z with the slices."""
    sagittal = make_case(direction=(0, 0, -1, -1, 0, 0, 0, -1, 0)).phantom.fixed
    seen = as_seen(sagittal)
    assert_allclose(np.reshape(seen.GetDirection(), (3, 3)), np.eye(3), atol=1e-9)


# --- in a browser -------------------------------------------------------------------------------

PIXELS = (
    "Array.from(document.querySelectorAll('canvas')).map(c => {"
    "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    "let s = 0; for (let i = 0; i < d.length; i += 4) s = (s * 31 + d[i] + d[i + 1]) % 1000003;"
    "return s })"
)


def choose(name: str, value: object) -> str:
    """JavaScript that a user's choice amounts to."""
    return (
        f"(() => {{ const e = document.getElementById('{name}'); e.value = {value!r};"
        "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')) })()"
    )


@pytest.fixture(scope="module")
def opened(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """A page in a browser, its images drawn."""
    needs("chromium")
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, content(case))
    page = chromium.Page(path)
    page.wait("document.body && document.body.dataset.ready === 'yes'")
    yield page
    page.close()


@pytest.mark.engine
def test_opens_without_errors_or_requests(opened: chromium.Page) -> None:
    assert opened.said == []
    assert [url for url in opened.requested if not url.startswith(("data:", "file:"))] == []
    assert opened.run("document.title").startswith("Title </script>")  # text, and not run
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("document.querySelectorAll('canvas').length") == 4
    assert opened.run("document.querySelector('.verdict h2').textContent").endswith("doubtful")


@pytest.mark.engine
@pytest.mark.parametrize("plane", [0, 1, 2])
def test_the_slider_moves_the_slice(opened: chromium.Page, plane: int) -> None:
    opened.run(choose("plane", plane))
    opened.run(choose("slice", 12))
    before = opened.run(PIXELS)
    opened.run(choose("slice", 18))
    after = opened.run(PIXELS)
    assert len(before) == 4
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert opened.run("document.getElementById('where').textContent").startswith(" 19 of")
    opened.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowUp'}))")
    assert opened.run("document.getElementById('where').textContent").startswith(" 20 of")


@pytest.mark.engine
def test_swipe_and_checkerboard_mix_two_images(opened: chromium.Page) -> None:
    opened.run(choose("plane", 2))
    opened.run(choose("left", 0))
    opened.run(choose("right", 3))
    seen = set()
    for mode in ("swipe", "checker"):
        opened.run(choose("mode", mode))
        assert opened.run("document.querySelectorAll('canvas').length") == 1
        seen.add(opened.run(PIXELS)[0])
    opened.run(choose("mode", "swipe"))
    at = opened.run("(b => [b.left, b.top, b.width, b.height])"
                    "(document.querySelector('canvas').getBoundingClientRect())")  # fmt: skip
    opened.run("window.scrollTo(0, 0)")
    y = at[1] + at[3] / 2
    opened.mouse("mousePressed", at[0] + at[2] * 0.5, y, buttons=1)
    opened.mouse("mouseMoved", at[0] + at[2] * 0.3, y, buttons=1)
    opened.mouse("mouseReleased", at[0] + at[2] * 0.3, y)
    assert float(opened.run("document.getElementById('divider').value")) < 45
    seen.add(opened.run(PIXELS)[0])
    assert len(seen) == 3
    opened.run(choose("mode", "side"))


@pytest.mark.engine
def test_maps_and_windows_change_the_picture(opened: chromium.Page) -> None:
    plain = opened.run(PIXELS)
    for name, value in (("map", 0), ("map", 1), ("window", "-160,240")):
        opened.run(choose(name, value))
        now = opened.run(PIXELS)
        assert now[0] != plain[0]
        plain = now
    assert "determinant" in opened.run("document.getElementById('bar').textContent")
    opened.run(choose("map", ""))
    opened.run(choose("window", "all"))


@pytest.mark.engine
def test_pointing_at_a_landmark_tells_score_and_residual(opened: chromium.Page) -> None:
    opened.run(choose("mode", "side"))
    opened.run(choose("plane", 2))
    z = opened.run(
        "(l => { const n = {}; for (const m of l) { const k = Math.round(m[2]);"
        "n[k] = (n[k] || 0) + 1 }"
        "return Number(Object.entries(n).sort((a, b) => b[1] - a[1])[0][0])"
        "})(JSON.parse(document.getElementById('data').textContent).landmarks)"
    )
    opened.run(choose("slice", z))
    opened.run("window.scrollTo(0, 0)")
    x, y = opened.run(
        f"(() => {{ const d = JSON.parse(document.getElementById('data').textContent);"
        f"const m = d.landmarks.find(m => Math.round(m[2]) === {z} && !m[9]);"
        "const c = document.querySelector('canvas'), b = c.getBoundingClientRect();"
        "const fit = Math.min(b.width / c.width, b.height / c.height);"
        "return [b.left + (b.width - c.width * fit) / 2 + (m[0] + .5) / d.size[0] * c.width * fit,"
        "b.top + (b.height - c.height * fit) / 2 + (m[1] + .5) / d.size[1] * c.height * fit] })()"
    )
    opened.mouse("mouseMoved", x, y)
    assert opened.run("document.getElementById('tip').style.display") == "block"
    text = opened.run("document.getElementById('tip').textContent")
    assert re.match(r"score 1.00, residual 0.42 mm", text)


@pytest.mark.engine
@pytest.mark.parametrize("width", [1400, 800])
def test_nothing_is_cut_off_at_either_width(case: Case, width: int, tmp_path: Path) -> None:
    needs("chromium")
    write_report(tmp_path / "report.html", content(case))
    page = chromium.Page(tmp_path / "report.html", width)
    page.wait("document.body && document.body.dataset.ready === 'yes'")
    assert page.run("document.documentElement.scrollWidth") <= width
    page.screenshot(tmp_path / "page.png")
    page.close()
    assert np.asarray(Image.open(tmp_path / "page.png").convert("L")).std() > 10  # not empty
