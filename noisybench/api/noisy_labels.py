"""Labels with noise, in the form in which the clean ones were given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.api.paths import read_path
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.data.label_sets.label_set import LabelSet, with_clean_targets
from noisybench.data.label_sets.manifest import DIGEST, manifest_digest
from noisybench.data.targets import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION, TOKEN_CORRECT, TOKEN_UNKNOWN
from noisybench.utils.files import wrap_write_errors


@dataclass(frozen=True, repr=False)
class NoisyLabels:
    """Labels with noise, in the form in which the clean ones were given.

    Attributes:
        y: observed labels: a list for a list, a tensor on the same device for a tensor, a column with the same index for a
            column; or the whole table or data set with other labels. Of a noisybench dataset, the labels of each split.
        X: inputs as they were given, with replaced images if the noise model replaces some. Of tables, as `y`.
        is_mislabeled: (N,) True where the observed label is incorrect; (N, H, W) for masks. Of several splits, by name.
        label_set: the labels as the harness stores them.
        dataset: the dataset of which they are labels.
        noise: name of the noise model with its main parameters.

    Example:
        >>> from noisybench.api.noise import noise
        >>> noisy = noise("pair_flip", rate=0.4).apply(y=["cat", "dog", "bird"] * 100)
        >>> noisy
        300 labels of 3 classes, 44.0 % incorrect: pair_flip(rate=0.4)
        >>> noisy.y[:3], noisy.is_mislabeled[:3].tolist()
        (['cat', 'dog', 'bird'], [False, False, False])
    """

    y: Any
    X: Any
    is_mislabeled: Any
    label_set: LabelSet
    dataset: Dataset
    noise: str

    @property
    def manifest(self) -> dict[str, Any]:
        """Manifest of the label set, with the digest over all its entries: noise model, parameters, rates and hashes."""
        manifest = dict(self.label_set.manifest)
        return {**manifest, DIGEST: manifest_digest(manifest)}

    @property
    def rate(self) -> float | None:
        """Fraction of training labels that are incorrect; None if no clean label is known."""
        rate: float | None = self.label_set.manifest["actual_noise_rate"]
        return rate

    @property
    def matrix(self) -> NDArray[np.float64] | None:
        """(C, C) transition probabilities, rows are clean classes; None if the noise depends on more than the class."""
        matrix = self.label_set.manifest["transition_matrix"]
        return None if matrix is None else np.asarray(matrix)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of the matrix."""
        return self.dataset.class_names

    def save(self, folder: str | Path) -> Path:
        """Write the labels as a label set, which ``noise("from_file", path=folder)`` reads for the same data.

        Raises:
            UserError: the folder cannot be written, or contains another label set.
        """
        path = read_path(folder, "folder")
        with wrap_write_errors(path):
            return label_files.save(self.label_set, self.dataset, path)

    def __len__(self) -> int:
        return len(self.dataset.train)

    def __repr__(self) -> str:
        unit = {"classes": "labels", "masks": "masks", "tokens": "traces"}[self.dataset.target_kind.name]
        part = {"classes": "", "masks": " of the pixels", "tokens": " of the characters"}[self.dataset.target_kind.name]
        classes = "" if unit == "traces" else f" of {self.dataset.num_classes} classes"
        rate = "unknown fraction" if self.rate is None else f"{100 * self.rate:.1f} %{part}"
        return f"{len(self)} {unit}{classes}, {rate} incorrect: {self.noise}"


def mislabeled(labels: LabelSet, dataset: Dataset, split: str) -> NDArray[np.bool_]:
    """Return a mask of the incorrect labels of a split: (N,), or (N, H, W) for masks."""
    if split in labels.error_spans:
        spans = labels.error_spans[split]
        return np.asarray(((spans != TOKEN_CORRECT) & (spans != TOKEN_UNKNOWN)).any(axis=1))
    clean = getattr(with_clean_targets(dataset, labels.replaced, labels.verification), split).targets
    status = labels.target_kind.label_status(clean, labels.observed(split))
    incorrect: NDArray[np.bool_] = np.isin(status, (IN_DISTRIBUTION, OUT_OF_DISTRIBUTION))
    return np.asarray(incorrect.any(axis=1)) if labels.target_kind.name == "tokens" else incorrect
