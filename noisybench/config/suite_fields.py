"""Fields of suites."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from noisybench.config.validation import KEEP_TEXT, strict_config

Seed = Annotated[int, pydantic.Field(ge=0, lt=2**63)]
"""Seed of a run."""


def _check_distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed may be given once, because a second run would be the same")
    return seeds


Seeds = Annotated[list[Seed], pydantic.AfterValidator(_check_distinct)]
"""Different seeds."""


class Setting(pydantic.BaseModel):
    """One item of `settings`: task, dataset and noise, by default those of the base, and stacks instead of those of the suite."""

    model_config = strict_config()

    task: Annotated[Any, KEEP_TEXT] = None
    dataset: Annotated[Any, KEEP_TEXT] = None
    noise: Annotated[Any, KEEP_TEXT] = None
    stacks: Annotated[list[Any] | None, KEEP_TEXT] = pydantic.Field(None, min_length=1)


class SeededStack(pydantic.BaseModel):
    """One item of `stacks` whose runs have seeds of their own, such as more of them for a stack that is cheap to train."""

    model_config = strict_config()

    stack: Annotated[Any, KEEP_TEXT]
    seeds: Seeds = pydantic.Field(min_length=1)


class Figure(pydantic.BaseModel):
    """One item of `figures`."""

    model_config = strict_config()

    title: str = pydantic.Field(pattern="[A-Za-z0-9]", max_length=100)
    """Title, from which the name of the file is derived."""
    x: str = pydantic.Field(min_length=1)
    """Field of the runs such as ``mitigations.el2n.offset``, or ``probe.rank``."""
    y: list[Annotated[str, pydantic.Field(min_length=1)]] = pydantic.Field(min_length=1)
    """Names of metrics."""


class Suite(pydantic.BaseModel):
    """Fields of a suite."""

    model_config = strict_config()

    description: str = ""
    base: Annotated[dict[str, Any], KEEP_TEXT] = {}
    settings: Annotated[list[Any] | None, KEEP_TEXT] = None
    datasets: Annotated[list[Any] | None, KEEP_TEXT] = None
    noise: Annotated[list[Any] | None, KEEP_TEXT] = None
    noise_seeds: Seeds | None = None
    stacks: Annotated[list[Any] | None, KEEP_TEXT] = None
    seeds: Seeds | None = None
    figures: Annotated[list[Any], KEEP_TEXT] = []
    metric: Literal["default", "balanced_accuracy"] = "default"
    """Metric by which its stacks are ranked: that of the task, or balanced accuracy."""
