"""Pseudo-loss selection."""

from __future__ import annotations

from typing import Any

from noisybench.mitigations._pseudo_loss import PseudoLossSelection


class PLS(PseudoLossSelection):
    """Pseudo-loss selection: a two-stage detection of wrong labels and of wrong guesses (Albert et al. 2023).

    After a warm-up with mixup, a two-component mixture on the losses flags labels. Flagged examples get the sharpened
    mean prediction of two weak views as target, weighted by the posterior of a low loss of that guess among the
    flagged (the pseudo-loss). Training goes on with mixup, a contrastive term between class supervision and instance
    discrimination by that weight, and a penalty on unbalanced predictions. Every epoch starts from the observed labels.

    Defaults are the paper's but for the warm-up, which it chooses by dataset: 30 epochs on CIFAR-100, 1 on red
    mini-ImageNet, 10 on fine-grained web images. `cotrain` adds a second network; both are trained on the same batches
    in one step. Published runs mix precision and select the best test epoch; see `configs/recipes`.
    """

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """One network, and two that each use the other's flags."""
        quick = {"warmup_steps": 1, "threshold": 0.6}
        return quick, {**quick, "cotrain": "exchange", "contrastive": "none", "guess_views": 1}
