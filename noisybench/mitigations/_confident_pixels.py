"""Incorrect pixels in out-of-sample predictions: parameters, predictions and detector of the mitigations that use them."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED
from noisybench.mitigations._pruning import check_schedule
from noisybench.mitigations._scores import CrossValidation, check_folds
from noisybench.training.roles import Detector, DetectorProvider
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner
    from noisybench.training.task import Task


class ConfidentPixels(DetectorProvider, abc.ABC):
    """Scores and flags of all pixels by cleanlab, from networks that were not trained on them."""

    folds: int = parameter(
        2, ge=2, low=2, high=5, help="Number of folds, each predicted by a network that was not trained on it"
    )
    epochs: int | None = parameter(None, ge=1, help="Training epochs of each network; by default those of the budget")
    score_seed: int = parameter(0, ge=0, help="Random seed for folds and networks (independent of `seed`)")

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that cleanlab is installed, and that every fold has an image."""
        return [*check_schedule(self.epochs, budget), *check_folds(self.folds, examples)]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Score every pixel."""
        run = OutOfSamplePredictions(task, self.folds, self.epochs or task.budget.epochs, self.score_seed)
        predictions = task.auxiliary(run)
        # Each pixel was predicted in one fold only, so the sum over the folds is its prediction.
        self.state["score"] = (1 - predictions["label_quality"].float().sum(0)).half()
        self.state["flagged"] = predictions["flagged"].any(0)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the scores and flags."""
        return {"pixel_confident_learning": Detector(self.state["score"], self.state["flagged"])}


class OutOfSamplePredictions(CrossValidation):
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
