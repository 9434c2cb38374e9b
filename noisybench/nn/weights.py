"""Weights of networks: loading from checkpoints of solo-learn, torchvision, timm or plain PyTorch, and their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from noisybench.errors import UserError

PREFIXES = (
    "",
    "0.",
    "module.",
    "backbone.",
    "encoder.",
    "model.",
    "module.backbone.",
    "module.encoder.",
    "model.backbone.",
    "features.",
)
"""Prefixes of the names of a backbone's weights in checkpoints; `0.` is the first network of a run of ours, and `features.` are
the layers of torchvision's classifiers without residual stages."""


def load_backbone_weights(
    path: Path, expected: dict[str, Tensor], parameter: str, network: str = "budget.network"
) -> dict[str, Tensor]:
    """Return all weights of a backbone from a checkpoint file.

    Args:
        path: file of a state dict, plain or under the key `state_dict` or `model`, with or without a usual prefix.
        expected: weights of the backbone by name; only their shapes are used.
        parameter: name of the parameter that holds the path, for messages.
        network: name of the parameter that holds the network, for messages.

    Raises:
        UserError: the file does not exist or cannot be read, or a weight is missing or has another shape.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {"module.weight": torch.ones(2)}}, Path(folder, "weights.pt"))
    ...     load_backbone_weights(Path(folder, "weights.pt"), {"weight": torch.zeros(2)}, "checkpoint")
    {'weight': tensor([1., 1.])}
    """
    if not path.is_file():
        raise UserError(f"{parameter}: the file {path} does not exist")
    try:
        # `weights_only` keeps a downloaded file from executing code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:160]
        raise UserError(f"{parameter}: {path} is not a readable file of PyTorch weights ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    weights = {name: tensor for name, tensor in items if isinstance(tensor, Tensor)}
    # Old checkpoints lack the counters of batch normalization, which are not used.
    needed = {name: tensor for name, tensor in expected.items() if not name.endswith("num_batches_tracked")}
    # On a tie `max` takes the first candidate, so that names without a prefix are preferred.
    prefix = max(PREFIXES, key=lambda candidate: sum(candidate + name in weights for name in needed))
    missing = [name for name in needed if prefix + name not in weights]
    differing = [
        f"{name} is {tuple(weights[prefix + name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in needed.items()
        if name not in missing and weights[prefix + name].shape != tensor.shape
    ]
    if missing or differing:
        raise UserError(
            f"{parameter}: {path} does not fit the network: {len(missing)} of {len(needed)} weights are missing"
            f"{_preview(missing)}, {len(differing)} have another shape{_preview(differing)}; the file has {len(weights)}"
            f"{_preview(list(weights))}. Choose the network that it was trained with (`{network}`)"
        )
    return {name: weights[prefix + name] for name in expected if prefix + name in weights}


def _preview(names: list[str]) -> str:
    """Return the first three names in parentheses."""
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def weights_digest(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of named weights.

    >>> weights_digest({"bias": torch.zeros(1)})[:8]
    '6a7cb0ad'
    """
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        # Viewed as bytes, because NumPy has no bfloat16.
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
