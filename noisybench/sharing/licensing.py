"""Licenses of the sources of a label set, and the check that its own license keeps their conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noisybench.config.licenses import CUSTOM, License, license_name, lost_conditions
from noisybench.config.registry import list_entries
from noisybench.errors import UserError


@dataclass(frozen=True)
class Source:
    """Something with a license of its own that is part of a label set.

    Attributes:
        what: noun phrase, such as ``labels of `human` ``.
        terms: its license.
    """

    what: str
    terms: License


def sources_of(manifest: Mapping[str, Any]) -> list[Source]:
    """Return the sources of a label set that declare a license: its noise model and its dataset.

    A label set repeats the clean labels of the dataset, and for some noise models labels that others have made.

    Args:
        manifest: manifest of the label set.

    Example:
        >>> sources_of({"dataset": {"name": "cifar10"}, "noise": {"name": "human"}})[0].terms.name
        'CC-BY-NC-4.0'
    """
    declared = [
        (f"labels of `{manifest['noise']['name']}`", "noise_models", manifest["noise"]["name"]),
        (f"labels of `{manifest['dataset']['name']}`", "datasets", manifest["dataset"]["name"]),
    ]
    entries = [(what, list_entries(kind).get(name)) for what, kind, name in declared]
    return [Source(what, entry.license) for what, entry in entries if entry is not None and entry.license is not None]


def check_license(chosen: str, sources: Sequence[Source]) -> str:
    """Return the license of a label set in its usual spelling.

    Args:
        chosen: license that the user has given.
        sources: what the label set is made from.

    Raises:
        UserError: there is no such license, or it drops a condition of a source.

    Example:
        >>> check_license("cc0-1.0", sources_of({"dataset": {"name": "digits"}, "noise": {"name": "clean"}}))
        Traceback (most recent call last):
        noisybench.errors.UserError: --license: CC0-1.0 is more permissive than CC-BY-4.0 of the labels of `digits` (it drops
        attribution; https://archive.ics.uci.edu/dataset/80/...); use --license cc-by-4.0
    """
    if not chosen.strip():
        binding = next((source.terms.name for source in sources if source.terms.binds), "CC-BY-4.0")
        example = "other" if binding == CUSTOM else binding.lower()
        raise UserError(
            f"--license: is missing; others may use labels only under a license, so choose one, such as --license {example}, "
            "or say --license unknown"
        )
    name = license_name(chosen)
    for source in sources:
        terms = source.terms
        if not terms.binds:
            continue
        if terms.name == CUSTOM:
            if name != "other":
                raise UserError(
                    f"--license: the {source.what} have terms of their own ({terms.note}; {terms.url}), so {name} does not "
                    "apply to them; read these terms, and if they allow it use --license other: the card then names them"
                )
            continue
        lost = lost_conditions(name, terms.name)
        if lost is None:
            raise UserError(
                f"--license: {name} cannot be compared with {terms.name} of the {source.what} ({terms.url}); "
                f"use --license {terms.name.lower()}"
            )
        if lost:
            raise UserError(
                f"--license: {name} is more permissive than {terms.name} of the {source.what} (it drops {', '.join(lost)}; "
                f"{terms.url}); use --license {terms.name.lower()}"
            )
    return name
