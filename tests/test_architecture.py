"""The rooms: who may import whom, and what the commands must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = {
    "errors", "parameters", "seeds", "dataset", "labels", "noise", "training_set", "privileged", "mitigation", "stack", "task",
    "judge", "label_judge", "files", "augmentation", "records", "images", "features", "auxiliary", "spectrum", "checkpoints",
    "tuning", "metrics", "masks", "pictures", "traces.machine", "traces.programs", "traces.formats", "traces.calculations",
    "traces.page",
}  # fmt: skip
"""Modules of the engine that content may use."""


def imports(file: Path) -> set[str]:
    """Modules of noisybench that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("noisybench"):
            if node.module == "noisybench":
                found |= {f"noisybench.{alias.name}" for alias in node.names if alias.name[0].islower()}
            else:
                found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("noisybench")}
    return found


def files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize(
    ("folder", "package", "extra"),
    [
        ("noise_models", "noisybench.noise_models", ()),
        ("noisybench/mitigations", "noisybench.mitigations", ()),
        ("noisybench/networks", "noisybench.networks", ("noisybench.config.registry",)),
        ("tasks/datasets", "noisybench.tasks.datasets", ()),
        ("tasks", "noisybench.tasks", ("noisybench.networks", "noisybench.config.spec", "noisybench.config.registry")),
    ],
)
def test_content_imports_contracts_and_its_own_private_helpers(
    folder: str, package: str, extra: tuple[str, ...]
) -> None:
    for file in files(folder):
        for module in imports(file):
            allowed = (
                module.removeprefix("noisybench.") in CONTRACTS
                or module in extra
                or (module.startswith(package) and module.rsplit(".", 1)[-1].startswith("_"))
                or (folder == "tasks" and "datasets" in file.parts)
            )
            assert allowed, f"{file.relative_to(ROOT)} imports {module}"


def test_the_engine_never_imports_concrete_content() -> None:
    content = (
        "noisybench.noise_models.",
        "noisybench.mitigations.",
        "noisybench.tasks.",
        "noisybench.networks.",
    )
    for file in (ROOT / "noisybench").glob("*.py"):
        for module in imports(file):
            assert not module.startswith(content), f"{file.name} imports {module}"


def test_the_leaderboard_reads_records_and_never_trains() -> None:
    allowed = {
        "noisybench.records.schema",
        "noisybench.tracking.store",
        "noisybench.errors",
        "noisybench.utils.files",
        "noisybench.leaderboard.submission",
    }
    for file in files("leaderboard"):
        for module in imports(file):
            assert module in allowed or module.startswith("noisybench.leaderboard"), f"{file.name} imports {module}"


def test_nothing_imports_the_commands() -> None:
    for folder in ("noisybench", "tasks", "noise_models", "leaderboard"):
        for file in files(folder):
            if file.name not in ("cli.py", "__main__.py"):
                assert "noisybench.cli.app" not in imports(file)


def test_only_tracking_and_the_part_of_its_server_talk_to_mlflow() -> None:
    for folder in ("noisybench", "tasks", "noise_models", "leaderboard"):
        for file in files(folder):
            if file.name in ("tracking.py", "preload.py", "mlflow_app.py"):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.split(".")[0] == "mlflow" for name in names), file.name


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


def test_scoring_a_submission_again_starts_without_lightning() -> None:
    code = (
        "import sys\nfrom noisybench.cli.app import app\n"
        "try:\n    app(args=['leaderboard', 'verify', 'leaderboard/entries/quickstart'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert 'pytorch_lightning' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_content_folders_refuse_another_name() -> None:
    for folder in ("tasks", "noise_models", "leaderboard", "configs"):
        done = subprocess.run([sys.executable, "-c", f"import {folder}"], capture_output=True, text=True, cwd=ROOT)
        assert "import this package as `noisybench." in done.stderr
