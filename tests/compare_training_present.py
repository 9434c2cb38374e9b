"""Run the cases of `tests.compare_training` on the present code, and write their digests.

After a change of the API, adapt this file.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisybench.config.registry import Entry, get_entry, list_entries
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.networks import build_network
from noisybench.runs.preparation import prepare_run
from noisybench.runs.recorder import Recorder
from tests.compare_training import Digests
from tests.contracts import noise_toy
from tests.helpers import TRANSFER, network_names, prepared_toy, toy_spec, train_toy

Case = Callable[[Path], Digests]
"""Runs one case with its files in a folder."""


def digest(*arrays: Any) -> str:
    """Hash arrays and tensors with their types and shapes, but without any names."""
    found = hashlib.sha256()
    for each in arrays:
        if isinstance(each, torch.Tensor):
            each = each.detach().cpu().contiguous()
            found.update(f"{each.dtype}{tuple(each.shape)}".encode())
            each = each.reshape(-1).view(torch.uint8).numpy()
        else:
            each = np.asarray(each)
            assert each.dtype != object, "its bytes would be addresses"
            found.update(f"{each.dtype}{each.shape}".encode())
        found.update(each.tobytes())
    return found.hexdigest()


def label_digest(labels: LabelSet) -> str:
    """Hash the bytes of a label set: observed targets, replaced images with their rows, and events."""
    found = hashlib.sha256(labels.train.tobytes() + labels.validation.tobytes())
    for split in ("train", "validation"):
        if split in labels.replaced:
            found.update(labels.replaced[split].rows.tobytes() + labels.replaced[split].images.tobytes())
        if split in labels.error_spans:
            found.update(labels.error_spans[split].tobytes())
    return found.hexdigest()


def run_digests(recorder: Recorder) -> Digests:
    """Hash the final weights of a finished run, and its losses, scores, predictions and detections."""
    assert recorder.complete
    samples = recorder.evaluator.samples()
    scores = np.array([(row.train_loss, row.test_score) for row in recorder.rows], dtype=float)
    detections = sorted(digest(each) for each in samples.detectors.values())
    return {
        "weights": digest(*recorder._final["weights"].values()),
        "evidence": digest(scores, samples.label_quality, samples.prediction, samples.corrected_labels, detections),
    }


def mitigation_case(stack: dict[str, Any], folder: Path) -> Digests:
    """Train a mitigation for two epochs on the toy data."""
    return run_digests(train_toy(prepared_toy(stack, budget={"epochs": 2}), folder))


def label_case(entry: Entry, folder: Path) -> Digests:
    """Corrupt the example data of a noise model."""
    cls = entry.load_class()
    dataset = cls.example_dataset(noise_toy(cls, 4000, 1000))
    return {"labels": label_digest(cls(**cls.example(dataset, folder)).apply(dataset))}


def dataset_case(entry: Entry, folder: Path) -> Digests:
    """Load the example files of a dataset."""
    return {"hash": entry.load_class()(**entry.load_class().example(folder)).load().hash}


def program_case(name: str, folder: Path) -> Digests:
    """Draw problems of a program on integers."""
    parameters = {"program": name, "train_problems": 30, "validation_problems": 5, "test_problems": 5}
    return {"hash": get_entry("datasets", "traced_integers").load_class()(**parameters).load().hash}


def network_case(name: str, folder: Path) -> Digests:
    """Initialize a network and run it on fixed inputs."""
    torch.manual_seed(0)
    network = build_network(name, 7, 3).eval()
    writes = hasattr(network, "context_length")
    inputs = torch.arange(18).view(2, 9) % 7 if writes else torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    with torch.no_grad():
        return {"weights": digest(*network.state_dict().values()), "outputs": digest(network(inputs))}


def task_case(fields: dict[str, Any], folder: Path) -> Digests:
    """Train plain cross-entropy for two epochs."""
    fields = {**fields, "budget": {"epochs": 2, **fields.get("budget", {})}}
    return run_digests(train_toy(prepared_toy("cross_entropy", **fields), folder))


def auxiliary_case(stack: str, folder: Path) -> Digests:
    """Hash the result of an auxiliary run."""
    train_toy(prepared_toy(stack, budget={"epochs": 1}), folder)
    (file,) = (folder / "auxiliary").glob("*.pt")
    return {"result": digest(*torch.load(file, weights_only=True)["result"].values())}


def resumed_case(stack: str, folder: Path) -> Digests:
    """Interrupt a run after its first epoch and resume it."""
    assert not train_toy(prepared_toy(stack, budget={"epochs": 2}), folder, stop_after=1).complete
    return run_digests(train_toy(prepared_toy(stack, budget={"epochs": 2}), folder))


def devices_case(stack: str, folder: Path) -> Digests:
    """Train one run on two processes."""
    data = {
        "dataset": {"name": "digits", "train_size": 203, "test_size": 100},
        "noise": {"name": "pair_flip", "rate": 0.3},
    }
    budget = {"network": "mlp:32", "epochs": 2, "batch_size": 50, "devices": 2}
    return run_digests(train_toy(prepare_run(toy_spec(stack, **data, budget=budget)), folder))


def cases() -> dict[str, Case]:
    """All cases by key."""
    found: dict[str, Case] = {}
    for name, entry in list_entries("noise_models").items():
        found[f"labels/{name}"] = partial(label_case, entry)
    for name, entry in list_entries("datasets").items():
        found[f"dataset/{name}"] = partial(dataset_case, entry)
    for name in PROGRAMS:
        found[f"program/{name}"] = partial(program_case, name)
    for name in network_names():
        found[f"network/{name}"] = partial(network_case, name)
    for name, entry in list_entries("mitigations").items():
        for index, parameters in enumerate(entry.load_class().test_cases()):
            found[f"mitigation/{name}/{index}"] = partial(mitigation_case, {"name": name, **parameters})
    tasks: dict[str, dict[str, Any]] = {
        "classification": {"budget": {"augmentation": "crop_flip"}},
        "segmentation": {"task": "segmentation", "budget": {"augmentation": "affine"}},
        "chain_of_thought": {"task": "chain_of_thought"},
        "transfer": {"task": TRANSFER},
    }
    for name, fields in tasks.items():
        found[f"task/{name}"] = partial(task_case, fields)
    found["auxiliary/simclr"] = partial(auxiliary_case, "simclr")
    found["auxiliary/transfer"] = partial(auxiliary_case, "linear_probe")
    found["resumed/elr"] = partial(resumed_case, "elr")
    found["devices/elr"] = partial(devices_case, "elr")
    return found


def run_cases(file: Path, only: str) -> None:
    """Run all cases whose key contains a substring, one after the other, and write their digests as JSON."""
    warnings.simplefilter("ignore")
    chosen = {key: case for key, case in cases().items() if only in key}
    found: dict[str, Digests] = {}
    for number, (key, case) in enumerate(chosen.items(), 1):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                found[key] = case(Path(folder))
            except Exception as error:
                traceback.print_exc()
                found[key] = {"error": f"{type(error).__name__}: {error}"}
        print(f"[{number}/{len(chosen)}] {key} {time.perf_counter() - start:.1f} s", flush=True)
    file.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    run_cases(Path(sys.argv[1]), sys.argv[2])
