"""Hints for options that are written with dashes, but are overrides."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from noisybench.errors import UserError, shorten

ALIASES = {
    "lr": "budget.learning_rate", "wd": "budget.weight_decay", "bs": "budget.batch_size", "model": "budget.network",
    "arch": "budget.network", "backbone": "budget.network", "optim": "budget.optimizer", "schedule": "budget.lr_schedule",
    "scheduler": "budget.lr_schedule", "warmup": "budget.warmup_epochs", "amp": "budget.precision",
    "num_epochs": "budget.epochs", "gpus": "budget.devices", "threads": "execution.num_threads", "seed": "seed",
    "seeds": "seed", "task": "task", "dataset": "dataset", "data": "dataset", "data_dir": "dataset.root", "root": "dataset.root",
    "train_size": "dataset.train_size", "noise": "noise", "noise_model": "noise", "noise_rate": "noise.rate",
    "rate": "noise.rate", "mitigation": "mitigations", "mitigations": "mitigations", "method": "mitigations",
    "stack": "mitigations", "loss": "mitigations",
}  # fmt: skip
"""Overrides by the names of options that people try."""

AXIS_OF_FIELD = {"seed": "seeds", "mitigations": "stacks"}
"""Axes of suites that replace fields of recipes."""


def override_for(option: str, value: str, command: str) -> str | None:
    """Return the override that an unknown option means; None if there is no similar one.

    Args:
        option: option with its dashes.
        value: value behind it; empty for none.
        command: name of the command.

    Example:
        >>> override_for("--epochs", "5", "run"), override_for("--learning-rat", "0.1", "run")
        ('budget.epochs=5', 'budget.learning_rate=0.1')
        >>> override_for("--seed", "1", "bench")
        'seeds=1'
    """
    # Imported here: help pages need no models.
    from noisybench.config.budget import Budget, Execution

    known = {name: f"budget.{name}" for name in Budget.model_fields}
    known |= {name: f"execution.{name}" for name in Execution.model_fields}
    known |= ALIASES
    if command == "search":
        from noisybench.search.definition import SETTINGS

        known |= {name: name for name in SETTINGS}
    name = option.lstrip("-").replace("-", "_").lower()
    close = [name] if name in known else difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if not close:
        return None
    key = known[close[0]]
    key = AXIS_OF_FIELD.get(key, key) if command == "bench" else key
    return f"{key}={shorten(value, 40) or 'VALUE'}"


class HintingCommand(TyperCommand):
    """Command whose unknown options are answered with the override that they mean."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            UserError: an option is unknown, but similar to an override.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # Recognized by its attribute, because Typer does not export the class of this error.
            option = getattr(error, "option_name", None)
            takes_overrides = any(parameter.name == "overrides" for parameter in self.params)
            known = {name for parameter in self.params for name in parameter.opts}
            if not isinstance(option, str) or option in known or not takes_overrides:
                raise
            hint = override_for(option, _value_of(option, given), str(self.name))
            options = [name.lstrip("-") for name in getattr(error, "possibilities", None) or ()]
            # Without a value, a similar option may be meant, unless an override is at least as similar.
            if hint is None or ("=VALUE" in hint and _resembles_option(option, hint, options)):
                raise
            raise UserError(
                f"`noisybench {ctx.info_name}` has no option {option}; settings are overrides without dashes: {hint}"
            ) from None


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """Return the value that follows an option, also behind an equals sign; empty if there is none."""
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == option:
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            return value or ("" if following.startswith("-") or "=" in following else following)
    return ""


def _resembles_option(given: str, hint: str, options: Sequence[str]) -> bool:
    """Return whether an unknown option is more like other options than like the override of a hint."""
    name = given.lstrip("-").replace("-", "_").lower()
    field = hint.partition("=")[0].rpartition(".")[2]

    def similarity(other: str) -> float:
        return difflib.SequenceMatcher(None, name, other.replace("-", "_")).ratio()

    return max(map(similarity, options), default=0.0) > similarity(field)
