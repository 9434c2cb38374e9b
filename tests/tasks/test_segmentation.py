"""The segmentation task: batches of pixels, scores, evidence, and runs that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.data.label_sets.statistics import intersection_over_union
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from noisybench.training.batch import BatchPlan
from noisybench.training.training_set import TrainingSet
from tests.helpers import (
    close,
    comparable_rows,
    prepared_toy,
    toy_labels,
    toy_masks,
    toy_spec,
    train_toy,
)
from tests.toy_masks import EAGER, MASKS, task_on


def numbers(file: Path) -> Any:
    with Image.open(file) as opened:
        return np.array(opened)


@pytest.mark.parametrize("name", ["gce", "sce", "bootstrapping", "elr", "label_smoothing", "co_teaching"])
def test_losses_for_classes_serve_pixels(name: str, tmp_path: Path) -> None:
    stack = {"name": name, **({"forget_rate": 0.2} if name == "co_teaching" else {})}
    recorder = train_toy(prepared_toy(stack, **MASKS, budget={"epochs": 2}), tmp_path)
    samples = recorder.evaluator.samples()
    assert samples.label_quality.shape == samples.observed.shape == (24, 16, 16)
    assert np.isfinite([row.train_loss for row in recorder.rows]).all()
    assert recorder.rows[-1].metric == "miou"


def test_the_mean_loss_is_that_of_torch_over_labeled_pixels() -> None:
    task = task_on(toy_masks())
    (batch,) = task.batches([BatchPlan(torch.arange(5))])
    loss = task.sampler.mean_loss(task.default_loss(batch), batch)
    scores = task.scores(batch.inputs, 0)
    wanted = functional.cross_entropy(scores, task.training_set.targets[:5].long(), ignore_index=IGNORED)
    close(loss.detach(), wanted.detach(), 1e-5)


@pytest.mark.parametrize("kind", ["none", "crop", "crop_flip", "affine", "scale_crop"])
def test_a_pixel_is_found_again_wherever_it_has_moved(kind: str) -> None:
    dataset = toy_masks()
    # Each image shows its own labels, so that what is seen and what is known of it can be compared.
    shown = np.where(dataset.train.targets == IGNORED, 0, dataset.train.targets)
    dataset.train.inputs[:] = (50 * shown)[:, None]
    task = task_on(dataset, augmentation=kind)
    data = TrainingSet(task.training_set.inputs, torch.from_numpy(dataset.train.targets), dataset.num_classes)
    task.training_set, moved = data, 0
    for batch in task.batches([BatchPlan(torch.tensor([3, 1, 7])), BatchPlan(torch.tensor([0]))]):
        inside = torch.ones_like(batch.index, dtype=torch.bool) if batch.in_image is None else batch.in_image
        assert batch.has_label is not None
        assert torch.equal(batch.observed[batch.has_label], data.targets.view(-1)[batch.index][batch.has_label].long())
        assert not (batch.has_label & ~inside).any()
        seen = (batch.inputs / task.scale + task.mean).permute(0, 2, 3, 1).flatten(0, 2)
        agree = ((seen.mean(1) / 50 - batch.observed).abs() < 0.2)[batch.has_label].float().mean()
        assert agree == 1 if kind in ("none", "crop", "crop_flip") else agree > 0.75, (
            "images are interpolated, masks not"
        )
        moved += int((batch.index != torch.sort(batch.index).values).sum())
    if kind != "none":
        assert moved > 256


@pytest.mark.parametrize("num_workers", [0, 2])
def test_drawn_examples_leave_the_batches_of_the_epoch_alone(num_workers: int) -> None:
    steps = [BatchPlan(torch.tensor([3, 1])), BatchPlan(torch.tensor([0, 2])), BatchPlan(torch.tensor([5, 4]))]
    wanted = list(task_on(toy_masks(), augmentation="affine").batches(steps))
    task = task_on(toy_masks(), augmentation="affine")
    task.num_workers = num_workers
    task.sampler.weights = (
        torch.arange(24) == 7
    ).float()  # draws show one image, so that its augmentations are compared
    drawn = []
    for batch, expected in zip(task.batches(steps), wanted, strict=True):
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.index, expected.index)
        drawn.append(task.draw(1))
    assert {int(index) // 256 for batch in drawn for index in batch.index[batch.in_image]} == {7}
    assert not torch.equal(drawn[0].inputs, drawn[1].inputs)
    assert not torch.equal(drawn[1].inputs, drawn[2].inputs)


def test_processes_that_augment_change_nothing(tmp_path: Path) -> None:
    found = []
    for num_workers in (0, 2):
        run = prepared_toy(
            "elr", **MASKS, budget={"epochs": 2, "augmentation": "affine"}, execution={"num_workers": num_workers}
        )
        found.append(train_toy(run, tmp_path / str(num_workers)))
    assert comparable_rows(found[0].rows) == comparable_rows(found[1].rows)
    assert found[0].record({}).weights_sha256 == found[1].record({}).weights_sha256


def test_every_score_follows_from_the_evidence(tmp_path: Path) -> None:
    run = prepared_toy(EAGER, execution={"save_corrected_masks": True})
    recorder = train_toy(run, tmp_path / "run")
    record = recorder.record({})
    recorder.write(record, tmp_path / "diagnostics")
    with np.load(tmp_path / "diagnostics" / "predictions.npz") as archive:
        counts, target, predicted = (archive[each] for each in ("counts_by_epoch", "target", "predicted"))
    scores = [float(np.nanmean(intersection_over_union(each)[1:])) for each in counts]
    assert scores == pytest.approx([row.test_score for row in record.rows])
    valid = target != IGNORED
    again = np.bincount(target[valid].astype(int) * 5 + predicted[valid], minlength=25).reshape(5, 5)
    np.testing.assert_array_equal(again, counts[-1])
    last = record.rows[-1].diagnostics
    iou = intersection_over_union(counts[-1])
    assert last["iou.disc"] == pytest.approx(iou[1])
    assert last["dice"] == pytest.approx(np.nanmean(2 * iou[1:] / (1 + iou[1:])))
    assert {
        "boundary_iou",
        "label_miou",
        "corrected_fraction",
        "memorized.disc",
        "learned.disc",
        "adele.onset.disc",
    } <= set(last)
    for picture in ("classes.png", "masks.png"):
        assert (tmp_path / "diagnostics" / picture).stat().st_size > 10_000
    with np.load(tmp_path / "diagnostics" / "samples.npz") as archive:
        corrected = archive["corrected_labels"]
    assert (corrected != run.labels.train).any(), "something was corrected"
    clean = run.dataset.train.targets
    changed = (corrected != run.labels.train) & (clean != IGNORED)
    assert record.correction_accuracy == pytest.approx((corrected == clean)[changed].mean())
    assert 0 < (record.calibration_error or 0) < 1
    file = tmp_path / "diagnostics" / "corrected" / "scene_00003.png"
    np.testing.assert_array_equal(numbers(file), corrected[3])
    # With the observed masks of the validation split, the folder has a mask for every image that training sees.
    again = get_entry("noise_models", "from_folder").load_class()(path=str(file.parent)).apply(run.dataset)
    np.testing.assert_array_equal(again.train, corrected)
    np.testing.assert_array_equal(again.validation, run.labels.validation)


def test_a_stack_that_corrects_nothing_writes_no_corrected_masks(tmp_path: Path) -> None:
    run = prepared_toy("cross_entropy", **MASKS, budget={"epochs": 1}, execution={"save_corrected_masks": True})
    recorder = train_toy(run, tmp_path / "run")
    record = recorder.record({})
    recorder.write(record, tmp_path / "diagnostics")
    assert not (tmp_path / "diagnostics" / "corrected").exists()
    assert any("the stack corrected no pixel" in warning for warning in record.rows[-1].warnings)


def test_what_becomes_of_wrong_pixels_by_hand(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy("cross_entropy", **MASKS, budget={"epochs": 1}), tmp_path)
    samples, row = recorder.evaluator.samples(), recorder.rows[-1]
    wrong = (samples.clean != samples.observed) & (samples.clean != IGNORED)
    assert row.memorized_fraction == pytest.approx((samples.prediction == samples.observed)[wrong].mean())
    assert row.recovered_fraction == pytest.approx((samples.prediction == samples.clean)[wrong].mean())
    own = wrong & (samples.clean == 1)
    both = (own & (samples.prediction == 1)).sum()
    union = own.sum() + (wrong & (samples.prediction == 1)).sum() - both
    assert row.diagnostics.get("learned.disc", 0.0) == pytest.approx(both / union)


def test_the_background_counts_where_asked_for(tmp_path: Path) -> None:
    runs = {}
    for background in (False, True):
        fields = {"task": {"name": "segmentation", "background": background}, "dataset": "scenes"}
        spec = resolve({**toy_spec(**MASKS, budget={"epochs": 1}).as_dict(), **fields})
        dataset = toy_masks()
        runs[background] = train_toy(prepare_run(spec, dataset, toy_labels(dataset)), tmp_path / str(background))
    whole = runs[True].rows[-1]
    assert whole.test_score == pytest.approx(whole.diagnostics["miou_with_background"])
    assert runs[False].rows[-1].test_score != whole.test_score
    assert runs[True].record({}).budget != runs[False].record({}).budget, "never in one table"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "segmentation", "dataset": "digits"}, "dataset: supports the tasks classification"),
        ({"task": "classification", "dataset": "scenes"}, "dataset: supports the tasks segmentation"),
        ({"task": "segmentation", "dataset": "scenes"}, "classifies images, not pixels; choose one such as unet:8"),
        ({"dataset": "digits", "budget": {"augmentation": "affine"}}, "affine needs masks"),
        ({"task": "segmentation", "dataset": "scenes", "mitigations": "mixup"}, "mixup"),
        ({"task": "segmentation", "dataset": {"name": "scenes", "ood_classes": [1]}}, "not to masks or traces"),
        ({"task": "segmentation", "dataset": "scenes", "mitigations": {"name": "adele", "scales": []}}, "numbers above 0"),
        ({"task": "segmentation", "dataset": "scenes", "budget": {"network": "unet:no"}}, "such as unet:8, but got unet:no"),
        ({"task": "segmentation", "dataset": "scenes", "budget": {"network": "smp:unett/resnet18"}}, "did you mean `unet`"),
        ({"task": "segmentation", "dataset": "scenes", "budget": {"network": "smp:unet/resnet19"}}, "no encoder `resnet19`"),
    ],
)  # fmt: skip
def test_runs_that_cannot_work_are_refused_before_training(fields: dict[str, Any], message: str) -> None:
    budget = {"network": "unet:4", **fields.get("budget", {})} if "mitigations" in fields else fields.get("budget", {})
    with pytest.raises(UserError, match=message):
        prepare_run(resolve({**fields, "budget": budget}))
