"""Auxiliary runs: training that a mitigation or task needs before the run itself, such as contrastive pre-training.

An auxiliary run has an identity of its own. It is trained once, cached in the working directory, and resumed after an
interruption. Its cost is charged in full to every run that uses it, because it is part of the cost of the method.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from noisybench.config.loaded_code import code_of_class
from noisybench.config.spec import WORKSPACE
from noisybench.errors import Interrupted, TrainingError
from noisybench.utils.files import first_line, load_saved, saved_bytes, set_aside_with_note, write_atomically
from noisybench.utils.locks import exclusive
from noisybench.utils.pauses import Pause

FORMAT = 2
"""Raise this number when the layout of the results changes."""

CHECKPOINT_SHARE = 0.05
"""Largest share of the training time that checkpoints take; a killed process repeats at most what follows the last one."""

AUXILIARY_DIR = WORKSPACE / "auxiliary"
"""Folder that all runs of a working directory share."""


class AuxiliaryRun(abc.ABC):
    """Contract of an auxiliary run: epochs, a state to resume from, and a result.

    Attributes:
        title: one line of text for progress displays.
        cache_key: JSON-like data that decides the result, except the code; runs with equal keys are trained once.
        epochs: number of epochs.
        examples: number of examples that an epoch trains on.
        device: training device.

    Example:
        >>> class Counter(AuxiliaryRun):
        ...     title, cache_key, epochs, examples, device = "counter", {"kind": "counter"}, 2, 1, torch.device("cpu")
        ...     count = 0
        ...     def train_epoch(self, epoch):
        ...         self.count += 1
        ...         return 0.0
        ...     def state_dict(self):
        ...         return {"count": self.count}
        ...     def load_state_dict(self, state):
        ...         self.count = state["count"]
        ...     def result(self):
        ...         return {"count": torch.tensor(self.count)}
        >>> import tempfile
        >>> cache = AuxiliaryCache(Path(tempfile.mkdtemp()))
        >>> cache.get_or_train(Counter()), cache.get_or_train(Counter())
        ({'count': tensor(2)}, {'count': tensor(2)})
        >>> [cost.examples for cost in cache.costs]
        [2]
    """

    title: str
    cache_key: dict[str, Any]
    epochs: int
    examples: int
    device: torch.device

    @abc.abstractmethod
    def train_epoch(self, epoch: int) -> float:
        """Train one epoch, with random numbers that depend only on its number, and return the mean loss."""

    @abc.abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume."""

    @abc.abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of an interrupted run."""

    @abc.abstractmethod
    def result(self) -> dict[str, Tensor]:
        """Return the tensors that the run is trained for."""


@dataclasses.dataclass
class AuxiliaryCost:
    """Cost of an auxiliary run, wherever and whenever it was trained.

    Attributes:
        identity: identity of the auxiliary run.
        title: title of the auxiliary run.
        wall_seconds: seconds from its start to its result, without interruptions.
        device_seconds: CPU seconds on a CPU, wall seconds on a GPU.
        examples: number of examples that it trained on.
        loss: mean loss of its last epoch.
        cached: True if it had been trained before this run asked for it; its cost is charged all the same.
    """

    identity: str
    title: str
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    examples: int = 0
    loss: float = float("nan")
    cached: bool = False


OnTrained = Callable[[AuxiliaryCost, dict[str, Any], Path], None]
"""Called with cost, cache key and result file of an auxiliary run that was trained here."""


class AuxiliaryCache:
    """Results of auxiliary runs for one run, and their costs.

    Args:
        folder: folder of the results; runs that share it train an auxiliary run once.
        report: called after every epoch.
        stop: called after every epoch; training is interrupted if it returns True.
        on_trained: called when an auxiliary run was trained.
        code_of: returns the digests of the code that decides the result of a class of auxiliary runs.

    Attributes:
        costs: costs of all auxiliary runs that were used.
    """

    def __init__(
        self,
        folder: Path = AUXILIARY_DIR,
        report: Callable[[Literal["auxiliary"], dict[str, Any]], None] = lambda kind, event: None,
        stop: Callable[[], bool] = lambda: False,
        on_trained: OnTrained | None = None,
        code_of: Callable[[type[AuxiliaryRun]], dict[str, str]] = lambda kind: {},
    ) -> None:
        self.folder, self._report, self._stop, self._on_trained = folder, report, stop, on_trained
        self._code_of = code_of
        self.costs: list[AuxiliaryCost] = []

    def get_or_train(self, run: AuxiliaryRun) -> dict[str, Tensor]:
        """Return the result of an auxiliary run, and train it if no run has before.

        Raises:
            Interrupted: ``stop`` returned True; the same call resumes from the last epoch.
            TrainingError: the result could not be written.
        """
        identity = self.identity(run)
        file = self.folder / f"{identity}.pt"
        # Several processes may need the same result at once: one of them trains it, the others wait and read it.
        with exclusive(self.folder / f"{identity}.lock", self._stop) as acquired:
            if not acquired:
                raise Interrupted
            # Checked inside the lock, because another process may have written the file during the wait.
            content = load_saved(file, ("result", "cost"))
            cached = content is not None
            if content is None:
                self._train(run, identity, file)
                # Read back even if it was trained just now, so that fresh and cached results are the same tensors.
                content = load_saved(file, ("result", "cost"))
        if content is None:
            raise TrainingError(f"{file} could not be read after it was written; check the disk of {self.folder}")
        cost = AuxiliaryCost(**{**content["cost"], "cached": cached})
        result: dict[str, Tensor] = content["result"]
        # Charged once, even if several mitigations of the stack use the same result.
        if all(other.identity != cost.identity for other in self.costs):
            self.costs.append(cost)
        return result

    def identity(self, run: AuxiliaryRun) -> str:
        """Return the hash of everything that decides the result of an auxiliary run: its key and its code."""
        content = {"format": FORMAT, "key": run.cache_key, "code": self._code_of(type(run))}
        # Sorted keys make the hash independent of the order in which the data are listed.
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    def _train(self, run: AuxiliaryRun, identity: str, file: Path) -> None:
        checkpoint = file.with_suffix(".ckpt")
        cost, first_epoch = AuxiliaryCost(identity, run.title), 0
        content = load_saved(checkpoint, ("state", "epoch", "cost"))
        if content is not None:
            initial = copy.deepcopy(run.state_dict())
            try:
                run.load_state_dict(content["state"])
                cost, first_epoch = AuxiliaryCost(**content["cost"]), int(content["epoch"])
            except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                # A part of the state may have been loaded before the error.
                run.load_state_dict(initial)
                set_aside_with_note(checkpoint, first_line(error))
        wall, process = time.perf_counter(), time.process_time()
        pause = Pause(CHECKPOINT_SHARE)
        for epoch in range(first_epoch, run.epochs):
            cost.loss = run.train_epoch(epoch)
            wall_seconds, process_seconds = time.perf_counter() - wall, time.process_time() - process
            cost.wall_seconds += wall_seconds
            # A GPU works asynchronously, so that the CPU time of the host does not measure it.
            cost.device_seconds += wall_seconds if run.device.type == "cuda" else process_seconds
            cost.examples += run.examples
            # The checkpoint below is part of the next epoch's cost.
            wall, process = time.perf_counter(), time.process_time()
            event = {"epoch": epoch, "epochs": run.epochs, "title": run.title, "train_loss": cost.loss}
            # Before `stop`, which knows from the reports how long the next epoch may take.
            self._report("auxiliary", event)
            # After the last epoch only the result is left to write, so that stopping would save nothing.
            stopping = self._stop() and epoch + 1 < run.epochs
            if stopping or pause.is_over():
                with pause.measured():
                    content = {"state": run.state_dict(), "epoch": epoch + 1, "cost": dataclasses.asdict(cost)}
                    write_atomically(checkpoint, saved_bytes(content))
            if stopping:
                raise Interrupted
        result = {name: tensor.detach().cpu() for name, tensor in run.result().items()}
        write_atomically(file, saved_bytes({"result": result, "cost": dataclasses.asdict(cost)}))
        # Deleted only after the result is in place: a crash in between costs no training.
        checkpoint.unlink(missing_ok=True)
        if self._on_trained is not None:
            self._on_trained(cost, run.cache_key, file)


class AuxiliaryUser:
    """Mixin of a noise model that needs auxiliary runs, which are trained when it is applied to a dataset.

    Attributes:
        auxiliary_cache: results of auxiliary runs, and their costs, which every run with these labels is charged.

    Example:
        >>> AuxiliaryUser().auxiliary_cache.costs
        []
    """

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.auxiliary_cache = AuxiliaryCache(code_of=code_of_class)
