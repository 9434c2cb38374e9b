"""Audits of given predictions and of backbone features: what is read, checked and refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisybench.audit import inputs
from noisybench.audit.findings import analyze
from noisybench.audit.inputs import load_audit_input
from noisybench.audit.predictions import in_sample_problem, read_predictions
from noisybench.audit.probe import signals_of_predictions
from noisybench.cli.app import main
from noisybench.errors import UserError

NAMES = ("cat", "dog", "owl")
ROWS = np.arange(4)
VALID = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3]])


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["noisybench", "audit", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def stored(folder: Path, suffix: str, values: np.ndarray) -> Path:
    path = folder / f"probabilities{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".npz":
        np.savez(path, pred_probs=values, ids=np.arange(3))
    else:
        import pandas as pd

        # Another order than that of the classes: columns are found by name.
        frame = pd.DataFrame(values, columns=list(NAMES))[["owl", "cat", "dog"]]
        frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_every_format_gives_the_same_probabilities(suffix: str, tmp_path: Path) -> None:
    np.testing.assert_allclose(read_predictions(stored(tmp_path, suffix, VALID), NAMES, ROWS, 4), VALID)


def test_rows_of_the_whole_source_are_those_of_the_audited_examples(tmp_path: Path) -> None:
    path = stored(tmp_path, ".npy", VALID)
    np.testing.assert_array_equal(read_predictions(path, NAMES, np.array([2, 0]), 4), VALID[[2, 0]])
    np.testing.assert_array_equal(read_predictions(path, NAMES, np.array([9, 7, 5, 1]), 10), VALID)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (VALID[:3], "has 3 rows, but there are 4 audited examples"),
        (VALID[:, :2], "has 2 columns, but there are 3 classes"),
        (VALID[0], "must be (N, C) numbers"),
        (np.log(VALID), "4 of 4 rows are no probabilities"),
        (VALID * np.array([[1], [1], [2], [1]]), "1 of 4 rows are no probabilities from 0 to 1 with the sum 1; row 2"),
        (np.where(VALID == 0.4, np.nan, VALID), "1 of 4 rows contain values that are not finite, the first in row 3"),
    ],
)
def test_other_values_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    np.save(path, values)
    with pytest.raises(UserError) as error:
        read_predictions(path, NAMES, ROWS, 4)
    assert message in str(error.value)
    assert str(error.value).startswith("--pred-probs: ")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.pkl").write_text("0.1 0.9")
    (tmp_path / "p.csv").write_text("cat,dogs,owl\n0.1,0.8,0.1\n")
    np.savez(tmp_path / "p.npz", a=VALID, b=VALID)
    for name, message in (
        ("p.pkl", "must be a .npy, .npz, "),
        ("p.csv", "no column for the class dog; did you mean `dogs`"),
        ("p.npz", "contains a, b; name the probabilities `pred_probs`"),
        ("gone.npy", "gone.npy"),
    ):
        with pytest.raises(UserError) as error:
            read_predictions(tmp_path / name, NAMES, ROWS, 4)
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("column", "cells"), [("index", [3, 1, 2, 0]), ("File", ["cat/d.png", "cat/b.png", "owl/c.png", "cat/a.png"])]
)
def test_rows_that_name_examples_in_another_order_are_refused(column: str, cells: list[Any], tmp_path: Path) -> None:
    import pandas as pd

    files, path = ("cat/a.png", "cat/b.png", "owl/c.png", "cat/d.png"), tmp_path / "p.csv"
    frame = pd.DataFrame({column: cells} | dict(zip(NAMES, VALID.T, strict=True)))
    frame.to_csv(path, index=False)
    with pytest.raises(UserError, match=r"line 2: the column .* sort the rows in the order of the source"):
        read_predictions(path, NAMES, ROWS, 4, files)
    frame.assign(**{column: list(range(4)) if column == "index" else list(files)}).to_csv(path, index=False)
    np.testing.assert_allclose(read_predictions(path, NAMES, ROWS, 4, files), VALID)


def test_predictions_of_a_model_that_was_trained_on_the_labels_are_recognized() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 3, 400)
    observed = np.where(rng.random(400) < 0.2, (clean + 1) % 3, clean)
    assert in_sample_problem(observed, 0.9 * np.eye(3)[observed] + 0.1 / 3) is not None
    assert in_sample_problem(observed, 0.9 * np.eye(3)[clean] + 0.1 / 3) is None


def test_hard_predictions_give_no_estimate() -> None:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 3, 600)
    observed = np.where(rng.random(600) < 0.2, (clean + 1) % 3, clean)
    predicted = np.where(rng.random(600) < 0.1, (clean + 2) % 3, clean)
    hard = analyze(observed, signals_of_predictions(np.eye(3)[predicted], observed))
    assert hard.noise_rate is None
    assert hard.reliability.problem is not None
    assert hard.reliability.problem.startswith("the predictions are hard: 100.0%")
    # A few certain rows among others are those of a confident model.
    soft = np.where(rng.random((600, 1)) < 0.3, np.eye(3)[clean], 0.8 * np.eye(3)[clean] + 0.2 / 3)
    assert signals_of_predictions(soft, observed).problem is None


def test_agreement_with_correct_labels_is_refused_only_where_others_contradict() -> None:
    rng = np.random.default_rng(0)
    clean = np.arange(600) % 3
    features = (rng.normal(size=(600, 4)) + 5 * np.eye(3, 4)[clean]).astype(np.float32)
    good = 0.97 * np.eye(3)[clean] + 0.01
    confirmed = analyze(clean, signals_of_predictions(good, clean, features))
    assert confirmed.noise_rate == pytest.approx(0, abs=0.01)
    assert confirmed.reliability.caution is None
    alone = analyze(clean, signals_of_predictions(good, clean))
    assert alone.noise_rate == pytest.approx(0, abs=0.01)
    assert "unless nearly all labels are correct" in str(alone.reliability.caution)
    # Features of no use can confirm nothing.
    weak = rng.normal(size=(600, 4)).astype(np.float32)
    assert signals_of_predictions(good, clean, weak).caution is not None
    observed = np.where(rng.random(600) < 0.2, (clean + 1) % 3, clean)
    trained = analyze(observed, signals_of_predictions(0.97 * np.eye(3)[observed] + 0.01, observed, features))
    assert trained.noise_rate is None
    assert "not fitted to them finds" in str(trained.reliability.problem)


def test_a_cell_that_is_no_number_is_named_with_its_line(tmp_path: Path) -> None:
    for cell, message in (("", "is empty"), ("high", "is 'high', which is no number")):
        (tmp_path / "p.csv").write_text(f"cat,dog,owl\n0.1,0.8,0.1\n0.1,{cell},0.1\n")
        with pytest.raises(UserError) as error:
            read_predictions(tmp_path / "p.csv", NAMES, np.arange(2), 2)
        assert f"p.csv, line 3: the probability of `dog` {message}" in str(error.value)


def blobs(folder: Path, size: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Write images whose brightness is their class, with 10 % incorrect labels; return clean and observed classes."""
    rng = np.random.default_rng(0)
    clean = np.arange(size) % 2
    observed = np.where(rng.random(size) < 0.1, 1 - clean, clean)
    images = (rng.integers(0, 60, (size, 12, 12, 3)) + 150 * clean[:, None, None, None]).astype(np.uint8)
    for row, (image, label) in enumerate(zip(images, observed, strict=True)):
        place = folder / "images" / NAMES[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{row:03}.png")
    return clean, observed


def test_given_predictions_replace_training(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, observed = blobs(workspace)
    data = load_audit_input("images", ["dataset.size=12"])
    order = np.array([int(Path(name).stem) for name in data.files])
    np.save(workspace / "p.npy", 0.9 * np.eye(2)[clean[order]] + 0.05)
    assert run(monkeypatch, "images", "dataset.size=12", "--pred-probs", "p.npy") == 0
    findings = json.loads((workspace / "audit" / "findings.json").read_text())
    incorrect = clean != observed
    assert findings["noise_rate"] == pytest.approx(incorrect.mean(), abs=0.02)
    assert incorrect[order][findings["suspects"]].mean() > 0.9
    assert "the given out-of-sample predictions" in " ".join(capsys.readouterr().out.split())
    # In-sample predictions say nothing about the labels, and the audit says so instead of reporting 0 %.
    np.save(workspace / "p.npy", 0.9 * np.eye(2)[observed[order]] + 0.05)
    assert run(monkeypatch, "images", "dataset.size=12", "--pred-probs", "p.npy") == 0
    assert "trained on these labels" in " ".join(capsys.readouterr().out.split())
    assert json.loads((workspace / "audit" / "findings.json").read_text())["noise_rate"] is None


def test_a_backbone_replaces_training(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import nn

    from noisybench.backbones import ImageBackbone

    class Colors(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)

    def load(name: str, size: int | None) -> Any:
        assert (name, size) == ("colors", 16)
        return ImageBackbone(Colors(), 16, (0.5,) * 3, (0.5,) * 3)

    monkeypatch.setattr(inputs, "load_backbone", load)
    clean, observed = blobs(workspace)
    assert run(monkeypatch, "images", "--backbone", "colors", "--size", "16", "dataset.size=12") == 0
    findings = json.loads((workspace / "audit" / "findings.json").read_text())
    assert findings["noise_rate"] == pytest.approx((clean != observed).mean(), abs=0.03)
    assert "data:image" in (workspace / "audit" / "report.html").read_text(), "images are shown as before"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--backbone", "efficientnet_lite"], "did you mean `efficientnet_lite0`"),
        (["digits", "--size", "32"], "--size: only a backbone has a size"),
        (["digits", "--pred-probs", "gone.npy"], "--pred-probs: gone.npy"),
    ],
)
def test_invalid_options_are_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err
