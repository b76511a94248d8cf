"""A headless Chromium, and a page that records what goes wrong."""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]


def find_chromium() -> str | None:
    """The program of a Chromium on this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Watched:
    """A page, what it wrote to the console as errors, what it asked for, and what of that failed."""

    page: object
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def open(self, index: Path, hash_: str = ""):
        """Open a file; hash_ begins with #."""
        self.page.goto("about:blank")
        self.page.goto(index.resolve().as_uri() + hash_)
        return self.page

    def list_complete(self):
        """Wait until the list of units is whole."""
        self.page.wait_for_function("document.querySelector('#list').dataset.complete !== undefined")

    def choose(self, **values: str):
        """Choose in the form, by name and text, and wait for the list."""
        for name, value in values.items():
            self.page.evaluate("delete document.querySelector('#list').dataset.complete")
            self.page.select_option(f"#choose [name={name}]", label=value)
            self.list_complete()

    def complaints(self) -> list[str]:
        """Errors and failed requests; and any request that left the disk."""
        return (
            self.errors
            + self.failed
            + [url for url in self.requests if not url.startswith(("file:", "data:", "about:"))]
        )


@contextmanager
def running_browser():
    """A headless Chromium, driven by playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=OPTIONS)
        yield browser
        browser.close()


def watch(browser, width: int = 1280, height: int = 900) -> Watched:
    """A new page of this size in pixels."""
    page = browser.new_page(viewport={"width": width, "height": height})
    watched = Watched(page)
    page.on("console", lambda message: message.type == "error" and watched.errors.append(message.text))
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("request", lambda request: watched.requests.append(request.url))
    page.on("requestfailed", lambda request: watched.failed.append(f"{request.url}: {request.failure}"))
    return watched
