"""Strict checks of values against types: nothing is converted in silence, and every message names location and value."""

from __future__ import annotations

import functools
import operator
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union

from noisybench.config.scalars import MAX_DIGITS, PlainScalar, is_null
from noisybench.errors import UserError, nearest, show

if TYPE_CHECKING:
    import pydantic

Model = TypeVar("Model", bound="pydantic.BaseModel")

KEEP_TEXT = "keep text"
"""Annotation of values that a later check interprets, such as the specification inside a suite."""

UNKNOWN_FIELD = "the field is unknown"

REASONS = {
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping such as {a: 1}",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "int_type": "expected an integer",
    "int_from_float": "expected an integer",
    "list_type": "expected a list such as [a, b]",
    "model_type": "expected a mapping of fields",
    "path_type": "expected a path",
    "string_type": "expected text",
    "tuple_type": "expected a list such as [a, b]",
    "missing": "the field is missing",
    "extra_forbidden": UNKNOWN_FIELD,
}
"""Messages for types of pydantic's errors whose own text speaks of Python."""


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself.

    Example:
        >>> alternatives(int | None)
        (<class 'int'>, <class 'NoneType'>)
    """
    if typing.get_origin(annotation) is Annotated:
        return alternatives(typing.get_args(annotation)[0])
    return typing.get_args(annotation) if typing.get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def accepts_text(annotation: Any) -> bool:
    """Return True if any text is allowed, such as a path or a name.

    Example:
        >>> accepts_text(Path | None), accepts_text(Literal["a", "b"]), accepts_text(list[str])
        (True, False, False)
    """
    return bool({str, Path} & {kind for kind in alternatives(annotation) if isinstance(kind, type)})


def accepts_list(annotation: Any) -> bool:
    """Return True if a list is allowed.

    Example:
        >>> accepts_list(Path | list[Path] | None), accepts_list(Path | None)
        (True, False)
    """
    return any(typing.get_origin(kind) is list for kind in alternatives(annotation))


def interpret(value: Any, annotation: Any) -> Any:
    """Return a value in which text without quotes has the type that is declared for it.

    Args:
        value: value from a file or the command line, or any Python value.
        annotation: declared type.

    Example:
        >>> interpret(PlainScalar("2024"), Path | None), interpret(PlainScalar("2024"), int)
        ('2024', 2024)
        >>> interpret([PlainScalar("1e3"), "no"], list[str])
        ['1e3', 'no']
        >>> interpret({"255": 1}, dict[int, int])
        {255: 1}
        >>> interpret("256x512", int | list[int] | None)
        [256, 512]
    """
    if hasattr(value, "tolist") and hasattr(value, "ndim"):
        # Numbers and arrays of NumPy, which functions of Python get.
        value = value.tolist()
    kinds = alternatives(annotation)
    if (
        list[int] in kinds
        and isinstance(value, str)
        and (sides := re.fullmatch(r"\s*(\d{1,9})\s*x\s*(\d{1,9})\s*", value))
    ):
        return [int(side) for side in sides.groups()]
    if isinstance(value, PlainScalar):
        return _interpret_scalar(value, kinds)
    if isinstance(value, list | tuple):
        item = next((typing.get_args(kind)[0] for kind in kinds if typing.get_origin(kind) in (list, tuple)), Any)
        return [interpret(each, item) for each in value]
    if isinstance(value, dict):
        key, item = next((typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is dict), (Any, Any))
        return {_interpret_key(name, key): interpret(each, item) for name, each in value.items()}
    return value


def _interpret_key(name: Any, annotation: Any) -> Any:
    # Keys are text in JSON, in which specifications are stored, whatever their type.
    if annotation is int and type(name) is str and re.fullmatch(r"-?[0-9]{1,18}", name):
        return int(name)
    return interpret(name, annotation)


def _interpret_scalar(value: PlainScalar, kinds: tuple[Any, ...]) -> Any:
    if type(None) in kinds and is_null(value):
        return None
    choices = [choice for kind in kinds if typing.get_origin(kind) is Literal for choice in typing.get_args(kind)]
    if str(value) in choices:
        return str(value)
    return str(value) if any(kind in (str, Path) for kind in kinds) else value.value


def strict_type(annotation: Any) -> Any:
    """Return a type for pydantic that accepts no number for a truth value, no text for a number, and the like.

    Integers must fit into 64 bits. Integers are accepted where any number is.
    """
    import pydantic

    arguments = typing.get_args(annotation)
    if annotation is int:
        # A validator: bounds in the type would replace those that a parameter declares.
        return Annotated[int, pydantic.Field(strict=True), pydantic.AfterValidator(_fits_in_64_bits)]
    if annotation in (float, bool, str):
        return Annotated[annotation, pydantic.Field(strict=True)]
    if typing.get_origin(annotation) is Literal and all(isinstance(choice, int) for choice in arguments):
        # Python takes 1.0 and True for 1.
        return Annotated[annotation, pydantic.BeforeValidator(_only_integers)]
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return functools.reduce(operator.or_, (strict_type(kind) for kind in arguments))
    if typing.get_origin(annotation) in (list, dict):
        return typing.get_origin(annotation)[tuple(strict_type(kind) for kind in arguments)]
    return annotation


def _fits_in_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("expected an integer of at most 64 bits")
    return value


def _only_integers(value: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) else show(value)


def check_model(model: type[Model], raw: Any, location: str, problems: list[str]) -> Model | None:
    """Return a checked section of a specification; on problems, add them to ``problems`` and return None.

    Args:
        model: strict model of the section.
        raw: mapping from a file, the command line or Python.
        location: location of the section for messages; empty at the top level of a file.
        problems: list to extend.
    """
    import pydantic

    if not isinstance(raw, Mapping):
        problems.append(f"{location}: expected a mapping of {', '.join(model.model_fields)}, but got {show(raw)}")
        return None
    values = {}
    for name, value in raw.items():
        field = model.model_fields.get(str(name))
        keep = field is None or KEEP_TEXT in field.metadata
        values[str(name)] = value if keep or field is None else interpret(value, field.annotation)
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        for path, reason in describe_problems(error, raw):
            if reason == UNKNOWN_FIELD:
                where = ".".join(filter(None, [location, *path[:-1]]))
                prefix = f"{where}: " if where else ""
                problems.append(
                    f"{prefix}unknown field {show(path[-1], quotes=False)}; {nearest(path[-1], model.model_fields)}"
                )
                continue
            problems.append(f"{'.'.join(filter(None, [location, *path]))}: {reason}")
        return None


def describe_problems(error: pydantic.ValidationError, raw: Any) -> list[tuple[tuple[str, ...], str]]:
    """Return the location of each problem that pydantic has found, with its reason and the value as the user wrote it.

    Of a value with alternative types, the problem is one: either that of an entry of a list that the user wrote, or that it
    is none of the alternatives.

    Args:
        error: the problems.
        raw: the values that were checked, before `interpret`.
    """
    found: dict[tuple[str, ...], list[Any]] = {}
    for detail in error.errors():
        found.setdefault(_written_location(raw, detail), []).append(detail)
    inner = {place[:length] for place in found for length in range(1, len(place))}
    return [(place, _describe(details, raw)) for place, details in found.items() if place not in inner]


def _written_location(raw: Any, detail: Any) -> tuple[str, ...]:
    """Return the location of a problem without the names of alternative types, which pydantic puts between its parts."""
    place: list[str] = []
    for part in detail["loc"]:
        entries = dict(enumerate(raw)) if isinstance(raw, list | tuple) else raw if isinstance(raw, Mapping) else {}
        # Keys are text in JSON, whatever their declared type.
        written = next((key for key in (part, str(part)) if key in entries), None)
        if written is not None or not place or detail["type"] == "missing":
            place.append(str(part))
            raw = entries.get(written)
    return tuple(place)


def _describe(details: list[Any], raw: Any) -> str:
    """Return why a value is none of its alternatives, and the value as the user wrote it."""
    detail = details[0]
    if detail["type"] in ("missing", "extra_forbidden"):
        return REASONS[detail["type"]]
    value = _original(raw, detail["loc"], detail["input"])
    reasons = list(dict.fromkeys(_reason(each, value) for each in details))
    if not detail["loc"]:  # concerns several fields, which the reason names
        return reasons[0]
    text = ", or ".join(f"{reason[0].lower()}{reason[1:]}" for reason in reasons)
    return f"{text}, but got {show(value)}"


def _reason(detail: Any, value: Any) -> str:
    is_long = isinstance(value, str) and len(value) > MAX_DIGITS and value.lstrip("+-").isdecimal()
    if detail["type"] == "int_type" and is_long:
        return "expected an integer of at most 64 bits"
    return REASONS.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))


def _original(raw: Any, location: Iterable[Any], fallback: Any) -> Any:
    """Return the value at a location; the fallback if it cannot be found, as for keys of mappings."""
    value = raw
    for part in location:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return fallback
    return value


@functools.cache
def strict_config() -> Any:
    """Return the configuration of models that accept neither unknown fields nor values of another type."""
    import pydantic

    return pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def refuse(problems: Iterable[str]) -> None:
    """Raise the problems as one error, each of them once; do nothing without problems.

    Raises:
        UserError: there are problems.
    """
    distinct = dict.fromkeys(problems)
    if distinct:
        raise UserError(*distinct)
