"""Digests of the source code that decides a run's result, read without importing or executing anything.

The code of a run is a mapping from its parts (the engine, task, dataset, noise, network and each mitigation) to short
digests. A part is all modules that its module imports, directly or not, within noisybench and within the plug-in's own
distribution. The engine is everything that every run uses; the other parts are without the engine's modules.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisybench.config.module_files import ModuleFiles
from noisybench.config.overrides import parse_stack
from noisybench.config.registry import KINDS, _installed, get_entry, list_entries
from noisybench.config.source_cache import SourceCache
from noisybench.config.syntax import ModuleSource, read_source

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.config.spec import Component

ENGINE = "noisybench.runs.training"
"""Module whose imports are the engine."""

NEUTRAL_ROOMS = {
    "noisybench.__main__": "starts the command line",
    "noisybench.cli": "parses commands and prints",
    "noisybench.config": "completes the settings, which are part of the identity themselves",
    "noisybench.errors": "types of exceptions",
    "noisybench.execution": "decides where and when a run is trained",
    "noisybench.search": "chooses settings, which are part of the identity themselves",
    "noisybench.audit": "reads label sets and is no part of a run",
    "noisybench.leaderboard": "reads finished runs",
    "noisybench.plots": "draws what was measured",
    "noisybench.records": "layout of what was measured, with a format number of its own",
    "noisybench.tracking": "stores what was measured",
    "noisybench.runs.environment": "describes the machine",
    "noisybench.runs.run_folder": "files of checkpoints and records, with a format number of their own",
    "noisybench.runs.runner": "connects the training of a run with its store",
    "noisybench.utils.digest_cache": "keeps digests of data, which are part of the identity themselves",
    "noisybench.utils.digests": "digests data, which are part of the identity themselves",
    "noisybench.utils.files": "reads and writes bytes",
    "noisybench.utils.outputs": "writes the files that users ask for",
    "noisybench.utils.interrupts": "ends commands and their processes",
    "noisybench.utils.locks": "keeps processes apart",
    "noisybench.utils.processes": "starts processes",
    "noisybench.utils.pages": "fills in HTML pages",
}
"""Packages and modules that cannot change the result of a run, with the reason; their code is part of no digest."""

DIGEST_LENGTH = 16
"""Number of hexadecimal digits of the digest of one part."""

KIND_OF_FIELD = {
    "task": "tasks", "dataset": "datasets", "noise": "noise_models", "network": "networks", "mitigations": "mitigations",
}  # fmt: skip
"""Registry of the components that a field of a specification names."""


class SourceTree:
    """Source files of noisybench and of plug-ins, as they are when the tree first reads them.

    All runs of a command share one tree, so that they have the same code whenever files change.

    Args:
        sources: modules whose source is known, whatever their files contain.
        folders: folders of top-level packages, in place of those that Python imports.

    Example:
        >>> tree = SourceTree()
        >>> code = tree.code({"mitigations.gce": "noisybench.mitigations.gce"})
        >>> sorted(code), len(code["engine"])
        (['engine', 'mitigations.gce'], 16)
    """

    def __init__(
        self, sources: Mapping[str, ModuleSource] | None = None, folders: Mapping[str, Sequence[Path]] | None = None
    ) -> None:
        self._cache = SourceCache()
        self._files = ModuleFiles(folders)
        self._sources: dict[str, ModuleSource | None] = dict(sources or {})
        self._closures: dict[str, frozenset[str]] = {}
        self._digests: dict[str, str] = {}

    def code(self, modules: Mapping[str, str]) -> dict[str, str]:
        """Return the digest of the engine and of other parts of a run.

        Args:
            modules: module of each part by its name, such as ``mitigations.gce``.
        """
        for module in {ENGINE, *modules.values()} - self._digests.keys():
            closure = self.closure(module)
            self._digests[module] = self.digest(closure if module == ENGINE else closure - self.closure(ENGINE))
        self._cache.save()
        return {name: self._digests[module] for name, module in {"engine": ENGINE, **modules}.items()}

    def modules_of_parts(self, modules: Mapping[str, str], parts: Iterable[str]) -> frozenset[str]:
        """Return the names of all modules of some parts of a run.

        Args:
            modules: module of each part, as for `code`.
            parts: names of parts, such as ``engine``.
        """
        roots = {"engine": ENGINE, **modules}
        return frozenset[str]().union(*(self.closure(roots[part]) for part in parts if part in roots))

    def closure(self, module: str) -> frozenset[str]:
        """Return the names of a module and of all modules of its package and of noisybench that it imports."""
        if module in self._closures:
            return self._closures[module]
        # A plug-in is followed within its own distribution; its libraries are recorded with their versions.
        tops = {"noisybench", *_packages_beside(module.partition(".")[0])}
        reached, waiting = set[str](), [module]
        while waiting:
            name = waiting.pop()
            is_neutral = _is_neutral(name) and name != module
            if name in reached or name.partition(".")[0] not in tops or is_neutral:
                continue
            source = self.source(name)
            if source is None:
                continue
            reached.add(name)
            # Importing a module executes the packages around it.
            waiting += [parent] if (parent := name.rpartition(".")[0]) else []
            waiting += source.imports
        self._closures[module] = frozenset(reached)
        return self._closures[module]

    def source(self, module: str) -> ModuleSource | None:
        """Return digest and imports of a module, or None if it has no file."""
        if module not in self._sources:
            self._sources[module] = self._read(module)
        return self._sources[module]

    def path(self, module: str) -> Path | None:
        """Return the file of a module, or None if it has none."""
        return self._files.path(module)

    def _read(self, module: str) -> ModuleSource | None:
        path = self.path(module)
        if path is None:
            return None
        if path.suffix != ".py":  # a compiled extension of a plug-in
            return ModuleSource(hashlib.sha256(path.read_bytes()).hexdigest()[:32], ())
        return self._cache.get(path, module, lambda data: read_source(data, module, path.name == "__init__.py", path))

    def digest(self, modules: frozenset[str]) -> str:
        """Return the digest of some modules together."""
        lines = [f"{name} {source.digest}" for name in sorted(modules) if (source := self.source(name))]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGEST_LENGTH]


@functools.cache
def _packages_beside(package: str) -> frozenset[str]:
    """Return the top-level packages and modules of the distribution that registers a plug-in from a package."""
    packages = {package}
    points = (
        []
        if package == "noisybench"
        else [p for kind in KINDS for p in _installed().select(group=f"noisybench.{kind}")]
    )
    for point in points:
        if point.dist and point.value.partition(".")[0] == package:
            # An editable installation lists its packages only in this file.
            packages |= {*(point.dist.read_text("top_level.txt") or "").split()}
            packages |= {file.parts[0].removesuffix(".py") for file in point.dist.files or () if file.suffix == ".py"}
    return frozenset(packages)


@functools.cache  # imported code does not change while a process runs
def module_code(module: str) -> str:
    """Return the digest of a module with all modules that it imports, for the key of a cache of its results.

    Example:
        >>> len(module_code("noisybench.data.images.cache"))
        16
    """
    tree = SourceTree()
    digest = tree.digest(tree.closure(module))
    tree._cache.save()
    return digest


@functools.cache
def _is_neutral(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[: count + 1]) in NEUTRAL_ROOMS for count in range(len(parts)))


def modules_of_run(
    task: Component, dataset: Component, noise: Component, mitigations: tuple[Component, ...], budget: Budget
) -> dict[str, str]:
    """Return the module of each part of a run, with the components that its parameters name.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> spec = resolve({"mitigations": "gce"})
        >>> modules_of_run(spec.task, spec.dataset, spec.noise, spec.mitigations, spec.budget)["network"]
        'noisybench.networks.small_cnn'
    """
    parts = {"task": task, "dataset": dataset, "noise": noise}
    parts |= {f"mitigations.{member.name}": member for member in mitigations}
    modules = {"network": get_entry("networks", budget.network.partition(":")[0]).module}
    for location, component in parts.items():
        modules[location] = get_entry(component.kind, component.name).module
        for name, value in component.parameters.items():
            modules |= dict(_nested(name, value, f"{location}.{name}"))
    return modules


def _nested(field: str, value: Any, location: str) -> Iterator[tuple[str, str]]:
    """Yield location and module of every component that a parameter names: noise in noise, pre-training of a task."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _nested(field, item, location)
    elif isinstance(value, Mapping):
        if "name" in value:
            yield from _named(field, value["name"], location)
        elif set(value) & set(KIND_OF_FIELD):
            # Fields that a nested run leaves out have the defaults of a specification.
            value = {"dataset": "digits", "noise": "clean", **{key: item for key, item in value.items() if item}}
        for key, item in value.items():
            yield from _nested(key, item, f"{location}.{key}")
    elif isinstance(value, str) and field in KIND_OF_FIELD:
        yield from _named(field, value, location)


def _named(field: str, name: Any, location: str) -> Iterator[tuple[str, str]]:
    """Yield location and module of the components with a name: of the kind of a field, or else of every kind."""
    kinds = [KIND_OF_FIELD[field]] if field in KIND_OF_FIELD else list(KINDS)
    members = parse_stack(name) if field == "mitigations" else [str(name).partition(":")[0]]
    names = [str(member.get("name")) if isinstance(member, Mapping) else str(member) for member in members]
    for kind in kinds:
        for member in names:
            if member in list_entries(kind):
                suffix = f".{member}" if len(names) > 1 or len(kinds) > 1 else ""
                yield f"{location}{suffix}", list_entries(kind)[member].module
