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
from landmark_dir.report.content import Answer, Arm, Content
from landmark_dir.report.page import write_report
from landmark_dir.report.volumes import (
    as_seen,
    lost_hu,
    packed,
    packed_bends,
    packed_jacobian,
    place_colours,
    shown_grid,
)
from landmark_dir.report.worst_places import worst_places

BEND_MM = (3.0, -4.0, 0.0)  # LPS
HOSTILE = "</script><script>document.title='caught'</script><img src=x onerror=alert(1)>\"'"
NAME = "prior<b>.nii.gz"
RUN: dict[str, Any] = {
    "landmark_dir": "9.8.7",
    "finished": "2026-11-26T15:51:07+00:00",
    "start": {"from": "world", "agreeing": 7},
    "verdict": {"verdict": "doubtful", "reasons": [f"odd {HOSTILE}"]},
    "warnings": [f"moving: {HOSTILE} is odd"],
    "metrics": {"landmarks": 3, "residual_mm": {"mean": 0.5}, "correlation": float("nan")},
    "inputs": {
        "fixed": {"path": f"in/{NAME}", "size_xyz": (4, 5, 6), "spacing_mm": (1, 1.5, 2)},
        "moving": {"path": None, "days_after_fixed": -40, "dicom": {"description": HOSTILE}},
    },
    "seconds": {"affine": 1.5},
    "options": {"threads": None, "landmark_weight": (0.1, 0.2)},
    "versions": {"python": "3"},
    "weights": None,
}


def bent(grid: sitk.Image) -> sitk.Image:
    """`BEND_MM` everywhere."""
    vectors = np.tile(np.float32(BEND_MM), (*grid.GetSize()[::-1], 1))
    image = sitk.GetImageFromArray(vectors, isVector=True)
    image.CopyInformation(grid)
    return image


def content(case: Case, *, arms: int = 2, pairs: PointPairs | None = None) -> Content:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    before = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear, -1000.0)
    pairs = case.guides if pairs is None else pairs
    grid = fixed[::2, ::2, ::2]
    bends = bent(grid)
    determinant = sitk.Cast(grid, sitk.sitkFloat32) * 0.0005 + 0.4  # air is folded, bone is not
    distances = {f"TRE at {HOSTILE}": np.linspace(0, 5, 50)}
    made = [
        Arm(f"arm {n} {HOSTILE}", before + n * 50, bends, determinant, distances, RUN)
        for n in range(arms)
    ]
    if not arms:
        made = [Arm("landmarks", None, None, None, {}, {**RUN, "verdict": None})]
    held = np.arange(len(pairs)) % 10 == 0
    residual = np.linspace(0, 6, len(pairs)) if arms else None
    return Content(
        fixed,
        fixed > CT.body_above,
        before,
        before if arms else None,
        made,
        pairs,
        pairs.moving,
        residual,
        held,
        [("Both arms", ["", "mean"], [[HOSTILE, "0.50"], [f"across {HOSTILE}"]])],
        f"Started {HOSTILE}",
        Answer(f"Helped {HOSTILE}", ["by 0.53 mm"], [HOSTILE]) if arms > 1 else None,
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
    assert page.count("<img") == 3  # slices for print
    assert HOSTILE not in page
    assert len(data_of(page)["images"]) == 2 + arms + bool(arms)
    assert len(data_of(page)["maps"]) == 2 * arms


def test_page_without_landmarks(case: Case, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", content(case, pairs=PointPairs.empty()))
    assert data_of((tmp_path / "report.html").read_text("utf-8"))["marks"] == []


def test_landmarks_lie_where_they_are(case: Case, tmp_path: Path) -> None:
    """Voxels of the page, back in the world, are the landmarks."""
    shown = content(case)
    write_report(tmp_path / "report.html", shown)
    rows = data_of((tmp_path / "report.html").read_text("utf-8"))["marks"]
    grid = shown_grid(shown.fixed)
    fixed = index_to_physical(grid, [row["fixed"] for row in rows])
    before = index_to_physical(grid, [row["moving"] for row in rows])
    assert_allclose(fixed, case.guides.fixed, atol=0.1)  # mm; a hundredth of a voxel of 6 mm
    assert_allclose(before, case.guides.moving, atol=0.1)
    assert [row["held"] for row in rows[:3]] == [True, False, False]
    assert rows[-1]["residual"] == 6.0


def test_a_packed_volume_is_the_image(case: Case) -> None:
    fixed = case.phantom.fixed
    grid = shown_grid(fixed)
    made = packed(fixed, grid)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(made["src"]))))
    nx, ny, nz = grid.GetSize()
    grey = picture[..., 0] if picture.ndim == 3 else picture
    tiles = grey.reshape(-1, ny, made["columns"], nx).swapaxes(1, 2).reshape(-1, ny, nx)[:nz]
    want = (CT.to_network(sitk.GetArrayFromImage(as_seen(fixed))) + 1) * 127.5
    assert np.abs(tiles - want).mean() < 6  # of 255: lossy
    assert np.corrcoef(tiles.ravel(), want.ravel())[0, 1] > 0.99
    lost = lost_hu(fixed, grid, made)
    assert lost is not None
    assert 1 < lost < 60  # HU; lossy most of all where voxels are as coarse as here


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
    made = packed_jacobian("jacobian", image[4:, 2:, 1:], grid)
    steps = np.frombuffer(base64.b64decode(made["data"]), np.uint8)
    assert (steps == 0).sum() == 1
    assert set(np.unique(steps)) == {0, 128}
    inside = np.array(made["first"]) + (np.array(made["size"]) - 1) * made["spacing"]
    assert (np.array(made["first"]) > -0.01).all()
    assert (inside < np.array(grid.GetSize()) * grid.GetSpacing() + 0.01).all()


def test_vectors_run_along_the_axes_of_the_page(oblique_ct: sitk.Image) -> None:
    """So an arrow on the page points where the tissue goes, however the grid lies."""
    bends = bent(oblique_ct)
    grid = shown_grid(oblique_ct)
    made = packed_bends("bends", bends, grid)
    along = np.frombuffer(base64.b64decode(made["data"]), np.int8).reshape(-1, 3) * made["step"]
    back = along @ np.reshape(grid.GetDirection(), (3, 3)).T
    assert_allclose(back, np.tile(BEND_MM, (len(back), 1)), atol=0.05)  # mm; steps of a byte
    assert len(along) == np.prod(made["size"])
    assert made["high"] == pytest.approx(5.0, abs=0.01)


def test_the_worst_places_lie_apart_and_in_the_body(case: Case) -> None:
    shown = content(case, arms=1)
    found = worst_places(shown)
    off = [place for place in found if "off at" in place.why]
    assert off[0].why.startswith("6.00 mm off at a")
    assert_allclose(off[0].place[0], case.guides.fixed[-1])
    places = np.concatenate([place.place for place in off])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 99 * np.eye(len(places))
    assert apart.min() >= 20
    squeezed, stretched = found[-2:]
    assert "most compressed: volume x 0." in squeezed.why  # air is folded, but it is not the body
    assert "most stretched" in stretched.why


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


def test_the_head_says_which_pair_and_how_it_went(case: Case, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", content(case))
    page = (tmp_path / "report.html").read_text("utf-8")
    head = re.sub(r"<[^>]+>", " ", page[: page.index('id="viewer"')])
    for text in (
        "prior&lt;b&gt;.nii.gz, 4 x 5 x 6, 1.00 x 1.50 x 2.00 mm",
        "Moving was taken 40 days before fixed.",
        "Registered by landmark_dir 9.8.7, 2026-11-26 15:51 UTC",
        "Started &lt;/script&gt;",
        "Helped &lt;/script&gt;",
        "by 0.53 mm",
        "Odd &lt;/script&gt;",
    ):
        assert text in head
    assert page.index("Helped") < page.index('id="viewer"') < page.index("Both arms")
    assert re.search(r"within \d+ HU\. For measurements take the files", page)


# --- in a browser -------------------------------------------------------------------------------

PIXELS = """Array.from(document.querySelectorAll('#panels canvas')).map(c => {
  const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
  let s = 0; for (let i = 0; i < d.length; i += 3) s = (s * 31 + d[i]) % 1000003;
  return s })"""
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
PANELS = "#panels canvas"


def choose(page: chromium.Page, **chosen: str) -> list[int]:
    """Choose from menus; what the panels show then."""
    for name, value in chosen.items():
        page.tab.select_option(f"#{name}", value)
    return seen(page)


def seen(page: chromium.Page) -> list[int]:
    page.run(DRAWN)
    found: list[int] = page.run(PIXELS)
    return found


def text(page: chromium.Page, where: str) -> str:
    page.run(DRAWN)
    return page.tab.inner_text(where)


@pytest.fixture(scope="module")
def path(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a comparison."""
    needs("chromium")
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, content(case))
    return path


@pytest.fixture(scope="module")
def opened(path: Path) -> Iterator[chromium.Page]:
    """A page in a browser, its images drawn."""
    page = chromium.Page(path, reduced_motion="reduce").ready()  # else flicker runs by itself
    yield page
    page.close()


@pytest.fixture
def page(opened: chromium.Page) -> chromium.Page:
    """The same page, as it was when it opened."""
    choose(opened, view="side", plane="2", map="", points="off", window="all", drag="cross")
    opened.tab.click("#whole")
    opened.tab.evaluate("window.scrollTo(0, 0)")
    return opened


@pytest.mark.engine
def test_opens_without_errors_or_requests(page: chromium.Page) -> None:
    assert page.said == []
    own = ("data:", "file:", "blob:")
    assert [url for url in page.requested if not url.startswith(own)] == []
    assert HOSTILE in page.run("document.title")  # text, and not run
    assert page.run(f"document.querySelectorAll('{PANELS}').length") == 4
    assert page.tab.locator(PANELS).first.get_attribute("aria-label") == "axial slice of fixed"
    assert "loading" not in text(page, "#panels").lower()


@pytest.mark.engine
@pytest.mark.parametrize("plane", ["0", "1", "2"])
def test_keys_move_slice_and_crosshair(page: chromium.Page, plane: str) -> None:
    before = choose(page, plane=plane)
    page.tab.locator(PANELS).first.focus()
    where = int(text(page, "#where").split(" of ")[0])
    page.tab.keyboard.press("PageUp")
    assert int(text(page, "#where").split(" of ")[0]) == where + 1
    after = seen(page)
    assert all(one != other for one, other in zip(before, after, strict=True))
    at = text(page, "#cross")
    page.tab.keyboard.press("ArrowDown")
    assert text(page, "#cross") != at
    page.tab.keyboard.press("ArrowUp")
    page.tab.keyboard.press("PageDown")
    assert seen(page) == before


@pytest.mark.engine
def test_arrows_go_where_they_point(page: chromium.Page, case: Case) -> None:
    """The crosshair in mm is the place of the fixed image, and up is towards the head."""
    grid = shown_grid(case.phantom.fixed)

    def place() -> list[float]:
        return [float(mm) for mm in re.findall(r"-?\d+\.\d", text(page, "#cross"))[:3]]

    middle = index_to_physical(grid, [[n // 2 for n in grid.GetSize()]])[0]
    page.tab.select_option("#view", "planes")
    page.tab.locator(PANELS).nth(1).focus()  # coronal
    start = np.array(place())
    assert_allclose(start, middle, atol=0.06)  # mm; rounded
    page.tab.keyboard.press("ArrowUp")
    z = np.reshape(grid.GetDirection(), (3, 3))[:, 2] * grid.GetSpacing()[2]
    assert_allclose(np.array(place()) - start, z, atol=0.11)  # mm; both are rounded
    page.tab.keyboard.press("ArrowDown")


@pytest.mark.engine
def test_menus_keep_their_keys(page: chromium.Page) -> None:
    where = text(page, "#where")
    page.tab.locator("#plane").focus()
    page.tab.keyboard.press("PageUp")
    page.tab.keyboard.press(".")
    assert text(page, "#where").split(" of ")[0] == where.split(" of ")[0]


@pytest.mark.engine
def test_two_images_are_mixed_in_four_ways(page: chromium.Page) -> None:
    choose(page, view="swipe", first="0", second="1")
    pictures = {seen(page)[0]}
    for view in ("checker", "difference"):
        pictures.add(choose(page, view=view)[0])
        assert page.run(f"document.querySelectorAll('{PANELS}').length") == 1
    choose(page, view="flicker")
    page.tab.locator(PANELS).focus()
    one = text(page, "figcaption")
    page.tab.keyboard.press(" ")
    assert text(page, "figcaption") != one
    choose(page, view="swipe")
    box = page.tab.locator(PANELS).bounding_box()
    assert box
    page.tab.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.tab.mouse.down()
    page.tab.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 50)
    page.tab.mouse.up()
    pictures.add(seen(page)[0])
    assert len(pictures) == 4


@pytest.mark.engine
def test_overlays_windows_and_landmarks_change_the_picture(page: chromium.Page) -> None:
    pictures = [seen(page)[0]]
    for chosen in (
        *({"map": value} for value in ("0", "0 arrows", "1")),
        *({"points": value} for value in ("place", "residual")),
        {"window": "40,400"},
    ):
        pictures.append(choose(page, **chosen)[0])
    assert len(set(pictures)) == len(pictures)
    assert "folded" in text(page, "#bar")
    assert "residual" in text(page, "#bar")
    page.tab.fill("#level", "300")
    assert seen(page)[0] not in pictures
    assert page.run("document.getElementById('window').value") == "own"


@pytest.mark.engine
def test_drag_and_wheel_change_window_zoom_and_slice(page: chromium.Page) -> None:
    choose(page, window="40,400", drag="window")
    box = page.tab.locator(PANELS).first.bounding_box()
    assert box
    x, y = box["x"] + 100, box["y"] + 100
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x + 10, y + 20)
    page.tab.mouse.up()
    window = "[document.getElementById('level').value, document.getElementById('width').value]"
    assert page.run(window) == ["0", "440"]
    plain = seen(page)[0]
    page.tab.keyboard.down("Control")
    page.tab.mouse.wheel(0, -100)
    page.tab.keyboard.up("Control")
    assert seen(page)[0] != plain
    where = text(page, "#where")
    page.tab.mouse.wheel(0, 100)
    assert text(page, "#where") != where


@pytest.mark.engine
def test_the_worst_place_is_one_press_away(page: chromium.Page, case: Case) -> None:
    choose(page, points="residual")
    page.tab.locator("button[data-go]").first.focus()
    page.tab.keyboard.press("Enter")
    told = text(page, "#cross")
    found = [float(mm) for mm in re.findall(r"-?\d+\.\d", told)[:3]]
    assert np.abs(np.array(found) - case.guides.fixed[-1]).max() < 6  # mm; a voxel
    assert "residual 6.00 mm" in told


@pytest.mark.engine
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (800, "dark")])
def test_it_fits_and_axe_finds_no_serious_fault(path: Path, width: int, scheme: str) -> None:
    page = chromium.Page(path, width, 900, scheme).ready()
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.faults() == []
    box = page.tab.locator(PANELS).first.bounding_box()
    assert box
    if width == 1400:  # all four images are on the first screen, and large
        last = page.tab.locator(PANELS).last.bounding_box()
        assert last
        assert last["y"] + last["height"] <= 900
        assert box["width"] * box["height"] > 400 * 280
    page.close()


@pytest.mark.engine
def test_print_and_no_script_show_a_fixed_set_of_slices(path: Path) -> None:
    still = ".stills img"
    off = chromium.Page(path, java_script_enabled=False)
    assert off.tab.locator(still).first.is_visible()
    assert "needs JavaScript" in off.tab.inner_text("#viewer")
    off.close()
    page = chromium.Page(path).ready()
    assert not page.tab.locator(still).first.is_visible()
    page.tab.emulate_media(media="print")
    assert page.tab.locator(still).count() == 3
    assert page.tab.locator(still).first.is_visible()
    assert not page.tab.locator("#viewer").is_visible()
    page.close()
