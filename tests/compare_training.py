"""Compare training of the present code with that of an earlier commit, which must be bit-identical.

    python -m tests.compare_training --base COMMIT [--only SUBSTRING] [--cache FILE] [--json FILE]

Both sides run the same cases in processes of their own, on one thread: every example of every mitigation for two
epochs, the labels of every noise model, every dataset, program and network, every task, auxiliary training, a
resumed run and a run on two devices. The exit status is 1 if any digest differs, or if a case of the commit is gone; new
cases are listed.

Each side runs its own copy of `compare_training_present.py`. After a change of the API, adapt it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRESENT = "compare_training_present"

Digests = dict[str, str]
"""SHA-256 by part of a case, such as `weights`."""


def side(label: str, command: list[str], root: Path, folder: Path, only: str) -> subprocess.Popen[bytes]:
    """Start the cases of one side in a process and a working directory of its own."""
    work = folder / f"{label}_work"
    work.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"PYTHONPATH": str(root), "NOISYBENCH_CACHE": str(work / "cache"), "NOISYBENCH_DEVICE": "cpu"}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment["CUDA_VISIBLE_DEVICES"] = ""
    arguments = [sys.executable, "-P", *command, str(folder / f"{label}.json"), only]
    return subprocess.Popen(arguments, cwd=work, env=environment)


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check out a commit into a temporary worktree."""
    place = folder / "base"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(place), commit], cwd=ROOT, check=True)
    try:
        yield place
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(place)], cwd=ROOT, check=True)


def cache_key(commit: str) -> str:
    """Describe all that decides the digests of a commit."""
    processor = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    version = importlib.metadata.version("torch")
    return f"{commit}, torch {version}, {processor}"


def both_sides(base: str, only: str, cache: Path | None) -> tuple[dict[str, Digests], dict[str, Digests]]:
    """Run the cases of both sides, of the base only where its digests are not cached, and return their digests.

    Raises:
        SystemExit: the commit does not exist or has no cases, or a side ended without results.
    """
    revision = ["git", "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}"]
    commit = subprocess.run(revision, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    if not commit:
        raise SystemExit(f"there is no commit `{base}`")
    key = cache_key(commit)
    cached: dict[str, dict[str, Digests]] = json.loads(cache.read_text()) if cache and cache.is_file() else {}
    command = ["-m", f"tests.{PRESENT}"]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as cleanup:
        folder = Path(name)
        present = side("present", command, ROOT, folder, only)
        cleanup.callback(present.kill)
        if key not in cached:
            place = cleanup.enter_context(worktree(commit, folder))
            if not (place / "tests" / f"{PRESENT}.py").is_file():
                raise SystemExit(f"the commit {commit} has no tests/{PRESENT}.py to run")
            earlier = side("base", command, place, folder, only)
            cleanup.callback(earlier.kill)
            if failed := earlier.wait():
                raise SystemExit(f"the cases of {commit} ended with exit status {failed}")
            cached[key] = json.loads((folder / "base.json").read_text())
            if cache and not only:
                cache.write_text(json.dumps(cached, indent=1))
        if failed := present.wait():
            raise SystemExit(f"the cases of the present code ended with exit status {failed}")
        found: dict[str, Digests] = json.loads((folder / "present.json").read_text())
    return {case: digests for case, digests in cached[key].items() if only in case}, found


def differences(base: dict[str, Digests], present: dict[str, Digests]) -> dict[str, str]:
    """Return what is wrong with each case of the base that is not the same on both sides."""
    found = {}
    for case in sorted(base):
        if case not in present:
            found[case] = "missing in the present code"
        elif errors := [each["error"] for each in (base[case], present[case]) if "error" in each]:
            found[case] = f"failed: {errors[-1]}"
        elif base[case] != present[case]:
            parts = base[case].keys() | present[case].keys()
            wrong = sorted(part for part in parts if base[case].get(part) != present[case].get(part))
            found[case] = f"other {', '.join(wrong)}"
    return found


def main() -> int:
    """Parse the command line, compare, and print a table of the cases that differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.compare_training", description=__doc__.partition("\n")[0])
    parser.add_argument("--base", required=True, metavar="COMMIT", help="commit to compare with")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="compare only cases whose key contains this")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="file that keeps the digests of the base")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write digests and differences to this file")
    options = parser.parse_args()
    base, present = both_sides(options.base, options.only, options.cache)
    found = differences(base, present)
    if options.json:
        content = {"differences": found, "base": base, "present": present}
        options.json.write_text(json.dumps(content, indent=1))
    width = max(map(len, found), default=0)
    for case, reason in found.items():
        print(f"{case:{width}}  {reason}")
    if new := sorted(present.keys() - base.keys()):
        print(f"new: {', '.join(new)}")
    print(f"{len(found)} of {len(base)} cases differ")
    return 1 if found or not base else 0


if __name__ == "__main__":
    sys.exit(main())
