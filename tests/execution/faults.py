"""Faults that real commands are exposed to, and the table of docs/fault-tolerance.md, which is written from them.

NOISYBENCH_SLOW=1 python -m pytest tests/execution/test_faults.py -n0    # the whole campaign, recorded in faults.csv
python -m tests.execution.faults --write                                 # the table, from the faults and faults.csv
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from noisybench.utils.locks import exclusive

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "fault-tolerance.md"
MEASUREMENTS = Path(__file__).with_name("faults.csv")
BEGIN, END = (
    "<!-- The table is written by `python -m tests.execution.faults --write`. -->",
    "<!-- End of the table. -->",
)

SLOW = bool(os.environ.get("NOISYBENCH_SLOW"))
"""True for the whole campaign."""


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Attributes:
        key: name in `faults.csv`.
        title: the fault, in Markdown.
        commands: commands that are exposed to it, in Markdown.
        effect: effect on the command, and the way to continue.
        trials: number of trials in the campaign.
        sample: numbers of the trials in the normal test suite.
        chain: number of trials that strike one after the other in the same folder, before it is completed and checked.
    """

    key: str
    title: str
    commands: str
    effect: str
    trials: int
    sample: tuple[int, ...] = ()
    chain: int = 1


INTERRUPTED = (
    "list",
    "validate",
    "run",
    "bench",
    "search",
    "audit",
    "labels create",
    "inspect",
    "leaderboard",
    "serve",
)
"""Commands that are interrupted at random moments, from their first import to their last line."""

BUSY = ("bench", "audit", "search", "serve", "labels create")
"""Those that are interrupted by the other signals."""

FAULTS = (
    Fault(
        "kill-store", "`kill -9` of the command and its processes while the store is created", "`bench`, `search`",
        "An unfinished store is made again by the next command.", 15, (0,),
    ),
    Fault(
        "kill-run", "`kill -9` of the process of a run, as when memory runs out", "`bench`",
        "The run is reported as failed, the others continue. Rerun to resume from its last checkpoint.", 6, (0,), 3,
    ),
    Fault(
        "kill-command", "`kill -9` of the command", "`bench`",
        "Active runs stop after the current epoch. Rerun to resume.", 5, (), 5,
    ),
    Fault(
        "kill-group", "`kill -9` of the command and all its processes", "`bench`",
        "Rerun to resume each run from its last checkpoint.", 6, (), 6,
    ),
    Fault(
        "kill-search", "`kill -9` of the command, a trial or all processes", "`search`",
        "A killed trial is retried at once, up to three times. After a kill of the command, rerunning it, or another process "
        "on the same study, re-queues its trials after four missed heartbeats.", 8, (), 4,
    ),
    Fault(
        "full-disk", "Full disk: at the creation of the store, during training, at the upload", "`bench`",
        "One line says so. Rerun when there is space.", 3, (0,),
    ),
    Fault(
        "stop-continue", "`SIGSTOP`, and `SIGCONT` seconds later", "`bench`, `search`",
        "Continues.", 4, (), 2,
    ),
    Fault(
        "memory", "No more memory for the process of a run (`RLIMIT_AS`)", "`bench`",
        "The run is reported as failed, the others continue. Rerun to resume from its last checkpoint.", 2, (), 2,
    ),
    Fault(
        "read-only", "Read-only folder", "`bench`, `search`, `audit`, `labels create`",
        "One line says so, before anything is trained.", 4, (2,),
    ),
    Fault(
        "no-home", "No `HOME`, or one that cannot be written", "`bench`",
        "None.", 2,
    ),
    Fault(
        "ctrl-c", "`Ctrl-C` at any moment", ", ".join(f"`{name}`" for name in INTERRUPTED),
        "Ends with one line and exit status 130. Active runs finish their epoch; rerun to resume.", 20, (0, 5),
    ),
    Fault(
        "ctrl-c-twice", "`Ctrl-C` twice", ", ".join(f"`{name}`" for name in BUSY),
        "The second stops active runs at once; their last checkpoint is kept.", 5,
    ),
    Fault(
        "sigterm", "`SIGTERM` to all processes, as Slurm sends it", "the same",
        "As `Ctrl-C`, with exit status 143.", 5,
    ),
    Fault(
        "sighup", "`SIGHUP` to all processes: the terminal is closed", "the same",
        "As `Ctrl-C`, with exit status 129. With `nohup`, nothing ends.", 5,
    ),
    Fault(
        "store-deleted", "The store is deleted during a run", "`bench`",
        "The command reports it, or makes the store again. Rerun to train what is missing.", 2,
    ),
)  # fmt: skip

ELSEWHERE = (
    (
        "The MLflow server goes down",
        "Suite: active runs finish and queue their records in `.noisybench/runs`; no new runs start. Search: it stops with a "
        "message. Rerun to upload and resume.",
        "`tests/execution/test_reliability.py`",
    ),
    (
        "PostgreSQL behind the MLflow server goes down",
        "As above; the server reconnects to its database by itself.",
        "`tests/execution/test_reliability.py`",
    ),
    (
        "PostgreSQL with the studies goes down",
        "The search stops with a message. Rerun to resume.",
        "`tests/execution/test_reliability.py`",
    ),
    (
        "A Ray worker dies",
        "The run is reported as failed, the others continue. Rerun to resume from its last checkpoint.",
        "`tests/execution/test_ray.py`",
    ),
    (
        "One of several commands that share a suite with `--shard` is killed",
        "The others continue. Rerun to complete the shard.",
        "`tests/execution/test_reliability.py`",
    ),
)
"""Faults of services, each an integration test of its own: fault, effect, test."""


def record(fault: str, number: int, held: bool, detail: str) -> None:
    """Record a trial of the campaign in `faults.csv`, in place of an earlier record of the trial."""
    with exclusive(Path(tempfile.gettempdir()) / "noisybench-faults.lock"):
        rows = {(row["fault"], int(row["number"])): row for row in measured()}
        rows[fault, number] = {"fault": fault, "number": str(number), "held": str(int(held)), "detail": detail}
        order = [each.key for each in FAULTS]
        with MEASUREMENTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("fault", "number", "held", "detail"), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[key] for key in sorted(rows, key=lambda key: (order.index(key[0]), key[1])))


def measured() -> list[dict[str, str]]:
    """Return the trials of the latest campaign."""
    if not MEASUREMENTS.is_file():
        return []
    with MEASUREMENTS.open(newline="") as file:
        return list(csv.DictReader(file))


def table() -> str:
    """Return the tables of the documentation."""
    held, tried = Counter[str](), Counter[str]()
    for row in measured():
        tried[row["fault"]] += 1
        held[row["fault"]] += int(row["held"])
    lines = ["| Fault | Commands | Effect | Trials without loss |", "| --- | --- | --- | --- |"]
    for fault in FAULTS:
        count = f"{held[fault.key]} of {tried[fault.key]}" if tried[fault.key] else "not run yet"
        lines.append(f"| {fault.title} | {fault.commands} | {fault.effect} | {count} |")
    lines += ["", "| Fault of a service | Effect | Test |", "| --- | --- | --- |"]
    lines += [f"| {title} | {effect} | {test} |" for title, effect, test in ELSEWHERE]
    return "\n".join(lines)


def documented() -> str:
    """Return the document with the present table."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    DOCUMENT.write_text(documented())
