"""Text of a fidelity card."""

from __future__ import annotations

from noisybench.config.fidelity import Fidelity


def describe_fidelity(card: Fidelity) -> str:
    """Return a fidelity card as lines of text.

    Example:
        >>> card = Fidelity("https://github.com/shengliu66/ELR", "934af53", "loss and gradient", "7.6e-6 in the loss")
        >>> print(describe_fidelity(card))
        reference: https://github.com/shengliu66/ELR @ 934af53
        compared: loss and gradient
        largest difference: 7.6e-6 in the loss
        deviations: none known
    """
    lines = [f"reference: {card.reference} @ {card.commit}" if card.reference else "reference: none that is public"]
    lines.append(f"{'compared' if card.reference else 'tested'}: {card.compared}")
    if card.difference:
        lines.append(f"largest difference: {card.difference}")
    lines.append("deviations:" if card.deviations else "deviations: none known")
    for deviation in card.deviations:
        lines += [f"  - {deviation.what}", f"    reason: {deviation.why}", f"    effect: {deviation.size}"]
    return "\n".join(lines)
