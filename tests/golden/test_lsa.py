"""LSA and LSA+ against the authors' losses, detectors and weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.mitigations.lsa import LSA
from noisybench.training.batch import Batch
from noisybench.training.learner import Outputs
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.lsa import CASES, EXAMPLES, SIZE
from tests.golden.small_networks import CLASSES, SmallNetwork, fill, flat, learner
from tests.golden.vectors import load_golden

GOLDEN = load_golden("lsa")


@pytest.mark.parametrize("case", range(4), ids=lambda case: f"epoch {CASES[case][0]}")
def test_loss_gradient_statistics_and_pseudo_labels_are_the_authors(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch, penalty = CASES[case]
    network, observed = SmallNetwork(), GOLDEN.tensor("labels")
    fill(network, GOLDEN.tensor("first"))
    mitigation = LSA(warmup_epochs=1, warmup_steps=0, uniform_prior=penalty)
    flags = GOLDEN.tensor("noisy") if epoch else torch.zeros(SIZE, dtype=torch.bool)
    mitigation.state = {
        "flags": flags[None], "weights": torch.where(flags, GOLDEN.tensor("weights"), 1.0)[None],
        "pseudo_labels": torch.eye(CLASSES)[observed][None],
    }  # fmt: skip
    views = dict(zip(("weak", "weak_2", mitigation.strong_view, "contrastive"), GOLDEN.tensor("views"), strict=True))
    partner = GOLDEN.tensor("partner")[case]
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: partner)
    task = learner(network, epoch, float(GOLDEN["mix_weight"][case]))
    loss = mitigation.loss(task, Batch(views, observed, torch.arange(SIZE), CLASSES)).mean()
    loss.backward()
    np.testing.assert_allclose(loss.item(), GOLDEN["loss"][case], rtol=0, atol=2e-6)
    np.testing.assert_allclose(flat(network, gradients=True), GOLDEN["gradient"][case], rtol=0, atol=2e-6)
    np.testing.assert_allclose(flat(network), GOLDEN["after"][case], rtol=0, atol=5e-7)
    np.testing.assert_allclose(
        mitigation.state["pseudo_labels"][0].numpy(), GOLDEN["pseudo_labels"][case], rtol=0, atol=5e-7
    )


def detected(mitigation: LSA, epoch: int) -> dict[str, torch.Tensor]:
    """Return the state after the end of an epoch, with the frozen scores, features and pseudo-labels."""
    observed, networks = GOLDEN.tensor("observed"), mitigation.num_networks
    data = TrainingSet(torch.zeros(EXAMPLES, 1, 1, 1, dtype=torch.uint8), observed, 3)
    zeros = torch.zeros(networks, EXAMPLES)
    mitigation.state = {
        "flags": zeros > 0, "weights": zeros + 1, "pseudo_labels": GOLDEN.tensor("tables")[:networks],
        "scaled_loss": zeros.clone(), "high_loss": zeros.clone(), "linear": zeros.clone(),
    }  # fmt: skip
    scores, features = GOLDEN.tensor("scores"), GOLDEN.tensor("features")
    task: Any = SimpleNamespace(
        current_epoch=epoch, sampler=SimpleNamespace(steps_per_epoch=1), training_set=data,
        training_outputs=lambda number: Outputs(scores[number], features[number]),
    )  # fmt: skip
    mitigation.on_epoch_end(task)
    return mitigation.state


@pytest.mark.parametrize(("which", "epoch"), [("linear", 0), ("linear", 2), ("loss", 3)])
def test_flags_and_weights_are_the_authors(which: str, epoch: int) -> None:
    # Epoch 0 is the warm-up, after which the authors' weights are those of real pseudo-labels already.
    state = detected(LSA(warmup_epochs=1, warmup_steps=0), epoch)
    np.testing.assert_array_equal(state["flags"][0].numpy(), GOLDEN[f"flags_{which}"])
    np.testing.assert_allclose(state["weights"][0].numpy(), GOLDEN[f"weights_{which}"], rtol=0, atol=5e-6)
    flagged = state["flags"][0]
    assert 20 < int(flagged.sum()) < EXAMPLES - 20
    assert float(state["weights"][0][flagged].std()) > 0.1


@pytest.mark.parametrize(("cotrain", "name"), [("consensus", "ours"), ("cross", "DM"), ("independent", "indep")])
def test_two_networks_get_the_authors_flags_and_weights(cotrain: str, name: str) -> None:
    state = detected(LSA(warmup_epochs=1, warmup_steps=0, cotrain=cotrain), 3)
    np.testing.assert_array_equal(state["flags"].numpy(), GOLDEN[f"flags_{name}"])
    wanted = GOLDEN[f"weights_{name}"]
    if cotrain == "consensus":
        # The authors' code averages the weights of the first network alone; here both networks share them.
        wanted = wanted[[0, 0]]
    np.testing.assert_allclose(state["weights"].numpy(), wanted, rtol=0, atol=5e-6)
