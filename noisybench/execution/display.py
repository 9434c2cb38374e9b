"""Progress of runs in the terminal or a notebook."""

from __future__ import annotations

import importlib.util
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from noisybench.utils.durations import format_duration

if TYPE_CHECKING:
    from noisybench.execution.engine import Event


OUTCOMES = {"finished": "completed", "seed": "one of its seeds completed"}
"""Words for outcomes that differ from their names."""


class ProgressDisplay:
    """Live progress: a bar for all runs and one for each active run. In files and logs, one line per finished run.

    Args:
        console: console of a terminal, a file or a notebook.
        total: number of runs, or of trials of a search.
        is_quiet: show nothing.
        noun: what is counted, in the singular. Events of trials say themselves how many are done.
    """

    def __init__(self, console: Console, total: int, is_quiet: bool = False, noun: str = "run") -> None:
        self._console, self._total, self._is_quiet = console, total, is_quiet
        self._nouns = noun if total == 1 else f"{noun}s"
        # Rich updates the output of a notebook through widgets.
        has_widgets = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
        self._is_live = not is_quiet and (console.is_terminal or has_widgets)
        self._completed = self._failed = 0
        self._trials_done: int | None = None
        self._seconds_left: float | None = None
        self._updated_at = time.monotonic()
        self._progress = Progress(
            BarColumn(bar_width=30),
            # Titles may contain lists, whose brackets Rich would read as markup.
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[status]}", style="dim", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not self._is_live,
            refresh_per_second=4,
        )
        self._overall = self._progress.add_task(f"0/{total} {self._nouns}", total=max(1, total), status="")
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Return the display, which starts with the first event."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the display."""
        self._progress.stop()

    def update(self, event: Event, seconds_left: float | None) -> None:
        """Update the display with an event and the estimated remaining seconds."""
        self._progress.start()
        self._seconds_left, self._updated_at = seconds_left, time.monotonic()
        identity, title = event.spec.identity, event.spec.title
        if event.kind == "start":
            self._tasks[identity] = self._progress.add_task(title, total=event.spec.budget.epochs, status="starting")
        elif event.kind in ("epoch", "auxiliary"):
            self._update_run(self._tasks[identity], event)
        else:
            if identity in self._tasks:
                self._progress.remove_task(self._tasks.pop(identity))
            outcome = event.data.get("outcome", event.kind)
            self._failed += outcome == "failed"
            self._completed += outcome == "finished"
            # Of trials, those that are pruned, or that another process trains, are done as well.
            self._trials_done = event.data.get("done")
            if self._is_quiet:
                return
            if outcome == "failed":
                self._console.print(Text(f"failed: {title}: {event.data['reason']}", style="red"))
            elif not self._is_live:
                outcome = OUTCOMES.get(outcome, outcome)
                self._console.print(
                    Text(f"[{self._num_done()}/{self._total}] {title} · {outcome} · {self._time_left()}"),
                    soft_wrap=True,
                )
        failed = f", {self._failed} failed" if self._failed else ""
        self._progress.update(
            self._overall,
            completed=self._completed + self._failed if self._trials_done is None else self._trials_done,
            description=f"{self._num_done()}/{self._total} {self._nouns}{failed}",
            status=self._time_left(),
        )

    def _update_run(self, task: TaskID, event: Event) -> None:
        epoch, epochs = event.data["epoch"] + 1, event.data["epochs"]
        if event.kind == "auxiliary":
            self._progress.update(task, status=f"{event.data['title']}, epoch {epoch}/{epochs}")
            return
        # The test score is not shown, so that it does not influence decisions during training.
        noisy_val = event.data.get("noisy_val")
        score = "" if noisy_val is None else f", noisy validation {100 * noisy_val:.1f} %"
        self._progress.update(task, completed=epoch, total=epochs, status=f"epoch {epoch}/{epochs}{score}")

    def _num_done(self) -> int:
        return self._completed if self._trials_done is None else self._trials_done

    def _time_left(self) -> str:
        if self._seconds_left is None:
            return "time left: estimating"
        # Events may be minutes apart, so the latest estimate is counted down between them.
        seconds = self._seconds_left - (time.monotonic() - self._updated_at)
        return f"{format_duration(max(0.0, seconds))} left"
