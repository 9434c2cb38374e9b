"""Perceptrons on frozen features."""

from __future__ import annotations

from noisybench.mitigations._heads import OnMLP


class MLPProbe(OnMLP):
    """Trains a multilayer perceptron on the frozen features of a pre-trained backbone.

    It is the head of `nmtune` without its regularisers, and so the control that tells them from its capacity.
    """
