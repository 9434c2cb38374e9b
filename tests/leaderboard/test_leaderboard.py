"""Tables and pages from records: what is grouped, shown and never mixed."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.api.leaderboard import leaderboard as rank_runs
from noisybench.config.registry import list_entries
from noisybench.config.spec import run_identity
from noisybench.errors import UserError
from noisybench.leaderboard import measurement_tables
from noisybench.leaderboard.board import Board, build_board
from noisybench.leaderboard.columns import describe_published
from noisybench.leaderboard.measurement_tables import builtin_measurements, from_csv
from noisybench.leaderboard.measurement_tables import to_csv as measurements_to_csv
from noisybench.leaderboard.measurements import measure
from noisybench.leaderboard.page import to_html
from noisybench.leaderboard.published import (
    METHODS,
    PublishedResult,
    all_published,
    find_published,
    literature_method,
    literature_settings,
)
from noisybench.leaderboard.ranking_metric import with_metric
from noisybench.leaderboard.setting_description import dataset_name
from noisybench.leaderboard.table import Setting, build_settings
from noisybench.leaderboard.text_tables import text_rows, to_csv, to_latex, to_markdown
from noisybench.records.schema import Cost, Detection, EpochRow, RunRecord


def record(stack: str = "gce", seed: int = 0, level: float = 0.8, **fields: Any) -> RunRecord:
    rng = np.random.default_rng([seed, len(stack)])
    rows = [
        EpochRow(
            epoch, "train", 1.0, 0.7, 0.6, 1.2, float(level - 0.01 * (11 - epoch) + 0.004 * rng.normal()), 0.5,
            0.1, 0.2, 0.9, 0.1, 1.0, 1000 + epoch,
        )
        for epoch in range(12)
    ]  # fmt: skip
    manifest = {
        "sha256": "a" * 64,
        "dataset": {
            "name": "digits",
            "classes": list("0123456789"),
            "sizes": {"train": 90, "validation": 10, "test": 1000},
        },
        "noise": {"name": "pair_flip", "convention": "next class", "nominal_rate": 0.4},
        "actual_noise_rate": 0.39,
    }
    spec = {
        "mitigations": [{"name": stack}],
        "noise": {"name": "pair_flip", "rate": 0.4},
        "budget": {"network": "small_cnn", "epochs": 12, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1,
                   "lr_schedule": "cosine", "augmentation": "none"},
    }  # fmt: skip
    base = RunRecord(
        f"{stack}{seed}", spec, "title", stack, seed, "digits", "pair_flip(rate=0.4)", "a" * 64, "b" * 12, manifest, [],
        rows, 0.05, 0.9, Detection(0.95, 0.9, 0.8, 0.4), Cost(3.0, 2.0, 3.0, 10**9, 5000, 1e4), "f" * 64,
        {"device": "cpu", "torch": "2", "noisybench": "0"}, f"{stack}{seed}", {"engine": "e" * 16},
    )  # fmt: skip
    made = dataclasses.replace(base, **fields)
    identity = fields.get("identity", run_identity(made.settings, made.code))
    return dataclasses.replace(made, identity=identity)


def example_records() -> list[RunRecord]:
    levels = {"gce": 0.9, "elr": 0.9, "cross_entropy": 0.7}
    return [record(stack, seed, level) for stack, level in levels.items() for seed in range(3)]


def settings_of(records: Iterable[RunRecord]) -> list[Setting]:
    """Tables of records."""
    return build_settings(map(measure, records))


def board_of(records: Iterable[RunRecord]) -> Board:
    """Board of records."""
    return build_board(map(measure, records))


def published(record: RunRecord) -> list[PublishedResult]:
    """Published results in the setting of a record."""
    return find_published(literature_settings(record), literature_method(record))


def test_other_label_sets_and_budgets_have_tables_of_their_own() -> None:
    runs = [*example_records(), record(label_set="c" * 64), record(budget="d" * 12)]
    assert sorted(len(setting.rows) for setting in settings_of(runs)) == [1, 1, 3]


def test_rows_are_sorted_and_ranked() -> None:
    (setting,) = settings_of(example_records())
    assert setting.rows[-1].stack == "cross_entropy"
    assert [setting.ranking.ranks[row.stack] for row in setting.rows] == [1, 1, 3]
    last = setting.rows[-1].scores["last"]
    values = [measurement.last for measurement in setting.rows[-1].measurements]
    assert last is not None
    assert last.mean == pytest.approx(np.mean(values))
    assert last.deviation == pytest.approx(np.std(values, ddof=1))
    assert setting.rows[-1].oracle_gap is not None
    assert setting.rows[-1].oracle_gap.mean >= 0


def test_stacks_are_ranked_by_balanced_accuracy_on_request() -> None:
    def balanced(run: RunRecord, level: float) -> RunRecord:
        rows = [dataclasses.replace(row, test_balanced_accuracy=level + 0.001 * run.seed) for row in run.rows]
        return dataclasses.replace(run, rows=rows, test_recall=[None, *[level] * 9])

    levels = {"gce": 0.5, "elr": 0.8, "cross_entropy": 0.6}
    measurements = [measure(balanced(run, levels[run.stack])) for run in example_records()]
    (by_accuracy,) = build_settings(with_metric(measurements, "default")[0])
    scored, excluded = with_metric([*measurements, measure(record("mixup"))], "balanced_accuracy")
    (setting,) = build_settings(scored, "last10")
    assert [row.stack for row in setting.rows] == ["elr", "cross_entropy", "gce"]
    assert by_accuracy.rows[-1].stack == "cross_entropy"
    assert setting.description.metric == "balanced_accuracy"
    assert [each["why"] for each in excluded] == ["balanced_accuracy was not measured"]
    assert "classes without a test example, left out of the balanced accuracy: 0" in setting.warnings


def test_what_differs_between_runs_is_warned_about() -> None:
    runs = example_records()
    runs[0] = dataclasses.replace(runs[0], environment={**runs[0].environment, "device": "gpu"})
    (setting,) = settings_of([each for each in runs if (each.stack, each.seed) != ("elr", 2)])
    assert any("runs differ in device: cpu, gpu" in each for each in setting.warnings)
    assert any("missing seeds: elr lacks 2" in each for each in setting.warnings)
    assert setting.ranking.model is not None
    seeds = dict(zip(setting.ranking.p_values, setting.ranking.model.seeds.tolist(), strict=True))
    assert set(seeds.values()) == {2, 3}, "pairs are compared on the seeds that they share"
    assert all((count == 2) == ("elr" in pair) for pair, count in seeds.items())


def test_a_newcomer_on_other_seeds_is_named_and_not_the_established_stacks() -> None:
    newcomer = [record("mixup", seed) for seed in (10, 11)]
    (setting,) = settings_of([*example_records(), *newcomer])
    assert [each for each in setting.warnings if "seeds" in each] == [
        "not ranked, fewer than two seeds in common: mixup",
        "missing seeds: mixup lacks 0, 1, 2",
        "seeds that most stacks lack: mixup 10, 11",
    ]


def test_seeds_without_a_score_are_named() -> None:
    measurements = [measure(each) for each in example_records()]
    first = measurements[0]
    measurements[0] = dataclasses.replace(first, last10=None)
    (setting,) = build_settings(measurements, "last10")
    assert f"seeds without a score by last10, left out: {first.stack} {first.seed}" in setting.warnings


def test_settings_that_differ_in_their_budgets_alone_have_titles_of_their_own() -> None:
    first = record()
    longer, other = (
        dataclasses.replace(
            first, spec={**first.spec, "budget": {**first.spec["budget"], "epochs": epochs}}, budget=key
        )
        for epochs, key in ((24, "c" * 12), (24, "d" * 12))
    )
    titles = re.findall("^### (.*)", to_markdown(settings_of([first, longer])), re.MULTILINE)
    assert titles == ["digits · pair_flip(rate=0.4) · epochs=12", "digits · pair_flip(rate=0.4) · epochs=24"]
    titles = re.findall(r"caption{(.*?)\.[ ]", to_latex(settings_of([first, longer, other])))
    assert [title.rpartition(" ")[2] for title in titles] == ["epochs=12", "cccccccc", "dddddddd"]
    (only,) = re.findall("^### (.*)", to_markdown(settings_of([first])), re.MULTILINE)
    assert only == "digits · pair_flip(rate=0.4)"


def test_names_in_captions_are_code_and_no_quotation_marks() -> None:
    latex = to_latex(settings_of(example_records()))
    assert r"stacks by \texttt{last}:" in latex
    assert "`" not in latex


def test_every_format_has_every_stack() -> None:
    settings = settings_of(example_records())
    rows = list(csv.DictReader(io.StringIO(to_csv(settings))))
    assert [row["stack"] for row in rows] == [row.stack for row in settings[0].rows]
    first = settings[0].rows[0].scores["last"]
    assert first is not None
    assert first.low is not None
    assert first.high is not None
    assert float(rows[0]["last_mean"]) == first.mean
    assert float(rows[0]["last_low"]) == first.low
    markdown = to_markdown(settings)
    assert markdown.count("\n| 1 |") == 2
    assert " ± " in markdown
    assert f"[{100 * first.low:.1f}, {100 * first.high:.1f}]" in to_markdown(settings, intervals=True)
    latex = to_latex(settings)
    assert r"cross\_entropy" in latex
    assert latex.count(r"\\") == 1 + len(rows)
    for text in (markdown, latex):
        assert "corrected over" in text


def test_the_page_holds_its_data_and_needs_nothing_else() -> None:
    evil = record("</script><script>alert(1)</script>")
    page = to_html(board_of([*example_records(), evil]))
    found = re.search(r'<script type="application/json" id="board">(.*?)</script>', page, re.S)
    assert found is not None
    (setting,) = json.loads(found.group(1))["settings"]
    found = re.search(rf'<script type="application/json" id="setting-{setting["key"]}">(.*?)</script>', page, re.S)
    assert found is not None
    data = json.loads(found.group(1))
    assert {row["stack"] for row in data["rows"]} == {"gce", "elr", "cross_entropy", evil.stack}
    assert len(data["rows"][0]["curves"]["test_score"]) == 12
    assert not re.search(r'(?:src|href)\s*=\s*"(?!#|data:)', page)
    # Papers and code are links in the data; nothing else has an address.
    shell = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.S)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", shell)


def test_a_label_set_that_is_no_hash_stays_text() -> None:
    page = to_html(board_of([record(label_set='"><b id=x>')]))
    assert "<b id=x>" not in page
    assert re.search(r'id="setting-[0-9a-f]{20}"', page)


def test_cells_whose_hashes_begin_alike_are_two() -> None:
    made = board_of([record(label_set="0" * 63 + end) for end in "12"])
    assert len(made.details) == len(made.settings) == 2


def test_a_short_run_shows_dashes() -> None:
    short = dataclasses.replace(record(), rows=record().rows[:3])
    (setting,) = settings_of([short])
    row = text_rows(setting)[0]
    assert row[0] == "–"
    assert row[3] == "–"


CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar(noise: dict[str, Any], stack: str = "elr", train: int = 45_000) -> RunRecord:
    plain = record(stack)
    sizes = {"train": train, "validation": 5_000, "test": 10_000}
    entry = {"name": "parquet", "sha256": "5" * 64, "classes": CIFAR10, "sizes": sizes}
    budget = {**plain.spec["budget"], "precision": "float32"}
    spec = {**plain.spec, "dataset": {"name": "parquet"}, "noise": noise, "budget": budget}
    return dataclasses.replace(plain, manifest={**plain.manifest, "dataset": entry}, spec=spec)


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        ({"root": "data/flowers/images"}, "flowers"),
        ({"root": "data", "train": "data/Ships.v2/train.parquet"}, "Ships.v2"),
        ({"path": "my flowers/fields.npz"}, "fields"),
        ({"train": ["a.parquet", "b.parquet"]}, "parquet"),
        ({}, "parquet"),
    ],
)
def test_the_files_of_a_user_have_their_own_name(paths: dict[str, Any], name: str) -> None:
    plain = dataclasses.replace(record(), dataset="parquet(validation_fraction=0)")
    read = dataclasses.replace(plain, spec={**plain.spec, "dataset": {"name": "parquet", **paths}})
    assert dataset_name(read) == f"{name}(validation_fraction=0)"


def test_a_benchmark_in_files_and_a_dataset_of_noisybench_have_its_name() -> None:
    files = dataclasses.replace(cifar({"name": "clean"}), dataset="parquet")
    assert dataset_name(files) == "cifar10"
    assert dataset_name(record()) == "digits"
    features = dataclasses.replace(cifar({"name": "clean"}), dataset="features(validation_fraction=0)")
    assert dataset_name(features) == "cifar10-features(validation_fraction=0)", "not the images"
    classes = {
        "dataset": {**features.manifest["dataset"], "classes": ["alt.atheism", "sci.space", "talk.religion.misc"]}
    }
    texts = dataclasses.replace(features, dataset="features", manifest={**features.manifest, **classes})
    assert dataset_name(texts) == "newsgroups20-features"
    own = dataclasses.replace(
        record(), dataset="features", spec={**record().spec, "dataset": {"name": "features", "path": "a/mine.npz"}}
    )
    assert dataset_name(own) == "mine"


def test_published_values_stand_beside_the_same_cell_only() -> None:
    worst = published(cifar({"name": "human", "labels": "worse_label"}))
    assert any(each.value == 83.58 for each in worst)
    assert all(each.source for each in worst)
    assert "best" in describe_published(worst)
    assert published(cifar({"name": "human", "labels": "worse_label"}, train=8_000)) == []
    assert published(record("elr")) == []
    exclusive = published(cifar({"name": "symmetric_exclusive", "rate": 0.5}, "co_teaching"))
    inclusive = published(cifar({"name": "symmetric_inclusive", "rate": 0.5}, "co_teaching"))
    assert {each.value for each in exclusive} & {each.value for each in inclusive} == set()


def test_published_names_exist_on_both_sides() -> None:
    ours = set(list_entries("mitigations"))
    theirs = {result.method for result in all_published()}
    assert len(all_published()) == 1125
    for stack, methods in METHODS.items():
        assert {name.split("(")[0] for name in stack.split("+")} <= ours
        assert set(methods) <= theirs


def crawled(name: str, classes: int, mitigations: list[dict[str, Any]], **dataset: Any) -> RunRecord:
    plain = record("elr")
    manifest = {**plain.manifest, "dataset": {**plain.manifest["dataset"], "classes": list(map(str, range(classes)))}}
    spec = {
        **plain.spec,
        "dataset": {"name": name, **dataset},
        "noise": {"name": "real_world", "seed": 0},
        "mitigations": mitigations,
    }
    return dataclasses.replace(plain, manifest=manifest, spec=spec)


def test_published_values_of_crawled_sets_and_of_stacks_with_a_name() -> None:
    lsa = {"name": "lsa", "cotrain": "none"}
    simclr = {"name": "simclr"}
    red = crawled("cnwl", 100, [simclr, lsa], size=32, noise_level=0.4)
    assert [each.value for each in published(red)] == [61.14]
    both = crawled("cnwl", 100, [simclr, {**lsa, "cotrain": "consensus"}], size=32, noise_level=0.4)
    assert [each.value for each in published(both)] == [63.42]
    assert published(crawled("cnwl", 100, [lsa], size=32, noise_level=0.4)) == []
    assert published(crawled("cnwl", 100, [simclr, lsa], size=84, noise_level=0.4)) == []
    pls = [{"name": "pls", "cotrain": "none"}]
    assert [each.value for each in published(crawled("webly_fg", 200, pls))] == [79.0]
    top = published(crawled("mini_webvision", 50, pls, evaluate="imagenet"))
    assert 76.15 in {each.value for each in top}
    assert published(crawled("webly_fg", 200, pls, train_size=50)) == []


def test_a_table_of_measurements_is_read_as_it_was_written() -> None:
    runs = [
        *example_records(),
        cifar({"name": "human", "labels": "worse_label"}),
        record("=1+1", privileged=["noise_rate"]),
    ]
    measurements = [measure(run, "re-scored", "entry") for run in runs]
    restored = from_csv(measurements_to_csv(measurements))
    assert [restored_run.setting.literature for restored_run in restored] == [
        measurement.setting.literature for measurement in measurements
    ]
    for restored_run, measurement in zip(restored, measurements, strict=True):
        assert restored_run.last == pytest.approx(measurement.last, rel=1e-6)
        assert (restored_run.stack, restored_run.privileged) == (measurement.stack, measurement.privileged)
        assert restored_run.origin == "re-scored (entry, version 0)"
    assert "\n=" not in measurements_to_csv(measurements)
    (plain, *_) = build_settings(restored)
    (complete, *_) = build_settings(measurements)
    assert plain.ranking.ranks == complete.ranking.ranks, "rounding changes no rank"


def test_a_table_with_other_columns_or_values_is_refused() -> None:
    text = measurements_to_csv([measure(record())])
    with pytest.raises(UserError, match="expected a table of measurements with the columns"):
        from_csv(text.replace("stack,", "method_name,", 1))
    with pytest.raises(UserError, match="line 2 of the table"):
        from_csv(text.replace(",12,8,sgd,", ",twelve,8,sgd,"))


def test_a_row_leaves_out_what_it_has_in_common_with_the_row_above() -> None:
    first = next(run for run in builtin_measurements() if len(run.code) > 2)
    known = (("length", 2.5), ("unparsable", 0.0))
    runs = [
        dataclasses.replace(first, diagnostics=known),
        dataclasses.replace(first, seed=1, diagnostics=known[::-1]),
        dataclasses.replace(first, seed=2, diagnostics=known[::-1], code=(("engine", "1a"), ("mitigations.gce", "2b"))),
        dataclasses.replace(first, seed=3, diagnostics=(), code=()),
        dataclasses.replace(first, seed=4, diagnostics=known),
        *(dataclasses.replace(first, seed=5 + number, torch=text) for number, text in enumerate(("^", "^^", "2.0"))),
    ]
    text = measurement_tables.to_csv(runs)
    assert from_csv(text) == runs
    assert text.count(dict(first.code)["engine"]) == 2, "the second row has the code of the first"
    assert text.count("unparsable") == 3
    assert text.count(first.device) == 1, "the rows below repeat it"
    with pytest.raises(UserError, match=r"line 2 of .* device is that of the row above, but there is none"):
        from_csv(text.replace(first.device, "^"))
    with pytest.raises(UserError, match="line 4 of the table of measurements cannot be read"):
        from_csv(text.replace("[0.0,2.5]", "[0.0]"))


def test_the_shipped_tables_are_small_and_say_their_version() -> None:
    folder = Path(measurement_tables.__file__).parent / "measured"
    shipped = builtin_measurements()
    for name, runs in collections.Counter(measurement.entry for measurement in shipped).items():
        assert (folder / f"{name}.csv").stat().st_size < 2_000 + 600 * runs
    assert {measurement.version for measurement in shipped} == {"0.2.0"}
    assert all(measurement.entry and measurement.status != "claimed" for measurement in shipped)


def test_the_shipped_measurements_are_ranked_in_an_empty_folder(
    noisybench: Callable[..., tuple[int, str]], workspace: Path
) -> None:
    assert len(rank_runs("shipped").settings) == len(build_settings(builtin_measurements()))
    status, output = noisybench("leaderboard", "--suite", "shipped", "--setting", "digits pair_flip", "--no-pager")
    assert status == 0, output
    scores = [
        each.last or 0.0
        for each in builtin_measurements()
        if (each.entry, each.setting.noise, each.stack) == ("quickstart", "pair_flip(rate=0.4)", "elr")
    ]
    assert any(line.split()[1:3] == ["elr", f"{100 * np.mean(scores):.1f}"] for line in output.splitlines()), output
    status, cards = noisybench("leaderboard", "stress", "--suite", "shipped", "--format", "markdown")
    assert status == 0, cards
    assert "instance_dependent" in cards
    assert not (workspace / "mlflow.db").exists(), "no store is made for it"
