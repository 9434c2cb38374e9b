"""Published settings of mitigations, as data: `configs/presets/NAME.yaml`.

A file lists rows. A row says for which dataset and noise the authors published settings (`when`), the parameters of the
mitigation (`settings`), the budget that they trained with (`budget`), where this is written (`source`), the results that it
reproduces (`expect`), and what differs here (`deviations`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry, list_entries
from noisybench.config.scalars import plain_value
from noisybench.config.validation import check_model, strict_config
from noisybench.config.yaml_files import builtin_configs, load_config
from noisybench.errors import UserError, nearest, show

PAPER = "paper"
"""Name of the preset that selects the row by dataset and noise, and of the budget that belongs to a preset."""

CLASSES = {
    "animal10n": 10, "cifar10": 10, "cifar100": 100, "clothing1m": 14, "cnwl": 100, "digits": 10, "fashion_mnist": 10,
    "mini_webvision": 50, "mnist": 10, "svhn": 10,
}  # fmt: skip
"""Number of classes of datasets, which decides the conversion of noise rates."""

Text = Annotated[str, pydantic.Field(min_length=1)]
"""Text that is not empty."""


class Condition(pydantic.BaseModel):
    """Settings for which a row was published."""

    model_config = strict_config()

    dataset: str | None = None
    """Name of the dataset; None for all datasets."""
    noise: list[Text] = []
    """Noise models; empty for all. The first one states the convention of rates."""
    rates: list[float] | None = pydantic.Field(None, min_length=2, max_length=2)
    """Smallest and largest nominal noise rate, in the convention of the first noise model; None for all rates."""


class Expected(pydantic.BaseModel):
    """One published result; a recipe is made of each."""

    model_config = strict_config()

    name: str = pydantic.Field("", pattern=r"^[a-z0-9_.-]*$")
    """Ending of the recipe's name; by default dataset and noise, such as `cifar10-sym40`."""
    noise: str | dict[str, Any]
    """Name of the noise model, or a mapping with its parameters."""
    rate: float | None = pydantic.Field(None, ge=0, le=1)
    """Nominal noise rate, if the noise model is given by its name."""
    dataset: dict[str, Any] = {}
    """Parameters of the dataset, in addition to those of the row."""
    value: float | None = pydantic.Field(None, ge=0, le=100)
    """Published result in percent; None if none is known for these settings."""
    deviation: float | None = pydantic.Field(None, ge=0)
    """Published standard deviation, in percentage points."""

    @property
    def noise_component(self) -> dict[str, Any]:
        """Noise model as a mapping with its parameters."""
        if isinstance(self.noise, dict):
            return dict(self.noise)
        return {"name": self.noise} if self.rate is None else {"name": self.noise, "rate": self.rate}


class Row(pydantic.BaseModel):
    """Settings that were published for one dataset and kind of noise."""

    model_config = strict_config()

    when: Condition
    settings: dict[str, Any]
    """Parameters of the mitigation."""
    budget: dict[str, Any]
    """Fields of the budget, complete with those that all rows share."""
    source: Text
    """Paper and table, or file of the authors' repository."""
    task: str = "classification"
    """Task of the recipes."""
    dataset: dict[str, Any] = {}
    """Parameters of the dataset in the recipes."""
    stack: str = ""
    """Further mitigations of the recipes, before this one."""
    table: str = ""
    """Table of the results in `expect`."""
    protocol: Literal["last", "best", "val", "unstated"] = "unstated"
    """Epoch of the results: the last one, the best on the test or on the validation split."""
    expect: list[Expected] = []
    """Published results."""
    deviations: list[Text] = []
    """What differs here from what was published."""


class Presets(pydantic.BaseModel):
    """All published settings of one mitigation."""

    model_config = strict_config()

    paper: Text
    """Authors and year, as `papers.csv` has them; several are separated by semicolons."""
    defaults: str | None = None
    """Row whose settings are the declared defaults; None if the defaults are those of no row."""
    rows: dict[Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")], Row] = pydantic.Field(min_length=1)
    """Rows by name. A row that fits before another one is chosen."""


@functools.cache
def load_presets(mitigation: str) -> Presets | None:
    """Return the published settings of a mitigation; None if it has none.

    Raises:
        UserError: the file has unknown fields, or values that the mitigation or the budget does not allow.

    Example:
        >>> load_presets("elr").rows["cifar100"].settings
        {'beta': 0.9, 'reg_weight': 7.0}
        >>> load_presets("cross_entropy") is None
        True
    """
    if mitigation not in builtin_configs("presets"):
        return None
    content = plain_value(load_config("presets", mitigation))
    shared = content.pop("budget", {})
    for row in content.get("rows", {}).values():
        if isinstance(row, dict):
            row["budget"] = {**shared, **row.get("budget", {})}
    location, problems = f"configs/presets/{mitigation}.yaml", list[str]()
    presets = check_model(Presets, content, "", problems)
    if presets:
        problems += _check_rows(mitigation, presets)
    if problems or not presets:
        raise UserError(*(f"{location}: {problem}" for problem in problems))
    return presets


def _check_rows(mitigation: str, presets: Presets) -> list[str]:
    """Return the settings, budgets, datasets and noise models of rows that do not exist or have invalid values."""
    schema, problems = get_entry("mitigations", mitigation).schema, list[str]()
    for name, row in presets.rows.items():
        problems += schema.validate(row.settings, f"rows.{name}.settings")[1]
        check_model(Budget, row.budget, f"rows.{name}.budget", problems)
        named = {"dataset": [row.when.dataset or "digits"], "noise model": row.when.noise, "task": [row.task]}
        for kind, names in named.items():
            known = list_entries(f"{kind.replace(' ', '_')}s")
            problems += [
                f"rows.{name}: unknown {kind} {show(each, quotes=False)}; {nearest(each, known)}"
                for each in names
                if each not in known
            ]
    if presets.defaults is not None and presets.defaults not in presets.rows:
        unknown = show(presets.defaults, quotes=False)
        problems.append(f"defaults: unknown row {unknown}; {nearest(presets.defaults, presets.rows)}")
    return problems


def mitigations_with_presets() -> list[str]:
    """Return the names of all mitigations with published settings.

    Example:
        >>> "elr" in mitigations_with_presets()
        True
    """
    return sorted(builtin_configs("presets"))


def format_settings(settings: Mapping[str, Any]) -> str:
    """Return settings in one line.

    Example:
        >>> format_settings({"beta": 0.9, "lr_milestones": [40, 80]})
        'beta=0.9, lr_milestones=[40, 80]'
    """
    return ", ".join(f"{name}={_format(value)}" for name, value in settings.items())


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
