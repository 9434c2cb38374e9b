"""Search ranges of parameters, checked against the values that the parameters allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from noisybench.config.registry import get_entry
from noisybench.config.scalars import plain_value
from noisybench.config.validation import alternatives
from noisybench.errors import show

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class ParameterRange:
    """Search range of one parameter: an interval of numbers or a list of choices.

    Attributes:
        low: lower end of the interval.
        high: upper end of the interval.
        log: True to sample on a logarithmic scale.
        integer: True to sample integers only.
        choices: allowed values instead of an interval.

    Examples:
        >>> ParameterRange(0.5, 0.99).as_dict()
        {'low': 0.5, 'high': 0.99}
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """Sample a value for a trial."""
        if self.choices:
            return trial.suggest_categorical(name, list(self.choices))
        assert self.low is not None
        assert self.high is not None
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def has_type_of(self, value: Any) -> bool:
        """Return True for a value that a trial can have: one of the choices, or a number, also outside of the range.

        Logarithmic ranges have positive numbers only.

        Example:
            >>> ParameterRange(0.5, 0.99).has_type_of(0.4), ParameterRange(0.5, 0.99).has_type_of(None)
            (True, False)
        """
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and (value > 0 or not self.log)

    def as_dict(self) -> dict[str, Any]:
        """Return the range as JSON-like data, as a search file writes it."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


def is_integer(annotation: Any) -> bool:
    """Return True if a parameter of this type is searched over integers.

    Example:
        >>> is_integer(int | None), is_integer(Literal[1, 2]), is_integer(float)
        (True, True, False)
    """
    # A literal of integers is searched over the integers of its range.
    if get_origin(annotation) is Literal:
        return isinstance(get_args(annotation)[0], int)
    return int in alternatives(annotation)


def parse_range(name: str, value: Any, annotation: Any, problems: list[str]) -> ParameterRange | None:
    """Return the range that a user wrote; on problems, add them to ``problems`` and return None."""
    given, value = value, plain_value(value) if isinstance(value, list) else value
    if isinstance(value, list) and len(value) == 2:
        value = {"low": value[0], "high": value[1]}
    if isinstance(value, Mapping) and set(value) == {"choices"}:
        return _parse_choices(name, value["choices"], problems)
    if not isinstance(value, Mapping) or not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        problems.append(
            f"space.{name}: expected [low, high], a mapping with low, high and optionally log, or a mapping with choices, "
            f"but got {show(given)}"
        )
        return None
    low, high, log = (plain_value(value.get(key, False)) for key in ("low", "high", "log"))
    before = len(problems)
    if not _is_number(annotation):
        problems.append(f"space.{name}: the parameter is not a number; give choices, e.g. {{choices: [a, b]}}")
    elif not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
        problems.append(f"space.{name}: the ends must be numbers, but are {show(low)} and {show(high)}")
    elif not isinstance(log, bool):
        problems.append(f"space.{name}.log: expected true or false, but got {show(log)}")
    else:
        # Each end must be an allowed value; the bounds of parameters are intervals, so all values between are as well.
        for end in (low, high):
            _check_value(name, end, problems)
        if len(problems) == before and low >= high:
            problems.append(f"space.{name}: the lower end must be below the upper end, but got {low:g} to {high:g}")
        if len(problems) == before and log and low <= 0:
            problems.append(f"space.{name}: a logarithmic range must start above 0, but got {low:g}")
    if len(problems) > before:
        return None
    return ParameterRange(float(low), float(high), log, is_integer(annotation))


def _parse_choices(name: str, choices: Any, problems: list[str]) -> ParameterRange | None:
    """Return the choices that a user listed; on problems, add them to ``problems`` and return None."""
    before = len(problems)
    if not isinstance(choices, list) or not choices:
        problems.append(f"space.{name}: expected a list of choices, but got {show(choices)}")
        return None
    values = [_check_value(name, choice, problems) for choice in choices]
    if any(value in values[:index] for index, value in enumerate(values)) and len(problems) == before:
        problems.append(f"space.{name}: a choice appears twice in {show(choices)}")
    return ParameterRange(choices=tuple(values)) if len(problems) == before else None


def _check_value(name: str, value: Any, problems: list[str]) -> Any:
    """Return a value of a parameter with its declared type; on problems, add them to ``problems``."""
    mitigation, parameter = name.split(".")
    schema = get_entry("mitigations", mitigation).schema
    complete, found = schema.validate({parameter: value}, f"space.{mitigation}")
    problems += found
    return complete.get(parameter)


def _is_number(annotation: Any) -> bool:
    return is_integer(annotation) or float in alternatives(annotation)
