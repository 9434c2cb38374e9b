"""Manifests of label sets: every entry is vouched for, or said to be bound by the digest only."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files as labels
from noisybench.data.label_sets.label_set import LabelSet, make_label_set
from noisybench.data.label_sets.manifest import noise_entry, read_manifest
from noisybench.data.label_sets.provenance import check_provenance
from noisybench.errors import UserError
from tests.data.manifests import Change, change_manifest, sign_manifest
from tests.helpers import toy_dataset, toy_labels, toy_masks, toy_traces

Command = Callable[..., tuple[int, str]]


def pair_flip(dataset: Dataset, rate: float = 0.3) -> LabelSet:
    """Labels of an installed noise model."""
    made: LabelSet = get_entry("noise_models", "pair_flip").load_class()(rate=rate).apply(dataset)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A label set of an installed noise model."""
    dataset = toy_dataset()
    return labels.save(pair_flip(dataset), dataset, tmp_path / "set")


CHANGES: dict[str, Change] = {
    "noise name": lambda manifest: manifest["noise"].update(name="clean"),
    "convention": lambda manifest: manifest["noise"].update(convention="symmetric, honest"),
    "nominal rate": lambda manifest: manifest["noise"].update(nominal_rate=0.01),
    "parameters": lambda manifest: manifest["noise"]["parameters"].update(rate=0.01),
    "seed": lambda manifest: manifest["noise"].update(seed=7),
    "details": lambda manifest: manifest["noise"]["details"].update(severity=1.0),
    "matrix": lambda manifest: manifest.update(transition_matrix=np.eye(10).tolist()),
    "no matrix": lambda manifest: manifest.update(transition_matrix=None),
    "dataset name": lambda manifest: manifest["dataset"].update(name="cifar10"),
    "classes": lambda manifest: manifest["dataset"]["classes"].reverse(),
    "test size": lambda manifest: manifest["dataset"]["sizes"].update(test=10_000),
    "skipped files": lambda manifest: manifest["dataset"].update(skipped_files=["a.png"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_edited_entry_is_refused(name: str, folder: Path) -> None:
    change_manifest(folder, CHANGES[name])
    with pytest.raises(UserError, match="was changed after the label set was written"):
        labels.load(folder)


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_entry_with_its_digest_is_refused_with_the_dataset(name: str, folder: Path) -> None:
    sign_manifest(folder, CHANGES[name])
    found = labels.load(folder)
    with pytest.raises(UserError) as error:
        check_provenance(found, toy_dataset())
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise name", "noise.parameters: unknown parameter `rate`"),
        ("convention", "noise.convention of the manifest is 'symmetric, honest', but that of `pair_flip`"),
        ("seed", "noise.seed of the manifest is 7, but"),
    ],
)
def test_entries_of_the_noise_model_are_compared_without_the_dataset(name: str, message: str, folder: Path) -> None:
    sign_manifest(folder, CHANGES[name])
    with pytest.raises(UserError, match=message):
        check_provenance(labels.load(folder))


def test_the_check_says_what_was_recomputed_and_what_is_only_bound(folder: Path) -> None:
    found = labels.load(folder)
    without = check_provenance(found)
    assert {"nominal rate", "transition matrix", "classes"} <= set(without.bound)
    assert "transition counts" in without.recomputed
    assert "convention" in without.compared
    complete = check_provenance(found, toy_dataset())
    assert not complete.bound
    assert not complete.notes
    assert {"nominal rate", "transition matrix", "classes"} <= set(complete.recomputed)


def test_an_unknown_noise_model_is_named_as_such() -> None:
    check = check_provenance(toy_labels(toy_dataset()), toy_dataset())
    assert check.notes == ("the noise model `toy` is not installed here",)
    assert {"noise model", "convention", "nominal rate"} <= set(check.bound)


@pytest.mark.parametrize("name", ["from_file", "human"])
def test_a_label_set_does_not_decide_which_files_are_read(name: str, tmp_path: Path) -> None:
    dataset = toy_dataset()
    model = get_entry("noise_models", name).load_class()
    made = model(**model.example(dataset, tmp_path)).apply(dataset)
    next(iter(model(**made.manifest["noise"]["parameters"]).data_files().values())).unlink()
    check = check_provenance(made, dataset)
    assert check.notes == (f"`{name}` was made from files of its author, which are not part of the label set",)
    assert "nominal rate" in check.bound


@pytest.mark.parametrize("data", [toy_masks, toy_traces])
def test_masks_and_traces_are_vouched_for_as_well(data: Callable[[], Dataset], tmp_path: Path) -> None:
    dataset = data()
    name = "morph_disc" if data is toy_masks else "cot_static"
    made = get_entry("noise_models", name).load_class()().apply(dataset)
    folder = labels.save(made, dataset, tmp_path / "set")
    found = labels.load(folder)
    assert not check_provenance(found, dataset).bound
    file = folder / ("masks.npz" if data is toy_masks else "traces.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{file.name}: (damaged|does not match)"):
        labels.load(folder)


def nested(depth: int) -> str:
    """Deep JSON."""
    return "[" * depth + "]" * depth


MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], str | bytes], str]] = {
    "empty": (lambda manifest: "", "not a manifest"),
    "list": (lambda manifest: "[1]", "it must be an object"),
    "deep": (lambda manifest: nested(200_000), "nested too deeply"),
    "deep entry": (lambda manifest: json.dumps(manifest)[:-1] + f', "x": {nested(900)}' + "}", "x: unknown entry"),
    "not UTF-8": (lambda manifest: b"\xff\xfe{}", "not encoded in UTF-8"),
    "NaN": (lambda manifest: json.dumps({**manifest, "actual_noise_rate": float("nan")}), "NaN is not a number"),
    "twice": (lambda manifest: json.dumps(manifest)[:-1] + ', "format": 3}', "'format' occurs twice"),
    "other format": (lambda manifest: json.dumps({**manifest, "format": 99}), "has format 99, but 3 is expected"),
    "true format": (lambda manifest: json.dumps({**manifest, "format": True}), "format 99|format"),
    "unknown": (lambda manifest: json.dumps({**manifest, "extra": 1}), "extra: unknown entry"),
    "huge number": (lambda manifest: json.dumps(manifest)[:-1] + ', "x": ' + "9" * 5000 + "}", "not a manifest"),
}
for _name in ("format", "sha256", "rows_sha256", "dataset", "noise", "transition_counts", "manifest_sha256"):
    MALFORMED[f"no {_name}"] = (
        lambda manifest, name=_name: json.dumps({key: value for key, value in manifest.items() if key != name}),
        f"{_name}: field required",
    )
for _value in (5, None, "0" * 63, ["0" * 64], "z" * 64):
    MALFORMED[f"sha256 {_value!r:.9}"] = (
        lambda manifest, value=_value: json.dumps({**manifest, "sha256": value}),
        "sha256: (input should be a valid string|string should match)",
    )
for _part, _entry, _value in (
    ("dataset", "classes", ["one"]),
    ("dataset", "classes", "ab"),
    ("dataset", "classes", [1, 2]),
    ("dataset", "sizes", None),
    ("dataset", "sizes", {"train": 120.0, "validation": 40, "test": 40}),
    ("dataset", "name", 3),
    ("noise", "name", None),
    ("noise", "seed", "0"),
    ("noise", "parameters", []),
    ("noise", "details", {"traces": [1]}),
    ("noise", "details", {"source": "x"}),
):
    MALFORMED[f"{_part}.{_entry} {_value!r:.9}"] = (
        lambda manifest, part=_part, entry=_entry, value=_value: json.dumps(
            {**manifest, part: {**manifest[part], entry: value}}
        ),
        rf"{_part}\.{_entry}",
    )


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_manifest_is_refused_in_one_line(name: str, folder: Path) -> None:
    write, message = MALFORMED[name]
    content = write(json.loads((folder / "manifest.json").read_text()))
    (folder / "manifest.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        read_manifest(folder)
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 900


def test_what_is_no_file_is_not_waited_for(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(UserError, match="not a label set"):
        labels.load(folder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("observed", 10, "the train split has labels outside of 0 to 9"),
        ("observed", -1, "the train split has labels outside of 0 to 9"),
        ("clean", 2**40, "the train split has labels outside of 0 to 9"),
        ("index", -1, "index must be distinct integers"),
        ("index", 1, "index must be distinct integers"),
        ("split", "test", "unknown split `test`"),
        ("observed", 0.5, "must be integers"),
        ("split", "\x1b[2J", r"unknown split `\\x1b"),
        ("observed", "cat", "must be integers"),
    ],
)
def test_tables_of_other_values_are_refused(column: str, value: object, message: str, tmp_path: Path) -> None:
    folder = labels.save(toy_labels(toy_dataset()), toy_dataset(), tmp_path / "set", "csv")
    lines = (folder / "labels.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    lines[1] = ",".join(map(str, {**row, column: value}.values()))
    (folder / "labels.csv").write_text("\n".join([*lines, ""]))
    with pytest.raises(UserError, match=message):
        labels.load(folder)


def test_commands_show_escapes_of_hostile_names_as_text(noisybench: Command, tmp_path: Path) -> None:
    dataset = toy_dataset(["cat\x1b[2J", "dog\u202e", "bird\nline"])
    made = pair_flip(dataset)
    made.manifest["dataset"]["name"] = "data\x1b]0;title\x07"
    labels.save(made, dataset, tmp_path / "set\x1b[31m")
    status, output = noisybench("labels", "info", str(tmp_path / "set\x1b[31m"))
    assert status == 0
    assert "cat\\x1b[2J" in output
    assert "data\\x1b]0;title\\x07" in output
    assert output.replace("\n", "").isprintable()
    (tmp_path / "set\x1b[31m" / "labels.parquet").unlink()
    status, output = noisybench("labels", "verify", str(tmp_path / "set\x1b[31m"))
    assert status == 2
    assert output.replace("\n", "").isprintable()


def test_a_thousand_classes_are_described_in_a_few_lines(noisybench: Command, tmp_path: Path) -> None:
    dataset = toy_dataset([f"class_{number}" for number in range(1000)], size=4000, held_out=1000)
    made = pair_flip(dataset)
    made.manifest["transition_matrix"] = None  # a million numbers less to write
    labels.save(made, dataset, tmp_path / "set")
    started = time.process_time()
    status, output = noisybench("labels", "info", str(tmp_path / "set"))
    assert status == 0
    assert time.process_time() - started < 10
    assert len(output) < 4000
    assert "pairs of classes occur, the most frequent (clean -> observed):" in output
    assert " -> class_" in output


def test_traces_are_described_without_a_table_of_characters(noisybench: Command, tmp_path: Path) -> None:
    dataset = toy_traces()
    labels.save(toy_labels(dataset), dataset, tmp_path / "set")
    status, output = noisybench("labels", "info", str(tmp_path / "set"))
    assert status == 0
    assert "transitions" not in output
    assert len(output) < 2000


def test_a_noise_entry_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="nominal_rate"):
        noise_entry("toy", "none", nominal_rate=float("nan"))
    with pytest.raises(ValueError, match="details"):
        make_label_set(
            toy_dataset(),
            toy_dataset().train.targets,
            toy_dataset().validation.targets,
            noise_entry("toy", "none", details={"severity": "high"}),
            None,
        )
