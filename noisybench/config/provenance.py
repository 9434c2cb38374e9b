"""Provenance of a run: the hyperparameter search behind its parameters."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from noisybench.config.validation import strict_config


class Provenance(pydantic.BaseModel):
    """Hyperparameter search that trained a run as a trial, or selected the parameters of its stack.

    A selected configuration has an identity and a stack name of its own, so that a tuned stack is never averaged with an
    untuned one. A trial is identified by its configuration alone and is never ranked.

    Examples:
        >>> tuned = Provenance(search="digits-elr", trials=20, validation="clean")
        >>> tuned.label
        'tuned on clean labels, 20 trials'
        >>> tuned.privileged
        ('clean_validation_labels',)
    """

    model_config = strict_config()

    search: str
    """Name of the study."""
    trials: int = pydantic.Field(ge=1)
    """Number of trials of the search."""
    validation: Literal["noisy", "clean"] = "noisy"
    """Labels of the validation split by which trials are compared; clean ones are privileged information."""
    trial_of: str | None = None
    """MLflow run of the search whose trial this is; None for a selected configuration."""

    @property
    def label(self) -> str:
        """Short text behind the stack of a selected configuration; empty for a trial."""
        if self.trial_of is not None:
            return ""
        return f"tuned{' on clean labels' if self.validation == 'clean' else ''}, {self.trials} trials"

    @property
    def privileged(self) -> tuple[str, ...]:
        """Privileged information that selected the parameters."""
        return ("clean_validation_labels",) if self.validation == "clean" and self.trial_of is None else ()

    def identity(self) -> dict[str, Any] | None:
        """Return the fields that are part of a run's identity; None for a trial."""
        # The name of a study is arbitrary: two searches with one budget answer the same question.
        return None if self.trial_of is not None else {"trials": self.trials, "validation": self.validation}
