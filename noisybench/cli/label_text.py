"""Text of the `noisybench labels` commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from noisybench.data.labels.verification import ACCEPT, EXCLUDE, KEEP, RELABEL
from noisybench.data.targets import target_kind
from noisybench.utils.text import printable

if TYPE_CHECKING:
    from noisybench.data.label_sets.label_set import LabelSet
    from noisybench.data.label_sets.provenance import ProvenanceCheck
    from noisybench.data.labels.verification import Verification

MAX_TABLE = 12
"""Largest number of classes whose transition counts are shown as a table."""

MAX_CONFUSIONS = 10
"""Number of the most frequent confusions that are listed for more classes."""

MAX_LISTED = 12
"""Largest number of classes whose IoU is listed."""


def describe_labels(manifest: dict[str, Any], verification: Verification | None = None) -> str:
    """Return the manifest of a label set as text for the terminal, with its verified labels; names are `printable`."""
    noise, dataset = manifest["noise"], manifest["dataset"]
    details, nominal = noise["details"], noise["nominal_rate"]
    lines = [
        ("label set", manifest["sha256"]),
        ("dataset", f"{dataset['name']} ({dataset['sizes']['train']} training examples, {dataset['sha256'][:16]}…)"),
        ("noise model", f"{noise['name']}, seed {noise['seed']}"),
        ("convention", noise["convention"]),
        ("nominal rate", "none" if nominal is None else f"{nominal:.4f}"),
        ("actual rate", _describe_rate(manifest)),
    ]
    if "label_status" in manifest:
        lines.append(("examples", _describe_status(manifest["label_status"])))
    if "masks" in manifest:
        lines += _describe_masks(manifest)
    if "traces" in details:
        fractions = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in details["traces"].items())
        lines.append(("traces", fractions))
    if "unlabeled" in manifest:
        counts = ", ".join(f"{number} {name}" for name, number in manifest["unlabeled"].items())
        lines.append(("unlabeled", f"{counts} examples, which are not trained on"))
    if verification is not None:
        lines += _describe_verification(verification, dataset["classes"])
    if "agreement" in details:
        lines.append(("annotators", _describe_agreement(details["agreement"])))
    if "source" in details:
        lines.append(("OOD images", f"{details['source']['name']}, {details['source']['sha256'][:16]}…"))
    if skipped := dataset.get("skipped_files"):
        lines.append(("skipped", f"{len(skipped)} damaged images, the first: {skipped[0]}"))
    return describe_fields(lines)


def describe_fields(lines: Sequence[tuple[str, str]]) -> str:
    """Return titles and texts as lines; texts of others are `printable`."""
    return "\n".join(f"{title:<14} {printable(text)}" for title, text in lines)


def describe_transitions(labels: LabelSet) -> str:
    """Return the transition counts of few classes as a table, and of many classes the most frequent confusions.

    The text of traces is empty, because their classes are characters, whose transitions are not counted.
    """
    if labels.manifest["transition_counts"] is None:
        return ""
    names = [printable(name) for name in labels.manifest["dataset"]["classes"]]
    counts = np.array(labels.manifest["transition_counts"])
    if len(names) <= MAX_TABLE:
        width = max(len(str(counts.max(initial=0))), 5)
        rows = [
            f"  {name:>16} " + " ".join(f"{count:>{width}}" for count in row)
            for name, row in zip(names, counts.tolist(), strict=True)
        ]
        return "\n".join(["transitions (rows: clean, columns: observed):", *rows])
    confusions = counts - np.diag(np.diag(counts))
    # Stable, so that equal counts stay in the order of the classes.
    order = np.argsort(-confusions, axis=None, kind="stable")[:MAX_CONFUSIONS]
    pairs = [divmod(int(position), len(names)) for position in order if confusions.flat[position]]
    number = int((confusions > 0).sum())
    title = f"confusions: {number} of {len(names) * (len(names) - 1)} pairs of classes occur"
    lines = [
        f"  {names[clean]} -> {names[observed]}: {counts[clean, observed]} ({counts[clean, observed] / counts[clean].sum():.1%})"
        for clean, observed in pairs
    ]
    return "\n".join([title + (", the most frequent (clean -> observed):" if lines else ""), *lines])


def describe_check(check: ProvenanceCheck) -> str:
    """Return how each entry of a manifest was checked."""
    lines = [
        ("recomputed", ", ".join(check.recomputed)),
        ("compared with the installed noise model", ", ".join(check.compared)),
        ("only bound by the digest of the manifest, which anyone can compute", ", ".join(check.bound)),
        *(("not recomputed", note) for note in check.notes),
    ]
    return "\n".join(f"  {title}: {text}" for title, text in lines if text)


def _describe_rate(manifest: dict[str, Any]) -> str:
    if manifest["actual_noise_rate"] is None:
        return "unknown"
    validation = manifest["actual_noise_rate_validation"]
    suffix = "" if validation is None else f", validation {validation:.4f}"
    return f"{manifest['actual_noise_rate']:.4f}{suffix}"


def _describe_verification(verification: Verification, class_names: list[str]) -> list[tuple[str, str]]:
    """Return the number of each decision, the noise rate of what was verified, and the changed labels by pair of classes."""
    rows = list(verification.rows.values())
    given, verified, decision, has_label, is_corrected = (
        np.concatenate([getattr(part, name) for part in rows]) if rows else np.empty(0, np.int64)
        for name in ("given", "verified", "decision", "has_label", "is_corrected")
    )
    words = {ACCEPT: "accepted", RELABEL: "relabeled", KEEP: "kept", EXCLUDE: "excluded"}
    counts = {word: int((decision == number).sum()) for number, word in enumerate(words.values())}
    lines = [("decisions", ", ".join(f"{count} {word}" for word, count in counts.items()))]
    number, wrong = int(has_label.sum()), int(is_corrected.sum())
    if number:
        noun = "masks" if given.ndim > 1 else "labels"
        lines.append(("verified", f"{number} {noun}, of which {wrong} were incorrect ({wrong / number:.1%})"))
    names = dict(enumerate(class_names)) | {target_kind(given).no_label: "no label"}
    changed = has_label.reshape(-1, *[1] * (given.ndim - 1)) & (given != verified)
    pairs = Counter(zip(given[changed].tolist(), verified[changed].tolist(), strict=True)).most_common()
    unit = " pixels" if given.ndim > 1 else ""
    listed = [f"{names[old]} -> {names[new]} {count}{unit}" for (old, new), count in pairs[:MAX_CONFUSIONS]]
    more = [f"{len(pairs) - MAX_CONFUSIONS} more pairs"] if len(pairs) > MAX_CONFUSIONS else []
    return [*lines, ("changed", ", ".join(listed + more))] if pairs else lines


def _describe_agreement(agreement: dict[str, Any]) -> str:
    number = f"{agreement['annotators']} annotators, " if agreement["annotators"] else ""
    values = {"pairwise agreement": "pairwise_agreement", "Krippendorff's alpha": "krippendorff_alpha"}
    measured = [f", {title} {agreement[key]:.4f}" for title, key in values.items() if agreement[key] is not None]
    return f"{number}{agreement['votes']} votes{''.join(measured)}"


def _describe_status(counts: dict[str, int]) -> str:
    text = f"{counts['clean']} clean, {counts['in_distribution']} mislabeled (ID), {counts['out_of_distribution']} OOD"
    return f"{text}, {counts['unknown']} unknown" if counts["unknown"] else text


def _describe_masks(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    masks, names, details = manifest["masks"], manifest["dataset"]["classes"], manifest["noise"]["details"]
    miou = "unknown" if masks["miou"] is None else f"{masks['miou']:.4f}"
    bias = "" if masks["area_bias"] is None else f", foreground area {masks['area_bias']:+.1%}"
    severity = f", severity {details['severity']:.4g}" if "severity" in details else ""
    # The lowest first, because only some of many classes are shown.
    values = [(value, name) for name, value in zip(names, masks["iou"], strict=True) if value is not None]
    shown = sorted(values)[:MAX_LISTED] if len(values) > MAX_LISTED else values
    more = f", … {len(values) - len(shown)} higher" if len(values) > len(shown) else ""
    iou = ", ".join(f"{name} {value:.3f}" for value, name in shown)
    average = "mIoU" if manifest["dataset"].get("background") is False else "foreground mIoU"
    lines = [("masks", f"{average} {miou}{bias}{severity}"), ("IoU", iou + more)]
    if "objects" in manifest:
        fates = ", ".join(
            f"{count} {name}" for name, count in manifest["objects"].items() if name != "objects" and count
        )
        lines.append(("objects", f"{manifest['objects']['objects']}: {fates}"))
    return lines
