"""The folder of a run in the working directory: lock, checkpoint, and the record until it is uploaded."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from noisybench.records.schema import RunRecord
from noisybench.records.validation import parse_record
from noisybench.utils.files import first_line, saved_bytes, set_aside, write_atomically
from noisybench.utils.locks import exclusive

logger = logging.getLogger("noisybench")

CHECKPOINT_FORMAT = 1
"""Raise this number when the content of checkpoints changes."""


class DamagedCheckpoint(Exception):
    """The checkpoint of a run cannot be used; the run is trained from the start."""


class RunFolder:
    """Files of one run that outlive its process.

    Args:
        path: the folder; it is created when something is written.

    Attributes:
        checkpoint: file with everything that resuming needs.
        pending: folder with the files of a finished run, until the tracking store has them.

    Example:
        >>> import tempfile
        >>> folder = RunFolder(Path(tempfile.mkdtemp()))
        >>> folder.save_checkpoint({"epoch": 3})
        >>> folder.load_checkpoint()["epoch"]
        3
        >>> folder.run_id = "1234"
        >>> folder.run_id
        '1234'
    """

    def __init__(self, path: Path) -> None:
        self.path, self.checkpoint, self.pending = path, path / "checkpoint.ckpt", path / "pending"

    @contextlib.contextmanager
    def lock(self, stop: Callable[[], bool]) -> Iterator[bool]:
        """Wait until no other process trains this run, and hold the lock in the block.

        Yields:
            True, or False if ``stop`` returned True before the lock was free.
        """
        with exclusive(self.path / "lock", stop, poll_interval=0.5) as acquired:
            yield acquired

    @property
    def run_id(self) -> str | None:
        """Id of the tracked run in the store; None before the first attempt, or if the file is damaged."""
        try:
            run_id = (self.path / "run_id").read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        # Without it, the run is tracked as a new one, and only the rows of the earlier attempt are left behind.
        return run_id if re.fullmatch(r"[\w-]{1,64}", run_id) else None

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        write_atomically(self.path / "run_id", run_id.encode())

    @property
    def num_threads(self) -> int | None:
        """Number of threads with which the checkpoint was trained; None without a checkpoint."""
        try:
            number = (self.path / "num_threads").read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return int(number) if self.checkpoint.is_file() and re.fullmatch(r"[1-9]\d{0,3}", number) else None

    @num_threads.setter
    def num_threads(self, number: int) -> None:
        write_atomically(self.path / "num_threads", str(number).encode())

    def save_checkpoint(self, content: dict[str, Any]) -> None:
        """Replace the checkpoint; an interruption leaves the old one or the new one."""
        write_atomically(self.checkpoint, saved_bytes({"format": CHECKPOINT_FORMAT, **content}))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the content of the checkpoint, on the CPU, or None if there is none.

        Raises:
            DamagedCheckpoint: the file is damaged, or another version of noisybench has written it.
        """
        if not self.checkpoint.is_file():
            return None
        try:
            # Loaded on the CPU, so that a run can be resumed on a machine without the original device.
            content: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            found = content.get("format")
        except Exception as error:
            # `torch.load` raises many types of exceptions for a damaged file, some of them without a message.
            raise DamagedCheckpoint(first_line(error)) from error
        if found != CHECKPOINT_FORMAT:
            raise DamagedCheckpoint("another version of noisybench has written it")
        return content

    def set_aside_checkpoint(self, reason: str) -> None:
        """Rename a damaged checkpoint, and report that the run is trained from the start."""
        target = set_aside(self.checkpoint)
        if target is not None:
            logger.warning(
                "the checkpoint %s cannot be used (%s): the run is trained from the start, and the file is kept as %s",
                self.checkpoint, reason, target.name,
            )  # fmt: skip

    def pending_record(self) -> RunRecord | None:
        """Return the record of a finished run that the tracking store does not have yet, or None.

        A damaged record is set aside, so that the last epoch is evaluated again from the checkpoint.
        """
        file = self.pending / "record.json"
        if not file.is_file():
            return None
        try:
            return parse_record(file.read_bytes())
        except ValueError as error:
            target = set_aside(self.pending)
            logger.warning(
                "the record %s cannot be used (%s): it is written again, and its folder is kept as %s",
                file, error, target.name if target else None,
            )  # fmt: skip
            return None

    def remove(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.path)
