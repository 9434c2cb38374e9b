"""Declaration of parameters: default, bounds, search range and meaning on one line, next to the code that uses it.

    class ELR(Mitigation):
        beta: float = parameter(0.7, ge=0, lt=1, low=0.5, high=0.99, help="momentum of the targets")

The command line, validation, search spaces, `noisybench describe` and the record of a run all read this line.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from noisybench.config.fidelity import Fidelity
from noisybench.config.validation import alternatives, describe_problems, interpret, strict_type
from noisybench.errors import UserError, nearest, show
from noisybench.utils.file_listing import Source

if TYPE_CHECKING:
    import pydantic


Access = Literal["value", "place", "download", "checksum", "weights", "program", "run"]
"""Kinds of access that the value of a parameter gives. Specifications of other people may give only values.

- ``value``: nothing; the parameter is plain data. Numbers, flags and choices are so without a declaration.
- ``place``: a file or folder, or a part of its name. Every parameter of type `Path` is one without a declaration.
- ``download``: whether data may be downloaded; of a path, that the data are downloaded if none is given.
- ``checksum``: whether files are checked before they are read.
- ``weights``: whether pre-trained weights are downloaded, which decide the result.
- ``program``: the name of a built-in program, or of one in a file.
- ``run``: a nested specification.
"""


@dataclass(frozen=True)
class Parameter:
    """Declaration of one parameter. See `parameter` for the attributes."""

    default: Any
    bounds: dict[str, float] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    log: bool = False
    help: str = ""
    always_in_label: bool = False
    in_identity: bool = True
    access: Access | None = None

    def describe_range(self) -> str:
        """Return the bounds as an interval such as ``[0, 1)``; empty without bounds."""
        if not self.bounds:
            return ""
        low = (
            "[{:g}".format(self.bounds["ge"])
            if "ge" in self.bounds
            else "({:g}".format(self.bounds.get("gt", -float("inf")))
        )
        high = (
            "{:g}]".format(self.bounds["le"])
            if "le" in self.bounds
            else "{:g})".format(self.bounds.get("lt", float("inf")))
        )
        return f"{low}, {high}"


def parameter(
    default: Any,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    help: str = "",
    always_in_label: bool = False,
    in_identity: bool = True,
    access: Access | None = None,
) -> Any:
    """Declare a parameter of a noise model, mitigation, dataset or task.

    Args:
        default: value if the user gives none.
        ge: smallest allowed value (inclusive bound).
        gt: exclusive lower bound.
        le: largest allowed value (inclusive bound).
        lt: exclusive upper bound.
        low: lower end of the search range.
        high: upper end of the search range.
        log: search on a logarithmic scale.
        help: meaning and unit, as a noun phrase.
        always_in_label: show the parameter in short labels even at its default, as for noise rates.
        in_identity: False if the value cannot change a result, such as the permission to download.
        access: kind of access that the value gives, required for text; see `Access`.

    Example:
        >>> class Smoothing(Configurable):
        ...     epsilon: float = parameter(0.1, ge=0, lt=1, low=0.01, high=0.5, help="Mass moved to other classes")
        >>> Smoothing().epsilon, Smoothing(epsilon=0.2).parameters
        (0.1, {'epsilon': 0.2})
    """
    bounds = {name: value for name, value in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt)) if value is not None}
    return Parameter(default, bounds, low, high, log, help, always_in_label, in_identity, access)


@dataclass(frozen=True)
class Schema:
    """All parameters of one component.

    Attributes:
        fields: annotation and declaration by name.
    """

    fields: dict[str, tuple[Any, Parameter]]

    def validate(self, values: dict[str, Any], location: str) -> tuple[dict[str, Any], list[str]]:
        """Check values against the declarations and fill in the defaults.

        Args:
            values: the user's values by parameter name.
            location: location in the specification for messages, e.g. ``"noise"``.

        Returns:
            The complete values as JSON-like data, and all problems. With problems the values are incomplete.
        """
        import pydantic

        # Pydantic ignores unknown names by default, so that a misspelled parameter would have no effect.
        problems = [
            f"{location}: unknown parameter {show(name, quotes=False)}; {nearest(name, self.fields)}"
            for name in values
            if name not in self.fields
        ]
        known = {name: interpret(value, self.fields[name][0]) for name, value in values.items() if name in self.fields}
        try:
            complete = self._model(**known).model_dump(mode="json")
        except pydantic.ValidationError as error:
            for path, reason in describe_problems(error, values):
                problems.append(f"{'.'.join([location, *path])}: {reason}{self._describe_allowed(path[0])}")
            return {}, problems
        return complete, problems

    def paths(self) -> list[str]:
        """Return the names of the parameters that hold a file or folder."""
        return [name for name, (kind, _) in self.fields.items() if Path in alternatives(kind)]

    def outside_identity(self) -> set[str]:
        """Return the names of the parameters that are no part of an identity: paths, and those that cannot change a result."""
        return {*self.paths(), *(name for name, (_, declared) in self.fields.items() if not declared.in_identity)}

    def access(self, name: str) -> Access | None:
        """Return the access that a parameter gives; None for text without a declaration."""
        kind, declared = self.fields[name]
        if declared.access is not None:
            return declared.access
        if Path in alternatives(kind):
            return "place"
        return "value" if _is_plain(kind) else None

    def _describe_allowed(self, name: str) -> str:
        declared = self.fields[name][1].describe_range()
        return f" (allowed: {declared})" if declared else ""

    @functools.cached_property
    def _model(self) -> type[pydantic.BaseModel]:
        import pydantic

        # `Any`: the type of `Field` does not accept bounds that come from a mapping.
        field: Any = pydantic.Field
        fields: dict[str, Any] = {
            name: (strict_type(kind), field(default=spec.default, **spec.bounds))
            for name, (kind, spec) in self.fields.items()
        }
        # JSON has neither infinity nor NaN.
        config = pydantic.ConfigDict(allow_inf_nan=False)
        return pydantic.create_model("Parameters", __config__=config, **fields)

    def __hash__(self) -> int:
        # The generated hash would fail, because a dictionary cannot be hashed.
        return id(self)


def _is_plain(kind: Any) -> bool:
    """Return whether a type has only numbers, flags, None and fixed choices."""
    if typing.get_origin(kind) is Literal:
        return True
    parts = [part for part in typing.get_args(kind) if part is not Ellipsis]
    return all(map(_is_plain, parts)) if parts else kind in (int, float, bool, types.NoneType)


class Configurable:
    """Base class of components: keyword arguments are checked against the declared parameters.

    Attributes:
        parameters: all parameters as JSON-like data, defaults included.

    Raises:
        UserError: unknown names or values outside their bounds, all at once.

    Example:
        >>> class Smoothing(Configurable):
        ...     epsilon: float = parameter(0.1, ge=0, lt=1)
        >>> Smoothing(epsilon=1.5)
        Traceback (most recent call last):
        noisybench.errors.UserError: Smoothing.epsilon: input should be less than 1, but got 1.5 (allowed: [0, 1))
    """

    fidelity: ClassVar[Fidelity | None] = None
    """How true the component is to its reference; None if nothing was compared."""

    def __init__(self, **values: Any) -> None:
        cls: type = type(self)
        schema = schema_of(cls)
        complete, problems = schema.validate(values, cls.__name__)
        if problems:
            raise UserError(*problems)
        set_parameters(self, schema, complete)
        self.parameters: dict[str, Any] = complete

    def data_files(self) -> Mapping[str, Source]:
        """Return the files and folders that the component reads, by names that do not depend on their location.

        Their bytes are part of a run's identity. By default these are the values of all parameters that hold a path, and
        of a folder everything in it; a component that reads less, or files of other places, overrides this.

        Raises:
            UserError: a list that names further files is missing or damaged.
        """
        cls: type = type(self)
        values = {name: getattr(self, name) for name in schema_of(cls).paths()}
        return {name: path for name, path in values.items() if path is not None}

    def fetch(self) -> None:
        """Download missing files of `data_files` if the component can and may; nothing by default.

        Raises:
            UserError: the download fails.
        """


def set_parameters(target: object, schema: Schema, complete: dict[str, Any]) -> None:
    """Set complete and valid values as attributes, and paths as `Path` objects."""
    for name, value in complete.items():
        kind = schema.fields[name][0]
        if value is not None and Path in alternatives(kind):
            value = [Path(each) for each in value] if isinstance(value, list) else Path(value)
        setattr(target, name, value)


@functools.cache
def schema_of(cls: type) -> Schema:
    """Return the parameters that an imported class and its bases declare.

    Example:
        >>> class Smoothing(Configurable):
        ...     epsilon: float = parameter(0.1, ge=0, lt=1)
        >>> schema_of(Smoothing).fields["epsilon"][1].describe_range()
        '[0, 1)'
    """
    fields: dict[str, tuple[Any, Parameter]] = {}
    # From the most general class down, so that a class replaces the declarations of its bases.
    for base in reversed(cls.__mro__):
        declared = {name: value for name, value in vars(base).items() if isinstance(value, Parameter)}
        if declared:
            # Annotations are text in modules that postpone their evaluation.
            hints = typing.get_type_hints(base)
            fields.update({name: (hints[name], value) for name, value in declared.items()})
    return Schema(fields)


STATIC_NAMESPACE: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str, list, dict, tuple)},
    "parameter": parameter,
    "Any": Any,
    "Literal": Literal,
    "Path": Path,
}
"""Names that annotations and `parameter(...)` lines may use, so that both can be read without importing the module."""
