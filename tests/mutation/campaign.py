"""Mutate the code, run the tests of its area, and report which mutants survive.

    python -m pip install cosmic-ray
    python -m tests.mutation.campaign --count 200 --seed 0 --report survivors.json   a sample of all areas
    python -m tests.mutation.campaign --known                                         the mistakes listed in known.csv

Mutants that no test can notice are listed in equivalent.csv with the reason; they are left out.

Every process works in a copy of the repository. A mutant is tested in a fork of a process that has imported the libraries,
so that a mutant costs the tests and not the imports.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.mutation.areas import AREAS, ROOT

LIBRARIES = (
    "torch", "torchvision.transforms.v2", "pytorch_lightning", "mlflow", "albumentations", "scipy.stats", "statsmodels.api",
    "sklearn.linear_model", "sklearn.mixture", "cv2", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "typer", "jinja2",
)  # fmt: skip
"""Imported once, before mutants are forked; pytest and Hypothesis must see their own imports."""
IGNORED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Some libraries import plug-ins of pytest, which then warns that it can no longer rewrite them."""
OUTPUT = "output.txt"
"""File for the output of tests."""
TIMEOUT = 300
"""Seconds after which a mutant counts as killed: it made the tests hang."""


@dataclass(frozen=True)
class Job:
    """A changed file and the tests that ought to notice.

    Attributes:
        name: description of the mutant.
        path: file, relative to the root of the repository.
        source: mutated source.
        tests: tests of the area.
    """

    name: str
    path: str
    source: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How the tests of a job ended.

    Attributes:
        job: the job.
        passed: True if all tests passed, so that the mutant survived.
        seconds: duration.
        output: what the tests printed.
    """

    job: Job
    passed: bool
    seconds: float
    output: str


def sampled_jobs(areas: list[str], count: int, seed: int) -> list[Job]:
    """Return a sample of the mutants of some areas."""
    from tests.mutation.mutants import sample

    area_of = {path: name for name in areas for path in AREAS[name].files()}
    equivalent = equivalent_trees()
    jobs = [
        Job(
            f"{mutant.path}:{mutant.line} {mutant.operator.removeprefix('core/')} {mutant.occurrence}",
            mutant.path,
            mutant.apply((ROOT / mutant.path).read_text(encoding="utf-8")),
            AREAS[area_of[mutant.path]].tests,
        )
        for mutant in sample(sorted(area_of), count, seed)
    ]
    return [job for job in jobs if (tree := _tree(job.source)) is not None and tree not in equivalent]


def equivalent_trees() -> set[str | None]:
    """Return the syntax trees of the mutants of `equivalent.csv`, which no test can notice."""
    return {_tree(_changed("equivalent.csv", row["path"], row["old"], row["new"])) for row in _rows("equivalent.csv")}


def _tree(source: str) -> str | None:
    """Return a syntax tree as text; None for a mutant that is no program, which every test would notice."""
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return None


def known_jobs() -> list[Job]:
    """Return the mistakes of `known.csv`: a text that occurs once in a file, and its replacement."""
    return [
        Job(
            f"{row['path']}: {row['effect']}", row["path"], _changed("known.csv", row["path"], row["old"], row["new"]),
            AREAS[row["area"]].tests,
        )
        for row in _rows("known.csv")
    ]  # fmt: skip


def _rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a table of this folder."""
    with (Path(__file__).parent / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _changed(table: str, path: str, old: str, new: str) -> str:
    """Return the source of a file with one text replaced, which must occur once."""
    source = (ROOT / path).read_text(encoding="utf-8")
    if source.count(old) != 1:
        sys.exit(f"{table}: `{old}` occurs {source.count(old)} times in {path}, not once")
    return source.replace(old, new)


def run(jobs: list[Job], processes: int) -> Iterator[Outcome]:
    """Yield the outcome of each job."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(prefix="mutation") as folder:
        copies = context.Queue()
        for position in range(processes):
            copy = Path(folder) / str(position)
            shutil.copytree(
                ROOT, copy, ignore=shutil.ignore_patterns(".git", ".*-venv", ".venv", "__pycache__", "build")
            )
            copies.put(str(copy))
        # Its workers may have children, unlike those of a pool: some tests start processes.
        with ProcessPoolExecutor(processes, context, _prepare, (copies,)) as executor:
            for future in as_completed(executor.submit(_test, job) for job in jobs):
                yield future.result()


def _prepare(copies: Any) -> None:
    """Take a copy of the repository, and import libraries from which mutants are forked."""
    os.chdir(copies.get())
    for name in LIBRARIES:
        importlib.import_module(name)


def _test(job: Job) -> Outcome:
    """Run the tests of a job in a fork."""
    start = time.perf_counter()
    with _replaced(Path(job.path), job.source):
        child = os.fork()
        if child == 0:
            _run_tests(job.tests)
        status = _wait(child)
    output = Path(OUTPUT).read_text(encoding="utf-8", errors="replace")
    return Outcome(job, status == 0, time.perf_counter() - start, output)


@contextmanager
def _replaced(path: Path, source: str) -> Iterator[None]:
    original = path.read_text(encoding="utf-8")
    path.write_text(source, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(original, encoding="utf-8")


def _run_tests(tests: tuple[str, ...]) -> None:
    """Run tests in the present folder until one fails, and end the process with their status."""
    os.setsid()
    # Beside the copy, so that the output of tests that fail without a mutation can be shown.
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Modules of this package were imported from the repository itself; the tests must import the mutated copy.
    for name in [name for name in sys.modules if name.split(".")[0] in ("noisybench", "tests")]:
        del sys.modules[name]
    sys.path[:] = [os.getcwd(), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    sys.dont_write_bytecode = True
    status = 1
    try:
        import pytest

        status = int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *IGNORED, *tests], [_InOrder(tests)]))
    finally:
        # Not `sys.exit`: the fork must not return into the pool of its parent.
        os._exit(status)


@dataclass(frozen=True)
class _InOrder:
    """Plug-in of pytest that runs tests in the order of the area, the quickest first."""

    tests: tuple[str, ...]

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: [item.nodeid.startswith(test) for test in self.tests].index(True))


def _wait(child: int) -> int:
    """Return the exit status of a child; a number other than 0 if it takes too long."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return status
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def main() -> None:
    """Run a campaign and print its survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--area", action="append", choices=sorted(AREAS), help="area; by default all")
    parser.add_argument("--known", action="store_true", help="run the mistakes of known.csv instead of a sample")
    parser.add_argument("--only", default="", help="run the mutants whose description contains this text")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", type=Path, help="JSON file of all outcomes")
    options = parser.parse_args()
    areas = options.area or sorted(AREAS)
    jobs = known_jobs() if options.known else sampled_jobs(areas, options.count, options.seed)
    jobs = [job for job in jobs if options.only in job.name]
    # Without a change the tests must pass, or every mutant would count as killed.
    unchanged = {job.tests: replace(job, source=(ROOT / job.path).read_text(encoding="utf-8")) for job in jobs}
    for outcome in run(list(unchanged.values()), options.processes):
        print(f"unchanged {outcome.seconds:5.0f} s  {' '.join(outcome.job.tests)}", flush=True)
        if not outcome.passed:
            sys.exit(f"{outcome.output}\nThese tests fail without a mutation; mend them first.")
    finished: list[dict[str, Any]] = []
    for outcome in run(jobs, options.processes):
        word = "survived" if outcome.passed else "killed"
        print(f"{word:8} {outcome.seconds:5.0f} s  {outcome.job.name}", flush=True)
        finished.append({**asdict(outcome.job), "outcome": word, "seconds": round(outcome.seconds, 1)})
        if options.report:
            options.report.write_text(json.dumps(finished, indent=1), encoding="utf-8")
    killed = sum(entry["outcome"] == "killed" for entry in finished)
    print(f"{killed} of {len(finished)} killed ({killed / max(len(finished), 1):.0%})")


if __name__ == "__main__":
    main()
