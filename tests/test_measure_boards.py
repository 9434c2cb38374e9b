"""The measurement of the boards of a release, from a suite to the tables that ship, with a tiny suite."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from noisybench.config.suite import read_suite
from noisybench.leaderboard import entries
from noisybench.leaderboard.measurement_tables import from_csv
from tests.conftest import copy_database

ROOT = Path(__file__).parents[1]
SUITE = """
base: {dataset: {name: digits, train_size: 200, test_size: 100}, budget: {epochs: 1}, execution: {system_metrics: false}}
noise: [{name: pair_flip, rate: 0.4}]
stacks: [gce]
seeds: [0]
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_boards", ROOT / "tools" / "measure_boards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the types of fields
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def options(workspace: Path, empty_database: Path) -> list[str]:
    """Options of the tool with a tiny board."""
    (workspace / "work").mkdir()
    copy_database(empty_database, workspace / "work" / "mlflow.db")
    (workspace / "work" / "tiny.yaml").write_text(SUITE)
    (workspace / "work" / "decoder").mkdir()
    (workspace / "work" / "decoder" / "model.safetensors").touch()
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (workspace / "private.pem").write_bytes(key)
    boards = {
        # The model is there, so that it is not trained again.
        "tiny": {"suite": "tiny.yaml", "claim": "A tiny suite.", "exports": {"decoder": "absent_recipe"}},
        "photographs": {"suite": "tiny.yaml", "claim": "Others.", "needs": ["photographs.npz"]},
    }
    (workspace / "boards.yaml").write_text(yaml.safe_dump(boards, sort_keys=False))
    return ["--work", "work", "--key", "private.pem", "--boards", "boards.yaml", "--output", "shipped", "--jobs", "1"]


def test_a_board_is_trained_verified_and_summarized(tool: ModuleType, options: list[str]) -> None:
    tool.main(["tiny", "--rerun", "1", *options])
    (run,) = from_csv(Path("shipped/measured/tiny.csv").read_text())
    assert (run.stack, run.status, run.entry) == ("gce", "re-run", "tiny")
    (entry,) = entries.from_csv(Path("shipped/entries.csv").read_text())
    assert (entry.claim, entry.status) == ("A tiny suite.", "re-run")


def test_a_board_of_a_search_has_the_selected_configurations(
    tool: ModuleType, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = {"suite": "tiny.yaml", "search": ["tuned.yaml", "trials=4"], "claim": "A search."}
    Path("boards.yaml").write_text(yaml.safe_dump({"tuned": board}))
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(tool, "noisybench", lambda work, *arguments: commands.append(tuple(map(str, arguments))))
    tool.main(["tuned", *options])
    searched, packaged, *_ = commands
    assert searched == ("search", "tuned.yaml", "trials=4", "--jobs", "1")
    assert packaged[3:7] == ("--search", "tuned.yaml", "--description", "A search.")


def test_boards_that_cannot_be_measured_are_refused(
    tool: ModuleType, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="has no entry tinny; it has tiny, photographs"):
        tool.main(["tinny", *options])
    with pytest.raises(
        SystemExit, match=r"photographs: .*work has no photographs.npz; see `noisybench describe tiny.yaml`"
    ):
        tool.main(["photographs", *options])
    Path("work/decoder/model.safetensors").unlink()
    with pytest.raises(SystemExit) as refused:
        tool.main(["tiny", *options])
    assert refused.value.code == 2
    assert "unknown recipe `absent_recipe`" in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        tool.main(["tiny", "--time-limit", "soon", *options])
    assert ended.value.code == 2
    assert "expected a time such as 90s, 9m or 1h, but got soon" in capfd.readouterr().err
    assert not Path("shipped").exists()


def test_every_shipped_entry_names_a_suite_that_exists(tool: ModuleType) -> None:
    boards = tool.read_boards(ROOT / "tools" / "boards.yaml", [])
    assert len({board.name for board in boards}) == len(boards) > 8
    for board in boards:
        assert read_suite(board.suite)
