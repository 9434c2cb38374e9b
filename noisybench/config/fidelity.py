"""Fidelity cards: how true a component is to its reference, as data.

A card says what was compared, the largest difference, and every deviation. It is a class attribute of the component.
`noisybench describe`, the documentation and the page show it, and it is read from the source text, as parameters are. A
card describes code and is no part of it: editing one retrains nothing.

    class ELR(LossFunction):
        fidelity = Fidelity(
            reference="https://github.com/shengliu66/ELR",
            commit="934af53434a336b6db80d05d7649d23216e8ca6d",
            license="MIT",
            compared="loss, gradient and running averages over 8 steps",
            difference="7.6e-6 in the loss, 6e-8 in the averages",
            golden=("elr",),
        )
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Deviation:
    """One known difference from the reference.

    Attributes:
        what: what the reference does, and what is done here instead.
        why: reason.
        size: measured or bounded effect, with its unit; of a setting that has no number, what depends on it.

    Example:
        >>> Deviation("logarithm of zero is -4 instead of -9.21", "the value of the paper", "loss 4.37 instead of 9.17").size
        'loss 4.37 instead of 9.17'
    """

    what: str
    why: str
    size: str


@dataclass(frozen=True)
class Fidelity:
    """Fidelity card of a mitigation, noise model or metric.

    Attributes:
        reference: address of the repository or library of the reference; empty if there is none that is public.
        commit: full hash of the commit, or version of the library.
        compared: what was computed by both on the same numbers; without a reference, what the tests hold instead.
        difference: largest absolute difference, with what it is a difference of; empty without a reference.
        golden: names of the frozen vectors in `tests/golden`.
        deviations: every known deviation.
        license: license of the reference code by its name in SPDX, or `not stated`; empty without a reference.
        formula: computed quantity in plain text, with the names of parameters: L loss, CE cross-entropy, p predicted
            probabilities, y observed target, z scores, f features, C number of classes; empty where words say it.

    Example:
        >>> card = Fidelity("https://github.com/shengliu66/ELR", "934af53", "loss and gradient", "7.6e-6 in the loss")
        >>> card.is_exact
        True
    """

    reference: str
    commit: str
    compared: str
    difference: str = ""
    golden: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    license: str = ""
    formula: str = ""

    @property
    def is_exact(self) -> bool:
        """True if a reference was run and no deviation from it is known."""
        return bool(self.reference) and not self.deviations
