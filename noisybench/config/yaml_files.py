"""Recipes, suites and searches: YAML files, built in or the user's own."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import yaml

from noisybench.errors import UserError, nearest

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Safe loader in C where available, which is ten times as fast."""


def builtin_configs(folder: str) -> dict[str, Path]:
    """Return the recipes, suites or searches that come with noisybench, by name.

    Example:
        >>> builtin_configs("recipes")["digits"].name
        'digits.yaml'
    """
    root = importlib.resources.files("noisybench.configs") / folder
    return {Path(str(file)).stem: Path(str(file)) for file in root.iterdir() if file.name.endswith(".yaml")}


def is_path(name: str) -> bool:
    """Return True if a configuration is given by its path, False if by the name of a built-in one.

    Example:
        >>> is_path("digits"), is_path("my-suite.yaml")
        (False, True)
    """
    return name.endswith((".yaml", ".yml")) or "/" in name


def load_config(folder: str, name: str) -> dict[str, Any]:
    """Read a configuration by its built-in name or its path.

    Args:
        folder: ``recipes``, ``suites`` or ``searches``.
        name: built-in name, or path of a YAML file.

    Raises:
        UserError: the name or file does not exist, or the file is not a YAML mapping.

    Example:
        >>> load_config("recipes", "digits")["dataset"]
        'digits'
    """
    builtin = builtin_configs(folder)
    path = Path(name) if is_path(name) else builtin.get(name)
    if path is None or not path.is_file():
        hint = "the file does not exist" if is_path(name) else nearest(name, builtin)
        raise UserError(
            f"unknown {folder.removesuffix('es' if folder == 'searches' else 's')} `{name}`; {hint} "
            f"(`noisybench list {folder}`, or the path of a .yaml file)"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of fields such as dataset, noise, mitigations")
    return content
