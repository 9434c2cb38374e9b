"""Confident learning for masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED
from noisybench.mitigations._pruning import check_schedule
from noisybench.mitigations._scores import CrossValidation, check_folds
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss, Requirements
from noisybench.training.roles import Detector, DetectorProvider, LossWrapper
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner
    from noisybench.training.task import Task


class PixelConfidentLearning(LossWrapper, DetectorProvider):
    """Detect incorrect pixels in out-of-sample predictions with cleanlab.

    Networks are trained on all but one fold of the images in turn, and predict that fold (Northcutt et al. 2021). The
    score of a pixel is one minus the probability of its label. Pixels that cleanlab's label inspector reports, and
    whose predicted class differs from the label, are flagged. Training is unchanged unless `drop` leaves flagged
    pixels out. Requires cleanlab: `pip install cleanlab`.
    """

    tasks = ("segmentation",)

    fidelity = Fidelity(
        reference="https://github.com/cleanlab/cleanlab",
        commit="2.9.0",
        license="Apache-2.0",
        compared="scores and flags of all pixels of a fold, with cleanlab.segmentation on the same probabilities",
        difference="1.2e-4 in the scores (half precision, at most 2.4e-4); no flag differs",
        deviations=(
            Deviation(
                "cleanlab has no pixels without a label; here they are left out of thresholds and counts, and not flagged",
                "masks have such pixels",
                "none without them",
            ),
        ),
    )

    drop: bool = parameter(False, help="Leave flagged pixels out of training", always_in_label=True)
    folds: int = parameter(
        2, ge=2, low=2, high=5, help="Number of folds, each predicted by a network that was not trained on it"
    )
    epochs: int | None = parameter(None, ge=1, help="Training epochs of each network; by default those of the budget")
    score_seed: int = parameter(0, ge=0, help="Random seed for folds and networks (independent of `seed`)")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return detection only, and flagged pixels left out."""
        return {"epochs": 1}, {"epochs": 2, "drop": True}

    @property
    def requirements(self) -> Requirements:
        """The same training as without it, unless flagged pixels are left out."""
        return Requirements(keeps_weights="" if self.drop else "it detects incorrect pixels, and drop=False keeps them")

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that cleanlab is installed, and that every fold has an image."""
        return [*check_schedule(self.epochs, budget), *check_folds(self.folds, examples)]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Score every pixel."""
        run = _OutOfSamplePredictions(task, self.folds, self.epochs or task.budget.epochs, self.score_seed)
        predictions = task.auxiliary(run)
        # Each pixel was predicted in one fold only, so the sum over the folds is its prediction.
        self.state["score"] = (1 - predictions["label_quality"].float().sum(0)).half()
        self.state["flagged"] = predictions["flagged"].any(0)
        if self.drop and not bool(self.state["flagged"].any()):
            self.warnings.append("no pixel is flagged, so none is left out")

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """Return the rest of the stack's loss, on unflagged pixels only if `drop` is set."""
        if not self.drop:
            return inner_loss(batch)
        kept = ~self.state["flagged"].view(-1)[batch.index]
        labeled = torch.ones_like(kept) if batch.has_label is None else batch.has_label
        kept = kept & labeled
        losses = inner_loss(batch.with_labels(batch.observed, kept))
        # The caller takes the mean over all labeled pixels, so the kept ones are scaled up by the inverse of their share.
        return losses * kept * (labeled.sum() / kept.sum().clamp_min(1))

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the scores and flags."""
        return {"pixel_confident_learning": Detector(self.state["score"], self.state["flagged"])}


class _OutOfSamplePredictions(CrossValidation):
    """Networks that each leave out one fold; (K, N, H, W) `label_quality` and `flagged` are zero outside of that fold."""

    def __init__(self, task: Learner, folds: int, length: int, seed: int) -> None:
        super().__init__(task, "mask folds", folds, length, seed)

    def collect(self, number: int, trained: Task) -> dict[str, Tensor]:
        """Return the probabilities of the fold's labels, and cleanlab's issues among them."""
        from cleanlab.experimental.label_issues_batched import LabelInspector

        data, rows = trained.training_set, torch.nonzero(self.fold == number).squeeze(1)
        # Half precision: the array has a value for every pixel of the training set, and there is one for each fold.
        quality = torch.zeros(data.targets.shape, dtype=torch.float16)
        flagged = torch.zeros(data.targets.shape, dtype=torch.bool)
        inspector = LabelInspector(num_class=data.num_classes, verbose=False, n_jobs=1)
        labels = data.targets.cpu()[rows]
        has_label = labels != IGNORED

        def labeled_pixels() -> Any:
            # Two passes over the fold need less memory than the probabilities of all classes for all pixels.
            for images, probabilities in trained.predict_batches(data.inputs[rows]):
                mask = has_label[images]
                yield images, labels[images][mask].long(), probabilities.cpu().permute(0, 2, 3, 1)[mask]

        for _, observed, probabilities in labeled_pixels():
            inspector.update_confident_thresholds(observed.numpy(), probabilities.numpy())
        differing = []
        for images, observed, probabilities in labeled_pixels():
            inspector.score_label_quality(observed.numpy(), probabilities.numpy())
            differing.append(probabilities.max(1).indices != observed)
            part = torch.zeros(has_label[images].shape, dtype=torch.float16)
            part[has_label[images]] = probabilities.gather(1, observed[:, None]).squeeze(1).half()
            quality[rows[images]] = part
        issues = torch.zeros(int(has_label.sum()), dtype=torch.bool)
        # cleanlab numbers the labeled pixels of the fold in the order in which it has seen them.
        issues[torch.from_numpy(inspector.get_label_issues())] = True
        part = torch.zeros_like(has_label)
        part[has_label] = issues & torch.cat(differing)
        flagged[rows] = part
        return {"label_quality": quality, "flagged": flagged}
