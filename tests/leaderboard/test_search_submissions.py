"""Submissions of the configurations that searches have selected."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from noisybench.cli.app import main
from noisybench.search.search import selected_runs


def test_configurations_that_a_search_selected_are_packaged_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["budget.epochs=2", "dataset.train_size=150", "dataset.test_size=60", "pruner=none", "evaluation_seeds=[0]"]

    def command(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["noisybench", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0

    def package(folder: str, *arguments: str) -> object:
        return command("leaderboard", "package", folder, *arguments, "--description", "tuned")

    for study, trials in (("mine one", 1), ("mine three", 3), ("mine-too", 2)):
        assert command("search", "digits", "mitigations=elr", f"trials={trials}", *small, "--study", study) == 0
    assert package("other", "--search", "mein one") == 2
    assert "did you mean `mine one`" in capsys.readouterr().err
    assert package("other", "--search", "mine", "--suite", "quickstart") == 2
    assert "give either --search or --suite" in capsys.readouterr().err
    assert package("other", "--storage", "sqlite:///studies.db") == 2
    assert "name the search by --search" in capsys.readouterr().err
    assert package("other", "--search", "mine", "--storage", "sqlite:///studies.db") == 2
    assert "studies.db contains no search" in capsys.readouterr().err
    assert not Path("other").exists()
    selected = {study: {spec.stack for spec in selected_runs(study)} for study in ("mine one", "mine three")}
    assert selected["mine one"] == {"elr"}, "the only trial has the defaults"
    for search, stacks in (*selected.items(), ("searches/mine.yaml", set.union(*selected.values()))):
        folder = f"packaged {len(search)}"
        assert package(folder, "--search", search) == 0
        records = [json.loads(file.read_text()) for file in Path(folder).glob("runs/*.json")]
        assert {record["stack"] for record in records} == stacks
        assert command("leaderboard", "verify", folder) == 0
        assert f"re-scored: {len(stacks)} run" in capsys.readouterr().out
