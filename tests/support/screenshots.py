"""Pictures of a report for the README: python tests/support/screenshots.py REPORT/index.html docs"""

import sys
from pathlib import Path

from browsing import find_chromium, running_browser, watch

UNIT = {
    "layer": "blocks.10",
    "corruption": "pgd, untargeted, segmentation masks",
    "sort": "IoU",
    "outcome": "label changed",
}


def take_pictures(index: Path, folder: Path):
    """Write report.png (the overview) and report_unit.png (a unit that was attacked)."""
    with running_browser() as browser:
        watched = watch(browser, 1280, 860)
        page = watched.open(index)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / "report.png")
        page.set_viewport_size({"width": 1536, "height": 1100})
        watched.list_complete()
        for name, value in UNIT.items():
            watched.choose(**{name: value})
        page.check("#choose [name=descending]")
        page.locator("#list button").first.click()
        page.evaluate("document.getElementById('units').scrollIntoView()")
        page.wait_for_selector("#detail .pairs img")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(500)
        page.screenshot(path=folder / "report_unit.png")
        if watched.complaints():
            sys.exit(f"{index}: {watched.complaints()}")


if __name__ == "__main__":
    if not find_chromium():
        sys.exit("needs Chromium (Debian: apt-get install chromium)")
    if len(sys.argv) != 3 or not Path(sys.argv[1]).is_file():
        sys.exit("needs a report and a folder: run `make demo` first, then `make screenshots`")
    take_pictures(Path(sys.argv[1]), Path(sys.argv[2]))
