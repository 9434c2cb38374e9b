"""Selection before training: by a score, at random, or by the truth; alike in all else."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.errors import UserError
from noisybench.mitigations._detection import Components, two_components
from noisybench.training.mitigation import Requirements, public_name
from noisybench.training.roles import Detector, DetectorProvider, SampleSelector
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class Selection(SampleSelector, abc.ABC):
    """Trains on some of the examples alone. The subset is chosen once, before training."""

    equal: Literal["steps", "epochs"] = parameter(
        "steps", help="after pruning, as many gradient steps as with all examples, or as many epochs of the rest"
    )
    allow_empty_classes: bool = parameter(False, help="go on where no example of a class is left")

    @property
    def requirements(self) -> Requirements:
        """The number of steps per epoch that `equal` chooses."""
        return Requirements(keep_step_count=self.equal == "steps")

    @abc.abstractmethod
    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """(N,) bool, which examples are trained on."""

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """One for what is kept, zero for the rest.

        Raises:
            UserError: no example of a class is left.
        """
        kept = self.kept(task, training_set).cpu()
        targets = training_set.targets.cpu()
        before = torch.bincount(targets, minlength=training_set.num_classes)
        after = torch.bincount(targets[kept], minlength=training_set.num_classes)
        emptied = torch.nonzero((before > 0) & (after == 0)).squeeze(1).tolist()
        if emptied:
            message = (
                f"no example of {'class' if len(emptied) == 1 else 'the classes'} {', '.join(map(str, emptied))} is "
                f"left of {int(before[emptied].sum())}"
            )
            if not self.allow_empty_classes:
                raise UserError(
                    f"mitigations.{public_name(self)}: {message}; prune less, choose within each "
                    "class (`per_class`), or allow it by `allow_empty_classes`"
                )
            self.warnings.append(message)
        self.diagnostics["smallest_class_kept"] = float((after / before.clamp_min(1))[before > 0].min())
        return kept.float()


class Pruning(Selection, DetectorProvider):
    """Chooses by a score that is higher where a label is more likely wrong."""

    rule: Literal["drop_highest", "keep_highest", "window"] = parameter(
        "drop_highest", help="what is left out: the highest scores, all but these, or both ends"
    )
    keep: float | None = parameter(
        None, gt=0, le=1, low=0.3, high=1.0, help="share kept; without it the scores decide, by two components"
    )
    offset: float = parameter(
        0.0, ge=0, lt=1, low=0.0, high=0.5, help="share of lowest scores that a window leaves out"
    )
    noise_rate: Literal["estimated", "given"] = parameter(
        "estimated",
        help="drop the highest by `keep` or by two components, or the true rate of them, which is knowledge",
    )
    times: float = parameter(1.0, gt=0, low=0.75, high=1.5, help="how many times the given rate is dropped")
    per_class: bool = parameter(False, help="apply the rule within each observed class")

    @property
    def requirements(self) -> Requirements:
        """The true noise rate, if it decides how many samples are dropped."""
        privileged = ("noise_rate",) if self.noise_rate == "given" else ()
        return dataclasses.replace(super().requirements, privileged=privileged)

    @abc.abstractmethod
    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """(N,) finite scores of the training examples, higher where the label is more likely wrong."""

    def automatic(self, task: Learner, score: Tensor) -> tuple[Tensor, Components | None]:
        """(N,) flags where no amount is given, and the mixture that they come from, if they do."""
        mixture = two_components(score)
        return mixture.high > 0.5, mixture.components

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """The rule has the amount that it needs, within the data."""
        problems = []
        if self.rule != "drop_highest" and self.keep is None:
            problems.append(f"keep: the rule {self.rule} needs the share to keep, such as 0.4")
        if self.rule != "drop_highest" and self.noise_rate == "given":
            problems.append(f"noise_rate: a given rate is for the rule drop_highest, not for {self.rule}")
        if self.keep is not None and self.noise_rate == "given":
            problems.append("keep: the given noise rate decides how much is kept; give one of them")
        if self.rule != "window" and self.offset:
            problems.append(f"offset: only a window has one; set rule=window, not {self.rule}")
        if self.keep is not None and self.offset + self.keep > 1 + 1e-9:
            problems.append(
                f"offset: a window from {self.offset:g} that keeps {self.keep:g} ends at {self.offset + self.keep:g}, beyond "
                f"the data; the offset can be at most {1 - self.keep:g}"
            )
        if self.keep is not None and int(self.keep * examples + 1e-9) < 1:
            problems.append(f"keep: {self.keep:g} of {examples} examples is none")
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Score the examples, and judge them by the scores.

        Raises:
            UserError: a score is not finite.
        """
        score = self.score(task, training_set).float().cpu()
        if not bool(score.isfinite().all()):
            raise UserError(
                f"mitigations.{public_name(self)}: {int((~score.isfinite()).sum())} of {len(score)} "
                "scores are not finite; lower budget.learning_rate"
            )
        self.state["score"], self._mixture = score, None
        if self.rule == "drop_highest" and self.keep is None and self.noise_rate == "estimated":
            flags, self._mixture = self.automatic(task, score)
            self.state["flagged"] = flags.cpu()
            self.state["kept"] = ~flags.cpu()
            return
        keep = 1 - min(1.0, self.times * float(self.privileged.noise_rate)) if self.noise_rate == "given" else self.keep
        assert keep is not None  # checked before
        self.state["kept"], self.state["flagged"] = (torch.zeros(len(score), dtype=torch.bool) for _ in range(2))
        targets = training_set.targets.cpu()
        classes = range(training_set.num_classes)
        groups = [targets == each for each in classes] if self.per_class else [torch.ones_like(score) > 0]
        for each in groups:
            place = torch.nonzero(each).squeeze(1)
            self.state["kept"][place], self.state["flagged"][place] = chosen(score[place], self.rule, keep, self.offset)

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """As judged by the scores."""
        return self.state["kept"]

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """One minus the score, brought to [0, 1]."""
        score = self.state["score"]
        low, high = score.min(), score.max()
        return 1 - (score - low) / (high - low).clamp_min(1e-12)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """The score; what is left out for being high counts as flagged."""
        return {public_name(self): Detector(self.state["score"], self.state["flagged"], self._mixture)}


def chosen(score: Tensor, rule: str, keep: float, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Which scores a rule keeps, and which lie above what it keeps, each (N,) bool; ties go by position.

    Args:
        score: (N,).
        rule: ``drop_highest`` keeps the lowest scores, ``keep_highest`` the highest, ``window`` those after the lowest.
        keep: share kept, in [0, 1]; rounded down to a whole number of examples.
        offset: share of lowest scores that a window leaves out; rounded down.
    """
    count = len(score)
    kept = int(keep * count + 1e-9)
    first = {"drop_highest": 0, "keep_highest": count - kept, "window": int(offset * count + 1e-9)}[rule]
    inside, above = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
    order = score.argsort(stable=True)
    inside[order[first : first + kept]] = True
    above[order[first + kept :]] = True
    return inside, above


def beyond_schedule(epochs: int | None, budget: Any) -> list[str]:
    """A problem where networks would be trained for longer than the budget's schedule goes."""
    if epochs is None or epochs <= budget.epochs:
        return []
    return [f"epochs: the budget's schedule has {budget.epochs} epochs, but scores are asked for after {epochs}"]
