"""What validation accepts, no mitigation refuses later."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest

import noisybench.mitigations
import noisybench.training.stack
from noisybench.config.registry import list_entries
from noisybench.config.validation import alternatives
from noisybench.errors import TrainingError, UserError
from tests.helpers import prepared_toy, train_toy

FILES = [*Path(noisybench.mitigations.__path__[0]).glob("*.py"), Path(inspect.getfile(noisybench.training.stack))]
CASES = 400 if os.environ.get("NOISYBENCH_SLOW") else 12


def raises_of_user_errors(file: Path) -> Iterator[str]:
    """Yield the functions of a file that raise a `UserError`."""
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Raise) and node.exc is not None and "UserError" in ast.unparse(node.exc):
                    yield function.name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_only_checks_refuse_a_run(file: Path) -> None:
    """An error of the user is found before training; a `TrainingError` is one that only training can reveal."""
    late = [name for name in raises_of_user_errors(file) if not name.startswith(("check", "__init__", "__post_init__"))]
    assert not late, f"{late} raise UserError: move the test to `check` or `check_data`, or raise a TrainingError"


def random_value(rng: np.random.Generator, annotation: Any, declared: Any) -> Any:
    """Return a value that the declaration of a parameter allows."""
    for kind in alternatives(annotation):
        if get_origin(kind) is Literal:
            return rng.choice(np.array(get_args(kind), dtype=object))
        if kind is bool:
            return bool(rng.integers(2))
        low, high = declared.low, declared.high
        if kind in (int, float) and low is not None and high is not None:
            value = rng.uniform(low, high)
            return round(value) if kind is int else value
        if kind is int:
            return int(rng.integers(int(declared.bounds.get("ge", 1)), 5))
    return declared.default


def random_stacks(count: int) -> list[dict[str, Any]]:
    """Return mitigations with random values of two or three parameters."""
    rng, entries = np.random.default_rng(0), list(list_entries("mitigations").values())
    stacks = []
    for _ in range(count):
        entry = entries[rng.integers(len(entries))]
        fields = entry.schema.fields
        names = rng.permutation(list(fields))[: rng.integers(2, 4)]
        values = {str(name): random_value(rng, *fields[str(name)]) for name in names}
        stacks.append({"name": entry.name, **values})
    return stacks


@pytest.mark.parametrize("stack", random_stacks(CASES), ids=str)
def test_an_accepted_run_is_not_refused_while_it_is_trained(stack: dict[str, Any], tmp_path: Path) -> None:
    if list_entries("mitigations")[stack["name"]].schema.validate({k: v for k, v in stack.items() if k != "name"}, "")[
        1
    ]:
        return
    try:
        run = prepared_toy(stack)
    except UserError:
        return
    try:
        train_toy(run, tmp_path)
    except TrainingError as error:
        assert "mitigations." in str(error)  # noqa: PT017 - both outcomes are allowed
