"""Files of runs that are damaged: set aside, and the run reaches the weights of an undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from noisybench.runs.run_folder import RunFolder
from noisybench.training.auxiliary import AuxiliaryCache, AuxiliaryRun
from tests.helpers import comparable_rows, prepared_toy, train_toy


def change(**fields: object) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        torch.save({**torch.load(file, weights_only=False), **fields}, file)

    return write


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda file: file.write_bytes(b""), "EOFError"),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), ""),
    "garbage": (lambda file: file.write_bytes(b"\x93garbage" * 1000), ""),
    "of another version": (change(format=0), "another version of noisybench"),
    "of another run": (change(task={}), "does not fit the run"),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train_toy(prepared_toy("elr"), tmp_path_factory.mktemp("undisturbed")).record({}).weights_sha256


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_again(
    damage: Callable[[Path], object], reason: str, tmp_path: Path, undisturbed: str, caplog: pytest.LogCaptureFixture
) -> None:
    train_toy(prepared_toy("elr"), tmp_path, stop_after=1)
    damage(tmp_path / "checkpoint.ckpt")
    recorder = train_toy(prepared_toy("elr"), tmp_path)
    assert recorder.complete
    assert len(comparable_rows(recorder.rows)) == 3
    assert recorder.record({}).weights_sha256 == undisturbed
    (message,) = caplog.messages
    assert reason in message
    assert "kept as checkpoint.ckpt.damaged-1" in message
    assert (tmp_path / "checkpoint.ckpt.damaged-1").is_file()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"no id of a run", b"a" * 1000])
def test_a_damaged_id_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run_id").write_bytes(content)
    assert RunFolder(tmp_path).run_id is None


@pytest.mark.parametrize("content", [b"", b"{", json.dumps({"format": 1}).encode(), b"[1]"])
def test_a_damaged_pending_record_is_set_aside(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pending").mkdir()
    (tmp_path / "pending" / "record.json").write_bytes(content)
    assert RunFolder(tmp_path).pending_record() is None
    assert (tmp_path / "pending.damaged-1" / "record.json").read_bytes() == content
    assert "it is written again" in caplog.text


class Counter(AuxiliaryRun):
    """Two epochs, which count."""

    title, cache_key, epochs, examples, device = "counter", {"kind": "counter"}, 2, 1, torch.device("cpu")

    def __init__(self) -> None:
        self.count, self.trained = 0, 0

    def train_epoch(self, epoch: int) -> float:
        self.count, self.trained = self.count + 1, self.trained + 1
        return 0.0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count, "more": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]
        assert isinstance(state["more"], int)

    def result(self) -> dict[str, torch.Tensor]:
        return {"count": torch.tensor(self.count)}


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_damaged_files_of_an_auxiliary_run_are_trained_again(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def damage(file: Path) -> None:
        if content is None:
            torch.save({"state": {"count": 9}, "epoch": 1, "cost": {}}, file)
        else:
            file.write_bytes(content)

    first = Counter()
    damage(tmp_path / f"{AuxiliaryCache(tmp_path).identity(first)}.ckpt")
    assert AuxiliaryCache(tmp_path).get_or_train(first) == {"count": torch.tensor(2)}
    damage(tmp_path / f"{AuxiliaryCache(tmp_path).identity(first)}.pt")
    second = Counter()
    assert AuxiliaryCache(tmp_path).get_or_train(second) == {"count": torch.tensor(2)}
    assert second.trained == 2
    assert len(caplog.messages) == 2
    assert len(list(tmp_path.glob("*.damaged-1"))) == 2
