"""Files of modules, found without importing or executing anything.

`importlib.util.find_spec` executes the packages around a module, and these may import torch.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import noisybench

Location = tuple[Path | None, tuple[str, ...]]
"""File of a module, and the folders of its modules if it is a package."""


class ModuleFiles:
    """Files of modules as they are when they are first looked up.

    Args:
        folders: folders of top-level packages, in place of those that Python imports.

    Example:
        >>> ModuleFiles().path("noisybench.mitigations.gce").name
        'gce.py'
        >>> ModuleFiles().path("noisybench.mitigations.unknown") is None
        True
    """

    def __init__(self, folders: Mapping[str, Sequence[Path]] | None = None) -> None:
        self._listings: dict[str, frozenset[str]] = {}
        self._locations: dict[str, Location | None] = {
            name: (Path(paths[0], "__init__.py"), tuple(os.fspath(path) for path in paths))
            for name, paths in (folders or {}).items()
        }

    def path(self, module: str) -> Path | None:
        """Return the file of a module, or None if it has none."""
        location = self._locate(module)
        return location[0] if location else None

    def _locate(self, module: str) -> Location | None:
        if module not in self._locations:
            parent, _, name = module.rpartition(".")
            if parent:
                location = self._locate(parent)
                self._locations[module] = self._locate_in(location[1], name) if location else None
            else:
                self._locations[module] = _locate_top(module)
        return self._locations[module]

    def _locate_in(self, folders: Sequence[str], name: str) -> Location | None:
        """Return the location of a module in the folders of its package, with the precedence of Python's imports."""
        for folder in folders:
            names = self._listing(folder)
            if name in names and "__init__.py" in self._listing(f"{folder}/{name}"):
                return Path(folder, name, "__init__.py"), (f"{folder}/{name}",)
            for suffix in (*importlib.machinery.EXTENSION_SUFFIXES, ".py"):
                if f"{name}{suffix}" in names:
                    return Path(folder, f"{name}{suffix}"), ()
        # A folder without `__init__.py` is a package as well, whose parts may lie in several folders.
        namespaces = tuple(f"{folder}/{name}" for folder in folders if self._listing(f"{folder}/{name}"))
        return (None, namespaces) if namespaces else None

    def _listing(self, folder: str) -> frozenset[str]:
        if folder not in self._listings:
            try:
                self._listings[folder] = frozenset(os.listdir(folder))
            except OSError:  # it does not exist, or is a file
                self._listings[folder] = frozenset()
        return self._listings[folder]


def _locate_top(name: str) -> Location | None:
    """Return the location of a top-level module or package, which Python's finders look up without importing it."""
    if name == "noisybench":
        folders = tuple(os.fspath(folder) for folder in noisybench.__path__)
        return Path(folders[0], "__init__.py"), folders
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module such as `__main__` of an interactive session has no specification
        return None
    if spec is None:
        return None
    path = Path(spec.origin) if spec.origin and spec.has_location else None
    return path, tuple(spec.submodule_search_locations or ())
