"""Published accuracies for the same setting, read from `published.csv`, each with its source."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from noisybench.records.schema import RunRecord

METHODS = {
    "cross_entropy": ("CE",),
    "label_smoothing": ("Positive-LS",),
    "gls": ("Negative-LS",),
    "mixup": ("Mixup",),
    "bootstrapping": ("Bootstrap",),
    "gce": ("GCE",),
    "sce": ("SL",),
    "forward_correction": ("Forward",),
    "backward_correction": ("Backward",),
    "co_teaching": ("Co-teaching",),
    "co_teaching_plus": ("Co-teaching+",),
    "jocor": ("JoCoR",),
    "cores2": ("CORES",),
    "cores2_star": ("CORES*",),
    "f_divergence": ("F-div",),
    "peer_loss": ("Peer Loss",),
    "cal": ("CAL",),
    "elr": ("ELR", "ELR(cosine)"),
    "elr_plus": ("ELR+",),
    "sop": ("SOP",),
    "sop_plus": ("SOP+",),
    "pencil": ("PENCIL",),
    "t_revision": ("T-Revision",),
    "volminnet": ("VolMinNet",),
    "pes_semi": ("PES(semi)",),
    "disc": ("DISC",),
    "dividemix": ("DivideMix",),
    "promix": ("ProMix",),
    "pls": ("PLS",),
    "simclr+dividemix": ("C2D(DivideMix)",),
    "simclr+elr_plus": ("C2D(ELR+)",),
    "simclr+lsa": ("PLS-LSA",),
    "simclr+lsa(consensus)": ("PLS-LSA+",),
}
"""Names of our stacks in the literature; the co-training mode is in parentheses where the name depends on it."""

NOISE = {
    "clean": ("clean",),
    "symmetric_exclusive": ("symmetric_exclusive",),
    "symmetric_inclusive": ("symmetric_inclusive",),
    "asymmetric": ("asymmetric_5class",),
    "asymmetric_index_block5": ("asymmetric_index_block5",),
    "asymmetric_superclass_uniform": ("asymmetric_superclass_uniform",),
    "pair_flip": ("pairflip",),
}
"""Names of our noise models in `published.csv`."""

HUMAN = {
    "worse_label": "human_worst",
    "aggre_label": "human_aggre",
    "random_label1": "human_rand1",
    "random_label2": "human_rand2",
    "random_label3": "human_rand3",
    "noisy_label": "human_noisy",
}
"""Names of the label sets of CIFAR-N in `published.csv`."""

CRAWLED = {"mini_webvision": "mini_webvision", "clothing1m": "clothing1m"}
WEBLY_FG = {100: "web_aircraft", 200: "web_bird", 196: "web_car"}
"""Subsets of WebFG-496 by their number of classes."""

PUBLICATIONS = {
    "ELR paper": "Liu et al. 2020",
    "PaulAlbert31/LSA": "Albert et al. 2024",
    "PaulAlbert31/PLS": "Albert et al. 2023",
    "Wei et al. ICLR 2022": "Wei et al. 2022",
    "bhanML/Co-teaching": "Han et al. 2018",
    "ContrastToDivide/C2D": "Zheltonozhskii et al. 2022",
    "KentoNishi/Augmentation-for-LNL": "KentoNishi/Augmentation-for-LNL",
    "KlemenVovk/noisy-labels": "KlemenVovk/noisy-labels",
    "ProMix README": "Justherozen/ProMix",
}
"""Paper or repository on GitHub by the beginning of a source in `published.csv`."""
SINGLE_REPORTS = "Single reports of users"
"""Title of results whose source is no paper and no benchmark."""

LiteratureSetting = tuple[str, str, float | None]
"""Dataset, noise and noise rate as `published.csv` writes them."""


@dataclass(frozen=True)
class PublishedResult:
    """One published accuracy.

    Attributes:
        method: name of the method in the literature.
        value: test accuracy in percent.
        deviation: standard deviation in percentage points, if reported.
        protocol: ``last``, ``best`` (selected on the test split), ``val`` or ``unstated``.
        architecture: network; results of another network than ours have another budget.
        source: publication and table.
        dataset: dataset as `published.csv` writes it.
        noise: noise as `published.csv` writes it.
        rate: noise rate, if there is one.
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

    @property
    def publication(self) -> str:
        """Citation of the paper, or the repository, that reports the result."""
        names = (name for beginning, name in PUBLICATIONS.items() if self.source.startswith(beginning))
        return next(names, SINGLE_REPORTS)


@functools.cache
def _csv_rows() -> list[dict[str, str]]:
    text = (importlib.resources.files("noisybench.leaderboard") / "published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@functools.cache
def all_published() -> tuple[PublishedResult, ...]:
    """Return all published accuracies in the order of `published.csv`.

    Example:
        >>> len(all_published())
        1125
    """
    return tuple(
        PublishedResult(
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
        for row in _csv_rows()
    )


def find_published(settings: Collection[LiteratureSetting], method: str) -> list[PublishedResult]:
    """Return the published accuracies of one method.

    The conventions of symmetric and asymmetric noise are matched exactly: results whose source does not state the
    convention are left out, and so are stacks that have no name in the literature.

    Args:
        settings: result of `literature_settings`.
        method: result of `literature_method`.

    Example:
        >>> find_published({("cifar10n", "human_worst", 0.4021)}, "elr")[0].value
        83.58
    """
    if not settings:
        return []
    # Exact names: a variant of a method under another name is another method.
    names = METHODS.get(method, ())
    return [
        result
        for result in all_published()
        if result.method in names and (result.dataset, result.noise, result.rate) in settings
    ]


def literature_method(record: RunRecord) -> str:
    """Return the stack of a run as a key of `METHODS`: mitigations with their co-training mode, which names a method."""
    return "+".join(
        f"{mitigation['name']}({mitigation['cotrain']})"
        if mitigation.get("cotrain", "none") != "none"
        else mitigation["name"]
        for mitigation in record.spec["mitigations"]
    )


def literature_settings(record: RunRecord) -> list[LiteratureSetting]:
    """Return the settings of `published.csv` that a run reproduces.

    These exist only for the full training set of a known benchmark. The same setting may be listed with and without a noise
    rate.
    """
    return sorted(_crawled(record) or _corrupted(record), key=str)


def _corrupted(record: RunRecord) -> set[LiteratureSetting]:
    """Return the settings of CIFAR-10 or CIFAR-100 with corrupted labels."""
    dataset, noise = benchmark(record), record.spec["noise"]
    if dataset is None:
        return set()
    if noise["name"] == "human":
        label = HUMAN[noise["labels"]]
        return {
            (f"{dataset}n", label, float(row["rate"]) if row["rate"] else None)
            for row in _csv_rows()
            if row["noise"] == label
        }
    if noise["name"] == "web":
        # The published name states the source of the images, so another source is another setting.
        if noise["source"] != "imagenet32":
            return set()
        # The sum is rounded because floats such as 0.1 + 0.2 would not equal the decimal rate of the table.
        id_rate, ood_rate = noise["in_distribution"], noise["out_of_distribution"]
        return {(dataset, f"id_inclusive_{id_rate:g}+ood_imagenet32_{ood_rate:g}", round(id_rate + ood_rate, 6))}
    if noise["name"] == "clean":
        return {(dataset, "clean", rate) for rate in (None, 0.0)}
    return {(dataset, name, float(noise["rate"])) for name in NOISE.get(noise["name"], ())}


def _crawled(record: RunRecord) -> set[LiteratureSetting]:
    """Return the setting of a complete set of crawled images with its real-world labels."""
    if record.spec["noise"]["name"] != "real_world":
        return set()
    dataset, num_classes = record.spec["dataset"], len(record.manifest["dataset"]["classes"])
    # A subset of the images is another setting.
    if dataset.get("train_size") or dataset.get("test_size"):
        return set()
    name = dataset["name"]
    if name == "cnwl" and dataset["size"] == 32:
        return {("cnwl_mini_imagenet_32", "web_red", dataset["noise_level"])}
    if name == "mini_webvision" and dataset["evaluate"] == "imagenet":
        return {("mini_webvision_to_ilsvrc12", "web", None)}
    if name == "webly_fg":
        return {(WEBLY_FG.get(num_classes, ""), "web", None)}
    return {(CRAWLED[name], "web", None)} if name in CRAWLED else set()


def benchmark(record: RunRecord) -> str | None:
    """Return ``cifar10`` or ``cifar100`` if the run used all of it, regardless of the files it was read from."""
    dataset: dict[str, Any] = record.manifest["dataset"]
    sizes, classes = dataset["sizes"], dataset["classes"]
    # The validation split is taken from the training images of the benchmark, so both count.
    is_full = sizes["train"] + sizes["validation"] == 50_000 and sizes["test"] == 10_000
    # Sizes and number of classes alone may be those of another dataset.
    if is_full and len(classes) == 10 and {"airplane", "frog", "truck"} <= set(classes):
        return "cifar10"
    return "cifar100" if is_full and len(classes) == 100 and "aquarium_fish" in classes else None
