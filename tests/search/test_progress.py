"""Progress of a search: trials that are done, and the time that is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from noisybench.config.resolve import resolve
from noisybench.execution.display import ProgressDisplay
from noisybench.execution.engine import Event
from noisybench.search.progress import TrialProgress

SPEC = resolve({"dataset": "digits", "mitigations": "elr"})


def lines_of(outcomes: list[tuple[str, int]], total: int = 10) -> list[str]:
    """Return the lines in a log for trials that end with an outcome, and the number of trials that are done by then."""
    console = Console(file=io.StringIO(), width=200)
    progress = TrialProgress(total, clock=iter(range(1000)).__next__)
    with ProgressDisplay(console, total, noun="trial") as display:
        for outcome, done in outcomes:
            kind = "stopped" if outcome in ("pruned", "stopped") else "failed" if outcome == "failed" else "finished"
            event = Event(SPEC, kind, {"reason": "out of memory"})
            display.update(progress.update(event, outcome, done, seeds=1), progress.seconds_left())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.fast
def test_pruned_and_failed_trials_are_done() -> None:
    lines = lines_of([("finished", 1), ("pruned", 2), ("failed", 3), ("seed", 3), ("stopped", 3), ("finished", 4)])
    assert [line.partition(" ")[0] for line in lines] == ["[1/10]", "[2/10]", "failed:", "[3/10]", "[3/10]", "[4/10]"]
    assert [line.split(" · ")[-2] for line in lines if line.startswith("[")] == [
        "completed", "pruned", "one of its seeds completed", "stopped", "completed",
    ]  # fmt: skip
    assert "out of memory" in lines[2]


@pytest.mark.fast
def test_the_time_left_is_that_of_the_trials_that_are_left() -> None:
    now = [0.0]
    progress = TrialProgress(10, done=2, clock=lambda: now[0])
    assert progress.seconds_left() is None
    now[0] = 10.0
    half = Event(SPEC, "epoch", {"epoch": 4, "epochs": 10})
    progress.update(half, "epoch", 2, seeds=1)
    assert progress.seconds_left() == pytest.approx(7.5 * 10 / 0.5), "7.5 trials are left, and half a trial took 10 s"
    now[0] = 20.0
    progress.update(Event(SPEC, "stopped"), "pruned", 3, seeds=1)
    assert progress.seconds_left() == pytest.approx(7 * 20 / 1)
    # Of two seeds, an epoch is a smaller part of the trial.
    progress.update(half, "epoch", 3, seeds=2)
    assert progress.seconds_left() == pytest.approx(6.75 * 20 / 1.25)
