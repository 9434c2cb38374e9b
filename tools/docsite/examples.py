"""Facts of components that need their classes: roles, privileged information, tasks, and a command to try them."""

from __future__ import annotations

import functools
import inspect

from noisybench.config import component_card
from noisybench.config.component_card import CARD_KINDS, RECIPES
from noisybench.config.registry import Entry, list_entries
from noisybench.training import roles
from noisybench.training.mitigation import Mitigation

ROLES = {name: role for name, role in inspect.getmembers(roles, inspect.isclass) if issubclass(role, Mitigation)}


def tasks_of(entry: Entry) -> tuple[str, ...]:
    """Return the tasks that a mitigation, noise model or dataset supports; empty for other kinds."""
    if entry.kind not in CARD_KINDS:
        return ()
    return tuple(entry.load_class().tasks)


@functools.cache
def roles_and_information(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the roles of a mitigation, and the privileged information that it reads with its defaults.

    >>> from noisybench.config.registry import get_entry
    >>> roles_and_information(get_entry("mitigations", "forward_correction"))
    (('LabelPosterior', 'LossFunction'), ())
    """
    cls = entry.load_class()
    names = tuple(name for name, role in ROLES.items() if name != "Mitigation" and issubclass(cls, role))
    return names, tuple(cls().requirements.privileged)


def example_command(entry: Entry) -> str:
    """Return a command that uses a component.

    >>> from noisybench.config.registry import get_entry
    >>> example_command(get_entry("mitigations", "elr"))
    'noisybench run digits mitigations=elr'
    """
    if entry.kind == "networks":
        return f"noisybench run digits budget.network={network_name(entry)}"
    if entry.kind == "backbones":
        return f"noisybench embed my-images/ --backbone {entry.name} -o features.npz"
    if entry.kind == "tasks":
        recipe = RECIPES.get(entry.name)
        return f"noisybench run {recipe}" if recipe else "noisybench bench noisy-pretraining-digits"
    return component_card.example_command(entry)


def network_name(entry: Entry) -> str:
    """Return a network; of a family, one of its members."""
    import importlib

    example = getattr(importlib.import_module(entry.module), "EXAMPLE", "")
    return f"{entry.name}:{example}" if example else entry.name


def builtin(kind: str) -> list[Entry]:
    """Return the components of a kind that are part of noisybench."""
    return [entry for entry in list_entries(kind).values() if entry.module.startswith("noisybench.")]
