"""Registry of noise models, mitigations, datasets, tasks, networks and backbones. The folder is the registry.

A file `NAME.py` in the folder of a kind, with one public class (for a network: a function `build`, for a
backbone: `load`), registers NAME.
Names, summaries and parameters are read from the source text, so that listing, describing and validating import neither
the file nor torch. Other packages register names through entry points:

    [options.entry_points]
    noisybench.mitigations =
        my_method = my_package.my_method
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.licenses import License
from noisybench.config.module_files import ModuleFiles
from noisybench.config.parameters import STATIC_NAMESPACE, Parameter, Schema
from noisybench.errors import UserError, nearest, show

KINDS: dict[str, str] = {
    "noise_models": "noisybench.noise_models",
    "mitigations": "noisybench.mitigations",
    "datasets": "noisybench.tasks.datasets",
    "tasks": "noisybench.tasks",
    "networks": "noisybench.networks",
    "backbones": "noisybench.backbones",
}
"""Package of each kind."""

FUNCTIONS = {"networks": "build", "backbones": "load"}
"""Function of kinds whose files have no class."""


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        kind: a key of `KINDS`.
        name: registered name.
        module: module that defines it.
    """

    kind: str
    name: str
    module: str

    @property
    def summary(self) -> str:
        """First line of the documentation."""
        return self.documentation.strip().split("\n")[0]

    @property
    def documentation(self) -> str:
        """Docstring of the public class, or of the module if the class has none."""
        tree = _parse(self.module)
        if self.kind in FUNCTIONS:
            return ast.get_docstring(tree) or ""
        return ast.get_docstring(_public_class(tree, self.module)) or ast.get_docstring(tree) or ""

    @property
    def class_name(self) -> str:
        """Name of the public class, for kinds that have one."""
        return _public_class(_parse(self.module), self.module).name

    @property
    def schema(self) -> Schema:
        """Parameters with their declarations, read without importing the module."""
        if self.kind in FUNCTIONS:
            return Schema({})
        return _static_schema(self.module, self.class_name)

    @property
    def fidelity(self) -> Fidelity | None:
        """Fidelity card that the public class declares, read without importing the module; None without one."""
        if self.kind in FUNCTIONS:
            return None
        card = _static_description(self.module, "fidelity")
        return card if isinstance(card, Fidelity) else None

    @property
    def license(self) -> License | None:
        """License and access that the public class declares, read without importing the module; None without one."""
        if self.kind in FUNCTIONS:
            return None
        terms = _static_description(self.module, "license")
        return terms if isinstance(terms, License) else None

    @property
    def source(self) -> Path:
        """Source file."""
        return _source(self.module)

    def defines(self, function: str) -> bool:
        """Return True if the module defines a function of this name; the module is not imported."""
        return any(isinstance(node, ast.FunctionDef) and node.name == function for node in _parse(self.module).body)

    def load_function(self, function: str) -> Any:
        """Import the module and return one of its functions."""
        return getattr(importlib.import_module(self.module), function)

    def load_class(self) -> Any:
        """Import and return the public class (for a network and a backbone: its function)."""
        module = importlib.import_module(self.module)
        if self.kind in FUNCTIONS:
            return getattr(module, FUNCTIONS[self.kind])
        return getattr(module, self.class_name)


@functools.cache
def list_entries(kind: str) -> dict[str, Entry]:
    """Return all registered names of a kind, sorted. Other packages cannot replace a built-in name.

    Example:
        >>> entry = list_entries("mitigations")["elr"]
        >>> entry.name, entry.module
        ('elr', 'noisybench.mitigations.elr')
    """
    package = KINDS[kind]
    # Locates the folder without importing the package or its modules.
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    files = [file for folder in folders for file in folder.glob("*.py") if not file.stem.startswith("_")]
    entries = {file.stem: Entry(kind, file.stem, f"{package}.{file.stem}") for file in files}
    for point in _installed().select(group=f"noisybench.{kind}"):
        entries.setdefault(point.name, Entry(kind, point.name, point.value))
    return dict(sorted(entries.items()))


@functools.cache
def _installed() -> Any:
    """Return the entry points of all installed packages; cached because this reads the metadata of each package."""
    return importlib.metadata.entry_points()


def get_entry(kind: str, name: str, location: str | None = None) -> Entry:
    """Return the entry of a registered name.

    Args:
        kind: a key of `KINDS`.
        name: registered name.
        location: location of the name in the specification, for the message.

    Raises:
        UserError: the name is not registered; the message has the nearest names.

    Example:
        >>> get_entry("noise_models", "pair_flip").schema.fields["rate"][1].default
        0.45
        >>> get_entry("mitigations", "elrr", "mitigations")
        Traceback (most recent call last):
        noisybench.errors.UserError: mitigations: unknown mitigation `elrr`; did you mean `elr`? (`noisybench list mitigations`)
    """
    known = list_entries(kind)
    if not isinstance(name, str) or name not in known:
        prefix = f"{location}: " if location else ""
        singular = kind.replace("_", " ").removesuffix("s")
        shown = show(name, quotes=False)
        raise UserError(f"{prefix}unknown {singular} {shown}; {nearest(str(name), known)} (`noisybench list {kind}`)")
    return known[name]


@functools.cache
def _source(module: str) -> Path:
    path = ModuleFiles().path(module)
    if path is None:
        raise UserError(
            f"the module `{module}` of a registered name does not exist; check that its package is installed"
        )
    return path


@functools.cache
def _parse(module: str) -> ast.Module:
    return ast.parse(_source(module).read_text(encoding="utf-8"))


def _public_class(tree: ast.Module, module: str) -> ast.ClassDef:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    if len(classes) != 1:
        raise UserError(f"`{module}` must define exactly one public class, but defines {len(classes)}")
    return classes[0]


@functools.cache
def _static_schema(module: str, class_name: str) -> Schema:
    """Return the parameters of a class and of its bases."""
    fields: dict[str, tuple[Any, Parameter]] = {}
    # In reverse, so that the first base has precedence, as in Python's method resolution order.
    for base in reversed(base_classes(module, class_name)):
        fields.update(_static_schema(*base).fields)
    for node in class_node(module, class_name).body:
        if not (
            isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call)
        ):
            continue
        if isinstance(node.value.func, ast.Name) and node.value.func.id == "parameter":
            fields[node.target.id] = (
                _evaluate(node.annotation, module, STATIC_NAMESPACE),
                _evaluate(node.value, module, STATIC_NAMESPACE),
            )
    return Schema(fields)


def class_node(module: str, class_name: str) -> ast.ClassDef:
    """Return the syntax tree of a class; the module is not imported."""
    nodes = (node for node in _parse(module).body if isinstance(node, ast.ClassDef))
    return next(node for node in nodes if node.name == class_name)


@functools.cache
def base_classes(module: str, class_name: str) -> tuple[tuple[str, str], ...]:
    """Return module and name of the bases of a class, which are in the same file or imported by name."""
    tree = _parse(module)
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    names = [base.id for base in class_node(module, class_name).bases if isinstance(base, ast.Name)]
    found = [(module, name) if name in classes else imported.get(name, ("torch", name)) for name in names]
    return tuple(base for base in found if _holds_parameters(base[0]))


@functools.cache
def _static_description(module: str, name: str) -> Fidelity | License | None:
    """Return the value of ``fidelity = Fidelity(...)`` or ``license = License(...)`` in a module's public class."""
    for node in _public_class(_parse(module), module).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == [name]:
            value = _evaluate(node.value, module, {"Fidelity": Fidelity, "Deviation": Deviation, "License": License})
            return value if isinstance(value, Fidelity | License) else None
    return None


def _holds_parameters(module: str) -> bool:
    """Return False for modules whose base classes declare no parameters, such as torch."""
    return (
        not module.startswith(("torch", "pytorch_lightning", "abc", "typing", "collections"))
        and module != "noisybench.config.parameters"
    )


def _evaluate(node: ast.expr, module: str, names: dict[str, Any]) -> Any:
    code = compile(ast.Expression(node), module, "eval")
    try:
        # Without builtins or imports, a declaration can only have the value that it also has in the imported module.
        return eval(code, {"__builtins__": {}, **names})
    except NameError as error:
        raise UserError(
            f"`{module}`: {error} in `{ast.unparse(node)}`; a declaration may use literals and {', '.join(names)}, because "
            "it is read without importing the file"
        ) from None
