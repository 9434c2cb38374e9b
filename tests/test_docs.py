"""Check that code, links and commands in the documentation work as written."""

from __future__ import annotations

import configparser
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from noisybench.cli.app import app, main
from noisybench.config import registry
from noisybench.config.registry import Entry, list_entries
from noisybench.config.resolve import read_recipe
from noisybench.config.suite import read_suite
from noisybench.nn.features import last_linear
from noisybench.search.config import read_searches
from tests import contracts
from tests.conftest import FAST
from tools.docsite.pages import REPOSITORY_PAGES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]

# Pages that commands write.
GENERATED = ("fidelity.md", "reproduction.md")

# Names of files that a reader writes, and the command that continues studies.
PLACEHOLDERS = ("my-recipe.yaml", "resume")


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide the complete examples of the pages on extending noisybench as a third-party package."""
    package = tmp_path / "documented"
    package.mkdir()
    (package / "__init__.py").write_text("")
    text = "\n".join(path.read_text() for path in sorted(ROOT.glob("docs/own-*.md")))
    for name, code in re.findall(r"## A[^\n]*`[\w/]+/(\w+)\.py`\n\n```python\n(.*?)```", text, re.S):
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    documented = {
        "noise_models": {"my_noise": Entry("noise_models", "my_noise", "documented.my_noise")},
        "mitigations": {"my_method": Entry("mitigations", "my_method", "documented.my_method")},
        "networks": {"my_network": Entry("networks", "my_network", "documented.my_network")},
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


@pytest.mark.usefixtures("examples")
def test_the_documented_network_is_built_and_has_features() -> None:
    network = registry.get_entry("networks", "my_network").load_class()(10, 1)
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    name, classifier = last_linear(network) or ("", torch.nn.Linear(1, 1))
    assert (name, classifier.in_features, classifier.out_features) == ("6", 32, 10)


def anchors(file: Path) -> set[str]:
    """Return the anchors of the headings of a document, as GitHub derives them."""
    text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S)
    headings = (re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line) for line in re.findall(r"^#+ (.*)", text, re.M))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_the_documents_lead_somewhere() -> None:
    for file in [*DOCUMENTS, ROOT / "CHANGELOG.md"]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", file.read_text()):
            linked = file.parent / target if target else file
            assert linked.exists(), f"{file.name} links to {target}"
            assert not anchor or anchor in anchors(linked), f"{file.name} links to {target}#{anchor}"


def test_tables_have_a_head_and_rows_of_equal_length() -> None:
    for file in [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", ROOT / "CODE_OF_CONDUCT.md"]:
        text = re.sub(r"^ *```.*?^ *```", "", file.read_text(), flags=re.M | re.S)
        for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
            # A bar in a code span or after a backslash separates no cells.
            rows = [re.sub(r"`[^`]*`|\\\|", "", row) for row in table.splitlines()]
            assert re.fullmatch(r"[-| :]+", "".join(rows[1:2])), f"{file.name}: a table without a head: {rows[0]}"
            assert len({row.count("|") for row in rows}) == 1, f"{file.name}: rows of unequal length below {rows[0]}"


def test_lines_outside_of_tables_have_at_most_160_characters() -> None:
    for file in DOCUMENTS:
        if file.name not in GENERATED:
            long = [line for line in file.read_text().splitlines() if len(line) > 160 and not line.startswith("|")]
            assert not long, f"{file.name}: {long[0]}"


def test_every_page_says_first_for_whom_it_is_and_shows_a_command() -> None:
    for file in ROOT.glob("docs/*.md"):
        if file.name in GENERATED:
            continue
        beginning = re.split(r"^## ", file.read_text(), maxsplit=1, flags=re.M)[0]
        assert re.match(r"# .+\n\nFor \w+", beginning), f"{file.name} does not begin with the readers that it is for"
        assert "```" in beginning, f"{file.name} shows no command before its first section"


def test_the_navigation_of_the_site_lists_every_page() -> None:
    listed = re.findall(
        r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2].partition("\nhooks:")[0]
    )
    pages = {*(path.name for path in ROOT.glob("docs/*.md")), *REPOSITORY_PAGES.values(), "tutorial.md"}
    assert {page for page in listed if "/" not in page} == pages


def shell_blocks(file: Path) -> list[list[str]]:
    """Return the lines of each shell block of a document, with continued lines joined."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", file.read_text(), re.M | re.S)
    return [[line.strip() for line in block.replace("\\\n", " ").splitlines()] for block in blocks]


def documented_commands() -> list[str]:
    """Return the arguments of all `noisybench` commands in documents and in headers of configurations."""
    lines = []
    for file in DOCUMENTS:
        lines += [line for block in shell_blocks(file) for line in block]
        prose = re.sub(r"^ *```.*?^ *```|<!-- measured: .*?<!-- end -->", "", file.read_text(), flags=re.M | re.S)
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
        lines += [span for span in spans if span.startswith("noisybench ") and "COMMAND" not in span]
    for file in ROOT.glob("configs/*/*.yaml"):
        # Prose may follow the command, after several blanks.
        lines += [re.split(" {3,}", line)[0] for line in re.findall(r"^# run: +(.*)", file.read_text(), re.M)]
    return [shlex.join(shlex.split(line, comments=True)[1:]) for line in lines if line.startswith("noisybench ")]


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
    read = {"run": read_recipe, "inspect": read_recipe, "bench": read_suite, "search": read_searches}.get(
        " ".join(path)
    )
    if read and positional and positional[0] not in PLACEHOLDERS:
        assert read(positional[0], positional[1:])


# Commands of other programs by their first words, with the place that runs them or the reason why none does.
OTHER_COMMANDS = {
    ".ci/run": "run by CI",
    "python tools/ci/check_release.py": "run by tests/test_project.py, and by the workflow of releases",
    "python tools/measure_boards.py": "takes hours; tests/test_measure_boards.py runs it on a tiny suite",
    "tools/gpu_campaign.sh": "needs a GPU; tests/test_gpu_campaign.py runs it on the CPU",
    "python -m pytest": "run by CI, or behind a variable, because it takes long or needs data",
    "python -m tests.": "takes minutes to hours, or needs a clone",
    "NOISYBENCH_": "tests that take long or need data",
    "python3 -m venv .venv": "installs hundreds of packages; CI installs the wheel in a fresh environment",
    "python -m pip install": "installs packages",
    "uv pip install": "installs packages; the extras are checked below",
    "ruff check": "run by CI",
    "pre-commit run": "run by CI",
    "mkdocs build": "run by CI",
    "mkdocs serve": "a server that does not end",
    "mlflow server": "a server that does not end; tests/tracking_server.py starts one",
    "ray start": "tests/execution/test_ray.py starts a cluster",
    "sudo ": "changes the machine; tests/postgres.py starts a server of its own",
    "git ": "needs the network, or publishes",
    "openssl genpkey": "run by tests/leaderboard/test_stamps.py, where openssl is installed",
}


def test_every_other_command_runs_elsewhere_or_has_a_reason() -> None:
    blocks = [block for file in DOCUMENTS for block in shell_blocks(file) if not block[0].startswith("#!")]
    lines = [line for block in blocks for line in block if line and not line.startswith(("#", "noisybench "))]
    assert [line for line in lines if not line.startswith(tuple(OTHER_COMMANDS))] == []
    assert [start for start in OTHER_COMMANDS if not any(line.startswith(start) for line in lines)] == []
    for line in lines:
        for path in re.findall(r"(?<![\w/.])(?:tests|tools|\.ci)/[\w./]+", line):
            assert (ROOT / path).exists(), line
        for module in re.findall(r"python -m (tests\.[\w.]+)", line):
            assert importlib.util.find_spec(module), line


def test_documented_extras_exist() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for file in DOCUMENTS:
        for extras in re.findall(r"\.\[([\w,]+)\]\"", file.read_text()):
            assert set(extras.split(",")) <= set(settings["options.extras_require"]), f"{file.name}: .[{extras}]"


def test_every_python_block_runs_in_a_test(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tested = {
        "README.md": "tests/api/test_readme_example.py",
        "python-api.md": "tests/api/test_python_api_page.py",
        "own-traces.md": "the documented program, below",
        "own-noise-model.md": "the complete examples, above",
        "own-network.md": "the complete examples, above",
    }
    with_blocks = {file.name for file in DOCUMENTS if "```python" in file.read_text()}
    assert with_blocks == {*tested, "own-mitigation.md", "data-check.md"}

    for name in ("cat", "dog"):
        (workspace / "my-images" / name).mkdir(parents=True)
        for number in range(8):
            image = np.random.default_rng(number + len(name) * ord(name[0])).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(image).save(workspace / "my-images" / name / f"{number}.png")
    monkeypatch.chdir(workspace)
    for name, position in (("own-mitigation.md", 1), ("data-check.md", 0)):
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), re.S)
        assert len(blocks) == position + 1, f"the earlier blocks of {name} are complete examples"
        exec(compile(blocks[position], name, "exec"), {})


def test_the_documented_program_is_trained_on(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "own-traces.md").read_text()
    ((code, command),) = re.findall(
        r"as `mine.py`:\n\n```python\n(.*?)```.*?```bash\n(noisybench .*?)\n```", text, re.S
    )
    (workspace / "mine.py").write_text(code)
    monkeypatch.setattr(sys, "argv", [*shlex.split(command.replace("\\\n", " ")), "execution.num_threads=1"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert not exit_info.value.code


def test_the_list_of_fast_tests_names_existing_files() -> None:
    for name in FAST:
        assert (ROOT / "tests" / name).exists(), f"tests/conftest.py lists `{name}`"


def test_paths_in_the_documentation_exist() -> None:
    folders = "noisybench|tasks|noise_models|leaderboard|configs|tests|docs"
    for file in [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for path in re.findall(rf"`((?:{folders})/[\w./*-]*)`", file.read_text()):
            if not re.search(r"/my_\w+", path) and not path.startswith("docs/own-"):
                assert (ROOT / path).exists(), f"{file.name} mentions {path}"
