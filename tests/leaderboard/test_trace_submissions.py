"""Submissions of chain-of-thought runs: responses give every score again, and whatever is changed is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisybench.data.traces.packed_texts import pack_texts, unpack_texts
from noisybench.errors import UserError
from noisybench.leaderboard import trace_evidence
from noisybench.leaderboard.trust import TrustPolicy
from noisybench.tasks.datasets.traced_integers import TracedIntegers
from tests.leaderboard.changes import changed_evidence, changed_record, flip, list_files, one, verdict
from tests.leaderboard.entries import write_entry
from tests.tasks.test_language_models import save_model

TEST, VALIDATION, TRAIN = 6, 4, 24
PROBLEMS = {
    "width": 1, "train_problems": TRAIN, "validation_problems": VALIDATION, "test_problems": TEST, "ood_lengths": [2],
}  # fmt: skip
SETTING = {
    "task": "chain_of_thought",
    "dataset": {"name": "traced_integers", **PROBLEMS},
    "noise": {"name": "cot_dynamic", "contamination": 0.5},
    "budget": {
        "network": "decoder:16x1", "epochs": 3, "batch_size": 4, "optimizer": "adamw", "learning_rate": 0.01,
        "augmentation": "none",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission of two short real runs."""
    return write_entry(tmp_path_factory.mktemp("traces"), ("gce", "self_consistency"), setting=SETTING)


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "entry"))


def test_what_is_written_verifies_and_trains_again_to_the_same_bits(entry: Path) -> None:
    found = verdict(entry, rerun=2)
    assert (found.status, found.runs, found.problems) == ("re-run", 2, [])
    assert [each.endswith("bit-identical") for each in found.rerun] == [True, True]
    # The accuracy on longer numbers is the only diagnostic that the responses of a submission do not give.
    assert {"rows.test_loss", "rows.diagnostics"} <= found.claims
    assert "calibration_error" not in found.claims


def test_prompted_runs_verify_and_run_again_to_the_same_bits(tmp_path: Path) -> None:
    name = f"huggingface:{save_model(tmp_path / 'model')}"
    setting = {
        **SETTING,
        "task": {"name": "prompting", "shots": 1},
        "dataset": {"name": "traced_integers", **PROBLEMS, "program": "max", "count": 2, "ood_lengths": []},
        "budget": {"network": name, "epochs": 1},
    }
    entry = write_entry(tmp_path, ("cross_entropy",), setting=setting)
    found = verdict(entry, TrustPolicy(networks=[name]), rerun=1)
    assert (found.status, found.runs, found.problems) == ("re-run", 1, [])
    assert [each.endswith("bit-identical") for each in found.rerun] == [True]


def test_a_run_without_validation_problems_verifies(tmp_path: Path) -> None:
    dataset = {"name": "traced_integers", **PROBLEMS, "validation_problems": 0}
    assert verdict(write_entry(tmp_path, ("gce",), setting={**SETTING, "dataset": dataset})).problems == []


def record_with(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return changed_record(change, "gce")


def arrays_with(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return changed_evidence(change, "gce")


def last_row(**fields: Any) -> Callable[[Path], None]:
    return record_with(lambda record: record["rows"][-1].update(fields))


def with_diagnostics(number: int, **fields: float) -> Callable[[Path], None]:
    return record_with(lambda record: record["rows"][number]["diagnostics"].update(fields))


def correct_responses() -> list[str]:
    """Return the clean validation traces."""
    data = TracedIntegers(**PROBLEMS).load()
    assert data.trace_format is not None
    return data.trace_format.decode(data.validation.targets)


def with_texts(name: str, change: Callable[[list[list[str]]], Any]) -> Callable[[Path], None]:
    """Change the responses of all rows."""

    def apply(arrays: dict[str, Any]) -> None:
        texts = unpack_texts(arrays[f"{name}_responses"], arrays[f"{name}_lengths"])
        change(texts)
        arrays[f"{name}_responses"], arrays[f"{name}_lengths"] = pack_texts(texts)

    return arrays_with(apply)


LIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a better epoch": (record_with(lambda r: r["rows"][1].update(test_score=0.99)), "row 1 .*test_score is claimed to be 0.99"),
    "a better validation": (record_with(lambda r: r["rows"][0].update(noisy_val_score=0.9)), "row 0 .*noisy_val_score"),
    "better clean validation": (record_with(lambda r: r["rows"][0].update(clean_val_score=0.9)), "clean_val_score"),
    "no validation": (record_with(lambda r: r["rows"][0].update(noisy_val_score=None)), "noisy_val_score is claimed to be None"),
    "better training": (last_row(train_score=0.99), "train_score is claimed to be 0.99"),
    "less memorized": (last_row(memorized_fraction=0.777), "memorized_fraction is claimed"),
    "more recovered": (last_row(recovered_fraction=0.999), "recovered_fraction is claimed"),
    "better label quality": (last_row(noise_auroc=0.999), "noise_auroc is claimed"),
    "better detection": (record_with(lambda r: r["detection"].update(auroc=0.999)), "detection.auroc is claimed"),
    "another curve": (record_with(lambda r: r["detection"]["roc"].__setitem__(5, 0.123)), "detection.roc is not what"),
    "a better detector": (
        record_with(lambda r: r["rows"][-1]["detectors"]["trace_loss"].update(noise_auroc=0.999)), "trace_loss.noise_auroc"
    ),
    "no detector": (record_with(lambda r: r["rows"][-1]["detectors"].pop("trace_execution")), "detectors.trace_execution"),
    "better steps": (with_diagnostics(1, step_accuracy=0.97), "row 1 .*step_accuracy is claimed"),
    "more valid traces": (with_diagnostics(0, valid_traces=0.97), "row 0 .*valid_traces is claimed"),
    "fewer unparsable answers": (with_diagnostics(0, unparsable=0.321), "row 0 .*unparsable is claimed"),
    "longer responses": (with_diagnostics(1, length=77.0), "row 1 .*length is claimed"),
    "a later error": (with_diagnostics(1, first_error_step=9.0), "row 1 .*first_error_step is claimed"),
    "better samples": (with_diagnostics(-1, exact_match_sampled=0.97), "exact_match_sampled is claimed"),
    "samples of an earlier epoch": (
        with_diagnostics(0, exact_match_sampled=0.97), "row 0 .*exact_match_sampled is claimed to be 0.97"
    ),
    "a lower loss": (with_diagnostics(-1, loss_corrupted=0.001), "loss_corrupted is claimed"),
    "more detectable": (with_diagnostics(-1, detectable_by_execution=0.123), "detectable_by_execution is claimed"),
    "invented diagnostics": (with_diagnostics(0, gain=9.0), "no part of the run: 'gain'"),
    "an impossible share": (with_diagnostics(0, step_accuracy=1.5), "step_accuracy must be from 0 to 1"),
    "a negative loss": (with_diagnostics(0, loss_correct=-1.0), "loss_correct must not be negative"),
    "a better shift": (
        record_with(lambda r: r["rows"][0]["diagnostics"].update({"shift_accuracy.width_2": 0.9})), "is not the mean of"
    ),
    "an unknown shift": (
        record_with(lambda r: r["rows"][0]["diagnostics"].update({"shift_accuracy.width_9": 0.0})), "'shift_accuracy.width_9'"
    ),
    "a balanced accuracy": (record_with(lambda r: r["rows"][0].update(test_balanced_accuracy=0.9)), "test_balanced_accuracy"),
    "prediction changes": (record_with(lambda r: r["rows"][1].update(prediction_changes=0.5)), "counted only for one class"),
    "recalls": (record_with(lambda r: r.update(test_recall=[0.5])), "test_recall and noisy_val_recall must be empty"),
    "a calibration error": (record_with(lambda r: r.update(calibration_error=0.1)), "calibration_error is claimed to be 0.1"),
    "another metric": (record_with(lambda r: [row.update(metric="miou") for row in r["rows"]]), "metric must be exact_match"),
    "another label set": (record_with(lambda r: r.update(label_set="0" * 64)), "another label set"),
    "another seed": (record_with(lambda r: r["spec"].update(seed=7)), "identity is claimed to be|seed is claimed"),
    "another name": (record_with(lambda r: r.update(stack="my_method")), "stack is claimed to be 'my_method'"),
    "other responses": (with_texts("test", lambda t: t[1].__setitem__(0, "1+1=2#2$zz")), "row 1 .*length is claimed"),
    "other validation responses": (
        with_texts("validation", lambda t: t[0].__setitem__(slice(None), correct_responses())), "row 0 .*val_score is claimed"
    ),
    "other samples": (with_texts("sampled", lambda t: t[0].pop()), "sampled_lengths has the shape"),
    "fewer rows": (with_texts("test", lambda t: t.pop()), "test_lengths has the shape"),
    "more rows": (with_texts("test", lambda t: t.append(t[0])), "test_lengths has the shape"),
    "an endless response": (with_texts("test", lambda t: t[0].__setitem__(0, "1" * 100_000)), "a response of 100000 characters"),
    "other rows": (arrays_with(lambda a: flip(a, "test_index")), "test_index is not that of the test split"),
    "other training rows": (arrays_with(lambda a: flip(a, "train_index")), "train_index is not that"),
    "other validation rows": (arrays_with(lambda a: flip(a, "validation_index")), "validation_index is not"),
    "other training predictions": (arrays_with(lambda a: a["prediction"].fill(3)), "memorized_fraction|recovered_fraction"),
    "truncated texts": (
        arrays_with(lambda a: a.update(test_responses=a["test_responses"][:-5])), "test_responses: the lengths"
    ),
    "no texts": (arrays_with(lambda a: a.update(test_responses=a["test_responses"][:0])), "test_responses: the lengths"),
    "negative lengths": (arrays_with(lambda a: a["test_lengths"].__setitem__((0, 0), -3)), "test_responses: the lengths"),
    "no text at all": (arrays_with(lambda a: a["test_responses"].fill(255)), "test_responses: the texts are not UTF-8"),
    "quality of other traces": (arrays_with(lambda a: a.update(label_quality=a["label_quality"][:-1])), "quality has the shape"),
    "turned quality": (arrays_with(lambda a: a.update(label_quality=1 - a["label_quality"])), "auroc is claimed"),
    "no numbers": (arrays_with(lambda a: a.update(label_quality=a["label_quality"] * np.float16("nan"))), "must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_traces_is_refused_with_its_reason(name: str, entry: Path) -> None:
    change, reason = LIES[name]
    change(entry)
    found = verdict(entry)
    assert found.status == "claimed"
    assert any(re.search(reason, each) for each in found.problems), found.problems


def test_evidence_of_another_task_is_refused(entry: Path) -> None:
    place = one(entry, "gce").with_suffix(".npz")
    np.savez_compressed(place, test_index=np.arange(TEST))
    list_files(entry)
    with pytest.raises(
        UserError, match=r"expected the arrays test_index.npy, test_responses.npy, .*, but got 'test_index.npy'"
    ):
        verdict(entry)


def test_numbers_that_python_does_not_parse_are_no_crash(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_evidence, "MAX_CHARACTERS", 10**6)
    with_texts("test", lambda t: t[0].__setitem__(0, "1+1=2#" + "9" * 5000 + "$"))(entry)
    assert any("a response cannot be executed again (Exceeds the limit" in each for each in verdict(entry).problems)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@pytest.mark.fast
@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 4).flatmap(
        lambda width: st.lists(st.lists(TEXTS, min_size=width, max_size=width), min_size=1, max_size=3)
    )
)
def test_texts_are_read_back_as_they_were(rows: list[list[str]]) -> None:
    data, lengths = pack_texts(rows)
    assert lengths.shape == (len(rows), len(rows[0]))
    assert unpack_texts(data, lengths) == rows


@pytest.mark.fast
@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(0, 80), st.integers(0, 255), st.integers(-5, 5))
def test_damaged_texts_are_refused_or_read_in_their_number(
    texts: list[str], place: int, value: int, longer: int
) -> None:
    data, lengths = (each.copy() for each in pack_texts([texts]))
    if len(data):
        data[place % len(data)] = value
    lengths[0, 0] += longer
    try:
        found = unpack_texts(data, lengths)
    except UserError:
        return
    assert [len(row) for row in found] == [len(texts)]
