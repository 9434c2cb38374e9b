"""Submissions: what is written verifies; whatever is changed is refused, with the reason, and nothing is executed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.cli.app import main
from noisybench.errors import UserError
from noisybench.leaderboard import submission, verification
from noisybench.leaderboard.measurements import from_csv
from tests.leaderboard.entries import write_entry

STACKS: tuple[Any, ...] = ("elr", "forward_correction", "co_teaching")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission of three short real runs."""
    return write_entry(tmp_path_factory.mktemp("made"), STACKS)


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "entry"))


def verdict(folder: Path, **options: Any) -> verification.VerificationResult:
    *_, last = verification.verify(submission.read(folder), **options)
    return last


def test_what_is_written_verifies(entry: Path) -> None:
    found = verdict(entry)
    assert (found.status, found.runs, found.problems) == ("re-scored", 3, [])
    assert submission.read(entry).status == "claimed", "until a maintainer has marked it"


def test_runs_are_trained_again_to_the_same_bits(entry: Path) -> None:
    found = verdict(entry, rerun=2)
    assert found.status == "re-run"
    assert len(found.rerun) == 2
    assert all(each.endswith("bit-identical") for each in found.rerun)


def sign(entry: Path) -> None:
    """List files as they are now: an attacker would do the same."""
    index = json.loads((entry / submission.MANIFEST_FILE).read_text())
    for identity, files in index["runs"].items():
        for name, kind in (("record", "json"), ("evidence", "npz")):
            files[name] = hashlib.sha256((entry / "runs" / f"{identity}.{kind}").read_bytes()).hexdigest()
    (entry / submission.MANIFEST_FILE).write_text(json.dumps(index))


def one(entry: Path, stack: str = "elr") -> Path:
    return next(each for each in (entry / "runs").glob("*.json") if json.loads(each.read_text())["stack"] == stack)


def changed_record(change: Callable[[dict[str, Any]], Any], stack: str = "elr") -> Callable[[Path], None]:
    def apply(entry: Path) -> None:
        place = one(entry, stack)
        record = json.loads(place.read_text())
        change(record)
        place.write_text(json.dumps(record))
        sign(entry)

    return apply


def changed_evidence(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(entry: Path) -> None:
        place = one(entry).with_suffix(".npz")
        with np.load(place) as archive:
            arrays = {name: archive[name].copy() for name in archive.files}
        change(arrays)
        np.savez_compressed(place, **arrays)
        sign(entry)

    return apply


def flip(arrays: dict[str, Any], name: str, place: Any = 0) -> None:
    arrays[name][place] = (arrays[name][place] + 1) % 10


def better_guesses(arrays: dict[str, Any]) -> None:
    arrays["test_by_epoch"][1] = arrays["test_target"]


LIES = {
    "a better epoch": (changed_record(lambda r: r["rows"][1].update(test_score=0.99)), "test_score is claimed to be 0.99"),
    "a better validation": (changed_record(lambda r: r["rows"][0].update(noisy_val_score=0.9)), "noisy_val_score"),
    "better detection": (changed_record(lambda r: r["detection"].update(auroc=0.999)), "detection.auroc"),
    "a smaller error": (changed_record(lambda r: r.update(calibration_error=0.001)), "calibration_error"),
    "less memorized": (changed_record(lambda r: r["rows"][-1].update(memorized_fraction=0.0)), "memorized_fraction"),
    "another label set": (changed_record(lambda r: r.update(label_set="0" * 64)), "another label set"),
    "another manifest": (changed_record(lambda r: r["manifest"].update(actual_noise_rate=0.6)), "its manifest is not that"),
    "another seed": (changed_record(lambda r: r["spec"].update(seed=7)), "identity is claimed to be|seed is claimed"),
    "another budget": (changed_record(lambda r: r["spec"]["budget"].update(epochs=2)), "identity|budget"),
    "another name": (changed_record(lambda r: r.update(stack="my_method")), "stack is claimed to be 'my_method'"),
    "undeclared privileged information": (
        changed_record(lambda r: r.update(privileged=[]), "co_teaching"), r"privileged is claimed to be \[\], but"
    ),
    "other predictions": (changed_evidence(better_guesses), "row 1 .*test_score"),
    "other targets": (changed_evidence(lambda a: flip(a, "test_target")), "test_target is not that of the test split"),
    "other labels": (changed_evidence(lambda a: flip(a, "train_observed")), "train_observed is not that"),
    "other rows": (changed_evidence(lambda a: flip(a, "test_index")), "test_index is not that"),
    "fewer rows": (changed_evidence(lambda a: a.update(test_by_epoch=a["test_by_epoch"][:2])), "test_by_epoch has the shape"),
    "no numbers": (changed_evidence(lambda a: a.update(label_quality=a["label_quality"] * np.nan)), "must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_with_its_reason(name: str, entry: Path) -> None:
    change, reason = LIES[name]
    change(entry)
    found = verdict(entry)
    assert found.status == "claimed"
    assert any(re.search(reason, each) for each in found.problems), found.problems


def test_a_loss_of_certain_mistakes_follows_as_well(entry: Path) -> None:
    def certain(arrays: dict[str, Any]) -> None:
        arrays["test_probabilities"] = np.eye(10, dtype=np.float32)[arrays["test_by_epoch"][-1]]

    def as_scored(record: dict[str, Any]) -> None:
        wrong = 1 - record["rows"][-1]["test_score"]
        record["calibration_error"] = wrong
        record["rows"][-1]["test_loss"] = wrong * np.log(1e12)

    changed_evidence(certain)(entry)
    changed_record(as_scored)(entry)
    assert verdict(entry).problems == []


def test_a_changed_byte_is_refused(entry: Path) -> None:
    place = one(entry).with_suffix(".npz")
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(UserError, match="the file has changed since the submission was packaged"):
        verdict(entry)


def index_with(**fields: Any) -> Callable[[Path], None]:
    def apply(entry: Path) -> None:
        index = json.loads((entry / submission.MANIFEST_FILE).read_text())
        (entry / submission.MANIFEST_FILE).write_text(json.dumps({**index, **fields}))

    return apply


def pickled(entry: Path) -> None:
    """An array of objects that would run a command when it is unpickled."""

    class Command:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(entry / "executed"),))

    def change(arrays: dict[str, Any]) -> None:
        arrays["label_quality"] = np.array([Command()], dtype=object)

    changed_evidence(change)(entry)
    shutil.rmtree(entry / "executed", ignore_errors=True)


def bomb(entry: Path) -> None:
    place = one(entry).with_suffix(".npz")
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("label_quality.npy", bytes(submission.MAX_FILE_BYTES + 1))
    sign(entry)


def large(entry: Path) -> None:
    with one(entry).open("ab") as file:
        file.truncate(submission.MAX_FILE_BYTES + 1)


def link(entry: Path) -> None:
    place = one(entry)
    place.unlink()
    place.symlink_to("/etc/passwd")


def deep(entry: Path) -> None:
    one(entry).write_text("[" * 100_000)
    sign(entry)


HOSTILE = {
    "a pickle": (pickled, "cannot be read .*allow_pickle=False"),
    "a zip bomb": (bomb, "bytes unpacked exceed"),
    "an oversized file": (large, "larger than the"),
    "a link to elsewhere": (link, "a link; a submission may only contain plain files"),
    "a file more": (lambda entry: (entry / "run.py").write_text("import os"), "is not listed in"),
    "a file less": (lambda entry: one(entry).unlink(), "is missing"),
    "a path as a name": (index_with(runs={"../../etc/passwd": {"record": "0" * 64, "evidence": "0" * 64}}), "pattern"),
    "unknown fields": (index_with(execute="rm"), "Extra inputs are not permitted"),
    "no runs": (index_with(runs={}), "at least 1 item"),
    "not JSON": (lambda entry: (entry / submission.MANIFEST_FILE).write_bytes(b"\x80"), "Invalid JSON"),
    "JSON without end": (deep, "not a record of a run"),
    "a number that is none": (changed_record(lambda r: r["rows"][0].update(test_loss=float("nan"))), "or NaN"),
    "a number without end": (changed_record(lambda r: r["rows"][0].update(train_loss=float("inf"))), "infinity"),
    "text for a number": (changed_record(lambda r: r["rows"][0].update(test_loss="0.5")), "other types"),
    "a field more": (changed_record(lambda r: r.update(html="<script>")), "unknown fields"),
    "another run's record": (changed_record(lambda r: r.update(identity="0" * 20)), "belongs to another run"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_and_not_executed(name: str, entry: Path) -> None:
    change, reason = HOSTILE[name]
    change(entry)
    with pytest.raises(UserError, match=reason):
        verdict(entry)
    assert not (entry / "executed").exists()


def test_a_pickle_would_have_been_executed(entry: Path) -> None:
    """So that the test above cannot pass for another reason."""
    pickled(entry)
    with np.load(one(entry).with_suffix(".npz"), allow_pickle=True) as archive:
        archive["label_quality"]
    assert (entry / "executed").exists()


def test_a_stamp_falls_with_the_submission(entry: Path) -> None:
    submission.mark_verified(submission.read(entry), "re-run", "0")
    assert submission.read(entry).status == "re-run"
    assert verdict(entry).problems == [], "it is no part of what is verified"
    index_with(description="something else")(entry)
    assert submission.read(entry).status == "claimed"


def test_a_submission_is_written_whole_or_not_at_all(made: Path, tmp_path: Path) -> None:
    def runs() -> Any:
        first = next(submission.read(made).records())
        yield first, submission.read(made).evidence(first.identity)
        raise UserError("the next run cannot be submitted")

    with pytest.raises(UserError, match="the next run"):
        submission.write(tmp_path / "new", "x", "0", runs())
    assert list(tmp_path.iterdir()) == []


def test_local_paths_are_left_out() -> None:
    spec = {
        "dataset": {"name": "parquet", "train": "/home/me/data/train.parquet", "folder": "~/data/"},
        "noise": ["a/b", "../x"],
    }
    assert submission.strip_local_paths(spec) == {
        "dataset": {"name": "parquet", "train": "train.parquet", "folder": "data"}, "noise": ["a/b", "x"]
    }  # fmt: skip


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["noisybench", "leaderboard", *arguments])
    main()


def test_the_commands(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.parent)
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "package", str(tmp_path / "mine"), "--description", "all of it")
    assert not end.value.code
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "verify", str(tmp_path / "mine"), "--mark-verified")
    assert not end.value.code
    assert "re-scored: 3 runs" in capsys.readouterr().out
    assert submission.read(tmp_path / "mine").status == "re-scored"
    LIES["a better epoch"][0](tmp_path / "mine")
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "verify", str(tmp_path / "mine"))
    assert end.value.code == 2
    assert "refused: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "package", str(tmp_path / "mine"), "--description", "again")
    assert "is not empty" in capsys.readouterr().err


def test_entries_are_summarized_as_a_table(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission.mark_verified(submission.read(entry), "re-run", "0")
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "summarize", str(entry), "-o", "measured.csv")
    assert not end.value.code
    measurements = from_csv(Path("measured.csv").read_text())
    records = {record.stack: record for record in submission.read(entry).records()}
    assert {measurement.stack for measurement in measurements} == set(records)
    for measurement in measurements:
        assert (measurement.status, measurement.entry) == ("re-run", "entry")
        assert measurement.last == pytest.approx(records[measurement.stack].rows[-1].test_score)
    assert measurements[0].setting == measurements[1].setting
