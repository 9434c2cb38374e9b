"""Compute the features of a dataset with a frozen backbone, and write them as a dataset of features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.backbones import BATCH_SIZE, Backbone
from noisybench.data.dataset import RawSplit
from noisybench.data.parquet.features import write_feature_table
from noisybench.data.source import DatasetSource
from noisybench.data.targets import target_kind
from noisybench.data.texts import content_bytes, is_text
from noisybench.errors import UserError
from noisybench.utils.allocator import keep_freed_memory
from noisybench.utils.files import cache_folder, replacing, wrap_cache_errors, wrap_write_errors
from noisybench.utils.progress import report_progress

HINTS = {
    "images": "name one for images, such as efficientnet_lite0 (`noisybench list backbones`)",
    "texts": "name one for texts, such as minilm (`noisybench list backbones`)",
}
"""Ends of messages about a backbone for other inputs."""

DEVICES = ("auto", "cpu", "cuda")
"""Names of devices."""

CHUNK_SIZE = 1024
"""Number of examples whose features are stored at once; an interrupted command repeats at most one chunk."""

SUFFIXES = (".npz", ".parquet")
"""Suffixes of files of features."""


def embed_inputs(inputs: NDArray[Any], backbone: Backbone, device: torch.device, step: str) -> NDArray[np.float32]:
    """Return the (N, D) features of inputs; those of an earlier call are read from the cache.

    Args:
        inputs: (N, C, H, W) uint8 images with one or three channels, in memory or memory-mapped, or (N, 1, 1, 1) texts.
        backbone: backbone on the device, for inputs of this kind.
        device: device of the computation.
        step: name of the step for the progress.

    Raises:
        UserError: the features are not finite, or the cache cannot be written.
    """
    # Without it, the system clears the activations of every batch again: a third of the time on a CPU.
    keep_freed_memory()
    digest, chunks = backbone.digest(), []
    for start in range(0, len(inputs), CHUNK_SIZE):
        report_progress(step, start, len(inputs))
        chunk = np.ascontiguousarray(inputs[start : start + CHUNK_SIZE])
        # By content, so that features of unchanged inputs are found wherever they are read.
        key = hashlib.sha256(
            f"{digest} {chunk.shape} {BATCH_SIZE} {device.type}".encode() + content_bytes(chunk)
        ).hexdigest()
        path = cache_folder() / "features" / f"{key[:32]}.npy"
        features = _read_cached(path, len(chunk))
        if features is None:
            features = _encode(chunk, backbone, device)
            _check_finite(features, start)
            with wrap_cache_errors(), replacing(path) as partial, partial.open("wb") as file:
                np.save(file, features)
        chunks.append(features)
    report_progress(step, len(inputs), len(inputs))
    return np.concatenate(chunks)


@torch.inference_mode()
def _encode(inputs: NDArray[Any], backbone: Backbone, device: torch.device) -> NDArray[np.float32]:
    features: NDArray[np.float32] = backbone.encode_all(inputs, device).numpy()
    return features


def _check_finite(features: NDArray[np.float32], start: int) -> None:
    """Refuse features that are not finite, which would turn all weights of a classifier into NaN."""
    rows = np.flatnonzero(~np.isfinite(features).all(1))
    if len(rows):
        raise UserError(
            f"--backbone: features of {len(rows)} examples are not finite, the first one that of example {start + rows[0]}; "
            "its weights may be damaged"
        )


def _read_cached(path: Path, rows: int) -> NDArray[np.float32] | None:
    """Return the features of an earlier call; None if there are none or their file is damaged."""
    try:
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return features if features.dtype == np.float32 and features.ndim == 2 and len(features) == rows else None


def embed_dataset(source: DatasetSource, backbone: Backbone, device: torch.device) -> dict[str, NDArray[Any]]:
    """Return the arrays of a dataset of features: all examples of a source in its order, with their labels and names.

    Splits that the source draws are not part of it: the dataset of features draws them, so that ``index`` columns of label
    tables refer to the same examples.

    Raises:
        UserError: the source has other inputs than the backbone reads, or more than one class for an example.
    """
    train, test, class_names = source.read()
    kind = _input_kind(train)
    if kind != backbone.reads:
        raise UserError(f"--backbone: it reads {backbone.reads}, but the dataset holds {kind}; {HINTS[kind]}")
    adapted = backbone.adapted(train.inputs)
    adapted.module.to(device)
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(class_names, dtype=np.str_)}
    for prefix, title, split in (("train", "training", train), ("id", "test", test)):
        if split is not None:
            arrays |= _split_arrays(prefix, split)
            arrays[f"{prefix}_x"] = embed_inputs(split.inputs, adapted, device, f"embed the {title} {kind}")
    return arrays


def _input_kind(split: RawSplit) -> Literal["images", "texts"]:
    """Return the kind of the inputs.

    Raises:
        UserError: they have no features, or have them already.
    """
    if target_kind(split.targets).dense:
        raise UserError(
            "embed: features are computed of images or texts with one class each; this dataset has other examples"
        )
    if is_text(split.inputs):
        return "texts"
    if split.inputs.dtype != np.uint8:
        raise UserError("embed: the dataset holds features already; train on them with dataset=features")
    return "images"


def _split_arrays(prefix: str, split: RawSplit) -> dict[str, NDArray[Any]]:
    """Return labels, names and what else belongs to the examples of a split."""
    arrays: dict[str, NDArray[Any]] = {f"{prefix}_y": split.targets.astype(np.int64)}
    optional = {
        "noisy_y": split.noisy_targets,
        "names": np.array(split.names, dtype=np.str_) if split.names else None,
        "groups": split.groups,
        "is_validation": split.validation_mask,
    }
    return arrays | {f"{prefix}_{name}": values for name, values in optional.items() if values is not None}


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU if there is one.

    Raises:
        UserError: the name is none of ``auto``, ``cpu`` and ``cuda``, or there is no GPU.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name not in DEVICES:
        raise UserError(f"--device: must be {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, but got `{name}`")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise UserError("--device: no GPU is available; use --device auto or --device cpu")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def save_features(arrays: dict[str, NDArray[Any]], path: Path) -> None:
    """Write the arrays of a dataset of features to a `.npz` or `.parquet` file.

    Raises:
        UserError: the file cannot be written.
    """
    if path.suffix == ".parquet":
        write_feature_table(arrays, path)
        return
    with wrap_write_errors(path), replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
