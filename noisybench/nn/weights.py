"""Weights of networks: from files of torch (solo-learn, torchvision, timm, or a plain state dict), and their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from noisybench.errors import UserError

PREFIXES = ("", "module.", "backbone.", "encoder.", "model.", "module.backbone.", "module.encoder.", "model.backbone.")
"""What checkpoints put before the names of a backbone's weights."""


def matching_weights(path: Path, wanted: dict[str, Tensor], place: str) -> dict[str, Tensor]:
    """All weights of a backbone from a checkpoint file.

    Args:
        path: a file of torch: a state dict, plain or as `state_dict` or `model` inside, with or without a usual prefix.
        wanted: the backbone's weights by name; only their shapes count.
        place: the parameter that names the file, for messages.

    Raises:
        UserError: the file is missing or unreadable, or a weight is not in it with its shape; names some.
    """
    if not path.is_file():
        raise UserError(f"{place}: {path}: there is no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:160]
        raise UserError(f"{place}: {path} is not a readable file of torch weights ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    found = (
        {name: each for name, each in content.items() if isinstance(each, Tensor)} if isinstance(content, dict) else {}
    )
    # Old checkpoints lack the counters of batch normalisation; nothing reads them.
    needed = {name: each for name, each in wanted.items() if not name.endswith("num_batches_tracked")}
    prefix = max(PREFIXES, key=lambda each: sum(each + name in found for name in needed))
    missing = [name for name in needed if prefix + name not in found]
    differing = [
        f"{name} is {tuple(found[prefix + name].shape)}, not {tuple(each.shape)}"
        for name, each in needed.items()
        if name not in missing and found[prefix + name].shape != each.shape
    ]
    if missing or differing:
        raise UserError(
            f"{place}: {path} does not fit the network: {len(missing)} of {len(needed)} weights are missing"
            f"{_some(missing)}, {len(differing)} have another shape{_some(differing)}; it holds {len(found)}"
            f"{_some(list(found))}. Choose the network that it was trained with (`budget.network`)"
        )
    return {name: found[prefix + name] for name in wanted if prefix + name in found}


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def weights_digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 over named weights."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
