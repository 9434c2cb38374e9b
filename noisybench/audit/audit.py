"""Audit of labels, from the input to the report."""

from __future__ import annotations

from noisybench.audit.data_quality import measure_data_quality
from noisybench.audit.findings import analyze
from noisybench.audit.folds import EpochCallback
from noisybench.audit.inputs import AuditInput
from noisybench.audit.probe import probe_features, signals_of_predictions
from noisybench.audit.report import AuditReport
from noisybench.audit.signals import collect_signals
from noisybench.leaderboard.measurement_tables import with_builtin
from noisybench.leaderboard.similar import similar_settings
from noisybench.tracking.equivalences import recorded_equivalences
from noisybench.tracking.store import Store
from noisybench.utils.text import counted


def audit_labels(
    audit_input: AuditInput, folds: int = 3, seed: int = 0, on_epoch: EpochCallback = lambda fold, epoch, loss: None
) -> AuditReport:
    """Estimate the noise of labels, rank the suspicious ones, and look up methods that worked on similar noise.

    Args:
        audit_input: images and labels to audit.
        folds: number of folds, from 2; each fold is predicted by a network that was trained on the others.
        seed: random seed of folds and networks.
        on_epoch: function that receives fold, epoch and mean training loss.

    Raises:
        UserError: there are fewer examples than folds, or finished runs cannot be read.
    """
    # Read before hours of training: the tracking server may be unavailable.
    store = Store()
    measurements, equivalences = with_builtin(store.runs.records()), recorded_equivalences(store)
    num_classes, features = len(audit_input.class_names), audit_input.features
    if audit_input.predictions is not None:
        signals = signals_of_predictions(
            audit_input.predictions, audit_input.observed, features, folds, seed, audit_input.images
        )
    elif features is not None:
        signals = probe_features(features, audit_input.observed, num_classes, folds, seed)
    else:
        signals = collect_signals(audit_input, folds, seed, on_epoch)
    result = analyze(audit_input.observed, signals, audit_input.verified, audit_input.given)
    num_examples = len(audit_input.observed)
    # Advice for another noise rate would be advice for other labels.
    similar = (
        []
        if result.noise_rate is None
        else similar_settings(measurements, result.noise_rate, num_examples, num_classes, equivalences)
    )
    quality = measure_data_quality(audit_input)
    return AuditReport(audit_input, result, quality, describe_networks(audit_input, folds), similar)


def describe_networks(audit_input: AuditInput, folds: int) -> str:
    """Describe the models of an audit in one line."""
    if audit_input.predictions is not None:
        return "the given out-of-sample predictions"
    if audit_input.features is not None:
        return (
            f"{folds} logistic regressions on {audit_input.feature_origin}, each fitted to {folds - 1} of {folds} folds"
        )
    budget = audit_input.spec.budget
    epochs = counted(budget.epochs, "epoch")
    return f"{folds} networks ({budget.network}), each trained on {folds - 1} of {folds} folds for {epochs}"
