"""The checkpoints of contrastive pre-training that LSA's authors publish fit the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.nn.features import backbone_weights
from noisybench.nn.weights import load_backbone_weights
from tests.golden.vectors import load_golden


def checkpoint(folder: Path) -> Path:
    """Write a file with the names and shapes of the authors' files, in the layout of solo-learn."""
    golden = load_golden("lsa_checkpoint")
    weights = {
        # One number each, so that the file is small.
        f"backbone.{name}": torch.tensor(float(number)).expand([size for size in shape if size])
        for number, (name, shape) in enumerate(zip(golden["names"], golden["shapes"].tolist(), strict=True))
    }
    heads = {"classifier.weight": torch.zeros(100, 512), "projector.0.weight": torch.zeros(2048, 512)}
    torch.save({"epoch": 999, "state_dict": {**weights, **heads}}, folder / "simclr-cnwl-0.4.ckpt")
    return folder / "simclr-cnwl-0.4.ckpt"


def test_every_weight_of_the_backbone_is_taken_from_the_authors_file(tmp_path: Path) -> None:
    golden = load_golden("lsa_checkpoint")
    network = build_network("preact_resnet18_stem_bn", 100, 3)
    assert list(network.state_dict()) == golden["network_names"].tolist()
    assert sum(weight.numel() for weight in network.parameters()) == int(golden["network_weights"])
    loaded = load_backbone_weights(checkpoint(tmp_path), backbone_weights(network), "checkpoint")
    assert set(loaded) == set(backbone_weights(network))
    numbers = {str(name): number for number, name in enumerate(golden["names"])}
    assert {name: float(weight.flatten()[0]) for name, weight in loaded.items() if weight.dim()} == {
        name: float(numbers[name]) for name, weight in loaded.items() if weight.dim()
    }


def test_the_network_of_he_et_al_refuses_the_authors_file(tmp_path: Path) -> None:
    network = build_network("preact_resnet18", 100, 3)
    with pytest.raises(UserError, match="does not fit the network"):
        load_backbone_weights(checkpoint(tmp_path), backbone_weights(network), "checkpoint")
