"""The folder of a run in the working directory: lock, checkpoint, and the record until it is uploaded."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from noisybench.errors import TrainingError
from noisybench.records.schema import RunRecord
from noisybench.utils.files import saved_bytes, write_atomically
from noisybench.utils.locks import exclusive

CHECKPOINT_FORMAT = 1
"""Raise this number when the content of checkpoints changes."""


class RunFolder:
    """Files of one run that outlive its process.

    Args:
        path: the folder; it is created when something is written.

    Attributes:
        checkpoint: file with everything that resuming needs, written after every epoch.
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
        """Id of the tracked run in the store, or None before the first attempt."""
        file = self.path / "run_id"
        return file.read_text() if file.is_file() else None

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        write_atomically(self.path / "run_id", run_id.encode())

    def save_checkpoint(self, content: dict[str, Any]) -> None:
        """Replace the checkpoint; an interruption leaves the old one or the new one."""
        write_atomically(self.checkpoint, saved_bytes({"format": CHECKPOINT_FORMAT, **content}))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the content of the checkpoint, on the CPU, or None if there is none.

        Raises:
            TrainingError: the checkpoint is damaged, or another version of noisybench has written it.
        """
        if not self.checkpoint.is_file():
            return None
        advice = f"delete {self.path} to train the run from the start"
        try:
            # Loaded on the CPU, so that a run can be resumed on a machine without the original device.
            content: dict[str, Any] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            # `torch.load` raises many types of exceptions for a damaged file.
            reason = str(error).splitlines()[0][:160]
            raise TrainingError(f"the checkpoint {self.checkpoint} cannot be read ({reason}); {advice}") from None
        if content.get("format") != CHECKPOINT_FORMAT:
            raise TrainingError(
                f"the checkpoint {self.checkpoint} was written by another version of noisybench; {advice}"
            )
        return content

    def pending_record(self) -> RunRecord | None:
        """Return the record of a finished run that the tracking store does not have yet, or None."""
        file = self.pending / "record.json"
        return RunRecord.from_dict(json.loads(file.read_text())) if file.is_file() else None

    def remove(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.path)
