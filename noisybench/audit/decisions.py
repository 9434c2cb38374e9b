"""Label sets of the decisions that people made about the suspicious labels or masks of an audit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from noisybench.audit.inputs import audit_spec, resolve_labels
from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.data.labels.label_import import own_targets


def apply_decisions(decisions: Path, labels: str, overrides: Iterable[str] = ()) -> tuple[LabelSet, Dataset]:
    """Return the audited labels or masks after the decisions, and their dataset.

    Args:
        decisions: table of decisions, or the `scores.csv` of an audit of classes.
        labels: what was audited, see `load_audit_input` and `load_mask_audit_input`.
        overrides: overrides of the specification, as for the audit.

    Raises:
        UserError: the table or the labels cannot be read, or do not belong together.
    """
    spec, _ = resolve_labels(labels, overrides)
    if spec.task.name != "segmentation":
        spec, _ = audit_spec(labels, overrides)
    dataset = spec.dataset.build().load()
    base = spec.noise.build().apply(dataset)
    noise = get_entry("noise_models", "from_file").load_class()(path=decisions)
    noise.decisions_argument = "DECISIONS"
    own = {"train": own_targets(dataset.train), "validation": own_targets(dataset.validation)}
    # Decisions about the dataset's own labels need no other label set, and give the one of `labels import`.
    if base.verification or any((base.observed(name) != targets).any() for name, targets in own.items()):
        noise.base = base
    return noise.apply(dataset), dataset
