"""Draw docs/leaderboard.png: the leaderboard page of the shipped measurements of the quickstart, in a headless Chromium.

usage: python tools/screenshots.py [--output docs/leaderboard.png]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from noisybench.leaderboard.board import build_board
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.page import to_html

ROOT = Path(__file__).parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1440


def screenshot(page: Path, output: Path) -> None:
    """Open a leaderboard page, and write a picture of it."""
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": WIDTH, "height": 900})
        view.goto(page.as_uri())
        view.wait_for_load_state("networkidle")
        view.screenshot(path=output, full_page=True)
        browser.close()


def main() -> None:
    """Write the page and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "leaderboard.png", help="PNG file to write")
    arguments = parser.parse_args()
    measurements = [each for each in builtin_measurements() if each.entry == "quickstart"]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "index.html"
        page.write_text(to_html(build_board(measurements)), encoding="utf-8")
        screenshot(page, arguments.output.resolve())
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
