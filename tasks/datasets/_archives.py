"""NumPy archives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from noisybench.data.arrays import read_archive, read_array
from noisybench.errors import UserError
from noisybench.utils.file_listing import FileTree, Source
from noisybench.utils.places import expand_user, file_problem, shown


def array_files(path: Path) -> Source:
    """Return what `read_arrays` reads of a file or folder."""
    return FileTree(path, (".npy",)) if expand_user(path).is_dir() else path


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a `.npz` file, or of a folder of `.npy` files, by name; pickled objects are rejected.

    Raises:
        UserError: the file is missing or damaged.
    """
    problem = file_problem(path)
    if problem == "is a folder, not a file":
        return {file.stem: read_array(file, "dataset.path") for file in sorted(path.glob("*.npy"))}
    if problem == "file not found":
        raise UserError(f"dataset.path: {shown(path)}: file or folder not found")
    if problem is None and path.suffix == ".npy":
        raise UserError(
            f"dataset.path: {shown(path)} is one array; name the folder with the arrays of images and labels, or a .npz file"
        )
    return read_archive(path, "dataset.path")
