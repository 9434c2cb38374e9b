"""Specification of a run: typed, validated as a whole, and identified by a hash.

A specification is YAML (a recipe) plus dotted overrides from the command line:

    noisybench run digits noise=symmetric_exclusive noise.rate=0.4 mitigations=mixup+gce mitigations.gce.q=0.5

A component (dataset, noise model, each mitigation) is a name, or a mapping with `name` and its parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from noisybench.config.budget import Budget, Execution
from noisybench.config.provenance import Provenance
from noisybench.config.registry import get_entry, list_entries

WORKSPACE = Path(".noisybench")
"""Folder in the working folder for checkpoints, auxiliary runs and records that wait for upload."""

STUDIES = WORKSPACE / "searches.db"
"""Optuna's database of the searches of the working folder."""

IDENTITY_FORMAT = 4
"""Version of the identity. Raise it when the identity is computed from other things."""

PATHS_AND_SEED = ("path", "seed")
"""Parameters of noise models that titles leave out."""

UNLABELED_DATASET_PARAMETERS = (
    "root", "path", "train", "validation", "test", "image", "class_names", "download", "checksum", "test_shifts",
)  # fmt: skip
"""Parameters of datasets that do not change the training data, or are too long for a label."""


@dataclass(frozen=True)
class Component:
    """A registered name with its complete parameters.

    Attributes:
        kind: kind of the registry, e.g. ``noise_models``.
        name: registered name.
        parameters: all parameters, defaults included.
        from_preset: parameters of a mitigation that have the value of its preset.
        privileged: privileged information that the row of the preset depends on.
    """

    kind: str
    name: str
    parameters: dict[str, Any]
    from_preset: tuple[str, ...] = ()
    privileged: tuple[str, ...] = ()

    def build(self) -> Any:
        """Import the class and create an instance with the parameters."""
        return get_entry(self.kind, self.name).load_class()(**self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """Return name and parameters in one mapping, as in YAML."""
        return {"name": self.name, **self.parameters}

    def identity(self) -> dict[str, Any]:
        """Return `as_dict` without paths, parameters that cannot change a result, and parameters that are None.

        The content of files counts instead of their location, see `RunSpec.data`. Leaving out None lets a component gain
        an optional parameter without new identities.
        """
        schema = get_entry(self.kind, self.name).schema
        return {
            key: _nested_identity(value) if isinstance(value, Mapping) and schema.access(key) == "run" else value
            for key, value in self.as_dict().items()
            if value is not None and key not in schema.outside_identity()
        }

    def display_name(self, hide: Iterable[str] = ()) -> str:
        """Return the name with the parameters that differ from their defaults or their preset, and with rates of noise.

        Args:
            hide: parameters to leave out.
        """
        fields = get_entry(self.kind, self.name).schema.fields
        shown = {
            name: value
            for name, value in self.parameters.items()
            if name not in hide
            and name not in self.from_preset
            and value is not None
            and (value != fields[name][1].default or fields[name][1].always_in_label)
        }
        values = ", ".join(f"{name}={_format_value(value)}" for name, value in shown.items())
        return f"{self.name}({values})" if values else self.name


def _nested_identity(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested specification, as it was written, without the parameters that `Component.identity` leaves out."""
    content = dict(specification)
    for name, kind in (("dataset", "datasets"), ("noise", "noise_models")):
        value = content.get(name)
        values = {"name": value} if isinstance(value, str) else value
        if isinstance(values, Mapping) and values.get("name") in list_entries(kind):
            hidden = get_entry(kind, values["name"]).schema.outside_identity()
            content[name] = {key: item for key, item in values.items() if key not in hidden}
    return content


def _format_value(value: Any) -> str:
    """Format a parameter's value: a nested component as name and parameters, a nested run as its noise model."""
    if isinstance(value, Mapping) and "noise" in value:
        return _format_value(value["noise"])
    if isinstance(value, Mapping):
        values = ", ".join(f"{key}={_format_value(item)}" for key, item in value.items() if key != "name")
        return f"{value.get('name', '')}({values})" if values else str(value.get("name", ""))
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class RunSpec:
    """Complete and valid specification of one run. `resolve` creates it.

    Its hashes and labels are computed once: a suite of a thousand runs asks for them after every epoch.

    Attributes:
        task: task.
        dataset: dataset.
        noise: noise model.
        mitigations: stack of mitigations.
        budget: training settings that must be equal for a fair comparison.
        seed: seed of the run.
        execution: settings of where and how to run.
        code: digest of the source code of each part of the run, from `source_code.SourceTree`.
        provenance: search that trained the run as a trial or selected its parameters, if any.
        data: digests of the files that components read when the run was resolved, by the location of the component.
        replaces: id of the finished run in the store that this run trains again; empty if it is trained for the first time.
        suite: name of the suite that the run is trained for, which does not identify it; empty for none.
        suite_run: id of the run in the store that groups the runs of this suite and setting; empty for none.
        notes: what the user should know about the settings, one line each: differences from the published settings of the
            mitigations, and parts of the budget's schedule that have no effect.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> spec = resolve({"dataset": "digits", "noise": "pair_flip", "mitigations": "mixup+elr", "seed": 1})
        >>> spec.title
        'digits · pair_flip(rate=0.45) · mixup+elr · seed 1'
        >>> resolve(spec.as_dict()).identity == spec.identity
        True
    """

    task: Component
    dataset: Component
    noise: Component
    mitigations: tuple[Component, ...]
    budget: Budget
    seed: int
    execution: Execution
    code: dict[str, str]
    provenance: Provenance | None = None
    data: dict[str, str] = field(default_factory=dict)
    replaces: str = ""
    suite: str = field(default="", compare=False)
    suite_run: str = field(default="", compare=False)
    notes: tuple[str, ...] = ()

    @property
    def preset_privileged(self) -> tuple[str, ...]:
        """Privileged information that the rows of presets depend on."""
        return tuple(sorted({name for member in self.mitigations for name in member.privileged}))

    @property
    def components(self) -> dict[str, Component]:
        """Components by their location."""
        members = {f"mitigations.{member.name}": member for member in self.mitigations}
        return {"task": self.task, "dataset": self.dataset, "noise": self.noise, **members}

    @cached_property
    def identity(self) -> str:
        """Hash of everything that decides the result: settings, bytes of the data, and source code.

        It is independent of file locations and of execution.
        """
        return run_identity(self.settings_hash, self.code)

    @cached_property
    def settings_hash(self) -> str:
        """Hash of the settings and of the bytes of the data: the identity without the code."""
        content = {
            "format": IDENTITY_FORMAT,
            "task": self.task.identity(),
            "dataset": self.dataset.identity(),
            "noise": self.noise.identity(),
            "mitigations": [member.identity() for member in self.mitigations],
            "budget": self.budget.identity(),
            "seed": self.seed,
            "data": dict(self.data),
        }
        # A trial has no such entry: it is identified by its configuration alone, like a run without a search.
        if self.provenance and (selection := self.provenance.identity()):
            content["provenance"] = selection
        return _digest(content)[:20]

    @cached_property
    def budget_hash(self) -> str:
        """Hash of task and budget with their files: only runs with equal budgets are compared."""
        data = {
            location: digest for location, digest in self.data.items() if location.split(".")[0] in ("task", "network")
        }
        content = {"task": self.task.identity(), "budget": self.budget.identity()}
        return _digest({**content, "data": data} if data else content)[:12]

    @property
    def num_cores(self) -> int:
        """Number of CPU cores that the run needs, with all its processes."""
        return self.num_threads * self.budget.devices

    @property
    def num_threads(self) -> int:
        """Number of CPU threads of each process of the run; 1 unless `divide_cores` has replaced ``auto``."""
        threads = self.execution.num_threads
        return 1 if threads == "auto" else threads

    def with_threads(self, count: int) -> RunSpec:
        """Return the same run with a number of threads; the identity stays the same."""
        execution = self.execution.model_copy(update={"num_threads": count})
        return replace(self, execution=execution)

    @property
    def num_gpus(self) -> float:
        """Number of GPUs that the run needs if it uses any: a fraction of one, or several."""
        return self.execution.gpu_fraction if self.budget.devices == 1 else self.budget.devices

    @cached_property
    def stack(self) -> str:
        """Stack of mitigations, e.g. ``mixup+gce(q=0.5)``, with the search that selected its parameters, if any."""
        stack = "+".join(member.display_name() for member in self.mitigations)
        label = self.provenance.label if self.provenance else ""
        return f"{stack} ({label})" if label else stack

    @property
    def is_trial(self) -> bool:
        """True for a trial of a search, which is never ranked."""
        return self.provenance is not None and self.provenance.trial_of is not None

    @cached_property
    def title(self) -> str:
        """One-line description for progress and messages."""
        noise = self.noise.display_name(hide=PATHS_AND_SEED)
        setting = " · ".join(label for label in (self.task_label, self.dataset_label, noise) if label)
        return f"{setting} · {self.stack} · seed {self.seed}"

    @property
    def task_label(self) -> str:
        """Task with its parameters; empty for a task without parameters."""
        return self.task.display_name() if self.task.parameters else ""

    @cached_property
    def dataset_label(self) -> str:
        """Dataset with the parameters that change the training data."""
        return self.dataset.display_name(hide=UNLABELED_DATASET_PARAMETERS)

    def run_dir(self) -> Path:
        """Return the folder, relative to the working folder, of the checkpoint and of records that wait for upload."""
        return WORKSPACE / "runs" / self.identity

    def as_dict(self) -> dict[str, Any]:
        """Return the complete specification as JSON-like data, which `resolve` reads."""
        return {
            "task": self.task.as_dict(),
            "dataset": self.dataset.as_dict(),
            "noise": self.noise.as_dict(),
            "mitigations": [member.as_dict() for member in self.mitigations],
            "budget": self.budget.model_dump(mode="json"),
            "seed": self.seed,
            "execution": self.execution.model_dump(mode="json"),
            "provenance": self.provenance.model_dump(mode="json") if self.provenance else None,
        }


def run_identity(settings_hash: str, code: Mapping[str, str]) -> str:
    """Return the identity of a run from the hash of its settings and the digests of its code.

    Example:
        >>> run_identity("0" * 20, {"engine": "1" * 16}) == run_identity("0" * 20, {"engine": "2" * 16})
        False
    """
    return _digest({"format": IDENTITY_FORMAT, "settings": settings_hash, "code": dict(code)})[:20]


def _digest(content: dict[str, Any]) -> str:
    # Sorted keys make the hash independent of the order of fields and parameters.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
