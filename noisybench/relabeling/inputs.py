"""Input of simulated relabeling: features with observed and clean labels, and budgets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.inputs import audit_spec
from noisybench.errors import UserError, show
from noisybench.relabeling.curve import RelabelingData
from noisybench.runs.preparation import prepare_run


def load_relabeling_data(
    labels: str, overrides: Iterable[str] = (), examples: int | None = None
) -> tuple[RelabelingData, str]:
    """Load features with observed and clean labels; examples without a known class are left out.

    Args:
        labels: recipe or features file, see `audit.inputs.load_audit_input`.
        overrides: overrides of the specification.
        examples: number of examples that each draw needs.

    Returns:
        The data, and their title.

    Raises:
        UserError: the dataset has no features, no label is known to be incorrect, or there are too few examples.
    """
    spec, _ = audit_spec(labels, overrides)
    if spec.dataset.name != "features":
        raise UserError(
            f"relabel-curve trains many classifiers and needs features, but the dataset is {spec.dataset.name}; compute them "
            f"with: noisybench embed {labels} -o features.npz"
        )
    prepared = prepare_run(spec)
    dataset, observed = prepared.dataset, prepared.labels.train
    known = dataset.train.targets >= 0
    incorrect = int((observed != dataset.train.targets)[known].sum())
    if not incorrect:
        raise UserError(
            "relabel-curve needs labels of which some are known to be incorrect, but none is; add noise to a dataset with "
            "clean labels, such as noise=symmetric_exclusive noise.rate=0.2"
        )
    if examples is not None and examples > known.sum():
        raise UserError(
            f"--examples: {examples} is more than the {int(known.sum())} training examples of a known class"
        )
    data = RelabelingData(
        _flat(dataset.train.inputs)[known],
        observed[known],
        dataset.train.targets[known],
        _flat(dataset.test.inputs),
        dataset.test.targets,
        dataset.num_classes,
    )
    return data, f"{spec.dataset_label} · {spec.noise.display_name(hide=('path',))}"


def _flat(inputs: Any) -> NDArray[np.float32]:
    return np.asarray(inputs[:], dtype=np.float32).reshape(len(inputs), -1)


def parse_budgets(text: str) -> list[float]:
    """Return the fractions of labels to look at.

    Raises:
        UserError: the text is no ascending list of fractions in (0, 1].

    Example:
        >>> parse_budgets("0.05, 0.1,1")
        [0.05, 0.1, 1.0]
        >>> parse_budgets("10,20")
        Traceback (most recent call last):
        noisybench.errors.UserError: --budgets: must be ascending fractions above 0 and up to 1, separated by commas, such as ...
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or sorted(set(values)) != values or not (values[0] > 0 and values[-1] <= 1):
        raise UserError(
            "--budgets: must be ascending fractions above 0 and up to 1, separated by commas, such as 0.05,0.1,0.2, but got "
            f"{show(text)}"
        )
    return values
