"""Text of the card of a mitigation, noise model or dataset; the leaderboard page shows the same facts."""

from __future__ import annotations

from collections.abc import Iterable

from noisybench.cli.fidelity_text import describe_fidelity, describe_license
from noisybench.cli.preset_text import describe_presets
from noisybench.config.component_card import ComponentCard, ParameterText


def describe_card(card: ComponentCard) -> str:
    """Return a card as blocks of lines, without its documentation.

    Example:
        >>> from noisybench.config.component_card import component_card
        >>> from noisybench.config.registry import get_entry
        >>> print(describe_card(component_card(get_entry("mitigations", "gce"))))  # doctest: +ELLIPSIS
        use: noisybench run digits mitigations=gce
        formula: L = (1 - p_y^q) / q
        paper: Zhang and Sabuncu 2018, ..., https://arxiv.org/abs/1805.07836
        tasks: classification, segmentation, chain_of_thought
        privileged information: none
        ...
    """
    facts = [f"use: {card.command}"]
    if card.formula:
        facts.append(f"formula: {card.formula}")
    facts += [f"paper: {paper.citation}, {paper.title}, {paper.url}" for paper in card.papers]
    facts.append(f"tasks: {', '.join(card.tasks)}")
    if card.kind == "mitigations":
        facts.append(f"privileged information: {', '.join(use.text for use in card.privileged) or 'none'}")
    if card.convention:
        facts.append(f"noise rate: {card.convention}")
    blocks = ["\n".join(facts), describe_parameters(card.parameters)]
    if card.license:
        blocks.append(describe_license(card.license))
    if card.fidelity:
        blocks.append(describe_fidelity(card.fidelity))
    if card.presets:
        blocks.append(describe_presets(card.presets))
    return "\n\n".join(block for block in blocks if block)


def describe_parameters(parameters: Iterable[ParameterText]) -> str:
    """Return declarations of parameters, two lines each.

    Example:
        >>> print(describe_parameters([ParameterText("q", "0.7", "float", "(0, 1]", "", "Exponent")]))
        q = 0.7    (float, allowed (0, 1])
            Exponent
    """
    lines = []
    for each in parameters:
        allowed = f", allowed {each.allowed}" if each.allowed else ""
        search = f", search {each.search}" if each.search else ""
        lines += [f"{each.name} = {each.default}    ({each.kind}{allowed}{search})", f"    {each.help}"]
    return "\n".join(lines)
