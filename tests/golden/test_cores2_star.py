"""The second phase of CORES2 against steps of the authors' training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.mitigations.cores2_star import STRONG_VIEW, CORES2Star
from noisybench.training.batch import Batch
from noisybench.training.views import View
from tests.golden.generators.cores2_star import CLIP, LABELED, STEPS, UNLABELED, WEIGHTS, optimizer_of
from tests.golden.small_networks import CLASSES, SmallNetwork, fill, flat
from tests.golden.vectors import load_golden

GOLDEN = load_golden("cores2_star")


@pytest.mark.fast
@pytest.mark.parametrize("setting", range(2))
def test_steps_of_the_second_phase_are_the_authors(setting: int) -> None:
    network = SmallNetwork()
    fill(network, GOLDEN.tensor("first"))
    method = CORES2Star(sieve_phase_epochs=1, unlabeled_weight=WEIGHTS[setting])
    method._num_labeled = LABELED
    task: Any = SimpleNamespace(logits=network, current_epoch=1)
    optimizer = optimizer_of(network)
    for step in range(STEPS):
        supervised, (weak, strong) = GOLDEN.tensor("supervised")[step], GOLDEN.tensor("pairs")[step]
        # Weak views of labeled examples are not read.
        views: dict[View, Any] = {
            "weak": torch.cat([torch.zeros_like(supervised), weak]),
            STRONG_VIEW: torch.cat([supervised, strong]),
        }
        observed = torch.cat([GOLDEN.tensor("labels")[step], torch.zeros(UNLABELED, dtype=torch.long)])
        batch = Batch(views, observed, torch.arange(LABELED + UNLABELED), CLASSES)
        loss = method.loss(task, batch).mean()
        assert loss.item() == pytest.approx(GOLDEN["losses"][setting, step], abs=1e-6)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
    np.testing.assert_allclose(flat(network), GOLDEN["trained"][setting], rtol=0, atol=1e-6)


@pytest.mark.fast
def test_the_second_phase_uses_the_labels_of_the_examples_that_passed_the_authors_sieve() -> None:
    method = CORES2Star(sieve_phase_epochs=1, unlabeled_fraction=0.5)
    method.state["sieve"] = GOLDEN.tensor("sieve")
    sampler = SimpleNamespace(epoch_order=lambda epoch: torch.arange(20))
    task: Any = SimpleNamespace(current_epoch=1, budget=SimpleNamespace(batch_size=4), sampler=sampler)
    steps = method.plan_epoch(task)
    left_out = set(GOLDEN["left_out"].tolist())
    labeled = torch.cat([step.index[:2] for step in steps]).tolist()
    assert labeled == sorted(set(range(20)) - left_out)[: len(labeled)]
    assert len(labeled) >= 20 - len(left_out) - 1
    assert {index for step in steps for index in step.index[2:].tolist()} <= left_out
