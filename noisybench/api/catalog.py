"""List what there is: noise models, mitigations, datasets, networks, metrics, recipes."""

from __future__ import annotations

from noisybench.config.registry import KINDS, list_entries
from noisybench.errors import UserError, nearest, show

CONFIG_KINDS = ("recipes", "suites", "searches")
METRIC_KIND = "metrics"
ALL_KINDS = (*KINDS, METRIC_KIND, *CONFIG_KINDS)


def list_names(kind: str) -> dict[str, str]:
    """Return the names of one kind, each with a summary of one line.

    Args:
        kind: noise_models, mitigations, datasets, tasks, networks, backbones, metrics, recipes, suites or searches.

    Raises:
        UserError: there is no such kind.

    Examples:
        >>> list_names("noise_models")["pair_flip"]
        'Flip each label to the next class index (the last to the first) with probability `rate` (Han et al. 2018).'
        >>> list_names("noise_model")
        Traceback (most recent call last):
        noisybench.errors.UserError: unknown kind `noise_model`; did you mean `noise_models`?
    """
    if kind not in ALL_KINDS:
        raise UserError(f"unknown kind {show(kind, quotes=False)}; {nearest(str(kind), ALL_KINDS)}")
    if kind in CONFIG_KINDS:
        from noisybench.config.published_recipes import load_recipe, recipe_names
        from noisybench.config.yaml_files import builtin_configs, load_config

        names = recipe_names() if kind == "recipes" else sorted(builtin_configs(kind))
        configs = {name: load_recipe(name) if kind == "recipes" else load_config(kind, name) for name in names}
        # Descriptions may have several lines in YAML; the list has one line per name.
        return {name: " ".join(str(config.get("description", "")).split()) for name, config in configs.items()}
    if kind == METRIC_KIND:
        from noisybench.evaluation.catalog import METRICS

        return {name: metric.summary for name, metric in METRICS.items()}
    return {name: entry.summary for name, entry in list_entries(kind).items()}
