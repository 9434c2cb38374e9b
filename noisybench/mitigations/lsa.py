"""Linear separation alternating with small loss."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.data.targets import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.mitigations._detection import SMALLEST_SIDE, can_be_separated, linear_separation
from noisybench.mitigations._pseudo_loss import PseudoLossSelection
from noisybench.nn.features import stages
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class LSA(PseudoLossSelection):
    """PLS whose detector alternates between a hyperplane in early features and small loss (Albert et al. 2024).

    Out-of-distribution images can be told from the others almost linearly in early features. A logistic regression,
    fitted to the flags of the small-loss detector, finds that direction; used every other epoch it flags images of no
    class without losing the simple clean ones that small loss keeps. The detector after epoch e is entry e of
    `detector_cycle`, counted round; `oracle` reads the truth and is declared knowledge, as is a `support` of trusted
    examples. With fewer than ten flags on either side the small-loss flags are used instead, and the row says so.

    The first epoch of correction trusts all guesses, since none has been made before; the paper's code starts with
    weights from the observed labels. The strong view has RandAugment's magnitude 4 everywhere, where the paper takes 6 on
    red mini-ImageNet. Two networks (`cotrain`) learn on the same batches in one step, where the paper trains one after
    the other. The paper initialises with contrastive pre-training: `simclr+lsa`.
    """

    warmup_epochs: int = parameter(1, ge=1, low=1, high=30, help="epochs on all labels before the first correction")
    guess_views: Literal[1, 2] = parameter(1, help="weak views whose mean prediction is the guess")
    contrastive: Literal["pls", "lsa", "none"] = parameter(
        "lsa", help="pairs weighted by trust (pls), pairs of the same class (lsa), or no contrastive term"
    )
    strong_on_flagged: bool = parameter(True, help="train flagged examples on a strong view")
    class_penalty: bool = parameter(False, help="penalise a mean prediction far from uniform")
    detector_cycle: list[Literal["linear", "loss", "oracle"]] = parameter(
        ["linear", "loss"], help="which detector's flags are used after each epoch, in turn"
    )
    support: Literal["loss", "trusted", "oracle"] = parameter(
        "loss", help="what the hyperplane is fitted to: small loss, the truth of some examples, or of all"
    )
    trusted: int = parameter(1000, ge=20, help="how many examples a trusted support has, drawn once")
    layer: int = parameter(
        1, ge=0, low=0, high=2, help="stage of the network whose pooled outputs are separated, from 0"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """The alternation, two voting networks, and the truth in either place."""
        quick = {"warmup_steps": 1, "threshold": 0.6}
        return (
            quick,
            {**quick, "cotrain": "vote", "support": "trusted", "trusted": 60},
            {**quick, "detector_cycle": ["oracle", "linear"], "support": "oracle", "contrastive": "none"},
        )

    @property
    def requirements(self) -> Requirements:
        """The separated stage, and the label status where it is used."""
        reads_status = self.support != "loss" or "oracle" in self.detector_cycle
        return dataclasses.replace(
            super().requirements,
            privileged=("label_status",) if reads_status else (),
            feature_stage=self.layer,
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """There is such a stage, and a detector to use."""
        problems = super().check(network, budget, examples)
        found = len(stages(network))
        if not found:
            problems.append(
                f"it separates the features of an early stage, but the stages of `{budget.network}` are not known; choose a "
                "network of noisybench or a residual network of torchvision, or give yours an attribute `stages`"
            )
        elif self.layer >= found:
            problems.append(f"layer: must be in [0, {found - 1}] for `{budget.network}`, but got {self.layer}")
        if not self.detector_cycle:
            problems.append("detector_cycle: give at least one of linear, loss, oracle")
        if self.support == "trusted" and self.trusted > examples:
            problems.append(f"trusted: there are {examples} training examples, but {self.trusted} shall be trusted")
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Nothing is flagged; the truth and the trusted examples, where they are used."""
        super().prepare(task, training_set)
        self.state["linear"] = torch.zeros(self.num_networks, len(training_set))
        if self.requirements.privileged:
            states = self.privileged.label_status
            self.state["wrong"] = (states == IN_DISTRIBUTION) | (states == OUT_OF_DISTRIBUTION)
        if self.support == "trusted":
            drawn = Stream("trusted", task.seed).permutation(len(training_set))[: self.trusted]
            self.state["trusted"] = torch.from_numpy(drawn)

    def on_epoch_end(self, task: Learner) -> None:
        """As in pseudo-loss selection, with the detector whose turn it is."""
        self._turn = turn(self.detector_cycle, task.current_epoch)
        super().on_epoch_end(task)

    def _detect(self, task: Learner, number: int) -> Tensor:
        """(N,) flags of one network by the detector in turn; the others' scores are kept for the record."""
        small_loss = self._small_loss(task, number)
        linear = self._separate(task, number, small_loss)
        if number == 0:
            self.diagnostics["uses_linear"] = float(self._turn == "linear")
        if self._turn == "oracle":
            return self.state["wrong"]
        return linear if self._turn == "linear" else small_loss

    def _separate(self, task: Learner, number: int, small_loss: Tensor) -> Tensor:
        """(N,) flags by the hyperplane; those of small loss where it cannot be fitted."""
        features = task.training_outputs(number).features
        assert features is not None
        support = small_loss if self.support == "loss" else self.state["wrong"]
        chosen = self.state["trusted"] if self.support == "trusted" else None
        if not can_be_separated(support if chosen is None else support[chosen]):
            self.state["linear"][number] = self.state["high_loss"][number]
            self.warnings.append(
                f"fewer than {SMALLEST_SIDE} examples on one side of the support: small loss instead of linear separation"
            )
            self.diagnostics["fell_back"] = 1.0
            return small_loss
        self.state["linear"][number] = linear_separation(features, support, chosen)
        flags = self.state["linear"][number] > 0.5
        if number == 0 and int(flags.sum()) > 2 * int(small_loss.sum()):
            self.warnings.append(
                f"linear separation flags {float(flags.float().mean()):.0%}, more than twice as many as small loss: it "
                "over-flags where there is little to separate"
            )
        return flags

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """One minus the mean of both detectors' probabilities, averaged over the networks."""
        return 1 - (self.state["high_loss"].mean(0) + self.state["linear"].mean(0)) / 2

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Small loss, linear separation, and the hybrid with the flags that the next epoch uses."""
        found = super().detectors(task, training_set)
        if found:
            linear = self.state["linear"].mean(0)
            found["linear"] = Detector(linear, (self.state["linear"] > 0.5).all(0))
            found["hybrid"] = Detector((self.state["high_loss"].mean(0) + linear) / 2, self.state["flags"][0])
        return found


def turn(cycle: list[Any], epoch: int) -> Any:
    """The detector after an epoch, counted from 0 over the whole run, so that a resumed run keeps the turn."""
    return cycle[epoch % len(cycle)]
