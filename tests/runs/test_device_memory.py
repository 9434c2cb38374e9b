"""Exhausted memory of a GPU: one line that says what fits, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from noisybench.config.resolve import resolve
from noisybench.errors import TrainingError
from noisybench.execution.preflight import device_problem
from noisybench.runs import device_memory, runner
from noisybench.runs.device_memory import DeviceMemory, out_of_memory_message
from noisybench.tasks.classification import Classification
from noisybench.tracking.store import Store
from noisybench.training import loop
from tests.helpers import toy_spec

GIB = 2**30
REAL = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 6.00 GiB. GPU 0 has a total capacity of 78.00 GiB of which 1.50 GiB is free."
)
SMALL = {"dataset": {"name": "digits", "train_size": 100, "test_size": 50}, "noise": "clean"}


def message(batch_size: int, memory: DeviceMemory | None, **execution: Any) -> str:
    spec = resolve({"dataset": "digits", "budget": {"batch_size": batch_size}, "execution": execution})
    return out_of_memory_message(spec, REAL, memory, has_checkpoint=True)


def test_the_suggested_batch_fits_by_the_memory_and_the_peak_so_far() -> None:
    text = message(4096, DeviceMemory("H100", 78 * GIB, 0, 150 * GIB))
    assert "budget.batch_size=4096 (H100 has 78.0 GiB; at least 156.0 GiB are needed)" in text
    assert "set budget.batch_size=1024 (estimated to need 39.0 GiB or more)" in text, "half of 156 GiB is too much"
    assert "\n" not in text


def test_memory_of_other_processes_is_not_available() -> None:
    memory = DeviceMemory("H100", 78 * GIB, 60 * GIB, 10 * GIB)
    text = message(512, memory, gpu_fraction=0.25)
    assert "of which other processes hold 60.0 GiB" in text
    assert "set budget.batch_size=256" in text
    assert "execution.gpu_fraction=1" in text


def test_no_batch_is_suggested_where_none_fits() -> None:
    text = message(2, DeviceMemory("H100", 8 * GIB, 0, 7 * GIB))
    assert "no smaller batch would fit; choose a smaller budget.network" in text


def test_half_the_batch_is_suggested_where_the_gpu_does_not_answer() -> None:
    assert "set budget.batch_size=64 or less" in message(128, None)


@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_a_run_out_of_memory_fails_with_one_line_and_resumes(
    phase: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = toy_spec("cross_entropy", **SMALL)
    calls = []

    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 1:
            raise REAL
        return train_epoch(*arguments, **options) if phase == "training" else predict(*arguments, **options)

    train_epoch, predict = loop.train_epoch, Classification.predict
    with monkeypatch.context() as patch:
        patch.setattr(device_memory, "read_memory", lambda: DeviceMemory("H100", 8 * GIB, 0, 6 * GIB))
        if phase == "training":
            patch.setattr("noisybench.runs.training.train_epoch", fail)
        else:
            patch.setattr(Classification, "predict", fail)
        with pytest.raises(TrainingError) as error:
            runner.execute(spec, store, lambda kind, data: None, lambda: False)
    text = str(error.value)
    assert "\n" not in text
    assert ("set budget.batch_size=16" in text) == (phase == "training")
    assert ("during evaluation" in text) == (phase == "evaluation")
    (failed,) = store.connection.client.search_runs([store.connection.experiment])
    assert failed.info.status == "FAILED"
    assert (spec.run_dir() / "checkpoint.ckpt").exists() == ("Its checkpoint is kept" in text)
    assert runner.execute(spec, store, lambda kind, data: None, lambda: False) == "finished"
    (record,) = store.runs.records()
    assert record.run_id == failed.info.run_id, "the failed run is resumed"


def test_other_errors_pass() -> None:
    assert not device_memory.is_out_of_memory(RuntimeError("shapes differ"))
    assert device_memory.is_out_of_memory(RuntimeError("cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling"))


def test_a_gpu_that_is_not_there_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "is built for CPUs; install torch with CUDA, or set execution.device=auto" in str(device_problem("cuda"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "sees no GPU here with CUDA_VISIBLE_DEVICES=(empty)" in str(device_problem("cuda"))
    assert device_problem("auto") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_problem("cuda") is None
