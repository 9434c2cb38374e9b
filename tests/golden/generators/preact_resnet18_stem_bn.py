"""Scores of the authors' PreActResNet-18 with weights by formula."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.formulas import set_weights, waves
from tests.golden.reference import imports_from

REFERENCE = "https://github.com/LiJunnan1992/DivideMix"
COMMIT = "d9d3058fa69a952463b896f84730378cdee6ec39"
COMPUTED = "PreResNet.ResNet18: number of weights, and scores of a 3x32x32 image in training and in evaluation mode"


def generate(folder: Path) -> dict[str, Any]:
    """Return scores and the number of weights."""
    with imports_from(folder):
        network = importlib.import_module("PreResNet").ResNet18(num_classes=10)
    # The classifier has another name; sorted names give the weights their values.
    network.fc = network.linear
    del network.linear
    set_weights(network)
    network.linear = network.fc
    image = waves((1, 3, 32, 32), 1)
    with torch.no_grad():
        scores = {mode: network.train(mode == "train")(image).numpy() for mode in ("eval", "train")}
    return {**scores, "weights": np.array(sum(each.numel() for each in set(network.parameters())))}
