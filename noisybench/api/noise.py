"""Noise models outside of the harness: on arrays, tensors, data frames and data sets of other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from noisybench.api.noisy_labels import NoisyLabels, mislabeled
from noisybench.config.registry import get_entry
from noisybench.config.spec import Component
from noisybench.data.dataset import Dataset, Split
from noisybench.data.images.arrays import Channels
from noisybench.data.in_memory import Examples, check_lengths
from noisybench.data.in_memory_inputs import InMemoryInputs, read_inputs
from noisybench.data.in_memory_labels import InMemoryLabels, read_labels
from noisybench.data.in_memory_tables import LabeledData, open_table
from noisybench.data.in_memory_traces import InMemoryTraces, is_records, read_traces, table_columns
from noisybench.data.label_sets.label_set import SPLITS, LabelSet, with_clean_targets
from noisybench.data.labels.class_labels import IntegerLabels
from noisybench.data.noise_model import NoiseModel
from noisybench.data.splits.names import find_splits
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.data.traces.schemas import pair_fields
from noisybench.errors import UserError, show


class Noise:
    """A noise model with its parameters; see `noise`."""

    def __init__(self, component: Component) -> None:
        self._component = component
        self._model: NoiseModel = component.build()

    @property
    def name(self) -> str:
        """Name of the noise model."""
        return self._component.name

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, defaults included."""
        return dict(self._component.parameters)

    def as_field(self) -> dict[str, Any]:
        """Return name and parameters, as a specification writes them; `nb.run(noise=...)` asks for them.

        Example:
            >>> noise("pair_flip", rate=0.3).as_field()
            {'name': 'pair_flip', 'seed': 0, 'rate': 0.3}
        """
        return {"name": self.name, **self.parameters}

    @property
    def convention(self) -> str:
        """Meaning of the noise rate in one sentence."""
        return self._model.convention

    @property
    def requires_inputs(self) -> bool:
        """True if the labels depend on the inputs, so that `apply` needs X."""
        return self._model.requires_inputs

    @property
    def display_name(self) -> str:
        """Name with the rate and the parameters that differ from their defaults."""
        return self._component.display_name()

    def __repr__(self) -> str:
        return f"noise: {self.display_name}"

    def apply(
        self,
        X: Any = None,
        y: Any = None,
        *,
        class_names: Sequence[Any] | int | None = None,
        channels: Channels | None = None,
        has_background: bool = True,
        program: str | None = None,
    ) -> NoisyLabels:
        """Corrupt labels; the same labels, classes and parameters give the same result on every machine.

        Labels alone decide the result, so that ``apply(X, y)``, ``apply(y=y)`` and ``apply(data)`` of a torch data set agree,
        except for noise models that look at the inputs (`instance_dependent`, `web`), which need X.

        Args:
            X: inputs of the same length: images (N, C, H, W) or (N, H, W, C), (N, D) features, a data frame, prompts. Or
                inputs and labels together: a data frame or table with a column of labels, a data set of torch or Hugging
                Face, a `DatasetDict`, of which the training and validation split get noise, records of traces, or a dataset
                from `load_dataset`, whose labels then are those of a run in the harness.
            y: labels: (N,) integers or text in a list, array, tensor or column, (N, H, W) masks of integers in which 255 is
                no label, responses of traces; or the name of the column with the labels, if X has one.
            class_names: names of all classes in the order of their indices, or their number; by default, each label that
                occurs is a class.
            channels: position of the color channels, ``"first"`` or ``"last"``, if the shape allows both.
            has_background: class 0 of masks is the background.
            program: program of which traces are, such as ``"add"``; by default, texts with annotated calculations.

        Raises:
            UserError: the data cannot be read, or the noise model does not fit them; the message says why.

        Example:
            >>> images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
            >>> noisy = noise("instance_dependent", rate=0.4).apply(images, np.arange(100) % 4)
            >>> noisy.y.shape, noisy.y.dtype, noisy.matrix is None
            ((100,), dtype('int64'), True)
        """
        if isinstance(X, Dataset):
            if y is not None:
                raise UserError("y: a dataset has its own labels; leave y out")
            return self._apply_dataset(X)
        if is_records(X) or self._is_trace_noise:
            return self._apply_traces(X, y, program)
        if isinstance(X, Mapping):
            return self._apply_splits(X, y, class_names, channels, has_background)
        data = self._data(X, y)
        examples = self._read(data, class_names, channels)
        dataset = examples.dataset(has_background=has_background)
        labels = self._model.apply(dataset)
        observed, images = _restore(examples, labels, "train"), _restore_inputs(examples.inputs, labels, dataset)
        corrupted = data.replace(observed, images)
        is_table = y is None or isinstance(y, str)
        inputs = corrupted if is_table else X if images is None else images
        return NoisyLabels(corrupted, inputs, mislabeled(labels, dataset, "train"), labels, dataset, self.display_name)

    @property
    def _is_trace_noise(self) -> bool:
        return self._model.tasks == ("chain_of_thought",)

    def _data(self, X: Any, y: Any) -> LabeledData:
        """Return inputs and labels, which one table holds or two arguments."""
        if y is None or isinstance(y, str):
            table = open_table(X, y)
            if table is not None:
                return table
            if X is None:
                raise UserError("y: give the labels, as in apply(X, y) or apply(y=labels)")
            if isinstance(X, Split):
                raise UserError("X: is one split; pass the whole dataset, or apply(split.inputs, split.targets)")
            raise UserError("y: give the labels of X; labels alone are apply(y=labels)")
        check_lengths(X, y)
        return LabeledData(y, lambda: X, lambda labels, inputs: labels, shape=getattr(X, "shape", None))

    def _read(
        self,
        data: LabeledData,
        class_names: Sequence[Any] | int | None,
        channels: Channels | None,
        integer_labels: IntegerLabels = "auto",
    ) -> Examples:
        if class_names is None and data.class_names is not None:
            # Integers beside the class names of a data set of torch or Hugging Face are always indices.
            class_names, integer_labels = data.class_names, "indices"
        labels = read_labels(data.labels, class_names, integer_labels=integer_labels)
        if not self.requires_inputs:
            _check_size(data, labels)
            return Examples(labels)
        given = data.inputs()
        if given is None:
            raise UserError(
                f"X: the labels of `{self.name}` depend on the inputs; give them, as in apply(X, y), or use a noise model that "
                "depends on the class alone, such as symmetric_exclusive"
            )
        return Examples(labels, read_inputs(given, channels))

    def _apply_dataset(self, dataset: Dataset) -> NoisyLabels:
        labels = self._model.apply(dataset)
        replaced = with_clean_targets(dataset, labels.replaced, None)
        return NoisyLabels(
            {name: labels.observed(name) for name in SPLITS},
            {name: getattr(replaced, name).inputs for name in SPLITS},
            {name: mislabeled(labels, dataset, name) for name in SPLITS},
            labels,
            dataset,
            self.display_name,
        )

    def _apply_traces(self, X: Any, y: Any, program: str | None) -> NoisyLabels:
        column = _response_column(X) if y is None and not is_records(X) else y if isinstance(y, str) else None
        table = None if column is None else open_table(X, column)
        traces = read_traces(X, y, program) if table is None else _table_traces(table, column, program)
        labels = self._model.apply(traces.dataset)
        observed = traces.restore(labels.train)
        corrupted = observed if table is None else table.replace(observed, None)
        inputs = corrupted if y is None or table is not None else X
        incorrect = mislabeled(labels, traces.dataset, "train")
        return NoisyLabels(corrupted, inputs, incorrect, labels, traces.dataset, self.display_name)

    def _apply_splits(
        self,
        data: Mapping[str, Any],
        column: Any,
        class_names: Sequence[Any] | int | None,
        channels: Channels | None,
        has_background: bool,
    ) -> NoisyLabels:
        """Corrupt the training and validation split of several named ones; others stay as they are."""
        roles = find_splits(list(data), "X").names
        named: dict[str, str] = {role: names[0] for role, names in roles.items() if role in SPLITS and len(names) == 1}
        if "train" not in named:
            raise UserError(f"X: its splits are {', '.join(map(str, data))}, of which none is the training split")
        tables: dict[str, LabeledData] = {}
        for role, name in named.items():
            table = open_table(data[name], column)
            if table is None:
                raise UserError(
                    f"X: the split {name} must be a table or a data set, but is {type(data[name]).__name__}"
                )
            tables[role] = table
        train = self._read(tables["train"], class_names, channels)
        examples = {"train": train}
        if "validation" in tables:
            # Without declared classes, those of the training labels are written as these labels write them.
            is_declared = class_names is not None or tables["validation"].class_names is not None
            classes, meaning = (class_names, "auto") if is_declared else (train.labels.class_names, "names")
            examples["validation"] = self._read(tables["validation"], classes, channels, cast(IntegerLabels, meaning))
        dataset = train.dataset(examples.get("validation"), has_background=has_background)
        labels = self._model.apply(dataset)
        changed: dict[str, Any] = {}
        for role, part in examples.items():
            images = _restore_inputs(part.inputs, labels, dataset, role)
            changed[named[role]] = tables[role].replace(_restore(part, labels, role), images)
        corrupted: Any = type(data)({name: changed.get(name, split) for name, split in data.items()})  # type: ignore[call-arg]
        incorrect = {named[role]: mislabeled(labels, dataset, role) for role in examples}
        return NoisyLabels(corrupted, corrupted, incorrect, labels, dataset, self.display_name)


def noise(name: str, **parameters: Any) -> Noise:
    """Return a noise model, which corrupts labels in any form.

    Args:
        name: name of a noise model (`list_names("noise_models")`).
        parameters: its parameters, such as ``rate=0.4, seed=0``; `noisybench describe NAME` lists them.

    Raises:
        UserError: the noise model is unknown, or a parameter is invalid.

    Examples:
        >>> noise("pair_flip", rate=0.3)
        noise: pair_flip(rate=0.3)
        >>> noise("pair_flip", rate=0.3).apply(y=[0, 1, 2, 0, 1, 2]).y
        [0, 1, 2, 0, 2, 2]
        >>> noise("pair_flip", rate=3)
        Traceback (most recent call last):
        noisybench.errors.UserError: noise.rate: input should be less than or equal to 1, but got 3 (allowed: [0, 1])
    """
    if not isinstance(name, str):
        raise UserError(
            f"noise: must be the name of a noise model, but got {show(name)} (`noisybench list noise_models`)"
        )
    entry = get_entry("noise_models", name, "noise")
    complete, problems = entry.schema.validate(parameters, "noise")
    if problems:
        raise UserError(*problems)
    return Noise(Component("noise_models", name, complete))


def _check_size(data: LabeledData, labels: InMemoryLabels) -> None:
    """Refuse masks of another height or width than their images, which are not read."""
    shape, size = data.shape, labels.targets.shape[1:]
    if size and shape is not None and size not in (tuple(shape[1:3]), tuple(shape[2:4])):
        raise UserError(f"y has masks of the shape {size}, but X the shape {tuple(shape)}; each pixel needs one label")


def _response_column(table: Any) -> str | None:
    """Return the column with the responses of a table; None for anything else.

    Raises:
        UserError: its columns do not show which one it is.
    """
    columns = table_columns(table)
    if columns is None:
        return None
    pair = pair_fields(columns)
    if pair is None:
        raise UserError(
            f"X: its columns are {', '.join(columns)}, which do not show the prompts and the responses; name them prompt and "
            'response, or name the responses, as in apply(X, "solution"), beside one column of prompts'
        )
    return pair[1]


def _table_traces(table: LabeledData, response: str | None, program: str | None) -> InMemoryTraces:
    """Read the traces of a table: its only other column has the prompts, or the one that belongs to the responses."""
    prompts = table.inputs()
    if hasattr(prompts, "columns"):
        columns = [str(column) for column in prompts.columns]
        pair = pair_fields([*columns, str(response)], response)
        if pair is None and len(columns) != 1:
            raise UserError(
                f"X: its columns are {', '.join(columns)} beside the responses; leave only that of the prompts, or name the "
                "columns prompt and response"
            )
        prompts = prompts[columns[0] if pair is None else pair[0]]
    return read_traces(prompts, table.labels, program)


def _restore(examples: Examples, labels: LabelSet, split: str) -> Any:
    """Return the observed labels of a split in the form of its given ones."""
    observed = labels.observed(split)
    missing = np.flatnonzero((observed == UNKNOWN_TARGET) & (observed.ndim == 1))
    if len(missing):
        raise UserError(
            f"noise: {len(missing)} of {len(observed)} examples have no observed label, the first in row {missing[0]}; remove "
            "them, or give them a label"
        )
    return examples.labels.restore(observed)


def _restore_inputs(inputs: InMemoryInputs | None, labels: LabelSet, dataset: Dataset, split: str = "train") -> Any:
    """Return the inputs of a split with replaced images, in the form of the given ones; None if none was replaced."""
    if split not in labels.replaced or inputs is None:
        return None
    return inputs.restore(getattr(with_clean_targets(dataset, labels.replaced, None), split).inputs)
