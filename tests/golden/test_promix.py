"""ProMix against the authors' training steps, warm-up, selection and masks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisybench.mitigations._fmix import region
from noisybench.mitigations.promix import STRONG_VIEW, ProMix
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from noisybench.training.views import View
from tests.golden.generators.promix import (
    EPOCHS,
    MASKS,
    MOMENTUM,
    RAMP,
    SETTINGS,
    SIZE,
    STEPS,
    TwoClassifiers,
    optimizer_of,
    two_networks,
)
from tests.golden.small_networks import CLASSES, fill, flat
from tests.golden.vectors import load_golden

pytestmark = pytest.mark.fast

GOLDEN = load_golden("promix")


def learner(epoch: int) -> tuple[Any, nn.ModuleList]:
    """Return a task with both networks, as they started in the authors' code."""
    networks = two_networks()
    for network, values in zip(networks, GOLDEN.tensor("first"), strict=True):
        fill(network, values)

    def features_and_logits(inputs: Tensor, number: int) -> tuple[Tensor, Tensor]:
        network = networks[number]
        assert isinstance(network, TwoClassifiers)
        features = network.model(inputs)
        return features, network.linear(features)

    task = SimpleNamespace(
        networks=networks, heads={f"auxiliary_{number}": network.pseudo_linear for number, network in enumerate(networks)},
        features_and_logits=features_and_logits, logits=lambda inputs, number: networks[number](inputs), generator=None,
        current_epoch=epoch, budget=SimpleNamespace(epochs=EPOCHS + 1),
    )  # fmt: skip
    return task, networks


@pytest.mark.parametrize("setting", range(2))
def test_steps_are_the_authors(setting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch, confidence = SETTINGS[setting]
    task, networks = learner(epoch)
    # Two numbers for each of two classifiers of two networks, and one mask.
    weights, coins, noise = (GOLDEN[name] for name in ("weights", "coins", "noise"))
    betas, randoms = iter(weights[8 * STEPS * setting :]), iter(coins[4 * STEPS * setting :])
    normals = iter(torch.from_numpy(noise[4 * STEPS * setting :]))
    task.rng = SimpleNamespace(beta=lambda first, second: next(betas), random=lambda: next(randoms))
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count).roll(1))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(normals))
    method = ProMix(
        warmup_epochs=1, ramp_epochs=RAMP, confidence=confidence, debias_labels=0.5, prior_momentum=MOMENTUM
    )
    method.state = {
        "selected": torch.cat(list(GOLDEN.tensor("selected")), 1), "priors": torch.full((2, 2, CLASSES), 1 / CLASSES),
    }  # fmt: skip
    optimizer = optimizer_of(networks)
    for step in range(STEPS):
        views: dict[View, Any] = dict(zip(("weak", STRONG_VIEW), GOLDEN.tensor("views")[step], strict=True))
        batch = Batch(views, GOLDEN.tensor("labels")[step], torch.arange(SIZE) + step * SIZE, CLASSES)
        loss = method.loss(task, batch)
        assert loss.shape == (SIZE,)
        optimizer.zero_grad()
        torch.autograd.backward(loss.mean())
        optimizer.step()
    found = np.array([flat(network) for network in networks])
    np.testing.assert_allclose(found, GOLDEN["trained"][setting], rtol=0, atol=1e-6)
    np.testing.assert_allclose(method.state["priors"], GOLDEN["priors"][setting], rtol=0, atol=1e-6)


def test_the_warm_up_with_its_penalty_is_the_authors() -> None:
    task, networks = learner(epoch=0)
    batch = Batch({"weak": GOLDEN.tensor("warmup_views")}, GOLDEN.tensor("warmup_labels"), torch.arange(SIZE), CLASSES)
    loss = ProMix(confidence_penalty=True).loss(task, batch).mean()
    optimizer = optimizer_of(networks)
    torch.autograd.backward(loss)
    optimizer.step()
    found = np.array([flat(network) for network in networks])
    np.testing.assert_allclose(found, GOLDEN["warmed_up"], rtol=0, atol=1e-6)


def test_examples_with_small_losses_are_the_authors() -> None:
    labels, scores = GOLDEN.tensor("small_labels"), GOLDEN.tensor("small_scores")
    method = ProMix(warmup_epochs=1)
    count = len(labels)
    method.state = {"selected": torch.zeros(2, count, dtype=torch.bool), "losses": torch.zeros(2, count)}
    task: Any = SimpleNamespace(
        training_set=TrainingSet(torch.zeros(count, 1), labels, CLASSES), sampler=SimpleNamespace(weights=None),
        current_epoch=0, budget=SimpleNamespace(epochs=99), training_outputs=lambda number: SimpleNamespace(logits=scores),
    )  # fmt: skip
    method.on_epoch_end(task)
    assert torch.equal(method.state["selected"], GOLDEN.tensor("small").expand(2, -1))


@pytest.mark.parametrize(("height", "width", "weight"), MASKS)
def test_masks_are_the_authors(height: int, width: int, weight: float) -> None:
    expected = GOLDEN.tensor(f"mask_{height}")
    found = region(GOLDEN.tensor(f"noise_{height}"), height, width, int(expected.sum()))
    assert abs(int(expected.sum()) - weight * height * width) < 1
    assert torch.equal(found.bool(), expected)
