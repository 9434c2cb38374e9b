"""Names, tags, parameters and datasets by which people find and compare runs in MLflow; nothing here identifies a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noisybench import __version__
from noisybench.tracking.connection import PARENT, PREFIX

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

    from noisybench.config.spec import RunSpec
    from noisybench.records.schema import EpochRow

HEADLINE = "Score/test"
"""Metric by which runs compare: higher is better, for all tasks. MLflow sorts charts by the group before `/`, capitals first."""

MAX_DIGEST_LENGTH = 36
"""Limit of MLflow's API for the digest of a dataset, in characters."""


def run_name(spec: RunSpec) -> str:
    """Return the name of a run, which begins with what differs between runs of a suite: tables of MLflow cut its end.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> run_name(resolve({"dataset": "digits", "noise": {"name": "pair_flip", "rate": 0.4}, "mitigations": "elr"}))
        'elr · s0 · digits/pair_flip .4'
    """
    rate = spec.noise.parameters.get("rate")
    # Runs of one table differ in the rate, whose zero is the same in all.
    amount = f" {rate:g}".replace(" 0.", " .") if isinstance(rate, float) else ""
    task = f" · {spec.task_label}" if spec.task_label else ""
    return f"{spec.stack} · s{spec.seed} · {spec.dataset.name}/{spec.noise.name}{amount}{task}"


def descriptive_tags(spec: RunSpec) -> dict[str, str]:
    """Return the tags of a run by which MLflow's search filters and groups runs.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> tags = descriptive_tags(resolve({"dataset": "digits", "noise": {"name": "pair_flip", "rate": 0.4}}))
        >>> tags["noisybench.setting"], tags["noisybench.rate"], tags["mlflow.source.name"]
        ('digits · pair_flip(rate=0.4)', '0.4', 'noisybench 0.2.0')
    """
    rate = spec.noise.parameters.get("rate")
    return {
        "mlflow.source.name": f"noisybench {__version__}",
        "mlflow.source.type": "LOCAL",
        "mlflow.note.content": f"{spec.title}. [Leaderboard](/leaderboard), if `noisybench leaderboard serve` shows this page.",
        f"{PREFIX}title": spec.title,
        f"{PREFIX}setting": setting_label(spec),
        f"{PREFIX}task": spec.task.name,
        f"{PREFIX}dataset": spec.dataset.name,
        f"{PREFIX}noise": spec.noise.name,
        **({f"{PREFIX}rate": f"{rate:g}"} if isinstance(rate, int | float) else {}),
        **({f"{PREFIX}suite": spec.suite} if spec.suite else {}),
        **({PARENT: spec.suite_run, f"{PREFIX}suite_run": spec.suite_run} if spec.suite_run else {}),
    }


def setting_label(spec: RunSpec) -> str:
    """Return the task, unless it is the default, the dataset and the noise of a run, in one line.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> setting_label(resolve({"dataset": "digits", "noise": "clean"}))
        'digits · clean'
    """
    noise = spec.noise.display_name(hide=("seed",))
    return " · ".join(label for label in (spec.task_label, spec.dataset_label, noise) if label)


def row_metrics(row: EpochRow) -> dict[str, float]:
    """Return the metrics of an epoch, the headline first: MLflow compares runs by the first metric, in order of logging.

    Its last value is the score by the rule `last`, since the row after a refinement follows that of its epoch.

    Example:
        >>> from noisybench.records.schema import EpochRow
        >>> row = EpochRow(0, "refine", 1.2, 0.5, 0.4, 1.3, 0.6, 1.1, None, None, None, 0.1, 2.0, 0)
        >>> list(row_metrics(row))[:2], row_metrics(row)["Score/test"]
        (['Score/test', 'refine/train_loss'], 0.6)
    """
    prefix = "" if row.stage == "train" else f"{row.stage}/"
    return {HEADLINE: row.test_score, **{prefix + name: value for name, value in row.metrics().items()}}


def dataset_input(spec: RunSpec, label_set: str) -> DatasetInput:
    """Return the training data of a run as a dataset of MLflow, whose digest is the beginning of that of the label set.

    Args:
        spec: the run.
        label_set: SHA-256 of its label set.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    noise = spec.noise.display_name(hide=("seed",))
    dataset: Any = Dataset(
        name=f"{spec.dataset_label} · {noise}"[:500],
        digest=label_set[:MAX_DIGEST_LENGTH],
        source_type="noisybench",
        source=f'{{"dataset": "{spec.dataset.name}", "label_set": "{label_set}"}}',
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def parameters(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run as dotted keys; those without a value would be the text ``None`` in comparisons.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> shown = parameters(resolve({"mitigations": "elr"}).as_dict())
        >>> shown["mitigations.elr.beta"], None in shown.values()
        (0.7, False)
    """
    return {key: value for key, value in _flatten(specification).items() if value is not None}


def _flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested specification as dotted keys, with the parameters of a mitigation under its name."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if key == "mitigations":
            flat[key] = "+".join(member["name"] for member in value)
            for member in value:
                # By name and not by position, so that a parameter has one key in all stacks that contain the method.
                flat |= {f"{key}.{member['name']}.{k}": v for k, v in member.items() if k != "name"}
        elif isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
