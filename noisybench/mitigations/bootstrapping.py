"""Bootstrapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

DEFAULT_LABEL_WEIGHT = {"soft": 0.95, "hard": 0.8}
"""Weights of the observed target in the paper, by mode."""


class Bootstrapping(LossFunction):
    """Mix targets with the network's own predictions (bootstrapping).

    The target is a weighted mean of the observed label and the prediction, so a confident prediction outweighs an
    incorrect label (Reed et al. 2015). Mode `soft` mixes in the predicted probabilities, through which the gradient
    flows; `hard` mixes in the predicted class.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    fidelity = Fidelity(
        formula="L = CE(p, label_weight · y + (1 - label_weight) · p),  hard: the one-hot argmax of p in place of the second p",
        reference="https://github.com/YisenWang/symmetric_cross_entropy_for_noisy_labels",
        commit="ec778df4a15192f8ccee2efb0fce8b94b8e00262",
        license="not stated",
        compared="loss and gradient of 6 examples at 2 and 10 classes and two scales of logits, in both modes with "
        "the weights .95 and .8; the authors of the method published no code",
        difference="4.8e-7 in the loss, 1.2e-7 in the gradient",
        golden=("sce",),
        deviations=(
            Deviation(
                "the authors clip probabilities at 1e-7, as Keras does; here the loss is exact",
                "exact losses and gradients of the hardest examples",
                "none for probabilities above 1e-7; theirs is at most 16.1 nats and has no gradient below",
            ),
        ),
    )

    mode: Literal["soft", "hard"] = parameter(
        "hard", help="Prediction to mix in: the probabilities, or the most likely class"
    )
    label_weight: float | None = parameter(
        None, ge=0, le=1, low=0.5, high=0.99, help="Weight of the observed target; by default 0.95 (soft) or 0.8 (hard)"
    )

    @property
    def requirements(self) -> Requirements:
        """Nothing; data-parallel training is supported."""
        return Requirements(distributed_state={})

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return both modes."""
        return {"mode": "soft"}, {"mode": "hard"}

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the cross-entropy against the mixed targets."""
        return bootstrapped_cross_entropy(task.logits(batch.inputs), batch.targets, self.mode, self.target_weight)

    @property
    def target_weight(self) -> float:
        """Weight of the observed target."""
        return DEFAULT_LABEL_WEIGHT[self.mode] if self.label_weight is None else self.label_weight


def bootstrapped_cross_entropy(logits: Tensor, targets: Tensor, mode: str, label_weight: float) -> Tensor:
    """Return (B,) nats of (B, C) logits against targets that are mixed with the network's own prediction.

    >>> logits, targets = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
    >>> bootstrapped_cross_entropy(logits, targets, "soft", label_weight=0.5)
    tensor([0.6931])
    """
    logits = logits.float()
    num_classes = logits.shape[1]
    # Not detached: the soft mode is defined with a gradient through the prediction; `argmax` has none.
    prediction = logits.softmax(1) if mode == "soft" else functional.one_hot(logits.argmax(1), num_classes).to(logits)
    mixed = torch.lerp(prediction, targets.to(logits.dtype), label_weight)
    return -(mixed * logits.log_softmax(1)).sum(1)
