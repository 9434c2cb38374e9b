"""Pseudo-loss selection."""

from __future__ import annotations

from typing import Any

from noisybench.mitigations._pseudo_loss import PseudoLossSelection


class PLS(PseudoLossSelection):
    """Detect label noise and weight pseudo-labels by their own loss (pseudo-loss selection).

    After a warm-up with mixup, a two-component mixture of the losses flags labels (Albert et al. 2023). The target of a
    flagged example is the sharpened mean prediction of two weak views, weighted by the posterior probability of a low
    loss of that pseudo-label among the flagged examples (the pseudo-loss). Training continues with mixup, a contrastive
    term between class supervision and instance discrimination by that weight, and a penalty on unbalanced predictions.
    Every epoch starts from the observed labels.

    Defaults are those of the paper except the warm-up, which it sets by dataset: 30 epochs on CIFAR-100, 1 on red
    mini-ImageNet, 10 on fine-grained web images. `cotrain` adds a second network; both are trained on the same batches
    in one step. Published runs use mixed precision and select the best test epoch; see `configs/recipes`.
    """

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return one network, and two that use each other's flags."""
        quick = {"warmup_steps": 1, "flag_threshold": 0.6}
        return quick, {**quick, "cotrain": "cross", "contrastive": "none", "pseudo_label_views": 1}
