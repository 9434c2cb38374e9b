"""Provenance of a label set: compare its manifest with the noise model and the dataset that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noisybench.config.registry import Entry, list_entries
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet, dataset_entry
from noisybench.errors import UserError
from noisybench.utils.text import printable

FROM_LABELS = ("label hash", "rows", "sizes", "actual noise rates", "transition counts", "statistics")
"""What `label_files.load` computes from the labels."""

OF_DATASET = ("name and hash of the dataset", "classes", "test size", "skipped files")
OF_MODEL = ("noise model", "parameters", "seed", "convention")
OF_BOTH = ("nominal rate", "transition matrix", "details of the noise")


@dataclass(frozen=True)
class ProvenanceCheck:
    """Outcome of checking each entry of a manifest.

    Attributes:
        recomputed: entries that were computed again and are equal.
        compared: entries that are those of the installed noise model.
        bound: entries that are only bound to the manifest by its digest, which anyone could compute.
        notes: reasons why entries were not computed again.
    """

    recomputed: tuple[str, ...]
    compared: tuple[str, ...]
    bound: tuple[str, ...]
    notes: tuple[str, ...]


def check_provenance(labels: LabelSet, dataset: Dataset | None = None) -> ProvenanceCheck:
    """Compare the manifest of a label set with the noise model that it names, and with its dataset.

    With the dataset, the noise model is applied again if it reads no files of its author.

    Args:
        labels: label set from `label_files.load`, which has checked everything that follows from the labels.
        dataset: the dataset, if it is available.

    Raises:
        UserError: an entry differs.

    Example:
        >>> import numpy as np
        >>> from noisybench.config.registry import get_entry
        >>> from noisybench.data.dataset import Split
        >>> split = Split(np.zeros((8, 1, 8, 8), np.uint8), targets=np.arange(8) % 2, index=np.arange(8))
        >>> dataset = Dataset("toy", split, split, split, ("a", "b"), 8)
        >>> labels = get_entry("noise_models", "clean").load_class()().apply(dataset)
        >>> check_provenance(labels).bound[:2]
        ('name and hash of the dataset', 'classes')
        >>> check_provenance(labels, dataset).bound
        ()
    """
    recomputed, compared, bound, notes = list(FROM_LABELS), list[str](), list[str](), list[str]()
    if dataset is None:
        bound += OF_DATASET
        notes.append("give the recipe of the dataset to compute the other entries again")
    else:
        _compare_dataset(labels.manifest["dataset"], dataset)
        recomputed += OF_DATASET
    noise = labels.manifest["noise"]
    entry = list_entries("noise_models").get(noise["name"])
    if entry is None:
        notes.append(f"the noise model `{printable(noise['name'])}` is not installed here")
        return ProvenanceCheck(tuple(recomputed), (), (*bound, *OF_MODEL, *OF_BOTH), tuple(notes))
    _compare_model(noise, entry)
    compared += OF_MODEL
    reason = None if dataset is None else _apply_again(labels, dataset, entry)
    if reason is not None:
        notes.append(reason)
    if dataset is None or reason is not None:
        bound += OF_BOTH
    else:
        recomputed += ("labels, by applying the noise model again", *OF_BOTH)
    return ProvenanceCheck(tuple(recomputed), tuple(compared), tuple(bound), tuple(notes))


def _compare_dataset(stored: Mapping[str, Any], dataset: Dataset) -> None:
    expected = dataset_entry(dataset)
    if stored["sha256"] != expected["sha256"]:
        raise UserError(
            f"the label set belongs to another dataset (SHA-256 {stored['sha256'][:12]}… instead of "
            f"{dataset.hash[:12]}…); check the dataset's parameters"
        )
    differing = [name for name in {**expected, **stored} if expected.get(name) != stored.get(name)]
    if differing:
        raise UserError(
            f"dataset.{differing[0]} of the manifest is not that of the dataset; create the label set again"
        )


def _compare_model(noise: Mapping[str, Any], entry: Entry) -> None:
    complete, problems = entry.schema.validate(dict(noise["parameters"]), "noise.parameters")
    if problems:
        raise UserError(*(f"{problem}; create the label set again" for problem in problems))
    # Paths may be written in several ways, and JSON has no tuples.
    if json.loads(json.dumps(complete)) != noise["parameters"]:
        raise UserError("noise.parameters of the manifest are not complete; create the label set again")
    expected = {"convention": entry.load_class().convention, "seed": complete["seed"]}
    for name, value in expected.items():
        if noise[name] != value:
            raise UserError(
                f"noise.{name} of the manifest is {noise[name]!r}, but that of `{entry.name}` with these parameters is "
                f"{value!r}; create the label set again"
            )


def _apply_again(labels: LabelSet, dataset: Dataset, entry: Entry) -> str | None:
    """Apply the noise model again and compare the manifests; return the reason if it cannot be applied.

    Raises:
        UserError: the labels or an entry differ.
    """
    stored = labels.manifest
    parameters = stored["noise"]["parameters"]
    # A label set may come from others: it must not decide which files are read here, or what is downloaded.
    if any(parameters[name] for name in entry.schema.paths()):
        return f"`{entry.name}` was made from files of its author, which are not part of the label set"
    model = entry.load_class()(**parameters)
    if not all(path.exists() for path in model.data_files().values()):
        return f"`{entry.name}` needs files that are not on this machine"
    if model.trains_networks:
        return f"`{entry.name}` trains networks, which make slightly different labels on another machine"
    try:
        made = json.loads(json.dumps(model.apply(dataset).manifest))
    except UserError as error:
        raise UserError(
            f"`{entry.name}` with the parameters of the manifest cannot be applied to this dataset: {error.problems[0]}"
        ) from None
    differing = [name for name in {**made, **stored} if made.get(name) != stored.get(name)]
    if not differing:
        return None
    detail = "the labels differ" if "sha256" in differing else f"{differing[0]} differs"
    if differing[0] == "noise":
        names = [name for name in made["noise"] if made["noise"][name] != stored["noise"][name]]
        detail = f"noise.{names[0]} is {stored['noise'][names[0]]!r} instead of {made['noise'][names[0]]!r}"
    raise UserError(
        f"the noise model `{entry.name}` with the parameters of the manifest gives another label set for this dataset "
        f"({detail}); the manifest does not say how these labels were made"
    )
