"""Linear separation alternation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.targets import IN_DISTRIBUTION, OUT_OF_DISTRIBUTION
from noisybench.mitigations._detection import MIN_EXAMPLES_PER_SIDE, can_be_separated, linear_separation
from noisybench.mitigations._pseudo_loss import PseudoLossSelection
from noisybench.nn.features import stages
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import Detector
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class LSA(PseudoLossSelection):
    """Alternate a linear separation of early features with small-loss detection (LSA).

    This is PLS with another detector (Albert et al. 2024). Out-of-distribution images are almost linearly separable from
    the others in early features. A logistic regression on the flags of the small-loss detector finds that direction;
    used every other epoch, it flags out-of-distribution images without losing the simple clean ones that small loss
    keeps. The detector after epoch e is entry e modulo the length of `detector_cycle`. The detector `oracle` uses
    privileged information, as does a `support` of trusted examples. With fewer than ten flags on either side, the
    small-loss flags are used instead, and the row has a warning.

    As in the authors' code, pseudo-labels are predicted from the last epoch of the warm-up on, so that the first epoch of
    correction has weights; these forward passes update the running statistics of batch normalization. The published
    two-network version is `cotrain=consensus`. The paper initializes with contrastive pre-training: `simclr+lsa`.
    """

    fidelity = Fidelity(
        reference="https://github.com/PaulAlbert31/LSA",
        commit="1b2ca0cd3a4209da170b8c3fc24e9625a47e209a",
        license="not stated",
        compared="loss, gradient, batch statistics and pseudo-labels of a batch in the warm-up, in the first epoch of correction "
        "and later, without and with the penalty; flags and weights by loss and by linear separation; flags and weights "
        "of two networks with cotrain=consensus, cross and independent; layout of the authors' checkpoints",
        difference="4.8e-7 in the loss, 3.6e-7 in gradients, 6.0e-8 in statistics, no flag, 4.2e-7 in weights",
        golden=("lsa", "lsa_checkpoint"),
        deviations=(
            Deviation(
                "two networks learn on the same batches in one step; the authors train the second one after the first, on an "
                "order and views of its own",
                "half of the views, and pseudo-labels of both networks from one pass",
                "pseudo-labels of the second network come from the first one as it was before the epoch's remaining steps",
            ),
            Deviation(
                "with cotrain=consensus, both networks have the mean of both weights; in the authors' code, the second one "
                "keeps those of the first alone, which the paper does not mention",
                "an oversight: the mean is assigned to one of two variables",
                "0.19 on average and at most 0.49 on the flagged examples of the frozen vectors",
            ),
            Deviation(
                "each network has pseudo-labels of its own in the last epoch of the warm-up, and with cotrain=independent; in "
                "the authors' code two names stand for one table, which the second network overwrites",
                "an oversight: with a table each, a network is weighted on its own or the other's pseudo-labels as written",
                "none after the warm-up if both share their pseudo-labels; otherwise weights of one network, by up to 1",
            ),
            Deviation(
                "with fewer than ten flags on a side, the small-loss flags replace those of the separation; the authors' code "
                "fails if there are none",
                "a hyperplane cannot be fitted",
                "no epoch with at least ten flags on each side",
            ),
            Deviation(
                "no detector by neighbors (rrl) and no co-training by plain vote",
                "ablations of the paper",
                "not available",
            ),
            Deviation(
                "the warm-up lasts at least 150 steps by default; it is one epoch in the authors' code",
                "small datasets have few steps per epoch, after which small loss flags whole classes",
                "none with warmup_steps=0, as in preset=paper, nor with at least 150 steps per epoch",
            ),
            Deviation(
                "crops of the strong and contrastive views are resized bilinearly; bicubically in the authors' code",
                "views are drawn in batches on the training device",
                "pixel values of these views; its effect on a run has not been measured",
            ),
            Deviation(
                "the mixture starts from a fixed random state; the authors' code seeds nothing",
                "a resumed or repeated run has the same flags",
                "over 20 random states, at most 3 of 50,000 simulated examples change sides at 20 or 50 % noise, 930 at 80 %",
            ),
        ),
    )

    predicts_in_warmup = True

    warmup_epochs: int = parameter(
        1, ge=1, low=1, high=30, help="Epochs on all labels before the first correction (at least)"
    )
    pseudo_label_views: Literal[1, 2] = parameter(
        1, help="Number of weak views whose mean prediction is the pseudo-label"
    )
    contrastive: Literal["pls", "lsa", "none"] = parameter(
        "lsa",
        help="Contrastive term: pairs weighted by pseudo-label weights (pls), pairs of the same class (lsa), or none",
    )
    strong_on_flagged: bool = parameter(True, help="Train flagged examples on a strong view")
    uniform_prior: bool = parameter(False, help="Penalize a mean prediction that differs from the uniform distribution")
    detector_cycle: list[Literal["linear", "loss", "oracle"]] = parameter(
        ["linear", "loss"], help="Detectors whose flags are used after successive epochs, in turn"
    )
    support: Literal["loss", "trusted", "oracle"] = parameter(
        "loss",
        help="Flags that the linear separation is fitted to: small loss, or the true status of some (trusted) or all "
        "(oracle) examples (privileged)",
    )
    trusted_examples: int = parameter(1000, ge=20, help="Number of examples in a trusted support, drawn once")
    layer: int = parameter(
        1, ge=0, low=0, high=2, help="Stage of the network whose pooled outputs are separated, from 0"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the alternation, two networks in consensus, and the true status for detector and support."""
        quick = {"warmup_steps": 1, "flag_threshold": 0.6}
        return (
            quick,
            {**quick, "cotrain": "consensus", "support": "trusted", "trusted_examples": 60},
            {**quick, "detector_cycle": ["oracle", "linear"], "support": "oracle", "contrastive": "none"},
        )

    @property
    def requirements(self) -> Requirements:
        """The separated stage, and the status of labels if it is used."""
        reads_status = self.support != "loss" or "oracle" in self.detector_cycle
        return dataclasses.replace(
            super().requirements,
            privileged=("label_status",) if reads_status else (),
            feature_stage=self.layer,
        )

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that the stage exists, that there is a detector, and that there are enough trusted examples."""
        problems = super().check(network, budget, examples)
        num_stages = len(stages(network))
        if not num_stages:
            problems.append(
                f"LSA separates the features of an early stage, but the stages of `{budget.network}` are not known; choose "
                "a network of noisybench or a residual network of torchvision, or set an attribute `stages` on your network"
            )
        elif self.layer >= num_stages:
            problems.append(f"layer: must be in [0, {num_stages - 1}] for `{budget.network}`, but got {self.layer}")
        if not self.detector_cycle:
            problems.append("detector_cycle: list at least one of linear, loss, oracle")
        if self.support == "trusted" and self.trusted_examples > examples:
            problems.append(
                f"trusted_examples: must be at most {examples}, the number of training examples, but got "
                f"{self.trusted_examples}"
            )
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Flag nothing, and store the true status and the trusted examples if they are used."""
        super().prepare(task, training_set)
        self.state["linear"] = torch.zeros(self.num_networks, len(training_set))
        if self.requirements.privileged:
            status = self.privileged.label_status
            self.state["mislabeled"] = (status == IN_DISTRIBUTION) | (status == OUT_OF_DISTRIBUTION)
        if self.support == "trusted":
            # A stream of its own: the draw depends on the seed only, and does not shift any other random numbers.
            drawn = Stream("trusted", task.seed).permutation(len(training_set))[: self.trusted_examples]
            self.state["trusted"] = torch.from_numpy(drawn)

    def on_epoch_end(self, task: Learner) -> None:
        """Flag labels with the detector of this epoch."""
        # Before the call of the parent class, which detects with it.
        self._detector = detector_of_epoch(self.detector_cycle, task.current_epoch)
        super().on_epoch_end(task)

    def _detect(self, task: Learner, number: int) -> Tensor:
        """Return the (N,) flags of one network by the detector of this epoch.

        The scores of the other detectors are computed as well, for the record.
        """
        # Small loss is needed in every epoch, because its flags are the default support of the separation.
        loss_flags = self._detect_by_loss(task, number)
        linear_flags = self._detect_by_separation(task, number, loss_flags)
        if number == 0:
            self.diagnostics["uses_linear"] = float(self._detector == "linear")
        if self._detector == "oracle":
            return self.state["mislabeled"]
        return linear_flags if self._detector == "linear" else loss_flags

    def _detect_by_separation(self, task: Learner, number: int, loss_flags: Tensor) -> Tensor:
        """Return the (N,) flags by the hyperplane, or those of small loss if it cannot be fitted."""
        features = task.training_outputs(number).features
        # The requirements name a stage, so its features are part of the outputs.
        assert features is not None
        flags = loss_flags if self.support == "loss" else self.state["mislabeled"]
        support = self.state["trusted"] if self.support == "trusted" else None
        if not can_be_separated(flags if support is None else flags[support]):
            # Label quality averages both detectors, so a zero left here would count as evidence for every label.
            self.state["linear"][number] = self.state["high_loss"][number]
            self.warnings.append(
                f"fewer than {MIN_EXAMPLES_PER_SIDE} examples on one side of the support: small loss is used instead of "
                "linear separation"
            )
            self.diagnostics["fell_back"] = 1.0
            return loss_flags
        self.state["linear"][number] = linear_separation(features, flags, support)
        linear_flags = self.state["linear"][number] > 0.5
        # The separation has balanced classes, so it flags many examples if hardly any label is incorrect.
        if number == 0 and int(linear_flags.sum()) > 2 * int(loss_flags.sum()):
            self.warnings.append(
                f"linear separation flags {float(linear_flags.float().mean()):.0%}, more than twice as many as small loss: "
                "it over-flags if there is little to separate"
            )
        return linear_flags

    def label_quality(self, task: Learner, training_set: TrainingSet) -> Tensor:
        """Return one minus the mean probability of both detectors, averaged over the networks."""
        return 1 - (self.state["high_loss"].mean(0) + self.state["linear"].mean(0)) / 2

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return small loss, linear separation, and their mean with the flags that the next epoch uses."""
        detectors = super().detectors(task, training_set)
        if detectors:
            linear = self.state["linear"].mean(0)
            detectors["linear"] = Detector(linear, (self.state["linear"] > 0.5).all(0))
            detectors["hybrid"] = Detector((self.state["high_loss"].mean(0) + linear) / 2, self.state["flags"][0])
        return detectors


def detector_of_epoch(cycle: Sequence[str], epoch: int) -> str:
    """Return the detector after an epoch, counted from 0 over the whole run, so that a resumed run uses the same.

    >>> [detector_of_epoch(["linear", "loss"], epoch) for epoch in range(3)]
    ['linear', 'loss', 'linear']
    """
    return cycle[epoch % len(cycle)]
