"""What the documentation shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from noisybench.config import registry
from noisybench.config.registry import Entry, list_entries
from tests import contracts
from tests.conftest import FAST

ROOT = Path(__file__).parents[1]


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of docs/extending.md as a package of somebody's own."""
    package = tmp_path / "documented"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = (ROOT / "docs" / "extending.md").read_text()
    for name, code in re.findall(r"## A[^\n]*`[\w/]+/(\w+)\.py`\n\n```python\n(.*?)```", text, re.S):
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {
        "noise_models": {"my_noise": Entry("noise_models", "my_noise", "documented.my_noise")},
        "mitigations": {"my_remedy": Entry("mitigations", "my_remedy", "documented.my_remedy")},
    }
    monkeypatch.setattr(registry, "list_entries", lambda kind: {**list_entries(kind), **own.get(kind, {})})


@pytest.mark.usefixtures("examples")
def test_the_documented_noise_model_passes_the_contract(tmp_path: Path) -> None:
    contracts.check_noise_model(registry.get_entry("noise_models", "my_noise"), tmp_path)


@pytest.mark.usefixtures("examples")
def test_the_documented_mitigation_passes_the_contract(tmp_path: Path) -> None:
    contracts.check_mitigation_declaration(registry.get_entry("mitigations", "my_remedy"))
    for number, check in enumerate(contracts.MITIGATION_CHECKS):
        check({"name": "my_remedy"}, tmp_path / str(number))


def test_links_between_the_documents_lead_somewhere() -> None:
    for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_commands_in_the_readme_exist() -> None:
    from noisybench.cli.app import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups}
    used = set(re.findall(r"^noisybench (\w+)", (ROOT / "README.md").read_text(), re.M))
    assert used <= known
    assert {"run", "bench", "leaderboard", "list", "describe", "inspect", "labels", "validate", "doctor"} <= known


def test_the_list_of_fast_tests_names_existing_files() -> None:
    later = {"records", "test_language.py"}
    for name in FAST:
        assert name in later or (ROOT / "tests" / name).exists(), f"tests/conftest.py lists `{name}`"
