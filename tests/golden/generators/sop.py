"""Losses, weights and noise of eight steps of the authors' `overparametrization_loss` with its two optimizers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from tests.golden.reference import imports_from, on_the_cpu

REFERENCE = "https://github.com/shengliu66/SOP"
COMMIT = "4d991cedf1fafec98f858a213ccc31e52318a77f"
COMPUTED = (
    "model.loss.overparametrization_loss with the optimizers of train.py: mean losses of 8 steps on 8 of 12 examples, and "
    "the weights of a linear network, u and v afterward; without and with balance and consistency of two views"
)

SETTINGS = ((10.0, 10.0, 1e-8, 0.0, 0.0), (1.0, 10.0, 0.3, 0.0, 0.0), (1.0, 10.0, 0.3, 0.9, 0.1))
"""Learning rates of u and v, standard deviation of their initial values, weights of consistency and balance."""

EXAMPLES, CLASSES, FEATURES, BATCH, STEPS = 12, 10, 5, 8, 8


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every setting."""
    parser = mock.MagicMock()
    sys.modules["parse_config"] = mock.MagicMock(ConfigParser=parser)
    arrays: dict[str, Any] = {"settings": np.array(SETTINGS)}
    with imports_from(folder), on_the_cpu():
        from model.loss import overparametrization_loss

        for position, (lr_u, lr_v, std, consistency, balance) in enumerate(SETTINGS):
            parser.get_instance.return_value = {
                "reparam_arch": {"args": {"mean": 0.0, "std": std}},
                "num_classes": CLASSES,
            }
            rng = np.random.default_rng(position)
            torch.manual_seed(position)
            criterion = overparametrization_loss(EXAMPLES, CLASSES, consistency, balance)
            network = torch.nn.Linear(FEATURES, CLASSES)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
            noise_optimizer = torch.optim.SGD(
                [{"params": criterion.u, "lr": lr_u}, {"params": criterion.v, "lr": lr_v}], lr=1, momentum=0
            )
            labels, inputs = (
                rng.integers(0, CLASSES, EXAMPLES),
                rng.normal(0, 3, (2, EXAMPLES, FEATURES)).astype("float32"),
            )
            arrays |= {
                f"labels_{position}": labels, f"inputs_{position}": inputs,
                f"first_u_{position}": criterion.u.detach().numpy().copy(),
                f"first_v_{position}": criterion.v.detach().numpy().copy(),
                f"first_weight_{position}": network.weight.detach().numpy().copy(),
                f"first_bias_{position}": network.bias.detach().numpy().copy(),
            }  # fmt: skip
            order, losses = np.stack([rng.permutation(EXAMPLES)[:BATCH] for _ in range(STEPS)]), []
            for index in order:
                views = torch.from_numpy(inputs)[:, index]
                target = functional.one_hot(torch.from_numpy(labels[index]), CLASSES).float()
                loss = criterion(index, network(torch.cat([*views]) if consistency else views[0]), target)
                noise_optimizer.zero_grad()
                optimizer.zero_grad()
                loss.backward()
                noise_optimizer.step()
                optimizer.step()
                losses.append(loss.item())
            arrays |= {
                f"index_{position}": order, f"loss_{position}": np.array(losses),
                f"u_{position}": criterion.u.detach().numpy(), f"v_{position}": criterion.v.detach().numpy(),
                f"weight_{position}": network.weight.detach().numpy(),
            }  # fmt: skip
    return arrays
