"""Submissions: what is written verifies; whatever is changed is refused, with the reason, and nothing is executed."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.cli.app import main
from noisybench.config.budget import Budget
from noisybench.config.spec import RunSpec, run_identity
from noisybench.errors import UserError
from noisybench.evaluation.classification import score_selection
from noisybench.evaluation.detectors import score_detector
from noisybench.leaderboard import claims, submission, verification
from noisybench.leaderboard.evidence_kinds import EVIDENCE_KINDS
from noisybench.records.schema import EpochRow, RunRecord
from noisybench.tasks.transfer import Transfer
from noisybench.training.auxiliary import AuxiliaryCost
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.leaderboard.changes import (
    better_guesses,
    changed_evidence,
    changed_record,
    flip,
    list_files,
    one,
    verdict,
)
from tests.leaderboard.entries import write_entry

CLASSES = EVIDENCE_KINDS[0]


def test_what_is_written_verifies(entry: Path) -> None:
    found = verdict(entry)
    assert (found.status, found.runs, found.problems) == ("re-scored", 3, [])
    assert submission.read(entry).status == "claimed", "until a maintainer has marked it"


def test_phases_follow_from_the_stack(tmp_path: Path) -> None:
    """Phases have learning rates of their own, and a row names the phase of its epoch."""
    stack = {"name": "t_revision", "warmup_epochs": 1, "revision_epochs": 1, "implausible": "warn"}
    entry = write_entry(tmp_path, [stack])
    found = verdict(entry)
    assert (found.status, found.problems) == ("re-scored", [])
    (record,) = submission.read(entry).records()
    assert [row.diagnostics["phase"] for row in record.rows] == [0, 1, 2]

    changed_record(lambda record: record["rows"][2]["diagnostics"].update(phase=1.0), record.stack)(entry)
    assert any("row 2: phase is claimed to be 1.0, but the stack gives 2" in each for each in verdict(entry).problems)


def test_runs_are_trained_again_to_the_same_bits(entry: Path) -> None:
    found = verdict(entry, rerun=2)
    assert found.status == "re-run"
    assert len(found.rerun) == 2
    assert all(each.endswith("bit-identical") for each in found.rerun)


def test_submitters_cannot_know_which_runs_are_retrained(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = {record.title: record for record in submission.read(entry).records()}
    trained: list[str] = []
    monkeypatch.setattr(verification, "retrain", lambda spec, folder: trained.append(spec.title) or claimed[spec.title])
    for _ in range(30):
        verdict(entry, rerun=1)
    # The chance that one of three runs is never drawn is below 2 in 100,000.
    assert set(trained) == set(claimed)


@pytest.mark.parametrize(
    ("digest", "change", "problem"),
    [
        (None, 0.01, "last .* although the weights are the same"),
        ("0" * 64, 0.03, "last .* more than 2 points apart"),
        ("0" * 64, 0.01, ""),
    ],
)
def test_retraining_compares_scores_whatever_the_weights_are(
    entry: Path, monkeypatch: pytest.MonkeyPatch, digest: str | None, change: float, problem: str
) -> None:
    claimed = {record.title: record for record in submission.read(entry).records()}

    def train(spec: RunSpec, folder: Path) -> RunRecord:
        record = claimed[spec.title]
        rows = [dataclasses.replace(row, test_score=row.test_score - change) for row in record.rows]
        return dataclasses.replace(record, rows=rows, weights_sha256=digest or record.weights_sha256)

    monkeypatch.setattr(verification, "retrain", train)
    found = verdict(entry, rerun=1)
    assert re.search(problem, " ".join(found.problems))
    assert found.status == ("claimed" if problem else "re-run")


def test_retraining_compares_the_scores_of_earlier_epochs(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = {record.title: record for record in submission.read(entry).records()}

    def train(spec: RunSpec, folder: Path) -> RunRecord:
        record = claimed[spec.title]
        rows = [dataclasses.replace(row, test_score=0.0) for row in record.rows[:-1]] + record.rows[-1:]
        rows[0] = dataclasses.replace(rows[0], noisy_val_score=1.0)
        return dataclasses.replace(record, rows=rows, weights_sha256="0" * 64)

    monkeypatch.setattr(verification, "retrain", train)
    (problem,) = verdict(entry, rerun=1).problems
    assert re.search("noisy_val 0.00 here, .* claimed", problem)


PROBE = {
    "mitigation": "gce", "epochs": 3, "axis": "rank", "positions": [], "metrics": [], "controls": {}, "signal_energy": None,
    "noise_energy": None, "chance_energy": None, "diagnostics": {},
}  # fmt: skip

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
    "a better balanced accuracy": (
        changed_record(lambda r: r["rows"][1].update(test_balanced_accuracy=0.99)), "test_balanced_accuracy is claimed to be 0.99"
    ),
    "a better class": (changed_record(lambda r: r["test_recall"].__setitem__(3, 0.123)), "test_recall of class 3 is claimed"),
    "fewer classes": (changed_record(lambda r: r["test_recall"].pop()), "test_recall has 9 classes, but must have 10"),
    "more chance": (changed_record(lambda r: r["rows"][0].update(memorized_chance=0.5)), "memorized_chance is claimed"),
    "better detection at the true rate": (
        changed_record(lambda r: r["detection"].update(missed_at_true_rate=0.0)), "detection.missed_at_true_rate"
    ),
    "changes of no example": (
        changed_record(lambda r: r["rows"][1].update(prediction_changes=0.12345)), "prediction_changes is no fraction of"
    ),
    "no changes": (
        changed_record(lambda r: r["rows"][1].update(prediction_changes=0.0)), "but train_score changes by"
    ),
    "changes of the first epoch": (
        changed_record(lambda r: r["rows"][0].update(prediction_changes=0.5)), "in every epoch but the first"
    ),
    "another metric": (changed_record(lambda r: [row.update(metric="miou") for row in r["rows"]]), "metric must be accuracy"),
    "another stage": (changed_record(lambda r: r["rows"][1].update(stage="zzz")), "its rows are not those of 3 epochs"),
    "an epoch twice": (changed_record(lambda r: r["rows"][1].update(epoch=0)), "its rows are not those of 3 epochs"),
    "another title": (changed_record(lambda r: r.update(title="the best method")), "title is claimed to be 'the best method'"),
    "another task": (changed_record(lambda r: r.update(task="transfer")), "task is claimed"),
    "invented diagnostics": (
        changed_record(lambda r: r["rows"][0]["diagnostics"].update({"gain": 9.0})), "diagnostics of no part of the run: 'gain'"
    ),
    "an impossible share": (
        changed_record(lambda r: r["rows"][2]["diagnostics"].update(kept_fraction=1.5)), "kept_fraction must be from 0 to 1"
    ),
    "an accuracy under no shift": (
        changed_record(lambda r: r["rows"][2]["diagnostics"].update(mean_shift_accuracy=0.99)), "is not the mean of"
    ),
    "more corrected labels": (
        changed_record(lambda r: r["rows"][2]["diagnostics"].update(corrected_fraction=0.987)), "corrected_fraction is claimed"
    ),
    "an invented warning": (changed_record(lambda r: r["rows"][0]["warnings"].append("gce: try me")), "a warning of no mitig"),
    "an invented detector": (
        changed_record(lambda r: r["rows"][0]["detectors"].update(mine={"gain": 1.0})), "unknown detector scores `mine`: gain"
    ),
    "an invented probe": (
        changed_record(lambda r: r["probes"].append(PROBE)), "probe of gce: no mitigation of the stack"
    ),
    "an impossible fraction": (changed_record(lambda r: r["rows"][0].update(train_score=1.2)), "train_score must be from 0 to 1"),
    "negative time": (changed_record(lambda r: r["cost"].update(wall_seconds=-1.0)), "wall_seconds must not be negative"),
    "another learning rate": (changed_record(lambda r: r["rows"][0].update(learning_rate=0.5)), "learning_rate is claimed"),
    "a run of a store": (changed_record(lambda r: r.update(run_id="a" * 32)), "run_id must be empty"),
    "an environment of prose": (
        changed_record(lambda r: r["environment"].update({"note": "x" * 300})), "is no version or device in a few words"
    ),
    "no environment": (changed_record(lambda r: r.update(environment={})), "environment.torch is missing"),
    "other code": (changed_record(lambda r: r["code"].update(engine="0" * 16)), "identity is claimed to be"),
    "code of another part": (changed_record(lambda r: r["code"].update(mine="0" * 16)), "parts of the code is claimed"),
    "code that is no digest": (changed_record(lambda r: r["code"].update(engine="mine")), "code must have the digests of"),
    "a text in the specification": (
        changed_record(lambda r: r["spec"].update(description="the best")), "spec.description is not complete"
    ),
    "an incomplete specification": (changed_record(lambda r: r["spec"]["budget"].pop("compile")), "spec.budget is not compl"),
    "weights without digest": (changed_record(lambda r: r.update(weights_sha256="yes")), "weights_sha256 is no SHA-256"),
    "no probabilities": (
        changed_evidence(lambda a: a.update(test_probabilities=a["test_probabilities"] * 3)), "must be from 0 to 1 and have"
    ),
    "no numbers": (changed_evidence(lambda a: a.update(label_quality=a["label_quality"] * np.nan)), "must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_with_its_reason(name: str, entry: Path) -> None:
    change, reason = LIES[name]
    change(entry)
    found = verdict(entry)
    assert found.status == "claimed"
    assert any(re.search(reason, each) for each in found.problems), found.problems


def test_every_field_of_a_record_is_recomputed_or_a_claim() -> None:
    claimed = {name for name in claims.CLAIMS if "." not in name}
    assert set(RunRecord.__dataclass_fields__) == claims.RECOMPUTED_RECORD | (claimed - {"provenance", "earlier rows"})
    of_rows = {name.removeprefix("rows.") for name in claims.CLAIMS if name.startswith("rows.")}
    assert set(EpochRow.__dataclass_fields__) == claims.RECOMPUTED_ROW | claims.RECOMPUTED_LAST_ROW | of_rows
    assert {name for kind in EVIDENCE_KINDS for name in kind.claims} <= set(claims.CLAIMS)


def test_claims_have_the_names_that_runs_report() -> None:
    """So that no finished run is refused for a name that has changed."""
    assert {field.name for field in dataclasses.fields(AuxiliaryCost)} == claims.AUXILIARY_FIELDS
    status = np.array([0, 1], dtype=np.int8)
    assert set(score_detector(np.array([0.1, 0.9]), status == 1, status)) == claims.DETECTOR_METRICS
    data = TrainingSet(torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.arange(8) % 2, num_classes=2)
    task = Transfer(Budget(network="mlp:4", epochs=1), seed=0, training_set=data, stack=Stack([]))
    assert set(task.final_diagnostics(data.inputs)) <= claims.TRANSFER_DIAGNOSTICS
    assert set(score_selection(status == 0, status)) <= CLASSES.claimed_diagnostics


def test_the_documentation_lists_every_claim() -> None:
    text = (Path(__file__).parents[2] / "docs" / "submitting.md").read_text()
    missing = [name for name, meaning in claims.CLAIMS.items() if f"`{name}`" not in text or meaning not in text]
    assert missing == []


def test_runs_of_other_code_are_verified_and_said_to_be(entry: Path) -> None:
    place = one(entry)
    record = json.loads(place.read_text())
    code = {**record["code"], "engine": "0" * 16}
    identity = run_identity(record["settings"], code)
    place.with_suffix(".npz").rename(place.with_name(f"{identity}.npz"))
    place.rename(place.with_name(f"{identity}.json"))
    place.with_name(f"{identity}.json").write_text(json.dumps({**record, "code": code, "identity": identity}))
    index = json.loads((entry / submission.MANIFEST_FILE).read_text())
    index["runs"][identity] = index["runs"].pop(record["identity"])
    (entry / submission.MANIFEST_FILE).write_text(json.dumps(index))
    list_files(entry)
    found = verdict(entry)
    assert (found.problems, found.other_code) == ([], 1)


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


def test_training_losses_may_be_negative(entry: Path) -> None:
    # The regularizer of ELR is, and outweighs the cross-entropy of images that are fitted slowly.
    changed_record(lambda record: [row.update(train_loss=-7.4) for row in record["rows"]])(entry)
    assert verdict(entry).status == "re-scored"


def test_a_changed_byte_is_refused(entry: Path) -> None:
    place = one(entry).with_suffix(".npz")
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(UserError, match="the file has changed since the submission was packaged"):
        verdict(entry)


def test_a_submission_is_written_whole_or_not_at_all(made: Path, tmp_path: Path) -> None:
    def runs() -> Any:
        first = next(submission.read(made).records())
        yield first, submission.read(made).evidence(first.identity, CLASSES)
        raise UserError("the next run cannot be submitted")

    with pytest.raises(UserError, match="the next run"):
        submission.write(tmp_path / "new", "x", "0", runs())
    assert list(tmp_path.iterdir()) == []


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["noisybench", "leaderboard", *arguments])
    main()


def test_the_commands(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.parent)
    for refused in (["--description", ""], ["--description", "none of it", "--label-set", "zzzz"]):
        with pytest.raises(SystemExit) as end:
            command(monkeypatch, "package", str(tmp_path / "mine"), *refused)
        assert end.value.code == 2
        assert not (tmp_path / "mine").exists(), "a refused command leaves no folder"
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "package", str(tmp_path / "mine"), "--description", "all of it")
    assert not end.value.code
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "verify", str(tmp_path / "mine"))
    assert not end.value.code
    out = capsys.readouterr().out
    assert "re-scored: 3 runs" in out
    assert "Code:   that installed here" in out
    assert "Stamp:  claimed (no stamp)" in out
    assert "rows.train_loss" in out
    LIES["a better epoch"][0](tmp_path / "mine")
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "verify", str(tmp_path / "mine"))
    assert end.value.code == 2
    assert "refused: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, "package", str(tmp_path / "mine"), "--description", "again")
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(rows=[]),
        lambda record: record.update(spec={}),
        lambda record: record.update(manifest={"dataset": 1}),
        lambda record: record["spec"].update(mitigations=[1]),
        lambda record: record["spec"].update(noise={"name": ["x"]}),
        lambda record: record["manifest"]["dataset"].update(classes=3),
    ],
)
def test_an_incomplete_record_is_refused_by_every_command(
    change: Any, entry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed_record(change)(entry)
    for arguments in (("verify", str(entry)), ("summarize", str(entry), "-o", "measured")):
        with pytest.raises(SystemExit) as end:
            command(monkeypatch, *arguments)
        error = capsys.readouterr().err
        assert end.value.code == 2 or (arguments[0] == "summarize" and not end.value.code)
        assert "internal error" not in error


def test_a_description_that_readers_refuse_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"description: not plain JSON .*which is not plain text"):
        submission.write(tmp_path / "new", "\x1b[2J", "0", iter([]))
    assert list(tmp_path.iterdir()) == []


def test_a_store_cannot_choose_where_files_are_written(made: Path, tmp_path: Path) -> None:
    record = dataclasses.replace(next(submission.read(made).records()), identity="../../outside")
    evidence = submission.read(made).evidence(next(iter(submission.read(made).manifest.runs)), CLASSES)
    with pytest.raises(UserError, match=r"its identity '../../outside' is not one of noisybench"):
        submission.write(tmp_path / "a" / "b" / "new", "x", "0", iter([(record, evidence)]))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_retraining_on_more_devices_than_there_are_is_refused(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "retrain", lambda spec, folder: pytest.fail("trained"))
    runs = verification.verify(submission.read(entry), rerun=1)
    monkeypatch.setattr(verification.os, "cpu_count", lambda: 0.5)
    with pytest.raises(UserError, match=r"retraining needs 1 devices, more than the 0.5 cores"):
        list(runs)


def test_scoring_a_submission_again_starts_without_lightning(entry: Path) -> None:
    code = (
        "import sys\nfrom noisybench.cli.app import app\n"
        f"try:\n    app(args=['leaderboard', 'verify', {str(entry)!r}])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert 'pytorch_lightning' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
