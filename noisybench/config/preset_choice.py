"""Choice of published settings: the row of a preset for a dataset and its noise, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from noisybench.config.budget import Budget
from noisybench.config.preset_conditions import (
    describe_condition,
    describe_setting,
    family_of,
    fits,
    fits_noise,
    fits_rate,
    num_classes,
)
from noisybench.config.presets import (
    CLASSES,
    PAPER,
    Presets,
    Row,
    format_settings,
    load_presets,
    mitigations_with_presets,
)
from noisybench.config.registry import list_entries
from noisybench.config.scalars import PlainScalar, is_null
from noisybench.config.spec import Component
from noisybench.errors import UserError, nearest, show


@dataclass(frozen=True)
class Choice:
    """Row of a preset that a member of a stack uses.

    Attributes:
        mitigation: name of the mitigation.
        preset: value of its parameter `preset`.
        name: name of the row.
        row: the row.
        privileged: privileged information that the row depends on.
    """

    mitigation: str
    preset: str
    name: str
    row: Row
    privileged: tuple[str, ...] = ()


@dataclass
class Choices:
    """Rows that the members of a stack use.

    Attributes:
        dataset: dataset of the run; None if it is invalid.
        noise: noise model of the run; None if it is invalid.
        by_name: rows by the name of the mitigation.
    """

    dataset: Component | None
    noise: Component | None
    by_name: dict[str, Choice] = field(default_factory=dict)

    def fill_in(self, member: Any, problems: list[str]) -> Any:
        """Return a member of the stack with the settings of its preset, which explicit values replace."""
        if not isinstance(member, Mapping) or is_null(member.get("preset")):
            return member
        preset, name = str(member["preset"]), str(member.get("name"))
        # Problems of the dataset or the noise are reported already, and an unknown mitigation where it is resolved.
        if self.dataset is None or self.noise is None or name not in list_entries("mitigations"):
            return member
        try:
            choice = choose(name, preset, self.dataset, self.noise)
        except UserError as error:
            problems += error.problems
            return member
        self.by_name[name] = choice
        return {**choice.row.settings, **member}

    def fill_in_budget(self, raw: Any, problems: list[str]) -> Any:
        """Return a budget in which the text `paper`, or the field `preset`, is replaced by the published budget.

        Explicit fields replace published ones.
        """
        if isinstance(raw, str) and not isinstance(raw, PlainScalar):
            if raw != PAPER:
                problems.append(
                    f"budget: expected a mapping of network and other fields, or `{PAPER}`, but got {show(raw)}"
                )
                return {}
            raw = {"preset": raw}
        if not isinstance(raw, Mapping) or "preset" not in raw:
            return raw
        explicit = {key: value for key, value in raw.items() if key != "preset"}
        if is_null(raw["preset"]):
            return explicit
        if raw["preset"] != PAPER:
            problems.append(f"budget.preset: must be `{PAPER}`, but got {show(raw['preset'])}")
            return explicit
        published = list(self.by_name.values())
        if not published:
            # A problem with the preset itself is reported already.
            if not problems:
                problems.append(
                    "budget: `paper` is the published budget of a preset, but no mitigation of the stack has one; write for "
                    f"example mitigations=elr(preset=paper) (with presets: {', '.join(mitigations_with_presets())})"
                )
            return explicit
        first, *others = published
        for other in others:
            differing = {
                key
                for key in {*first.row.budget, *other.row.budget} - {*explicit}
                if first.row.budget.get(key) != other.row.budget.get(key)
            }
            if differing:
                problems.append(
                    f"budget: {first.mitigation} and {other.mitigation} were published with different budgets "
                    f"({', '.join(sorted(differing))}); give these fields, such as budget.{min(differing)}=..."
                )
        return {**first.row.budget, **explicit}

    def complete(self, component: Component) -> Component:
        """Return a member of the stack with what its preset says about its parameters."""
        choice = self.by_name.get(component.name)
        if choice is None:
            return component
        unchanged = tuple(key for key, value in choice.row.settings.items() if component.parameters[key] == value)
        return Component(component.kind, component.name, component.parameters, unchanged, choice.privileged)

    def notes(self, stack: tuple[Component, ...], budget: Budget) -> tuple[str, ...]:
        """Return the differences of budgets from the published ones, and settings that were published for other data."""
        lines = []
        for member in stack:
            choice = self.by_name.get(member.name)
            found = (
                [self._preset_note(choice), _budget_note(choice, budget)] if choice else [self._default_note(member)]
            )
            lines += [f"{member.name}: {line}" for line in found if line]
        return tuple(lines)

    def _preset_note(self, choice: Choice) -> str:
        """Return a line if a named row was published for another dataset or noise than those of the run."""
        if self.dataset is None or self.noise is None or fits(choice.row, self.dataset, self.noise):
            return ""
        return (
            f"preset={choice.preset} was published for {describe_condition(choice.row)}, and this run has "
            f"{describe_setting(self.dataset, self.noise)}"
        )

    def _default_note(self, member: Component) -> str:
        """Return a line if parameters have their defaults, which were published for other data than those of the run."""
        presets = load_presets(member.name)
        if presets is None or presets.defaults is None or self.dataset is None or self.noise is None:
            return ""
        default, family = presets.rows[presets.defaults], family_of(self.dataset)
        kept = {key: value for key, value in default.settings.items() if member.parameters[key] == value}
        classes, published_for = num_classes(self.dataset), default.when.dataset
        if not kept or published_for is None or family == published_for:
            return ""
        rows = {name: row for name, row in presets.rows.items() if row.when.dataset == family}
        if not rows:
            is_other = classes is not None and classes != CLASSES.get(published_for)
            return (
                f"{_origin(kept, default, published_for)}, and this dataset has {classes} classes" if is_other else ""
            )
        try:
            choice = choose(member.name, PAPER, self.dataset, self.noise)
        except UserError:
            preset, row = max(rows.items(), key=lambda item: item[1].settings != default.settings)
        else:
            preset, row = choice.preset, choice.row
        kept = {key: value for key, value in kept.items() if row.settings.get(key, value) != value}
        if not kept:
            return ""
        those = "that" if len(kept) == 1 < len(default.settings) else "those"
        return f"{_origin(kept, default, published_for)}; preset={preset} has {those} of {family}"


def _origin(kept: Mapping[str, Any], default: Row, published_for: str) -> str:
    """Return a clause on the data for which the defaults of some parameters were published."""
    if len(kept) == len(default.settings):
        return f"its defaults are those of {published_for}"
    if len(kept) == 1:
        return f"the default of {next(iter(kept))} is that of {published_for}"
    return f"the defaults of {', '.join(kept)} are those of {published_for}"


def choose(mitigation: str, preset: str, dataset: Component, noise: Component) -> Choice:
    """Return the row of a preset.

    Args:
        mitigation: name of the mitigation.
        preset: ``paper``, which selects the row by dataset and noise, or the name of a row.
        dataset: dataset of the run.
        noise: noise model of the run.

    Raises:
        UserError: no row fits, or none has the name.

    Example:
        >>> dataset = Component("datasets", "cifar10", {})
        >>> noise = Component("noise_models", "asymmetric", {"rate": 0.4})
        >>> choice = choose("elr", "paper", dataset, noise)
        >>> choice.name, choice.privileged
        ('cifar10-asymmetric', ('noise_type',))
        >>> choose("elr", "cifar10-asymmetric", dataset, noise).privileged
        ('noise_type',)
        >>> choose("elr", "cifar100", dataset, noise).privileged
        ()
    """
    presets = load_presets(mitigation)
    location = f"mitigations.{mitigation}.preset"
    if presets is None:
        raise UserError(
            f"{location}: no settings of this mitigation were published; set its parameters (with presets: "
            f"{', '.join(mitigations_with_presets())})"
        )
    if preset != PAPER:
        if preset not in presets.rows:
            raise UserError(
                f"{location}: unknown preset {show(preset, quotes=False)}; {nearest(preset, [PAPER, *presets.rows])}"
            )
        name, row = preset, presets.rows[preset]
        return Choice(mitigation, preset, name, row, _privileged(presets, row, row.when.dataset, dataset, noise))
    family = family_of(dataset)
    fitting = [name for name, row in presets.rows.items() if fits(row, dataset, noise)]
    if not fitting:
        raise UserError(_refusal(location, presets, dataset, noise))
    row = presets.rows[fitting[0]]
    return Choice(mitigation, preset, fitting[0], row, _privileged(presets, row, family, dataset, noise))


def _privileged(
    presets: Presets, row: Row, family: str | None, dataset: Component, noise: Component
) -> tuple[str, ...]:
    """Return what has to be known about the noise to choose a row among those of a dataset.

    A row that is named although the run has another noise cannot have been chosen by it.
    """
    if not fits_noise(row, noise):
        return ()
    rows = [other for other in presets.rows.values() if other.when.dataset in (None, family)]
    of_noise = [other for other in rows if fits_noise(other, noise)]
    by_rate = fits_rate(row, dataset, noise) and any(
        other.settings != row.settings for other in of_noise if other.when.rates
    )
    by_type = any(other.settings != row.settings for other in rows if not fits_noise(other, noise))
    return (*(("noise_rate",) if by_rate else ()), *(("noise_type",) if by_type else ()))


def _refusal(location: str, presets: Presets, dataset: Component, noise: Component) -> str:
    """Return the message for settings that no row fits, with all rows."""
    setting = describe_setting(dataset, noise)
    rows = "; ".join(f"{name} ({describe_condition(row)})" for name, row in presets.rows.items())
    example = next(iter(presets.rows))
    return (
        f"{location}: no settings were published for {setting}; name one, such as preset={example}. Published: {rows}"
    )


def _budget_note(choice: Choice, budget: Budget) -> str:
    """Return a line with the fields in which a budget differs from the published one; empty if there are none."""
    published = Budget(**choice.row.budget)
    differing = {
        name: getattr(published, name)
        for name in choice.row.budget
        if getattr(budget, name) != getattr(published, name)
    }
    if not differing:
        return ""
    return (
        f"the published budget of preset={choice.preset} differs: {format_settings(differing)} (budget={PAPER} sets it)"
    )
