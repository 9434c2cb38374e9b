"""What every noise model, mitigation and dataset must do, ours and other people's alike."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.parameters import Parameter, schema_of
from noisybench.config.registry import Entry, list_entries
from noisybench.config.resolve import resolve
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets import label_files as labels
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.noise_model import NoiseModel
from noisybench.data.privileged import PRIVILEGED
from noisybench.data.source import DatasetSource
from noisybench.data.targets import OOD_TARGET, UNKNOWN_STATUS, UNKNOWN_TARGET, TargetKind
from noisybench.data.texts import is_text, texts_of
from noisybench.errors import UserError
from noisybench.leaderboard.checks import check_specification
from noisybench.leaderboard.claims import check_claims
from noisybench.leaderboard.evidence_kinds import evidence_kind
from noisybench.leaderboard.nested_components import without_places
from noisybench.records.schema import RunRecord
from noisybench.runs.environment import describe_environment
from noisybench.runs.preparation import prepare_run
from noisybench.runs.recorder import Recorder
from noisybench.training.mitigation import Mitigation
from noisybench.training.views import VIEWS, view_problems
from tests.helpers import (
    TOY_DATA,
    TOY_TASKS,
    comparable_rows,
    prepared_toy,
    toy_dataset,
    toy_labels,
    toy_spec,
    train_toy,
)

STANDARD_KEYS = {
    "train_loss", "train_accuracy", "noisy_val_accuracy", "noisy_val_loss", "clean_val_accuracy", "test_accuracy", "test_loss",
    "memorized_fraction", "recovered_fraction", "noise_auroc", "learning_rate", "seconds",
}  # fmt: skip
CLASSIFICATION_KEYS = {
    "test_balanced_accuracy", "noisy_val_balanced_accuracy", "memorized_chance", "prediction_changes",
}  # fmt: skip


def check_declaration(entry: Entry, base: type) -> None:
    """The source text and the imported class agree, and everything is explained."""
    cls = entry.load_class()
    assert issubclass(cls, base)
    assert inspect.getdoc(cls), "the public class needs a docstring"
    assert len(entry.summary) > 10
    assert entry.schema.fields == schema_of(cls).fields
    for name, (_, declared) in entry.schema.fields.items():
        assert isinstance(declared, Parameter)
        assert declared.help, f"parameter `{name}` needs a help text"
        if declared.low is not None and declared.high is not None:
            assert declared.low < declared.high
            for end in (declared.low, declared.high):
                assert not entry.schema.validate({name: int(end) if float(end).is_integer() else end}, "x")[1]


def noise_toy(cls: type[NoiseModel], size: int, held_out: int) -> Dataset:
    """Toy data of the kind that a noise model corrupts; of masks, fewer."""
    if cls.tasks[0] in TOY_DATA:
        return TOY_DATA[cls.tasks[0]](min(size, 40), min(held_out, 10))
    return toy_dataset(cls.example_classes, size=size, held_out=held_out)


class SealedInputs:
    """Inputs that a noise model must not read unless it declares `requires_inputs`."""

    def __init__(self, inputs: Any) -> None:
        self.shape, self.dtype = inputs.shape, inputs.dtype

    def __getitem__(self, rows: Any) -> Any:
        raise AssertionError("the noise model reads the inputs; declare `requires_inputs = True`")


def without_inputs(dataset: Dataset) -> Dataset:
    """Return a dataset with the same hash whose inputs cannot be read; the prompts of traces are always read."""
    if dataset.target_kind.name == "tokens":
        return dataclasses.replace(dataset)
    splits: dict[str, Any] = {
        name: dataclasses.replace(getattr(dataset, name), inputs=SealedInputs(dataset.train.inputs))
        for name in ("train", "validation")
    }
    sealed = dataclasses.replace(dataset, **splits)
    vars(sealed)["hash"] = dataset.hash
    return sealed


def check_noise_model(entry: Entry, folder: Path) -> None:
    """Rate, matrix, determinism, an untouched test split, and files that hold what was made."""
    check_declaration(entry, NoiseModel)
    cls = entry.load_class()
    assert "stream_name" in vars(cls), "labels must not depend on the name of a class or file"
    dataset = cls.example_dataset(noise_toy(cls, 4000, 1000))
    parameters = cls.example(dataset, folder)
    before = (dataset.test.targets.copy(), dataset.train.targets.copy())
    made: LabelSet = cls(**parameters).apply(dataset)

    np.testing.assert_array_equal(dataset.test.targets, before[0])
    np.testing.assert_array_equal(dataset.train.targets, before[1])
    kind = dataset.target_kind
    for observed, split in ((made.train, dataset.train), (made.validation, dataset.validation)):
        assert observed.dtype == split.targets.dtype
        assert observed.shape == split.targets.shape
        assert observed.min() >= 0
        assert observed[kind.is_labeled(observed)].max() < dataset.num_classes
        if kind.name == "masks":
            np.testing.assert_array_equal(kind.is_labeled(observed), kind.is_labeled(split.targets))

    model = cls(**parameters)
    again = model.apply(dataclasses.replace(dataset) if model.requires_inputs else without_inputs(dataset))
    assert again.hash == made.hash, "the same specification must give the same bytes"
    assert made.manifest["noise"]["convention"]
    clean = made.apply_to(dataset).train.targets
    counted = kind.label_status(clean, made.train) != UNKNOWN_STATUS
    assert made.manifest["actual_noise_rate"] == np.mean((made.train != clean)[counted])
    check_transitions(made, dataset)
    if "seed" in parameters or (
        made.manifest["transition_matrix"] is not None and made.manifest["actual_noise_rate"] > 0
    ):
        other = cls(**{**parameters, "seed": 1}).apply(dataset)
        assert other.hash != made.hash, "another seed must give other labels"

    stored = labels.load(labels.save(made, dataset, folder / "label_set"))
    assert stored.hash == made.hash
    np.testing.assert_array_equal(stored.train, made.train)
    frozen = list_entries("noise_models")["from_file"].load_class()(path=str(folder / "label_set")).apply(dataset)
    assert frozen.hash == made.hash, "a frozen label set must be the label set, with every replaced image"


def check_noise_model_anywhere(entry: Entry, folder: Path, size: int, seed: int, rate: float) -> None:
    """Any size, seed and rate either gives labels of the right shape and kind, or is refused with a reason."""
    cls = entry.load_class()
    if cls.tasks[0] in TOY_DATA:  # masks and traces take long
        size = size % 16 + 1
    dataset = cls.example_dataset(noise_toy(cls, size, size // 2 + 1))
    parameters = {**cls.example(dataset, folder), "seed": seed}
    if "rate" in entry.schema.fields:
        parameters["rate"] = rate
    refused = ""
    try:
        made: LabelSet = cls(**parameters).apply(dataset)
    except UserError as refusal:
        refused = str(refusal)
    if refused:
        assert "rate" in refused
        return
    assert made.train.shape == dataset.train.targets.shape
    assert ((made.train >= 0) & (made.train < dataset.num_classes))[dataset.target_kind.is_labeled(made.train)].all()
    assert made.hash == cls(**parameters).apply(dataset).hash
    if rate == 0 and "rate" in parameters:
        assert made.manifest["actual_noise_rate"] == 0


def check_transitions(made: LabelSet, dataset: Dataset) -> None:
    """The counts follow the stated matrix: a chi-square test for each clean class."""
    from scipy import stats

    if made.manifest["transition_counts"] is None:
        assert dataset.target_kind.name == "tokens"
        return
    counts = np.asarray(made.manifest["transition_counts"])
    is_labeled = dataset.target_kind.is_labeled
    assert counts.sum() == (is_labeled(made.apply_to(dataset).train.targets) & is_labeled(made.train)).sum()
    if made.manifest["transition_matrix"] is None:
        return
    matrix = np.asarray(made.manifest["transition_matrix"])
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert not counts[matrix == 0].any(), "an impossible transition occurred"
    p_values = []
    for row, expected in zip(counts, matrix, strict=True):
        possible = expected > 0
        if possible.sum() > 1:
            p_values.append(stats.chisquare(row[possible], expected[possible] * row.sum()).pvalue)
    if p_values:
        # The seed is fixed, so the test never fails by chance: a correct sampler stays far above 1e-6.
        assert min(p_values) > 1e-6


Stack = dict[str, Any]
"""A mitigation under test: its name and parameters."""


def toy_data(stack: Stack) -> Dataset:
    """Return the toy dataset of the task on which a mitigation is tested."""
    return TOY_DATA.get(toy_spec(stack).task.name, toy_dataset)()


def check_mitigation_declaration(entry: Entry) -> None:
    """Check that a mitigation is documented, and that the requirements of its test cases exist."""
    check_declaration(entry, Mitigation)
    for parameters in entry.load_class().test_cases():
        requirements = entry.load_class()(**parameters).requirements
        assert set(requirements.privileged) <= set(PRIVILEGED)
        assert view_problems(requirements.views, (*VIEWS, "policy")) == []


def check_mitigation_trains(stack: Stack, folder: Path) -> None:
    """Check that it trains, logs the standard keys, and returns a label quality for every example."""
    recorder = train_toy(prepared_toy(stack), folder)
    assert recorder.complete
    trained = [row for row in recorder.rows if row.stage == "train"]
    assert [row.epoch for row in trained] == [0, 1, 2]
    wanted = {key.replace("accuracy", trained[-1].metric) for key in STANDARD_KEYS}
    if trained[-1].metric == "accuracy":
        wanted |= CLASSIFICATION_KEYS
    assert {key for key in trained[-1].metrics() if "/" not in key} == wanted
    record = recorder.record(describe_environment(recorder.prepared.spec))
    assert record == type(record).from_dict(record.as_dict())
    check_acts(recorder)
    check_can_be_submitted(record)
    samples = recorder.evaluator.samples()
    assert samples.label_quality.shape == samples.observed.shape
    assert ((samples.label_quality >= 0) & (samples.label_quality <= 1 + 1e-5)).all()
    classes = recorder.prepared.dataset.num_classes
    assert ((samples.corrected_labels >= 0) & (samples.corrected_labels < classes))[
        recorder.prepared.dataset.target_kind.is_labeled(samples.observed)
    ].all()


def check_can_be_submitted(record: RunRecord) -> None:
    """Check that verification accepts what the run reports beside its predictions."""
    kind = evidence_kind(record.spec["task"]["name"])
    assert kind is not None
    submitted = dataclasses.replace(record, spec=without_places(record.spec))
    spec = resolve(submitted.spec)
    problems = [*check_claims(submitted, spec, kind), *check_specification(submitted, spec)]
    assert problems == []


@functools.cache
def baseline_weights(task: str) -> str:
    """Return the digest of the weights that cross-entropy reaches on the toy data of a task."""
    with tempfile.TemporaryDirectory() as folder:
        return train_toy(prepared_toy("cross_entropy", task=TOY_TASKS[task]), Path(folder)).record({}).weights_sha256


def check_acts(recorder: Recorder) -> None:
    """Check that training differs from that of cross-entropy, or that the mitigation or the rows give the reason."""
    record, (mitigation,) = recorder.record({}), recorder.prepared.stack.mitigations
    acts = record.weights_sha256 != baseline_weights(recorder.prepared.spec.task.name)
    if mitigation.requirements.keeps_weights:
        assert not acts, "declares that it keeps the weights, but changes them"
    elif not acts:
        warnings = [text for row in recorder.rows for text in row.warnings]
        reasons = "every example is kept", "the last epoch is the best"
        assert any(reason in text for reason in reasons for text in warnings), "has the weights of cross-entropy"


def check_mitigation_resumes(stack: Stack, folder: Path) -> None:
    """Check that a run that is interrupted after every epoch has bit-identical rows and weights."""
    undisturbed = train_toy(prepared_toy(stack), folder / "undisturbed")
    for _ in range(2):
        assert not train_toy(prepared_toy(stack), folder / "resumed", stop_after=1).complete
    resumed = train_toy(prepared_toy(stack), folder / "resumed")
    assert resumed.complete
    assert comparable_rows(resumed.rows) == comparable_rows(undisturbed.rows)
    assert resumed.record({}).weights_sha256 == undisturbed.record({}).weights_sha256
    np.testing.assert_array_equal(
        resumed.evaluator.samples().label_quality, undisturbed.evaluator.samples().label_quality
    )


def check_mitigation_survives(stack: Stack, folder: Path) -> None:
    """Check that it trains without any mislabeled example, and with a class that no observed label has."""
    clean = train_toy(prepared_toy(stack, labels=toy_labels(toy_data(stack), wrong_every=0)), folder / "clean")
    record = clean.record({})
    assert record.detection.auroc is None
    assert record.rows[-1].memorized_fraction is None

    dataset = toy_data(stack)
    labels_without_class = toy_labels(dataset)
    labels_without_class.train[labels_without_class.train == 3] = 4
    missing = train_toy(prepared_toy(stack, dataset, labels_without_class), folder / "missing")
    assert np.isfinite(missing.evaluator.samples().label_quality).all()


def check_mitigation_is_honest(stack: Stack, folder: Path) -> None:
    """Check that other clean labels with the same observed labels do not change training.

    The privileged information that the mitigation declares is the same in both runs; all other clean information
    differs.
    """
    dataset = toy_data(stack)
    label_set = toy_labels(dataset)
    train = dataclasses.replace(dataset.train, targets=np.roll(dataset.train.targets, 7))
    validation = dataclasses.replace(dataset.validation, targets=np.roll(dataset.validation.targets, 3))
    altered_dataset = dataclasses.replace(dataset, train=train, validation=validation)
    altered: dict[str, Any] = {"actual_noise_rate": 0.05, "transition_matrix": np.full((10, 10), 0.1).tolist()}
    altered_labels = LabelSet(label_set.train, label_set.validation, {**label_set.manifest, **altered})
    original = prepared_toy(stack, dataset, label_set)
    # Checked with the original data, whose privileged information it keeps; then everything else is replaced.
    changed = prepared_toy(stack, dataset, label_set)
    changed.dataset, changed.labels = altered_labels.apply_to(altered_dataset), altered_labels

    first, second = train_toy(original, folder / "original"), train_toy(changed, folder / "changed")
    same_weights = first.record({}).weights_sha256 == second.record({}).weights_sha256
    assert same_weights, "reads clean labels that it does not declare"
    first_samples, second_samples = first.evaluator.samples(), second.evaluator.samples()
    np.testing.assert_array_equal(first_samples.label_quality, second_samples.label_quality)
    np.testing.assert_array_equal(first_samples.corrected_labels, second_samples.corrected_labels)


MITIGATION_CHECKS = (
    check_mitigation_trains, check_mitigation_resumes, check_mitigation_survives, check_mitigation_is_honest,
)  # fmt: skip


def check_dataset(entry: Entry, folder: Path) -> None:
    """It loads its own format to fixed, disjoint, hashed splits that a network can train on."""
    check_declaration(entry, DatasetSource)
    cls = entry.load_class()
    parameters = cls.example(folder)
    dataset = cls(**parameters).load()
    for split in (dataset.train, dataset.validation, dataset.test):
        assert len(split) > 0
        assert len(split.inputs.shape) == 4
        if dataset.target_kind.dense:
            check_dense_split(split, dataset.target_kind, dataset.num_classes)
            continue
        if is_text(split.inputs):
            assert split.inputs.shape[1:] == (1, 1, 1)
            assert all(texts_of(split.inputs[:]))
        elif "classification" in cls.tasks:
            assert split.inputs[:].dtype == np.uint8
            assert split.inputs.shape[1] in (1, 3)
        else:
            assert split.inputs[:].dtype == np.float32
            assert split.inputs.shape[2:] == (1, 1)
        assert split.targets.dtype == np.int64
        labels = split.targets if split.noisy_targets is None else split.noisy_targets
        assert set(labels) <= set(range(dataset.num_classes))
        assert set(split.targets) <= {OOD_TARGET, UNKNOWN_TARGET, *range(dataset.num_classes)}
    assert dataset.test.targets.min() >= 0, "the test split has a known class for every image"
    assert dataset.test.noisy_targets is None
    assert not set(dataset.train.index) & set(dataset.validation.index)
    assert dataset.source_size > max(dataset.train.index.max(), dataset.validation.index.max())
    assert cls(**parameters).load().hash == dataset.hash, "the same files must give the same hash"
    if not dataset.target_kind.dense:  # sources of masks bring splits of their own
        assert cls(**{**parameters, "split_seed": 1}).load().hash != dataset.hash
    small = cls(**{**parameters, "train_size": 20}).load()
    assert len(small.train) == 20
    assert set(small.train.index) <= set(range(dataset.source_size))
    if is_text(dataset.train.inputs):  # networks train on their features
        spec = toy_spec(task="transfer", dataset="features", budget={"epochs": 1, "network": "features"})
        with pytest.raises(UserError, match="noisybench embed"):
            prepare_run(spec, dataset, toy_labels(dataset))
        return
    run = prepare_on(dataset)
    assert train_toy(run, folder / "run").complete


def check_dense_split(split: Split, kind: TargetKind, classes: int) -> None:
    """Every image has a mask of its size with a label somewhere; every prompt a response without a gap."""
    assert split.inputs[:].dtype == split.targets.dtype == np.uint8
    labeled = kind.is_labeled(split.targets)
    assert split.targets[labeled].max() < classes
    if kind.name == "masks":
        assert split.inputs.shape[1] in (1, 3)
        assert split.targets.shape == (len(split), *split.inputs.shape[2:])
        assert labeled.any(axis=(1, 2)).all()
    else:
        assert split.inputs.shape[1:3] == (1, 1)
        assert labeled[:, 0].all()
        assert (np.diff(labeled.astype(int), axis=1) <= 0).all()


def prepare_on(dataset: Dataset) -> Any:
    """A one-epoch run on a dataset, of images or of features."""

    spec = toy_spec(budget={"epochs": 1})
    if dataset.target_kind.dense:
        task = {"tokens": "chain_of_thought", "masks": "segmentation"}[dataset.target_kind.name]
        spec = toy_spec(task=task, budget={"epochs": 1})
    elif dataset.train.inputs[:1].dtype != np.uint8:
        spec = toy_spec(
            "linear_probe", task="transfer", dataset="features", budget={"epochs": 1, "network": "features"}
        )
    real_world = list_entries("noise_models")["real_world"].load_class()()
    return prepare_run(
        spec, dataset, toy_labels(dataset) if dataset.train.noisy_targets is None else real_world.apply(dataset)
    )
