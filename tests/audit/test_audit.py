"""Audits: estimates compared with cleanlab and with clean labels, and the written report."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from noisybench.audit.audit import audit_labels
from noisybench.audit.confident_joint import confident_joint, noise_rate_and_transition
from noisybench.audit.data_quality import measure_data_quality
from noisybench.audit.findings import analyze, precision_at
from noisybench.audit.inputs import AuditInput, load_audit_input
from noisybench.audit.page import to_html
from noisybench.audit.scores import DECISION_COLUMNS, to_csv
from noisybench.audit.signals import AuditSignals, neighbor_disagreement
from noisybench.cli.app import main
from noisybench.config.resolve import resolve
from noisybench.errors import UserError
from noisybench.leaderboard.measurements import measure
from noisybench.leaderboard.similar import setting_distance, similar_settings
from noisybench.utils.cells import plain_cell
from tests.audit.test_page import embedded
from tests.leaderboard.test_leaderboard import example_records, record, settings_of


def predictions(seed: int, classes: int, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    observed = np.concatenate([np.arange(classes), rng.integers(0, classes, size)])
    probabilities = rng.dirichlet(np.full(classes, 0.3), len(observed)) + 0.5 * np.eye(classes)[observed]
    return observed, probabilities / probabilities.sum(1, keepdims=True)


@given(seed=st.integers(0, 500), classes=st.integers(2, 8))
@settings(deadline=None, max_examples=30)
def test_the_confident_joint_equals_that_of_cleanlab(seed: int, classes: int) -> None:
    from cleanlab.count import compute_confident_joint

    observed, predicted = predictions(seed, classes)
    reference = compute_confident_joint(observed, predicted, calibrate=True)
    # cleanlab rounds to whole examples.
    assert np.abs(confident_joint(observed, predicted) - reference).max() <= 1.0


@given(seed=st.integers(0, 500), classes=st.integers(2, 8))
@settings(deadline=None, max_examples=20)
def test_transition_matrix_and_noise_rate_equal_those_of_cleanlab(seed: int, classes: int) -> None:
    from cleanlab.count import compute_confident_joint, estimate_joint, estimate_latent

    observed, predicted = predictions(seed, classes)
    rate, transition = noise_rate_and_transition(confident_joint(observed, predicted))
    joint = estimate_joint(observed, predicted)
    assert rate == pytest.approx(1 - np.trace(joint), abs=0.02)
    reference = compute_confident_joint(observed, predicted, calibrate=True)
    _, matrix, _ = estimate_latent(reference, observed)  # column: true class
    assert np.abs(transition.T - matrix).max() < 0.05
    np.testing.assert_allclose(transition.sum(1), 1)


def test_a_class_without_observed_labels_gives_finite_estimates() -> None:
    observed, predicted = predictions(1, 4)
    observed[observed == 2] = 1
    counts = confident_joint(observed, predicted)
    assert np.isfinite(counts).all()
    assert counts[2].sum() == 0
    rate, transition = noise_rate_and_transition(counts)
    assert 0 <= rate <= 1
    np.testing.assert_allclose(transition.sum(1), 1)


def test_neighbor_disagreement_equals_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(3)
    features, others = torch.randn(30, 5, generator=generator), torch.randn(50, 5, generator=generator)
    labels, other_labels = torch.arange(30) % 3, torch.arange(50) % 3
    disagreement = neighbor_disagreement(features, labels, others, other_labels, count=7)
    for row in range(30):
        cosine = [float(features[row] @ other / features[row].norm() / other.norm()) for other in others]
        nearest = np.argsort(cosine)[::-1][:7]
        differs = [int(other_labels[position]) != int(labels[row]) for position in nearest]
        assert float(disagreement[row]) == pytest.approx(np.mean(differs))


def test_perfect_signals_find_every_mislabeled_example() -> None:
    rng = np.random.default_rng(0)
    clean = np.arange(400) % 4
    incorrect = rng.random(400) < 0.3
    observed = np.where(incorrect, (clean + 1) % 4, clean)
    margins = np.where(incorrect, -1.0, 1.0) + 0.1 * rng.random(400)
    signals = AuditSignals(0.9 * np.eye(4)[clean] + 0.025, margins, incorrect.astype(float))
    result = analyze(observed, signals)
    assert result.noise_rate == pytest.approx(incorrect.mean(), abs=1e-9)
    assert set(result.suspects) == set(np.flatnonzero(incorrect))
    assert (result.suggested == clean).all()
    for true_class in range(4):
        rate = incorrect[clean == true_class].mean()
        assert result.transition_matrix[true_class, (true_class + 1) % 4] == pytest.approx(rate)
    assert precision_at(result.error_score["combined"], incorrect, 0.05) == 1.0
    assert result.agreement["confident", "neighbors"][1] > 0.9


def folder_of_images(root: Path) -> Path:
    """Write 80 bright and dark squares, every fifth of them into the folder of the other class."""
    rng = np.random.default_rng(0)
    for number in range(80):
        bright = number % 2
        label = 1 - bright if number % 5 == 0 else bright
        folder = root / ("dark", "=bright")[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (12, 12, 3)) + (150 if bright else 0)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.png")
    return root


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["noisybench", "audit", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


SHORT = ("dataset.size=12", "budget.network=small_cnn", "budget.epochs=6", "budget.batch_size=16", "budget.learning_rate=0.05",
         "budget.augmentation=none", "--folds", "2")  # fmt: skip


def test_an_audit_of_a_folder(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of_images(workspace / "images")
    assert run(monkeypatch, "images", *SHORT) == 0
    output = capsys.readouterr().out
    assert "images: 80 examples of 2 classes" in " ".join(output.split())
    assert "estimated noise rate" in output
    assert "clean labels" not in output, "they are unknown"
    findings = json.loads((workspace / "audit" / "findings.json").read_text())
    assert findings["examples"] == 80, "the test split is audited as well"
    table = list(csv.DictReader(io.StringIO((workspace / "audit" / "scores.csv").read_text())))
    assert len(table) == 80, "every example has a score"
    assert list(table[0])[:8] == ["rank", *DECISION_COLUMNS]
    assert [row["split"] for row in table].count("test") == 20, "the fraction held out by default"
    stored = parquet.read_table(workspace / "audit" / "scores.parquet").to_pydict()
    assert list(stored) == list(table[0])
    assert stored["index"] == [int(row["index"]) for row in table]
    assert set(stored["label"]) == {"=bright", "dark"}, "names as they are"
    rows = [row for row in table if row["is_suspect"] == "true"]
    assert len(rows) == len(findings["suspects"])
    assert abs(findings["noise_rate"] - 0.2) < 0.1
    incorrect = [int(Path(row["file"].lstrip("'")).stem) % 5 == 0 for row in rows]
    assert np.mean(incorrect) > 0.7
    assert (root / rows[0]["file"].lstrip("'")).is_file()
    assert {row["label"] for row in rows} <= {"'=bright", "dark"}, "no cell is a formula"
    assert all(row["new_label"] == "" for row in rows)
    page = (workspace / "audit" / "report.html").read_text()
    assert [shown[0] for shown in embedded(page)["rows"]] == findings["suspects"]
    assert len(embedded(page)["pictures"]) == len(rows)


def test_an_interrupted_audit_resumes_with_the_next_fold(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of_images(workspace / "images")
    audit_input = load_audit_input("images", [argument for argument in SHORT if "=" in argument])
    trained: list[int] = []

    def stop(fold: int, epoch: int, loss: float) -> None:
        trained.append(fold)
        if fold == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_labels(audit_input, 2, 0, stop)
    trained.clear()
    first = audit_labels(audit_input, 2, 0, lambda fold, epoch, loss: trained.append(fold))
    assert set(trained) == {1}, "the first fold is cached"
    again = audit_labels(audit_input, 2, 0, lambda fold, epoch, loss: pytest.fail("trained again"))
    assert (first.result.ranking == again.result.ranking).all()


def test_an_audit_of_known_noise_is_compared_with_the_clean_labels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch, "digits", "noise=pair_flip", "noise.rate=0.2", "budget.epochs=8", "--folds", "2")
    output = " ".join(capsys.readouterr().out.split())
    assert code == 0
    assert "compared with the clean labels: " in output
    assert "combined:" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: not a folder of images"),
        (["digit"], "did you mean `digits`"),
        (["digits", "seed=0,1"], "one value per override"),
        (["digits", "dataset.train_size=3", "--folds", "9"], "cannot be divided"),
        (["digits", "budget.network=nothing"], "unknown network"),
    ],
)
def test_invalid_input_is_rejected(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_names_are_escaped_on_the_page() -> None:
    hostile = '<img src=x onerror="alert(1)">'
    observed, predicted = predictions(0, 3, 50)
    images: Any = np.zeros((len(observed), 1, 4, 4), dtype=np.uint8)
    audit_input = AuditInput(
        hostile,
        resolve({}),
        images,
        observed,
        np.arange(len(observed)),
        (hostile,) * len(observed),
        None,
        (hostile, "b", "c"),
    )
    result = analyze(observed, AuditSignals(predicted, np.zeros(len(observed)), None))
    page = to_html(audit_input, result, [hostile], [(hostile, [hostile])])
    assert hostile not in page
    assert "&lt;img src=x" in page
    table = to_csv(audit_input, result, measure_data_quality(audit_input))
    assert "neighbors" not in table.splitlines()[0].split(","), "a detector without scores has no column"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_cells_are_never_formulas(text: str) -> None:
    assert plain_cell(text) == f"'{text}"
    assert plain_cell("plain") == "plain"


def test_similar_settings_are_those_of_a_similar_rate() -> None:
    near = [record(stack, seed, 0.8) for stack in ("gce", "cross_entropy") for seed in range(2)]
    assert next(heading for heading, _ in similar_settings(map(measure, near), 0.39, 90, 10)).startswith(
        "digits · pair_flip"
    )
    (setting,) = (table.description for table in settings_of(example_records()))
    assert setting_distance(setting, 0.39, 90, 10) == pytest.approx(0)
    assert setting_distance(setting, 0.2, 90, 10) > setting_distance(setting, 0.35, 900, 10)
    (_, lines), *_ = similar_settings(
        map(
            measure,
            [*example_records(), *(record("informed", seed, 0.95, privileged=["noise_rate"]) for seed in range(3))],
        ),
        0.4,
        90,
        10,
    )
    assert not any("informed" in line for line in lines), "the noise rate of audited labels is unknown"
    elsewhere = [record(stack, seed, 0.95, task="transfer") for stack in ("nmtune", "lora") for seed in range(2)]
    assert similar_settings(map(measure, elsewhere), 0.39, 90, 10) == [], (
        "methods for a backbone that came with the task"
    )
    assert lines[-1].startswith("cross_entropy: ")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"gone\.parquet"):
        load_audit_input("gone.parquet", [])
