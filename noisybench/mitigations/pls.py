"""Pseudo-loss selection."""

from __future__ import annotations

from typing import Any

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.mitigations._pseudo_loss import PseudoLossSelection


class PLS(PseudoLossSelection):
    """Detect label noise and weight pseudo-labels by their own loss (pseudo-loss selection).

    After a warm-up with mixup, a two-component mixture of the losses flags labels (Albert et al. 2023). The target of a
    flagged example is the sharpened mean prediction of two weak views, weighted by the posterior probability of a low
    loss of that pseudo-label among the flagged examples (the pseudo-loss). Training continues with mixup, a contrastive
    term between class supervision and instance discrimination by that weight, and a penalty on unbalanced predictions.
    Every epoch starts from the observed labels.

    Defaults are those of the paper except the warm-up, which it sets by dataset, and the threshold, which is 0.5 on
    CIFAR-100 with 80 % noise: `preset=paper` has these settings. `cotrain` adds a second network; both are trained on the
    same batches in one step. Published runs use mixed precision and select the best test epoch.
    """

    fidelity = Fidelity(
        reference="https://github.com/PaulAlbert31/PLS",
        commit="c48443d6cd585824c666ed31941fe9cd1961f79c",
        license="not stated",
        compared="loss, gradient, batch statistics and pseudo-labels of a training step in the warm-up, in the first epoch of "
        "correction and later; flags and weights are computed by the same functions as those of LSA",
        difference="4.8e-7 in the loss, 1.9e-6 in a gradient of 1.3 (single precision), 1.5e-8 in statistics, none in "
        "pseudo-labels",
        golden=("pls",),
        deviations=(
            Deviation(
                "the warm-up lasts at least 150 steps by default; the authors' code counts epochs alone",
                "small datasets have few steps per epoch, after which small loss flags whole classes",
                "none with warmup_steps=0, as in preset=paper; on digits 8 epochs instead of 1",
            ),
            Deviation(
                "networks start from PyTorch's default initialization; the authors' network from Kaiming's normal one",
                "the network is shared with DivideMix and LSA, whose authors use the default",
                "weights of convolutions between equal numbers of channels are 2.4 times smaller",
            ),
            Deviation(
                "crops of the contrastive view are resized bilinearly; bicubically in the authors' code",
                "views are drawn in batches on the training device",
                "pixel values of one of the views; its effect on a run has not been measured",
            ),
            Deviation(
                "with at most two flagged examples, all weights are 1; the authors' code keeps those of an earlier epoch",
                "weights belong to the pseudo-labels of their epoch",
                "at most two examples",
            ),
            Deviation(
                "the mixture starts from a fixed random state; the authors' code seeds nothing",
                "a resumed or repeated run has the same flags",
                "over 20 random states, at most 3 of 50,000 simulated examples change sides at 20 or 50 % noise, 930 at 80 %",
            ),
        ),
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return one network, and two that use each other's flags."""
        quick = {"warmup_steps": 1, "flag_threshold": 0.6}
        return quick, {**quick, "cotrain": "cross", "contrastive": "none", "pseudo_label_views": 1}
