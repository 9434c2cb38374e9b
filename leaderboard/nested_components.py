"""The components inside a specification, those of nested specifications included."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from noisybench.config.overrides import parse_stack
from noisybench.config.registry import KINDS, Entry, list_entries
from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.errors import UserError

COMPONENT_FIELDS = (("task", "tasks"), ("dataset", "datasets"), ("noise", "noise_models"))
"""Fields of a specification that hold one component, with its kind."""

Location = tuple[str, ...]


@dataclass(frozen=True)
class ComponentValue:
    """One component inside a specification.

    Attributes:
        location: keys that lead to it, such as ``("task", "pretraining", "dataset")``.
        entry: registered component.
        values: its mapping of name and parameters, which may be changed in place.
    """

    location: Location
    entry: Entry
    values: dict[str, Any]

    @property
    def is_builtin(self) -> bool:
        """Whether the component ships with noisybench."""
        return self.entry.module.startswith(f"{KINDS[self.entry.kind]}.")


def normalize(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a specification in which every component is a mapping.

    Example:
        >>> normalize({"noise": "clean", "mitigations": "mixup+elr"})
        {'noise': {'name': 'clean'}, 'mitigations': [{'name': 'mixup'}, {'name': 'elr'}]}
    """
    fields = copy.deepcopy(dict(raw))
    for field, _ in COMPONENT_FIELDS:
        if field in fields:
            fields[field] = _as_mapping(fields[field])
    if "mitigations" in fields:
        fields["mitigations"] = [_as_mapping(member) for member in parse_stack(fields["mitigations"])]
    for component in _own_components((), fields):
        for parameter in _nested(component):
            component.values[parameter] = normalize(component.values[parameter])
    return fields


def restore_names(raw: Mapping[str, Any], fields: dict[str, Any]) -> None:
    """Write the components of a normalized specification that were names in the original as names again.

    Nested specifications are part of the identity as they were written.
    """
    for field, _ in COMPONENT_FIELDS:
        original, value = raw.get(field), fields.get(field)
        if isinstance(original, str) and value == {"name": original}:
            fields[field] = original
        if not isinstance(original, Mapping) or not isinstance(value, dict):
            continue
        for name, nested in value.items():
            if isinstance(nested, dict) and isinstance(original.get(name), Mapping):
                restore_names(original[name], nested)


def _as_mapping(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def specifications(fields: dict[str, Any], location: Location = ()) -> Iterator[tuple[Location, dict[str, Any]]]:
    """Yield a normalized specification and those nested in its components, with their locations.

    Example:
        >>> pretraining = {"dataset": "digits"}
        >>> raw = normalize({"task": {"name": "transfer", "pretraining": pretraining}})
        >>> [location for location, _ in specifications(raw)]
        [(), ('task', 'pretraining')]
    """
    yield location, fields
    for component in _own_components(location, fields):
        for parameter in _nested(component):
            yield from specifications(component.values[parameter], (*component.location, parameter))


def components(fields: dict[str, Any]) -> Iterator[ComponentValue]:
    """Yield every component of a normalized specification, nested ones included.

    Components that are not registered are left out; `resolve` refuses them.
    """
    for location, nested in specifications(fields):
        yield from _own_components(location, nested)


def _own_components(location: Location, fields: dict[str, Any]) -> Iterator[ComponentValue]:
    named: list[tuple[Location, str, Any]] = [((field,), kind, fields.get(field)) for field, kind in COMPONENT_FIELDS]
    members = fields.get("mitigations")
    for member in members if isinstance(members, list) else ():
        name = member.get("name") if isinstance(member, dict) else None
        named.append((("mitigations", str(name)), "mitigations", member))
    for keys, kind, values in named:
        name = values.get("name") if isinstance(values, dict) else None
        entry = list_entries(kind).get(name) if isinstance(name, str) else None
        if entry is not None:
            yield ComponentValue((*location, *keys), entry, values)


def _nested(component: ComponentValue) -> list[str]:
    """Return the parameters that hold a nested specification."""
    schema = component.entry.schema
    return [
        name for name in schema.fields if schema.access(name) == "run" and isinstance(component.values.get(name), dict)
    ]


def without_places(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification without the files and folders of the local machine, as a submission has it.

    The identity of a run follows from the contents of its files, so that verifiers give their own copies.

    Raises:
        UserError: the names in tables would have a place of this machine, or a parameter is not classified.

    Example:
        >>> without_places({"dataset": {"name": "parquet", "train": "/home/me/train.parquet", "label": "label"}})
        {'dataset': {'name': 'parquet', 'label': 'label'}}
    """
    fields = normalize(raw)
    for component in components(fields):
        schema = component.entry.schema
        for name in schema.fields:
            access, value, text = schema.access(name), component.values.get(name), ".".join((*component.location, name))
            is_place = access in ("place", "download") and schema.fields[name][0] is not bool
            if access is None and value != schema.fields[name][1].default:
                raise UserError(f"{text}: cannot be submitted, because its declaration has no access=...")
            if is_place and value is not None and component.entry.kind in ("tasks", "mitigations"):
                raise UserError(f"{text}: runs that start from a file of weights cannot be submitted")
            if is_place or (access == "program" and str(value) not in PROGRAMS):
                component.values.pop(name, None)
    restore_names(raw, fields)
    return fields


def manifest_without_places(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a label set without the files of the local machine that its noise model reads.

    Example:
        >>> noise = {"name": "human", "parameters": {"labels": "worse_label", "path": "/home/me/labels.pt"}}
        >>> manifest_without_places({"noise": noise})["noise"]["parameters"]
        {'labels': 'worse_label'}
    """
    noise = manifest.get("noise")
    if not isinstance(noise, Mapping) or not isinstance(noise.get("parameters"), Mapping):
        return dict(manifest)
    specification = without_places({"noise": {**noise["parameters"], "name": noise.get("name")}})["noise"]
    parameters = {name: value for name, value in specification.items() if name != "name"}
    return {**manifest, "noise": {**noise, "parameters": parameters}}
