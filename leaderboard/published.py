"""Published accuracies for the same cell, from `published.csv`, each with its source."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from dataclasses import dataclass
from typing import Any

from noisybench.records.schema import RunRecord

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
    "dividemix": ("DivideMix",),
    "pls": ("PLS",),
    "simclr+lsa": ("PLS-LSA",),
    "simclr+lsa(consensus)": ("PLS-LSA+",),
}
"""Names of our stacks in the literature; in brackets how two networks work together, where the name depends on it."""

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
        method: as the literature calls it.
        value: test accuracy in percent.
        deviation: standard deviation in percentage points, where given.
        protocol: ``last``, ``best`` (selected on the test split), ``val`` or ``unstated``.
        architecture: the network; another one than ours is another budget.
        source: where it stands.
        dataset: as `published.csv` writes it.
        noise: likewise.
        rate: of the noise, where it has one.
    """

    method: str
    value: float
    deviation: float | None
    protocol: str
    architecture: str
    source: str
    dataset: str
    noise: str
    rate: float | None


@functools.cache
def _rows() -> list[dict[str, str]]:
    text = (importlib.resources.files("noisybench.leaderboard") / "published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@functools.cache
def everything() -> tuple[Published, ...]:
    """All published numbers."""
    return tuple(
        Published(
            row["method"],
            float(row["value"]),
            float(row["std"]) if row["std"] else None,
            row["protocol"],
            row["architecture"],
            row["source"],
            row["dataset"],
            row["noise"],
            float(row["rate"]) if row["rate"] else None,
        )
        for row in _rows()
    )


def published(record: RunRecord) -> list[Published]:
    """Published values for the record's data, noise and stack; only for the full training set of a known benchmark.

    The symmetric and asymmetric conventions are matched exactly: rows whose source does not say which one it uses
    are left out, and so are stacks of several mitigations that have no name in the literature.
    """
    cells = _crawled(record) or _corrupted(record)
    # A search has selected other parameters than those of the paper.
    if not cells or record.spec.get("provenance"):
        return []
    methods = METHODS.get(_stack(record.spec["mitigations"]), ())
    return [each for each in everything() if each.method in methods and (each.dataset, each.noise, each.rate) in cells]


def _stack(mitigations: list[dict[str, Any]]) -> str:
    """Names of a stack; of two networks also how they work together, which gives another method."""
    names = [
        f"{each['name']}({each['cotrain']})" if each.get("cotrain", "none") != "none" else each["name"]
        for each in mitigations
    ]
    return "+".join(names)


Cell = tuple[str, str, float | None]
"""Dataset, noise and rate as `published.csv` writes them."""


def _corrupted(record: RunRecord) -> set[Cell]:
    """The cell of a CIFAR with corrupted labels."""
    dataset, noise = _benchmark(record), record.spec["noise"]
    if dataset is None:
        return set()
    if noise["name"] == "human":
        label = HUMAN[noise["labels"]]
        return {
            (f"{dataset}n", label, float(row["rate"]) if row["rate"] else None)
            for row in _rows()
            if row["noise"] == label
        }
    if noise["name"] == "web":
        if noise["source"] != "imagenet32":
            return set()
        inside, outside = noise["in_distribution"], noise["out_of_distribution"]
        return {(dataset, f"id_inclusive_{inside:g}+ood_imagenet32_{outside:g}", round(inside + outside, 6))}
    names = NOISE.get(noise["name"], ())
    if noise["name"] == "clean":
        return {(dataset, "clean", rate) for rate in (None, 0.0)}
    return {(dataset, name, float(noise["rate"])) for name in names}


CRAWLED = {"mini_webvision": "mini_webvision", "clothing1m": "clothing1m"}
WEBLY_FG = {100: "web_aircraft", 200: "web_bird", 196: "web_car"}
"""The subsets of Webly-fg by their number of classes."""


def _crawled(record: RunRecord) -> set[Cell]:
    """The cell of a whole set of crawled images with its own labels."""
    if record.spec["noise"]["name"] != "real_world":
        return set()
    dataset, classes = record.spec["dataset"], len(record.manifest["dataset"]["classes"])
    if dataset.get("train_size") or dataset.get("test_size"):
        return set()
    name = dataset["name"]
    if name == "cnwl" and dataset["size"] == 32:
        return {("cnwl_mini_imagenet_32", "web_red", dataset["noise_level"])}
    if name == "mini_webvision" and dataset["evaluate"] == "imagenet":
        return {("mini_webvision_to_ilsvrc12", "web", None)}
    if name == "webly_fg":
        return {(WEBLY_FG.get(classes, ""), "web", None)}
    return {(CRAWLED[name], "web", None)} if name in CRAWLED else set()


def _benchmark(record: RunRecord) -> str | None:
    """`cifar10` or `cifar100` where the record used all of it, from whatever files it was read."""
    dataset: dict[str, Any] = record.manifest["dataset"]
    sizes = dataset["sizes"]
    whole = sizes["train"] + sizes["validation"] == 50_000 and sizes["test"] == 10_000
    classes = dataset["classes"]
    if whole and len(classes) == 10 and {"airplane", "frog", "truck"} <= set(classes):
        return "cifar10"
    return "cifar100" if whole and len(classes) == 100 and "aquarium_fish" in classes else None
