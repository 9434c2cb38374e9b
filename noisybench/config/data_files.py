"""Digests of the files that the components of a run read, as a part of the run's identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from noisybench.config.registry import get_entry, list_entries
from noisybench.errors import UserError
from noisybench.utils.digests import digest_files, snapshot
from noisybench.utils.file_listing import Source, unreadable
from noisybench.utils.places import shown

if TYPE_CHECKING:
    from noisybench.config.spec import Component, RunSpec

ABSENT = "absent: "
"""Start of the digest of files that are not there."""


def data_digests(components: Mapping[str, Component], network: str) -> dict[str, str]:
    """Return the digests of the files that components read; components that read none are left out.

    Missing files have the digest `ABSENT` with their path. They are no error: validation reports them together with all
    other problems of the runs.

    Args:
        components: components of a run by their location.
        network: network of the budget.

    Raises:
        UserError: files cannot be read; the message names them.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> resolve({"dataset": "digits"}).data
        {}
    """
    everything = {**components, **_nested_components(components)}
    digests = {location: _digest(location, component) for location, component in everything.items()}
    digests["network"] = _network_digest(network)
    return {location: digest for location, digest in digests.items() if digest is not None}


def missing_data(spec: RunSpec) -> dict[str, str]:
    """Return the missing files of a run by the location of the component that reads them."""
    return {
        location: digest.removeprefix(ABSENT) for location, digest in spec.data.items() if digest.startswith(ABSENT)
    }


def download_missing(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Download the missing files of runs where their components may, and return the runs with the digests of all files.

    Called before runs are planned, because the bytes of the data are a part of their identity.

    Raises:
        UserError: a download fails, or files cannot be read.
    """
    attempted: set[tuple[str, str, str]] = set()
    for spec in specs:
        components = {**spec.components, **_nested_components(spec.components)}
        for location, file in missing_data(spec).items():
            component = components.get(location)
            # Tasks and networks cannot download files.
            if component is None or component.kind == "tasks" or (component.kind, component.name, file) in attempted:
                continue
            attempted.add((component.kind, component.name, file))
            component.build().fetch()
    if not attempted:
        return list(specs)
    with snapshot():
        return [dataclasses.replace(spec, data=data_digests(spec.components, spec.budget.network)) for spec in specs]


def check_data(spec: RunSpec) -> None:
    """Check that the files of a run are still those for which it was planned.

    Raises:
        UserError: files have changed since the run was resolved.
    """
    today = data_digests(spec.components, spec.budget.network)
    changed = [location for location in {**spec.data, **today} if spec.data.get(location) != today.get(location)]
    if changed:
        raise UserError(
            *(
                f"{location}: its files have changed since this command planned the run "
                f"({_short(spec.data.get(location))} became {_short(today.get(location))}); run the same command again"
                for location in changed
            )
        )


def _short(digest: str | None) -> str:
    return "no files" if digest is None else digest if digest.startswith(ABSENT) else f"SHA-256 {digest[:12]}…"


def _nested_components(components: Mapping[str, Component]) -> dict[str, Component]:
    """Return the datasets and noise models of runs that parameters specify, such as pre-training."""
    nested = {}
    for location, component in components.items():
        for name, value in component.parameters.items():
            if not isinstance(value, Mapping):
                continue
            for field, kind in (("dataset", "datasets"), ("noise", "noise_models")):
                raw = value.get(field)
                raw = {"name": raw} if isinstance(raw, str) else raw
                if isinstance(raw, Mapping) and raw.get("name") in list_entries(kind):
                    parameters = {str(key): item for key, item in raw.items() if key != "name"}
                    complete, problems = get_entry(kind, raw["name"]).schema.validate(parameters, field)
                    # Problems are reported by the component to which the parameter belongs.
                    if not problems:
                        nested[f"{location}.{name}.{field}"] = dataclasses.replace(
                            component, kind=kind, name=raw["name"], parameters=complete
                        )
    return nested


def _digest(location: str, component: Component) -> str | None:
    entry = get_entry(component.kind, component.name)
    given = {name: component.parameters[name] for name in entry.schema.paths() if component.parameters[name]}
    paths = {
        name if len(values) == 1 else f"{name}.{number}": Path(value)
        for name, values in ((name, value if isinstance(value, list) else [value]) for name, value in given.items())
        for number, value in enumerate(values)
    }
    for name, path in paths.items():
        if any("\ud800" <= character <= "\udfff" for character in str(path)):
            raise UserError(
                f"{location}.{name}: {shown(path)} is not encoded in UTF-8, so that no record can contain it; rename it, or "
                "make a link to it with another name"
            )
    # Only datasets and noise models may read files that no parameter names; others are not imported for nothing.
    if component.kind not in ("datasets", "noise_models") and not paths:
        return None
    # Tasks are built from a training set, so that their parameters must suffice.
    return _digest_sources(location, lambda: paths if component.kind == "tasks" else component.build().data_files())


def _network_digest(network: str) -> str | None:
    """Return the digest of the files of a network such as `huggingface:FOLDER`; None for networks without files."""
    family, _, argument = network.partition(":")
    entry = get_entry("networks", family)
    if not entry.defines("data_files"):
        return None
    return _digest_sources("budget.network", lambda: entry.load_function("data_files")(argument))


def _digest_sources(location: str, list_sources: Callable[[], Mapping[str, Source]]) -> str | None:
    """Return the digest of the files of one component.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        sources = list_sources()
    except (UserError, FileNotFoundError, UnicodeDecodeError) as error:
        # A list of files is missing or damaged, which validation reports as well.
        return f"{ABSENT}{error}"
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{location}: {unreadable(getattr(error, 'filename', None) or 'a path', error)}") from None
    try:
        return digest_files(sources) if sources else None
    except FileNotFoundError as error:
        return f"{ABSENT}{error}"
    except UserError as error:
        raise UserError(*(f"{location}: {problem}" for problem in error.problems)) from None
