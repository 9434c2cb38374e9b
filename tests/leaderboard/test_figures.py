"""Figures of suites: what is read off records, and what is plotted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from noisybench.config.suite import read_figures
from noisybench.errors import UserError
from noisybench.leaderboard.figures import (
    _along_field,
    _along_probes,
    _error_bar,
    _line_styles,
    field_of,
    file_name,
    plot_suite,
    quantity_of,
)
from noisybench.plots.method_styles import method_styles
from noisybench.records.schema import ProbeMetrics, ProbeRow, RunRecord
from tests.leaderboard.test_leaderboard import record

Command = Callable[..., tuple[int, str]]
X = "mitigations.el2n.offset"


def window(offset: float, seed: int = 0) -> RunRecord:
    """A run with a window, whose test accuracy is one minus the offset."""
    stack = f"el2n(strategy=window, keep_fraction=0.4{f', offset={offset:g}' if offset else ''}, epochs=4)"
    made = record(stack, seed)
    last = dataclasses.replace(made.rows[-1], test_score=1 - offset, diagnostics={"kept_noise_rate": offset})
    spec = {"mitigations": [{"name": "el2n", "offset": offset}], "task": {"name": "classification"}}
    return dataclasses.replace(made, rows=[*made.rows[:-1], last], spec=spec)


def test_quantities_of_a_run() -> None:
    run = window(0.25)
    assert quantity_of(run, "last") == 0.75
    assert quantity_of(run, "train/last") == 0.75
    assert quantity_of(run, "diagnostics/kept_noise_rate") == 0.25
    assert quantity_of(run, "memorized_fraction") == run.rows[-1].memorized_fraction
    assert quantity_of(run, "detector/el2n/noise_auroc") is None
    assert quantity_of(run, "diagnostics/absent") is None
    assert quantity_of(run, "absent") is None


def test_fields_of_a_specification() -> None:
    spec = {"mitigations": [{"name": "a"}, {"name": "b", "c": 3}], "task": {"pretraining": {"noise": {"rate": 0.1}}}}
    assert field_of(spec, "mitigations.b.c") == 3
    assert field_of(spec, "mitigations.x.c") is None
    assert field_of(spec, "task.pretraining.noise.rate") == 0.1
    assert field_of(spec, "task.absent.rate") is None


def test_lines_go_by_the_stack_without_the_field() -> None:
    runs = [window(0.0), window(0.1), window(0.1, seed=1), record("random_pruning(keep_fraction=0.4)", 0)]
    lines, levels = _along_field(runs, X, "last")
    assert lines == {"el2n(strategy=window, keep_fraction=0.4, epochs=4)": {0.0: [1.0], 0.1: [0.9, 0.9]}}
    assert list(levels) == ["random_pruning(keep_fraction=0.4)"]
    lines, levels = _along_field([window(0.1), window(0.1, seed=1)], X, "last")
    assert not lines, "one place is no line"
    assert levels == {"el2n(strategy=window, keep_fraction=0.4, epochs=4)": [0.9, 0.9]}


def test_along_a_field_of_the_noise_lines_go_by_its_kind() -> None:
    def noised(kind: str, share: float | None) -> RunRecord:
        label = kind if share is None else f"{kind}(contamination={share:g}, intensity=0.3)"
        spec = {"noise": {"name": kind, **({} if share is None else {"contamination": share})}, "mitigations": []}
        return dataclasses.replace(record("elr", 0), noise=label, spec=spec)

    runs = [noised("clean", None), *(noised(kind, share) for kind in ("static", "dynamic") for share in (0.5, 1.0))]
    lines, levels = _along_field(runs, "noise.contamination", "last")
    assert {name: sorted(points) for name, points in lines.items()} == {
        "static(intensity=0.3) · elr": [0.5, 1.0],
        "dynamic(intensity=0.3) · elr": [0.5, 1.0],
    }
    assert list(levels) == ["clean · elr"]


def test_bars_are_intervals_where_three_seeds_are_there() -> None:
    values = [0.1, 0.2, 0.4]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert _error_bar(values, bounded=False) == pytest.approx(((high - low) / 2, (high - low) / 2))
    assert _error_bar(values[:2], bounded=False) == (0.0, 0.0)
    below, above = _error_bar(values, bounded=True)
    assert 0 < np.mean(values) - below < np.mean(values) + above < 1


def test_probes_are_lines_and_controls_are_levels() -> None:
    def scored(value: float) -> ProbeMetrics:
        return ProbeMetrics(value, None, None, value, None, None)

    run = record("spectral_truncation", 0)
    row = ProbeRow(
        "m", 3, "rank", [5, 10], [scored(0.2), scored(0.4)], {"nearest_mean": scored(0.3)}, None, None, None, {}
    )
    run = dataclasses.replace(run, probes=[row])
    lines, levels = _along_probes([run], "probe.rank", "test_accuracy")
    assert lines == {"spectral_truncation": {5.0: [0.2], 10.0: [0.4]}}
    assert levels["nearest mean"] == [0.3]
    assert levels["trained classifier"] == [run.rows[-1].test_score]
    assert _along_probes([run], "probe.rank", "memorized_fraction") == ({}, {})
    assert _along_probes([run], "probe.width", "test_accuracy") == ({}, {})


def test_a_figure_is_drawn_where_there_is_something_to_draw(tmp_path: Path) -> None:
    runs = [window(each, seed) for each in (0.0, 0.2) for seed in (0, 1)]
    path = tmp_path / file_name("Windows: of EL2N!")
    assert path.name == "windows-of-el2n.png"
    assert plot_suite(runs, "Windows", X, ["last", "diagnostics/kept_noise_rate"], path)
    assert path.stat().st_size > 10_000
    assert not plot_suite([record()], "Nothing", X, ["last"], tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ("[{title: a, x: b}]", "figures.0.y: the field is missing"),
        ("[{title: a, x: b, y: last}]", r"figures.0.y: expected a list such as \[a, b\], but got 'last'"),
        ("{title: a, x: b, y: [c], z: 1}", "figures.0: unknown field `z`"),
        ("[{title: a, x: b, y: []}]", "figures.0.y: "),
        ("[{title: [a], x: b, y: [c]}]", "figures.0.title: expected text"),
        ("[a]", "figures.0: expected a mapping of title, x, y, but got 'a'"),
    ],
)
def test_figures_that_are_none_are_refused(figures: str, message: str, workspace: Path) -> None:
    (workspace / "suite.yaml").write_text(f"base: {{recipe: digits}}\nfigures: {figures}\n")
    with pytest.raises(UserError, match=message):
        read_figures("suite.yaml")


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ("[{title: a, x: noise.rat, y: [last]}]", r"figures\.0\.x: no run has a number in the field `noise\.rat`; did you mean"),
        ("[{title: a, x: noise.name, y: [last]}]", r"no run has a number in the field `noise\.name`"),
        ("[{title: a, x: mitigations.gce.q, y: [last]}]", r"no run has a number in the field `mitigations\.gce\.q`"),
        ("[{title: a, x: noise.rate, y: [lats]}]", r"figures\.0\.y: unknown metric `lats`; did you mean `last`"),
        ("[{title: a, x: noise.rate, y: [test_scor]}]", "did you mean `test_score`"),
        ("[{title: a, x: noise.rate, y: [diagnostics/]}]", "unknown metric `diagnostics/`"),
        ("[{title: a, x: probe.rank, y: [last]}]", "unknown metric `last`; known: clean_accuracy"),
        ("[{title: a b, x: seed, y: [last]}, {title: A-B, x: seed, y: [last]}]", r"another figure is written to a-b\.png"),
        ("[{title: '?', x: seed, y: [last]}]", r"figures\.0\.title: "),
    ],
)  # fmt: skip
def test_figures_are_checked_against_the_runs_before_training(
    figures: str, message: str, workspace: Path, noisybench: Command
) -> None:
    (workspace / "suite.yaml").write_text(f"base: {{recipe: digits}}\nstacks: [elr]\nfigures: {figures}\n")
    for command in (("bench", "suite.yaml", "--dry-run"), ("validate", "suite.yaml")):
        status, output = noisybench(*command)
        assert status == 2
        assert re.search(message, output), output


def test_overrides_may_leave_out_the_stacks_of_a_figure(noisybench: Command) -> None:
    status, output = noisybench("bench", "data-diet-digits", "stacks=[cross_entropy]", "seeds=0", "--dry-run")
    assert status == 0, output


def test_outputs_of_a_suite_are_checked_before_any_work(workspace: Path, noisybench: Command) -> None:
    (workspace / "suite.yaml").write_text(
        "base: {recipe: digits}\nstacks: [elr]\nfigures: [{title: a, x: noise.rate, y: [last]}]\n"
    )
    (workspace / "file").write_text("")
    (workspace / "a.png").mkdir()
    for html, message in (
        ("file/page.html", "not a folder|Not a directory"),
        (".", "it is a folder"),
        ("page.html", r"a\.png.* folder"),
    ):
        status, output = noisybench("bench", "suite.yaml", "--html", html)
        assert status == 2
        assert re.search(message, output), output
    assert not (workspace / "mlflow.db").exists(), "nothing was started"


def test_shipped_suites_draw_what_their_runs_have() -> None:
    from noisybench.config.suite import read_suite
    from noisybench.config.yaml_files import builtin_configs

    drawing = [name for name in builtin_configs("suites") if read_figures(name)]
    assert len(drawing) >= 4
    for name in drawing:
        specs: list[Any] = [spec.as_dict() for spec in read_suite(name)]
        for figure in read_figures(name):
            if not figure.x.startswith("probe."):
                assert len({field_of(spec, figure.x) for spec in specs} - {None}) > 1, name


def test_lines_have_the_color_of_their_stack_and_scores_end_at_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: drawn.append(figure))
    runs = [window(each, seed) for each in (0.0, 0.01) for seed in (0, 1, 2)]
    runs += [record("elr", seed, 0.99) for seed in range(3)]
    assert plot_suite(runs, "Windows", X, ["last"], tmp_path / "x.png")
    (axes,) = drawn[0].axes
    colors = {line.get_label(): line.get_color() for line in axes.lines if not line.get_label().startswith("_")}
    (level,) = [color for label, color in colors.items() if label.startswith("elr: ")]
    assert level == method_styles(["elr"])["elr"].color
    assert axes.get_ylim()[1] <= 1


def test_a_stack_under_two_noise_models_has_one_color_and_two_dashes() -> None:
    styles = _line_styles(["pair_flip · elr", "web · elr", "web · gce"])
    assert styles["pair_flip · elr"].color == styles["web · elr"].color != styles["web · gce"].color
    assert styles["pair_flip · elr"].dash != styles["web · elr"].dash
