"""Draw docs/leaderboard.png: the leaderboard page of the measurements that ship with noisybench, in a headless Chromium.

usage: python tools/screenshots.py [--store FOLDER] [--output docs/leaderboard.png]

`--store` takes the working folder of a finished `noisybench bench quickstart`, whose records also have curves over epochs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
NETWORK = "small_cnn, 30 epochs"
"""Network of the settings that are shown."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1440


def screenshot(page: Path, output: Path) -> None:
    """Open an exported leaderboard page, filter its settings, and write a picture of it."""
    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": WIDTH, "height": 900})
        view.goto(f"{page.as_uri()}#{urlencode({'network': NETWORK})}")
        view.wait_for_load_state("networkidle")
        view.screenshot(path=output, full_page=True)
        browser.close()


def main() -> None:
    """Export the page and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="Working folder with runs (default: none, the shipped measurements)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "leaderboard.png", help="PNG file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "page"
        command = [sys.executable, "-m", "noisybench", "leaderboard", "export", str(target)]
        subprocess.run(command, cwd=arguments.store or folder, check=True, stdout=subprocess.DEVNULL)
        screenshot(target / "index.html", arguments.output.resolve())
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
