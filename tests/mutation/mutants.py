"""Mutants of modules: all that Cosmic Ray's operators can make, and a sample of them."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from tests.mutation.areas import ROOT

Position = tuple[int, int]
"""Line from 1 and column from 0."""

NO_EFFECT = ("RemoveDecorator", "AddNot", "ZeroIterationForLoop", "VariableInserter", "VariableReplacer")
"""Operators that are not used: most decorators only cache, and the last two need names of variables."""


@dataclass(frozen=True)
class Mutant:
    """One mutation of one file.

    Attributes:
        path: file, relative to the root of the repository.
        operator: name of the operator.
        occurrence: which of its places in the file, from 0.
        line: line of the place.
    """

    path: str
    operator: str
    occurrence: int
    line: int

    def apply(self, source: str) -> str:
        """Return the mutated source."""
        mutated = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        if mutated is None:
            raise ValueError(f"{self} does not fit the source")
        return str(mutated)


def all_mutants(path: str) -> dict[Position, list[Mutant]]:
    """Return the mutants of a file by their place, without those that cannot have an effect."""
    source = (ROOT / path).read_text(encoding="utf-8")
    ignored = list(_without_effect(ast.parse(source)))
    nodes = list(_walk(get_ast(source)))
    found: dict[Position, list[Mutant]] = {}
    for name in sorted(operator_names()):
        if any(word in name for word in NO_EFFECT):
            continue
        operator = get_operator(name)()
        places = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            if not any(start <= place < end for start, end in ignored):
                found.setdefault(place, []).append(Mutant(path, name, occurrence, place[0]))
    return found


def sample(paths: list[str], count: int, seed: int) -> list[Mutant]:
    """Return mutants at `count` different places, each place as likely as any other.

    Places are drawn first, because some have a dozen mutants and others one.
    """
    places = [mutants for path in paths for _, mutants in sorted(all_mutants(path).items())]
    rng = random.Random(seed)
    return [rng.choice(mutants) for mutants in rng.sample(places, min(count, len(places)))]


def _walk(node: Any) -> Iterator[Any]:
    """Yield the nodes in the order in which Cosmic Ray counts occurrences."""
    yield node
    for child in getattr(node, "children", ()):
        yield from _walk(child)


def _without_effect(tree: ast.AST) -> Iterator[tuple[Position, Position]]:
    """Yield the spans of annotations, type aliases, search ranges and texts of declarations, and `verbose` flags."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.AnnAssign | ast.arg):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            parts.append(node.returns)
        elif (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING") or (
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("fidelity", "license", "convention")
        ):
            parts.append(node)
        elif isinstance(node, ast.Call):
            declares = getattr(node.func, "id", "") == "parameter"
            ignored = ("low", "high", "log", "help") if declares else ("verbose",)
            parts += [keyword.value for keyword in node.keywords if keyword.arg in ignored]
        for part in parts:
            if part is not None:
                yield _span(part)


def _span(node: Any) -> tuple[Position, Position]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
