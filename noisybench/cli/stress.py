"""The `leaderboard stress` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from noisybench.cli.leaderboard import check_choice
from noisybench.cli.output import check_format_of_name, print_text
from noisybench.errors import UserError
from noisybench.utils.outputs import write_text
from noisybench.utils.places import check_output_file
from noisybench.utils.text import counted

FORMATS = ("terminal", "csv", "json", "markdown")


def stress(
    suite: Annotated[
        str | None, typer.Option(help="Show the runs of a suite, or the `shipped` measurements of noisybench")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="Selection rule of the scores: last, last10, noisy_val, label_wave")
    ] = "last",
    format: Annotated[str, typer.Option("--format", "-f", help=f"Output format: {', '.join(FORMATS)}")] = "terminal",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write")] = None,
) -> None:
    """Show the stress card of each stack: its score over the noise rate, area, breakdown point and cost on clean data."""
    from rich.table import Table
    from rich.text import Text

    from noisybench.leaderboard import stress_text
    from noisybench.leaderboard.ranking_metric import with_metric
    from noisybench.leaderboard.setting_scores import RANKING_RULES
    from noisybench.leaderboard.stored import measurements_of, suite_metric
    from noisybench.leaderboard.stress import stress_point, stress_tables
    from noisybench.leaderboard.table import build_settings
    from noisybench.leaderboard.terminal_tables import render_excluded
    from noisybench.utils.console import make_console

    check_choice("rule", rule, RANKING_RULES)
    check_choice("format", format, FORMATS)
    if output is not None:
        check_output_file(output)
        if format == "terminal":
            raise UserError("--output: select the format of the file with --format csv, json or markdown")
        check_format_of_name(output, format)
    measurements, excluded, equivalences = measurements_of(suite)
    measurements, unscored = with_metric(measurements, suite_metric(suite))
    settings = build_settings(measurements, rule, equivalences=equivalences)
    points = [point for setting in settings if (point := stress_point(setting)) is not None]
    tables = stress_tables(points, rule)
    if not tables:
        raise UserError(
            "no stress cards: they need runs of two settings that differ in the noise rate alone, such as those of "
            "`noisybench bench stress-digits`"
        )
    console = make_console(stderr=format != "terminal")
    if format == "terminal":
        for each in tables:
            table = Table(
                title=f"{each.title}, by {rule}", title_justify="left", title_style="bold", box=None, pad_edge=False
            )
            for number, name in enumerate(stress_text.columns(each)):
                table.add_column(name, justify="right" if number else "left", overflow="fold")
            for row in stress_text.text_rows(each):
                table.add_row(*row)
            console.print(table)
            for reason in each.left_out:
                console.print(Text(f"Not shown: {reason}.", style="yellow"))
            console.print()
        console.print(Text(stress_text.NOTE, style="bright_black"))
    else:
        text = {
            "csv": lambda: stress_text.to_csv(tables),
            "json": lambda: json.dumps([stress_text.payload(each) for each in tables], indent=1) + "\n",
            "markdown": lambda: stress_text.to_markdown(tables),
        }[format]()
        if output is None:
            print_text(text)
        else:
            write_text(output, text)
            typer.echo(f"{counted(len(tables), 'table')} written to {output}")
    for line in render_excluded(excluded + unscored):
        console.print(line)
