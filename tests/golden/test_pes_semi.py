"""PES with semi-supervised learning against the authors' divisions and training steps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.mitigations.pes_semi import PESSemi
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.pes_semi import (
    BATCH,
    EPOCHS,
    EXAMPLES,
    MIXMATCH_EPOCHS,
    RATES,
    SIZES,
    STEPS,
    WARMUP,
    WEIGHT,
    optimizer_of,
)
from tests.golden.small_networks import CLASSES, SmallNetwork, fill, flat
from tests.golden.vectors import load_golden

GOLDEN = load_golden("pes_semi")


@pytest.mark.fast
@pytest.mark.parametrize("division", range(len(RATES)))
def test_divisions_are_the_authors(division: int) -> None:
    labels = GOLDEN.tensor("division_labels")[division]
    method, data = PESSemi(), TrainingSet(torch.zeros(EXAMPLES, 1), labels, CLASSES)
    sampler = SimpleNamespace(weights=None, epoch_order=lambda epoch: torch.arange(EXAMPLES))
    task: Any = SimpleNamespace(
        training_set=data, training_predictions=lambda: GOLDEN.tensor("predicted")[division], sampler=sampler, current_epoch=99,
        budget=SimpleNamespace(batch_size=BATCH),
    )  # fmt: skip
    method._select(task)
    torch.testing.assert_close(
        method.state["class_weights"], GOLDEN.tensor("class_weights")[division], rtol=0, atol=1e-6
    )
    assert torch.equal(method.state["confident"], GOLDEN.tensor("confident")[division])
    steps = method.plan_epoch(task) or []
    assert len(steps) == EXAMPLES // BATCH
    size, others = GOLDEN["sizes"][division].tolist()
    for step in steps:
        labeled, unlabeled = torch.split(step.index, [size, others])
        assert bool(method.state["confident"][labeled].all())
        assert not bool(method.state["confident"][unlabeled].any())


@pytest.mark.fast
@pytest.mark.parametrize("part", range(2))
def test_steps_are_the_authors(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network, late = SmallNetwork(), 5
    fill(network, GOLDEN.tensor("first"))
    method = PESSemi(warmup_epochs=WARMUP, classifier_epochs=late, unlabeled_weight=WEIGHT)
    method.state["class_weights"] = GOLDEN.tensor("weights")
    method._num_labeled, method._num_steps, method._steps_done = SIZES[0], STEPS, 0
    parameters: list[tuple[float, float]] = []
    draws = iter(GOLDEN["mix_weight"][STEPS * part :])

    def beta(first: float, second: float) -> float:
        parameters.append((first, second))
        return float(next(draws))

    task: Any = SimpleNamespace(
        logits=lambda inputs, number=0: network(inputs), generator=None, budget=SimpleNamespace(epochs=EPOCHS + late),
        rng=SimpleNamespace(beta=beta),
        current_epoch=MIXMATCH_EPOCHS[part] + late,
    )  # fmt: skip
    # The authors' order is both views of the labeled examples, then both of the others; ours is view by view.
    size, others = SIZES
    first, second = torch.arange(2 * size).view(2, size), 2 * size + torch.arange(2 * others).view(2, others)
    blocks = torch.cat([first[0], second[0], first[1], second[1]])
    optimizer = optimizer_of(network)
    for step in range(STEPS):
        partner = torch.argsort(blocks)[GOLDEN.tensor("partner")[STEPS * part + step][blocks]]
        monkeypatch.setattr(torch, "randperm", lambda *_, partner=partner, **__: partner)
        views = torch.cat([GOLDEN.tensor("labeled")[step], GOLDEN.tensor("unlabeled")[step]], 1)
        observed = torch.cat([GOLDEN.tensor("labels")[step], torch.zeros(others, dtype=torch.long)])
        batch = Batch(dict(zip(("weak", "weak_2"), views, strict=True)), observed, torch.arange(size + others), CLASSES)
        loss = method.loss(task, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert parameters == [tuple(pair) for pair in GOLDEN["parameters"][STEPS * part : STEPS * (part + 1)].tolist()]
    np.testing.assert_allclose(flat(network), GOLDEN["trained"][part], rtol=0, atol=1e-6)
