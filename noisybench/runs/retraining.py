"""Train a finished run again for its model, and check that it reaches the recorded weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.records.codes import as_code, code_differences, describe_differences
from noisybench.records.equivalence import uses_gpu
from noisybench.records.schema import RunRecord
from noisybench.runs.environment import describe_environment
from noisybench.runs.preparation import prepare_run
from noisybench.runs.saved_model import TrainedModel
from noisybench.runs.training import train
from noisybench.training.auxiliary import AUXILIARY_DIR
from noisybench.utils.progress import report_progress
from noisybench.utils.torch_state import preserved_torch_state

COMPARED = ("torch", "device", "threads", "numpy", "torchvision")
"""Parts of the environment of a run that can change the last bits of its weights."""


def retrain(record: RunRecord) -> TrainedModel:
    """Train a finished run again from its recorded specification, and return its model.

    Args:
        record: record of the run.

    Raises:
        UserError: the run cannot be trained here, or its weights are not those of the record; says why.
    """
    spec = _recorded_spec(record)
    epochs = spec.budget.epochs
    with tempfile.TemporaryDirectory() as folder, preserved_torch_state():
        recorder = train(
            prepare_run(spec),
            Path(folder),
            lambda rows: None,
            lambda kind, data: report_progress("retrain the run", data["epoch"] + 1, data["epochs"] or epochs),
            lambda: False,
            AUXILIARY_DIR,
        )
    environment = describe_environment(spec)
    retrained = recorder.record(environment)
    if retrained.weights_sha256 != record.weights_sha256:
        raise UserError(
            f"the run {record.run_id} ({record.title}) was trained again, but reached other weights "
            f"({retrained.weights_sha256[:8]}, recorded {record.weights_sha256[:8]}): "
            f"{_explain(record, spec, environment)}. Its own model is lost; train it under the installed code with "
            "--again execution.save_model=true"
        )
    return recorder.model


def _recorded_spec(record: RunRecord) -> RunSpec:
    """Return the specification of a run, for the device on which it was trained.

    Raises:
        UserError: the installed code does not know it any longer, or its data have changed.
    """
    execution = dict(record.spec["execution"])
    if not uses_gpu(record.environment):
        execution["device"] = "cpu"
    try:
        spec = resolve({**record.spec, "execution": execution})
    except UserError as error:
        raise UserError(
            *(f"the run {record.run_id} cannot be trained again: {problem}" for problem in error.problems)
        ) from None
    if spec.settings_hash != record.settings:
        raise UserError(
            f"the run {record.run_id} ({record.title}) cannot be trained again: the bytes of its data files have changed "
            "since, or its settings mean something else in the installed version"
        )
    return spec


def _explain(record: RunRecord, spec: RunSpec, environment: dict[str, str]) -> str:
    """Return what differs between a recorded run and its repetition."""
    reasons = []
    if record.code != spec.code:
        differences = code_differences(as_code(record.code), as_code(spec.code))
        reasons.append(f"the code is another one ({describe_differences(differences)})")
    reasons += [
        f"{name} is {environment.get(name)} instead of {record.environment[name]}"
        for name in COMPARED
        if name in record.environment and record.environment[name] != environment.get(name)
    ]
    if uses_gpu(record.environment):
        reasons.append("training on a GPU is not bit-identical")
    return "; ".join(reasons) or "code, versions and device are the same, so that this machine computes other sums"
