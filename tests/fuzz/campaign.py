"""Execute many generated inputs and count how they end.

python -m tests.fuzz.campaign --count 3000              print the inputs that end in an internal error
python -m tests.fuzz.campaign --replay "labels export:17"   execute one input again, with its output
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from noisybench.tracking.store import Store
from tests.fuzz.commands import all_commands
from tests.fuzz.execution import Call, Case, Outcome, execute, prepare
from tests.fuzz.template import Template, build_template

Counts = dict[str, dict[str, int]]
"""Number of inputs by command and outcome."""


WEIGHTS = {
    "validate": 4,
    "labels create": 2,
    "inspect": 2,
    "labels import": 2,
    "doctor": 0.1,
    "list": 0.2,
    "describe": 0.2,
}
"""Number of cases of a command in a round; 1 if it is not listed. Commands that read data have more to try."""


def cases(count: int, first: int = 0, only: str = "") -> Iterator[Case]:
    """Yield cases of all commands in rounds, each command as often as its weight demands."""
    commands = [words for words in all_commands() if " ".join(words).startswith(only)]
    used: collections.Counter[tuple[str, ...]] = collections.Counter()
    turns = ((words, number) for number in itertools.count(1) for words in commands)
    for words, number in turns:
        while used[words] < max(1, int(number * WEIGHTS.get(" ".join(words), 1))):
            if used.total() == count:
                return
            yield Case(words, first + used[words])
            used[words] += 1


def run_case(case: Case, template: Template) -> tuple[Call, Outcome]:
    """Execute a case in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="fuzz", ignore_cleanup_errors=True) as folder:
        call = prepare(case, template, Path(folder))
        return call, execute(call, Path(folder))


def classify(outcome: Outcome) -> str:
    """Return the column of the table in which an outcome counts."""
    if outcome.problem:
        return "internal errors"
    return "refused" if outcome.status == 2 else "accepted"


def run_cases(selected: Iterable[Case], template: Template, verbose: bool = False) -> tuple[Counts, list[str]]:
    """Execute cases, and return the counts and a description of each problem."""
    counts: Counts = collections.defaultdict(collections.Counter)  # type: ignore[arg-type]
    problems = []
    for case in selected:
        call, outcome = run_case(case, template)
        counts[" ".join(case.words)][classify(outcome)] += 1
        if outcome.problem:
            problems.append(describe(case, call, outcome))
        if verbose:
            print(
                f"{case.name}: {classify(outcome)} {outcome.seconds:.2f}"
                + (f"\n{problems[-1]}" if outcome.problem else ""),
                flush=True,
            )
    return counts, problems


def describe(case: Case, call: Call, outcome: Outcome) -> str:
    """Return a text with which a problem can be understood and replayed."""
    arguments = " ".join(
        ascii(argument if len(argument) < 200 else f"{argument[:60]}... ({len(argument)})")
        for argument in call.arguments
    )
    environment = {name: value for name, value in call.environment.items() if value is not None or name == "HOME"}
    lines = outcome.output.strip().splitlines()
    return (
        f"{outcome.problem}: noisybench {arguments} {environment or ''} {call.encoding}\n"
        f"  replay: python -m tests.fuzz.campaign --replay {case.name!r}\n"
        + "\n".join(f"  | {line[:300]}" for line in [*lines[:3], *lines[-3:]])
    )


@contextlib.contextmanager
def temporary_template() -> Iterator[Template]:
    """Yield a template in a temporary folder, with a cache of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        folder = Path(name)
        os.environ["NOISYBENCH_CACHE"] = str(folder / "cache")
        database = folder / "empty.db"
        with contextlib.chdir(folder):
            Store(f"sqlite:///{database}").connection.client.search_experiments()
        (folder / "template").mkdir()
        yield build_template(folder / "template", database)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--only", default="", help="beginning of the commands to try")
    parser.add_argument("--replay", help="case to execute again")
    parser.add_argument("--keep", type=Path, help="folder for the files of a replayed case")
    parser.add_argument("--output", type=Path, help="JSON file for the counts")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    with temporary_template() as template:
        if options.replay:
            words, _, seed = options.replay.rpartition(":")
            case = Case(tuple(words.split()), int(seed))
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
                folder = options.keep or Path(temporary)
                folder.mkdir(exist_ok=True)
                call = prepare(case, template, folder)
                outcome = execute(call, folder)
            print(describe(case, call, outcome), "", outcome.status, outcome.output, sep="\n")
            return
        counts, problems = run_cases(cases(options.count, options.first, options.only), template, options.verbose)
    print(*problems, sep="\n\n")
    print(json.dumps(counts, indent=1))
    if options.output:
        options.output.write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    main()
