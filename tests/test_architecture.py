"""Imports between packages, and modules that light commands must not import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_packages_import_only_what_the_contracts_allow(tmp_path: Path) -> None:
    """Run import-linter on a tree with the layout of an installed package."""
    package = tmp_path / "noisybench"
    ignore = shutil.ignore_patterns("__pycache__", "entries", "static")
    shutil.copytree(ROOT / "noisybench", package, ignore=ignore)
    for folder in ("tasks", "noise_models", "leaderboard", "configs"):
        shutil.copytree(ROOT / folder, package / folder, ignore=ignore)
    contracts = str(ROOT / ".importlinter")
    code = f"from importlinter.cli import lint_imports; raise SystemExit(lint_imports({contracts!r}, no_cache=True))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["describe", "elr"], ["run", "--help"]])
def test_commands_that_only_read_start_light(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom noisybench.cli.app import app\n"
        f"try:\n    app(args={arguments!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'sklearn', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_content_folders_refuse_another_name() -> None:
    for folder in ("tasks", "noise_models", "leaderboard", "configs"):
        done = subprocess.run([sys.executable, "-c", f"import {folder}"], capture_output=True, text=True, cwd=ROOT)
        assert "import this package as `noisybench." in done.stderr
