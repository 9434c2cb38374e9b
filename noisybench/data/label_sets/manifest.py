"""The manifest of a label set on disk: every field has a type, and a digest binds all of them together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from noisybench.errors import UserError
from noisybench.utils.files import write_atomically
from noisybench.utils.places import read_text, shown
from noisybench.utils.text import printable

FORMAT = 3
"""Version of the manifest."""

MANIFEST = "manifest.json"

DIGEST, TRACES_DIGEST = "manifest_sha256", "traces_sha256"
"""Entries that only the stored manifest has: the digest of all other entries, and that of the traces as text."""

MAX_BYTES = 2**28
"""Largest size of a manifest; that of a thousand classes with two matrices has 40 MB."""

MAX_PROBLEMS = 5
"""Largest number of problems that an error message lists."""

Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, pydantic.Field(ge=0)]
Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]


class _Entry(pydantic.BaseModel):
    """Strict entry: no conversions, no unknown fields, no NaN."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Sizes(_Entry):
    """Number of examples of each split."""

    train: Annotated[int, pydantic.Field(ge=1)]
    validation: Count
    test: Count


class DatasetEntry(_Entry):
    """The dataset to which the labels belong."""

    name: str
    sha256: Sha256
    classes: Annotated[list[str], pydantic.Field(min_length=2)]
    sizes: Sizes
    skipped_files: list[str] | None = None
    background: Literal[False] | None = None
    """False for masks without a background; absent otherwise."""


class ImageSource(_Entry):
    """Source of images that replace others."""

    name: str
    size: Count | None
    sha256: Sha256


class Details(_Entry):
    """Facts of one noise model; those of plug-ins may have other names."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, pydantic.JsonValue]

    source: ImageSource | None = None
    severity: float | None = None
    traces: dict[str, Fraction] | None = None


class NoiseEntry(_Entry):
    """The noise model that made the labels."""

    name: str
    parameters: dict[str, pydantic.JsonValue]
    seed: Count
    convention: str
    nominal_rate: Annotated[float, pydantic.Field(ge=0)] | None
    details: Details


class MaskStatistics(_Entry):
    """Difference of masks from the clean ones; see `label_statistics.mask_statistics`."""

    miou: Fraction | None
    iou: list[Fraction | None]
    area_bias: float | None


class ObjectCounts(_Entry):
    """Fate of the objects of the training masks; see `masks.objects.compare_objects`."""

    objects: Count
    unchanged: Count
    outline: Count
    class_: Annotated[Count, pydantic.Field(alias="class")]
    missing: Count
    merged: Count
    added: Count


class VerificationCounts(_Entry):
    """Number of verified labels, of incorrect ones among them, and of excluded examples of one split."""

    verified: Count
    incorrect: Count
    excluded: Count


class VerificationEntry(_Entry):
    """Labels that people have verified; see `labels.verification.Verification`."""

    sha256: Sha256
    of_dataset: bool
    train: VerificationCounts | None = None
    validation: VerificationCounts | None = None
    test: VerificationCounts | None = None


class Manifest(_Entry):
    """All entries of a stored manifest."""

    format: Literal[3]
    sha256: Sha256
    rows_sha256: Sha256
    dataset: DatasetEntry
    noise: NoiseEntry
    actual_noise_rate: Fraction | None
    actual_noise_rate_validation: Fraction | None
    transition_counts: list[list[Count]] | None
    transition_matrix: list[list[Fraction]] | None
    label_status: dict[str, Count] | None = None
    ood_counts: list[Count] | None = None
    unlabeled: dict[Literal["train", "validation"], Count] | None = None
    votes_sha256: Sha256 | None = None
    verification: VerificationEntry | None = None
    masks: MaskStatistics | None = None
    objects: ObjectCounts | None = None
    error_spans_sha256: Sha256 | None = None
    traces_sha256: Sha256 | None = None
    manifest_sha256: Sha256

    @pydantic.model_validator(mode="after")
    def _check_shapes(self) -> Manifest:
        size = len(self.dataset.classes)
        for name, matrix in (("counts", self.transition_counts), ("matrix", self.transition_matrix)):
            if matrix is not None and (len(matrix) != size or any(len(row) != size for row in matrix)):
                raise ValueError(f"transition_{name} must have {size} rows and columns, one for each class")
        if self.transition_matrix is not None and any(abs(sum(row) - 1) > 1e-6 for row in self.transition_matrix):
            raise ValueError("the rows of transition_matrix must sum to 1")
        return self


def noise_entry(
    name: str,
    convention: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    nominal_rate: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the entry of a manifest that describes a noise model.

    Args:
        name: registered name of the noise model.
        convention: meaning of its rate in one sentence.
        parameters: all its parameters.
        seed: seed of the noise.
        nominal_rate: requested noise rate, if there is one.
        details: facts of this noise model, such as the source of replaced images.

    Example:
        >>> noise_entry("by hand", "labels of the author")["nominal_rate"] is None
        True
    """
    entry = {
        "name": name,
        "parameters": dict(parameters or {}),
        "seed": seed,
        "convention": convention,
        "nominal_rate": nominal_rate,
        "details": dict(details or {}),
    }
    NoiseEntry.model_validate(entry)
    return entry


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 over all entries of a manifest except that digest itself, independent of order and spaces.

    Example:
        >>> manifest_digest({"a": 1, "b": [2]}) == manifest_digest({"b": [2], "a": 1, "manifest_sha256": "0"})
        True
    """
    content = {name: entry for name, entry in manifest.items() if name != DIGEST}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a label set with the digest of its entries.

    Args:
        folder: folder of the label set.
        manifest: all entries; a digest that is among them is computed again.
    """
    stored = {**manifest, DIGEST: manifest_digest(manifest)}
    # One line for each entry: with `indent`, a thousand classes would have a million lines.
    entries = (f"  {json.dumps(name)}: {json.dumps(entry, allow_nan=False)}" for name, entry in stored.items())
    write_atomically(folder / MANIFEST, ("{\n" + ",\n".join(entries) + "\n}\n").encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest of a label set.

    Returns:
        All entries. Whether they fit the labels is checked by `label_files.load`.

    Raises:
        UserError: the folder is no label set, or an entry is missing, unknown, ill-typed or was changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{shown(folder)}: not a label set ({MANIFEST} is missing); create one with `noisybench labels create`"
        )
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{shown(path)}: has {path.stat().st_size} bytes, which is too much for a manifest")
    try:
        content = json.loads(read_text(path), object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except RecursionError:
        raise _invalid(path, ["it is nested too deeply"]) from None
    except ValueError as error:
        raise _invalid(path, [printable(str(error))[:200]]) from None
    if not isinstance(content, dict):
        raise _invalid(path, ["it must be an object"])
    version = content.get("format")
    if isinstance(version, int) and version != FORMAT:
        raise UserError(f"{shown(path)}: has format {version}, but {FORMAT} is expected; create the label set again")
    try:
        Manifest.model_validate(content)
    except pydantic.ValidationError as error:
        raise _invalid(path, [_describe(detail) for detail in error.errors()]) from None
    except RecursionError:
        raise _invalid(path, ["it is nested too deeply"]) from None
    if manifest_digest(content) != content[DIGEST]:
        raise UserError(
            f"{shown(path)}: was changed after the label set was written ({DIGEST} does not match the other entries); "
            "create or copy the label set again"
        )
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return dict(pairs)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _describe(detail: Any) -> str:
    location = ".".join(str(part) for part in detail["loc"])
    reason = "unknown entry" if detail["type"] == "extra_forbidden" else detail["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    return printable(f"{location}: {reason}" if location else reason)[:200]


def _invalid(path: Path, problems: list[str]) -> UserError:
    listed = problems[:MAX_PROBLEMS] + (
        [f"… {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    )
    return UserError(f"{shown(path)}: not a manifest of a label set ({'; '.join(listed)}); create the label set again")
