"""Command-line interface: the Typer application and its entry point."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from noisybench import __version__
from noisybench.cli import catalog, output, run, search, submissions, validate
from noisybench.cli.advise import advise
from noisybench.cli.audit import audit, audit_app
from noisybench.cli.data import data_app
from noisybench.cli.embed import embed
from noisybench.cli.hints import HintingCommand
from noisybench.cli.labels import labels_app
from noisybench.cli.leaderboard import leaderboard_app
from noisybench.cli.predict import predict
from noisybench.cli.relabel_curve import relabel_curve
from noisybench.cli.runs import runs_app
from noisybench.cli.stress import stress
from noisybench.cli.subcommands import with_subcommands
from noisybench.cli.traces import traces_app
from noisybench.errors import UserError
from noisybench.utils.status import clear_status, show_status
from noisybench.utils.text import printable_lines

SUMMARY = "Benchmark methods for learning with noisy labels, with results you can trust."

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=SUMMARY,
    epilog="Start with: noisybench bench quickstart",
    context_settings={"help_option_names": ["-h", "--help"]},  # inherited by all commands
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"noisybench {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Benchmark methods for learning with noisy labels, with results you can trust."""


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend the store and the working folder; files are set aside, never deleted")
    ] = False,
) -> None:
    """Check this machine: versions, devices, operators, disk space, tracking store and interrupted runs."""
    from noisybench.cli import doctor as checkup

    has_passed = True
    for check in itertools.chain(checkup.repair() if repair else (), checkup.run_checks()):
        mark = output.colored("ok ", "green") if check.passed else output.colored("BAD", "red")
        typer.echo(f"{mark}  {check.name:<18} {check.details}")
        show_status("Checking")
        has_passed &= check.passed
    clear_status()
    if not has_passed:
        raise typer.Exit(1)


for command, example in (
    (run.run, "run digits noise=pair_flip noise.rate=0.4 mitigations=elr mitigations.elr.beta=0.7 seed=0"),
    (run.bench, "bench quickstart seeds=[0,1,2,3,4] --jobs 2"),
    (search.search, "search digits mitigations=elr trials=30 --jobs 2"),
    (audit, "audit my-images/ dataset.size=32 --output audit"),
    (advise, "advise my-images/ --backbone efficientnet_lite0 -o recipe.yaml"),
    (relabel_curve, "relabel-curve cifar10n-features --examples 5000 -o relabeling"),
    (predict, "predict 1a2b3c4d my-images/ -o predictions.csv"),
    (embed, "embed my-images/ --backbone efficientnet_lite0 -o features.npz"),
    (catalog.list_names, "list mitigations"),
    (catalog.describe, "describe elr"),
    (catalog.fidelity, "fidelity -o fidelity.md"),
    (catalog.inspect, "inspect digits noise=instance_dependent noise.rate=0.3 -o noise.png"),
    (validate.validate, "validate my-suite.yaml seeds=[0,1]"),
    (doctor, "doctor"),
):
    command_class = with_subcommands(audit_app) if command is audit else HintingCommand
    app.command(example.split()[0], cls=command_class, epilog=f"Example: noisybench {example}")(command)
app.add_typer(
    data_app,
    name="data",
    epilog="Example: noisybench data check my-images/ -o report.html",
)
app.add_typer(
    labels_app,
    name="labels",
    epilog="Example: noisybench labels create digits noise=pair_flip --output labels/pair",
)
app.add_typer(
    traces_app,
    name="traces",
    epilog="Example: noisybench traces clean traces.jsonl -o cleaned.jsonl",
)
for submission_command, example in (
    (stress, "stress --suite stress-digits --format csv -o stress.csv"),
    (submissions.package, "package my-entry --suite quickstart --description 'ELR wins at 40 %'"),
    (submissions.verify, "verify my-entry dataset.root=data/cifar10 --rerun 3"),
    (submissions.summarize, "summarize entries/* -o leaderboard/measured"),
):
    leaderboard_app.command(
        example.split()[0], cls=HintingCommand, epilog=f"Example: noisybench leaderboard {example}"
    )(submission_command)
app.add_typer(
    runs_app,
    name="runs",
    epilog="Example: noisybench runs equivalent 1a2b3c4d",
)
app.add_typer(
    leaderboard_app,
    name="leaderboard",
    epilog="Example: noisybench leaderboard --rule noisy_val --format markdown -o results.md",
)


def main() -> None:
    """Run the command line; user errors are printed without a traceback and exit with status 2."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]  # accepted at any position
    output.prepare_streams()
    try:
        try:
            _refuse_empty(arguments)
            app(args=arguments, prog_name="noisybench")
        finally:
            # Here, because an error of the interpreter's own flush at exit would be printed with a traceback.
            if sys.stdout is not None:  # closed before the start, with `>&-`
                sys.stdout.flush()
    except UserError as error:
        if debug:
            raise
        for problem in error.problems:
            typer.echo(f"{output.colored('error:', 'red')} {printable_lines(problem)}", err=True)
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        output.discard_output()
        raise SystemExit(141) from None  # 128 plus the number of SIGPIPE, as shells report it
    except Exception as error:
        if debug:
            raise
        reason = output.environment_problem(error)
        if reason is not None:
            typer.echo(f"{output.colored('error:', 'red')} {printable_lines(reason)}", err=True)
            output.discard_output()
            raise SystemExit(2) from None
        typer.echo(
            f"{output.colored('internal error:', 'red')} {printable_lines(f'{type(error).__name__}: {error}')}\n"
            "run the same command with --debug and report the output",
            err=True,
        )
        raise SystemExit(1) from None


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse arguments without text, which would stand for the working folder where a path is expected."""
    if any(re.fullmatch(r"(--[\w-]+=)?", argument) for argument in arguments):
        raise UserError(
            f"an argument is empty in `{shlex.join(['noisybench', *arguments])}`, as if a variable of the shell were not set; "
            "give it a value, or leave it out"
        )
