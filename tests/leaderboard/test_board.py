"""The board of a store: what is read, kept and excluded, and comparisons across settings and noise draws."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from noisybench.cli.app import main
from noisybench.leaderboard import table
from noisybench.leaderboard.board import BoardCache, build_board
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.measurements import Measurement, measure, measure_valid, without_record
from noisybench.leaderboard.pair_model import Test
from noisybench.leaderboard.setting_description import SettingDescription
from noisybench.leaderboard.setting_scores import RANKING_RULES
from noisybench.leaderboard.statistics import Ranking
from noisybench.leaderboard.table import StackRow
from noisybench.leaderboard.text_tables import to_csv
from noisybench.records.schema import RunRecord
from noisybench.runs import runner
from noisybench.tracking.store import Store
from tests.helpers import toy_spec
from tests.leaderboard.test_leaderboard import board_of, example_records, record, settings_of
from tests.tracking_server import Server


def keep(store: Store, made: RunRecord) -> str:
    """A finished run of a store, without training it."""
    run = store.connection.client.create_run(store.connection.experiment, run_name=made.title, tags={
        "noisybench.identity": made.identity, "noisybench.label_set": made.label_set, "noisybench.budget": made.budget,
        "noisybench.training.stack": made.stack, "noisybench.settings": made.settings,
    })  # fmt: skip
    place = store.connection.artifact_folder(run.info.run_id)
    assert place is not None
    place.mkdir(parents=True)
    (place / "record.json").write_text(json.dumps(made.as_dict()))
    store.connection.client.set_terminated(run.info.run_id, "FINISHED")
    return str(run.info.run_id)


def test_a_store_has_the_board_of_its_records(store: Store) -> None:
    runs = example_records()
    for each in runs:
        keep(store, each)
    made = BoardCache(store).board()
    wanted = build_board(measure_valid(runs)[0])
    assert made.settings == wanted.settings
    (detail,) = (json.loads(each) for each in made.details.values())
    (expected,) = (json.loads(each) for each in wanted.details.values())
    for row in [*detail["rows"], *expected["rows"]]:
        row["runs"] = [[*run[:1], *run[2:]] for run in row["runs"]]  # ids of runs are the store's
    assert detail == expected


def test_only_what_has_changed_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in [*example_records(), *(record(seed=seed, label_set="c" * 64) for seed in range(2))]:
        keep(store, each)
    boards, read = BoardCache(store), list[str]()
    plain = store.runs.record
    monkeypatch.setattr(store.runs, "record", lambda run: read.append(run.tags["label_set"][0]) or plain(run))
    first = boards.board()
    assert sorted(read) == ["a"] * 9 + ["c"] * 2
    read.clear()
    assert boards.board() is first
    assert read == []
    keep(store, record(seed=7, label_set="c" * 64))
    assert boards.board() is not first
    assert read == ["c"] * 3, "the other setting was kept"


def test_a_setting_is_ranked_once_by_each_rule(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in example_records():
        keep(store, each)
    ranked, plain = list[str](), table.rank_rows

    def counted(description: SettingDescription, rows: Sequence[StackRow], rule: str, test: Test) -> Ranking:
        ranked.append(rule)
        return plain(description, rows, rule, test)

    monkeypatch.setattr(table, "rank_rows", counted)
    BoardCache(store).board()
    assert sorted(ranked) == sorted(RANKING_RULES)


def test_what_is_in_no_table_is_reported(store: Store) -> None:
    for each in example_records():
        keep(store, each)
    keep(store, record("lonely"))
    damaged = keep(store, record("damaged"))
    next(Path("mlartifacts").glob(f"**/{damaged}/**/record.json")).write_text("{}")
    failed = store.start(toy_spec("gce"), {})
    failed.fail("out of memory")
    left = {each["what"]: each["why"] for each in BoardCache(store).board().excluded}
    assert any("cannot be read" in why for why in left.values())
    assert any(why == "failed: out of memory" for why in left.values())
    assert any(what.endswith("lonely") and "fewer than two seeds" in why for what, why in left.items())


def test_a_run_that_failed_and_then_finished_is_not_excluded(store: Store) -> None:
    spec = toy_spec("gce")
    store.start(spec, {}).fail("out of memory")
    keep(store, record(settings=spec.settings_hash))
    assert BoardCache(store).board().excluded == []


def submitted(status: str) -> list[Measurement]:
    """Measurements of an entry that was submitted."""
    records = [record("submitted", seed, 0.95) for seed in range(3)] + [record("gce", 0, 0.1)]
    return [without_record(measure(each, status, "their-entry")) for each in records]


@pytest.mark.parametrize("status", ["claimed", "re-scored", "re-run"])
def test_entries_stand_beside_own_runs_and_say_what_was_verified(status: str, store: Store) -> None:
    for each in example_records():
        keep(store, each)
    made = BoardCache(store, measured=submitted(status)).board()
    ((_, text),) = made.details.items()
    rows = {row["stack"]: row for row in json.loads(text)["rows"]}
    assert rows["submitted"]["verified"] == status
    assert rows["submitted"]["runs"][0][-1] == f"{status} (their-entry, version 0)"
    assert rows["gce"]["verified"] == "local"
    assert len(rows["gce"]["runs"]) == 3, "of a run that both have, one's own counts"
    assert made.details == {**BoardCache(store, measured=submitted(status)).board().details}


def test_draws_of_one_noise_are_blocks() -> None:
    def draw(seed: int, stack: str, level: float) -> list[RunRecord]:
        made = [record(stack, each, level + 0.02 * seed, label_set=str(seed) * 64) for each in range(3)]
        noise = {"name": "pair_flip", "rate": 0.4, "seed": seed}
        return [dataclasses.replace(each, spec={**each.spec, "noise": noise}) for each in made]

    runs = [run for seed in range(4) for stack, level in (("a", 0.9), ("bb", 0.7)) for run in draw(seed, stack, level)]
    (group,) = board_of(runs).sections["draws"]
    assert len(group["settings"]) == 4
    assert [row[:2] for row in group["rules"]["last"]["rows"]] == [[1, "a"], [2, "bb"]]
    mean, deviation, *_ = group["rules"]["last"]["rows"][0][2]
    assert mean == pytest.approx(0.93, abs=0.01)
    assert deviation == pytest.approx(0.0258, abs=0.003), "over draws, not over seeds"
    assert board_of(example_records()).sections["draws"] == []


def test_settings_are_compared_where_budget_and_stacks_are_the_same() -> None:
    other = [dataclasses.replace(each, label_set="c" * 64) for each in example_records()]
    longer = [dataclasses.replace(each, label_set="d" * 64, budget="e" * 12) for each in example_records()]
    made = board_of([*example_records(), *other, *longer])
    (group,) = made.sections["across"]
    assert len(group["settings"]) == 2
    assert list(group["rules"]["last"]["ranks"])[-1] == "cross_entropy"


def test_a_board_is_built_without_pytorch() -> None:
    # Its import would take longer than a board of a hundred runs.
    code = (
        "import sys, noisybench as nb; from noisybench.leaderboard.board import build_board; "
        "from noisybench.leaderboard.measurement_tables import builtin_measurements; build_board(builtin_measurements()[:9]); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_field_of_the_csv_is_a_formula() -> None:
    text = to_csv(settings_of([record("=HYPERLINK(1)", seed) for seed in range(2)]))
    assert "'=HYPERLINK(1)" in text
    assert ",=HYPERLINK" not in text


def test_the_site(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for each in example_records():
        keep(store, each)

    def export(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["noisybench", "leaderboard", "export", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    assert export("site/new") == 0
    assert "cross_entropy" in Path("site/new/index.html").read_text()
    tables = Path("site/new/leaderboard.csv").read_text()
    shipped = {measurement.setting.label_set for measurement in builtin_measurements()}
    assert all(label_set in tables for label_set in shipped | {example_records()[0].label_set}), "as on the page"
    assert export("site", "--mlflow", "javascript:alert(1)") == 2
    assert "expected an address such as" in capsys.readouterr().err


def test_a_server_of_ones_own_has_the_page(
    server_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path, f"sqlite:///{server_database}")
    server.command += ["--app-name", "noisybench"]
    try:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        spec = toy_spec("gce", dataset={"name": "digits", "train_size": 100, "test_size": 50})
        assert runner.execute(spec, Store(), lambda kind, data: None, lambda: False) == "finished"
        status = 202  # the waiting page, until the first board is made
        while status == 202:
            with urllib.request.urlopen(f"{server.uri}/leaderboard", timeout=60) as answer:
                status, page = answer.status, answer.read().decode()
        assert '"stack": "gce"' in page.replace("&quot;", '"')
        assert Store().runs.record(Store().runs.list_runs("FINISHED")[0]).stack == "gce"
    finally:
        server.stop()
        server.log.close()


def test_serving_what_is_a_server_already_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "argv", ["noisybench", "leaderboard", "serve"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "--app-name noisybench" in capsys.readouterr().err


def test_a_port_in_use_is_reported(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sys, "argv", ["noisybench", "leaderboard", "serve", "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 2
    assert "cannot listen on" in capsys.readouterr().err
