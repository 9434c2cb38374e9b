"""Class-conditional noise with any transition matrix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.arrays import read_array
from noisybench.data.dataset import Dataset
from noisybench.data.noise_model import ClassConditional, check_exclusive_rate
from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import read_text
from noisybench.utils.seeds import Stream


class TransitionMatrix(ClassConditional):
    """Draw labels from the rows of a (C, C) matrix, read from a file or generated with a noise rate.

    A generated matrix has 1 - rate on its diagonal; the rest of each row is split in proportion to random
    Gamma(`concentration`) weights, that is, by a symmetric Dirichlet distribution.
    """

    stream_name = "TransitionMatrix"
    convention = "row c of the matrix contains the probabilities of the observed classes of clean class c"
    fidelity = Fidelity(
        reference="",
        commit="",
        compared="observed frequencies against the rows of the given matrix, rows that sum to one, and a diagonal of 1 "
        "- rate in generated matrices",
    )

    path: Path | None = parameter(None, help="Matrix file (.csv, .npy or .json) with C rows of C probabilities")
    rate: float | None = parameter(
        None, ge=0, lt=1, help="Expected fraction of incorrect labels of a generated matrix", always_in_label=True
    )
    concentration: float = parameter(
        1.0, gt=0, help="Concentration of a generated matrix; small values favor few confusions"
    )

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Return the parameters of a generated matrix."""
        return {"rate": 0.3}

    def nominal_rate(self, dataset: Dataset) -> float:
        """Return the expected fraction of incorrect labels in the training split."""
        frequencies = np.bincount(dataset.train.targets, minlength=dataset.num_classes) / len(dataset.train)
        return float(1 - frequencies @ np.diag(self.matrix(dataset)))

    def matrix(self, dataset: Dataset) -> NDArray[np.float64]:
        """Return the matrix from the file, or the generated one."""
        if (self.path is None) == (self.rate is None):
            raise UserError(
                "noise: set either noise.path (a matrix file) or noise.rate (to generate a matrix), not both"
            )
        return self._read(dataset.num_classes) if self.path else self._generate(dataset.num_classes)

    def _generate(self, classes: int) -> NDArray[np.float64]:
        from scipy.special import gammaincinv

        rate = self.rate or 0.0
        check_exclusive_rate(rate, classes)
        # Without the hash of the dataset: both splits, and all datasets with C classes, have one matrix. Half a grid
        # step keeps the numbers off zero.
        uniform = Stream("transition_matrix", self.seed, classes).uniform(classes, classes) + 2.0**-33
        others = ~np.eye(classes, dtype=bool)
        # The inverse distribution function instead of the gamma sampler of NumPy, whose numbers may differ between
        # versions.
        weights = gammaincinv(self.concentration, uniform) * others
        # With a tiny concentration all weights of a row can underflow; such a row is split evenly.
        weights = np.where(weights.sum(axis=1, keepdims=True) < 1e-200, others, weights)
        return np.asarray(np.eye(classes) * (1 - rate) + rate * weights / weights.sum(axis=1, keepdims=True))

    def _read(self, classes: int) -> NDArray[np.float64]:
        path = self.path or Path()
        readers: dict[str, Callable[[], Any]] = {
            ".csv": lambda: np.loadtxt(path, delimiter=",", ndmin=2),
            ".npy": lambda: read_array(path, "noise.path"),
            ".json": lambda: json.loads(read_text(path, "noise.path")),
        }
        if path.suffix not in readers:
            raise UserError(
                f"noise.path: {path} must be a .csv, .npy or .json file, but has the suffix `{path.suffix}`"
            )
        try:
            matrix = np.asarray(readers[path.suffix](), dtype=np.float64)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # parsers raise anything on damaged files
            raise UserError(f"noise.path: {path} cannot be read as a matrix: {first_line(error)}") from None
        if matrix.shape != (classes, classes):
            raise UserError(
                f"noise.path: {path} has shape {matrix.shape}, but {classes} classes need ({classes}, {classes})"
            )
        # The tolerance admits rounded decimals, since sampling normalizes each row. NaN fails every comparison and
        # needs its own test.
        invalid = np.flatnonzero(
            (np.abs(matrix.sum(axis=1) - 1) > 1e-6) | (matrix < 0).any(axis=1) | ~np.isfinite(matrix).all(axis=1)
        )
        if len(invalid):
            row = invalid[0]
            raise UserError(
                f"noise.path: row {row} of {path} must contain probabilities that sum to 1, but sums to {matrix[row].sum():g}"
            )
        return matrix
