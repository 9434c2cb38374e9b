"""Runs whose record cannot be used: skipped, counted and listed, and never in the way of other runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisybench.records.validation import parse_record
from noisybench.tracking.store import Store
from noisybench.utils.files import require_writable
from tests.leaderboard.test_board import keep
from tests.leaderboard.test_leaderboard import record

NOTHING = object()


def content(path: str, value: Any) -> bytes:
    """Return the JSON of a record with one other value, or without it."""
    data = json.loads(json.dumps(record().as_dict()))
    *parents, last = path.split(".")
    inner = data
    for name in parents:
        inner = inner[int(name) if isinstance(inner, list) else name]
    if value is NOTHING:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(data).encode()


IMPOSSIBLE = {
    "rows": ([], "it has no rows"),
    "rows.0.test_score": (1.5, "test_score must be a fraction from 0 to 1, but is 1.5"),
    "rows.1.test_score": (float("nan"), "test_score must be a fraction"),
    "rows.1.train_score": (float("nan"), "train_score must be a fraction"),
    "rows.2.test_score": ("0.5", "rows.2.test_score: input should be a valid number"),
    "rows.3.noisy_val_score": (-0.1, "noisy_val_score must be a fraction"),
    "rows.4.epoch": (-1, "epoch -1 is negative"),
    "cost.wall_seconds": (-3.0, "cost.wall_seconds: must be a number from 0"),
    "cost.train_seconds": (float("inf"), "cost.train_seconds: must be a number from 0"),
    "cost": (None, "cost: input should be"),
    "format": (1, "expected record format"),
    "unknown": (1, "unknown: unexpected keyword argument"),
    "rows.0.unknown": (1, "rows.0.unknown: unexpected keyword argument"),
    "seed": (0.5, "seed: input should be a valid integer"),
    "title": (NOTHING, "title: field required"),
    "detection": ([], "detection: input should be"),
    "manifest.dataset.sizes.test": (0, "manifest.dataset.sizes.test: must be an integer from 1, but is 0"),
    "manifest.dataset": ({}, "lacks sizes or classes"),
    "manifest.noise": ({}, "lacks its convention"),
    "spec.budget": (NOTHING, "it lacks spec.budget.network"),
}


@pytest.mark.parametrize(
    ("path", "value", "message"), [(path, *rest) for path, rest in IMPOSSIBLE.items()], ids=IMPOSSIBLE
)
def test_impossible_records_are_refused_in_one_line(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parse_record(content(path, value))
    assert "\n" not in str(error.value)


def test_a_good_record_is_read_as_it_was_written() -> None:
    assert parse_record(json.dumps(record().as_dict()).encode()) == record()


@pytest.mark.parametrize("separator", [b"", b" ", b",", b"\n"])
def test_only_one_record_is_a_record(separator: bytes) -> None:
    whole = json.dumps(record().as_dict()).encode()
    for data in (separator, whole + separator + whole):
        with pytest.raises(ValueError, match=r"^it is no JSON"):
            parse_record(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no record": Path.unlink,
    "no files": lambda file: shutil.rmtree(file.parents[1]),
    "no JSON": lambda file: file.write_bytes(b"\xff{"),
    "empty": lambda file: file.write_bytes(b""),
    "another value": lambda file: file.write_text("3"),
    "no rows": lambda file: file.write_bytes(content("rows", [])),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "deep JSON": lambda file: file.write_text("[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_one_damaged_run_is_listed_and_blocks_nothing(
    damage: Callable[[Path], object], store: Store, noisybench: Callable[..., tuple[int, str]]
) -> None:
    good = [keep(store, record(stack, seed)) for stack in ("gce", "elr") for seed in range(2)]
    bad = keep(store, record("gce", 7))
    damage(Path("mlartifacts") / bad / "artifacts" / "record.json")
    stored = Store().runs.read()
    assert sorted(each.run_id for each in stored.records) == sorted(good)
    assert [each.run.run_id for each in stored.excluded] == [bad]
    status, output = noisybench("leaderboard")
    assert status == 0
    assert "Excluded: 1 run\n" in output
    assert bad in output
    status, _ = noisybench("leaderboard", "--format", "html", "-o", "page.html")
    assert status == 0
    assert bad in Path("page.html").read_text()
    assert not store.runs.is_finished(stored.excluded[0].run.tags["identity"]), "it is trained again"


def test_a_damaged_run_that_was_trained_again_is_not_listed(store: Store) -> None:
    bad, again = keep(store, record()), keep(store, record())
    (Path("mlartifacts") / bad / "artifacts" / "record.json").unlink()
    stored = store.runs.read()
    assert [each.run_id for each in stored.records] == [again]
    assert stored.excluded == []


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(Exception, match=r"the folder /proc/nowhere cannot be written .*another folder"):
        require_writable(Path("/proc/nowhere"))
