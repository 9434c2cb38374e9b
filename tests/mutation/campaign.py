"""Mutate the code, run the tests of its area, and report which mutants survive.

    python -m pip install cosmic-ray coverage
    python -m tests.mutation.campaign --count 200 --seed 0 --report outcomes.json   a sample of all areas
    python -m tests.mutation.campaign --known                                        the mistakes listed in known.csv

First all tests run without a mutation, and record which lines each executes. A mutant is then tried with the tests that
execute its statement, the quickest first, and with the other tests of its area. Mutants that no test can notice are listed
in equivalent.csv with the reason; they are left out.

Every process works in a copy of the repository. A mutant is tested in a fork of a process that has imported the libraries,
so that a mutant costs the tests and not the imports.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.mutation.areas import AREAS, ROOT
from tests.mutation.tracing import Trace, test_files

LIBRARIES = (
    "torch", "torchvision.transforms.v2", "pytorch_lightning", "mlflow", "albumentations", "scipy.stats", "statsmodels.api",
    "sklearn.linear_model", "sklearn.mixture", "cv2", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "typer", "jinja2",
)  # fmt: skip
"""Imported once, before mutants are forked; pytest and Hypothesis must see their own imports."""
IGNORED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Some libraries import plug-ins of pytest, which then warns that it can no longer rewrite them."""
OUTPUT = "output.txt"
"""File for the output of tests."""
PATIENCE = 300, 20
"""A mutant has made its tests hang after this many seconds, and this many times as long as the tests took without it."""
NO_TESTS = 5
"""Exit status of pytest if it has found no test."""


@dataclass(frozen=True)
class Job:
    """A changed file and the tests that ought to notice.

    Attributes:
        name: description of the mutant.
        path: file, relative to the root of the repository.
        source: mutated source.
        line: line of the change.
        tests: tests of the area.
        first: names of the tests that are run first, in this order.
        only_first: run no other tests.
    """

    name: str
    path: str
    source: str
    line: int
    tests: tuple[str, ...]
    first: tuple[str, ...] = ()
    only_first: bool = False


@dataclass(frozen=True)
class Outcome:
    """How the tests of a job ended.

    Attributes:
        job: the job.
        word: `killed`, `survived` or `hung`.
        seconds: duration.
        output: what the tests printed.
    """

    job: Job
    word: str
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
            mutant.line,
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
            _line_of(row["path"], row["old"]), AREAS[row["area"]].tests,
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


def _line_of(path: str, text: str) -> int:
    """Return the line on which a text begins in a file."""
    return (ROOT / path).read_text(encoding="utf-8").partition(text)[0].count("\n") + 1


def traced(
    files: list[str], modules: list[str], processes: int, known: dict[str, Trace]
) -> Iterator[tuple[str, Trace]]:
    """Run test files without a mutation, and yield what the tests of each execute.

    Args:
        files: test files.
        modules: modules whose lines are recorded.
        processes: number of processes.
        known: traces of files that need not run again.
    """
    yield from known.items()
    failed = []
    for file, status, output, text in run(
        partial(_trace, tuple(modules)), [file for file in files if file not in known], processes
    ):
        # Without a change the tests must pass, or every mutant would count as killed.
        passed = status in (0, NO_TESTS)
        print(f"unchanged {'passed' if passed else 'FAILED'} {file}", flush=True)
        if passed:
            yield file, Trace.load(text)
        else:
            failed.append(f"{file}\n{output}")
    if failed:
        sys.exit("\n\n".join([*failed, "These tests fail without a mutation; mend them first."]))


def run(work: Callable[[Any], Any], jobs: list[Any], processes: int) -> Iterator[Any]:
    """Yield the result of each job; each process works in its own copy of the repository."""
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
            for future in as_completed(executor.submit(work, job) for job in jobs):
                yield future.result()


def _prepare(copies: Any) -> None:
    """Take a copy of the repository, and import libraries from which mutants are forked."""
    os.chdir(copies.get())
    for name in LIBRARIES:
        importlib.import_module(name)


def _test(trace: Trace, job: Job) -> Outcome:
    """Run the tests of a job in a fork."""
    start = time.perf_counter()
    files = tuple(dict.fromkeys(name.split("::")[0] for name in job.first))
    tests = files if job.only_first else (*files, *(file for file in job.tests if file not in files))
    seconds, factor = PATIENCE
    limit = seconds + factor * (sum(trace.seconds[name] for name in job.first) if job.only_first else seconds)
    with _replaced(Path(job.path), job.source):
        status, output = _in_fork(lambda: _run_tests(tests, _InOrder(job.first, job.only_first)), limit)
    word = "hung" if status is None else "survived" if status in (0, NO_TESTS) else "killed"
    return Outcome(job, word, time.perf_counter() - start, output)


def _trace(modules: tuple[str, ...], file: str) -> tuple[str, int | None, str, str]:
    """Run the tests of a file in a fork; return the file, the exit status, what they printed, and their trace."""
    trace = Path("trace.json")
    trace.write_text(Trace().dump(), encoding="utf-8")

    def run_traced() -> int:
        from tests.mutation.tracer import Tracer

        tracer = Tracer(modules)
        status = _run_tests((file,), tracer)
        trace.write_text(tracer.trace.dump(), encoding="utf-8")
        return status

    status, output = _in_fork(run_traced, math.inf)
    return file, status, output, trace.read_text(encoding="utf-8")


@contextmanager
def _replaced(path: Path, source: str) -> Iterator[None]:
    original = path.read_text(encoding="utf-8")
    path.write_text(source, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(original, encoding="utf-8")


def _in_fork(work: Callable[[], int], limit: float) -> tuple[int | None, str]:
    """Return the exit status of a fork, None if it took longer than a limit in seconds, and what it printed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        # Beside the copy, so that the output of tests that fail without a mutation can be shown.
        output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        status = 1
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            # Not `sys.exit`: the fork must not return into the pool of its parent.
            os._exit(status)
    status = _wait(child, limit)
    return status, Path(OUTPUT).read_text(encoding="utf-8", errors="replace")


def _run_tests(tests: tuple[str, ...], plugin: object) -> int:
    """Run tests in the present folder until one fails, and return their status."""
    # Modules of this package were imported from the repository itself; the tests must import the mutated copy.
    for name in [name for name in sys.modules if name.split(".")[0] in ("noisybench", "tests")]:
        del sys.modules[name]
    sys.path[:] = [os.getcwd(), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    sys.dont_write_bytecode = True
    import pytest

    return int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *IGNORED, *tests], [plugin]))


@dataclass(frozen=True)
class _InOrder:
    """Plug-in of pytest that runs some tests first, or no others; the others keep their order."""

    first: tuple[str, ...]
    only_first: bool

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        position = {name: number for number, name in enumerate(self.first)}
        items.sort(key=lambda item: position.get(item.nodeid, len(position)))
        if self.only_first:
            items[:] = [item for item in items if item.nodeid in position]


def _wait(child: int, limit: float) -> int | None:
    """Return the exit status of a child; None if it takes too long."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Run a campaign and print its survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="number of mutants")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--area", action="append", choices=sorted(AREAS), help="area; by default all")
    parser.add_argument("--known", action="store_true", help="run the mistakes of known.csv instead of a sample")
    parser.add_argument("--only", default="", help="run the mutants whose description contains this text")
    parser.add_argument("--quick", action="store_true", help="run only tests that execute the changed statement")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--trace", type=Path, help="JSON file of what the tests execute: read if it exists, or written")
    parser.add_argument("--report", type=Path, help="JSON file of all outcomes")
    options = parser.parse_args()
    areas = options.area or sorted(AREAS)
    jobs = known_jobs() if options.known else sampled_jobs(areas, options.count, options.seed)
    jobs = [job for job in jobs if options.only in job.name]
    trace = _trace_of(options.trace, areas, options.processes)
    jobs = [
        replace(
            job,
            first=tuple(trace.tests_of(job.path, (ROOT / job.path).read_text(encoding="utf-8"), job.line)),
            only_first=options.quick,
        )
        for job in jobs
    ]
    finished: list[dict[str, Any]] = []
    for outcome in run(partial(_test, trace), jobs, options.processes):
        print(f"{outcome.word:8} {outcome.seconds:5.0f} s  {outcome.job.name}", flush=True)
        finished.append({**asdict(outcome.job), "outcome": outcome.word, "seconds": round(outcome.seconds, 1)})
        if options.report:
            options.report.write_text(json.dumps(finished, indent=1), encoding="utf-8")
    words = [entry["outcome"] for entry in finished]
    killed = len(words) - words.count("survived")
    print(
        f"{killed} of {len(words)} killed ({killed / max(len(words), 1):.0%}); {words.count('hung')} of them made the tests "
        "hang, which a busy machine does as well: run these again"
    )


def _trace_of(file: Path | None, areas: list[str], processes: int) -> Trace:
    """Return the trace of the tests of some areas; a file keeps those of each test file for the next campaign."""
    files = list(dict.fromkeys(test for area in areas for test in test_files(AREAS[area].tests)))
    modules = [path for area in areas for path in AREAS[area].files()]
    stored = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.exists() else {}
    whole = Trace()
    for name, trace in traced(files, modules, processes, {name: Trace.load(text) for name, text in stored.items()}):
        whole.merge(trace)
        stored[name] = trace.dump()
        if file is not None:
            file.write_text(json.dumps(stored), encoding="utf-8")
    return whole


if __name__ == "__main__":
    main()
