"""Optuna's dashboard beside the leaderboard, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import flask
import optuna
import pytest

from noisybench.leaderboard.study_dashboard import DASHBOARD, is_installed, mount_dashboard


def test_without_the_package_there_is_no_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna_dashboard" else find(name))
    assert not is_installed()


# The dashboard keeps its connection to the file for as long as the server runs.
@pytest.mark.filterwarnings("ignore:.*unclosed database:pytest.PytestUnraisableExceptionWarning")
def test_the_dashboard_shows_the_studies_beside_other_pages(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    app = flask.Flask(__name__, static_folder=None)
    app.add_url_rule("/leaderboard", "leaderboard", lambda: "the page")
    file = tmp_path / "searches.db"
    mount_dashboard(app, file)
    client = app.test_client()
    # A search that starts later is shown without a restart, and the dashboard never creates the file.
    missing = client.get(DASHBOARD)
    assert (missing.status_code, "There is no search yet" in missing.text, file.exists()) == (404, True, False)
    study = optuna.create_study(storage=f"sqlite:///{file}", study_name="digits elr", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("beta", 0, 1), n_trials=2)
    (summary,) = client.get("/api/studies").json["study_summaries"]  # type: ignore[index]
    assert summary["study_name"] == "digits elr"
    trials = client.get(f"/api/studies/{summary['study_id']}").json["trials"]  # type: ignore[index]
    assert [trial["values"] for trial in trials] == [trial.values for trial in study.trials]
    for path in (DASHBOARD, f"{DASHBOARD}/studies/1"):
        with client.get(path) as page:
            assert (page.status_code, "Optuna Dashboard" in page.text) == (200, True)
    with client.get("/static/bundle.js", headers={"Accept-Encoding": "gzip"}) as script:
        assert script.mimetype == "text/javascript"
    note = client.put(f"/api/studies/{summary['study_id']}/note", json={"body": "kept", "version": 1})
    assert note.status_code == 204
    assert client.get("/leaderboard").text == "the page"
