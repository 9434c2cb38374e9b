"""What the sets that torchvision downloads have in common."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import to_channels_first
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError

DAMAGED = (OSError, ValueError, KeyError, EOFError, AssertionError, pickle.UnpicklingError)
"""What torchvision's readers raise on files that are cut off or overwritten."""


class TorchvisionSource(DatasetSource):
    """A set that torchvision finds in `root` or downloads there, with its checksums."""

    root: Path = parameter("data", help="folder with the files in torchvision's layout")
    download: bool = parameter(True, help="fetch missing files, with their checksums")
    checksum: bool = parameter(True, help="hold present files against their MD5 sums; switch off for a set of your own")

    files: tuple[str, ...] = ()
    """Files below `root`, as the offline message names them."""

    def open(self, constructor: Callable[..., Any], **arguments: Any) -> Any:
        """Call a torchvision dataset's constructor, fetching its files where allowed.

        Raises:
            UserError: files are missing or damaged and cannot be fetched; says which file to put where.
        """
        root = self.root.expanduser()
        try:
            return constructor(root=root, download=False, **arguments)
        except RuntimeError as error:  # missing, or another checksum
            if not self.download:
                raise UserError(self._offline(root, str(error))) from None
        except DAMAGED as error:
            raise UserError(
                f"dataset: one of {', '.join(str(root / name) for name in self.files)} is damaged "
                f"({type(error).__name__}: {error}); delete it and fetch it again"
            ) from None
        try:
            return constructor(root=root, download=True, **arguments)
        except (RuntimeError, OSError) as error:
            raise UserError(self._offline(root, str(error))) from None

    def _offline(self, root: Path, reason: str) -> str:
        wanted = ", ".join(str(root / name) for name in self.files)
        return (
            f"dataset: the files are missing or damaged and could not be fetched ({reason.splitlines()[0]}). "
            f"Put them there yourself: {wanted}; or name their folder by dataset.root"
        )


def as_examples(images: Any, targets: Any) -> RawSplit:
    """Examples from torchvision's arrays: (N, H, W) or (N, H, W, C) uint8 images."""
    return RawSplit(to_channels_first(np.asarray(images, dtype=np.uint8)), np.asarray(targets, dtype=np.int64))
