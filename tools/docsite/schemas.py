"""The page of records, manifests and specifications, generated from their classes."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import pydantic

from noisybench.config.spec import RunSpec
from noisybench.data.label_sets import manifest
from noisybench.records import schema

from .pages import Page
from .text import code, prose, table


def pages() -> Iterator[Page]:
    """Yield the page of all formats."""
    parts = [
        "# Records and manifests",
        "For everyone who reads the files that noisybench writes. A run has a record (`record.json` in its artifacts and in "
        f"submissions, format {schema.RECORD_FORMAT}), and a label set has a manifest (`manifest.json`, format "
        f"{manifest.FORMAT}). Files of other formats and with unknown fields are refused.",
        "```bash\nnoisybench runs export -o records.zip\nnoisybench labels info labels/pair\n```",
        "## Record",
    ]
    parts += _class_parts(schema.RunRecord)
    parts.append("## Manifest")
    parts += _class_parts(manifest.Manifest)
    parts.append("## Specification of a run")
    parts += _class_parts(RunSpec)
    yield Page("reference/schemas.md", "Records and manifests", "\n\n".join(part for part in parts if part) + "\n")


def _class_parts(cls: type, seen: set[type] | None = None) -> list[str]:
    """Return a table of the fields of a class, followed by those of the classes of its fields."""
    seen = seen if seen is not None else set()
    seen.add(cls)
    documentation = inspect.getdoc(cls) or ""
    rows, nested = [], []
    for name, annotation in _fields(cls):
        rows.append((code(name), code(_annotation_text(annotation)), prose(_meanings(cls).get(name, ""))))
        nested += [each for each in _classes(annotation) if each not in seen]
    parts = [f"### {cls.__name__}", prose(documentation.split("\n\n")[0]), table(["Field", "Type", "Meaning"], rows)]
    for each in dict.fromkeys(nested):
        if each not in seen:
            parts += _class_parts(each, seen)
    return parts


def _fields(cls: type) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    if dataclasses.is_dataclass(cls):
        return [(each.name, hints[each.name]) for each in dataclasses.fields(cls)]
    return [(name, hints[name]) for name in cls.model_fields]  # type: ignore[attr-defined]


def _classes(annotation: Any) -> Iterator[type]:
    if inspect.isclass(annotation) and (
        dataclasses.is_dataclass(annotation) or issubclass(annotation, pydantic.BaseModel)
    ):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _classes(argument)


def _annotation_text(annotation: Any) -> str:
    """Return a type as in source code.

    >>> _annotation_text(dict[str, list[int]] | None)
    'dict[str, list[int]] | None'
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _annotation_text(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_annotation_text(each) for each in arguments)
    if origin is typing.Literal:
        return " | ".join(map(repr, arguments))
    if origin is not None:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(_annotation_text(each) for each in arguments)}]"
    return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def _meanings(cls: type) -> dict[str, str]:
    """Return the descriptions of fields from the section `Attributes` of a docstring, and from texts below fields."""
    documentation = inspect.getdoc(cls) or ""
    meanings = {}
    if match := re.search(r"^Attributes:\n((?:    .*\n?|\n)+)", documentation, re.M):
        for name, text in re.findall(r"^    (\w+): ((?:.*\n?)(?:        .*\n?)*)", match[1], re.M):
            meanings[name] = " ".join(text.split())
    source = inspect.getsource(cls)
    for name, text in re.findall(r'^    (\w+): .*\n    """(.+?)"""', source, re.M | re.S):
        meanings.setdefault(name, " ".join(text.split()))
    return meanings
