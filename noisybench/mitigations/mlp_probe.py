"""Probing with a multilayer perceptron."""

from __future__ import annotations

from noisybench.mitigations._probe_heads import MLPHeadBuilder


class MLPProbe(MLPHeadBuilder):
    """Train a multilayer perceptron on frozen features of a pre-trained backbone.

    This is the head of `nmtune` without its regularizers: the control that separates their effect from that of the
    head's capacity.
    """
