"""DISC against epochs of the authors' training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.mitigations.disc import DISC
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from tests.golden.generators.disc import HARD_WEIGHTS, MARGIN, MOMENTUM
from tests.golden.small_networks import CLASSES, SmallNetwork, fill, flat
from tests.golden.vectors import load_golden


@pytest.mark.fast
@pytest.mark.parametrize("setting", range(2))
def test_epochs_are_the_authors(setting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    golden, network = load_golden("disc"), SmallNetwork()
    fill(network, golden.tensor("first"))
    data = TrainingSet(golden.tensor("views")[0], golden.tensor("labels"), CLASSES)
    draws = iter(golden["mix_weights"])
    task: Any = SimpleNamespace(
        logits=lambda inputs: network(inputs), training_set=data, generator=None,
        rng=SimpleNamespace(beta=lambda first, second: next(draws)),
    )  # fmt: skip
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count).roll(1))
    method = DISC(warmup_epochs=1, momentum=MOMENTUM, margin=MARGIN, hard_weight=HARD_WEIGHTS[setting])
    method.prepare(task, data)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=1e-3)
    seen = np.zeros(3, dtype=bool)
    for epoch, batches in enumerate(golden.tensor("order")):
        task.current_epoch = epoch
        for index in batches:
            views = dict(zip(("weak", method.strong_view), golden.tensor("views")[:, index], strict=True))
            loss = method.loss(task, Batch(views, data.targets[index], index, CLASSES)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        method.on_epoch_end(task)
        np.testing.assert_allclose(flat(network), golden[f"weights_{setting}"][epoch], rtol=0, atol=1e-6)
        for name in ("probabilities", "thresholds"):
            np.testing.assert_allclose(method.state[name], golden[f"{name}_{setting}"][epoch], rtol=0, atol=1e-6)
        flags = torch.stack([method.state[name] for name in ("clean", "hard", "corrected")]).numpy()
        np.testing.assert_array_equal(flags, golden[f"flags_{setting}"][epoch])
        np.testing.assert_array_equal(method.state["labels"], golden[f"classes_{setting}"][epoch])
        seen |= flags.any(1)
    assert seen.all(), "each kind of example has been trained on"
