"""The commands `run` and `bench`, and the execution that they share with `search`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisybench.cli import limits
from noisybench.cli.labels import Overrides, Recipe
from noisybench.cli.limits import TimeLimitOption
from noisybench.utils.files import wrap_write_errors
from noisybench.utils.interrupts import INTERRUPTS
from noisybench.utils.outputs import write_text
from noisybench.utils.places import check_output_file
from noisybench.utils.status import show_status
from noisybench.utils.text import count_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from noisybench.config.spec import RunSpec
    from noisybench.config.suite_fields import Figure
    from noisybench.execution.session import Session
    from noisybench.execution.suite_runner import RunPlan, SuiteResult
    from noisybench.execution.time_limit import TimeLimit
    from noisybench.records.equivalence import Equivalence
    from noisybench.records.schema import RunRecord

Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Number of parallel runs (default: as many as the cores allow)"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan without running it")]


Again = Annotated[bool, typer.Option("--again", help="Train finished runs again; tables show the latest run")]


def run(
    recipe: Recipe,
    overrides: Overrides = None,
    jobs: Jobs = None,
    time_limit: TimeLimitOption = None,
    dry_run: DryRun = False,
    again: Again = False,
    export: Annotated[
        Path | None,
        typer.Option(
            help="New folder for the language model of the run, which transformers or peft loads; or .onnx or .pt2 file for a "
            "classifier. Needs a single run"
        ),
    ] = None,
) -> None:
    """Train the runs of one recipe. Commas in an override give several runs; finished runs are skipped."""
    from noisybench.cli.preset_text import print_published
    from noisybench.config.resolve import read_recipe
    from noisybench.utils.console import make_console

    with limits.time_limit(time_limit, make_console(), enforce=not dry_run) as limit:
        # A model is exported from the files of its run, which has none of large models by default.
        saving = [] if export is None else ["execution.save_model=true"]
        specs = read_recipe(recipe, [*(overrides or []), *saving])
        if export is not None:
            _check_export(export, specs)
        print_published(recipe, overrides or [])
        execute_specs(specs, jobs, dry_run, again=again, limit=limit)
        if export is not None and not dry_run:
            _export(export, specs[0])


def _check_export(path: Path, specs: Sequence[RunSpec]) -> None:
    """Refuse the export of several models, of a model in the format of another kind, or to a place in use.

    Raises:
        UserError: there are several runs, the task has models of the other kind, or the file or folder cannot be written.
    """
    from noisybench.api.model_export import check_export_file
    from noisybench.config.registry import get_entry
    from noisybench.errors import UserError
    from noisybench.utils.places import check_output_folder

    if len(specs) != 1:
        raise UserError(f"--export: writes one model, but there are {len(specs)} runs; choose one of them by overrides")
    task = specs[0].task.name
    writes_texts = "chain_of_thought" in (task, get_entry("tasks", task).load_class().compatible_with)
    if path.suffix and writes_texts:
        raise UserError(
            f"--export: models of the task {task} write texts; name a new folder, without a suffix, not `{path}`"
        )
    if path.suffix:
        check_export_file(path)
    elif specs[0].budget.network.partition(":")[0] == "decoder":
        raise UserError(
            f"--export: `{specs[0].budget.network}` has no tokenizer, and cannot be loaded by transformers; train "
            "`budget.network=gpt_neox:64x3x1024` instead"
        )
    elif writes_texts:
        check_output_folder(path)
    else:
        raise UserError(
            f"--export: models of the task {task} are exported to a .onnx or .pt2 file, not to a folder `{path}`"
        )


def _export(path: Path, spec: RunSpec) -> None:
    """Write the model of a finished run to a file, or to a folder of transformers or peft."""
    from noisybench.api.models import load_model
    from noisybench.utils.console import make_console

    model = load_model(spec.identity, device="cpu")
    written = model.export(path) if path.suffix else model.save_pretrained(path)
    make_console().print(f"Model: {written.resolve()}", markup=False, soft_wrap=True)


def bench(
    suite: Annotated[
        str, typer.Argument(help="Name of a built-in suite (`noisybench list suites`) or path of a YAML file")
    ],
    overrides: Overrides = None,
    jobs: Jobs = None,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster to train on, or `auto` for the running one")
    ] = None,
    shard: Annotated[str | None, typer.Option(help="Run shard i of n, e.g. 3/16")] = None,
    time_limit: TimeLimitOption = None,
    dry_run: DryRun = False,
    again: Again = False,
    html: Annotated[Path, typer.Option(help="File for the leaderboard page")] = Path("leaderboard.html"),
) -> None:
    """Run a suite (settings x stacks x seeds) and rank the stacks. Finished runs are skipped."""
    from noisybench.config import suite as suites
    from noisybench.utils.console import make_console

    with limits.time_limit(time_limit, make_console(), enforce=not dry_run) as limit:
        specs, metric = suites.read_suite(suite, overrides or []), suites.read_metric(suite)
        figures = checked_figures(suite, specs)
        if not dry_run:
            check_output_file(html)
            for figure in figures:
                check_output_file(_figure_path(html, figure))
        execute_specs(suites.shard(specs, shard), jobs, dry_run, html, figures, ray, again, metric, limit)


def checked_figures(suite: str, specs: Sequence[RunSpec]) -> list[Figure]:
    """Return the figures of a suite, which name fields and quantities of its runs.

    Raises:
        UserError: they do not.
    """
    from noisybench.config.suite import read_figures, read_suite

    figures = read_figures(suite)
    if figures:
        from noisybench.leaderboard.figures import check_figures

        # Overrides may leave out the stacks of a figure, which is then not drawn.
        check_figures(figures, [*specs, *read_suite(suite)])
    return figures


def _figure_path(html: Path, figure: Figure) -> Path:
    """Return the file of a figure, in the folder of the leaderboard page."""
    from noisybench.leaderboard.figures import file_name

    return html.parent / file_name(figure.title)


def execute_specs(
    specs: list[RunSpec],
    jobs: int | None,
    dry_run: bool = False,
    html: Path | None = None,
    figures: Sequence[Figure] = (),
    ray: str | None = None,
    again: bool = False,
    metric: str = "default",
    limit: TimeLimit | None = None,
) -> None:
    """Execute the pending runs, print the outcome, and rank all runs.

    Args:
        specs: runs.
        jobs: number of parallel runs; None uses all cores or GPUs.
        dry_run: print the plan and return.
        html: file for the leaderboard page; None writes no page and no figures.
        figures: figures to draw of the runs, from `read_figures`.
        ray: address of a Ray cluster; None uses this machine.
        again: train finished runs again.
        metric: metric to rank by, see `leaderboard.ranking_metric.with_metric`.
        limit: time limit of the command.

    Raises:
        UserError: a run is invalid, or the time limit is too short for any run to come further.
        typer.Exit: see `limits.exit_after`.
    """
    from noisybench.cli.plan_text import print_plan
    from noisybench.cli.preset_text import print_notes
    from noisybench.execution.session import open_session
    from noisybench.utils.console import make_console

    console = make_console()
    show_status("Reading the store of this folder")
    session = open_session(specs, again, dry_run, ray)
    _print_repeated(console, session.plan)
    print_notes(console, session.plan.specs)
    if dry_run:
        print_plan(console, session.plan, session.records, jobs, limit, on_cluster=ray is not None)
        return
    for each in session.retrained:
        console.print(f"{each.reason}. It is trained again.", markup=False)
    result = train_session(session, jobs, console, limit)
    _print_other_weights(console, session)
    _show(session, html, metric, console)
    records = session.plan.select(session.records)
    if records and html is not None:
        for figure in figures:
            _draw(records, session.equivalences, figure, _figure_path(html, figure), console)
    limits.exit_after(result, console)


def _print_repeated(console: Console, plan: RunPlan) -> None:
    """Print how many finished runs are trained again, and why."""
    if plan.repeated:
        verb = "is" if len(plan.repeated) == 1 else "are"
        reasons = ", ".join(plan.reasons)
        console.print(f"{count_runs(len(plan.repeated))} {verb} finished and trained again for {reasons}.")


def _print_other_weights(console: Console, session: Session) -> None:
    """Print which runs that were trained again reached other weights than before."""
    from rich.text import Text

    for record in session.plan.other_weights(session.records):
        old = session.plan.repeated[record.identity].environment
        changes = ", ".join(
            f"{name} {old.get(name, 'none')} -> {value}"
            for name, value in record.environment.items()
            if old.get(name) != value
        )
        console.print(
            Text(
                f"Note: {record.title}: trained again with other weights than before ({changes or 'in an equal environment'}); "
                "tables show the latest run.",
                style="yellow",
            )
        )


def train_session(session: Session, jobs: int | None, console: Console, limit: TimeLimit | None = None) -> SuiteResult:
    """Execute the pending runs of a session, and print their progress and outcome."""
    from noisybench.cli import console as view
    from noisybench.execution.display import ProgressDisplay

    start, plan = time.monotonic(), session.plan
    if plan.pending:
        total = len(plan.specs)
        which = count_runs(total) if len(plan.pending) == total else f"{len(plan.pending)} of {count_runs(total)}"
        console.print(f"Validating {which} ...")
    with (
        INTERRUPTS.graceful(console.print),
        ProgressDisplay(console, len(plan.pending)) as display,
    ):
        result = session.train(
            jobs,
            display.update,
            INTERRUPTS.level,
            limit,
            lambda note: console.print(f"note: {note}", markup=False, soft_wrap=True),
        )
    view.print_result(console, result, plan, time.monotonic() - start)
    # `main` removes this option before Typer parses the arguments.
    if "--debug" in sys.argv:
        for _, _, traceback in result.failed:
            console.print(traceback, markup=False)
    return result


def _draw(
    records: list[RunRecord], equivalences: list[Equivalence], figure: Figure, path: Path, console: Console
) -> None:
    """Draw one figure of a suite from its finished runs."""
    from noisybench.leaderboard.figures import plot_suite

    with wrap_write_errors(path):
        drawn = plot_suite(records, figure.title, figure.x, figure.y, path, equivalences)
    if drawn:
        console.print(f"Figure: {path.resolve()}")


def _show(session: Session, html: Path | None, metric: str, console: Console) -> None:
    """Rank the runs of a command, write the leaderboard page, and suggest next steps."""
    from noisybench.api.leaderboard import rank_trained

    board = rank_trained(session, metric)
    if board.settings and html is not None:
        write_text(html, board.to_html())
    console.print(board)
    if not board.settings or html is None:
        return
    example = board.settings[0].rows[0]
    console.print(f"Leaderboard page with training curves: {html.resolve()}")
    console.print("Next:")
    console.print("  noisybench leaderboard --rule noisy_val            rank by the epoch selected by noisy validation")
    console.print(
        f"  noisybench describe {example.stack.split('(')[0].split('+')[0]:<30} documentation and parameters of the best stack"
    )
    console.print("  noisybench run digits mitigations=mixup+gce        a stack of two mitigations")
    console.print("  noisybench inspect digits noise=pair_flip          effect of a noise model on the labels")
    if session.store.connection.embedded:
        console.print(
            "  noisybench leaderboard serve                       the page beside MLflow with all runs and curves"
        )
