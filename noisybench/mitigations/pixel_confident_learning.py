"""Confident learning for masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED
from noisybench.mitigations._pruning import beyond_schedule
from noisybench.mitigations._scores import Folds, fold_problems
from noisybench.training.batch import Batch
from noisybench.training.mitigation import BatchLoss
from noisybench.training.roles import Detector, DetectorProvider, LossWrapper
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner
    from noisybench.training.task import Task


class PixelConfidentLearning(LossWrapper, DetectorProvider):
    """Finds wrong pixels in out-of-sample predictions as cleanlab does for masks (Northcutt et al. 2021).

    Networks are trained on all but one fold of the images in turn, and predict that fold. A pixel's score is one minus the
    probability of its label; flagged are the issues of cleanlab's inspector, in as far as the predicted class differs. It
    changes nothing in training, unless `drop` leaves flagged pixels out. Needs cleanlab: `pip install cleanlab`.
    """

    tasks = ("segmentation",)

    drop: bool = parameter(False, help="leave flagged pixels out of training", always_in_label=True)
    folds: int = parameter(2, ge=2, low=2, high=5, help="parts of the images, each predicted by a network of its own")
    epochs: int | None = parameter(None, ge=1, help="epochs that each is trained; without it, all of the budget's")
    score_seed: int = parameter(0, ge=0, help="of folds and networks; the run's seed does not change it")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Detecting alone, and leaving out."""
        return {"epochs": 1}, {"epochs": 2, "drop": True}

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """cleanlab is there, and every fold has an image."""
        problems = beyond_schedule(self.epochs, budget)
        return [*problems, *fold_problems(self.folds, examples)]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Score every pixel."""
        run = _Folds(task, self.folds, self.epochs or task.budget.epochs, self.score_seed)
        found = task.auxiliary(run)
        # Each pixel was predicted in one fold alone.
        self.state["score"] = (1 - found["label_quality"].float().sum(0)).half()
        self.state["flagged"] = found["flagged"].any(0)

    def wrap_loss(self, task: Learner, batch: Batch, inner_loss: BatchLoss) -> Tensor:
        """The rest of the stack, on what is not flagged where that is left out."""
        if not self.drop:
            return inner_loss(batch)
        right = ~self.state["flagged"].view(-1)[batch.index]
        return inner_loss(
            batch.with_labels(batch.observed, right if batch.has_label is None else right & batch.has_label)
        )

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """The scores and flags."""
        return {"pixel_confident_learning": Detector(self.state["score"], self.state["flagged"])}


class _Folds(Folds):
    """Networks that each leave out one fold; (K, N, H, W) `label_quality` and `flagged` are zero outside of that fold."""

    def __init__(self, task: Learner, folds: int, length: int, seed: int) -> None:
        super().__init__(task, "mask folds", folds, length, seed)

    def collect(self, member: int, trained: Task) -> dict[str, Tensor]:
        """Probabilities of the fold's labels, and cleanlab's issues among them."""
        from cleanlab.experimental.label_issues_batched import LabelInspector

        data, own = trained.training_set, torch.nonzero(self.fold == member).squeeze(1)
        quality = torch.zeros(data.targets.shape, dtype=torch.float16)
        flagged = torch.zeros(data.targets.shape, dtype=torch.bool)
        inspector = LabelInspector(num_class=data.num_classes, verbose=False, n_jobs=1)
        labels = data.targets.cpu()[own]
        known = labels != IGNORED

        def each_portion() -> Any:
            # Twice through the fold, instead of keeping probabilities of every class.
            for place, found in trained.predict_batches(data.inputs[own]):
                chosen = known[place]
                yield place, labels[place][chosen].long(), found.cpu().permute(0, 2, 3, 1)[chosen]

        for _, given, found in each_portion():
            inspector.update_confident_thresholds(given.numpy(), found.numpy())
        differing = []
        for place, given, found in each_portion():
            inspector.score_label_quality(given.numpy(), found.numpy())
            differing.append(found.max(1).indices != given)
            part = torch.zeros(known[place].shape, dtype=torch.float16)
            part[known[place]] = found.gather(1, given[:, None]).squeeze(1).half()
            quality[own[place]] = part
        issues = torch.zeros(int(known.sum()), dtype=torch.bool)
        issues[torch.from_numpy(inspector.get_label_issues())] = True
        part = torch.zeros_like(known)
        part[known] = issues & torch.cat(differing)
        flagged[own] = part
        return {"label_quality": quality, "flagged": flagged}
