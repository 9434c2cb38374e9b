"""Auxiliary runs: training that a mitigation needs before the run itself, such as contrastive pre-training.

An auxiliary run has an identity of its own. It is trained once, kept below the working folder, and taken up again where
it was interrupted; but what it took is charged in full to every run that uses it, for that is what the method costs.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from noisybench.errors import Interrupted, TrainingError
from noisybench.utils.files import saved_bytes, write_atomically
from noisybench.utils.locks import exclusive

FORMAT = 1
"""Raised when the same auxiliary run would come to train differently."""


class AuxiliaryRun(abc.ABC):
    """Contract of an auxiliary run: epochs, a state to go on from, and a result.

    Attributes:
        title: one line for people.
        cache_key: JSON-like data that decides the result; equal meanings are trained once.
        epochs: how many there are.
        examples: how many are seen in one epoch.
        device: where it trains.
    """

    title: str
    cache_key: dict[str, Any]
    epochs: int
    examples: int
    device: torch.device

    @abc.abstractmethod
    def train_epoch(self, epoch: int) -> float:
        """Train one epoch, with random numbers that depend on its number alone. Returns the mean loss."""

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""

    @abc.abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""

    @abc.abstractmethod
    def result(self) -> dict[str, Tensor]:
        """What it was trained for."""

    @property
    def identity(self) -> str:
        """Hash of what is trained."""
        text = json.dumps({"format": FORMAT, **self.cache_key}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclasses.dataclass
class AuxiliaryCost:
    """What an auxiliary run took, wherever and whenever it was trained.

    Attributes:
        identity: of the auxiliary run.
        title: of it.
        wall_seconds: from its start to its result, without interruptions.
        device_seconds: processor seconds on a CPU, wall seconds on a GPU.
        examples: seen in training.
        loss: mean of the last epoch.
        cached: whether this run found it trained already; it is charged all the same.
    """

    identity: str
    title: str
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    examples: int = 0
    loss: float = float("nan")
    cached: bool = False


class AuxiliaryCache:
    """Gives the results of auxiliary runs to one run, and keeps account of their cost.

    Args:
        folder: where all runs of a working folder share them.
        report: told of each epoch.
        stop: asked after each epoch whether to interrupt.
        finished: told when one was trained here, and where its result is.
    """

    def __init__(
        self,
        folder: Path,
        report: Callable[[Literal["auxiliary"], dict[str, Any]], None],
        stop: Callable[[], bool],
        finished: Callable[[AuxiliaryCost, dict[str, Any], Path], None] = lambda charge, meaning, file: None,
    ) -> None:
        self.folder, self._report, self._stop, self._finished = folder, report, stop, finished
        self.charges: list[AuxiliaryCost] = []

    def get_or_train(self, run: AuxiliaryRun) -> dict[str, Tensor]:
        """The result of an auxiliary run; trained now, unless it was before.

        Raises:
            Interrupted: the user asked to stop; the same call goes on from the last epoch.
            RunFailed: its file is damaged.
        """
        place = self.folder / f"{run.identity}.pt"
        with exclusive(self.folder / f"{run.identity}.lock", self._stop) as acquired:
            if not acquired:
                raise Interrupted
            cached = place.is_file()
            if not cached:
                self._train(run, place)
        try:
            content = torch.load(place, map_location="cpu", weights_only=True)
            charge = AuxiliaryCost(**{**content["charge"], "cached": cached})
            result: dict[str, Tensor] = content["result"]
        except Exception as error:
            raise TrainingError(
                f"{place} is damaged ({str(error).splitlines()[0][:160]}); delete it and try again"
            ) from None
        if all(each.identity != charge.identity for each in self.charges):
            self.charges.append(charge)
        return result

    def _train(self, run: AuxiliaryRun, place: Path) -> None:
        checkpoint = place.with_suffix(".ckpt")
        charge, start = AuxiliaryCost(run.identity, run.title), 0
        if checkpoint.is_file():
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
            charge, start = AuxiliaryCost(**content["charge"]), int(content["epoch"])
            run.load_state_dict(content["state"])
        on_gpu = run.device.type == "cuda"
        wall, process = time.perf_counter(), time.process_time()
        for epoch in range(start, run.epochs):
            charge.loss = run.train_epoch(epoch)
            passed, worked = time.perf_counter() - wall, time.process_time() - process
            charge.wall_seconds += passed
            charge.device_seconds += passed if on_gpu else worked
            charge.examples += run.examples
            wall, process = time.perf_counter(), time.process_time()
            content = {"state": run.state_dict(), "epoch": epoch + 1, "charge": dataclasses.asdict(charge)}
            write_atomically(checkpoint, saved_bytes(content))
            told = {"epoch": epoch, "epochs": run.epochs, "title": run.title, "train_loss": charge.loss}
            self._report("auxiliary", told)
            if self._stop() and epoch + 1 < run.epochs:
                raise Interrupted
        result = {name: tensor.detach().cpu() for name, tensor in run.result().items()}
        write_atomically(place, saved_bytes({"result": result, "charge": dataclasses.asdict(charge)}))
        checkpoint.unlink(missing_ok=True)
        self._finished(charge, run.cache_key, place)
