"""Results of audits of reasoning traces as data frames and cleaned records."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from noisybench.api.audit_results import AuditSummary
from noisybench.api.paths import read_path
from noisybench.audit.traces.cleaning import CleanedTraces, clean_by_audit
from noisybench.audit.traces.report import TraceAuditReport, summary
from noisybench.audit.traces.tables import step_table, trace_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class TraceAudit(AuditSummary):
    """Audit of reasoning traces.

    Attributes:
        report: input and result of the audit.
    """

    report: TraceAuditReport

    @property
    def summary(self) -> tuple[str, ...]:
        """Main results as lines of text."""
        return tuple(summary(self.report))

    @property
    def least_incorrect(self) -> int:
        """Smallest number of incorrect traces, if each prompt has one correct answer."""
        return self.report.scores.num_incorrect

    @property
    def surprise_problem(self) -> str | None:
        """Reason for which the decoders do not count; None if they do."""
        return self.report.reliability.problem

    @property
    def scores(self) -> pd.DataFrame:
        """Row of every trace, in the given order: suspicion, its parts, reasons, and the fields of the record."""
        return self._ranked().sort_index()

    @property
    def suspects(self) -> pd.DataFrame:
        """Rows of `scores` of the traces to review, the most suspicious first."""
        ranked = self._ranked()
        return ranked[ranked["is_suspect"]].drop(columns="is_suspect")

    @property
    def steps(self) -> pd.DataFrame:
        """Row of every step: text, suspicion, surprise, and whether it fails when it is executed again."""
        return step_table(self.report).set_index(["index", "step"])

    def clean(self, fraction: float | None = None) -> CleanedTraces:
        """Return the records that are kept and dropped, each with its scores and reasons in the field `audit`.

        Args:
            fraction: fraction of the traces to drop, the most suspicious first; None drops those that re-execution or a
                known answer contradicts.

        Raises:
            UserError: the fraction is not between 0 and 1.
        """
        return clean_by_audit(self.report, fraction)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `scores` and `steps`, each as .csv and .parquet, and `findings.json`, as `noisybench audit` does.

        Raises:
            UserError: the folder cannot be written.
        """
        self.report.save(read_path(folder, "folder"))

    def _ranked(self) -> pd.DataFrame:
        return trace_table(self.report).set_index("index")
