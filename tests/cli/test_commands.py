"""The commands as people run them: processes, exit statuses, interruptions, and bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noisybench.cli.app import main
from noisybench.records.schema import RunRecord
from noisybench.tracking.store import Store
from tests.conftest import copy_database

TINY = """
base:
  recipe: digits
  dataset: {name: digits, train_size: 200, test_size: 100}
  budget: {epochs: 3}
  execution: {system_metrics: false}
noise: [{name: pair_flip, rate: 0.3}]
stacks: [cross_entropy, gce]
seeds: [0, 1]
"""


Command = Callable[..., tuple[int, str]]


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run a command in this process and return the one message with which it ends."""
    monkeypatch.setattr(sys, "argv", ["noisybench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert ended.value.code == 2, captured
    assert "Traceback" not in captured.err
    return captured.err


def accepted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["noisybench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert not ended.value.code, captured.err
    return captured.out


@pytest.fixture
def folder(workspace: Path, empty_database: Path) -> Path:
    copy_database(empty_database, workspace / "mlflow.db")
    return workspace


def records(folder: Path) -> list[RunRecord]:
    return Store(f"sqlite:///{folder / 'mlflow.db'}").runs.records()


def test_a_suite_from_plan_to_page_and_again(folder: Path, noisybench: Command) -> None:
    (folder / "tiny.yaml").write_text(TINY)
    status, output = noisybench("bench", "tiny.yaml", "--dry-run")
    assert status == 0
    assert "4 runs: 0 finished, 0 to resume, 4 to start" in output
    assert "unknown, no run of these stacks and settings is recorded on" in output

    status, output = noisybench("bench", "tiny.yaml")
    assert status == 0, output
    assert "4 completed, 0 skipped" in output
    assert "[4/4]" in output
    assert "left" in output
    for word in ("rank", "cross_entropy", "gce", "noisy_val", "corrected over", "noisybench leaderboard"):
        assert word in output
    page = (folder / "leaderboard.html").read_text()
    # Papers and code are links in the data.
    shell = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.S)
    assert "://" not in shell.replace("http://www.w3.org/2000/svg", ""), "the page must need no network"

    status, output = noisybench("bench", "tiny.yaml", "seeds=[0,1,2]", "--dry-run")
    assert "6 runs: 4 finished, 0 to resume, 2 to start" in output
    assert "Estimated time with" in output
    assert "unknown" not in output

    status, output = noisybench("bench", "tiny.yaml")
    assert status == 0
    assert "0 completed, 4 skipped" in output


def test_a_failed_run_does_not_stop_the_suite(folder: Path, noisybench: Command, plugins: None) -> None:
    stacks = "[{name: half_of_the_examples, share: 0.0}, gce]"
    (folder / "tiny.yaml").write_text(TINY.replace("[cross_entropy, gce]", stacks))
    status, output = noisybench("bench", "tiny.yaml")
    assert status == 1
    assert "2 completed" in output
    assert "2 failed" in output
    assert "the selection is empty, so no example is left to train on" in output
    assert "Traceback" not in output
    assert {record.stack for record in records(folder)} == {"gce"}


def test_nothing_is_trained_when_one_run_is_impossible(folder: Path, noisybench: Command) -> None:
    (folder / "tiny.yaml").write_text(TINY.replace("gce]", "gce, ensemble+elr]").replace("rate: 0.3", "rate: 0.6"))
    status, output = noisybench("bench", "tiny.yaml")
    assert status == 2
    assert "noise.rate: must be in [0, 0.5]" in output
    assert records(folder) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels", "create", "digits", "-o", ""], "an argument is empty in `noisybench labels create digits -o ''`"),
        (["leaderboard", "--output="], "an argument is empty in `noisybench leaderboard --output=`"),
        (["run", "digitz"], "unknown recipe `digitz`; did you mean `digits`?"),
        (["run", "nowhere.yaml"], "the file does not exist"),
        (["bench", "quickstrat"], "unknown suite `quickstrat`; did you mean `quickstart`?"),
        (["run", "digits", "noise=symmetric"], "unknown noise model `symmetric`; did you mean"),
        (["run", "digits", "noise.rate=1.2"], "noise.rate: input should be less than 1, but got 1.2"),
        (["run", "digits", "budget.epoch=3"], "budget: unknown field `epoch`; did you mean `epochs`"),
        (["list", "noises"], "unknown kind `noises`; did you mean `noise_models`?"),
        (["describe", "ellr"], "unknown name `ellr`; did you mean `elr` or `clslsr`?"),
        (["leaderboard", "--rule", "best"], "unknown rule `best`; known: label_wave, last, last10, noisy_val, oracle"),
        (["audit", "appl", "decisions.csv"], "did you mean `noisybench audit apply`?"),
        (["leaderboard", "-f", "csv", "--ci"], "--ci: does not apply to --format csv"),
        (["leaderboard", "-f", "markdown", "--wide"], "--wide: applies to the terminal, but got --format markdown"),
        (["leaderboard"], "the store has no finished runs that match"),
        (["labels", "verify", "nowhere"], "not a label set"),
        (["labels", "create", "digits", "noise.rate=0.95"], "must be in [0, 0.9] for 10 classes"),
        (["labels", "create", "digits", "--format", "xml"], "must be parquet or csv"),
        (["inspect", "digits", "seed=0,1"], "one value per override"),
        (["validate", "digits", "mitigations=gce+elr"], "gce and elr both define the loss"),
        (
            ["validate", "digits", "budget.network=torchvision:resnett18"],
            "torchvision has no classifier `resnett18`",
        ),
    ],
)
def test_bad_input_ends_with_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message in refused(capsys, monkeypatch, *arguments)


def test_an_unusable_store_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "is unavailable" in refused(capsys, monkeypatch, "run", "digits")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    assert "cannot be created" in refused(capsys, monkeypatch, "run", "digits")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from noisybench.errors import UserError

    monkeypatch.setattr(sys, "argv", ["noisybench", "describe", "ellr", "--debug"])
    with pytest.raises(UserError):
        main()


def test_label_sets_by_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workspace: Path
) -> None:
    create = ["labels", "create", "digits", "noise=pair_flip", "noise.rate=0.3", "--output", "frozen"]
    assert "nominal rate   0.3000" in accepted(capsys, monkeypatch, *create)
    assert "transitions (rows: clean, columns: observed)" in accepted(capsys, monkeypatch, "labels", "info", "frozen")
    assert "match their manifest" in accepted(capsys, monkeypatch, "labels", "verify", "frozen", "digits")
    message = refused(capsys, monkeypatch, "labels", "verify", "frozen", "digits", "dataset.split_seed=1")
    assert "belongs to another dataset" in message
    assert "labels written" in accepted(capsys, monkeypatch, "labels", "export", "frozen", "table.csv")
    frozen = (workspace / "frozen" / "labels.parquet").read_bytes()
    text = refused(capsys, monkeypatch, "labels", "export", "frozen", "frozen/labels.parquet")
    assert "frozen/labels.parquet: is inside of the label set, whose files stay as they are" in text
    assert (workspace / "frozen" / "labels.parquet").read_bytes() == frozen
    accepted(capsys, monkeypatch, "labels", "import", "table.csv", "digits", "--output", "imported")
    first, second = (json.loads((workspace / name / "manifest.json").read_text()) for name in ("frozen", "imported"))
    assert first["sha256"] == second["sha256"]


def test_inspect_draws_a_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workspace: Path
) -> None:
    output = accepted(capsys, monkeypatch, "inspect", "digits", "noise=pair_flip", "-o", "noise.png")
    assert "nominal rate   0.4500" in output
    assert (workspace / "noise.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "command",
    ["run", "bench", "leaderboard", "list", "describe", "inspect", "labels", "validate", "doctor",
     "labels create", "labels info", "labels verify", "labels export", "labels import", "audit", "audit apply", "search",
     "leaderboard serve",
     "leaderboard export", "leaderboard reproduction", "leaderboard package", "leaderboard verify"],
)  # fmt: skip
def test_every_help_has_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Example: noisybench" in accepted(capsys, monkeypatch, *command.split(), "--help")


def test_listing_and_describing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    listed = json.loads(accepted(capsys, monkeypatch, "list", "--json"))
    assert "elr" in listed["mitigations"]
    described = accepted(capsys, monkeypatch, "describe", "elr")
    assert "beta = 0.7    (float, allowed [0, 1), search 0.5 to 0.99)" in described
    assert "Liu et al. 2020" in described
    assert "preset=cifar100    cifar100, symmetric_inclusive or " in described
    assert "settings: beta=0.9, reg_weight=7\n" in described
    recipe = accepted(capsys, monkeypatch, "describe", "paper:elr-cifar10-sym40")
    assert "expect:  91.43 +- 0.21 % (Liu et al. 2020, table 1, ELR with cosine annealing; epoch: unstated)" in recipe
    assert '"preset": "cifar10-symmetric"' in recipe


def test_doctor_and_validate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torchvision ops" in accepted(capsys, monkeypatch, "doctor")
    assert "digits is valid: 1 run" in accepted(capsys, monkeypatch, "validate", "digits")
    assert "digits-elr is valid: 1 search" in accepted(capsys, monkeypatch, "validate", "digits-elr", "trials=3")


def test_a_closed_pipe_ends_quietly(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "noisybench", "list"],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) != 0
    assert "internal error" not in errors
    assert "Traceback" not in errors
