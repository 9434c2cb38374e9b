"""Results of audits as data frames, pages and text."""

from __future__ import annotations

import abc
import html
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from noisybench.api.paths import read_path
from noisybench.audit.data_quality import class_quality
from noisybench.audit.masks.report import CLASS_COLUMNS, IMAGE_COLUMNS, MaskAuditReport, class_rows, image_rows
from noisybench.audit.masks.report import page as mask_page
from noisybench.audit.masks.report import summary as mask_summary
from noisybench.audit.page import to_html
from noisybench.audit.reliability import Reliability
from noisybench.audit.report import AuditReport, summary
from noisybench.audit.scores import score_columns
from noisybench.utils.outputs import write_text

if TYPE_CHECKING:
    import pandas as pd

SHOWN_SUSPECTS = 10
"""Number of suspects in the representation in a notebook."""

UNUSED_COLUMNS = ("index", "decision", "new_label")
"""Columns of the table for people that data frames leave out: the index of the frame, and cells to fill in."""


class AuditSummary(abc.ABC):
    """Shared parts of audits: their summary and its representations."""

    @property
    @abc.abstractmethod
    def summary(self) -> tuple[str, ...]:
        """Main results as lines of text."""

    @property
    @abc.abstractmethod
    def suspects(self) -> pd.DataFrame:
        """Row of each example to review, the most suspicious first."""

    def __repr__(self) -> str:
        return "\n".join(self.summary)

    def __rich__(self) -> Text:
        return Text("\n".join(self.summary))

    def _repr_html_(self) -> str:
        lines = html.escape("\n".join(self.summary))
        return f"<pre>{lines}</pre>{self.suspects.head(SHOWN_SUSPECTS).to_html()}"


class _EstimatedAudit(AuditSummary):
    """Shared parts of audits that estimate a noise rate."""

    @property
    @abc.abstractmethod
    def _reliability(self) -> Reliability:
        """Measurements that say how far the audit can be trusted."""

    @property
    def rate(self) -> float | None:
        """Estimated fraction of incorrect labels; None without an estimate, see `rate_problem`."""
        rate = self._reliability.noise_rate
        return None if rate is None else float(rate)

    @property
    def rate_interval(self) -> tuple[float, float] | None:
        """95 % interval of the rate; None without an estimate."""
        if self.rate is None:
            return None
        low, high = self._reliability.rate_interval
        return float(low), float(high)

    @property
    def rate_problem(self) -> str | None:
        """Reason for which there is no estimate; None if there is one."""
        return self._reliability.problem

    @property
    def accuracy(self) -> float:
        """Fraction of the labels that are predicted by models that were not trained on the example."""
        return self._reliability.accuracy


@dataclass(frozen=True, eq=False, repr=False)
class LabelAudit(_EstimatedAudit):
    """Audit of labels with one class for each example.

    Data frames have the index of the given labels or features, if they are pandas objects; that of a dataset or path is the
    row in its source.

    Attributes:
        report: input and result of the audit.
        given_index: index of the given data; None if it is the row in the source.
        given_classes: (C,) classes as the given labels write them; None if they are the names of the classes.
    """

    report: AuditReport
    given_index: Any = None
    given_classes: NDArray[Any] | None = None

    @property
    def _reliability(self) -> Reliability:
        return self.report.result.reliability

    @property
    def summary(self) -> tuple[str, ...]:
        """Main results as lines of text."""
        return tuple(summary(self.report))

    @property
    def scores(self) -> pd.DataFrame:
        """Row of every example, in the given order: label, suggested label, scores of all detectors, and flags.

        `error_score` and the columns of detectors are ranks from 0 to 1, higher where the label is more likely incorrect;
        `label_quality` is the predicted probability of the label and `confidence` that of the suggested one. `duplicate_of` is
        the index of the first example that it equals or resembles.
        """
        ranked = self._ranked()
        return ranked.iloc[np.argsort(self.report.result.ranking)]

    @property
    def suspects(self) -> pd.DataFrame:
        """Rows of `scores` of the labels to review, the most suspicious first."""
        ranked = self._ranked()
        return ranked[ranked["is_suspect"]].drop(columns=["is_suspect"])

    @property
    def classes(self) -> pd.DataFrame:
        """Row of each class: its number of labels, accuracy, fraction of suspects and mean label quality."""
        import pandas as pd

        rows = class_quality(self.report.audit_input, self.report.result)
        return pd.DataFrame(rows).drop(columns="name").set_index(pd.Index(self._classes, name="class"))

    @property
    def pairs(self) -> pd.DataFrame:
        """Pairs of labels and suggested labels among the suspects, the most frequent first.

        `probability` is the estimated probability of the label where the suggested one is correct, from the transition matrix;
        NaN without an estimate.
        """
        import pandas as pd

        result, observed = self.report.result, self.report.audit_input.observed
        number = len(self._classes)
        differs = observed[result.suspects] != result.suggested[result.suspects]
        rows = result.suspects[differs]
        pairs = observed[rows] * number + result.suggested[rows]
        values, counts = np.unique(pairs, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        labels, suggested = np.divmod(values[order], number)
        matrix = result.transition_matrix
        probability = np.full(len(labels), np.nan) if matrix is None else matrix[suggested, labels]
        return pd.DataFrame(
            {
                "label": self._classes[labels],
                "suggested": self._classes[suggested],
                "suspects": counts[order],
                "probability": probability,
            }
        )

    @property
    def duplicates(self) -> pd.DataFrame:
        """Examples with a copy or near duplicate: their group, label and kind (`first`, `exact` or `near`)."""
        import pandas as pd

        quality, data = self.report.quality, self.report.audit_input
        rows = [(group, position) for group, members in enumerate(quality.groups) for position in members]
        positions = np.array([position for _, position in rows], dtype=np.int64)
        kinds = np.where(quality.is_exact_copy, "exact", np.where(quality.is_near_duplicate, "near", "first"))
        return pd.DataFrame(
            {
                "group": [group for group, _ in rows],
                "label": self._classes[data.observed[positions]],
                "kind": kinds[positions],
            },
            index=self._index[positions],
        )

    @property
    def transition_matrix(self) -> pd.DataFrame | None:
        """(C, C) estimated probability of a label (column) given the correct one (row); None without an estimate."""
        import pandas as pd

        matrix = self.report.result.transition_matrix
        return None if matrix is None else pd.DataFrame(matrix, index=self._classes, columns=self._classes)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page on which people review the suspects.

        Raises:
            UserError: the file cannot be written.
        """
        report = self.report
        write_text(
            read_path(path, "path"), to_html(report.audit_input, report.result, list(self.summary), report.similar)
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `report.html`, `scores.csv`, `scores.parquet` and `findings.json` into a folder, as `noisybench audit` does.

        Raises:
            UserError: the folder cannot be written.
        """
        self.report.save(read_path(folder, "folder"))

    @property
    def _classes(self) -> NDArray[Any]:
        """(C,) classes as the labels write them."""
        import pandas as pd

        if self.given_classes is None:
            return np.array(self.report.audit_input.class_names, dtype=object)
        # Numbers of a column are objects, which frames should hold as numbers.
        return np.asarray(pd.Series(self.given_classes).infer_objects())

    @property
    def _index(self) -> Any:
        """(N,) index of the data frames."""
        import pandas as pd

        rows = self.report.audit_input.index
        return pd.Index(rows) if self.given_index is None else self.given_index[rows]

    def _ranked(self) -> pd.DataFrame:
        """Return the row of every example, the most suspicious first."""
        import pandas as pd

        data, result = self.report.audit_input, self.report.result
        columns = score_columns(data, result, self.report.quality)
        frame = pd.DataFrame({name: values for name, values in columns.items() if name not in UNUSED_COLUMNS})
        frame["label"] = self._classes[data.observed[result.ranking]]
        frame["suggested"] = self._classes[result.suggested[result.ranking]]
        if self.given_index is not None:
            # Rows of the source, which are positions in the given data.
            frame["duplicate_of"] = [None if row is None else self.given_index[row] for row in columns["duplicate_of"]]
        elif any(row is not None for row in columns["duplicate_of"]):
            frame["duplicate_of"] = frame["duplicate_of"].astype("Int64")
        if not data.files:
            frame = frame.drop(columns=["file"])
        if data.in_test is None:
            frame = frame.drop(columns=["split"])
        return frame.set_index(self._index[result.ranking])


@dataclass(frozen=True, eq=False, repr=False)
class MaskAudit(_EstimatedAudit):
    """Audit of segmentation masks.

    Attributes:
        report: input and result of the audit.
        num_pictures: number of images whose suspicious pixels were saved as pictures.
    """

    report: MaskAuditReport
    num_pictures: int = 0

    @property
    def _reliability(self) -> Reliability:
        return self.report.scores.reliability

    @property
    def summary(self) -> tuple[str, ...]:
        """Main results as lines of text."""
        return tuple(mask_summary(self.report))

    @property
    def scores(self) -> pd.DataFrame:
        """Row of every image, in the given order: score (lower where the mask is more likely incorrect) and share of suspects."""
        return self._ranked().sort_values("position").drop(columns="position")

    @property
    def suspects(self) -> pd.DataFrame:
        """Rows of `scores` of the images with suspicious pixels, the most suspicious first."""
        ranked = self._ranked()
        return ranked[ranked["suspect_share"] > 0].drop(columns="position")

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """(N, H, W) True for pixels whose label is probably incorrect."""
        return self.report.scores.suspect

    @property
    def classes(self) -> pd.DataFrame:
        """Row of each class: number of pixels, accuracy, mean quality, share of suspects, and the class most often suggested."""
        import pandas as pd

        frame = pd.DataFrame(class_rows(self.report), columns=list(CLASS_COLUMNS))
        return frame.replace("", None).set_index("class")

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page on which people review the masks.

        Raises:
            UserError: the file cannot be written.
        """
        write_text(read_path(path, "path"), mask_page(self.report))

    def save(self, folder: str | os.PathLike[str], pictures: int = 20) -> int:
        """Write `report.html`, `scores.csv`, `classes.csv`, `findings.json` and pictures into a folder.

        Args:
            folder: folder to write.
            pictures: number of the most suspicious images whose suspicious pixels are written as pictures.

        Returns:
            Number of images with pictures.

        Raises:
            UserError: the folder cannot be written.
        """
        return self.report.save(read_path(folder, "folder"), pictures)

    def _ranked(self) -> pd.DataFrame:
        import pandas as pd

        frame = pd.DataFrame(image_rows(self.report), columns=list(IMAGE_COLUMNS))
        if not self.report.data.files:
            frame = frame.drop(columns="file")
        frame["position"] = self.report.scores.ranking
        return frame.set_index("index")
