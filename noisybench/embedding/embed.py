"""Compute the features of a dataset with a frozen backbone, and write them as a dataset of features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.backbones import ImageBackbone
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.targets import target_kind
from noisybench.errors import UserError
from noisybench.utils.files import cache_folder, replacing, wrap_cache_errors, wrap_write_errors
from noisybench.utils.progress import report_progress

DEVICES = ("auto", "cpu", "cuda")
"""Names of devices."""

CHUNK_SIZE = 1024
"""Number of images whose features are stored at once; an interrupted command repeats at most one chunk."""

BATCH_SIZE = 64
"""Number of images of a forward pass. Fixed, because features of other batches may differ in their last bits."""


def embed_images(images: NDArray[Any], backbone: ImageBackbone, device: torch.device, step: str) -> NDArray[np.float32]:
    """Return the (N, D) features of (N, C, H, W) uint8 images; those of an earlier call are read from the cache.

    Args:
        images: images with one or three channels, in memory or memory-mapped.
        backbone: backbone on the device.
        device: device of the computation.
        step: name of the step for the progress.

    Raises:
        UserError: the features are not finite, or the cache cannot be written.
    """
    digest, chunks = backbone.digest(), []
    for start in range(0, len(images), CHUNK_SIZE):
        report_progress(step, start, len(images))
        chunk = np.ascontiguousarray(images[start : start + CHUNK_SIZE])
        # By content, so that features of unchanged images are found wherever they are read.
        key = hashlib.sha256(
            f"{digest} {chunk.shape} {BATCH_SIZE} {device.type}".encode() + chunk.tobytes()
        ).hexdigest()
        path = cache_folder() / "features" / f"{key[:32]}.npy"
        features = _read_cached(path, len(chunk))
        if features is None:
            features = _encode(chunk, backbone, device)
            if not np.isfinite(features).all():
                raise UserError(
                    f"--backbone: features of the images {start} to {start + len(chunk) - 1} are not finite"
                )
            with wrap_cache_errors(), replacing(path) as partial, partial.open("wb") as file:
                np.save(file, features)
        chunks.append(features)
    report_progress(step, len(images), len(images))
    return np.concatenate(chunks)


@torch.inference_mode()
def _encode(images: NDArray[Any], backbone: ImageBackbone, device: torch.device) -> NDArray[np.float32]:
    batches = torch.split(torch.from_numpy(images), BATCH_SIZE)
    features: NDArray[np.float32] = torch.cat(
        [backbone.encode(each.to(device)).float().cpu() for each in batches]
    ).numpy()
    return features


def _read_cached(path: Path, rows: int) -> NDArray[np.float32] | None:
    """Return the features of an earlier call; None if there are none or their file is damaged."""
    try:
        features: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return features if features.dtype == np.float32 and features.ndim == 2 and len(features) == rows else None


def embed_dataset(source: DatasetSource, backbone: ImageBackbone, device: torch.device) -> dict[str, NDArray[Any]]:
    """Return the arrays of a dataset of features: all examples of a source in its order, with their labels and names.

    Splits that the source draws are not part of it: the dataset of features draws them, so that ``index`` columns of label
    tables refer to the same examples.

    Raises:
        UserError: the source has other inputs than images with one class each.
    """
    train, test, class_names = source.read()
    if target_kind(train.targets).dense or train.inputs.dtype != np.uint8:
        raise UserError("embed: features are computed of images with one class each; this dataset has other examples")
    backbone.module.to(device)
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(class_names, dtype=np.str_)}
    for prefix, title, split in (("train", "training", train), ("id", "test", test)):
        if split is not None:
            arrays |= _split_arrays(prefix, split)
            arrays[f"{prefix}_x"] = embed_images(split.inputs, backbone, device, f"embed the {title} images")
    return arrays


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
    """Write the arrays of a dataset of features to a `.npz` file.

    Raises:
        UserError: the file cannot be written.
    """
    with wrap_write_errors(path), replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
