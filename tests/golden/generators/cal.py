"""Weights, corrected labels and mean losses of both phases of CAL in the authors' code."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from tests.golden.reference import imports_from, on_the_cpu

REFERENCE = "https://github.com/UCSC-REAL/CAL"
COMMIT = "bdb376bb0300616937c5369f24350617f495c61b"
COMPUTED = (
    "ExptPeerRegC10CAL.load_data and train_epoch with PeerRegModelCAL.update: weights of a linear network trained by SGD in "
    "batches of 16, with the schedules of alpha and of the learning rate, for 4 epochs of each loss"
)

COUNT, FEATURES, CLASSES, BATCH, EPOCHS, RATE = 60, 6, 5, 16, 4, 0.05
MILESTONES, DECAY_EPOCH = (1, 3, 6), 2
"""Start and end of the ramp of alpha, and the epoch that divides the learning rate by ten."""

WEIGHTS = {"crossentropy": (2.0, 2.0), "crossentropy_CAL": (1.0, 1.0)}
"""Weights of the regularizer after its ramp, by loss."""


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs, labels, batches, and the results of both phases."""
    rng = np.random.default_rng(0)
    centers = rng.normal(0, 2.5, (CLASSES, FEATURES))
    clean = rng.integers(0, CLASSES, COUNT)
    labels = np.where(rng.random(COUNT) < 0.3, rng.integers(0, CLASSES - 1, COUNT), clean)
    arrays: dict[str, Any] = {
        "inputs": (centers[clean] + rng.normal(0, 1, (COUNT, FEATURES))).astype("float32"),
        "labels": labels,
        "order": np.stack([rng.permutation(COUNT) for _ in range(2 * EPOCHS)]),
        # Trained before, so that some predictions are certain.
        "sieve_first": centers.astype("float32"),
        "cal_first": rng.normal(0, 0.1, (CLASSES, FEATURES)).astype("float32"),
    }
    distilled = labels
    # A module of old releases of PyTorch, which their download of CIFAR asks for the version of Python.
    old = {"torch._six": SimpleNamespace(PY3=True)}
    with imports_from(folder), on_the_cpu(), mock.patch.dict(sys.modules, old):
        for phase, (name, loss) in enumerate((("sieve", "crossentropy"), ("cal", "crossentropy_CAL"))):
            experiment = _experiment(arrays, distilled, loss, arrays[f"{name}_first"])
            weights = []
            experiment.model.set_lr_scheduler(-1)
            experiment.model.set_alpha_scheduler(-1)
            for epoch in range(EPOCHS):
                order = torch.from_numpy(arrays["order"][phase * EPOCHS + epoch])
                experiment.train_loader = _batches(arrays, order)
                experiment.train_epoch(epoch)
                experiment.model.alpha_scheduler_step()
                experiment.model.lr_scheduler_step()
                weights.append(experiment.model.network.weight.detach().numpy().copy())
            arrays[f"{name}_weights"] = np.stack(weights)
            if name == "sieve":
                distilled = arrays["corrected"] = experiment.model.distilled_label_new.astype("int64")
    return arrays | {"mean_loss": experiment.loss_mean_all.numpy()}


def _batches(arrays: dict[str, Any], order: torch.Tensor) -> list[Any]:
    inputs, labels = torch.from_numpy(arrays["inputs"]), torch.from_numpy(arrays["labels"])
    return [(inputs[rows], labels[rows], labels[rows], rows) for rows in order.split(BATCH)]


def _experiment(arrays: dict[str, Any], distilled: Any, loss: str, weight: Any) -> Any:
    """Return the authors' experiment with its data, labels and a linear network."""
    import models
    from experiments import ExptPeerRegC10CAL

    labels, corrected = torch.from_numpy(arrays["labels"]), torch.from_numpy(distilled)
    # As their dataset counts them.
    pairs = torch.zeros(CLASSES, CLASSES, COUNT)
    for row in range(CLASSES):
        for column in range(CLASSES):
            pairs[row, column] = ((corrected == row) & (labels == column)).float()
    prior = (np.bincount(arrays["labels"], minlength=CLASSES) / COUNT).tolist()

    class Data(list[Any]):
        def __init__(self, **_: Any) -> None:
            super().__init__(range(COUNT))
            self.noisy_prior, self.num_classes, self.T_mat = prior, CLASSES, pairs
            self.distilled_label, self.label, self.true_label_d = corrected, labels, labels
            self.distilled_weight = torch.ones(COUNT)

    experiment = ExptPeerRegC10CAL.__new__(ExptPeerRegC10CAL)
    experiment._outfile, experiment._device = io.StringIO(), torch.device("cpu")
    experiment.logger = SimpleNamespace(
        probe=None, log_path=None, display_acc_loss_batch=lambda **_: None, log_acc_loss=lambda **_: None
    )
    experiment.opt = SimpleNamespace(
        noise_label_fname="", with_noise=False, is_validate=False, sample_weight_path=None, beta_path=None, ratio_true=1,
        chosen_classes=list(range(CLASSES)), lossfunc=loss, batch_size=BATCH, num_workers=0, is_peerloss=True, peer_size=1,
        is_check_loss_dist=True, alpha=0.0, alpha_scheduler="seg", alpha_list=[0.0, *WEIGHTS[loss]],
        milestones=list(MILESTONES), lr_scheduler="step", lr_decay_step_size=DECAY_EPOCH, lr_decay_rate=0.1, num_classes=CLASSES,
    )  # fmt: skip
    experiment.confg_dataset = lambda: (Data, "", "", COUNT, None, None)
    experiment.load_data()
    experiment.loss_mean_all = torch.zeros(CLASSES, CLASSES)
    model = models.PeerRegModelCAL.__new__(models.PeerRegModelCAL)
    model.opt, model.num_classes, model._device = experiment.opt, CLASSES, experiment._device
    model.noisy_prior, model.softmax = experiment.noisy_prior, nn.Softmax(dim=-1)
    model.T_mat, model.P_y_distill = experiment.T_mat, experiment.P_y_distill
    model.network = nn.Linear(FEATURES, CLASSES, bias=False)
    model.network.weight.data = torch.from_numpy(weight).clone()
    model.optimizer = torch.optim.SGD(model.network.parameters(), lr=RATE)
    model.lossfunc = model.set_lossfunc(loss, experiment.opt)
    experiment.model = model
    return experiment
