"""The commands: parse, call, print."""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisybench import __version__
from noisybench.cli.audit import audit
from noisybench.cli.labels import Overrides, Recipe, describe_labels, labels_app, one_spec
from noisybench.cli.leaderboard import leaderboard_app, write
from noisybench.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from noisybench.config.spec import RunSpec
    from noisybench.execution.engine import Executor
    from noisybench.records.schema import RunRecord
    from noisybench.tracking.store import Store

CONFIG_KINDS = ("recipes", "suites", "searches")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find out which remedy for wrong labels to trust.",
    epilog="Start with: noisybench bench quickstart",
)
app.add_typer(
    labels_app,
    name="labels",
    epilog="Example: noisybench labels create digits noise=pair_flip --output labels/pair",
)
app.add_typer(
    leaderboard_app,
    name="leaderboard",
    epilog="Example: noisybench leaderboard --rule noisy_val --format markdown -o results.md",
)

Workers = Annotated[int | None, typer.Option(min=1, help="Runs at a time; by default as many as the cores allow")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and stop")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write")]


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (may stand anywhere)")] = False,
) -> None:
    """Find out which remedy for wrong labels to trust."""


@app.command(
    epilog="Example: noisybench run digits noise=pair_flip noise.rate=0.4 mitigations=elr mitigations.elr.beta=0.7 seed=0"
)
def run(recipe: Recipe, overrides: Overrides = None, workers: Workers = None, dry_run: DryRun = False) -> None:
    """Train one recipe; commas in an override make several runs. A finished run is not trained again."""
    from noisybench.config.resolve import read_recipe

    _execute(read_recipe(recipe, overrides or []), workers, dry_run)


@app.command(epilog="Example: noisybench bench quickstart seeds=[0,1,2,3,4] --workers 2")
def bench(
    suite: Annotated[str, typer.Argument(help="A shipped suite (`noisybench list suites`) or the path of a YAML file")],
    overrides: Overrides = None,
    workers: Workers = None,
    ray: Annotated[
        str | None, typer.Option(help="Train on a Ray cluster: `auto` for the running one, or its address")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(help="Only this share of the runs, such as 3/16: for as many machines that share a store"),
    ] = None,
    dry_run: DryRun = False,
    html: Annotated[Path, typer.Option(help="Where to write the page")] = Path("leaderboard.html"),
) -> None:
    """Run a suite (cells x stacks x seeds) and rank the stacks. What is finished is skipped."""
    from noisybench.config.suite import read_figures, read_suite, shard

    specs, figures = shard(read_suite(suite, overrides or []), part), read_figures(suite)
    _execute(specs, workers, dry_run, html, figures, ray)


@app.command(epilog="Example: noisybench search digits mitigations=elr trials=30 --workers 2")
def search(
    name: Annotated[
        str, typer.Argument(help="A shipped search, a recipe, a suite, or a YAML file; `resume` goes on with a study")
    ],
    overrides: Overrides = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study; by default that of the search and its stack")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="URL of a database; by default a file in the working folder")
    ] = None,
    workers: Workers = None,
) -> None:
    """Tune a stack, or each of a suite, by noisy validation; rank the best configurations, trained anew, beside the defaults."""
    import dataclasses

    from noisybench.cli import console as view
    from noisybench.search.config import read_searches
    from noisybench.search.search import final_runs, run_search
    from noisybench.search.study import load_searches
    from noisybench.tracking.store import Store

    if name == "resume":
        names = [*([study] if study else []), *(overrides or [])]
        if len(names) > 1:
            raise UserError(
                "search resume: give the name of one study, or none for all; their settings are noted in them"
            )
        searches = load_searches(names[0] if names else None, storage)
    else:
        searches = read_searches(name, overrides or [])
        if study is not None and len(searches) > 1:
            raise UserError("--study: a suite has a study for each stack, which are named after it")
        searches = [dataclasses.replace(each, name=study or each.name) for each in searches]
    console, store = view.make_console(), Store()
    interrupts = view.Interrupts(console)
    store.connection.check()
    done = []
    for each in searches:
        if not each.space:
            console.print(f"{each.stack} has nothing to search; its defaults are ranked")
            continue
        console.print(f"study `{each.name}`: {', '.join(each.space)}; {each.trials} trials")
        display = view.Display(console, each.trials * len(each.seeds))
        with interrupts.listening(), display.running():
            searched = run_search(each, storage, store, workers, display.show, interrupts)
        if searched is None:
            console.print("stopped; the same command goes on")
            raise typer.Exit(130)
        view.print_searched(console, searched)
        done.append(searched)
    console.print("Validation chose these values; what they are worth, fresh seeds tell:")
    _execute(final_runs(done, [each for each in searches if not each.space]), workers, dry_run=False)


def _execute(
    specs: list[RunSpec],
    workers: int | None,
    dry_run: bool,
    html: Path | None = None,
    figures: Sequence[dict[str, Any]] = (),
    ray: str | None = None,
) -> None:
    from noisybench.cli import console as view
    from noisybench.execution.local import LocalExecutor
    from noisybench.execution.suite_runner import DurationEstimator, make_plan, run_plan
    from noisybench.tracking.store import Store

    console, start = view.make_console(), time.monotonic()
    store = Store()
    if not dry_run:
        store.connection.check()
    records = store.runs.records()
    plan, clock = make_plan(specs, records), DurationEstimator(records)
    if dry_run:
        count = workers or LocalExecutor(1).capacity(plan.todo, gpu=False)
        view.print_plan(console, plan, [clock.estimate(spec) for spec in plan.todo], count)
        return
    display, interrupts = view.Display(console, len(plan.todo)), view.Interrupts(console)
    if plan.todo:
        console.print(f"{len(plan.todo)} of {len(plan.specs)} runs to do; checking them …")
    with interrupts.listening(), display.running(), _engine(ray, store) as engine:
        report = run_plan(plan, store, clock, workers, display.show, interrupts, engine)
    view.print_report(console, report, plan, time.monotonic() - start)
    if "--debug" in sys.argv:
        for _, _, traceback in report.failed:
            console.print(traceback, markup=False)
    wanted = {spec.identity for spec in plan.specs}
    records = store.runs.records() if plan.todo else records
    records = [each for each in records if each.identity in wanted]
    _show(records, store.connection.embedded, html)
    if records and html is not None:
        for each in figures:
            _draw(records, each, html.parent, console)
    if report.failed:
        raise typer.Exit(1)
    if interrupts.count:
        raise typer.Exit(130)


@contextlib.contextmanager
def _engine(ray: str | None, store: Store) -> Iterator[Executor | None]:
    """What executes runs: a cluster, where one is asked for."""
    if ray is None:
        yield None
        return
    from noisybench.execution.ray import connected

    with connected(ray, store.connection.embedded) as engine:
        yield engine


def _draw(records: list[RunRecord], figure: dict[str, Any], folder: Path, console: Console) -> None:
    """Draw one figure of a suite from its finished runs."""
    from noisybench.leaderboard.figures import file_name, plot_suite

    path = folder / file_name(figure["title"])
    try:
        drawn = plot_suite(records, figure["title"], figure["x"], figure["y"], path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
    if drawn:
        console.print(f"Figure: {path.resolve()}")


def _show(records: list[RunRecord], embedded: bool, html: Path | None) -> None:
    """Rank the runs of a command, write the page, and say what to try next."""
    from noisybench.cli import console as view
    from noisybench.leaderboard.board import build_board
    from noisybench.leaderboard.measurements import measure
    from noisybench.leaderboard.page import to_html
    from noisybench.leaderboard.table import build_settings

    console = view.make_console()
    measurements = [measure(record) for record in records]
    settings = build_settings(measurements)
    if settings and html is not None:
        write(html, to_html(build_board(measurements)))
    view.print_settings(console, settings)
    if not settings or html is None:
        return
    example = settings[0].rows[0]
    console.print(f"The same with curves: {html.resolve()}")
    console.print("Next:")
    console.print(
        "  noisybench leaderboard --rule noisy_val            rank by the epoch that noisy validation chooses"
    )
    console.print(
        f"  noisybench describe {example.stack.split('(')[0].split('+')[0]:<30} what the best stack does, and its parameters"
    )
    console.print("  noisybench run digits mitigations=mixup+gce        a stack of your own")
    console.print("  noisybench inspect digits noise=pair_flip          what a noise model does to the labels")
    if embedded:
        console.print(
            "  noisybench leaderboard serve                       the page beside MLflow, every run with its curves"
        )


app.command(epilog="Example: noisybench audit my-images/ dataset.size=32 --output audit")(audit)


@app.command("list", epilog="Example: noisybench list mitigations")
def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(help="noise_models, mitigations, datasets, tasks, networks, recipes or suites"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """List what can be used, with a line about each."""
    from noisybench.config.registry import KINDS

    kinds = [*KINDS, *CONFIG_KINDS]
    if kind is not None and kind not in kinds:
        raise UserError(f"unknown kind `{kind}`; {nearest(kind, kinds)}")
    found = {each: _summaries(each) for each in ([kind] if kind else kinds)}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, summaries in found.items():
        typer.echo(f"{name}")
        width = max((len(each) for each in summaries), default=0)
        for each, summary in summaries.items():
            typer.echo(f"  {each:<{width}}  {summary}")
        typer.echo("")


def _summaries(kind: str) -> dict[str, str]:
    if kind in CONFIG_KINDS:
        from noisybench.config.yaml_files import builtin_configs, load_config

        return {
            name: " ".join(str(load_config(kind, name).get("description", "")).split())
            for name in sorted(builtin_configs(kind))
        }
    from noisybench.config.registry import list_entries

    return {name: entry.summary for name, entry in list_entries(kind).items()}


@app.command(epilog="Example: noisybench describe elr")
def describe(name: Annotated[str, typer.Argument(help="Any listed name")]) -> None:
    """Explain a name: what it is, its source, and its parameters with defaults and ranges."""
    from noisybench.config.registry import KINDS, list_entries
    from noisybench.config.yaml_files import builtin_configs

    found = [list_entries(kind)[name] for kind in KINDS if name in list_entries(kind)]
    configs = [(kind, builtin_configs(kind)[name]) for kind in CONFIG_KINDS if name in builtin_configs(kind)]
    if not found and not configs:
        known = {each for kind in KINDS for each in list_entries(kind)} | {
            each for kind in CONFIG_KINDS for each in builtin_configs(kind)
        }
        raise UserError(f"nothing is named `{name}`; {nearest(name, known)} (`noisybench list`)")
    for entry in found:
        typer.echo(f"{entry.name} ({entry.kind.replace('_', ' ').removesuffix('s')})\n\n{entry.documentation}\n")
        for field, (kind, spec) in entry.schema.fields.items():
            allowed = f", allowed {spec.describe_range()}" if spec.bounds else ""
            searched = (
                f", search {spec.low:g} to {spec.high:g}{' (log)' if spec.log else ''}"
                if spec.low is not None and spec.high is not None
                else ""
            )
            kind_name = (
                getattr(kind, "__name__", str(kind))
                if not str(kind).startswith(("typing", "list", "dict"))
                else str(kind).replace("typing.", "")
            )
            typer.echo(f"  {field} = {spec.default}    ({kind_name}{allowed}{searched})\n      {spec.help}")
        typer.echo(f"\n  file: {entry.source}\n")
    for kind, path in configs:
        typer.echo(f"{name} ({kind.removesuffix('s')}): {path}\n\n{path.read_text(encoding='utf-8')}")


@app.command(epilog="Example: noisybench inspect digits noise=instance_dependent noise.rate=0.3 -o noise.png")
def inspect(recipe: Recipe, overrides: Overrides = None, output: Output = None) -> None:
    """Draw what the noise does: transition matrix, rates, class counts, and examples with both labels; a page of traces."""
    from noisybench.plots.label_sets import plot_label_set
    from noisybench.plots.traces import render_trace_page
    from noisybench.utils.files import write_atomically

    spec = one_spec(recipe, overrides)
    dataset = spec.dataset.build().load()
    labels = spec.noise.build().apply(dataset)
    stem = f"{spec.dataset.name}-{spec.noise.name}"
    if dataset.trace_format is None:
        path = output or Path(f"{stem}.png")
        plot_label_set(dataset, labels, path)
    else:
        path = output or Path(f"{stem}.html")
        write_atomically(path, render_trace_page(dataset, labels, stem).encode())
    typer.echo(describe_labels(labels.manifest))
    typer.echo(f"picture: {path}")


@app.command(epilog="Example: noisybench validate my-suite.yaml seeds=[0,1]")
def validate(
    name: Annotated[str, typer.Argument(help="A recipe or suite, shipped or a YAML file")],
    overrides: Overrides = None,
) -> None:
    """Check a recipe or suite completely, data and stacks included, without training."""
    from noisybench.config.resolve import read_recipe
    from noisybench.config.suite import SUITE_FIELDS, read_suite
    from noisybench.config.yaml_files import builtin_configs, load_config
    from noisybench.execution.preflight import preflight
    from noisybench.utils.processes import process_context

    is_path = name.endswith((".yaml", ".yml")) or "/" in name
    if is_path:
        raw = load_config("suites", name)
        is_suite = bool({"base", *SUITE_FIELDS[2:]} & {*raw} - {"noise"})
    else:
        is_suite = name in builtin_configs("suites")
    specs = read_suite(name, overrides or []) if is_suite else read_recipe(name, overrides or [])
    preflight(process_context(1), specs)
    typer.echo(f"{name} is valid: {len(specs)} run{'s' if len(specs) != 1 else ''}")


@app.command(epilog="Example: noisybench doctor")
def doctor() -> None:
    """Check this machine: versions, devices, operators, disk space and the store."""
    from noisybench.cli.doctor import examine

    healthy = True
    for name, value, good in examine():
        healthy = healthy and good
        typer.echo(f"{'ok ' if good else 'BAD'}  {name:<18} {value}")
    if not healthy:
        raise typer.Exit(1)


@app.command("version", hidden=True)
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point: a user's mistake is told without a traceback and ends with status 2."""
    # At its end Python looks for garbage among all that libraries have made: a second after torch, and for nothing.
    atexit.register(gc.freeze)
    debug = "--debug" in sys.argv
    arguments = [each for each in sys.argv[1:] if each != "--debug"]
    try:
        app(args=arguments, prog_name="noisybench")
    except UserError as error:
        if debug:
            raise
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if debug:
            raise
        typer.echo(
            f"internal error: {type(error).__name__}: {error}\nrun the same command with --debug and report it",
            err=True,
        )
        raise SystemExit(1) from None
