"""Recipes, suites and searches: YAML files, built in or the user's own, read by one strict loader."""

from __future__ import annotations

import importlib.resources
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from noisybench.config.scalars import read_scalar
from noisybench.errors import UserError, nearest, shorten, show
from noisybench.utils.places import expand_user

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Parser in C where available, which is ten times as fast."""

MAX_BYTES = 2**20
"""Size of the largest configuration file."""

MAX_DEPTH = 64
"""Number of lists and mappings that may be nested."""

MAX_VALUES = 100_000
"""Number of values in one file, each counted as often as aliases repeat it."""


def builtin_configs(folder: str) -> dict[str, Path]:
    """Return the recipes, suites or searches that come with noisybench, by name.

    Example:
        >>> builtin_configs("recipes")["digits"].name
        'digits.yaml'
    """
    root = importlib.resources.files("noisybench.configs") / folder
    return {Path(str(file)).stem: Path(str(file)) for file in root.iterdir() if file.name.endswith(".yaml")}


def is_path(name: str) -> bool:
    """Return True if a configuration is given by its path, False if by the name of a built-in one.

    Example:
        >>> is_path("digits"), is_path("my-suite.yaml")
        (False, True)
    """
    return name.endswith((".yaml", ".yml")) or "/" in name


def load_config(folder: str, name: str) -> dict[str, Any]:
    """Read a configuration by its built-in name or its path.

    Args:
        folder: ``recipes``, ``suites`` or ``searches``.
        name: built-in name, or path of a YAML file.

    Returns:
        The fields; values without quotes that may be numbers, truth values or nothing are `PlainScalar`.

    Raises:
        UserError: the name or file does not exist, or the file is not a YAML mapping.

    Example:
        >>> load_config("recipes", "digits")["dataset"]
        'digits'
    """
    builtin = builtin_configs(folder)
    kind = folder.removesuffix("es" if folder == "searches" else "s")
    help_text = f"(`noisybench list {folder}`, or the path of a .yaml file)"
    if is_path(name):
        path = expand_user(Path(name))
    elif name in builtin:
        path = builtin[name]
    else:
        raise UserError(f"unknown {kind} {show(name, quotes=False)}; {nearest(name, builtin)} {help_text}")
    content = parse_yaml(_read(path, f"unknown {kind}", help_text), str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of fields such as dataset, noise, mitigations")
    return content


def _read(path: Path, kind: str, help_text: str) -> str:
    """Return the text of a configuration file.

    Raises:
        UserError: the file is missing, unreadable, too large, no regular file, or not UTF-8.
    """
    name = show(str(path), quotes=False)
    try:
        # Opened without waiting: a named pipe would block until another program writes into it.
        # By descriptor, whose errors would name its number in place of the path.
        if path.is_dir():
            raise UserError(f"{name}: expected a regular file, not a pipe, device or folder")
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{name}: expected a regular file, not a pipe, device or folder")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"{kind} {name}; the file does not exist {help_text}") from None
    except (OSError, ValueError) as error:  # `ValueError`: the path contains a null character
        raise UserError(f"{name}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{name}: the file is larger than {MAX_BYTES // 2**20} MiB, too large for a configuration")
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{name}: the file starts with a byte-order mark; save it as UTF-8 without one")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


@dataclass
class _Node:
    """List or mapping under construction.

    Attributes:
        content: the list or mapping.
        line: line of its first character.
        anchor: name by which aliases refer to it.
        key: latest key of a mapping, whose value is missing.
        size: number of values inside, with repetitions by aliases.
    """

    content: dict[str, Any] | list[Any]
    line: int
    anchor: str | None = None
    key: str | None = None
    size: int = 1

    def add(self, value: Any, size: int, line: int, source: str) -> None:
        """Add a value, or the key of the next value."""
        self.size += size
        if isinstance(self.content, list):
            self.content.append(value)
        elif self.key is not None:
            self.content[self.key], self.key = value, None
        elif not isinstance(value, str):
            raise UserError(f"{source}, line {line}: a key must be a single name or number, but is {show(value)}")
        elif value in self.content:
            raise UserError(f"{source}, line {line}: the key {show(value, quotes=False)} appears twice in one mapping")
        elif value == "<<":
            raise UserError(f"{source}, line {line}: merge keys (<<) are not supported; write the fields out")
        else:
            self.key = value


@dataclass
class _Builder:
    """Values of one YAML document, built from the events of the parser without recursion."""

    source: str
    root: _Node = field(default_factory=lambda: _Node([], 1))
    open: list[_Node] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)

    def add(self, event: Any) -> None:
        """Process the next event."""
        line = event.start_mark.line + 1
        location = f"{self.source}, line {line}"
        if isinstance(event, yaml.DocumentStartEvent) and self.root.content:
            raise UserError(f"{location}: the file has several documents (---); expected one")
        if getattr(event, "tag", None) is not None:
            raise UserError(f"{location}: tags such as {show(event.tag, quotes=False)} are not supported")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                inside = any(node.anchor == event.anchor for node in self.open)
                reason = "refers to the value that contains it" if inside else "refers to no earlier anchor"
                raise UserError(f"{location}: the alias *{event.anchor} {reason}")
            self._put(*self.anchors[event.anchor], None, line)
        elif isinstance(event, yaml.ScalarEvent):
            self._put(read_scalar(event.value) if event.implicit[0] else event.value, 1, event.anchor, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if len(self.open) == MAX_DEPTH:
                raise UserError(f"{location}: more than {MAX_DEPTH} lists and mappings are nested")
            self.open.append(_Node({} if isinstance(event, yaml.MappingStartEvent) else [], line, event.anchor))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node = self.open.pop()
            self._put(node.content, node.size, node.anchor, node.line)

    def _put(self, value: Any, size: int, anchor: str | None, line: int) -> None:
        """Add a complete value to the innermost open list or mapping."""
        if anchor is not None:
            self.anchors[anchor] = (value, size)
        parent = self.open[-1] if self.open else self.root
        parent.add(value, size, line, self.source)
        if parent.size > MAX_VALUES:
            raise UserError(
                f"{self.source}, line {line}: more than {MAX_VALUES:,} values, of which aliases may repeat many"
            )


def parse_yaml(text: str, source: str) -> Any:
    """Return the content of a YAML document; None if it is empty.

    Values follow the core schema of YAML 1.2, see `read_scalar`. Duplicate keys, tags, merge keys, recursive aliases and
    several documents are refused.

    Args:
        text: YAML document.
        source: name of the document in messages.

    Raises:
        UserError: the text is not such a document; the message names the line.

    Example:
        >>> parse_yaml("{name: web, classes: [no, yes, 1e3]}", "example")
        {'name': 'web', 'classes': ['no', 'yes', 1e3]}
        >>> parse_yaml("{rate: 0.2, rate: 0.4}", "example")
        Traceback (most recent call last):
        noisybench.errors.UserError: example, line 1: the key `rate` appears twice in one mapping
    """
    builder = _Builder(source)
    try:
        for event in yaml.parse(text, Loader=LOADER):
            builder.add(event)
    except yaml.YAMLError as error:
        # The parser's own name for a text without a file says nothing to a user.
        reason = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise UserError(f"{source}: not valid YAML: {shorten(reason, 200)}") from None
    return builder.root.content[0] if isinstance(builder.root.content, list) and builder.root.content else None
