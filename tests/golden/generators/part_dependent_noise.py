"""Class probabilities of part-dependent noise from the authors' function."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

REFERENCE = "https://github.com/xiaoboxia/Part-dependent-label-noise"
COMMIT = "b682527702bd8abf3c099e16516e23b03f163f04"
COMPUTED = (
    "tools.get_instance_noisy_label: probabilities of the observed classes, with the projections and flip rates it drew"
)

RATE, SPREAD, CLASSES, PIXELS, EXAMPLES = 0.3, 0.1, 4, 12, 40


def generate(folder: Path) -> dict[str, Any]:
    """Return images, labels and flip rates, and the probabilities that the labels are drawn from."""
    spec = importlib.util.spec_from_file_location("part_dependent_tools", folder / "tools.py")
    assert spec is not None
    assert spec.loader is not None
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, 1, 3, 4), dtype=np.uint8)
    labels = torch.arange(EXAMPLES) % CLASSES
    data = [(torch.from_numpy(image).float() / 255, int(label)) for image, label in zip(images, labels, strict=True)]
    drawn: dict[str, Any] = {"probabilities": []}

    def keep(name: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            drawn[name] = function(*args, **options)
            return drawn[name]

        return call

    def choice(classes: Any, *args: Any, p: Any = None, **options: Any) -> Any:
        if p is None:
            return np.arange(EXAMPLES).repeat(1000 // EXAMPLES)
        drawn["probabilities"].append(p)
        return 0

    truncnorm = tools.stats.truncnorm

    def distribution(*args: Any, **options: Any) -> Any:
        frozen = truncnorm(*args, **options)
        return mock.Mock(rvs=keep("flip_rates", frozen.rvs))

    with (
        mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
        mock.patch.object(np.random, "choice", choice),
        mock.patch.object(np.random, "randn", keep("projections", np.random.randn)),
        mock.patch.object(tools.stats, "truncnorm", distribution),
    ):
        tools.get_instance_noisy_label(RATE, data, labels, CLASSES, PIXELS, SPREAD, seed=1)
    return {
        "images": images,
        "labels": labels.numpy(),
        "flip_rates": drawn["flip_rates"],
        "projections": drawn["projections"],
        "probabilities": np.array(drawn["probabilities"]),
    }
