"""Valid files that generated inputs start from: a store, label sets, a submission, and the example of each component."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import schema_of
from noisybench.config.registry import list_entries
from noisybench.config.resolve import resolve
from noisybench.data.label_sets import label_files
from noisybench.leaderboard import submission, verification
from noisybench.runs import runner
from noisybench.tracking.bundle import write_parts
from noisybench.tracking.run_export import Exporter
from noisybench.tracking.store import Store
from tests.conftest import copy_database

SMALL = {"dataset": {"name": "digits", "train_size": 100, "test_size": 40}}
LABELS: dict[str, dict[str, Any]] = {
    "classes": {**SMALL, "noise": {"name": "pair_flip", "rate": 0.3}},
    "masks": {
        "task": "segmentation",
        "dataset": {"name": "scenes", "size": 16, "train_images": 12, "validation_images": 4, "test_images": 4},
        "noise": {"name": "pixel_flip", "severity": 0.2},
        "budget": {"network": "unet:4"},
    },
    "traces": {
        "task": "chain_of_thought",
        "dataset": {"name": "traced_integers", "train_problems": 20, "validation_problems": 5, "test_problems": 5},
        "noise": {"name": "cot_static"},
        "budget": {"network": "decoder:16x1"},
    },
}
"""Settings of the label sets, by kind of their targets."""

BUDGET = {"network": "mlp:4", "epochs": 1, "batch_size": 50, "augmentation": "none"}

CONFIGS: dict[str, dict[str, Any]] = {
    "recipe": {**LABELS["classes"], "mitigations": "elr", "budget": BUDGET, "seed": 0},
    "suite": {
        "description": "small",
        "base": {**SMALL, "budget": BUDGET},
        "noise": [{"name": "pair_flip", "rate": 0.3}, "clean"],
        "stacks": ["cross_entropy", "gce", "mixup+elr"],
        "seeds": [0, 1],
        "figures": [{"title": "Accuracy", "x": "noise.rate", "y": "last"}],
    },
    "search": {"base": {"recipe": "digits", "mitigations": "elr"}, "trials": 3, "space": {"elr.beta": [0.5, 0.9]}},
}
"""Configurations that mutations start from."""


@dataclass
class Template:
    """Folder of valid files.

    Attributes:
        folder: folder with `mlflow.db`, `empty.db`, `records.zip`, `labels/KIND`, `entry`, `datasets/NAME` and `noise/NAME`.
        datasets: for each dataset with files, its task and parameters.
        noise: for each noise model with files, its task and parameters.
    """

    folder: Path
    datasets: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    noise: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def copy(self, name: str, target: Path) -> Path:
        """Copy a file or folder of the template to the same place below another folder, and return it."""
        source, copied = self.folder / name, target / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        if copied.is_dir():  # damaged for an earlier argument
            shutil.rmtree(copied)
        elif copied.is_symlink() or copied.exists():
            copied.unlink()
        if name == "mlflow.db":
            copy_database(source, copied)
        elif source.is_dir():
            shutil.copytree(source, copied)
        else:
            shutil.copyfile(source, copied)
        return copied

    def parameters(self, kind: str, name: str, target: Path) -> dict[str, Any]:
        """Return the parameters of a component, whose files are read from another folder."""
        text = json.dumps((self.datasets if kind == "datasets" else self.noise)[name][1])
        copied: dict[str, Any] = json.loads(text.replace(str(self.folder), str(target)))
        return copied


def build_template(folder: Path, database: Path) -> Template:
    """Write all files of a template.

    Args:
        folder: an empty folder.
        database: an empty MLflow database.
    """
    template = Template(folder)
    copy_database(database, folder / "mlflow.db")
    copy_database(database, folder / "empty.db")
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
        store = Store()
        store.connection.check()
        clean = {**LABELS["classes"], "noise": "clean"}  # a second noise rate, for stress cards
        for labels, stack in (
            (LABELS["classes"], "cross_entropy"),
            (LABELS["classes"], "gce"),
            (clean, "cross_entropy"),
        ):
            runner.execute(
                resolve({**labels, "mitigations": stack, "budget": BUDGET}),
                store,
                lambda *_: None,
                lambda: False,
            )
        # The model that was saved with one of the runs, and images for it.
        shutil.copytree(next(folder.rglob("model.json")).parent, folder / "model" / "saved")
        np.save(folder / "model" / "images.npy", np.zeros((3, 1, 8, 8), dtype=np.uint8))
        export = Exporter(store, folder, lambda run: True)
        write_parts(export.finished(), folder / "records.zip")
        evidence = verification.collect_evidence(store, store.runs.list_runs("FINISHED"))
        submission.write(folder / "entry", "two short runs", "0", evidence)
    data = {}
    for kind, raw in LABELS.items():
        spec = resolve(raw)
        data[kind] = spec.dataset.build().load()
        labels = spec.noise.build().apply(data[kind])
        label_files.save(labels, data[kind], folder / "labels" / kind, "csv" if kind == "classes" else "parquet")
    for name, entry in list_entries("datasets").items():
        cls = entry.load_class()
        place = folder / "datasets" / name
        place.mkdir(parents=True)
        parameters = cls.example(place)
        if any(place.iterdir()):
            template.datasets[name] = (cls.tasks[0], parameters)
    by_task = {"classification": "classes", "segmentation": "masks", "chain_of_thought": "traces"}
    for name, entry in list_entries("noise_models").items():
        cls = entry.load_class()
        if schema_of(cls).paths():
            place = folder / "noise" / name
            place.mkdir(parents=True)
            parameters = cls.example(data[by_task[cls.tasks[0]]], place)
            if any(place.iterdir()):
                template.noise[name] = (cls.tasks[0], parameters)
    return template
