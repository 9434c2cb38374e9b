"""A scikit-learn classifier that trains networks under mitigations of label noise, in noisybench's own loop."""

from __future__ import annotations

import contextlib
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from noisybench.config.resolve import complete
from noisybench.config.spec import RunSpec
from noisybench.data.containers import as_array, is_picture
from noisybench.data.dataset import Dataset, Split
from noisybench.data.in_memory import check_lengths
from noisybench.data.in_memory_inputs import read_inputs
from noisybench.data.labels.types import is_missing
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import InvalidValue, UserError, show
from noisybench.execution.preflight import check_device
from noisybench.integrations._memory_training import (
    check_privileged,
    deployed_task,
    reported_warnings,
    train_prepared,
)
from noisybench.runs.preparation import prepare_run
from noisybench.training.prepared import PreparedRun
from noisybench.utils.torch_state import preserved_torch_state

BUDGET = (
    "network", "epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "lr_schedule", "augmentation",
)  # fmt: skip
"""Fields of the budget that are parameters of the classifier; `budget` takes all others."""

OWN_NAMES = {"seed": "random_state", "execution.device": "device", "execution.num_threads": "num_threads"} | {
    f"budget.{name}": name for name in BUDGET
}
"""Names of the parameters in place of the fields of a specification, for messages."""

MAX_SEED = 2**31 - 1
"""Largest seed that is drawn from a random state."""


class RobustClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Train a network on noisy labels under a stack of mitigations, as a scikit-learn classifier.

    Training is that of `noisybench run`, and gives the same numbers for the same arrays. Nothing is tracked or written.

    Args:
        mitigations: stack such as ``"gce"``, ``"mixup+elr"`` or ``"gce(q=0.5)"`` (`noisybench list mitigations`).
        network: network (`noisybench list networks`). For feature vectors, `features` is a linear classifier, and
            ``mlp:256`` or ``mlp:512-256`` has hidden layers; images take every network.
        epochs: number of epochs.
        batch_size: number of examples in a batch.
        optimizer: `sgd`, `adam` or `adamw`.
        learning_rate: initial learning rate.
        weight_decay: weight decay.
        lr_schedule: learning-rate schedule.
        augmentation: augmentation of images: `none`, `crop` or `crop_flip`.
        standardize: train on features with zero mean and unit variance; images are always normalized.
        budget: further fields of the budget by name, such as ``{"momentum": 0.8}`` (docs/configuration.md).
        device: `auto`, `cpu` or `cuda`.
        num_threads: CPU threads of training; the last digits of results depend on their number.
        random_state: seed, `RandomState`, or None for a random seed.

    Attributes:
        classes_: (C,) classes as they are written in y.
        n_features_in_: number of features, or of values of an image.
        feature_names_in_: names of the columns, if X was a data frame.
        label_quality_: (N,) estimated probability that the label of a training example is correct.
        loss_curve_: mean training loss of each epoch.
        n_iter_: number of epochs.

    Example:
        >>> from sklearn.datasets import make_blobs
        >>> X, y = make_blobs(120, centers=3, random_state=0)
        >>> classifier = RobustClassifier("gce", network="mlp:16", epochs=5).fit(X, y)
        >>> classifier.predict_proba(X).shape, classifier.classes_
        ((120, 3), array([0, 1, 2]))
    """

    _shape: tuple[int, ...]
    _reads_images: bool

    def __init__(
        self,
        mitigations: Any = "gce",
        *,
        network: str = "mlp:256",
        epochs: int = 30,
        batch_size: int = 128,
        optimizer: str = "sgd",
        learning_rate: float = 0.1,
        weight_decay: float = 5e-4,
        lr_schedule: str = "cosine",
        augmentation: str = "none",
        standardize: bool = True,
        budget: Mapping[str, Any] | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        num_threads: int = 1,
        random_state: Any = 0,
    ) -> None:
        self.mitigations = mitigations
        self.network = network
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.augmentation = augmentation
        self.standardize = standardize
        self.budget = budget
        self.device = device
        self.num_threads = num_threads
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> RobustClassifier:
        """Train on noisy labels.

        Args:
            X: (N, D) features, or images of (N, H, W), (N, H, W, C) or (N, C, H, W).
            y: (N,) observed classes.

        Raises:
            InvalidValue: X, y or a parameter is invalid, or a mitigation needs what is unknown about own data; it is a
                `UserError` and a `ValueError`.
            TrainingError: training failed for a known reason, such as a loss that became infinite.
        """
        with _invalid_values():
            inputs, targets = self._read_training_data(X, y)
            prepared = self._prepare(inputs, targets)
        with preserved_torch_state(prepared.spec.num_threads), tempfile.TemporaryDirectory() as folder:
            task, self.loss_curve_ = train_prepared(prepared, Path(folder))
            for message in reported_warnings(prepared):
                warnings.warn(message, stacklevel=2)
            with torch.no_grad():
                quality = prepared.stack.label_quality(task, task.training_set)
            self.label_quality_ = quality.float().cpu().numpy()
            self._task = deployed_task(task)
        self.n_iter_ = len(self.loss_curve_)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the (N, C) probabilities of `classes_`.

        Raises:
            NotFittedError: `fit` was not called.
            InvalidValue: X is invalid, or of another shape than in training.
        """
        check_is_fitted(self, "n_iter_")
        with _invalid_values():
            inputs = torch.from_numpy(self._read(X, reset=False))
        with preserved_torch_state(self.num_threads):
            probabilities = self._task.predict(inputs).double()
        # In double precision, the sums of single-precision probabilities differ from 1.
        return np.asarray((probabilities / probabilities.sum(1, keepdim=True)).cpu().numpy())

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the (N,) predicted classes.

        Raises:
            NotFittedError: `fit` was not called.
            InvalidValue: X is invalid, or of another shape than in training.
        """
        best = self.predict_proba(X).argmax(1)
        classes: NDArray[Any] = self.classes_[best]
        return classes

    def _read_training_data(self, X: Any, y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return inputs as the harness reads them, and (N,) class indices; set what is known about both."""
        if y is None:
            raise InvalidValue("requires y to be passed, but the target y is None")
        check_lengths(X, y)
        inputs, y = self._read(X, reset=True), _on_host(y, "y")
        observed = column_or_1d(y, warn=True)
        if observed.dtype == object and (missing := np.flatnonzero([is_missing(label) for label in observed])).size:
            raise InvalidValue(
                f"y: entry {missing[0]} has no label, but {show(observed[missing[0]])}; remove the example, or give it one"
            )
        assert_all_finite(observed, input_name="y")
        check_classification_targets(observed)
        self.classes_, targets = np.unique(observed, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidValue(
                f"y has the one class {show(self.classes_[0])}, but at least two classes are needed; add examples of another"
            )
        return inputs, targets.astype(np.int64)

    def _read(self, X: Any, reset: bool) -> NDArray[Any]:
        """Return (N, D, 1, 1) float32 features, or (N, C, H, W) uint8 images."""
        X = _on_host(X, "X")
        if _holds_images(X):
            return self._read_images(X, reset)
        if not reset and self._reads_images:
            raise InvalidValue(
                f"X has the shape {np.shape(X)}, but RobustClassifier is expecting images of {self._shape} as in training; "
                "pass (N, H, W), (N, H, W, C) or (N, C, H, W) images"
            )
        values = validate_data(self, X, dtype=np.float64, reset=reset)
        if reset:
            self._shape, self._reads_images = (values.shape[1], 1, 1), False
            self._offset, self._scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
            if self.standardize:
                with np.errstate(over="ignore", invalid="ignore"):
                    deviation = values.std(0)
                if len(large := np.flatnonzero(~np.isfinite(deviation))):
                    raise InvalidValue(
                        f"X: column {large[0]} has values of up to {np.abs(values[:, large[0]]).max():g}, whose spread is no "
                        "finite number; scale the column, or leave it out"
                    )
                self._offset, self._scale = values.mean(0), np.where(deviation > 0, deviation, 1.0)
        features = np.asarray((values - self._offset) / self._scale, dtype=np.float32)
        return np.ascontiguousarray(read_inputs(features).inputs)

    def _read_images(self, X: Any, reset: bool) -> NDArray[Any]:
        images = np.ascontiguousarray(read_inputs(X).inputs)
        if reset:
            self._shape, self.n_features_in_ = images.shape[1:], int(np.prod(images.shape[1:]))
            self._reads_images = True
        if images.shape[1:] != self._shape:
            raise InvalidValue(
                f"X has images of the shape {images.shape[1:]}, but RobustClassifier is expecting {self._shape} as in training; "
                "resize them"
            )
        return images

    def _prepare(self, inputs: NDArray[Any], targets: NDArray[np.int64]) -> PreparedRun:
        """Return the run, with all its parts checked."""
        spec = self._specification(inputs.dtype != np.uint8)
        check_device(spec.execution.device)
        check_privileged(spec.mitigations)
        train = Split(inputs, np.full(len(targets), UNKNOWN_TARGET), np.arange(len(targets)), noisy_targets=targets)
        empty = Split(inputs[:0], targets[:0], train.index[:0], noisy_targets=targets[:0])
        names = tuple(str(name) for name in self.classes_)
        return prepare_run(spec, Dataset("in_memory", train, empty, empty, names, source_size=len(targets)))

    def _specification(self, is_features: bool) -> RunSpec:
        """Return the specification of the run that the parameters describe."""
        budget = {name: getattr(self, name) for name in BUDGET}
        if not isinstance(self.budget, Mapping | None):
            raise InvalidValue(
                f"budget: must be a mapping of further fields, such as {{'momentum': 0.8}}, but got {show(self.budget)}"
            )
        further = dict(self.budget or {})
        twice = sorted(further.keys() & budget.keys())
        if twice:
            raise InvalidValue(f"budget: `{twice[0]}` is a parameter of the classifier itself; pass {twice[0]}=...")
        if is_features:
            budget["network"] = _network_of_features(self.network)
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(MAX_SEED)
        return complete(
            {
                "task": "transfer" if is_features else "classification",
                "dataset": "features" if is_features else "npz",
                "noise": "real_world",
                "mitigations": self.mitigations,
                "budget": {**budget, **further},
                "seed": int(seed),
                "execution": {"device": self.device, "num_threads": self.num_threads},
            }
        )


def _network_of_features(network: Any) -> Any:
    """Return the network for feature vectors: `mlp:WIDTHS` is that without the averaging of pixels.

    >>> _network_of_features("mlp:256"), _network_of_features("features")
    ('features_mlp:256', 'features')
    """
    return f"features_{network}" if isinstance(network, str) and network.startswith("mlp:") else network


def _holds_images(X: Any) -> bool:
    """Return True for arrays of three or four axes, and for lists of images."""
    if isinstance(X, list | tuple) and len(X):
        return getattr(X[0], "ndim", 0) >= 2 or is_picture(X[0])
    return getattr(X, "ndim", 2) in (3, 4)


def _on_host(values: Any, name: str) -> Any:
    """Return a tensor or an array with a mask as an array, and anything else unchanged."""
    return as_array(values, name) if isinstance(values, torch.Tensor | np.ma.MaskedArray) else values


@contextlib.contextmanager
def _invalid_values() -> Iterator[None]:
    """Raise every refusal as an error that is a `UserError` and a `ValueError`, in terms of the parameters."""
    try:
        yield
    except (InvalidValue, NotFittedError):
        raise
    except UserError as error:
        fields = re.compile(rf"\b({'|'.join(map(re.escape, OWN_NAMES))})\b(?=[:= ])")
        renamed = [fields.sub(lambda match: OWN_NAMES[match[1]], problem) for problem in error.problems]
        raise InvalidValue(*renamed) from None
    except ValueError as error:
        raise InvalidValue(str(error)) from error
