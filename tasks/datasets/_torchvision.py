"""Base class of datasets that torchvision downloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.arrays import class_indices
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import to_channels_first
from noisybench.data.source import DatasetSource
from noisybench.errors import UserError
from noisybench.utils.file_listing import Source
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, expand_user


class TorchvisionSource(DatasetSource):
    """A dataset that torchvision finds in `root` or downloads there, with its checksums."""

    root: Path = parameter("data", help="Folder with the files in torchvision's layout")
    download: bool = parameter(
        True, help="Download missing files and verify their checksums", in_identity=False, access="download"
    )
    checksum: bool = parameter(
        True,
        help="Verify the MD5 checksums of existing files; disable it for files other than the published ones",
        in_identity=False,
        access="checksum",
    )

    files: tuple[str, ...] = ()
    """Files below `root` to download, for error messages."""
    local_files: tuple[str, ...] = ()
    """Files below `root` that are read; other files there do not count."""

    def data_files(self) -> Mapping[str, Source]:
        """Return the files that torchvision reads."""
        return {name: self.root / name for name in self.local_files}

    def fetch(self) -> None:
        """Download missing files with torchvision."""
        if self.download:
            self.read()

    def open(self, constructor: Callable[..., Any], **arguments: Any) -> Any:
        """Call the constructor of a torchvision dataset, and download its files if allowed.

        Raises:
            UserError: files are missing or damaged and cannot be downloaded.
        """
        root = expand_user(self.root)
        for name in self.local_files:
            # torchvision opens whatever has the name; a pipe would make it wait forever.
            if (root / name).exists() and not (root / name).is_file():
                check_file(root / name, "dataset.root")
        try:
            # Existing files first, so that machines without network access can use them.
            return constructor(root=root, download=False, **arguments)
        except RuntimeError as error:  # missing files, or another checksum
            if not self.download:
                raise self._missing_files(root, str(error)) from None
        except Exception as error:  # readers of pickles and binary files raise anything on damaged files
            raise self.damaged(type(error).__name__, first_line(error)) from None
        try:
            return constructor(root=root, download=True, **arguments)
        except (RuntimeError, OSError) as error:
            raise self._missing_files(root, str(error)) from None

    def damaged(self, kind: str, reason: str) -> UserError:
        """Return the error of files whose content cannot be read."""
        files = ", ".join(str(expand_user(self.root) / name) for name in self.files)
        return UserError(f"dataset: one of {files} is damaged ({kind}: {reason}); delete it and download it again")

    def _missing_files(self, root: Path, reason: str) -> UserError:
        files = ", ".join(str(root / name) for name in self.files)
        return UserError(
            f"dataset: files are missing or damaged and could not be downloaded ({reason.splitlines()[0]}). "
            f"Put them at {files}, or set dataset.root to their folder"
        )

    def to_raw_split(self, images: Any, targets: Any) -> RawSplit:
        """Return a split from torchvision's arrays: (N, H, W) or (N, H, W, C) uint8 images.

        Raises:
            UserError: the arrays have other shapes or types.
        """
        try:
            pixels = to_channels_first(np.asarray(images, dtype=np.uint8))
            return RawSplit(pixels, class_indices(np.asarray(targets), "dataset: the labels"))
        except (ValueError, TypeError) as error:
            raise self.damaged(type(error).__name__, first_line(error)) from None
