"""Two epochs of the authors' ELR+ with two networks and their moving averages."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from tests.golden.reference import Batches, imports_from
from tests.golden.small_networks import flat

REFERENCE = "https://github.com/shengliu66/ELR"
COMMIT = "934af53434a336b6db80d05d7649d23216e8ca6d"
COMPUTED = (
    "trainer.Trainer._train_epoch of ELR_plus: weights and statistics of two networks and their moving averages, and running "
    "averages of predictions, after two epochs of three SGD steps of 4 of 12 examples"
)

SETTINGS = ((0.7, 3.0, 0, 10, 10), (0.9, 1.0, 0, 0, 10), (0.9, 7.0, 4, 10, 100))
"""Momentum, weight of the regularizer, lengths of both ramps, number of classes; 100 classes refine targets."""

EXAMPLES, BATCH, STEPS, EPOCHS, DECAY = 12, 4, 3, 2, 0.9


def small_network(classes: int) -> nn.Module:
    """Return a network with batch normalization for 12 inputs."""
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, classes))


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every setting."""
    arrays: dict[str, Any] = {"settings": np.array(SETTINGS)}
    mocked = {name: mock.MagicMock() for name in ("parse_config", "logger", "mlflow", "mlflow.pytorch")}
    with mock.patch.dict(sys.modules, mocked), imports_from(folder / "ELR_plus"):
        from model.loss import elr_plus_loss
        from trainer.trainer import Trainer

        for position in range(len(SETTINGS)):
            arrays |= _trained(position, Trainer, elr_plus_loss)
    return arrays


def _trained(position: int, trainer_class: Any, loss_class: Any) -> dict[str, Any]:
    beta, weight, reg_ramp, average_ramp, classes = SETTINGS[position]
    rng, torch_rng = np.random.default_rng(position), torch.Generator().manual_seed(position)
    original = torch.randperm
    drawn: dict[str, list[Any]] = {"weight": [], "partner": []}

    def beta_number(first: float, second: float) -> float:
        drawn["weight"].append(rng.beta(first, second))
        return float(drawn["weight"][-1])

    def permutation(count: int) -> torch.Tensor:
        drawn["partner"].append(original(count, generator=torch_rng))
        return torch.as_tensor(drawn["partner"][-1])

    config: dict[str, Any] = {
        "num_classes": classes, "mixup_alpha": 1.0, "coef_step": reg_ramp, "ema_update": True, "ema_step": average_ramp,
        "ema_alpha": DECAY, "train_loss": {"args": {"lambda": weight}},
    }  # fmt: skip
    trainer = trainer_class.__new__(trainer_class)
    vars(trainer).update(
        config=config, metrics=[], writer=mock.MagicMock(), train_loss_list=[], log_step=100, len_epoch=STEPS,
        global_step=0, data_loader1=SimpleNamespace(batch_size=BATCH),
    )  # fmt: skip
    torch.manual_seed(position)
    networks = [small_network(classes) for _ in range(4)]
    for average in networks[2:]:
        average.requires_grad_(False)
    criteria = [loss_class(EXAMPLES, config, "cpu", classes, beta) for _ in range(2)]
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4) for each in networks[:2]]
    inputs, labels = rng.normal(size=(EXAMPLES, 12)).astype("float32"), rng.integers(0, classes, EXAMPLES)
    first, orders = np.array([flat(each) for each in networks]), []
    for epoch in range(EPOCHS):
        for number in range(2):
            order = rng.permutation(EXAMPLES).reshape(STEPS, BATCH)
            orders.append(order)
            loader = Batches(
                (torch.from_numpy(inputs[index]), torch.from_numpy(labels[index]), torch.from_numpy(index), None)
                for index in order
            )
            loader.dataset = range(EXAMPLES)
            with (
                mock.patch.object(torch, "randperm", permutation),
                mock.patch.object(np.random, "beta", beta_number),
            ):
                trainer._train_epoch(
                    epoch + 1, networks[number], networks[2 + number], networks[3 - number], loader, criteria[number],
                    optimizers[number], mock.MagicMock(),
                )  # fmt: skip
        trainer.global_step += STEPS
    return {
        f"{name}_{position}": value
        for name, value in {
            "inputs": inputs, "labels": labels, "first": first, "order": np.array(orders),
            "weight": np.array(drawn["weight"]), "partner": torch.stack(drawn["partner"]).numpy(),
            "last": np.array([flat(each) for each in networks]),
            "targets": torch.stack([criterion.pred_hist for criterion in criteria]).numpy(),
        }.items()
    }  # fmt: skip
