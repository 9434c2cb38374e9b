"""Losses of T-Revision, and its three phases on a linear network in batches of one example."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.golden.reference import Batches, Replacing, definitions, on_the_cpu

REFERENCE = "https://github.com/xiaoboxia/T-Revision"
COMMIT = "b598cf2800b9909ba3b461f9f19b2847e941e1db"
COMPUTED = (
    "loss.reweight_loss and loss.reweighting_revision_loss of single examples with gradients; main.main with tools.fit: matrix "
    "and weights of a linear network after three phases in batches of one example"
)

CLASSES = (3, 10)
EXAMPLES = 12
FEATURES, TRAIN, VALIDATION, EPOCHS, MILESTONE = 4, 10, 7, 3, 2
"""Sizes of the trained example, whose second phase divides the learning rate by ten at the milestone."""
RATE, REVISION_RATE, DECAY = 0.2, 0.01, 1e-3


class Network(nn.Module):
    """A linear classifier with the parameter of the authors' networks that corrects the matrix."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, num_classes)
        self.T_revision = nn.Linear(num_classes, num_classes, False)

    def forward(self, inputs: torch.Tensor, revision: bool = True) -> Any:
        scores = self.linear(inputs)
        return (scores, self.T_revision.weight) if revision else scores


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of the losses and of the phases."""
    names = {"torch": torch, "nn": nn, "F": functional, "Variable": torch.autograd.Variable}
    losses = definitions(folder / "loss.py", names)
    arrays: dict[str, Any] = {}
    for count in CLASSES:
        rng = np.random.default_rng(count)
        logits = torch.from_numpy(rng.normal(0, 2, (EXAMPLES, count)).astype("float32"))
        labels = torch.from_numpy(rng.integers(0, count, EXAMPLES))
        matrix = torch.from_numpy((np.eye(count) + rng.dirichlet(np.ones(count), count)).astype("float32") / 2)
        correction = torch.from_numpy(rng.normal(0, 0.01, (count, count)).astype("float32"))
        for name in ("fixed", "revised"):
            scores, delta = logits.clone().requires_grad_(), correction.clone().requires_grad_()
            values = []
            for row in range(EXAMPLES):
                if name == "fixed":
                    values.append(losses["reweight_loss"]()(scores[[row]], matrix, labels[[row]]))
                else:
                    values.append(losses["reweighting_revision_loss"]()(scores[[row]], matrix, delta, labels[[row]]))
            torch.cat(values).mean().backward()
            arrays |= {
                f"{name}_{count}": torch.cat(values).detach().numpy(),
                f"{name}_gradient_{count}": scores.grad.numpy(),
            }
        arrays |= {
            f"logits_{count}": logits.numpy(), f"labels_{count}": labels.numpy(), f"matrix_{count}": matrix.numpy(),
            f"correction_{count}": correction.numpy(), f"revised_correction_gradient_{count}": delta.grad.numpy(),
        }  # fmt: skip
    return arrays | _phases(folder, losses)


def _phases(folder: Path, losses: dict[str, Any]) -> dict[str, Any]:
    """Return the results of all phases of the authors' training loop."""
    rng, count = np.random.default_rng(0), CLASSES[0]
    torch.manual_seed(0)
    model = Network(count)
    arrays = {
        "first_weight": model.linear.weight.detach().numpy().copy(),
        "first_bias": model.linear.bias.detach().numpy().copy(),
    }
    splits = {}
    for name, size in (("train", TRAIN), ("validation", VALIDATION)):
        labels = rng.integers(0, count, size)
        inputs = rng.normal(0, 1, (size, FEATURES)).astype("float32") + 1.5 * np.eye(FEATURES, dtype="float32")[labels]
        arrays |= {f"{name}_inputs": inputs, f"{name}_labels": labels}
        splits[name] = Batches(
            (torch.from_numpy(inputs[[row]]), torch.from_numpy(labels[[row]])) for row in range(size)
        )
    parameters = list(model.parameters())
    optimizers = {
        "optimizer_es": torch.optim.SGD(parameters, lr=RATE, weight_decay=DECAY),
        "optimizer": torch.optim.SGD(parameters, lr=RATE, weight_decay=DECAY, momentum=0.9),
        "optimizer_revision": torch.optim.Adam(parameters, lr=REVISION_RATE, weight_decay=DECAY),
    }
    saved: dict[str, Any] = {}
    numpy = Replacing(np, save=lambda path, array: saved.update({Path(path).name: np.array(array)}))
    # They write into folders of the working folder.
    numpy.load = lambda path: saved[Path(path).name]
    tools = SimpleNamespace(**definitions(folder / "tools.py", {"np": np}))
    with tempfile.TemporaryDirectory() as files, on_the_cpu():
        names: dict[str, Any] = {
            "torch": torch, "nn": nn, "F": functional, "np": numpy, "tools": tools, "model": model, **optimizers,
            # Their schedule steps before each epoch.
            "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizers["optimizer"], [MILESTONE + 1], gamma=0.1),
            "args": SimpleNamespace(
                n_epoch=EPOCHS, n_epoch_estimate=EPOCHS, n_epoch_revision=EPOCHS, batch_size=1, num_classes=count,
                noise_rate=0.2,
            ),
            "A": torch.zeros(EPOCHS, TRAIN, count), "index_num": TRAIN, "val_acc_list": [], "estimate_state": False,
            "train_data": range(TRAIN), "val_data": range(VALIDATION), "test_data": range(VALIDATION),
            "train_loader": splits["train"], "estimate_loader": splits["train"], "val_loader": splits["validation"],
            "test_loader": splits["validation"], "loss_func_ce": nn.CrossEntropyLoss(),
            "loss_func_reweight": losses["reweight_loss"](), "loss_func_revision": losses["reweighting_revision_loss"](),
            "model_save_dir": files, "prob_save_dir": files, "matrix_save_dir": files,
        }  # fmt: skip
        definitions(folder / "main.py", names)["main"]()
        assert len(os.listdir(files)) == 2 * EPOCHS
    return arrays | {
        "weight": model.linear.weight.detach().numpy(), "bias": model.linear.bias.detach().numpy(),
        "matrix": saved["transition_matrix.npy"].astype("float32"),
        "correction": model.T_revision.weight.detach().numpy(),
    }  # fmt: skip
