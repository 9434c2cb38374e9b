"""Digest of a Python file's meaning, and the modules that it imports, from its syntax tree. Nothing is executed.

Comments, docstrings, formatting, type-only imports, help texts of parameters, fidelity cards and licenses of data do not
count. The walk is our own, over the non-empty fields of the tree, since `ast.dump` and `compile` differ between Python
versions.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisybench.errors import UserError

SYNTAX_FORMAT = 1
"""Raise this number when the same source would have another digest."""

IGNORED_FIELDS = ("type_comment", "kind")
"""Fields of syntax nodes without an effect: `kind` is the prefix `u` of a string."""
DESCRIPTIONS = {"fidelity": "Fidelity", "license": "License"}
"""Attributes that describe a component and have no effect on it, with the class of their value."""


@dataclass(frozen=True)
class ModuleSource:
    """A module as its source text describes it.

    Attributes:
        digest: digest of the meaning.
        imports: absolute names that it imports: modules, and names in modules that may be modules themselves.
    """

    digest: str
    imports: tuple[str, ...]


def module_digest(path: Path) -> str:
    """Return a digest of the meaning of a Python file, the same on every supported Python version.

    Raises:
        UserError: the file is not valid Python.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "loss.py"
        >>> _ = file.write_text("def loss(p):\\n    return 1 - p\\n")
        >>> before = module_digest(file)
        >>> _ = file.write_text("def loss(p):\\n    '''Return the loss.'''\\n    return (1 - p)  # per example\\n")
        >>> module_digest(file) == before
        True
    """
    return read_source(path.read_bytes(), path.stem, False, path).digest


def read_source(data: bytes, module: str, is_package: bool, path: Path) -> ModuleSource:
    """Parse the source of a module.

    Args:
        data: content of its file.
        module: absolute name, from which relative imports are resolved.
        is_package: True for the `__init__.py` of a package.
        path: file, for the message.

    Raises:
        UserError: the file is not valid Python.
    """
    try:
        with warnings.catch_warnings():
            # The parser warns about doubtful escapes in strings, which is a matter for the author of the file.
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # ValueError: null bytes
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise UserError(f"{path}{line}: not valid Python ({reason}); correct the file") from None
    tree.body = [node for node in tree.body if not _is_version(node)]
    tokens, imports = list[str](), dict[str, None]()
    for token in _walk(tree):
        if isinstance(token, ast.AST):
            imports |= dict.fromkeys(_imported(token, module, is_package))
        else:
            tokens.append(token)
    text = "\n".join([str(SYNTAX_FORMAT), *tokens])
    return ModuleSource(hashlib.sha256(text.encode()).hexdigest()[:32], tuple(imports))


class _Token(str):
    """Text of the canonical form, in contrast to a string of the source."""

    __slots__ = ()


def _walk(tree: ast.AST) -> Iterator[str | ast.AST]:
    """Yield the canonical form piece by piece, and every node that may import a module.

    Without recursion: a long chain of operators is nested deeper than Python's stack.
    """
    stack: list[Any] = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, _Token):
            yield str(item)
        elif isinstance(item, ast.AST):
            if isinstance(item, ast.Import | ast.ImportFrom | ast.Call):
                yield item
            yield f"({type(item).__name__}"
            stack.append(_Token(")"))
            # Sorted, because versions may order fields differently; the stack reverses the order once more.
            for name in sorted(item._fields, reverse=True):
                value = _simplified(item, name, getattr(item, name, None))
                if value is not None and value != [] and name not in IGNORED_FIELDS:
                    stack += [value, _Token(f".{name}")]
        elif isinstance(item, list):
            yield "["
            stack += [_Token("]"), *reversed(item)]
        elif isinstance(item, int) and not isinstance(item, bool):
            yield f"int {item:x}"  # decimal digits of a large number are limited and slow
        else:
            # ASCII only, because versions differ in which characters they regard as printable.
            yield f"{type(item).__name__} {item!a}"


def _simplified(node: ast.AST, field: str, value: Any) -> Any:
    """Return the value of a field without what has no effect, in the form that all Python versions share."""
    if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
        return list(_effective(value))
    if isinstance(node, ast.JoinedStr) and field == "values":
        return _merged(value)
    # `f"{x:}"` has an empty format in some versions, and none in others.
    if field == "format_spec" and isinstance(value, ast.JoinedStr) and not _merged(value.values):
        return None
    if isinstance(node, ast.Call) and field == "keywords" and getattr(node.func, "id", "") == "parameter":
        return [keyword for keyword in value if keyword.arg != "help"]
    return value


def _effective(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements with an effect: no bare constants such as docstrings, type-only imports and descriptions."""
    for statement in statements:
        if isinstance(statement, ast.If) and _is_type_checking(statement.test):
            yield from _effective(statement.orelse)
        elif not (
            isinstance(statement, ast.Pass)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            or _is_description(statement)
        ):
            yield statement


def _is_description(statement: ast.stmt) -> bool:
    """Return True for an assignment such as ``fidelity = Fidelity(...)``."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
        return False
    kinds = [DESCRIPTIONS.get(getattr(target, "id", "")) for target in statement.targets]
    return kinds == [getattr(statement.value.func, "id", "")]


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _is_version(statement: ast.stmt) -> bool:
    """Return True for an assignment such as ``__version__ = "1.0"``; the record of a run has the versions."""
    return (
        isinstance(statement, ast.Assign)
        and [getattr(target, "id", "") for target in statement.targets] == ["__version__"]
        and isinstance(statement.value, ast.Constant)
    )


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string with adjacent constants merged and without empty ones."""
    parts: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and parts and isinstance(parts[-1], ast.Constant):
            parts[-1] = ast.Constant(str(parts[-1].value) + str(value.value))
        elif not (isinstance(value, ast.Constant) and value.value == ""):
            parts.append(value)
    return parts


def _imported(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Yield the absolute names that a node imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute("." * node.level + (node.module or ""), module, is_package)
        yield base
        # A name may be a variable of the package or one of its modules; only the files show which.
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function, name = getattr(node.func, "attr", getattr(node.func, "id", "")), node.args[0].value
        if function in ("import_module", "__import__") and isinstance(name, str):
            yield _absolute(name, module, is_package)


def _absolute(name: str, module: str, is_package: bool) -> str:
    """Return the absolute form of a name that may start with dots."""
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = module.split(".")
    base = parts[: len(parts) - level + is_package]
    return ".".join([*base, *filter(None, [name[level:]])])
