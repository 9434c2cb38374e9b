"""Help to run scripts of references: parts that need a GPU, data or a command line are left out or replaced."""

from __future__ import annotations

import ast
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch


def definitions(path: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Execute only the functions and classes of a script, which see the given names; return them all.

    Other statements, such as those that parse a command line or train, are left out.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    exec(compile(tree, str(path), "exec"), names)
    return names


@contextlib.contextmanager
def on_the_cpu() -> Iterator[None]:
    """Let tensors and modules that are sent to a GPU stay on the CPU."""
    with (
        mock.patch.object(torch.Tensor, "cuda", lambda self, *_: self),
        mock.patch.object(torch.nn.Module, "cuda", lambda self, *_: self),
        mock.patch.object(torch.Tensor, "get_device", return_value="cpu"),
        mock.patch.object(torch.cuda, "FloatTensor", torch.FloatTensor),
    ):
        yield


@contextlib.contextmanager
def imports_from(folder: Path) -> Iterator[None]:
    """Import from a folder first; its modules are forgotten afterward, because other references have the same names."""
    before, sys.dont_write_bytecode = set(sys.modules), True
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


class Replacing:
    """A module in which some names are replaced, for a reference that calls it."""

    def __init__(self, module: Any, **replacements: Any) -> None:
        self._module = module
        self.__dict__.update(replacements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Batches(list[Any]):
    """Batches as a loader gives them, with the method `next` of iterators in old releases of PyTorch."""

    dataset: Any = None
    batch_size = 1

    def __iter__(self) -> Any:
        return _Iterator(super().__iter__())


class _Iterator:
    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __iter__(self) -> _Iterator:
        return self

    def __next__(self) -> Any:
        return next(self._iterator)

    next = __next__
