"""The page of findings: places in a viewer, and each in both scans."""

from pathlib import Path

import chromium
import numpy as np
import pytest
from needs import needs
from small_pairs import Case

from landmark_dir.report.findings_page import Spot, write_findings_page

HOSTILE = "</script><img src=x onerror=alert(1)>\"'"


def written(case: Case, folder: Path, *, viewer: bool) -> Path:
    """A page of three findings, the second doubtful; the phantom's own points are their places."""
    spots = [
        Spot(
            name=f"lesion {k} {HOSTILE}",
            caption="somewhere",
            side="fixed",
            places={"fixed": case.judges.fixed[k], "moving": case.judges.moving[k]},
            masks={},
            radius_mm=2.0,
            size_mm=8.0,
            doubtful=k == 1,
        )
        for k in range(3)
    ]
    fixed, moving = case.phantom.fixed, case.phantom.moving
    images = {"fixed": fixed, "moving": moving}
    path = folder / "followed.html"
    write_findings_page(path, "Findings", spots, images, fixed if viewer else None)
    return path


def test_without_the_warped_image_there_is_no_viewer(case: Case, tmp_path: Path) -> None:
    page = written(case, tmp_path, viewer=False).read_text("utf-8")
    assert 'id="viewer"' not in page
    assert page.count("<img") == 12
    assert HOSTILE not in page


@pytest.mark.engine
def test_a_finding_is_one_press_away(case: Case, tmp_path: Path) -> None:
    needs("chromium")
    page = chromium.Page(written(case, tmp_path, viewer=True), 1400, 900, "dark").ready()
    assert page.said == []
    assert page.faults() == []
    page.tab.locator("button[data-go]").nth(1).focus()
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_timeout(100)
    told = page.tab.inner_text("#cross")
    place = [float(mm) for mm in told[told.index("(") + 1 : told.index(")")].split(",")]
    assert np.abs(np.array(place) - case.judges.fixed[1]).max() < 6  # mm; a voxel
    assert f"lesion 1 {HOSTILE}, doubtful" in told
    page.close()
