"""Version, metadata, hooks, workflows and community files agree with each other and with what `.ci/run` runs."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from noisybench.cli import doctor

ROOT = Path(__file__).parents[1]
CI_RUN = (ROOT / ".ci/run").read_text()
WORKFLOWS: dict[str, Any] = {
    # YAML 1.1 reads the key `on` as true.
    path.name: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / ".github/workflows").glob("*.yml"))
}
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg")


def check_release(root: Path, *arguments: str) -> str:
    script = shutil.copy(ROOT / "tools/ci/check_release.py", root / "tools/ci/check_release.py")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ("agree" in done.stdout), done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Folder with the files that state the version, all 0.2.0 and unreleased."""
    root = tmp_path / "checkout"
    for folder in ("noisybench", "tools/ci"):
        (root / folder).mkdir(parents=True)
    (root / "noisybench/__init__.py").write_text('__version__ = "0.2.0"\n')
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## [0.2.0] - unreleased\n\n## [0.1.0]\n")
    (root / "CITATION.cff").write_text("version: 0.2.0\n")
    return root


def test_version_changelog_and_citation_agree() -> None:
    command = [sys.executable, "tools/ci/check_release.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("noisybench/__init__.py", "0.2.0", "0.3.0", "the newest section is [0.2.0], but the version is 0.3.0"),
        ("CITATION.cff", "0.2.0", "0.1.0", "CITATION.cff: version is 0.1.0"),
        ("CITATION.cff", "0.2.0\n", "0.2.0\ndate-released: 2026-12-01\n", "date-released is 2026-12-01"),
        ("CHANGELOG.md", "[0.2.0]", "[Unreleased]", "the newest section is [Unreleased]"),
        ("CHANGELOG.md", "- unreleased", "- 2026-12-01", "date-released is None"),
        ("CHANGELOG.md", "- unreleased", "- soon", "needs a date such as 2026-11-27"),
    ],
)
def test_a_version_that_differs_is_reported(checkout: Path, file: str, old: str, new: str, problem: str) -> None:
    assert "agree" in check_release(checkout)
    (checkout / file).write_text((checkout / file).read_text().replace(old, new))
    assert problem in check_release(checkout)


def test_only_a_dated_release_of_the_version_can_be_tagged(checkout: Path) -> None:
    assert "the tag is v0.3.0" in check_release(checkout, "v0.3.0")
    assert "is unreleased; write the date" in check_release(checkout, "v0.2.0")
    for file, old, new in [
        ("CHANGELOG.md", "- unreleased", "- 2026-12-01"),
        ("CITATION.cff", "0.2.0\n", "0.2.0\ndate-released: 2026-12-01\n"),
    ]:
        (checkout / file).write_text((checkout / file).read_text().replace(old, new))
    assert "agree" in check_release(checkout, "v0.2.0")


def test_the_changelog_has_each_section_once_in_order() -> None:
    for release in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)[1:]:
        sections = re.findall(r"^### (.*)", release, re.M)
        order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
        assert sections == [name for name in order if name in sections], release.splitlines()[0]


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    return [(file, name, job) for file, each in WORKFLOWS.items() for name, job in each["jobs"].items()]


def commands() -> set[str]:
    """Return the commands of all workflows, scripts without their arguments."""
    lines = [
        line.strip()
        for _, _, job in jobs()
        for step in job["steps"]
        for line in step.get("run", "").splitlines()
        if line.strip()
    ]
    return {re.sub(r"^((?:python3? )?tools/ci/\w+\.\w+).*", r"\1", line) for line in lines}


def not_run_here() -> set[str]:
    """Return the commands that CONTRIBUTING.md marks as written, not run."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Workflows")[1].split("\n## ")[0]
    return {
        command for row in re.findall(r"^\| (.*?) \|.*not run", table, re.M) for command in re.findall("`(.*?)`", row)
    }


def test_every_command_of_a_workflow_is_run_here_or_marked_as_not_run() -> None:
    # .ci/run runs the hooks, and wheel.sh, which verifies an entry.
    run_here = "\n".join(
        [CI_RUN, *((ROOT / file).read_text() for file in (".pre-commit-config.yaml", "tools/ci/wheel.sh"))]
    )
    unknown = [
        command
        for command in commands()
        if command.removeprefix("tools/ci/") not in run_here and command not in not_run_here()
    ]
    assert unknown == [], "run these in .ci/run, or mark them in CONTRIBUTING.md"
    assert [command for command in not_run_here() if f"step {command}\n" in CI_RUN] == [], "these are run"


def test_scripts_of_the_workflows_exist_and_are_valid() -> None:
    scripts = sorted((ROOT / "tools/ci").glob("*.sh"))
    assert {path.name for path in scripts} >= {each.split("/")[-1] for each in commands() if each.endswith(".sh")}
    for path in scripts:
        assert os.access(path, os.X_OK), f"{path.name} is not executable"
        subprocess.run(["bash", "-n", path], check=True)


def test_workflows_have_no_rights_that_they_do_not_need() -> None:
    for file, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == {"contents": "read"}, file
        assert "pull_request_target" not in workflow[True], file
        assert "secrets." not in (ROOT / ".github/workflows" / file).read_text(), file
    rights = {(file, name): job["permissions"] for file, name, job in jobs() if "permissions" in job}
    assert rights == {("release.yml", "publish"): {"id-token": "write"}}
    assert all("timeout-minutes" in job for _, _, job in jobs())


def test_actions_are_pinned() -> None:
    files = [*(ROOT / ".github/workflows").glob("*.yml"), *(ROOT / ".github/actions").rglob("*.yml")]
    uses = [each for file in files for each in re.findall(r"uses: (\S+)", file.read_text())]
    pinned = r"\./\.github/actions/\w+|actions/[\w-]+@v\d+|[\w-]+/[\w-]+@[0-9a-f]{40}"
    assert uses
    assert [each for each in uses if not re.fullmatch(pinned, each)] == []


def test_supported_versions_of_python_are_classified_and_tested() -> None:
    classifiers = SETTINGS["metadata"]["classifiers"]
    versions = re.findall(r"Python :: (3\.\d+)$", classifiers, re.M)
    assert versions == WORKFLOWS["ci.yml"]["jobs"]["fast"]["strategy"]["matrix"]["python"]
    assert SETTINGS["options"]["python_requires"] == f">={versions[0]}"
    assert "Operating System :: MacOS" in classifiers
    assert "Operating System :: POSIX :: Linux" in classifiers


@pytest.fixture
def verifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Log of a stand-in for the command `noisybench`, which refuses folders that contain a file `bad`."""
    program = tmp_path / "bin/noisybench"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/bash\nprintf "%s\\n" "$*" >> {tmp_path}/calls\n[ ! -e "${{@: -1}}/bad" ] || {{ echo "refused: bad"; exit 2; }}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / "base/submissions/merged").mkdir(parents=True)
    (tmp_path / "base/submissions/merged/submission.json").write_text("{}")
    shutil.copytree(tmp_path / "base", tmp_path / "pull request")
    return tmp_path / "calls"


def verify_entries(folder: Path) -> tuple[int, str]:
    command = ["bash", ROOT / "tools/ci/verify_entries.sh", folder / "pull request", folder / "base"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_pull_request_without_new_entries_passes(tmp_path: Path, verifier: Path) -> None:
    assert verify_entries(tmp_path) == (0, "No entry was added or changed in submissions/.\n")
    shutil.rmtree(tmp_path / "pull request/submissions")
    assert verify_entries(tmp_path)[0] == 0
    assert not verifier.exists()


def test_added_and_changed_entries_are_verified(tmp_path: Path, verifier: Path) -> None:
    entries = tmp_path / "pull request/submissions"
    (entries / "new").mkdir()
    (entries / "merged/submission.json").write_text('{"changed": true}')
    assert verify_entries(tmp_path)[0] == 0
    assert verifier.read_text().splitlines() == [
        f"leaderboard verify --max-memory 8 {entries}/{name}" for name in ("merged", "new")
    ]
    (entries / "also-bad").mkdir()
    (entries / "also-bad/bad").touch()
    status, output = verify_entries(tmp_path)
    assert status == 1
    assert "refused: submissions/also-bad: see the lines above" in output
    assert "submissions/new" in output, "the other entries are verified all the same"


@pytest.mark.parametrize("name", ["-rf", "a b", "$(touch x)", ".hidden", "new\nline", "::warning::", "A" * 80])
def test_hostile_names_of_entries_are_refused(tmp_path: Path, verifier: Path, name: str) -> None:
    (tmp_path / "pull request/submissions" / name).mkdir()
    status, output = verify_entries(tmp_path)
    assert status == 1
    assert "a name has 1 to 64 characters" in output
    assert not verifier.exists()


def test_links_in_place_of_entries_are_refused(tmp_path: Path, verifier: Path) -> None:
    entries = tmp_path / "pull request/submissions"
    (entries / "link").symlink_to("/etc")
    (entries / "file").write_text("")
    status, output = verify_entries(tmp_path)
    assert status == 1
    assert output.count("an entry is a folder written by") == 2
    (entries / "file").unlink()
    (entries / "link").unlink()
    (entries / "merged/submission.json").unlink()
    (entries / "merged/submission.json").symlink_to(tmp_path / "base/submissions/merged/submission.json")
    assert verify_entries(tmp_path)[0] == 0
    assert verifier.read_text().endswith("merged\n"), "the verification, which refuses links, decides"
    verifier.unlink()
    shutil.rmtree(entries)
    entries.symlink_to(tmp_path / "base/submissions")
    assert verify_entries(tmp_path) == (1, "refused: submissions is a link; it must be a folder\n")
    assert not verifier.exists()


def test_output_of_a_pull_request_gives_no_commands_to_the_workflow(
    tmp_path: Path, verifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    lines = verify_entries(tmp_path)[1].splitlines()
    token = re.fullmatch(r"::stop-commands::([0-9a-f]{32})", lines[0])
    assert token is not None
    assert lines[-1] == f"::{token[1]}::"
    assert verify_entries(tmp_path)[1].splitlines()[0] != lines[0]


def test_doctor_reports_version_and_kind_of_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = doctor.noisybench.__version__
    package = tmp_path / "site-packages/noisybench"
    assert doctor._describe_installation(package) == f"{version}, installed in {tmp_path}/site-packages"
    monkeypatch.setattr(metadata, "distributions", lambda name: [])
    package.parent.mkdir()
    (package.parent / "setup.cfg").touch()
    checkout = f"{version}, source checkout {package.parent}"
    assert doctor._describe_installation(package) == f"{checkout} (not installed)"

    class Editable:
        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            return json.dumps({"url": package.parent.as_uri(), "dir_info": {"editable": True}})

    monkeypatch.setattr(metadata, "distributions", lambda name: [Editable()])
    assert doctor._describe_installation(package) == f"{checkout} (editable)"
