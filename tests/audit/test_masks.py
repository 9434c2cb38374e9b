"""Audits of masks: scores compared with cleanlab, reports, folders of a user, and comparison with clean masks."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from noisybench.audit.masks.confident import MaskScores, score_masks
from noisybench.audit.masks.inputs import load_mask_audit_input
from noisybench.audit.masks.report import IMAGE_COLUMNS
from noisybench.cli.app import main
from noisybench.config.registry import get_entry
from noisybench.data.targets import IGNORED

TINY = ["budget.network=unet:2", "execution.num_threads=1"]


def drawn(seed: int, classes: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return masks of 6 images of 8x10 pixels with 15 % incorrect labels, and predictions that are mostly correct."""
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, classes, (6, 8, 10))
    logits = rng.normal(size=(6, 8, 10, classes)) + 2.5 * np.eye(classes)[clean]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    observed = np.where(rng.random(clean.shape) < 0.15, (clean + 1) % classes, clean)
    return observed.astype(np.uint8), np.moveaxis(probabilities, -1, 1).astype(np.float32)


def scored(masks: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> MaskScores:
    def predictions() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        # In batches and out of order, as folds yield them.
        for rows in (np.array([4, 1]), np.array([0, 2, 3, 5])):
            yield rows, probabilities[rows]

    return score_masks(masks, predictions, probabilities.shape[1])


@pytest.mark.parametrize("seed", range(4))
def test_scores_and_suspects_equal_those_of_cleanlab(seed: int) -> None:
    from cleanlab.segmentation.filter import find_label_issues
    from cleanlab.segmentation.rank import get_label_quality_scores

    masks, probabilities = drawn(seed)
    ours, labels = scored(masks, probabilities), masks.astype(np.int64)
    images, pixels = get_label_quality_scores(labels, probabilities, verbose=False)
    assert np.allclose(ours.image_score, images, atol=1e-6)
    assert np.allclose(ours.quality, pixels)
    issues = find_label_issues(labels, probabilities, n_jobs=1, verbose=False)
    assert issues.any()
    assert np.array_equal(ours.suspect, issues)


def test_pixels_without_a_label_change_nothing() -> None:
    masks, probabilities = drawn(0)
    plain = scored(masks, probabilities)
    # Padding of unlabeled pixels with arbitrary predictions.
    padded = np.concatenate([masks, np.full((6, 8, 3), IGNORED, dtype=np.uint8)], axis=2)
    wide = np.concatenate([probabilities, probabilities[..., :3][:, ::-1]], axis=3)
    scores = scored(padded, wide)
    assert np.array_equal(scores.image_score, plain.image_score)
    assert np.array_equal(scores.joint, plain.joint)
    assert np.array_equal(scores.suspect[:, :, :10], plain.suspect)
    assert not scores.suspect[:, :, 10:].any()
    assert scores.joint.sum() == masks.size


def run_audit(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["noisybench", "audit", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    return int(exit_info.value.code or 0)


def test_an_audit_of_a_recipe_is_compared_with_the_clean_masks(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["dataset.size=16", "dataset.train_images=16", "dataset.validation_images=4", "dataset.test_images=4"]
    arguments = ["scenes", *sizes, *TINY, "budget.epochs=1", "--folds", "2", "--pictures", "3"]
    assert run_audit(monkeypatch, *arguments) == 0
    output = capsys.readouterr().out
    assert "each trained on 1 of 2 folds for 1 epoch ..." in " ".join(output.split())
    # One epoch of so small a network learns nothing.
    assert "no estimate of the noise rate of pixels" in output
    assert "compared with the clean masks" in output
    assert "first 10% of the images" in output
    findings = json.loads((workspace / "audit" / "findings.json").read_text())
    assert findings["noise_rate"] is None
    assert 0 < findings["pixel_average_precision"] < 1
    rows = list(csv.DictReader(io.StringIO((workspace / "audit" / "scores.csv").read_text())))
    assert tuple(rows[0]) == IMAGE_COLUMNS
    assert sorted(int(row["index"]) for row in rows) == list(range(16))
    assert [float(row["score"]) for row in rows] == sorted(float(row["score"]) for row in rows)
    classes = list(csv.DictReader(io.StringIO((workspace / "audit" / "classes.csv").read_text())))
    assert [row["class"] for row in classes] == ["background", "disc", "square", "ring", "ellipse"]
    assert sum(int(row["labeled_pixels"]) for row in classes) == 16 * 16 * 16
    # The second audit reuses the networks of the first one.
    before = (workspace / "audit" / "scores.csv").read_bytes()
    assert run_audit(monkeypatch, *arguments) == 0
    assert "trained, loss" not in capsys.readouterr().out
    assert (workspace / "audit" / "scores.csv").read_bytes() == before


def squares(folder: Path) -> Path:
    """Write a user's folder of images with masks, in one of which two squares lack a label."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(20):
        mask = np.zeros((16, 16), dtype=np.uint8)
        top, left = rng.integers(1, 8, 2)
        mask[top : top + 7, left : left + 7] = 1
        pixels = np.repeat((60 + 130 * mask + rng.integers(0, 20, mask.shape)).astype(np.uint8)[..., None], 3, axis=2)
        mask[0] = IGNORED
        if number == 7:
            mask[mask == 1] = 0
        Image.fromarray(pixels).save(folder / "images" / f"p{number:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{number:02}.png")
    return folder


def test_an_audit_of_a_folder_finds_the_mask_with_a_missing_object(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    squares(workspace / "photographs")
    tiny = [TINY[1], "dataset.size=16", "budget.network=unet:4", "budget.epochs=20", "budget.batch_size=4"]
    assert (
        run_audit(monkeypatch, "photographs", *tiny, "budget.learning_rate=0.02", "--folds", "2", "--pictures", "1")
        == 0
    )
    output = capsys.readouterr().out
    assert "photographs: 20 masks of 2 classes" in output
    # 49 of 4,800 labeled pixels are mislabeled.
    findings = json.loads((workspace / "audit" / "findings.json").read_text())
    assert findings["noise_rate"] == pytest.approx(0.0102, abs=0.01)
    rows = list(csv.DictReader(io.StringIO((workspace / "audit" / "scores.csv").read_text())))
    assert len(rows) == 20, "the test split was drawn from the same masks, so it is audited as well"
    assert {row["split"] for row in rows} == {"train", "test"}
    assert rows[0]["file"] == "p07"
    assert rows[0]["most_doubtful_class"] == "background"
    assert float(rows[0]["suspect_share"]) > 0.1
    assert {int(row["labeled_pixels"]) for row in rows} == {16 * 15}
    with Image.open(workspace / "audit" / "suspects" / "0001-p07-suspects.png") as picture:
        suspects = np.asarray(picture)
    assert suspects.shape == (16, 16)
    assert (suspects == 255).sum() == round(float(rows[0]["suspect_share"]) * 240)
    assert not (suspects[0] == 255).any(), "pixels without a label are no suspects"
    with Image.open(workspace / "audit" / "suspects" / "0001-p07.png") as picture:
        assert picture.size == (768, 256)


@pytest.mark.parametrize("name", ["coco", "labelme", "yolo", "image_mask_folder"])
def test_layouts_of_masks_are_recognized(name: str, tmp_path: Path) -> None:
    get_entry("datasets", name).load_class().example(tmp_path / name)
    data = load_mask_audit_input(str(tmp_path / name), ["dataset.size=16"])
    assert data.masks.shape == (len(data.index), 16, 16)
    assert data.clean is None
    assert data.spec.dataset.name == name


@pytest.mark.parametrize("arguments", [["--backbone", "efficientnet_lite0"], ["--pred-probs", "probabilities.npy"]])
def test_models_for_classes_are_refused_for_masks(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_audit(monkeypatch, "scenes", *arguments) == 2
    assert f"{arguments[0]}: masks are audited by segmentation networks" in " ".join(capsys.readouterr().err.split())
