"""Recipes, suites and searches: YAML files, shipped or the user's own."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import yaml

from noisybench.errors import UserError, nearest

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C where it is there: ten times as fast."""


def builtin_configs(folder: str) -> dict[str, Path]:
    """Recipes, suites or searches that come with noisybench, by name."""
    place = importlib.resources.files("noisybench.configs") / folder
    return {Path(str(each)).stem: Path(str(each)) for each in place.iterdir() if each.name.endswith(".yaml")}


def load_config(folder: str, name: str) -> dict[str, Any]:
    """Read a configuration by its shipped name or its path.

    Raises:
        UserError: no such name or file, or not a YAML mapping.
    """
    known = builtin_configs(folder)
    looks_like_path = name.endswith((".yaml", ".yml")) or "/" in name
    path = Path(name) if looks_like_path else known.get(name)
    if path is None or not path.is_file():
        what = folder.removesuffix("s")
        hint = "there is no such file" if looks_like_path else nearest(name, known)
        raise UserError(f"unknown {what} `{name}`; {hint} (`noisybench list {folder}`, or the path of a .yaml file)")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of fields such as dataset, noise, mitigations")
    return content
