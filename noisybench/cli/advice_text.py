"""Advice as lines of text."""

from __future__ import annotations

from noisybench.advice.choice import MIN_INTERVAL_REPLICATES, Choice


def describe_choice(choice: Choice, redraws_splits: bool) -> list[str]:
    """Return a choice in sentences, with how sure it is."""
    means = ", ".join(f"{stack} {100 * mean:.1f}" for stack, mean in choice.means.items())
    lines = [f"Advice: {choice.stack}", f"Score on noisy validation labels, mean of {choice.replicates}: {means}."]
    if choice.difference is not None:
        interval = (
            f" [{100 * choice.low:.1f}, {100 * choice.high:.1f}]"
            if choice.low is not None and choice.high is not None
            else f" (no interval: {choice.replicates} of {MIN_INTERVAL_REPLICATES} runs of each stack that it needs)"
        )
        lines.append(f"Against cross-entropy: {100 * choice.difference:+.1f} points{interval}.")
    if choice.probability is not None:
        lines.append(
            f"Probability of being the best of these {len(choice.means)} by this score: {choice.probability:.2f}."
        )
    if len(choice.tied) > 1:
        lines.append(f"Tied: {', '.join(choice.tied)}; {choice.stack} gained most of them in measured settings.")
    lines.append(
        "Intervals include the draw of the validation examples."
        if redraws_splits
        else "All runs share their validation examples, whose draw the interval leaves out."
    )
    return lines
