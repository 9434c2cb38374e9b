"""Conditions of published settings: dataset, noise model and nominal rate for which a row of a preset holds."""

from __future__ import annotations

from noisybench.config.presets import CLASSES, Row
from noisybench.config.spec import Component

CIFAR_NAMES = {
    "cifar10": (10, ("airplane", "automobile", "bird")),
    "cifar100": (100, ("apple", "aquarium_fish", "baby")),
}
"""Number and first names of the classes of CIFAR, by which its copies in other file formats are recognized."""

SYMMETRIC = ("symmetric_inclusive", "symmetric_exclusive")
"""Noise models that differ in the convention of their rate alone: with C classes, inclusive = exclusive * C / (C - 1)."""

TOLERANCE = 1e-6
"""Difference of noise rates that counts as rounding."""


def describe_condition(row: Row) -> str:
    """Return the settings for which a row was published, in a few words.

    Example:
        >>> from noisybench.config.presets import load_presets
        >>> describe_condition(load_presets("elr").rows["cifar10-asymmetric"])
        'cifar10, asymmetric'
    """
    parts = [row.when.dataset or "all datasets", " or ".join(row.when.noise) or "all noise"]
    if row.when.rates:
        low, high = row.when.rates
        parts.append(f"rate {low:g}" if low == high else f"rate {low:g} to {high:g}")
    return ", ".join(parts)


def describe_setting(dataset: Component, noise: Component) -> str:
    """Return dataset and noise of a run in a few words.

    Example:
        >>> describe_setting(Component("datasets", "cifar10", {}), Component("noise_models", "pair_flip", {"rate": 0.2}))
        'cifar10 with pair_flip noise at 0.2'
    """
    rate = noise.parameters.get("rate")
    return f"{family_of(dataset)} with {noise.name} noise" + ("" if rate is None else f" at {rate:g}")


def fits(row: Row, dataset: Component, noise: Component) -> bool:
    """Return True if a row was published for the dataset, the noise and its rate.

    Example:
        >>> from noisybench.config.presets import load_presets
        >>> row, dataset = load_presets("dividemix").rows["cifar10-sym50"], Component("datasets", "cifar10", {})
        >>> noise = [Component("noise_models", "symmetric_inclusive", {"rate": rate}) for rate in (0.5, 0.8)]
        >>> low, high = noise
        >>> fits(row, dataset, low), fits(row, dataset, high), fits_noise(row, high), fits_rate(row, dataset, high)
        (True, False, True, False)
    """
    return row.when.dataset in (None, family_of(dataset)) and fits_noise(row, noise) and fits_rate(row, dataset, noise)


def fits_noise(row: Row, noise: Component) -> bool:
    """Return True if a row was published for the noise model, at whatever rate."""
    return not row.when.noise or noise.name in row.when.noise


def fits_rate(row: Row, dataset: Component, noise: Component) -> bool:
    """Return True if the nominal rate of the noise, in the convention of the row, is one of the row's rates."""
    if row.when.rates is None:
        return True
    rate = 0.0 if noise.name == "clean" else noise.parameters.get("rate")
    if rate is None:
        return False
    published = row.when.noise[0] if row.when.noise else noise.name
    if published != noise.name and {published, noise.name} == set(SYMMETRIC):
        classes = num_classes(dataset)
        if classes is None:
            return False
        factor = classes / (classes - 1)
        rate = rate * factor if published == "symmetric_inclusive" else rate / factor
    low, high = row.when.rates
    return bool(low - TOLERANCE <= rate <= high + TOLERANCE)


def family_of(dataset: Component) -> str:
    """Return the name of the dataset: that of CIFAR for its copies in other file formats that name the classes.

    Example:
        >>> family_of(Component("datasets", "cifar100", {}))
        'cifar100'
        >>> family_of(Component("datasets", "parquet", {"class_names": None}))
        'parquet'
    """
    names = dataset.parameters.get("class_names") or ()
    copies = (name for name, (count, first) in CIFAR_NAMES.items() if len(names) == count and tuple(names[:3]) == first)
    return next(copies, dataset.name)


def num_classes(dataset: Component) -> int | None:
    """Return the number of classes of a dataset before it is read; None if it is unknown.

    Example:
        >>> num_classes(Component("datasets", "cifar100", {"ood_classes": [3, 4]}))
        98
    """
    names = dataset.parameters.get("class_names")
    total = CLASSES.get(dataset.name, len(names) if names else None)
    return None if total is None else total - len(dataset.parameters.get("ood_classes") or ())
