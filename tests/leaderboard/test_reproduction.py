"""Published numbers beside ours: what counts as a reproduction, and what does not."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.measurements import measure
from noisybench.leaderboard.protocol import KNOWN_COPIES, run_differences
from noisybench.leaderboard.published import all_published
from noisybench.leaderboard.reproduction import NETWORKS, Reproduction, reproduce, to_markdown
from noisybench.leaderboard.terminal_tables import render_reproductions
from noisybench.records.schema import RunRecord
from tests.leaderboard.test_leaderboard import cifar, record

ELR = {"name": "human", "labels": "worse_label"}


def runs(levels: list[float], network: str = "resnet34_cifar_stem", **fields: Any) -> list[RunRecord]:
    """ELR on CIFAR-10N worst, one run a seed, all of whose epochs have one accuracy."""
    found = []
    for seed, level in enumerate(levels):
        plain = cifar(ELR, **fields)
        rows = [dataclasses.replace(row, test_score=level) for row in plain.rows]
        budget = {**plain.spec["budget"], "network": network}
        found.append(dataclasses.replace(plain, seed=seed, rows=rows, spec={**plain.spec, "budget": budget}))
    return found


def measured(records: list[RunRecord]) -> list[Reproduction]:
    return [entry for entry in reproduce(map(measure, records)) if entry.status != "not run"]


def test_every_published_number_of_a_method_that_is_here_is_listed() -> None:
    entries = reproduce([])
    assert {entry.status for entry in entries} == {"not run"}
    assert len(entries) == 946
    assert "179 further" in to_markdown(entries)


def test_a_number_is_held_against_the_same_network_and_protocol() -> None:
    found = measured(runs([0.80, 0.81, 0.82]))
    assert found
    assert {entry.published.architecture for entry in found} <= {
        "resnet34_cifar_stem",
        "resnet34",
        "resnet34_cifar_stem_x2",
    }
    assert all(entry.published.noise == "human_worst" for entry in found)
    assert measured(runs([0.80, 0.81], network="resnet8_cifar_stem")) == [], "another network is another budget"
    assert measured(runs([0.80, 0.81], train=8_000)) == [], "part of the data is another cell"


def test_results_of_a_preact_resnet18_are_held_against_the_network_of_dividemix() -> None:
    noise = {"name": "symmetric_inclusive", "rate": 0.5}
    plain = cifar(noise, "dividemix")

    def with_network(name: str) -> list[Reproduction]:
        budget = {**plain.spec["budget"], "network": name}
        return measured([dataclasses.replace(plain, spec={**plain.spec, "budget": budget})])

    found = with_network("preact_resnet18_stem_bn")
    assert {entry.published.architecture for entry in found} == {"preact_resnet18_stem_bn_x2"}
    assert with_network("preact_resnet18") == []
    assert not any(result.architecture.startswith("preact_resnet18_x2") for result in all_published())


@pytest.mark.parametrize(("shift", "status"), [(0.0, "matches"), (-20.0, "below"), (12.0, "above")])
def test_status_is_the_difference_in_standard_deviations(shift: float, status: str) -> None:
    first = measured(runs([0.5, 0.6]))[0].published
    levels = [(first.value + shift + step) / 100 for step in (-0.5, 0.0, 0.5)]
    (entry,) = [each for each in measured(runs(levels)) if each.published == first]
    assert entry.status == status
    assert entry.deviation == pytest.approx(0.5)
    assert entry.difference == pytest.approx(shift / (0.25 + (first.deviation or 0.0) ** 2) ** 0.5, abs=1e-6)


def test_one_seed_is_no_verdict() -> None:
    assert {entry.status for entry in measured(runs([0.8]))} == {"run once"}
    assert measured([record("elr")]) == []


def test_measured_results_come_first_with_the_differences_of_the_protocol() -> None:
    entries = reproduce(map(measure, runs([0.8])))
    ours = [entry for entry in entries if entry.status != "not run"]
    assert entries[: len(ours)] == ours
    rerun = next(entry for entry in ours if "120 epochs, all 50k noisy labels" in entry.published.source)
    assert rerun.protocol_differences == (
        "12 epochs instead of 120",
        "45,000 training images instead of 50,000",
        "images of `parquet` files, not compared with the original ones",
    )
    assert "; images of `parquet` files, not compared with the original ones | run once |" in to_markdown(entries)


def test_copies_of_the_images_and_the_precision_are_named() -> None:
    plain = cifar(ELR)

    def differences(dataset: dict[str, Any], sha256: str = "5" * 64, precision: str = "float32") -> tuple[str, ...]:
        entry = {**plain.manifest["dataset"], "sha256": sha256}
        spec = {**plain.spec, "dataset": dataset, "budget": {**plain.spec["budget"], "precision": precision}}
        return run_differences(dataclasses.replace(plain, manifest={**plain.manifest, "dataset": entry}, spec=spec))

    assert differences({"name": "cifar10"}) == (), "its files are compared with the published checksums"
    assert differences({"name": "cifar10", "checksum": False}) != ()
    assert differences({"name": "parquet"}, next(iter(KNOWN_COPIES))) == ("JPEG copies of the images",)
    assert differences({"name": "cifar10"}, precision="bfloat16") == ("bfloat16",)
    assert run_differences(record("elr")) == (), "other data has no published protocol"


def test_the_terminal_shows_results_that_were_reproduced() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    assert not list(render_reproductions(reproduce([]), console.width))
    assert console.export_text() == ""
    for each in render_reproductions(reproduce(map(measure, runs([0.80, 0.81]))), console.width):
        console.print(each)
    text = console.export_text()
    assert "Reproduction of published results" in text
    assert "80.5 ± 0.7 (2)" in text
    assert "not run: `noisybench leaderboard reproduction` lists all" in text


def test_networks_of_the_reproduction_exist() -> None:
    architectures = {each.architecture.removesuffix("_x2") for each in all_published()}
    assert set(NETWORKS) <= architectures


def test_the_reproduction_in_the_documentation_is_generated() -> None:
    page = Path(__file__).parents[2] / "docs" / "reproduction.md"
    assert page.read_text(encoding="utf-8") == to_markdown(reproduce(builtin_measurements())), (
        "noisybench leaderboard reproduction -o docs/reproduction.md"
    )
