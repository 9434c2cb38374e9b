"""Shipped measurements: a fixed sample of their rows is trained again with the settings of the table."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import pytest

from noisybench.config.overrides import parse_stack
from noisybench.config.registry import get_entry
from noisybench.config.scalars import plain_value
from noisybench.config.spec import RunSpec
from noisybench.config.suite import read_suite
from noisybench.config.yaml_files import builtin_configs
from noisybench.leaderboard.display_names import untuned_name
from noisybench.leaderboard.measurement_tables import builtin_measurements, from_csv, to_csv
from noisybench.leaderboard.measurements import Measurement, measure
from noisybench.leaderboard.verification import TOLERANCE, retrain
from noisybench.search.config import read_searches
from noisybench.search.definition import Search

SEARCH = "cifar10n-features-tuned"
WEB = "web(out_of_distribution=0.4, in_distribution=0"
SAMPLE = (
    ("quickstart", "symmetric_exclusive(rate=0.4)", "cross_entropy", 1),
    ("data-diet-digits", "symmetric_exclusive(rate=0.1)", "oracle_pruning", 0),
    ("noisy-pretraining-digits", "clean", "linear_probe", 0),
)
"""Entry, noise, stack and seed of runs that train within seconds."""
LONGER_SAMPLE = (
    ("quickstart", "pair_flip(rate=0.4)", "elr", 0),
    ("quickstart", "instance_dependent(rate=0.4)", "gce", 2),
    ("spectral-digits", "symmetric_exclusive(rate=0.4)", "cross_entropy", 0),
    ("web-digits", f"{WEB}, source=pixel_permuted)", "simclr(epochs=60, batch_size=64, learning_rate=0.05)+mixup", 0),
)
"""Runs that are trained with NOISYBENCH_SLOW=1."""


def find_row(entry: str, noise: str, stack: str, seed: int) -> Measurement:
    return next(
        each
        for each in builtin_measurements()
        if (each.entry, each.setting.noise, each.stack, each.seed) == (entry, noise, stack, seed)
    )


@functools.cache
def suite(name: str) -> dict[tuple[str, str, str, int], list[RunSpec]]:
    """Return the runs of a suite by noise, task, stack and seed."""
    runs: dict[tuple[str, str, str, int], list[RunSpec]] = {}
    for spec in read_suite(name):
        key = (spec.noise.display_name(hide=("path",)), spec.task_label, spec.stack, spec.seed)
        runs.setdefault(key, []).append(spec)
    return runs


def names_of_data(label: str) -> list[str]:
    """Return the names that a row may have: a run has the name of the reader, a row that of the benchmark that the files hold."""
    reader = label.partition("(")[0]
    benchmarks = {"parquet": ("cifar10",), "features": ("cifar10-features", "newsgroups20-features")}
    return [label, *(label.replace(reader, name, 1) for name in benchmarks.get(reader, ()))]


@functools.cache
def searches(name: str) -> list[Search]:
    return read_searches(name)


def find_run(row: Measurement) -> RunSpec:
    """Return the run of the row's suite or search with all settings of the row."""
    if row.entry in builtin_configs("searches"):
        return find_selected(row)
    [spec] = [
        each
        for each in suite(row.entry).get((row.setting.noise, row.setting.task, row.stack, row.seed), [])
        if row.setting.dataset in names_of_data(each.dataset_label)
    ]
    return spec


def declared_default(name: str) -> Any:
    """Return the default of a parameter, which the name of a stack leaves out."""
    mitigation, _, parameter = name.partition(".")
    return get_entry("mitigations", mitigation).schema.fields[parameter][1].default


def find_selected(row: Measurement) -> RunSpec:
    """Return the run of the configuration that a search selected, whose values the name of its stack has."""
    members = [each for each in parse_stack(untuned_name(row.stack)) if not isinstance(each, str)]
    values = {f"{each['name']}.{key}": plain_value(value) for each in members for key, value in each.items()}
    specs = [
        search.final_spec({name: values.get(name, declared_default(name)) for name in search.space}, row.seed)
        for search in searches(row.entry)
        if search.spec({}, row.seed).noise.display_name(hide=("path",)) == row.setting.noise
    ]
    [spec] = [each for each in specs if each.stack == row.stack]
    return spec


@pytest.mark.parametrize("sample", [*SAMPLE, *(LONGER_SAMPLE if os.environ.get("NOISYBENCH_SLOW") else ())])
def test_a_shipped_row_is_trained_again(sample: tuple[str, str, str, int], tmp_path: Path) -> None:
    row = find_row(*sample)
    # Through the table, which rounds numbers.
    [trained] = from_csv(to_csv([measure(retrain(find_run(row), tmp_path))]))
    differing = {
        name: (value, vars(trained.setting)[name])
        for name, value in vars(row.setting).items()
        # The hash of a budget covers fields that were added later; the text of a convention has been edited.
        if name not in ("budget", "convention") and value != vars(trained.setting)[name]
    }
    assert differing == {}
    # The other rules select an epoch, which the last bits of other machines can move far away.
    for rule in ("last", "last10"):
        shipped, found = row.score(rule), trained.score(rule)
        assert shipped is not None
        assert found is not None
        assert 100 * abs(found - shipped) <= TOLERANCE, f"{rule}: {shipped} shipped, {found} here"


def test_every_shipped_row_is_a_run_of_a_shipped_suite() -> None:
    """So that anyone can train it again."""
    for row in builtin_measurements():
        run = find_run(row)
        assert (run.stack, run.seed) == (row.stack, row.seed)


def test_the_run_of_a_selected_configuration_is_found_by_the_name_of_its_stack() -> None:
    """Values equal to the declared default are not in the name, and the defaults have no name of their own."""
    row = next(each for each in builtin_measurements() if each.stack == "co_teaching(ramp_epochs=3)")
    search = next(each for each in searches(SEARCH) if each.stack == row.stack)
    noise = search.spec({}, 0).noise.display_name(hide=("path",))
    for changed in ({}, {"co_teaching.forget_rate": 0.3}, {"co_teaching.ramp_epochs": 10}):
        spec = search.final_spec({**search.defaults, **changed}, row.seed)
        setting = dataclasses.replace(row.setting, noise=noise)
        assert find_run(dataclasses.replace(row, entry=SEARCH, setting=setting, stack=spec.stack)) == spec


def test_every_shipped_row_says_how_it_was_verified() -> None:
    # Runs on a GPU are only scored again.
    statuses = {("CPU" not in row.device, row.status) for row in builtin_measurements()}
    assert statuses == {(False, "re-run"), (True, "re-scored")}
    page = (Path(__file__).parents[2] / "leaderboard" / "templates" / "page.html").read_text()
    assert "the repository's CI retrains a sample of them" in " ".join(page.split())
