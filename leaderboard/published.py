"""Published accuracies for the same cell, from `published.csv`, each with its source."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from dataclasses import dataclass
from typing import Any

from noisybench.records import RunRecord

METHODS = {
    "cross_entropy": ("CE",),
    "label_smoothing": ("Positive-LS",),
    "mixup": ("Mixup",),
    "bootstrapping": ("Bootstrap",),
    "gce": ("GCE",),
    "sce": ("SL",),
    "forward_correction": ("Forward",),
    "backward_correction": ("Backward",),
    "co_teaching": ("Co-teaching",),
    "elr": ("ELR", "ELR(cosine)"),
}
"""Names of our mitigations in the literature."""

NOISE = {
    "clean": ("clean",),
    "symmetric_exclusive": ("symmetric_exclusive",),
    "symmetric_inclusive": ("symmetric_inclusive",),
    "asymmetric": ("asymmetric_5class",),
    "asymmetric_index_block5": ("asymmetric_index_block5",),
    "asymmetric_superclass_uniform": ("asymmetric_superclass_uniform",),
    "pair_flip": ("pairflip",),
}
HUMAN = {
    "worse_label": "human_worst",
    "aggre_label": "human_aggre",
    "random_label1": "human_rand1",
    "random_label2": "human_rand2",
    "random_label3": "human_rand3",
    "noisy_label": "human_noisy",
}


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        value: test accuracy in percent.
        deviation: standard deviation in percentage points, where given.
        protocol: ``last``, ``best`` (selected on the test split), ``val`` or ``unstated``.
        architecture: the network; another one than ours is another budget.
        source: where it stands.
    """

    method: str
    value: float
    deviation: float | None
    protocol: str
    architecture: str
    source: str


@functools.cache
def _rows() -> list[dict[str, str]]:
    text = (importlib.resources.files("noisybench.leaderboard") / "published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def published(record: RunRecord) -> list[Published]:
    """Published values for the record's data, noise and stack; only for the full training set of a known benchmark.

    The symmetric and asymmetric conventions are matched exactly: rows whose source does not say which one it uses
    are left out, and so are stacks of several mitigations.
    """
    spec = record.spec
    dataset = _benchmark(record)
    methods = METHODS.get(spec["mitigations"][0]["name"], ()) if len(spec["mitigations"]) == 1 else ()
    noise = spec["noise"]
    human = noise["name"] == "human"
    names = (HUMAN[noise["labels"]],) if human else NOISE.get(noise["name"], ())
    if dataset is None or not methods or not names:
        return []
    return [
        Published(
            row["method"],
            float(row["value"]),
            float(row["std"]) if row["std"] else None,
            row["protocol"],
            row["architecture"],
            row["source"],
        )
        for row in _rows()
        if row["dataset"] == (f"{dataset}n" if human else dataset)
        and row["method"] in methods
        and row["noise"] in names
        and (human or noise["name"] == "clean" or float(row["rate"] or -1) == float(noise["rate"]))
    ]


def _benchmark(record: RunRecord) -> str | None:
    """`cifar10` or `cifar100` where the record used all of it, from whatever files it was read."""
    dataset: dict[str, Any] = record.manifest["dataset"]
    sizes = dataset["sizes"]
    whole = sizes["train"] + sizes["validation"] == 50_000 and sizes["test"] == 10_000
    classes = dataset["classes"]
    if whole and len(classes) == 10 and {"airplane", "frog", "truck"} <= set(classes):
        return "cifar10"
    return "cifar100" if whole and len(classes) == 100 and "aquarium_fish" in classes else None
