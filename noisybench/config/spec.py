"""What a run is asked to do: typed, validated as a whole, and with an identity.

A specification is YAML (a recipe) plus dotted overrides from the command line:

    noisybench run digits noise=symmetric_exclusive noise.rate=0.4 mitigations=mixup+gce mitigations.gce.q=0.5

A component (dataset, noise, each mitigation) is a name, or a mapping with `name` and its parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from noisybench.config.parameters import content_digest
from noisybench.config.provenance import Provenance
from noisybench.config.registry import get_entry

WORKSPACE = Path(".noisybench")
"""Below the working folder: checkpoints, and records that could not be sent yet."""

IDENTITY_FORMAT = 2
"""Raised when the same specification would come to train differently."""


class Budget(pydantic.BaseModel):
    """What must be equal for a fair comparison."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    network: str = "small_cnn"
    """A file of `noisybench/networks/`; of a family, the one named after a colon, such as `torchvision:resnet50`."""
    epochs: int = pydantic.Field(30, ge=1)
    batch_size: int = pydantic.Field(128, ge=2)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = pydantic.Field(0.1, gt=0)
    momentum: float = pydantic.Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = pydantic.Field(5e-4, ge=0)
    schedule: Literal["constant", "cosine", "multistep", "polynomial"] = "cosine"
    """`polynomial` falls as (1 - epoch / epochs)**0.9, usual for segmentation."""
    milestones: tuple[int, ...] = ()
    """Epochs at which `multistep` multiplies the learning rate by `gamma`."""
    gamma: float = pydantic.Field(0.1, gt=0, le=1)
    warmup_epochs: int = pydantic.Field(0, ge=0)
    """Epochs of linear increase from zero before the schedule."""
    augmentation: Literal["none", "crop", "crop_flip", "affine", "scale_crop"] = "none"
    """`affine` and `scale_crop` are for images with masks."""
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    devices: int = pydantic.Field(1, ge=1)
    """GPUs (or processes on a processor) that share every batch."""
    strategy: Literal["ddp"] = "ddp"
    """How they do: data parallelism, each with the whole network."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Budget:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov needs the optimizer sgd with momentum")
        if (self.schedule == "multistep") != bool(self.milestones):
            raise ValueError("milestones and the schedule multistep need each other")
        return self

    def identity(self) -> dict[str, Any]:
        """As JSON-like data; what came later leaves no trace at its default, so that earlier runs keep their identity."""
        data = self.model_dump(mode="json")
        later = ("devices", "strategy") if self.devices == 1 else ()
        return {key: value for key, value in data.items() if key not in later}


class Execution(pydantic.BaseModel):
    """Where and how to run; never part of a run's identity."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = pydantic.Field(1, ge=1)
    """Processor threads of one run. With more, sums may differ in their last bits."""
    gpus: float = pydantic.Field(1.0, gt=0, le=1)
    """Share of a GPU that one run needs, where one is used: 0.25 has four small runs at a time on it."""
    loaders: int = pydantic.Field(0, ge=0)
    """Processes that augment images with masks, beside the one that trains; 0 has it done there."""
    system_metrics: bool = True
    """Sample processor, memory and GPU every ten seconds."""
    save_weights: bool = False
    """Keep the final networks as an artifact."""
    save_corrected: bool = False
    """Keep corrected masks as PNG files, named as their images; noise=from_folder reads them."""


@dataclass(frozen=True)
class Component:
    """A registered name with its complete parameters."""

    kind: str
    name: str
    parameters: dict[str, Any]

    def build(self) -> Any:
        """Import and instantiate it."""
        return get_entry(self.kind, self.name).load_class()(**self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """Name and parameters in one mapping, as in YAML."""
        return {"name": self.name, **self.parameters}

    def identity(self) -> dict[str, Any]:
        """As `as_dict`, with files replaced by what they contain.

        What is not given leaves no trace, so that a component can gain an optional parameter without new identities.
        """
        paths = get_entry(self.kind, self.name).schema.paths()
        digests = {name: content_digest(Path(self.parameters[name])) for name in paths if self.parameters[name]}
        return {key: value for key, value in {**self.as_dict(), **digests}.items() if value is not None}

    def label(self, hide: Iterable[str] = ()) -> str:
        """Short text: the name, rates, and the parameters that are not at their default, but those in ``hide``."""
        fields = get_entry(self.kind, self.name).schema.fields
        changed = {
            k: v
            for k, v in self.parameters.items()
            if k not in hide and v is not None and (v != fields[k][1].default or fields[k][1].always_in_label)
        }
        inside = ", ".join(f"{k}={_told(v)}" for k, v in changed.items())
        return f"{self.name}({inside})" if inside else self.name


def _told(value: Any) -> str:
    """A parameter's value in a label; of a component inside it, name and parameters; of a run inside it, the noise."""
    if isinstance(value, Mapping) and "noise" in value:
        return _told(value["noise"])
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}={_told(each)}" for key, each in value.items() if key != "name")
        return f"{value.get('name', '')}({inside})" if inside else str(value.get("name", ""))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class RunSpec:
    """One run, complete and valid."""

    task: Component
    dataset: Component
    noise: Component
    mitigations: tuple[Component, ...]
    budget: Budget
    seed: int
    execution: Execution
    provenance: Provenance | None = None

    @property
    def identity(self) -> str:
        """Hash of what is to be trained; the same for the same question wherever its files lie."""
        meaning = {
            "format": IDENTITY_FORMAT,
            "task": self.task.identity(),
            "dataset": self.dataset.identity(),
            "noise": self.noise.identity(),
            "mitigations": [each.identity() for each in self.mitigations],
            "budget": self.budget.identity(),
            "seed": self.seed,
        }
        if self.provenance and (selected := self.provenance.identity()):
            meaning["provenance"] = selected
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def num_cores(self) -> int:
        """How many cores it needs, those of further processes included."""
        return self.execution.threads * self.budget.devices

    @property
    def gpus(self) -> float:
        """How many GPUs it needs where it uses any: a share of one, or several."""
        return self.execution.gpus if self.budget.devices == 1 else self.budget.devices

    @property
    def stack(self) -> str:
        """The stack of mitigations, e.g. ``mixup+gce(q=0.5)``, with the search that selected its parameters, if any."""
        stack = "+".join(each.label() for each in self.mitigations)
        label = self.provenance.label if self.provenance else ""
        return f"{stack} ({label})" if label else stack

    @property
    def is_trial(self) -> bool:
        """True for a trial of a search, which is never ranked."""
        return self.provenance is not None and self.provenance.trial_of is not None

    @property
    def budget_hash(self) -> str:
        """Hash of task and budget: runs are only compared where it is equal."""
        meaning = {"task": self.task.identity(), "budget": self.budget.identity()}
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """One line for progress and messages."""
        noise = self.noise.label(hide=("path", "seed"))
        cell = " · ".join(each for each in (self.task_label, self.dataset_label, noise) if each)
        return f"{cell} · {self.stack} · seed {self.seed}"

    @property
    def task_label(self) -> str:
        """The task with its parameters, empty where it has none to tell."""
        return self.task.label() if self.task.parameters else ""

    @property
    def dataset_label(self) -> str:
        """Name of the dataset with the parameters that matter to a reader."""
        return self.dataset.label(
            hide=("root", "path", "train", "test", "class_names", "download", "checksum", "test_shifts")
        )

    def folder(self) -> Path:
        """Where checkpoint and unsent records of this run are kept, below the working folder."""
        return WORKSPACE / "runs" / self.identity

    def as_dict(self) -> dict[str, Any]:
        """The complete specification as JSON-like data; `resolve` reads it back."""
        return {
            "task": self.task.as_dict(),
            "dataset": self.dataset.as_dict(),
            "noise": self.noise.as_dict(),
            "mitigations": [each.as_dict() for each in self.mitigations],
            "budget": self.budget.model_dump(mode="json"),
            "seed": self.seed,
            "execution": self.execution.model_dump(mode="json"),
            "provenance": self.provenance.model_dump(mode="json") if self.provenance else None,
        }
