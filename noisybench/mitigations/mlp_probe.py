"""Probing with a multilayer perceptron."""

from __future__ import annotations

from noisybench.config.fidelity import Fidelity
from noisybench.mitigations._probe_heads import MLPHeadBuilder


class MLPProbe(MLPHeadBuilder):
    """Train a multilayer perceptron on frozen features of a pre-trained backbone.

    This is the head of `nmtune` without its regularizers: the control that separates their effect from that of the
    head's capacity.
    """

    fidelity = Fidelity(
        reference="https://github.com/Hhhhhhao/Noisy-Model-Learning",
        commit="f249dceebd08523acbef868ece897d4fce42c9e1",
        license="not stated",
        compared="outputs of the head with 1 and 2 hidden layers, in training and evaluation",
        difference="1.8e-7 in the outputs",
        golden=("nmtune",),
    )
