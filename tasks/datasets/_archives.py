"""NumPy archives."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.errors import UserError
from noisybench.utils.file_listing import FileTree, Source


def array_files(path: Path) -> Source:
    """Return what `read_arrays` reads of a file or folder."""
    return FileTree(path, (".npy",)) if path.expanduser().is_dir() else path


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a `.npz` file, or of a folder of `.npy` files, by name; pickled objects are rejected.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        # Unpickling can run code, and the files may come from anywhere.
        if path.is_dir():
            return {file.stem: np.load(file, allow_pickle=False) for file in sorted(path.glob("*.npy"))}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"dataset.path: {path}: file or folder not found") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(
            f"dataset.path: {path} is damaged or not a .npz archive of plain arrays ({error}); export it again"
        ) from None
