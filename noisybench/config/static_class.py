"""Facts about the class of a component, read from its source text: nothing is imported."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from noisybench.config.registry import Entry, base_classes, class_node

TASKS = ("classification",)
"""Tasks of mitigations, noise models and datasets that declare none."""


@dataclass(frozen=True)
class PrivilegedUse:
    """Privileged information that a mitigation can use.

    Attributes:
        name: name from `PRIVILEGED`, such as ``noise_rate``.
        condition: parameters for which it is used, as a Python expression; empty if it always is.
        by_default: whether it is used with the default parameters.
    """

    name: str
    condition: str
    by_default: bool

    @property
    def text(self) -> str:
        """Name and condition in a few words."""
        if not self.condition:
            return f"{self.name} (always)"
        return f"{self.name} ({'by default: ' if self.by_default else 'only '}if {self.condition})"


@functools.cache
def class_constant(entry: Entry, name: str, default: Any) -> Any:
    """Return a class attribute whose value is a literal, of the public class or the first base that has it.

    Args:
        entry: registered component with a class.
        name: name of the attribute.
        default: value if no class in a file of a component declares it.

    Example:
        >>> from noisybench.config.registry import get_entry
        >>> class_constant(get_entry("mitigations", "adele"), "tasks", TASKS)
        ('segmentation',)
    """
    for module, class_name in _classes(entry.module, entry.class_name):
        for node in class_node(module, class_name).body:
            if isinstance(node, ast.Assign):
                targets = node.targets
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                targets = [node.target]
            else:
                continue
            if [getattr(target, "id", "") for target in targets] == [name]:
                assert node.value is not None
                return ast.literal_eval(node.value)
    return default


def privileged_uses(entry: Entry) -> tuple[PrivilegedUse, ...]:
    """Return the privileged information that a mitigation can use, from its property `requirements`.

    The property has to name it in a keyword ``privileged=`` as a tuple of strings, for all parameters or under one condition.

    Example:
        >>> from noisybench.config.registry import get_entry
        >>> [use.text for use in privileged_uses(get_entry("mitigations", "co_teaching"))]
        ['noise_rate (by default: if forget_rate is None)']
        >>> [use.text for use in privileged_uses(get_entry("mitigations", "oracle_pruning"))]
        ['label_status (always)']
    """
    for module, class_name in _classes(entry.module, entry.class_name):
        for node in class_node(module, class_name).body:
            if isinstance(node, ast.FunctionDef) and node.name == "requirements" and (value := _privileged(node)):
                return _uses(entry, value, node)
    return ()


def _classes(module: str, class_name: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of a class and of its bases, depth first."""
    yield module, class_name
    for base in base_classes(module, class_name):
        yield from _classes(*base)


def _privileged(function: ast.FunctionDef) -> ast.expr | None:
    """Return the value of the keyword ``privileged`` in a function."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    return next((keyword.value for call in calls for keyword in call.keywords if keyword.arg == "privileged"), None)


def _uses(entry: Entry, value: ast.expr, function: ast.FunctionDef) -> tuple[PrivilegedUse, ...]:
    value = _resolved(value, function)
    condition, by_default = "", True
    if isinstance(value, ast.IfExp):
        test = _resolved(value.test, function)
        condition = ast.unparse(test).replace("self.", "")
        defaults = SimpleNamespace(**{name: each.default for name, (_, each) in entry.schema.fields.items()})
        code = compile(ast.Expression(test), entry.module, "eval")
        # Without builtins: a condition compares parameters with constants.
        by_default = bool(eval(code, {"__builtins__": {}, "self": defaults}))
        value = value.body
    return tuple(PrivilegedUse(name, condition, by_default) for name in ast.literal_eval(value))


def _resolved(value: ast.expr, function: ast.FunctionDef) -> ast.expr:
    """Return the expression that a local variable is assigned; other expressions stay."""
    if not isinstance(value, ast.Name):
        return value
    assignments = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    return next(node.value for node in assignments if [getattr(each, "id", "") for each in node.targets] == [value.id])
