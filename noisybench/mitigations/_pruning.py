"""Data pruning before training: base classes for selection by a score, at random, or by the clean labels."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.errors import TrainingError, shorten
from noisybench.evaluation.mixture import Components, two_components
from noisybench.training.mitigation import Requirements, public_name
from noisybench.training.roles import Detector, DetectorProvider, SampleSelector
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


ADVICE = "keep more examples, prune within each class (`per_class`), or set `allow_empty_classes`"
"""Advice for selections that keep no example of a class."""


class Pruning(SampleSelector, abc.ABC):
    """Base class of mitigations that train on a subset of the examples, chosen once before training."""

    match: Literal["steps", "epochs"] = parameter(
        "steps", help="Quantity held equal to a run without pruning: gradient steps, or epochs over the kept examples"
    )
    allow_empty_classes: bool = parameter(False, help="Continue if no example of a class is kept")

    @property
    def requirements(self) -> Requirements:
        """The number of steps per epoch according to `match`."""
        return Requirements(keep_step_count=self.match == "steps")

    @abc.abstractmethod
    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) bool, True for the examples to train on."""

    def sample_weights(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return weight one for kept examples and zero for the others.

        Raises:
            TrainingError: no example of a class is kept.
        """
        # The checks below read single values; on a GPU, each would wait for the device.
        kept = self.kept(task, training_set).cpu()
        targets = training_set.targets.cpu()
        before = torch.bincount(targets, minlength=training_set.num_classes)
        after = torch.bincount(targets[kept], minlength=training_set.num_classes)
        emptied = torch.nonzero((before > 0) & (after == 0)).squeeze(1).tolist()
        if emptied and self.allow_empty_classes:
            self.warnings.append(describe_emptied(before, emptied))
        elif emptied:
            raise TrainingError(f"mitigations.{public_name(self)}: {describe_emptied(before, emptied)}; {ADVICE}")
        # A class without training examples has no kept fraction; the clamp only avoids 0 / 0 before it is left out.
        self.diagnostics["smallest_class_kept"] = float((after / before.clamp_min(1))[before > 0].min())
        return kept.float()

    def check_kept(self, kept: Tensor, training_set: TrainingSet) -> list[str]:
        """Return a problem if a selection that is known before training keeps no example of a class.

        Args:
            kept: (N,) bool, True for the examples to train on.
            training_set: inputs and observed targets.
        """
        targets = training_set.targets
        before = torch.bincount(targets, minlength=training_set.num_classes)
        after = torch.bincount(targets[kept], minlength=training_set.num_classes)
        emptied = torch.nonzero((before > 0) & (after == 0)).squeeze(1).tolist()
        # Without any example nothing can be trained, also if empty classes are allowed.
        if not emptied or (self.allow_empty_classes and bool(kept.any())):
            return []
        return [f"{describe_emptied(before, emptied)}; {ADVICE}"]


def describe_emptied(before: Tensor, emptied: list[int]) -> str:
    """Return which classes lose all of their examples.

    Args:
        before: (C,) number of examples of each class.
        emptied: classes of which no example is kept.

    >>> describe_emptied(torch.tensor([3, 4]), [1])
    'none of the 4 examples of class 1 is kept'
    """
    word = "class" if len(emptied) == 1 else "classes"
    names = shorten(", ".join(map(str, emptied)), 60)
    return f"none of the {int(before[emptied].sum())} examples of {word} {names} is kept"


class ScorePruning(Pruning, DetectorProvider):
    """Base class of pruning by a score that is higher where a label is more likely incorrect."""

    strategy: Literal["drop_highest", "keep_highest", "window"] = parameter(
        "drop_highest", help="Examples to drop: the highest scores, all but the highest, or both ends"
    )
    keep_fraction: float | None = parameter(
        None,
        gt=0,
        le=1,
        low=0.3,
        high=1.0,
        help="Fraction of training examples to keep; by default a two-component mixture of the scores decides",
    )
    offset: float = parameter(
        0.0, ge=0, lt=1, low=0.0, high=0.5, help="Fraction of lowest scores that a window leaves out"
    )
    noise_rate: Literal["estimated", "oracle"] = parameter(
        "estimated",
        help="Fraction of highest scores to drop: `estimated`, or `oracle` for the true noise rate (privileged)",
    )
    noise_rate_multiplier: float = parameter(
        1.0, gt=0, low=0.75, high=1.5, help="Factor applied to the true noise rate"
    )
    per_class: bool = parameter(False, help="Prune within each observed class")

    @property
    def requirements(self) -> Requirements:
        """The true noise rate, if it decides how many examples are dropped."""
        privileged = ("noise_rate",) if self.noise_rate == "oracle" else ()
        return dataclasses.replace(super().requirements, privileged=privileged)

    @abc.abstractmethod
    def score(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) finite scores of the training examples, higher where the label is more likely incorrect."""

    def flag(self, task: Learner, score: Tensor) -> tuple[Tensor, Components | None]:
        """Return (N,) flags for scores without a given fraction, and the mixture that they come from, if any."""
        mixture = two_components(score)
        return mixture.high > 0.5, mixture.components

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the strategy has the fraction it needs, and that a window lies within the data."""
        problems = []
        if self.strategy != "drop_highest" and self.keep_fraction is None:
            problems.append(f"keep_fraction: the strategy {self.strategy} needs the fraction to keep, such as 0.4")
        if self.strategy != "drop_highest" and self.noise_rate == "oracle":
            problems.append(
                f"noise_rate: the true noise rate is for the strategy drop_highest, not for {self.strategy}"
            )
        if self.keep_fraction is not None and self.noise_rate == "oracle":
            problems.append("keep_fraction: the true noise rate already decides how much is kept; set only one of them")
        if self.strategy != "window" and self.offset:
            problems.append(f"offset: only a window has an offset; set strategy=window instead of {self.strategy}")
        # The tolerance accepts decimal fractions whose binary sum exceeds 1 by rounding only.
        if self.keep_fraction is not None and self.offset + self.keep_fraction > 1 + 1e-9:
            problems.append(
                f"offset: a window from {self.offset:g} with keep_fraction={self.keep_fraction:g} ends at "
                f"{self.offset + self.keep_fraction:g}, beyond the data; the offset can be at most "
                f"{1 - self.keep_fraction:g}"
            )
        if self.keep_fraction is not None and int(self.keep_fraction * examples + 1e-9) < 1:
            problems.append(f"keep_fraction: {self.keep_fraction:g} of {examples} examples is less than one example")
        return problems

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that the fraction to keep leaves an example, of each class if classes are pruned separately."""
        keep_fraction = self._fraction_to_keep()
        if keep_fraction is None:
            return []
        counts = torch.bincount(training_set.targets, minlength=training_set.num_classes)
        groups = counts[counts > 0].tolist() if self.per_class else [len(training_set)]
        if self.per_class and self.allow_empty_classes:
            groups = [max(groups)]  # one class with an example is enough
        if int(keep_fraction * min(groups) + 1e-9) >= 1:
            return []
        group = "the smallest class" if self.per_class else "all classes"
        return [f"none of the {min(groups)} examples of {group} is kept at a fraction of {keep_fraction:g}; {ADVICE}"]

    def _fraction_to_keep(self) -> float | None:
        """Return the fraction to keep that is known before training; None if a mixture of the scores decides."""
        if self.noise_rate == "oracle":
            # A multiplier above 1 could ask for dropping more than all examples.
            return 1 - min(1.0, self.noise_rate_multiplier * float(self.privileged.noise_rate))
        return self.keep_fraction

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Score the examples, and decide which of them are kept and flagged.

        Raises:
            TrainingError: a score is not finite.
        """
        score = self.score(task, training_set).float().cpu()
        if not bool(score.isfinite().all()):
            raise TrainingError(
                f"mitigations.{public_name(self)}: {int((~score.isfinite()).sum())} of {len(score)} scores are not "
                "finite; lower budget.learning_rate"
            )
        self.state["score"], self._mixture = score, None
        if self.strategy == "drop_highest" and self.keep_fraction is None and self.noise_rate == "estimated":
            flags, self._mixture = self.flag(task, score)
            self.state["flagged"] = flags.cpu()
            self.state["kept"] = ~flags.cpu()
            return
        keep_fraction = self._fraction_to_keep()
        assert keep_fraction is not None  # `check` refuses runs without it
        self.state["kept"], self.state["flagged"] = (torch.zeros(len(score), dtype=torch.bool) for _ in range(2))
        targets = training_set.targets.cpu()
        classes = range(training_set.num_classes)
        groups = [targets == label for label in classes] if self.per_class else [torch.ones_like(score) > 0]
        for group in groups:
            rows = torch.nonzero(group).squeeze(1)
            # The number to keep is rounded down in each class, so that a small class can lose all of its examples;
            # `sample_weights` reports that.
            self.state["kept"][rows], self.state["flagged"][rows] = select_by_score(
                score[rows], self.strategy, keep_fraction, self.offset
            )

    def kept(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return (N,) bool, True for the examples that the scores keep."""
        return self.state["kept"]

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return one minus the min-max scaled score."""
        score = self.state["score"]
        low, high = score.min(), score.max()
        # With equal scores, the clamp gives every example quality 1 instead of NaN.
        return 1 - (score - low) / (high - low).clamp_min(1e-12)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the score; examples that are dropped for a high score are flagged."""
        return {public_name(self): Detector(self.state["score"], self.state["flagged"], self._mixture)}


def select_by_score(score: Tensor, strategy: str, keep_fraction: float, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return which examples are kept, and which have a score above those, each (N,) bool; ties are ordered by position.

    Args:
        score: (N,) scores.
        strategy: ``drop_highest`` keeps the lowest scores, ``keep_highest`` the highest, ``window`` those after the
            lowest.
        keep_fraction: fraction in [0, 1] to keep, rounded down to a whole number of examples.
        offset: fraction of lowest scores that a window leaves out, rounded down.

    >>> kept, above = select_by_score(torch.tensor([0.4, 0.1, 0.3, 0.2]), "window", keep_fraction=0.5, offset=0.25)
    >>> kept.tolist(), above.tolist()
    ([False, False, True, True], [True, False, False, False])
    """
    count = len(score)
    # In binary, 0.29 * 100 is slightly below 29; without the tolerance, rounding down would lose an example.
    num_kept = int(keep_fraction * count + 1e-9)
    first = {"drop_highest": 0, "keep_highest": count - num_kept, "window": int(offset * count + 1e-9)}[strategy]
    kept, above = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
    # Only a stable sort fixes the order of equal scores, and with it the kept examples.
    order = score.argsort(stable=True)
    kept[order[first : first + num_kept]] = True
    # The low scores that a window drops are easy examples, not suspicious ones, so they are not flagged.
    above[order[first + num_kept :]] = True
    return kept, above


def check_schedule(epochs: int | None, budget: Any) -> list[str]:
    """Return a problem if scoring networks would be trained for longer than the schedule of the budget."""
    if epochs is None or epochs <= budget.epochs:
        return []
    return [f"epochs: the budget's schedule has {budget.epochs} epochs, but scores are taken after {epochs}"]
