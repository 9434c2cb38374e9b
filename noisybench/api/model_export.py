"""Models for other programs: ONNX, `torch.export`, and folders of transformers and peft."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.runs.saved_model import ModelDescription
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.utils.files import first_line, replacing
from noisybench.utils.places import check_output_file

SUFFIXES = (".onnx", ".pt2")
"""Suffixes of exported files: ONNX, and programs of `torch.export`."""

ADAPTER_PREFIX = "base_model.model."
"""Beginning of the names of weights in adapter files of peft."""


class DeployedNetwork(nn.Module):
    """The deployed prediction as one module: raw inputs in the size of the training to class probabilities.

    Args:
        networks: deployed networks.
        mean: mean of each channel, (C, 1, 1).
        scale: reciprocal of the standard deviation of each channel, (C, 1, 1).
        stack: stack that combines the scores of several networks.
        size: height and width of masks; None for classes.

    Example:
        >>> deployed = DeployedNetwork(
        ...     nn.ModuleList([nn.Flatten()]), torch.zeros(1, 1, 1), torch.ones(1, 1, 1), Stack([]), None)
        >>> deployed(torch.zeros(3, 1, 1, 2, dtype=torch.uint8)).tolist()[0]
        [0.5, 0.5]
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, networks: nn.ModuleList, mean: Tensor, scale: Tensor, stack: Stack, size: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        self.networks, self._stack, self._size = networks, stack, size
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (N, C) or (N, C, H, W) probabilities of (N, C, H, W) uint8 images or (N, D) features."""
        values = inputs if inputs.is_floating_point() else (inputs.float() - self.mean) * self.scale
        scores = [network(values) for network in self.networks]
        if self._size is not None and scores[0].shape[2:] != self._size:
            scores = [
                nn.functional.interpolate(maps, size=self._size, mode="bilinear", align_corners=True) for maps in scores
            ]
        return self._stack.combine(scores)


def check_export_file(path: Path) -> None:
    """Check, before any work, that a model can be exported to a file.

    Raises:
        UserError: the suffix is none of `SUFFIXES`, a package is missing, or the file cannot be written.

    Example:
        >>> check_export_file(Path("model.bin"))
        Traceback (most recent call last):
        noisybench.errors.UserError: export: `model.bin` must end in .onnx (ONNX) or .pt2 (torch.export)
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"export: `{path}` must end in .onnx (ONNX) or .pt2 (torch.export)")
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise UserError(
            f"export: {' and '.join(missing)} not installed; run `python -m pip install 'noisybench[onnx]'`"
        )
    check_output_file(path, SUFFIXES)


def export_model(task: Task, description: ModelDescription, path: Path) -> Path:
    """Write a model as ONNX or as a program of `torch.export`, and return the file.

    Args:
        task: task of the model.
        description: its description.
        path: file that ends in ``.onnx`` or ``.pt2``.

    Raises:
        UserError: the suffix is another one, the model writes texts, a package is missing, or the network cannot be exported.
    """
    if description.outputs == "texts":
        raise UserError("export: the model writes texts token by token; use save_pretrained for language models")
    check_export_file(path)
    size = description.target_shape or None
    buffers: Any = task
    # A copy, whose weights need no gradients and do not change with those of the model.
    networks = copy.deepcopy(task.networks).requires_grad_(False)
    module = DeployedNetwork(networks, buffers.mean.clone(), buffers.scale.clone(), task.stack, size).eval()
    if description.inputs == "images":
        example = torch.zeros(2, *description.input_shape, dtype=torch.uint8, device=task.device)
    else:
        example = torch.zeros(2, description.input_shape[0], device=task.device)
    try:
        with torch.no_grad():
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
            with replacing(path) as partial:
                if path.suffix == ".pt2":
                    with partial.open("wb") as file:
                        torch.export.save(program, file)
                else:
                    _write_onnx(program, example, description, partial)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    except Exception as error:  # exporters raise anything on operations that they do not know
        raise UserError(
            f"export: the network `{description.budget['network']}` cannot be exported ({first_line(error)[:200]}); use "
            "model.network, the torch module itself"
        ) from error
    return path


def _write_onnx(program: Any, example: Tensor, description: ModelDescription, path: Path) -> None:
    exported: Any = torch.onnx.export(
        program,
        (example,),
        dynamo=True,
        verbose=False,
        input_names=[description.inputs],
        output_names=["probabilities"],
        external_data=False,
    )
    exported.model.metadata_props["class_names"] = json.dumps(list(description.class_names), ensure_ascii=False)
    exported.save(os.fspath(path), external_data=False)


def save_pretrained(task: Task, description: ModelDescription, folder: Path) -> Path:
    """Write a language model as a folder of transformers, or its low-rank updates as one of peft, and return the folder.

    Args:
        task: task of the model.
        description: its description.
        folder: new or empty folder.

    Raises:
        UserError: the network is no model of transformers, or the folder is in use.
    """
    network: Any = task.networks[0]
    name = description.budget["network"]
    if not hasattr(network, "tokenizer"):
        reason = (
            "decoder networks have a bias in their output layer and count positions from the start of the widest prompt, "
            "which no architecture of transformers does"
            if description.outputs == "texts"
            else "only language models are folders of transformers"
        )
        raise UserError(f"save_pretrained: `{name}` cannot be loaded by transformers: {reason}; use model.save(folder)")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; choose a new folder")
    model = network.model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        network.tokenizer.save_pretrained(folder)
        if any("lora_" in key for key, _ in model.named_parameters()):
            _save_adapter(model, name.partition(":")[2], folder)
        else:
            model.save_pretrained(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return folder


def _save_adapter(model: Any, base: str, folder: Path) -> None:
    """Write the low-rank updates in a language model and their configuration.

    Args:
        model: model of transformers with updates that were inserted in place.
        base: folder or name of the model without them.
        folder: existing folder.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config = next(iter(model.peft_config.values()))
    config.base_model_name_or_path, config.task_type, config.inference_mode = base, "CAUSAL_LM", True
    config.save_pretrained(folder)
    # The embeddings belong to the model that was tuned; by default, peft would look for its files to compare them.
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    named = {ADAPTER_PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
