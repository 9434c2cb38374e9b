"""What people see while runs are under way and when they are done."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from noisybench.execution.engine import Event
    from noisybench.execution.suite_runner import RunPlan, SuiteResult
    from noisybench.leaderboard.table import Setting
    from noisybench.search.search import SearchResult

PLAIN_WIDTH = 170
"""Columns where the output is not a terminal, so that tables in files and logs are not cut."""


def make_console(stderr: bool = False) -> Console:
    """A console that is as wide as the terminal, or wide where there is none."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)
    return console


def duration(seconds: float | None) -> str:
    """``2 h 05 min``, ``3 min 20 s``, ``12 s``; a question mark for None."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


class Interrupts:
    """Counts Ctrl-C: once lets the epochs in flight end, twice stops at once."""

    def __init__(self, console: Console) -> None:
        self.count = 0
        self._console = console

    def __call__(self) -> int:
        """How often it was pressed."""
        return self.count

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over Ctrl-C (and a polite kill) while inside."""
        before = {each: signal.signal(each, self._take) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self._console.print("stopping after the epochs in flight; press Ctrl-C again to stop at once")


class Display:
    """Live progress: a bar for all runs with the time left, and a line for each run under way."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._done = self._failed = 0
        self._active: dict[str, str] = {}
        self._left: float | None = None
        self._told = time.monotonic()
        self._start = time.monotonic()
        self._live: Live | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show progress while inside. Without a terminal, one line per finished run."""
        if not self._console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._picture, console=self._console, refresh_per_second=4, transient=True
        ) as self._live:
            yield
        self._live = None

    def show(self, event: Event, left: float | None) -> None:
        """Take in an event and the seconds left."""
        identity, self._left, self._told = event.spec.identity, left, time.monotonic()
        if event.kind == "start":
            self._active[identity] = f"{event.spec.title} · starting"
        elif event.kind == "epoch":
            data = event.data
            # Not the test score: nobody should read it while training.
            held_out = data.get("noisy_val")
            shown = "" if held_out is None else f" · {100 * held_out:.1f} % on noisy validation"
            self._active[identity] = f"{event.spec.title} · epoch {data['epoch'] + 1}/{data['epochs']}{shown}"
        elif event.kind == "auxiliary":
            data = event.data
            self._active[identity] = (
                f"{event.spec.title} · {data['title']} · epoch {data['epoch'] + 1}/{data['epochs']}"
            )
        else:
            self._active.pop(identity, None)
            self._done += event.kind == "finished"
            self._failed += event.kind == "failed"
            if event.kind == "failed":
                self._console.print(Text(f"failed: {event.spec.title}: {event.data['reason']}", style="red"))
            elif not self._console.is_terminal:
                self._console.print(
                    f"[{self._done}/{self._total}] {event.spec.title} · {event.kind} · {self._time_left()}"
                )

    def _time_left(self) -> str:
        if self._left is None:
            return "time left: estimating"
        return f"{duration(max(0.0, self._left - (time.monotonic() - self._told)))} left"

    def _picture(self) -> Group:
        failed = f", {self._failed} failed" if self._failed else ""
        passed = duration(time.monotonic() - self._start)
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, self._total), completed=self._done + self._failed, width=40)
        head.add_row(bar, f"{self._done}/{self._total} runs{failed} · {passed} · {self._time_left()}")
        return Group(head, *(Text(f"  {line}", style="dim") for line in self._active.values()))


def print_plan(console: Console, plan: RunPlan, estimates: Sequence[float | None], workers: int) -> None:
    """The plan of a dry run, with costs from recorded runs."""
    groups: dict[tuple[str, str], list[float | None]] = {}
    for spec, seconds in zip(plan.todo, estimates, strict=True):
        groups.setdefault((f"{spec.dataset_label} · {spec.noise.display_name(hide=('path',))}", spec.stack), []).append(
            seconds
        )
    table = Table("cell", "stack", "runs to do", "estimate of one", box=None, header_style="bold")
    for (cell, stack), seconds_of in groups.items():
        table.add_row(cell, stack, str(len(seconds_of)), duration(seconds_of[0]))
    if groups:
        console.print(table)
    resumed = sum((spec.run_dir() / "checkpoint.ckpt").is_file() for spec in plan.todo)
    known = [each for each in estimates if each is not None]
    total = (
        duration(sum(known) / workers)
        if known and len(known) == len(estimates)
        else "unknown, no such run is recorded yet"
    )
    done = len(plan.specs) - len(plan.todo)
    console.print(
        f"{len(plan.specs)} runs: {done} finished, {resumed} to go on with, {len(plan.todo) - resumed} to start."
    )
    if plan.todo:
        console.print(f"Estimate with {workers} at a time: {total}.")


def print_searched(console: Console, searched: SearchResult) -> None:
    """What a search came to, beside the defaults."""
    search, found = searched.search, searched.study
    table = Table(box=None, header_style="bold")
    names = ["best"] if len(found.best) == 1 else [f"best {number}" for number in range(1, len(found.best) + 1)]
    for title in ("parameter", "default", *names):
        table.add_column(title, justify="left" if title == "parameter" else "right")
    for name in search.space:
        values = [search.defaults[name], *(each[name] for each in found.best)]
        table.add_row(name, *(f"{each:.4g}" if isinstance(each, float) else str(each) for each in values))
    for place, name in enumerate(search.objective):
        scores = [found.default_scores, *found.scores]
        percent = name != "cost"
        title = f"{name.removesuffix('_val')} validation, percent" if percent else "training, seconds"
        table.add_row(
            title, *("–" if each is None else f"{each[place] * (100 if percent else 1):.1f}" for each in scores)
        )
    console.print(table)
    ended = ", ".join(f"{count} {state}" for state, count in found.trials.items() if count)
    console.print(f"{ended}; {searched.epochs} epochs trained")


def print_report(console: Console, report: SuiteResult, plan: RunPlan, seconds: float) -> None:
    """How it ended."""
    already = len(plan.specs) - len(plan.todo)
    parts = [f"{len(report.finished)} finished", f"{already} were finished already"]
    if report.stopped or report.not_started:
        parts.append(f"{len(report.stopped)} interrupted, {report.not_started} not started (the same command goes on)")
    if report.failed:
        parts.append(f"{len(report.failed)} failed")
    console.print(f"{len(plan.specs)} runs in {duration(seconds)}: {', '.join(parts)}.")
    for spec, reason, traceback in report.failed:
        console.print(Text(f"  failed: {spec.title}\n    {reason}", style="red"))
        if traceback:
            console.print("    the traceback is recorded with the run (traceback.txt); `--debug` prints it here")


def print_settings(console: Console, settings: Sequence[Setting], intervals: bool = False) -> None:
    """Print the leaderboard, one table per setting."""
    from noisybench.leaderboard.text_tables import COLUMNS, detector_rows, footnote, text_rows

    left_aligned, wrapped = {"stack", "privileged info", "published"}, {"published", "privileged info", "stack"}
    for setting in settings:
        rows = text_rows(setting, intervals)
        # Columns without a value in this setting are left out.
        shown = [index for index in range(len(COLUMNS)) if any(row[index] not in ("", "–") for row in rows)]
        table = Table(
            title=setting.title,
            title_style="bold",
            title_justify="left",
            box=None,
            header_style="bold",
            pad_edge=False,
        )
        for index in shown:
            name = COLUMNS[index]
            table.add_column(
                name,
                justify="left" if name in left_aligned else "right",
                style="bright_black" if name == "oracle" else None,
                no_wrap=name not in wrapped,
                min_width=None if name in left_aligned else max(len(row[index]) for row in rows),
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(row[index] for index in shown))
        console.print(table)
        console.print(Text(footnote(setting), style="bright_black"))
        detectors = detector_rows(setting)
        if detectors:
            _print_detectors(console, detectors)
        for warning in setting.warnings:
            console.print(Text(f"Note: {warning}.", style="yellow"))
        console.print()


def _print_detectors(console: Console, rows: Sequence[Sequence[str]]) -> None:
    from noisybench.leaderboard.text_tables import DETECTOR_COLUMNS, DETECTOR_NOTE

    table = Table(box=None, header_style="bold", pad_edge=False)
    # Numbers are never cut for the sake of a long stack name.
    shown = [index for index in range(len(DETECTOR_COLUMNS)) if any(row[index] != "–" for row in rows)]
    for index in shown:
        is_number = index > 1
        table.add_column(
            DETECTOR_COLUMNS[index],
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=index > 0,
            min_width=max(len(row[index]) for row in rows) if is_number else None,
        )
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    console.print(table)
    console.print(Text(DETECTOR_NOTE, style="bright_black"))
