"""Layout of the checkpoints of contrastive pre-training that LSA's authors publish."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/PaulAlbert31/LSA"
COMMIT = "1b2ca0cd3a4209da170b8c3fc24e9625a47e209a"
COMPUTED = (
    "nets.preresnet_solo.preactresnet18, the backbone that solo-learn trains: names and shapes of its weights; "
    "nets.preresnet.PreActResNet18, into which trainers.get_model loads them: names and number of its weights"
)


def generate(folder: Path) -> dict[str, Any]:
    """Return names and shapes."""
    with imports_from(folder):
        pretrained = importlib.import_module("nets.preresnet_solo").preactresnet18().state_dict()
        network = importlib.import_module("nets.preresnet").PreActResNet18(100)
    return {
        "names": np.array(list(pretrained)),
        "shapes": np.array([[*weight.shape, *[0] * (4 - weight.dim())] for weight in pretrained.values()]),
        "network_names": np.array(list(network.state_dict())),
        "network_weights": np.array(sum(weight.numel() for weight in network.parameters())),
    }
