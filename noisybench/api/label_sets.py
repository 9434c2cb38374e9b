"""Publish label sets, and copy published ones to this machine."""

from __future__ import annotations

import os
from pathlib import Path

from noisybench.api.paths import read_path
from noisybench.errors import UserError, show
from noisybench.sharing import transfer
from noisybench.utils.places import path_text


def push_label_set(
    folder: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    license: str,
    source: str = "",
    citation: str = "",
    replace: bool = False,
) -> str:
    """Publish a label set with a card in a folder, at a URL, or on the Hugging Face Hub.

    Args:
        folder: folder of the label set, as `noisybench labels create` writes it.
        destination: folder, URL of any installed filesystem of fsspec such as ``s3://bucket/labels``, or
            ``hf://datasets/USER/NAME``.
        license: license of the labels by its name in SPDX, such as ``cc-by-4.0``; ``other`` or ``unknown`` must be said as
            well. It keeps the conditions of the labels that it is made from.
        source: where the labels come from, in words.
        citation: publication to cite.
        replace: whether another label set at the destination is replaced.

    Returns:
        Hash of the label set, by which `pull_label_set` recognizes it.

    Raises:
        UserError: the label set is damaged, the license is unknown or too permissive, or the destination has other files or
            cannot be reached.

    Example:
        >>> import tempfile
        >>> from noisybench.config.registry import get_entry
        >>> from noisybench.data.label_sets import label_files
        >>> from noisybench.api.datasets import load_dataset
        >>> dataset, base = load_dataset("digits", train_size=100), Path(tempfile.mkdtemp())
        >>> labels = get_entry("noise_models", "pair_flip").load_class()(rate=0.4).apply(dataset)
        >>> folder = label_files.save(labels, dataset, base / "labels")
        >>> push_label_set(folder, base / "shared", license="cc-by-4.0") == labels.hash
        True
        >>> sorted(path.name for path in (base / "shared").iterdir())
        ['README.md', 'files.json', 'labels.parquet', 'manifest.json']
    """
    if not isinstance(license, str):
        raise UserError(f"license: must be the name of a license, such as cc-by-4.0, but got {show(license)}")
    place = path_text(destination, "destination")
    return transfer.push(read_path(folder, "folder"), place, license, source, citation, replace).label_set


def pull_label_set(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    *,
    sha256: str | None = None,
    replace: bool = False,
    max_gb: float = transfer.MAX_GB,
) -> Path:
    """Copy a published label set to a folder of this machine, and verify every file.

    Nothing of it is executed or unpickled, and the folder appears only when everything is verified.

    Args:
        source: folder, URL such as ``https://example.org/labels``, or ``hf://datasets/USER/NAME``, also with ``@REVISION``.
        folder: folder to write; by default the last part of the address, in the working folder.
        sha256: hash of the expected label set, or its first 8 digits or more.
        replace: whether another label set in the folder is replaced.
        max_gb: largest size of all files together, in gigabytes.

    Returns:
        The folder, for the noise model `from_file`.

    Raises:
        UserError: there is no label set at the address, it is damaged, too large or not the expected one, the folder has other
            files, or the address cannot be reached.

    Example:
        >>> pull_label_set("labels-of-others")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels-of-others: no label set is published there (files.json is missing); ...
    """
    if not isinstance(sha256, str | None):
        raise UserError(f"sha256: must be hexadecimal digits as text, but got {show(sha256)}")
    target = None if folder is None else read_path(folder, "folder")
    return transfer.pull(path_text(source, "source"), target, sha256, replace, max_gb)
