"""Tests of the noise-weighted Dice loss: rounds, weights, replaced labels and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from noisybench.data.targets import IGNORED
from noisybench.mitigations._mask_correction import predict_views
from noisybench.mitigations.dice_loss import soft_dice_loss
from noisybench.mitigations.noise_weighted_dice import NoiseWeightedDice
from noisybench.runs.preparation import training_set_of
from noisybench.tasks.segmentation import Segmentation
from noisybench.training.loop import attach, train_epoch
from tests.helpers import prepared_toy, train_toy


def trained(
    epochs: int, budget: dict[str, Any] | None = None, **parameters: Any
) -> tuple[Segmentation, NoiseWeightedDice]:
    prepared = prepared_toy({"name": "noise_weighted_dice", **parameters}, budget={"epochs": 6, **(budget or {})})
    spec = prepared.spec
    task = Segmentation(spec.budget, spec.seed, training_set_of(prepared), prepared.stack)
    attach(task, Fabric(accelerator="cpu", devices=1))
    task.on_fit_start()
    optimizer = task.configure_optimizers()
    for epoch in range(epochs):
        train_epoch(task, optimizer, epoch)
    return task, cast(NoiseWeightedDice, prepared.stack.mitigations[0])


def test_the_first_round_is_the_plain_dice_loss() -> None:
    task, method = trained(1, rounds=3)
    assert bool((method.state["weights"] == 1).all())
    task.start_epoch()
    batch = next(iter(task.train_dataloader()))
    loss = method.loss(task, batch)
    assert loss.shape == batch.observed.shape
    plain = soft_dice_loss(task.logits(batch.inputs), batch, background=False)
    torch.testing.assert_close(loss, plain.expand_as(loss), rtol=0, atol=0)


def test_after_a_round_pixels_have_the_doubt_of_the_prediction() -> None:
    task, method = trained(2, rounds=3, image_weights=False)
    data, network, weights = task.training_set, task.networks[0], method.state["weights"].float()
    network.eval()
    confidence, predicted = predict_views(network, task.normalize(data.inputs), [1.0], flip=True)
    agrees = predicted == data.targets
    assert 0 < float(agrees.float().mean()) < 1
    assert bool((weights[agrees] == 1).all())
    torch.testing.assert_close(weights[~agrees], (1 - confidence)[~agrees], rtol=0, atol=1e-3)
    assert not weights.requires_grad
    assert method.diagnostics["mean_weight"] == pytest.approx(float(weights[data.targets != IGNORED].mean()), abs=1e-3)


def test_images_that_the_prediction_contradicts_count_less() -> None:
    (_, alone), (_, method) = trained(2, rounds=3, image_weights=False), trained(2, rounds=3)
    ratio = method.state["weights"].float() / alone.state["weights"].float()
    by_image = ratio.flatten(1)
    torch.testing.assert_close(by_image.amax(1), by_image.amin(1), rtol=0, atol=5e-3)
    assert 0 <= float(by_image.min()) < float(by_image.max()) <= 1


def test_labels_are_replaced_only_above_the_confidence(tmp_path: Path) -> None:
    task, method = trained(3, rounds=2, replace_above=0.6)
    labels, data = method.state["labels"], task.training_set
    assert method.corrected_labels(task, data) is labels
    changed = labels != data.targets
    assert 0 < int(changed.sum()) == int(method.diagnostics["replaced_pixels"])
    assert not bool(changed[data.targets == IGNORED].any())
    # The predictions of the same weights, since nothing was trained after the round.
    task.networks[0].eval()
    confidence, predicted = predict_views(task.networks[0], task.normalize(data.inputs), [1.0], flip=True)
    assert bool((confidence[changed] > 0.6).all())
    assert bool((labels[changed] == predicted[changed]).all())
    recorder = train_toy(prepared_toy({"name": "noise_weighted_dice", "replace_above": 0.6}), tmp_path)
    assert recorder.complete


def test_a_network_without_objects_is_reported_and_does_not_end_the_training() -> None:
    task, method = trained(1, rounds=3)
    with torch.no_grad():
        scores = cast(Any, task.networks[0]).scores
        scores.weight.zero_()
        scores.bias.copy_(torch.tensor([50.0] + [0.0] * (task.training_set.num_classes - 1)))
    method._weigh(task)
    assert method.diagnostics["missed_images"] == len(task.training_set)
    assert any("miss every object of the mask" in warning for warning in method.warnings)
    assert bool((method.state["weights"] == 1).all())


def test_weighing_costs_less_than_a_fifth_of_the_operations_of_a_round() -> None:
    task, method = trained(1, rounds=2)
    optimizer = task.configure_optimizers()
    with FlopCounterMode(display=False) as epoch:
        train_epoch(task, optimizer, 3)
    with FlopCounterMode(display=False) as weighing:
        method._weigh(task)
    # A round of the default, 3 rounds in 30 epochs, has ten epochs.
    assert 0 < weighing.get_total_flops() / (10 * epoch.get_total_flops()) < 0.2 / 2
    assert weighing.get_total_flops() < epoch.get_total_flops()


def test_more_rounds_than_epochs_are_refused() -> None:
    with pytest.raises(Exception, match="each of the 7 rounds needs at least one epoch"):
        prepared_toy({"name": "noise_weighted_dice", "rounds": 7}, budget={"epochs": 6})
