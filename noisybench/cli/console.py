"""Terminal output: progress and result tables."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from noisybench.utils.text import printable_lines

if TYPE_CHECKING:
    from noisybench.execution.engine import Event
    from noisybench.execution.suite_runner import RunPlan, SuiteResult
    from noisybench.search.search import SearchResult

PLAIN_WIDTH = 170
"""Columns of the output if it is not a terminal, so that tables in files and logs are not cut."""


class SafeConsole(Console):
    """Console that shows control characters in names of files, classes and methods as escapes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the segments of an object; control sequences of Rich itself stay as they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)


def make_console(stderr: bool = False) -> Console:
    """Return a console with the width of the terminal, or with `PLAIN_WIDTH` for a file or pipe."""
    console = SafeConsole(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = SafeConsole(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    return console


def format_duration(seconds: float | None) -> str:
    """Format a duration, as a question mark for None.

    Example:
        >>> format_duration(7500), format_duration(200), format_duration(12), format_duration(None)
        ('2 h 05 min', '3 min 20 s', '12 s', '?')
    """
    if seconds is None:
        return "?"
    rounded = round(seconds)
    if rounded >= 3600:
        return f"{rounded // 3600} h {rounded % 3600 // 60:02} min"
    return f"{rounded // 60} min {rounded % 60:02} s" if rounded >= 60 else f"{rounded} s"


class ProgressDisplay:
    """Live progress: a bar for all runs and one for each active run. Without a terminal, one line per finished run.

    Args:
        console: console.
        total: number of runs.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._completed = self._failed = 0
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
            disable=not console.is_terminal,
            refresh_per_second=4,
        )
        self._overall = self._progress.add_task(f"0/{total} runs", total=max(1, total), status="")
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
            self._completed += event.kind == "finished"
            self._failed += event.kind == "failed"
            if event.kind == "failed":
                self._console.print(Text(f"failed: {title}: {event.data['reason']}", style="red"))
            elif not self._console.is_terminal:
                outcome = "completed" if event.kind == "finished" else event.kind
                self._console.print(f"[{self._completed}/{self._total}] {title} · {outcome} · {self._time_left()}")
        failed = f", {self._failed} failed" if self._failed else ""
        self._progress.update(
            self._overall,
            completed=self._completed + self._failed,
            description=f"{self._completed}/{self._total} runs{failed}",
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

    def _time_left(self) -> str:
        if self._seconds_left is None:
            return "time left: estimating"
        # Events may be minutes apart, so the latest estimate is counted down between them.
        seconds = self._seconds_left - (time.monotonic() - self._updated_at)
        return f"{format_duration(max(0.0, seconds))} left"


@contextlib.contextmanager
def step_progress(console: Console) -> Iterator[None]:
    """Show a bar for each long step inside of the block; nothing without a terminal."""
    from noisybench.utils.progress import listening

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        refresh_per_second=4,
    )
    tasks: dict[str, TaskID] = {}

    def update(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = progress.add_task(step, total=total)
        progress.update(tasks[step], completed=done, total=total)

    with progress, listening(update):
        yield


def print_search_result(console: Console, result: SearchResult) -> None:
    """Print the best configurations of a search beside the defaults."""
    search, study = result.search, result.study
    table = Table(box=None, header_style="bold")
    names = ["best"] if len(study.best) == 1 else [f"best {number}" for number in range(1, len(study.best) + 1)]
    for title in ("parameter", "default", *names):
        table.add_column(title, justify="left" if title == "parameter" else "right")
    for name in search.space:
        values = [search.defaults[name], *(configuration[name] for configuration in study.best)]
        table.add_row(name, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    for index, objective in enumerate(search.objective):
        scores = [study.default_scores, *study.scores]
        is_cost = objective == "cost"
        title = "training time (s)" if is_cost else f"{objective.removesuffix('_val')} validation (%)"
        scale = 1 if is_cost else 100
        table.add_row(title, *("–" if score is None else f"{score[index] * scale:.1f}" for score in scores))
    console.print(table)
    counts = ", ".join(f"{count} {state}" for state, count in study.trials.items() if count)
    console.print(f"{counts}; {result.epochs} epochs trained")
    if result.changed_code:
        console.print(
            f"Note: the code changed ({', '.join(result.changed_code)}) since these trials; the runs below are trained with the "
            "present code."
        )


def print_equivalent(console: Console, plan: RunPlan) -> None:
    """Print how many runs count as finished because their code is equivalent, and which components differ."""
    if not plan.equivalent:
        return
    from noisybench.records.codes import as_code, code_differences, describe_differences

    specs = {spec.identity: spec for spec in plan.specs}
    differences = dict.fromkeys(
        difference
        for identity, record in plan.equivalent.items()
        for difference in code_differences(as_code(record.code), as_code(specs[identity].code))
    )
    verb = "counts" if len(plan.equivalent) == 1 else "count"
    console.print(
        f"{count_runs(len(plan.equivalent))} {verb} as finished by equivalence of code: "
        f"{describe_differences(tuple(differences), '=')}."
    )


def count_runs(count: int) -> str:
    """Return a number of runs with its noun.

    Example:
        >>> count_runs(1), count_runs(2)
        ('1 run', '2 runs')
    """
    return f"{count} run{'s' if count != 1 else ''}"


def print_result(console: Console, result: SuiteResult, plan: RunPlan, seconds: float) -> None:
    """Print the number of runs by outcome, and the reasons of failed runs."""
    print_equivalent(console, plan)
    skipped = len(plan.specs) - len(plan.pending)
    parts = [f"{len(result.completed)} completed", f"{skipped} skipped"]
    if result.failed:
        parts.append(f"{len(result.failed)} failed")
    if result.stopped or result.not_started:
        parts.append(f"{len(result.stopped)} interrupted, {result.not_started} not started")
    console.print(f"{count_runs(len(plan.specs))} in {format_duration(seconds)}: {', '.join(parts)}")
    for spec, reason, traceback in result.failed:
        # A `Text` is printed literally: Rich would read the brackets of a reason as markup.
        console.print(Text(f"  failed: {spec.title}\n    {reason}", style="red"))
        if traceback:
            console.print("    The traceback is saved with the run (traceback.txt); `--debug` prints it here.")
