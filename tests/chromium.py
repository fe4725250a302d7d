"""A headless Chromium for tests, driven by Playwright; one browser for all tests of a process."""

import atexit
import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Browser, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S = 60.0
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
SERIOUS = ("serious", "critical")


def browser() -> str | None:
    """The first browser on the PATH; None if there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@cache
def started() -> Browser:
    """The browser, which ends with the tests."""
    playwright = sync_playwright().start()
    atexit.register(playwright.stop)
    options = ["--no-sandbox", "--disable-dev-shm-usage"]
    return playwright.chromium.launch(executable_path=browser(), args=options)


class Page:
    """One open page, what it said on its console, and what it asked for.

    `tab` is Playwright's page. Its own waiting for expressions is `eval` within the page, which the
    policy of our pages forbids.
    """

    def __init__(
        self, path: Path, width: int = 1400, height: int = 1000, scheme: str = "light", **how: Any
    ) -> None:
        self.said: list[str] = []
        self.requested: list[str] = []
        size = {"width": width, "height": height}
        self._context = started().new_context(viewport=size, color_scheme=scheme, **how)  # type: ignore[arg-type]
        self.tab = self._context.new_page()
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.requested.append(request.url[:80]))
        self.tab.goto(path.absolute().as_uri())

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression."""
        return self.tab.evaluate(expression)

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.run(expression):
            assert time.monotonic() < end, f"{expression} never came true; console: {self.said}"
            self.tab.wait_for_timeout(30)

    def ready(self) -> "Page":
        """Wait until the script of one of our pages has drawn everything."""
        self.wait("document.body && document.body.dataset.ready === 'yes'")
        return self

    def faults(self) -> list[str]:
        """What axe-core finds serious or critical: rule, and where."""
        self.run(AXE.read_text(encoding="utf-8"))
        found = self.run("axe.run()")["violations"]
        return [
            f"{one['id']}: {one['help']}; {one['nodes'][0]['html'][:120]}"
            for one in found
            if one["impact"] in SERIOUS
        ]

    def close(self) -> None:
        """End the page."""
        self._context.close()
