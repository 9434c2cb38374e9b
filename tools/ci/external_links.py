"""List the links to other sites in documents, code and configurations, and check that they answer.

usage: python tools/ci/external_links.py [--list]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = {".md", ".py", ".yaml", ".yml", ".cfg", ".toml", ".ipynb", ".cff", ".html"}
FOLDERS_WITHOUT_LINKS = ("tests", "submissions")
"""Folders whose addresses are made up."""

MADE_UP = re.compile(r"//$|//[^/]*@|//host\b|127\.0\.0\.1|localhost|\bexample\b|[{}<>$…]|tracking-server|\.invalid\b")
ANSWERS = {200, 401, 403, 405, 406, 418, 429}
"""Answers of an existing page; some sites refuse all programs."""

TIMEOUT = 30


def external_links(root: Path = ROOT) -> dict[str, list[str]]:
    """Return all addresses of other sites with the files that have them."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = defaultdict(list)
    for name in listed:
        if Path(name).suffix not in SUFFIXES or Path(name).parts[0] in FOLDERS_WITHOUT_LINKS:
            continue
        for address in re.findall(r"https?://[^\s\"'`<>|\\]+", (root / name).read_text(encoding="utf-8")):
            address = clean_address(address)
            if not MADE_UP.search(address) and name not in found[address]:
                found[address].append(name)
    return {address: files for address, files in sorted(found.items()) if files}


def clean_address(address: str) -> str:
    """Return an address without the punctuation of the sentence around it, and without its anchor.

    >>> clean_address("https://a.org/b_(c)).")
    'https://a.org/b_(c)'
    """
    address = address.partition("#")[0].rstrip(".,;:*")
    while address.endswith((")", "]")) and address.count("(") < address.count(")") + address.count("]"):
        address = address[:-1].rstrip(".,;:")
    return address


def problem(address: str) -> str | None:
    """Request an address twice at most; return what is the matter, or None."""
    text = "no answer"
    for _ in range(2):
        request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):
                return None
        except urllib.error.HTTPError as error:
            if error.code in ANSWERS:
                return None
            text = f"answer {error.code}"
        except OSError as error:
            text = str(error)
    return text


def main() -> int:
    """Print the links, or those that do not answer; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="Print the links without requesting them")
    arguments = parser.parse_args()
    links = external_links()
    if arguments.list:
        for address, files in links.items():
            print(f"{address}  ({', '.join(files)})")
        return 0
    with ThreadPoolExecutor(8) as pool:
        problems = dict(zip(links, pool.map(problem, links), strict=True))
    broken = {address: text for address, text in problems.items() if text}
    for address, text in broken.items():
        print(f"{address}: {text}  ({', '.join(links[address])})")
    print(f"{len(links)} links, {len(broken)} without a page")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
