"""Meta-Weight-Net against eight steps of the authors' code on a linear network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from noisybench.config.budget import Budget
from noisybench.data.privileged import PrivilegedInfo
from noisybench.mitigations.meta_weight_net import MetaWeightNet
from noisybench.networks.decoder import Decoder
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.meta_weight_net import BATCH, CLASSES, CLEAN, FEATURES, RATE, STEPS, WEIGHT_RATE
from tests.golden.vectors import load_golden

pytestmark = pytest.mark.fast


def test_both_networks_come_to_the_authors_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    golden, network = load_golden("meta_weight_net"), nn.Linear(FEATURES, CLASSES)
    network.load_state_dict({name: golden.tensor(f"first_{name}") for name in ("weight", "bias")})
    inputs, labels = golden.tensor("inputs"), golden.tensor("labels")
    clean_inputs, clean_labels = golden.tensor("clean_inputs").flatten(0, 1), golden.tensor("clean_labels").flatten()
    mitigation = MetaWeightNet(weight_learning_rate=WEIGHT_RATE)
    mitigation.privileged = PrivilegedInfo({"clean_validation_labels": clean_labels}, ["clean_validation_labels"])
    task: Any = SimpleNamespace(
        networks=[network], active_network=0, logits=network, seed=0, current_epoch=0,
        budget=Budget(learning_rate=RATE, lr_schedule="constant"),
        validation_batch=lambda index: Batch({"weak": clean_inputs[index]}, torch.full((CLEAN,), -1), index, CLASSES),
    )  # fmt: skip
    mitigation.prepare(task, TrainingSet(inputs[0], labels[0], CLASSES))
    mitigation.state["weights"] = golden.tensor("first_weighting").clone()
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for step in range(STEPS):
        drawn = torch.arange(step * CLEAN, (step + 1) * CLEAN)
        monkeypatch.setattr(mitigation, "_draw", lambda count, drawn=drawn: (drawn, clean_labels[drawn]))
        batch = Batch({"weak": inputs[step]}, labels[step], torch.arange(BATCH), CLASSES)
        optimizer.zero_grad()
        mitigation.loss(task, batch).mean().backward()
        optimizer.step()
    changed = (golden.tensor("weighting") - golden.tensor("first_weighting")).abs()
    assert float(changed.max()) > 0.05, "the example must train the weighting network"
    torch.testing.assert_close(mitigation.state["weights"], golden.tensor("weighting"), rtol=0, atol=4e-6)
    torch.testing.assert_close(network.weight, golden.tensor("weight"), rtol=0, atol=1e-6)
    torch.testing.assert_close(network.bias, golden.tensor("bias"), rtol=0, atol=1e-6)


def test_clean_labels_are_read_for_few_examples_and_refused_where_they_are_unknown() -> None:
    mitigation, data = MetaWeightNet(clean_examples=3), TrainingSet(torch.zeros(2, 1), torch.zeros(2).long(), CLASSES)
    labels = torch.tensor([1, -2, 0, 3, -1, 2, 1])
    mitigation.privileged = PrivilegedInfo({"clean_validation_labels": labels}, ["clean_validation_labels"])
    mitigation.prepare(cast(Any, SimpleNamespace(seed=0)), data)
    positions, chosen = mitigation._clean
    assert len(set(positions.tolist())) == 3
    assert torch.equal(chosen, labels[positions])
    assert int(chosen.min()) >= 0
    assert mitigation.check_data(data, nn.Identity(), 0) == []
    unknown = PrivilegedInfo({"clean_validation_labels": torch.full((7,), -2)}, ["clean_validation_labels"])
    mitigation.privileged = unknown
    assert "clean labels of the 7 validation examples are unknown" in mitigation.check_data(data, nn.Identity(), 0)[0]


def test_the_gradient_goes_through_attention_which_has_fused_kernels_of_first_order_only() -> None:
    mitigation, network = MetaWeightNet(), Decoder(CLASSES, width=8, num_layers=1, context_length=4)
    classifier = nn.Sequential(network, LastScores())
    data = TrainingSet(torch.randint(CLASSES, (6, 4)), torch.zeros(6).long(), CLASSES)
    task: Any = SimpleNamespace(networks=[classifier], active_network=0, seed=0, current_epoch=0, budget=Budget())
    mitigation.privileged = PrivilegedInfo({"clean_validation_labels": data.targets}, ["clean_validation_labels"])
    mitigation.prepare(task, data)
    batch = Batch({"weak": data.inputs}, data.targets, torch.arange(6), CLASSES)
    gradient = mitigation._meta_gradient(task, batch, batch)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


class LastScores(nn.Module):
    """Scores after the last token."""

    def forward(self, scores: Tensor) -> Tensor:
        """Return (B, V) of (B, L, V) scores."""
        return scores[:, -1]
