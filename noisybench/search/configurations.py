"""Configurations as trials of a study, also those with values that no range has."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from noisybench.search.ranges import ParameterRange

if TYPE_CHECKING:
    import optuna

UNSAMPLED = "unsampled"
"""Attribute of a trial: values of its configuration that are no parameters of it, because no range has them."""


def enqueue(study: optuna.Study, values: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Add a configuration to those that are tried next.

    Args:
        study: study of the search.
        values: values by ``MITIGATION.PARAMETER``.
        attributes: attributes of the trial; `UNSAMPLED` has those of the values that no range has.
    """
    sampled = {name: value for name, value in values.items() if name not in attributes.get(UNSAMPLED, {})}
    study.enqueue_trial(sampled, user_attrs=dict(attributes))


def sample(trial: optuna.Trial, space: Mapping[str, ParameterRange]) -> dict[str, Any]:
    """Return the configuration of a new trial, or of one that was enqueued."""
    unsampled = trial.user_attrs.get(UNSAMPLED, {})
    with warnings.catch_warnings():
        # Defaults may be outside of a range, on purpose.
        warnings.filterwarnings("ignore", message="Fixed parameter .* is out of range")
        return {
            name: unsampled[name] if name in unsampled else parameter.suggest(trial, name)
            for name, parameter in space.items()
        }


def trial_values(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """Return the configuration of a trial."""
    return {**trial.user_attrs.get(UNSAMPLED, {}), **trial.params}
