"""Folders of unfinished runs and the results of auxiliary runs in a working folder, as items of an export."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from noisybench.records.validation import parse_record
from noisybench.tracking.bundle import Draft, Item
from noisybench.utils.files import DAMAGED, PARTIAL, first_line, write_atomically
from noisybench.utils.locks import exclusive

RUNS, AUXILIARY = "runs", "auxiliary"
"""Folders of the workspace."""

CHECKPOINT, RUN_ID, NUM_THREADS, RECORD = "checkpoint.ckpt", "run_id", "num_threads", "pending/record.json"
"""Files of the folder of a run."""

AUXILIARY_NAME = re.compile(r"[0-9a-f]{8,64}\.(pt|ckpt)")
"""Names of results and of checkpoints of auxiliary runs."""

Read = Callable[[str], bytes]
"""Returns the content of a file of an item by its path."""


@contextlib.contextmanager
def held_folders(workspace: Path, notes: list[str]) -> Iterator[list[Path]]:
    """Yield the folders of interrupted runs, and hold their locks in the block.

    Args:
        workspace: folder with `runs`.
        notes: receives one line for each run that is being trained.
    """
    with contextlib.ExitStack() as stack:
        folders = []
        for folder in sorted((workspace / RUNS).glob("*/")):
            if not (folder / CHECKPOINT).is_file() and not (folder / RECORD).is_file():
                continue
            if stack.enter_context(exclusive(folder / "lock", lambda: True)):
                folders.append(folder)
            else:
                notes.append(f"run {folder.name} is being trained; stop it to export its checkpoint")
        yield folders


def folder_draft(folder: Path, title: str) -> Draft:
    """Return the item of the folder of a run."""
    names = (CHECKPOINT, RUN_ID, NUM_THREADS)
    files: dict[str, Path | bytes] = {name: folder / name for name in names if (folder / name).is_file()}
    if (folder / RECORD).is_file():
        pending = (folder / RECORD).parent
        files |= {path.relative_to(folder).as_posix(): path for path in sorted(pending.rglob("*")) if path.is_file()}
    return Draft("checkpoint", folder.name, title, files)


def auxiliary_drafts(workspace: Path, notes: list[str]) -> Iterator[Draft]:
    """Yield an item for each result of an auxiliary run, and for each checkpoint of an interrupted one."""
    for path in sorted((workspace / AUXILIARY).glob("*")):
        if not AUXILIARY_NAME.fullmatch(path.name) or PARTIAL in path.name or DAMAGED in path.name:
            continue
        with exclusive(path.with_suffix(".lock"), lambda: True) as acquired:
            if acquired:
                # Read here, since a checkpoint is replaced after every epoch once the lock is released.
                content: Path | bytes = path if path.suffix == ".pt" else path.read_bytes()
                yield Draft("auxiliary", path.name, f"auxiliary run {path.stem}", {path.name: content})
            else:
                notes.append(f"auxiliary run {path.stem} is being trained; stop it to export its checkpoint")


def check_folder(item: Item, read: Read) -> int:
    """Check the files of a folder of a run, and return the number of trained epochs of its checkpoint; 0 without one.

    Raises:
        ValueError: a file is not what its name says.
    """
    for path in item.files:
        if path not in (CHECKPOINT, RUN_ID, NUM_THREADS) and not path.startswith("pending/"):
            raise ValueError(f"unexpected file {path}")
    if RUN_ID in item.files and not re.fullmatch(r"[\w-]{1,64}", read(RUN_ID).decode("ascii", "replace").strip()):
        raise ValueError(f"{RUN_ID} holds no id")
    if NUM_THREADS in item.files and not re.fullmatch(rb"[1-9]\d{0,3}", read(NUM_THREADS).strip()):
        raise ValueError(f"{NUM_THREADS} holds no number of threads")
    if RECORD in item.files and parse_record(read(RECORD)).identity != item.id:
        raise ValueError(f"{RECORD} belongs to another run")
    return _epochs(read(CHECKPOINT), "trained_epochs") if CHECKPOINT in item.files else 0


def check_auxiliary(item: Item, read: Read) -> int:
    """Check the file of an auxiliary run, and return the number of epochs of a checkpoint; 0 for a result.

    Raises:
        ValueError: it is not what its name says.
    """
    if list(item.files) != [item.id] or not AUXILIARY_NAME.fullmatch(item.id):
        raise ValueError(f"unexpected file {next(iter(item.files))}")
    content = _load(read(item.id))
    if item.id.endswith(".ckpt"):
        return _epochs(read(item.id), "epoch")
    if not isinstance(content.get("result"), dict) or not isinstance(content.get("cost"), dict):
        raise ValueError("it lacks a result or its cost")
    return 0


def add_folder(item: Item, read: Read, workspace: Path, run_id: str | None, epochs: int) -> bool | None:
    """Add the folder of an unfinished run to a workspace, unless the run has been trained as far there.

    Args:
        item: a checked item.
        read: returns its files.
        workspace: folder with `runs`.
        run_id: id of the run in the store; None if it is not tracked.
        epochs: number of trained epochs of the checkpoint.

    Returns:
        True if the folder was written, False if nothing had to be added, None if the run is being trained here.
    """
    folder = workspace / RUNS / item.id
    with exclusive(folder / "lock", lambda: True) as acquired:
        if not acquired:
            return None
        if (folder / RECORD).is_file():
            return False
        if RECORD not in item.files and _file_epochs(folder / CHECKPOINT, "trained_epochs") >= epochs:
            return False
        if run_id is not None:
            write_atomically(folder / RUN_ID, run_id.encode())
        # The number of threads precedes the checkpoint, which is resumed with it. The record comes last, because it marks its
        # folder as complete.
        for path in sorted(item.files, key=lambda path: (path == RECORD, path != NUM_THREADS, path)):
            if path != RUN_ID:
                write_atomically(folder / path, read(path))
    return True


def add_auxiliary(item: Item, read: Read, workspace: Path, epochs: int) -> bool | None:
    """Add a file of an auxiliary run to a workspace; see `add_folder`."""
    path = workspace / AUXILIARY / item.id
    with exclusive(path.with_suffix(".lock"), lambda: True) as acquired:
        if not acquired:
            return None
        if path.with_suffix(".pt").is_file() or (path.is_file() and _file_epochs(path, "epoch") >= epochs):
            return False
        write_atomically(path, read(item.id))
    return True


def is_training(workspace: Path, identity: str) -> bool:
    """Return True if a process of this machine trains the run."""
    lock = workspace / RUNS / identity / "lock"
    if not lock.is_file():
        return False
    with exclusive(lock, lambda: True) as acquired:
        return not acquired


def _file_epochs(path: Path, name: str) -> int:
    """Return the number of trained epochs of a checkpoint; -1 without a checkpoint that can be read."""
    try:
        return _epochs(path.read_bytes(), name)
    except (OSError, ValueError):
        return -1


def _epochs(data: bytes, name: str) -> int:
    epochs = _load(data).get(name)
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 0:
        raise ValueError(f"the checkpoint lacks {name}")
    return epochs


def _load(data: bytes) -> dict[str, Any]:
    """Return the mapping that `torch.save` has written, without any object that would execute code.

    Raises:
        ValueError: it is none.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats of files that are refused below
            content: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # `torch.load` raises many types of exceptions for a damaged file
        raise ValueError(first_line(error)) from None
    if not isinstance(content, dict):
        raise ValueError("it holds no mapping")
    return content
