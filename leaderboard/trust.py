"""Trust in specifications that other people have written.

A specification selects components and gives values. Everything else that it could reach comes from the verifier alone: files
and folders, downloads, programs in files, components of other packages, and networks that read files. The policy lists what is
permitted, so that a new kind of access is refused until it is classified: see `noisybench.config.parameters.Access`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from noisybench.config.data_files import download_missing
from noisybench.config.parameters import Schema
from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.config.scalars import read_scalar
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import RunSpec
from noisybench.data.traces.builtin_programs import PROGRAMS
from noisybench.errors import UserError, show
from noisybench.leaderboard.evidence_kinds import EvidenceKind, evidence_kind, not_submittable
from noisybench.leaderboard.nested_components import (
    ComponentValue,
    Location,
    components,
    normalize,
    restore_names,
    specifications,
)

NETWORKS_FROM_CODE = frozenset({
    "conv_dense", "decoder", "features", "features_mlp", "gpt_neox", "mlp", "preact_resnet18", "preact_resnet18_stem_bn",
    "resnet18_cifar_stem", "resnet34_cifar_stem", "resnet8_cifar_stem", "small_cnn", "smp", "three_block_cnn", "timm",
    "torchvision", "torchvision_segmentation", "unet",
})  # fmt: skip
"""Built-in networks and families that are built from installed code with random weights, whatever their argument."""

NETWORKS_FROM_FILES = frozenset({"huggingface"})
"""Built-in families whose argument selects files."""


class Refused(UserError):
    """A specification is invalid, or reaches something that the verifier did not permit."""


class TrustPolicy:
    """Permissions of a verifier for the specifications of a submission; by default they may only give values.

    Args:
        overrides: places on the verifier's machine, such as ``dataset.root=data/cifar10``.
        plugins: names of components of other packages that may be used; their code will run.
        networks: networks that read files and may be used, such as ``huggingface:gpt2``.
        downloads: whether data and pre-trained weights may be downloaded.

    Raises:
        UserError: an override is malformed.

    Examples:
        >>> policy = TrustPolicy()
        >>> policy.resolve({"dataset": {"name": "digits"}, "noise": {"name": "clean"}})[1].dataset.name
        'digits'
        >>> policy.resolve({"dataset": {"name": "image_folder", "root": "/"}})
        Traceback (most recent call last):
        noisybench.leaderboard.trust.Refused: dataset.root: a specification of other people ...
    """

    def __init__(
        self,
        overrides: Iterable[str] = (),
        plugins: Iterable[str] = (),
        networks: Iterable[str] = (),
        downloads: bool = False,
    ) -> None:
        self._given: dict[Location, str] = {}
        for argument in overrides:
            key, equals, text = argument.partition("=")
            if not equals or not key or not text:
                raise UserError(f"`{argument}`: expected a place on this machine, such as dataset.root=data/cifar10")
            self._given[tuple(key.split("."))] = read_scalar(text)
        self._plugins, self._networks, self._downloads = frozenset(plugins), frozenset(networks), downloads
        # The runs of a submission share most of their source files.
        self._tree = SourceTree()
        self._unused = {location for location in self._given if location[0] != "execution"}

    def resolve(self, raw: Mapping[str, Any]) -> tuple[RunSpec, RunSpec]:
        """Return the specification as claimed, which has the identity, and as it may be run here.

        They differ in what does not decide a result: downloads, checksums and execution are the verifier's.

        Raises:
            Refused: the specification is invalid, or reaches something that the verifier did not permit.
            UserError: a permitted download fails.
        """
        claimed, safe = normalize(raw), normalize(raw)
        problems: list[str] = []
        for component, safe_component in zip(components(claimed), components(safe), strict=True):
            problems += self._check_component(component, safe_component)
        for location, fields in specifications(claimed):
            problems += self._check_network(location, fields)
        if problems:
            raise Refused(*problems)
        restore_names(raw, claimed)
        safe["execution"] = {path[-1]: text for path, text in self._given.items() if path[0] == "execution"}
        try:
            theirs, ours = resolve(claimed, self._tree), resolve(safe, self._tree)
        except UserError as error:
            raise Refused(*error.problems) from None
        if self._downloads:
            # Before the identity is computed, because the bytes of the data are part of it.
            [ours] = download_missing([ours])
        return dataclasses.replace(theirs, data=ours.data), ours

    def check_used(self) -> None:
        """Raise an error for overrides that no specification had a use for.

        Raises:
            UserError: there are such overrides.
        """
        if self._unused:
            raise UserError(
                *(
                    f"{'.'.join(location)}: no run of the submission takes such a place; overrides give only the files and "
                    "folders of this machine, downloads, checksums and execution.*"
                    for location in sorted(self._unused)
                )
            )

    def _check_component(self, theirs: ComponentValue, ours: ComponentValue) -> list[str]:
        """Put in the verifier's values, and return what the component must not reach."""
        name, kind = theirs.entry.name, theirs.entry.kind.replace("_", " ").removesuffix("s")
        if not theirs.is_builtin and name not in self._plugins:
            return [
                f"{'.'.join(theirs.location)}: `{name}` is a {kind} of another package, whose code would run; permit it "
                f"with --allow-plugin {name}"
            ]
        schema, problems = theirs.entry.schema, []
        for parameter in schema.fields:
            location = (*theirs.location, parameter)
            given = self._take(location, schema.access(parameter))
            problems += self._check_parameter(schema, parameter, location, given, theirs.values, ours.values)
        return problems

    def _take(self, location: Location, access: str | None) -> str | None:
        """Return the verifier's value of a parameter, None if there is none."""
        # Values decide the result, which is the submitter's.
        if location not in self._given or access in ("value", "run", "weights"):
            return None
        self._unused.discard(location)
        return self._given[location]

    def _check_parameter(
        self,
        schema: Schema,
        parameter: str,
        location: Location,
        given: str | None,
        theirs: dict[str, Any],
        ours: dict[str, Any],
    ) -> list[str]:
        access, kind = schema.access(parameter), schema.fields[parameter][0]
        value, text = theirs.get(parameter), ".".join(location)
        if access in ("value", "run"):
            return []
        if access == "weights":
            if value and not self._downloads:
                return [f"{text}: pre-trained weights would be downloaded; permit it with --allow-download"]
            return []
        if kind is bool:
            # Neither downloads nor checksums decide a result, so the claim is kept for the identity.
            default = self._downloads if access == "download" else True
            ours[parameter] = default if given is None else given
            return []
        if given is not None:
            theirs[parameter] = ours[parameter] = given
            return []
        if access == "program" and isinstance(value, str) and value in PROGRAMS:
            return []
        if value is None or (value == schema.fields[parameter][1].default and parameter not in schema.paths()):
            theirs.pop(parameter, None)
            ours.pop(parameter, None)
            if access == "download" and not self._downloads:
                return [
                    f"{text}: would be downloaded; give your copy as {text}=FILE, or permit it with --allow-download"
                ]
            return []
        what = {"program": "a program in a file", None: "text that is not declared as a value"}.get(
            access, "a file or folder"
        )
        return [f"{text}: a specification of other people must not name {what}, but has {show(value)}"]

    def _check_network(self, location: Location, fields: Mapping[str, Any]) -> list[str]:
        budget = fields.get("budget")
        name = budget.get("network", "small_cnn") if isinstance(budget, Mapping) else "small_cnn"
        if not isinstance(name, str) or name.partition(":")[0] in NETWORKS_FROM_CODE or name in self._networks:
            return []
        return [
            f"{'.'.join((*location, 'budget', 'network'))}: {show(name)} reads files or is of another package; permit it "
            "with --allow-network NAME"
        ]


def check_task(spec: RunSpec) -> EvidenceKind:
    """Return the kind of evidence of a run, before anything is loaded for it.

    Args:
        spec: specification that a policy permits.

    Raises:
        Refused: runs of this task cannot be submitted, or its dataset is for other tasks.
    """
    kind = evidence_kind(spec.task.name)
    if kind is None:
        raise Refused(f"task.name: {not_submittable(spec.task.name)}")
    suitable = get_entry("datasets", spec.dataset.name).load_class().tasks
    # The data of another task may be of any size.
    if not set(suitable) & set(kind.tasks):
        raise Refused(f"dataset.name: `{spec.dataset.name}` is for the task {' or '.join(suitable)}")
    return kind
