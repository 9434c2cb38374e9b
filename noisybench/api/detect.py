"""Detect mislabeled examples from predictions, features, losses or training dynamics of any model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.detectors.catalog import DETECTORS
from noisybench.audit.predictions import check_probabilities
from noisybench.data.containers import as_array, library_of
from noisybench.data.in_memory import AUTO, NAMES
from noisybench.data.in_memory_inputs import read_inputs
from noisybench.data.in_memory_labels import read_labels
from noisybench.errors import UserError, nearest, show
from noisybench.utils.numbers import as_integer

if TYPE_CHECKING:
    import pandas as pd

INPUTS = {
    "labels": "(N,) observed labels",
    "features": "(N, D) features of a model that was not trained on the labels",
    "pred_probs": "(N, C) predicted probabilities; of models that were not trained on the example",
    "losses": "(N,) losses, or (E, N) of E epochs",
    "margins": "(N,) logits of the label minus the largest other logit, or (E, N) of E epochs",
    "correct": "(E, N) truth values: the prediction in an epoch was the label",
    "selected": "(E, N) truth values: the example was trained on in the epoch",
    "gradients": "(K, N, ...) gradients of the label's logit, or of its loss, with respect to the input, at K checkpoints",
    "trust_scores": "(N,) trust scores, or a detector with a method trust_score(X, y), as in the package mislabeled",
    "attributions": "(N,) self-influences or (N, N) influences, such as from self_attribute and attribute of dattri",
}
"""What detectors read."""

SHAPES: dict[str, tuple[int, ...]] = {
    "pred_probs": (2, 3), "losses": (1, 2), "margins": (1, 2), "correct": (2,), "selected": (2,), "trust_scores": (1,),
    "gradients": (3, 4, 5), "attributions": (1, 2),
}  # fmt: skip
"""Numbers of axes that inputs may have."""

TRUTH_VALUES = ("correct", "selected")
"""Inputs that are truth values."""

AXES = {"features": 0, "pred_probs": -2, "gradients": 1}
"""Axis of the examples, where it is not the last one."""


@dataclass(frozen=True, eq=False)
class Detection:
    """Scores of N labels by one detector.

    Attributes:
        detector: name of the detector.
        scores: (N,) numbers, higher where the label is more likely incorrect.
        flagged: (N,) True where the detector takes the label for incorrect; None if it only ranks labels.
        index: (N,) index of the given labels or features, if they are pandas objects, else 0 to N - 1.

    Example:
        >>> detection = detect("small_loss", losses=[0.1, 0.2, 0.1, 3.0])
        >>> detection.ranking[:1], detection.to_frame().columns.tolist()
        (array([3]), ['score', 'flagged'])
    """

    detector: str
    scores: NDArray[np.float64]
    flagged: NDArray[np.bool_] | None
    index: Any

    def __len__(self) -> int:
        return len(self.scores)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.scores, dtype=dtype)

    @property
    def ranking(self) -> NDArray[np.int64]:
        """(N,) positions from the most to the least suspicious label."""
        return np.argsort(-self.scores, kind="stable")

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each label, with its score and, if the detector has flags, `flagged`."""
        import pandas as pd

        columns = {"score": self.scores} if self.flagged is None else {"score": self.scores, "flagged": self.flagged}
        return pd.DataFrame(columns, index=self.index)


def detect(
    name: str,
    labels: Any = None,
    *,
    features: Any = None,
    pred_probs: Any = None,
    losses: Any = None,
    margins: Any = None,
    correct: Any = None,
    selected: Any = None,
    gradients: Any = None,
    trust_scores: Any = None,
    attributions: Any = None,
    class_names: Sequence[Any] | int | None = None,
    **parameters: Any,
) -> Detection:
    """Score labels by a detector of mislabeled examples, from numbers of any model.

    Args:
        name: `aum` (margins), `cnlcu` (losses and, if known, selected), `confident_joint`, `el2n`, `entropy`, `margin`,
            `posterior` or `self_confidence` (labels and pred_probs), `forgetting` (correct), `data_oob`, `deep_knn`, `fine`,
            `mahalanobis`, `neighbors` or `simifeat` (labels and features), `self_influence` (attributions), `small_loss`
            (losses), `tracin` (labels, features and pred_probs), `trust` (trust_scores), or `vog` (labels and gradients).
        labels: (N,) observed labels: integers or text, in a list, an array, a tensor or a column.
        features: (N, D) features of a model that was not trained on the labels.
        pred_probs: (N, C) probabilities of models that were not trained on the example; a data frame may name the classes. For
            `el2n`, (K, N, C) of K networks after a few epochs, and for `tracin`, of the checkpoints of one.
        losses: (N,) losses, or (E, N) of E epochs.
        margins: (N,) logits of the label minus the largest other logit, or (E, N) of E epochs.
        correct: (E, N) truth values: the prediction in an epoch was the label.
        selected: (E, N) truth values: the example was trained on in the epoch; by default, in every epoch.
        gradients: (K, N, ...) gradients of the label's logit, or of its loss, with respect to the input, at K checkpoints.
        trust_scores: (N,) scores, higher for labels to trust; or an object with a method ``trust_score(X, y)``, such as the
            detectors of the package `mislabeled`, which is called with the features and labels.
        attributions: (N,) influences of examples on their own loss, or (N, N) influences on the same examples, such as the
            results of ``self_attribute`` and ``attribute`` of the package `dattri`.
        class_names: classes in the order of the columns of `pred_probs`; by default, class indices or sorted labels.
        parameters: parameters of the detector, such as ``k=20`` of `neighbors` or ``variant="vote"`` of `simifeat`.

    Raises:
        UserError: the detector is unknown, an input is missing, superfluous or invalid, or lengths differ.

    Example:
        >>> import numpy as np
        >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
        >>> detection = detect("margin", labels=["cat", "dog", "dog"], pred_probs=probabilities)
        >>> detection.flagged
        array([False, False,  True])
    """
    if not isinstance(name, str) or name not in DETECTORS:
        raise UserError(f"detect: unknown detector {show(name, quotes=False)}; {nearest(str(name), DETECTORS)}")
    given = {
        "labels": labels, "features": features, "pred_probs": pred_probs, "losses": losses, "margins": margins,
        "correct": correct, "selected": selected, "gradients": gradients, "trust_scores": trust_scores,
        "attributions": attributions,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    if callable(getattr(trust_scores, "trust_score", None)):
        _check_inputs(name, [key for key in given if key != "features"], parameters)
        given["trust_scores"] = _ask_detector(trust_scores, given.pop("features", None), labels)
    used = _check_inputs(name, list(given), parameters)
    index = _index(given)
    arrays = _read(given, class_names)
    counts = {key: value.shape[AXES.get(key, -1)] for key, value in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise UserError(f"detect: the inputs must describe the same examples, but their numbers differ: {listed}")
    count = next(iter(counts.values()))
    if count < 2:
        raise UserError("detect: at least two examples are needed, but there is one")
    result = DETECTORS[name](**{key: arrays[key] for key in used}, **parameters)
    return Detection(
        name, np.asarray(result.scores, dtype=np.float64), result.flagged, range(count) if index is None else index
    )


def _check_inputs(name: str, given: Sequence[str], parameters: dict[str, Any]) -> list[str]:
    """Return the given inputs that a detector uses, and refuse others, and unknown parameters.

    Raises:
        UserError: an input is missing or not used, or a parameter is unknown or has an invalid value.
    """
    needed = _needed(name)
    missing = [key for key in needed if key not in given]
    if missing:
        possible = [other for other in DETECTORS if other != name and not set(_needed(other)) - set(given)]
        hint = f"; what is given suffices for {', '.join(possible)}" if possible else ""
        raise UserError(f"detect: {name} needs {missing[0]}: {INPUTS[missing[0]]}{hint}")
    accepted = [key for key in inspect.signature(DETECTORS[name]).parameters if key in INPUTS]
    superfluous = [key for key in given if key not in (*accepted, "labels")]
    if superfluous:
        users = ", ".join(
            other for other in DETECTORS if superfluous[0] in inspect.signature(DETECTORS[other]).parameters
        )
        raise UserError(
            f"detect: {name} does not use {superfluous[0]}; leave it out, or choose a detector that does: {users}"
        )
    known = [key for key in inspect.signature(DETECTORS[name]).parameters if key not in INPUTS]
    for key, value in parameters.items():
        if key not in known:
            raise UserError(
                f"detect: {name} has no parameter {show(key, quotes=False)}; {nearest(key, [*known, *INPUTS])}"
            )
        choices = get_args(get_type_hints(DETECTORS[name])[key])
        if choices and not (isinstance(value, str) and value in choices):
            raise UserError(f"detect: unknown {key} {show(value, quotes=False)}; {nearest(str(value), choices)}")
        if not choices and (as_integer(value) or 0) < 1:
            raise UserError(f"detect: {key} must be an integer from 1, but got {show(value)}")
    return [key for key in accepted if key in given]


def _needed(name: str) -> list[str]:
    """Return the inputs of a detector, which have no default."""
    signature = inspect.signature(DETECTORS[name]).parameters
    return [key for key, value in signature.items() if value.default is inspect.Parameter.empty]


def _ask_detector(detector: Any, features: Any, labels: Any) -> Any:
    """Return the trust scores of an object such as the detectors of the package `mislabeled`."""
    if features is None or labels is None:
        raise UserError(
            f"detect: {type(detector).__name__}.trust_score(X, y) is called with features and labels; pass both"
        )
    return detector.trust_score(features, labels)


def _index(given: dict[str, Any]) -> Any:
    """Return the index of the given pandas objects, or None.

    Raises:
        UserError: two of them have different indices.
    """
    found = None
    for key, value in given.items():
        if library_of(value) != "pandas" or key not in (
            "labels",
            "features",
            "pred_probs",
            "trust_scores",
        ):
            continue
        index = getattr(value, "index", None)  # an Index of pandas has none of its own
        if index is None:
            continue
        if found is not None and not found[1].equals(index):
            raise UserError(f"detect: {found[0]} and {key} have different indices; align them, or pass their values")
        found = found or (key, index)
    return None if found is None else found[1]


def _read(given: dict[str, Any], class_names: Sequence[Any] | int | None) -> dict[str, NDArray[Any]]:
    """Return the inputs as arrays of the types that detectors take."""
    arrays: dict[str, NDArray[Any]] = {}
    for key in SHAPES:
        if key in given:
            arrays[key] = _numbers(given[key], key)
    if "features" in given:
        inputs = read_inputs(given["features"], location="features")
        if inputs.kind != "features":
            raise UserError(
                f"features: must be (N, D) numbers, but they are {inputs.kind}; compute features with a backbone first"
            )
        arrays["features"] = np.ascontiguousarray(inputs.inputs[:, :, 0, 0])
    if "labels" in given:
        columns = getattr(given.get("pred_probs"), "columns", None)
        probabilities = arrays.get("pred_probs")
        arrays["labels"] = _read_classes(given["labels"], class_names, probabilities, columns)
    if "pred_probs" in arrays:
        check_probabilities(arrays["pred_probs"].reshape(-1, arrays["pred_probs"].shape[-1]), "pred_probs")
    if arrays.get("attributions", np.empty(0)).ndim == 2 and len({*arrays["attributions"].shape}) > 1:
        raise UserError(
            f"attributions: the shape is {arrays['attributions'].shape}, but influences of training examples on themselves "
            "are (N, N), or (N,); attribute the training set to itself"
        )
    return arrays


def _numbers(values: Any, name: str) -> NDArray[Any]:
    try:
        array = as_array(values, name)
        if array.dtype.kind == "c":  # NumPy would drop the imaginary parts
            raise TypeError
        array = array.astype(np.bool_ if name in TRUTH_VALUES and set(np.unique(array)) <= {0, 1} else np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{name}: must be {INPUTS[name]}, but holds other things than numbers") from None
    if array.ndim not in SHAPES[name] or not array.size:
        raise UserError(f"{name}: must be {INPUTS[name]}, but has the shape {array.shape}")
    if name in TRUTH_VALUES and array.dtype != np.bool_:
        hint = "; compare the predictions with the labels first" if name == "correct" else ""
        raise UserError(f"{name}: must hold truth values, or 0 and 1{hint}")
    invalid = np.argwhere(~np.isfinite(array))
    if len(invalid):
        raise UserError(
            f"{name}: {len(invalid)} values are not finite, the first at {tuple(invalid[0].tolist())}; replace them"
        )
    return array


def _read_classes(
    labels: Any, class_names: Sequence[Any] | int | None, probabilities: NDArray[Any] | None, columns: Any
) -> NDArray[np.int64]:
    """Return class indices in the order of the columns of the probabilities, if there are some.

    Raises:
        UserError: the labels cannot be read, or have other classes than there are columns.
    """
    if probabilities is None:
        return read_labels(labels, class_names, "labels").targets
    width = probabilities.shape[-1]
    meaning = AUTO
    # A frame that was made without names counts its columns from 0.
    if class_names is None and columns is not None and list(columns) != list(range(width)):
        class_names, meaning = [str(column) for column in columns], NAMES
    if class_names is None and _are_indices(labels, width):
        class_names = width
    read = read_labels(labels, class_names, "labels", meaning)
    if len(read.class_names) != width:
        raise UserError(
            f"pred_probs has {width} columns, but labels have {len(read.class_names)} classes; list all classes in "
            "class_names in the order of the columns"
        )
    if read.targets.ndim != 1:
        raise UserError(f"labels: must be (N,) classes, but are masks of the shape {read.targets.shape}")
    return read.targets


def _are_indices(labels: Any, width: int) -> bool:
    """Return True for integers from 0 to `width` - 1."""
    values = as_array(labels, "labels")
    return values.ndim == 1 and values.dtype.kind in "iu" and bool(((values >= 0) & (values < width)).all())
