"""Check that the code in this process's memory is the code that a command has planned to run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from noisybench.config.source_code import SourceTree, modules_of_run
from noisybench.config.syntax import ModuleSource
from noisybench.errors import CodeChanged

if TYPE_CHECKING:
    from noisybench.config.spec import RunSpec

CHANGED = ModuleSource("changed during its import", ())
"""Source of a module whose file changed while it was imported, so that its code is unknown."""

_known: dict[str, tuple[Any, ModuleSource]] = {}
"""Module object and source of each module of this process whose code is known; forked processes inherit it."""


def remember_modules(names: Iterable[str], before: SourceTree | None = None) -> None:
    """Remember the source of modules that are loaded and not yet known.

    A file that changes later has no effect on the module in memory. A process remembers its modules soon after they are
    loaded, since no process can read their source from memory.

    Args:
        names: names of modules.
        before: source files as they were before the modules were imported.
    """
    now = SourceTree()
    for name in names:
        module = sys.modules.get(name)
        if module is None or (name in _known and _known[name][0] is module):
            continue
        source = now.source(name)
        if source is not None:
            _known[name] = (module, source if before is None or before.source(name) == source else CHANGED)


def code_of_class(component: type) -> dict[str, str]:
    """Return the digests of the engine and of the module of a class, as they are in this process.

    Args:
        component: class of an auxiliary run that does not depend on the task or network of a run.

    Example:
        >>> from noisybench.training.auxiliary import AuxiliaryRun
        >>> sorted(code_of_class(AuxiliaryRun))
        ['class', 'engine']
    """
    return _loaded_tree().code({"class": component.__module__})


def _loaded_tree() -> SourceTree:
    """Return the source files of modules as they were loaded; modules that are loaded later have today's files."""
    return SourceTree({name: source for name, (module, source) in _known.items() if sys.modules.get(name) is module})


class LoadedCode:
    """Code of a run in this process, after the modules of its components are imported.

    Args:
        spec: the run.

    Raises:
        CodeChanged: the code is not the one that the specification was made for.

    Example:
        >>> import dataclasses
        >>> from noisybench.config.resolve import resolve
        >>> spec = resolve({"mitigations": "gce"})
        >>> LoadedCode(spec).check_later_imports()
        >>> LoadedCode(dataclasses.replace(spec, code={**spec.code, "network": "0" * 16}))
        Traceback (most recent call last):
        noisybench.errors.CodeChanged: nn/pooling.py changed since this command started; rerun the command
    """

    def __init__(self, spec: RunSpec) -> None:
        self._modules = modules_of_run(spec.task, spec.dataset, spec.noise, spec.mitigations, spec.budget)
        self._tree = _loaded_tree()
        code = self._tree.code(self._modules)
        differing = [part for part in {**spec.code, **code} if spec.code.get(part) != code.get(part)]
        if differing:
            unchanged = [part for part in ("engine",) if part not in differing]
            raise _changed(
                self._tree.modules_of_parts(self._modules, differing)
                - self._tree.modules_of_parts(self._modules, unchanged)
            )
        self._names = self._tree.modules_of_parts(self._modules, code)
        remember_modules(self._names)

    def code_of(self, component: type) -> dict[str, str]:
        """Return the digests of the code that decides the results of a class: its module, and the shared parts of the run.

        Args:
            component: class of a mitigation, a task, or an auxiliary run.
        """
        shared = {part: self._modules[part] for part in ("task", "network")}
        return self._tree.code({**shared, "class": component.__module__})

    def check_later_imports(self) -> None:
        """Check the modules that were imported since, for instance in a function.

        Raises:
            CodeChanged: the file of such a module had changed.
        """
        remember_modules(self._names)
        changed = [name for name in self._names if name in _known and _known[name][1] != self._tree.source(name)]
        if changed:
            raise _changed(changed)


def _changed(names: Iterable[str]) -> CodeChanged:
    """Return the error that names the file that changed last."""
    tree, times = SourceTree(), dict[str, int]()
    for name in sorted(names):
        if path := tree.path(name):
            parts = name.split(".")[name.startswith("noisybench.") : -1]
            label = "/".join(
                [*parts, name.rpartition(".")[2], path.name] if path.stem == "__init__" else [*parts, path.name]
            )
            times[label] = path.stat().st_mtime_ns
    latest = max(times, key=lambda label: times[label]) if times else "a file of the run's code"
    return CodeChanged(f"{latest} changed since this command started; rerun the command")
