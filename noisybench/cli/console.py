"""Terminal output: progress of steps, and result tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from noisybench.utils.durations import format_duration
from noisybench.utils.text import count_runs, counted

if TYPE_CHECKING:
    from noisybench.execution.suite_runner import RunPlan, SuiteResult
    from noisybench.search.search import SearchResult


@contextlib.contextmanager
def step_progress(console: Console) -> Iterator[None]:
    """Show a bar for each long step inside of the block; nothing without a terminal."""
    from noisybench.utils.progress import listening

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
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
    console.print(f"{counts}; {counted(result.epochs, 'epoch')} trained")
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
