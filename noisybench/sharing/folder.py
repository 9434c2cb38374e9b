"""A published label set in a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from noisybench.errors import UserError
from noisybench.sharing.addresses import copy_limited
from noisybench.utils.files import PARTIAL, sync_file, sync_folder, wrap_write_errors
from noisybench.utils.places import check_file, check_output_folder, shown


class FolderStore:
    """Files of a label set in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = shown(folder)
        self.default_name = folder.resolve().name

    def names(self) -> set[str] | None:
        """Return the names of everything in the folder."""
        if not os.path.lexists(self.folder):
            return set()
        if not self.folder.is_dir():
            raise UserError(f"{self.address}: is not a folder")
        return {entry.name for entry in self.folder.iterdir()}

    def read(self, name: str, target: Path, limit: int) -> None:
        """Copy a file to this machine's ``target``."""
        path = self.folder / name
        if not os.path.lexists(path):
            raise FileNotFoundError(path)
        with check_file(path).open("rb") as source:
            copy_limited(source, target, limit)

    def write(self, folder: Path, names: list[str], obsolete: list[str]) -> None:
        """Copy files into a new folder, which then takes the place of this one."""
        with new_folder(self.folder) as partial:
            for name in names:
                shutil.copyfile(folder / name, partial / name)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder`` that takes its place when the block has ended without an error.

    A crash leaves the old folder or the new one under this name, or neither for a moment, but never a mixture. What
    killed processes have left is deleted.

    Raises:
        UserError: it cannot be written.

    Example:
        >>> import tempfile
        >>> base = Path(tempfile.mkdtemp())
        >>> with new_folder(base / "labels") as partial:
        ...     _ = (partial / "labels.parquet").write_bytes(b"")
        >>> [path.name for path in base.iterdir()]
        ['labels']
    """
    # The target of a link is replaced, not the link.
    folder = Path(os.path.realpath(folder))
    check_output_folder(folder.parent)
    _remove_abandoned(folder)
    with wrap_write_errors(folder):
        partial = _new_name(folder)
        partial.mkdir()
        try:
            yield partial
            for path in partial.iterdir():
                sync_file(path)
            sync_folder(partial)
            _replace(folder, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync_folder(folder.parent)


def check_replaceable(folder: Path, known: Collection[str], location: str) -> None:
    """Refuse to replace a folder that has anything else than the files of a published label set.

    Raises:
        UserError: it has.
    """
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in known or entry.is_dir())
    if others:
        raise UserError(
            f"{shown(folder)} has other files ({shown(others[0])}), which --replace would delete; choose another "
            f"{location}"
        )


def _replace(folder: Path, partial: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    aside = _new_name(folder)
    aside.mkdir()
    folder.rename(aside / "old")
    try:
        partial.rename(folder)
    except BaseException:
        (aside / "old").rename(folder)
        raise
    finally:
        # The old files stay if they could not be moved back.
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _new_name(folder: Path) -> Path:
    """Return a hidden name beside a folder that no other process has."""
    return folder.with_name(f"{PARTIAL}{os.getpid()}.{folder.name}.{secrets.token_hex(4)}")


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed processes of this machine have left beside a folder."""
    import psutil

    name = re.compile(rf"{re.escape(PARTIAL)}(\d{{1,7}})\.{re.escape(folder.name)}\.[0-9a-f]{{8}}")
    for path in folder.parent.iterdir():
        match = name.fullmatch(path.name)
        if match and not psutil.pid_exists(int(match[1])) and path.is_dir():
            old = path / "old"
            # Killed between its two renames.
            if old.is_dir() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(path, ignore_errors=True)
