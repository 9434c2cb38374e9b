"""All metrics by name: direction, formula, the fields of a record that have it, and its fidelity card.

The table holds data alone, so that listing and describing metrics imports neither NumPy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from noisybench.config.fidelity import Deviation, Fidelity

SCIKIT_LEARN = "https://github.com/scikit-learn/scikit-learn"
SCIKIT_LEARN_VERSION = "1.9.1"
TORCHMETRICS = "https://github.com/Lightning-AI/torchmetrics"
TORCHMETRICS_VERSION = "1.9.0"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        summary: noun phrase that says what it measures.
        direction: whether ``higher`` or ``lower`` values are better; ``neither`` where it depends on the use.
        formula: function that computes it.
        fields: names in rows, records and detectors.
        fidelity: fidelity card.
    """

    summary: str
    direction: Literal["higher", "lower", "neither"]
    formula: str
    fields: tuple[str, ...]
    fidelity: Fidelity


def _scikit_learn(compared: str, difference: str, *deviations: Deviation) -> Fidelity:
    return Fidelity(SCIKIT_LEARN, SCIKIT_LEARN_VERSION, compared, difference, (), deviations, "BSD-3-Clause")


def _torchmetrics(compared: str, difference: str, *deviations: Deviation) -> Fidelity:
    return Fidelity(TORCHMETRICS, TORCHMETRICS_VERSION, compared, difference, (), deviations, "Apache-2.0")


EVALUATION = "noisybench.evaluation"

METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        "Fraction of examples whose predicted class is the target",
        "higher",
        f"{EVALUATION}.classification.accuracy",
        ("train_score", "noisy_val_score", "clean_val_score", "test_score"),
        _scikit_learn("accuracy_score on 4 sets of 300 examples of 6 classes", "0"),
    ),
    "balanced_accuracy": Metric(
        "Mean over classes of the recall",
        "higher",
        f"{EVALUATION}.classification.balanced_accuracy",
        ("test_balanced_accuracy", "noisy_val_balanced_accuracy"),
        _scikit_learn("balanced_accuracy_score on 44 sets of 2 to 12 classes of unlike sizes", "0"),
    ),
    "class_recall": Metric(
        "Fraction of the examples of each class that are predicted as it",
        "higher",
        f"{EVALUATION}.classification.recall_by_class",
        ("test_recall", "noisy_val_recall"),
        _scikit_learn("recall_score without averaging on 40 sets of 2 to 12 classes of unlike sizes", "0"),
    ),
    "memorized_fraction": Metric(
        "Fraction of mislabeled training examples that are predicted as their incorrect label",
        "lower",
        f"{EVALUATION}.classification.score_predictions",
        ("memorized_fraction", "recovered_fraction"),
        Fidelity("", "", "hand-made predictions, and a simulation with a known confusion matrix"),
    ),
    "memorized_chance": Metric(
        "Memorized fraction that the confusions on the test split explain",
        "neither",
        f"{EVALUATION}.classification.memorized_by_chance",
        ("memorized_chance",),
        Fidelity(
            "",
            "",
            "0 without test errors, 1 / C for uniform guesses, and the memorized fraction of a network that confuses the classes "
            "of training and test examples alike",
        ),
    ),
    "prediction_changes": Metric(
        "Fraction of training examples whose predicted class differs from the epoch before",
        "neither",
        "noisybench.records.selection.label_wave",
        ("prediction_changes",),
        Fidelity(
            "",
            "",
            "sequences of changes by hand, with a minimum within and beyond the patience, ties and short runs; by reading, the "
            "count and the algorithm of the paper (Yuan et al., 2024)",
            deviations=(
                Deviation(
                    "predictions are those after the epoch, without augmentation and in evaluation mode; the authors' code "
                    "takes those of the augmented batches while they are trained on",
                    "they are computed anyway, and two-network and frozen methods have no predictions of single batches",
                    "the level of the changes; the epoch of their minimum was not compared",
                ),
                Deviation(
                    "the average is over 3 epochs and the patience is 5; the paper has both as inputs of its algorithm",
                    "one rule for all runs, which cannot be tuned on the test split",
                    "the selected epoch",
                ),
            ),
        ),
    ),
    "cross_entropy": Metric(
        "Mean negative log probability of the target, in nats",
        "lower",
        f"{EVALUATION}.metrics.cross_entropy",
        ("test_loss", "noisy_val_loss"),
        _scikit_learn(
            "log_loss on 4 sets of 300 examples of 6 classes",
            "0",
            Deviation(
                "probabilities below 1e-12 count as 1e-12; scikit-learn uses the machine epsilon of their type",
                "a certain mistake has the same finite loss in all precisions",
                "none for probabilities above 1e-7",
            ),
        ),
    ),
    "calibration_error": Metric(
        "Expected calibration error: mean difference of confidence and accuracy in 15 bins of equal width",
        "lower",
        f"{EVALUATION}.metrics.calibration_error",
        ("calibration_error",),
        _torchmetrics(
            "multiclass_calibration_error with 15 bins and the norm l1 on 4 sets of 300 examples of 6 classes",
            "4.1e-8 (single precision)",
            Deviation(
                "bins are (low, high], as in Guo et al. (2017); those of torchmetrics are [low, high)",
                "a confidence of exactly 1 belongs to the last bin",
                "none for confidences between edges; up to .058 where all are multiples of 1/30",
            ),
        ),
    ),
    "auroc": Metric(
        "Area under the ROC curve of a score against incorrect labels",
        "higher",
        f"{EVALUATION}.metrics.noise_auroc",
        ("noise_auroc", "id_noise_auroc", "ood_auroc", "auroc", "id_auroc", "roc"),
        _scikit_learn("roc_auc_score, and SciPy's mannwhitneyu, on 4 sets of 400 scores with ties", "1.1e-16"),
    ),
    "average_precision": Metric(
        "Area under the precision-recall curve of a score against incorrect labels",
        "higher",
        f"{EVALUATION}.detectors.score_detector",
        ("average_precision",),
        _torchmetrics("binary_average_precision on 4 sets of 400 scores with ties", "4.2e-8 (single precision)"),
    ),
    "flag_precision": Metric(
        "Fraction of the flagged labels that are incorrect",
        "higher",
        f"{EVALUATION}.detectors.score_detector",
        ("precision",),
        _scikit_learn("precision_score on 4 sets of 400 flags", "0"),
    ),
    "flag_recall": Metric(
        "Fraction of the incorrect labels that are flagged",
        "higher",
        f"{EVALUATION}.detectors.score_detector",
        ("recall", "flagged_fraction"),
        _scikit_learn("recall_score on 4 sets of 400 flags", "0"),
    ),
    "flag_f1": Metric(
        "F1 score of the flags of a two-component mixture of the label quality",
        "higher",
        f"{EVALUATION}.detectors.score_detection",
        ("f1",),
        _scikit_learn(
            "f1_score on 4 sets of 400 flags; the flags against expectation maximization by hand",
            "0 in the score, 0 flags",
        ),
    ),
    "flag_balanced_accuracy": Metric(
        "Mean of the fraction of incorrect labels that are flagged and of correct labels that are not",
        "higher",
        f"{EVALUATION}.detectors.score_detector",
        ("balanced_accuracy", "ood_balanced_accuracy"),
        _scikit_learn("balanced_accuracy_score on 4 sets of 400 flags", "0"),
    ),
    "missed_at_true_rate": Metric(
        "Fraction of incorrect labels that are missed if as many labels are flagged as are incorrect",
        "lower",
        f"{EVALUATION}.detectors.missed_at_true_rate",
        ("missed_at_true_rate",),
        _torchmetrics(
            "one minus retrieval_r_precision on 4 sets of 400 scores; the mean over all orders of ties on 40 small sets",
            "3.5e-10 (single precision)",
            Deviation(
                "ties at the threshold have their expected value; torchmetrics takes them in the order of its sort",
                "the value does not depend on the order of the examples",
                "none without ties",
            ),
        ),
    ),
    "correction_accuracy": Metric(
        "Fraction of corrected labels that are clean",
        "higher",
        f"{EVALUATION}.classification.score_corrections",
        ("correction_accuracy",),
        Fidelity("", "", "hand-made corrections"),
    ),
    "iou": Metric(
        "Intersection over union of a class, or its mean over classes, over the pixels of all images together",
        "higher",
        f"{EVALUATION}.segmentation.mean_iou",
        (),
        _torchmetrics(
            "multiclass_jaccard_index on 4 sets of 3 masks of 16x16 pixels and 4 classes", "4.7e-8 (single precision)"
        ),
    ),
    "dice": Metric(
        "Dice coefficient, mean over classes, over the pixels of all images together",
        "higher",
        f"{EVALUATION}.segmentation.mask_diagnostics",
        (),
        _scikit_learn("f1_score with macro averaging on 4 sets of 3 masks of 16x16 pixels and 4 classes", "1.1e-16"),
    ),
    "pixel_accuracy": Metric(
        "Fraction of pixels whose predicted class is the target",
        "higher",
        f"{EVALUATION}.segmentation.mask_diagnostics",
        (),
        _scikit_learn("accuracy_score on 4 sets of 3 masks of 16x16 pixels and 4 classes", "0"),
    ),
    "boundary_iou": Metric(
        "Intersection over union of the pixels near the boundaries of a class, mean over classes",
        "higher",
        f"{EVALUATION}.segmentation.boundary_counts",
        (),
        Fidelity(
            "https://github.com/bowenc0221/boundary-iou-api",
            "37d25586a677b043ed585f10e5c42d4e80176ea9",
            "boundary pixels of 3 classes in two masks, and those in both, at 6 image sizes",
            "0 pixels",
            license="BSD-2-Clause",
            golden=("boundary_iou",),
            deviations=(
                Deviation(
                    "pixels without a label end a class in the prediction too; in the authors' code they do in the target alone",
                    "a perfect prediction has the value 1",
                    "none without such pixels; .745 to .919 instead of 1 for a perfect prediction beside bands of 2 to 5 pixels",
                ),
            ),
        ),
    ),
    "exact_match": Metric(
        "Fraction of prompts whose answer is the reference answer",
        "higher",
        f"{EVALUATION}.traces.match_answers",
        (),
        Fidelity("", "", "answers of each format of traces by hand, in several ways of writing a number"),
    ),
}
"""Metrics by name."""
