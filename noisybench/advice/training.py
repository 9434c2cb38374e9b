"""Training of candidates: what each of them trains on, what it will cost, and the recipe of the chosen one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml

from noisybench.advice.candidates import Candidate
from noisybench.advice.choice import Choice
from noisybench.audit.inputs import audit_spec
from noisybench.config.overrides import expand, parse_stack
from noisybench.config.resolve import resolve
from noisybench.config.spec import RunSpec
from noisybench.config.yaml_files import load_config
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.errors import UserError
from noisybench.leaderboard.verdict import BASELINE
from noisybench.runs.preparation import prepare_run
from noisybench.runs.training import train
from noisybench.training.prepared import PreparedRun

VALIDATION_FRACTION, TEST_FRACTION = 0.2, 0.1
"""Fractions of own data that are held out: for the choice, and as the test split of the recipe."""
SPLIT_OVERRIDES = tuple(
    f"dataset.{name}" for name in ("validation_fraction", "test_fraction", "train_size", "test_size", "split_seed")
)
"""Overrides of the splits, which features of the same examples share."""
MIN_REPLICATES = 2
"""Fewest scores of a stack: a single one has no interval."""
TRIAL_SIZE = 2000
"""Most examples of the runs that measure the speed of this machine."""
TRIAL_EPOCHS = (1, 3)
"""Epochs of these runs."""
START_SECONDS = 1.0
"""Seconds to start the process of a run and to finish its record."""


@dataclass(frozen=True)
class AdviceTask:
    """Labels to advise on.

    Attributes:
        spec: specification of cross-entropy on the labels.
        own_data: whether the labels are those of a user's folder or file, and not of a recipe.
        dataset: dataset of the specification.
        labels: its observed labels.
        redraws_splits: whether each replicate draws its own splits, so that intervals include the choice of validation examples.
    """

    spec: RunSpec
    own_data: bool
    dataset: Dataset
    labels: LabelSet
    redraws_splits: bool


def load_advice_task(labels: str, overrides: Sequence[str] = (), features: Path | None = None) -> AdviceTask:
    """Load the labels to advise on.

    Args:
        labels: folder, file or recipe, as for `noisybench audit`.
        overrides: overrides of the specification such as ``budget.epochs=30``; those of the dataset belong to its images if
            there are features of it.
        features: file of features that replaces the images, as `noisybench embed` writes it.

    Raises:
        UserError: every problem of the specification or the data; a recipe without noise; no validation split.
    """
    spec, own_data = audit_spec(labels, overrides)
    raw = specification(spec)
    if own_data:
        raw["dataset"] |= {"validation_fraction": VALIDATION_FRACTION, "test_fraction": TEST_FRACTION}
    if features is not None:
        splits = {name: value for name, value in raw["dataset"].items() if f"dataset.{name}" in SPLIT_OVERRIDES}
        raw["dataset"] = {"name": "features", "path": str(features), **splits}
    if features is not None or spec.dataset.name == "features":
        raw |= {"task": "transfer"}
        if features is not None or own_data:
            raw["budget"] = load_config("recipes", "features")["budget"]
    raw["mitigations"] = BASELINE
    if not own_data and spec.noise.name == "clean":
        raise UserError(
            f"{labels}: its noise model is `clean`, so that there is nothing to advise on; choose another, e.g. "
            "noise=symmetric_exclusive noise.rate=0.4, or give the folder or file of your own labels"
        )
    # Once more, because fractions and budget from above are defaults, not decisions.
    (raw,) = expand(raw, [each for each in overrides if each.startswith(("budget.", *SPLIT_OVERRIDES))])
    spec = resolve(raw)
    prepared = prepare_run(spec)
    dataset = prepared.dataset
    if not len(dataset.validation):
        raise UserError("dataset.validation_fraction: advice needs a validation split; set it to 0.1 or 0.2")
    # New splits of a recipe's data would train on its test examples, unless these are a split of the source.
    redraws_splits = own_data or spec.dataset.build().read()[1] is not None
    return AdviceTask(spec, own_data, dataset, prepared.labels, redraws_splits)


def specification(spec: RunSpec) -> dict[str, Any]:
    """Return a specification as it is written in a recipe, without parameters that have no value.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> sorted(specification(resolve({"dataset": "digits"})))
        ['budget', 'dataset', 'mitigations', 'noise', 'seed', 'task']
    """
    raw = spec.as_dict()
    content = {name: _without_none(raw[name]) for name in ("task", "dataset", "noise", "budget")}
    members = [_without_none(member) for member in raw["mitigations"]]
    return {**content, "mitigations": members, "seed": raw["seed"]}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in values.items() if value is not None
    }


def replicates(task: AdviceTask, stack: str, count: int) -> list[RunSpec]:
    """Return the runs of a stack, with a seed and, where splits are redrawn, splits of their own."""
    raw = specification(task.spec)
    first = task.spec.dataset.parameters["split_seed"]
    specs = []
    for number in range(count):
        dataset = {**raw["dataset"], "split_seed": first + number} if task.redraws_splits else raw["dataset"]
        specs.append(
            resolve({**raw, "dataset": dataset, "mitigations": parse_stack(stack), "seed": task.spec.seed + number})
        )
    return specs


def problem_of(task: AdviceTask, stack: str) -> str | None:
    """Return why a stack cannot be trained on the labels without privileged information; None if it can."""
    try:
        spec = replicates(task, stack, 1)[0]
        if spec.preset_privileged:
            return "its parameters depend on privileged information"
        prepared = prepare_run(dataclasses.replace(spec, dataset=task.spec.dataset), task.dataset, task.labels)
    except UserError as error:
        return error.problems[0]
    needed = sorted({name for each in prepared.stack.mitigations for name in each.requirements.privileged})
    return f"needs privileged information ({', '.join(needed)})" if needed else None


def measure_run_seconds(task: AdviceTask) -> float:
    """Return the estimated seconds of one run of cross-entropy on this machine, from short runs on some of the examples."""
    raw = specification(task.spec)
    epochs, size = raw["budget"]["epochs"], len(task.dataset.train)
    if size > TRIAL_SIZE:
        raw["dataset"]["train_size"] = TRIAL_SIZE
    threads, start = torch.get_num_threads(), time.monotonic()
    try:
        torch.set_num_threads(1)
        prepare_run(_trial(raw, 1))
        loaded = time.monotonic() - start
        first, longer = (_seconds_of(prepare_run(_trial(raw, number))) for number in TRIAL_EPOCHS)
    finally:
        torch.set_num_threads(threads)
    # An epoch with its evaluation is the difference; the rest of the first run is paid once.
    epoch = max(longer - first, 0.0) / (TRIAL_EPOCHS[1] - TRIAL_EPOCHS[0])
    once = max(first - TRIAL_EPOCHS[0] * epoch, 0.0)
    return float(START_SECONDS + loaded + once + epochs * epoch * max(1.0, size / TRIAL_SIZE))


def _trial(raw: Mapping[str, Any], epochs: int) -> RunSpec:
    budget = {**raw["budget"], "epochs": epochs, "warmup_epochs": 0}
    return resolve({**raw, "budget": budget, "execution": {"system_metrics": False}})


def _seconds_of(prepared: PreparedRun) -> float:
    start = time.monotonic()
    with TemporaryDirectory(prefix="noisybench-") as folder:
        train(prepared, Path(folder), send=lambda rows: None, report=lambda kind, data: None, stop=lambda: False)
    return time.monotonic() - start


@dataclass(frozen=True)
class TrainingPlan:
    """Runs of the advice and their cost.

    Attributes:
        candidates: stacks to train beside cross-entropy.
        replicates: runs of each stack.
        seconds: estimated seconds of all runs.
    """

    candidates: tuple[Candidate, ...]
    replicates: int
    seconds: float

    @property
    def num_runs(self) -> int:
        """Number of runs, those of cross-entropy included."""
        return (1 + len(self.candidates)) * self.replicates


def fit_budget(
    candidates: Sequence[Candidate], count: int, run_seconds: float, jobs: int, budget_seconds: float | None
) -> TrainingPlan:
    """Return as many runs as fit into a budget: fewer replicates first, then fewer candidates, the least promising first.

    Args:
        candidates: candidates, the best one first; at least one.
        count: wanted runs of each stack.
        run_seconds: seconds of one run of cross-entropy.
        jobs: number of parallel runs.
        budget_seconds: seconds that there are; None for no limit.

    Raises:
        UserError: not even one candidate beside cross-entropy fits.

    Example:
        >>> elr, gce = Candidate("elr", 0.1, 3, 1.5), Candidate("gce", 0.05, 3, 1.5)
        >>> fit_budget([elr, gce], 3, 60, 1, None).seconds
        720.0
        >>> plan = fit_budget([elr, gce], 3, 60, 1, 400)
        >>> plan.replicates, len(plan.candidates), plan.seconds
        (2, 1, 300.0)
    """
    for number in range(len(candidates), 0, -1):
        chosen = tuple(candidates[:number])
        total = 1 + sum(candidate.relative_cost for candidate in chosen)
        for runs in range(count, min(count, MIN_REPLICATES) - 1, -1):
            plan = TrainingPlan(chosen, runs, total * runs * run_seconds / min(jobs, runs * (1 + number)))
            if budget_seconds is None or plan.seconds <= budget_seconds:
                return plan
    raise UserError(
        f"--budget-minutes: {budget_seconds / 60 if budget_seconds else 0:.1f} minutes are too few: cross-entropy and one "
        f"candidate take about {plan.seconds / 60:.1f}"
    )


def recipe_text(task: AdviceTask, choice: Choice, lines: Sequence[str]) -> str:
    """Return the recipe of a choice, with what was measured in its header."""
    raw = specification(task.spec)
    raw["mitigations"] = specification(replicates(task, choice.stack, 1)[0])["mitigations"]
    header = [f"# {line}" for line in ("Advised by noisybench advise.", "", *lines)]
    return "\n".join(line.rstrip() for line in header) + "\n" + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
