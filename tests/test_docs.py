"""Check that code, links and commands in the documentation work as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from noisybench.cli.app import app
from noisybench.config import registry
from noisybench.config.registry import Entry, list_entries
from noisybench.config.resolve import read_recipe
from noisybench.config.suite import read_suite
from noisybench.search.config import read_searches
from tests import contracts
from tests.conftest import FAST

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]

# Names of files that a reader writes, and the command that continues studies.
PLACEHOLDERS = ("my-recipe", "my-recipe.yaml", "resume")


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide the files of docs/extending.md as a third-party package."""
    package = tmp_path / "documented"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = (ROOT / "docs" / "extending.md").read_text()
    for name, code in re.findall(r"## A[^\n]*`[\w/]+/(\w+)\.py`\n\n```python\n(.*?)```", text, re.S):
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    documented = {
        "noise_models": {"my_noise": Entry("noise_models", "my_noise", "documented.my_noise")},
        "mitigations": {"my_method": Entry("mitigations", "my_method", "documented.my_method")},
    }
    monkeypatch.setattr(registry, "list_entries", lambda kind: {**list_entries(kind), **documented.get(kind, {})})


@pytest.mark.usefixtures("examples")
def test_the_documented_noise_model_passes_the_contract(tmp_path: Path) -> None:
    contracts.check_noise_model(registry.get_entry("noise_models", "my_noise"), tmp_path)


@pytest.mark.usefixtures("examples")
def test_the_documented_mitigation_passes_the_contract(tmp_path: Path) -> None:
    contracts.check_mitigation_declaration(registry.get_entry("mitigations", "my_method"))
    for number, check in enumerate(contracts.MITIGATION_CHECKS):
        check({"name": "my_method"}, tmp_path / str(number))


def test_links_between_the_documents_lead_somewhere() -> None:
    for file in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"


def documented_commands() -> list[str]:
    """Return the arguments of all `noisybench` commands in code blocks of documents and in headers of configurations."""
    lines = []
    for file in DOCUMENTS:
        for block in re.findall(r"```(?:bash)?\n(.*?)```", file.read_text(), re.S):
            lines += block.replace("\\\n", " ").splitlines()
    for file in ROOT.glob("configs/*/*.yaml"):
        # Prose may follow the command, after several blanks.
        lines += [re.split(" {3,}", line)[0] for line in re.findall(r"^# run: +(.*)", file.read_text(), re.M)]
    commands = [re.sub("^exec ", "", line) for line in lines]
    return [shlex.join(shlex.split(line, comments=True)[1:]) for line in commands if line.startswith("noisybench ")]


@pytest.mark.parametrize("line", sorted(set(documented_commands())))
def test_documented_commands_are_valid(line: str) -> None:
    command: Any = typer.main.get_command(app)
    arguments = shlex.split(line)
    path = []
    while arguments and arguments[0] in getattr(command, "commands", {}):
        path.append(arguments.pop(0))
        command = command.commands[path[-1]]
    assert path or line.startswith("-"), "no such command"
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    positional = []
    for argument in arguments:
        if argument.startswith("-"):
            assert argument in {*options, "--help"}, f"no such option: {argument}"
        elif not positional or "=" in argument:
            positional.append(argument)
    read = {"run": read_recipe, "inspect": read_recipe, "bench": read_suite, "search": read_searches}.get(path[-1])
    if read and positional[0] not in PLACEHOLDERS:
        assert read(positional[0], positional[1:])


def test_the_list_of_fast_tests_names_existing_files() -> None:
    for name in FAST:
        assert (ROOT / "tests" / name).exists(), f"tests/conftest.py lists `{name}`"


def test_paths_in_the_documentation_exist() -> None:
    folders = "noisybench|tasks|noise_models|leaderboard|configs|tests|docs"
    for file in [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for path in re.findall(rf"`((?:{folders})/[\w./*-]*)`", file.read_text()):
            if not re.search(r"/my_\w+", path) and path != "docs/extending.md":
                assert (ROOT / path).exists(), f"{file.name} mentions {path}"
