"""Submissions of segmentation runs: predicted masks give every score again, and whatever is changed is refused."""

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
from hypothesis.extra import numpy as arrays_of

from noisybench.data.masks.compressed import compress_masks, decompress_masks
from noisybench.errors import UserError
from noisybench.leaderboard import evidence_kinds, stamps, submission, verification
from noisybench.leaderboard.evidence_kinds import evidence_kind
from noisybench.tasks.datasets.scenes import Scenes
from noisybench.tracking.store import Store
from tests.leaderboard.changes import changed_evidence, changed_record, flip, list_files, one, verdict
from tests.leaderboard.entries import write_entry
from tests.leaderboard.test_stamps import write_keys

ADELE = {"name": "adele", "fixed_onset": 1, "correction_interval": 1, "confidence_threshold": 0.3}
EPOCHS, TEST, VALIDATION, TRAIN, SIZE = 3, 6, 4, 10, 24
SCENES = {"size": SIZE, "train_images": TRAIN, "validation_images": VALIDATION, "test_images": TEST}
SETTING = {
    "task": "segmentation",
    "dataset": {"name": "scenes", **SCENES},
    "noise": "morph_scaled",
    "budget": {"network": "unet:4", "epochs": EPOCHS, "batch_size": 5, "optimizer": "adam", "learning_rate": 0.01},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission of two short real runs."""
    return write_entry(tmp_path_factory.mktemp("masks"), ("dice_loss", ADELE), setting=SETTING)


@pytest.fixture
def entry(made: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made, tmp_path / "entry"))


def test_what_is_written_verifies_and_trains_again_to_the_same_bits(entry: Path) -> None:
    found = verdict(entry, rerun=2)
    assert (found.status, found.runs, found.problems) == ("re-run", 2, [])
    assert [each.endswith("bit-identical") for each in found.rerun] == [True, True]
    assert {"calibration_error", "rows.test_loss", "rows.diagnostics"} <= found.claims


def test_only_the_numbers_of_mitigations_are_claimed_diagnostics(entry: Path) -> None:
    kind = evidence_kind("segmentation")
    assert kind is not None
    for record in submission.read(entry).records():
        known = kind.recomputed_diagnostics(record.manifest["dataset"]["classes"])
        others = {name for row in record.rows for name in row.diagnostics if name not in known}
        assert all(name.startswith("adele.") for name in others)
        assert bool(others) == record.stack.startswith("adele")


def test_a_run_without_validation_images_verifies(tmp_path: Path) -> None:
    dataset = {"name": "scenes", **SCENES, "validation_images": 0}
    entry = write_entry(tmp_path, ("dice_loss",), setting={**SETTING, "dataset": dataset})
    assert verdict(entry).problems == []
    changed_evidence(lambda a: a.update(validation_by_epoch=packed(np.zeros((1, 1, 1)))), "dice_loss")(entry)
    assert any("more than the masks of 0 rows" in each for each in verdict(entry).problems)


def packed(*masks: Any) -> Any:
    data = b"".join(compress_masks(each.astype(np.uint8)) for each in masks)
    return np.frombuffer(data, dtype=np.uint8)


def unpacked(data: Any, count: int) -> list[Any]:
    masks, rest = [], data.tobytes()
    for _ in range(EPOCHS):
        each, rest = decompress_masks(rest, (count, SIZE, SIZE))
        masks.append(each)
    return masks


def changed_masks(name: str, count: int, change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """Change the predicted masks of all rows."""

    def apply(arrays: dict[str, Any]) -> None:
        masks = unpacked(arrays[name], count)
        change(masks)
        arrays[name] = packed(*masks)

    return changed_evidence(apply, "dice_loss")


def clean_masks() -> Any:
    """Return the clean validation masks."""
    return Scenes(**SCENES).load().validation.targets


def record_with(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return changed_record(change, "dice_loss")


def corrects(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the record of the run that corrects masks."""

    def apply(entry: Path) -> None:
        (stack,) = {record.stack for record in submission.read(entry).records()} - {"dice_loss"}
        changed_record(change, stack)(entry)

    return apply


LIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a better epoch": (record_with(lambda r: r["rows"][1].update(test_score=0.99)), "row 1 .*test_score is claimed to be 0.99"),
    "a better validation": (record_with(lambda r: r["rows"][0].update(noisy_val_score=0.9)), "row 0 .*noisy_val_score"),
    "better clean validation": (record_with(lambda r: r["rows"][0].update(clean_val_score=0.9)), "clean_val_score"),
    "no validation": (record_with(lambda r: r["rows"][0].update(noisy_val_score=None)), "noisy_val_score is claimed to be None"),
    "better training": (record_with(lambda r: r["rows"][-1].update(train_score=0.99)), "train_score is claimed to be 0.99"),
    "less memorized": (record_with(lambda r: r["rows"][-1].update(memorized_fraction=0.0)), "memorized_fraction"),
    "more recovered": (record_with(lambda r: r["rows"][-1].update(recovered_fraction=1.0)), "recovered_fraction"),
    "better label quality": (record_with(lambda r: r["rows"][-1].update(noise_auroc=0.999)), "noise_auroc"),
    "better detection": (record_with(lambda r: r["detection"].update(auroc=0.999)), "detection.auroc"),
    "another curve": (record_with(lambda r: r["detection"]["roc"].__setitem__(5, 1.0)), "detection.roc is not what"),
    "an empty curve": (record_with(lambda r: r["detection"].update(roc=[])), "detection.roc is not what"),
    "the task by its name alone": (record_with(lambda r: r["spec"].update(task="segmentation")), "spec.task is not complete"),
    "a better class": (
        record_with(lambda r: r["rows"][1]["diagnostics"].update({"iou.background": 1.0})), "row 1 .*diagnostics.iou.background"
    ),
    "a better Dice": (record_with(lambda r: r["rows"][1]["diagnostics"].update(dice=0.97)), "diagnostics.dice is claimed"),
    "better boundaries": (record_with(lambda r: r["rows"][0]["diagnostics"].update(boundary_iou=0.97)), "boundary_iou is"),
    "no Dice": (record_with(lambda r: r["rows"][1]["diagnostics"].pop("dice")), "diagnostics.dice is claimed to be None"),
    "more learned": (
        record_with(lambda r: r["rows"][-1]["diagnostics"].update({"learned.background": 1.0})), "diagnostics.learned.background"
    ),
    "better corrections": (corrects(lambda r: r["rows"][-1]["diagnostics"].update(label_miou=0.99)), "label_miou is claimed"),
    "more corrected": (corrects(lambda r: r["rows"][-1]["diagnostics"].update(corrected_fraction=0.99)), "corrected_fraction is"),
    "better corrected masks": (corrects(lambda r: r.update(correction_accuracy=1.0)), "correction_accuracy is claimed"),
    "invented diagnostics": (record_with(lambda r: r["rows"][0]["diagnostics"].update(gain=9.0)), "no part of the run: 'gain'"),
    "an impossible share": (record_with(lambda r: r["rows"][0]["diagnostics"].update(label_miou=1.5)), "label_miou must be"),
    "a balanced accuracy": (record_with(lambda r: r["rows"][0].update(test_balanced_accuracy=0.9)), "test_balanced_accuracy"),
    "prediction changes": (record_with(lambda r: r["rows"][1].update(prediction_changes=0.5)), "counted only for one class"),
    "recalls": (record_with(lambda r: r.update(test_recall=[0.5])), "test_recall and noisy_val_recall must be empty"),
    "an impossible error": (record_with(lambda r: r.update(calibration_error=1.5)), "calibration_error must be from 0 to 1"),
    "another metric": (record_with(lambda r: [row.update(metric="accuracy") for row in r["rows"]]), "metric must be miou"),
    "another label set": (record_with(lambda r: r.update(label_set="0" * 64)), "another label set"),
    "another seed": (record_with(lambda r: r["spec"].update(seed=7)), "identity is claimed to be|seed is claimed"),
    "the background as well": (
        record_with(lambda r: r["spec"]["task"].update(background=True)), "identity is claimed|task is claimed"
    ),
    "another name": (record_with(lambda r: r.update(stack="my_method")), "stack is claimed to be 'my_method'"),
    "other predictions": (changed_masks("test_by_epoch", TEST, lambda m: m[1].fill(1)), "row 1 .*test_score"),
    "another image": (changed_masks("test_by_epoch", TEST, lambda m: m[2].__setitem__(0, (m[2][0] + 1) % 5)), "row 2 .*accuracy"),
    "other validation masks": (
        changed_masks("validation_by_epoch", VALIDATION, lambda m: m.__setitem__(0, clean_masks())), "row 0 .*val_score is"
    ),
    "a class that does not exist": (changed_masks("test_by_epoch", TEST, lambda m: m[0].fill(9)), "row 0: has the class 9"),
    "fewer rows": (changed_masks("test_by_epoch", TEST, lambda m: m.pop()), "test_by_epoch, row 2: the compressed masks are"),
    "more rows": (changed_masks("test_by_epoch", TEST, lambda m: m.append(m[0])), "bytes more than the masks of 3 rows"),
    "fewer images": (
        changed_masks("test_by_epoch", TEST, lambda m: m.__setitem__(0, m[0][:-1])), "row 0: the compressed masks are not 6 masks"
    ),
    "more images": (
        changed_masks("test_by_epoch", TEST, lambda m: m.__setitem__(0, np.concatenate([m[0], m[0]]))), "are not 6 masks of 24x24"
    ),
    "other rows": (changed_evidence(lambda a: flip(a, "test_index"), "dice_loss"), "test_index is not that of the test split"),
    "other training rows": (changed_evidence(lambda a: flip(a, "train_index"), "dice_loss"), "train_index is not that"),
    "other validation rows": (changed_evidence(lambda a: flip(a, "validation_index"), "dice_loss"), "validation_index is not"),
    "other training masks": (
        changed_evidence(lambda a: a.update(prediction=packed(np.zeros((TRAIN, SIZE, SIZE)))), "dice_loss"), "train_score"
    ),
    "other corrected masks": (
        changed_evidence(lambda a: a.update(corrected_labels=packed(np.ones((TRAIN, SIZE, SIZE)))), "dice_loss"),
        "correction_accuracy is claimed to be None",
    ),
    "damaged masks": (
        changed_evidence(lambda a: a.update(prediction=a["prediction"] * 0 + 7), "dice_loss"), "prediction, row 0: the"
    ),
    "truncated masks": (
        changed_evidence(lambda a: a.update(test_by_epoch=a["test_by_epoch"][:-20]), "dice_loss"), "row 2: the compressed"
    ),
    "no masks": (changed_evidence(lambda a: a.update(test_by_epoch=a["test_by_epoch"][:0]), "dice_loss"), "test_by_epoch, row 0"),
    "quality of other pixels": (
        changed_evidence(lambda a: a.update(label_quality=a["label_quality"][:-1]), "dice_loss"), "label_quality has the shape"
    ),
    "turned quality": (changed_evidence(lambda a: a.update(label_quality=1 - a["label_quality"]), "dice_loss"), "auroc is"),
    "no numbers": (
        changed_evidence(lambda a: a.update(label_quality=a["label_quality"] * np.nan), "dice_loss"), "must be finite"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_masks_is_refused_with_its_reason(name: str, entry: Path) -> None:
    change, reason = LIES[name]
    change(entry)
    found = verdict(entry)
    assert found.status == "claimed"
    assert any(re.search(reason, each) for each in found.problems), found.problems


def test_evidence_of_another_task_is_refused(entry: Path) -> None:
    """Arrays of classes in place of masks have other names."""
    place = one(entry, "dice_loss").with_suffix(".npz")
    np.savez_compressed(place, test_index=np.arange(TEST))
    list_files(entry)
    with pytest.raises(
        UserError, match=r"expected the arrays test_index.npy, test_by_epoch.npy, .*, but got 'test_index.npy'"
    ):
        verdict(entry)


def test_masks_that_unpack_to_gigabytes_are_refused_early(entry: Path) -> None:
    bomb = packed(np.zeros((1, 20_000, 20_000)))
    assert len(bomb) < 2**20
    changed_evidence(lambda a: a.update(prediction=bomb), "dice_loss")(entry)
    assert any("prediction, row 0: the compressed masks are not 10 masks" in each for each in verdict(entry).problems)


def test_evidence_that_is_too_large_is_refused_with_what_to_do(made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(evidence_kinds, "MAX_ARRAY_BYTES", 1000)
    kind = evidence_kind("segmentation")
    assert kind is not None
    opened = submission.read(made)
    runs = ((record, opened.evidence(record.identity, kind)) for record in opened.records())
    message = (
        r"its evidence has 0 MB, most of it .*; train with fewer epochs, fewer test and validation examples or smaller"
    )
    with pytest.raises(UserError, match=message):
        submission.write(tmp_path / "new", "x", "0", runs)
    assert list(tmp_path.iterdir()) == []


def test_packaging_names_the_largest_array_of_a_stored_run(made: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(evidence_kinds, "MAX_ARRAY_BYTES", 1000)
    monkeypatch.chdir(made.parent)
    store = Store()
    with pytest.raises(UserError, match="most of it label_quality, but a submission has at most"):
        list(verification.collect_evidence(store, store.runs.list_runs("FINISHED")))


def test_a_signed_stamp_shows_on_the_board(entry: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "keys")
    submission.mark_verified(submission.read(entry), "re-scored", "1.0", 0, stamps.read_private_key(private))
    found = list(submission.read(entry, stamps.read_trusted_keys(public)).measurements())
    assert [(run.status, run.setting.metric) for run in found] == [("re-scored", "miou")] * 2


MASKS = arrays_of.arrays(
    np.uint8,
    st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 7, 254, 255]),
)


@pytest.mark.fast
@settings(max_examples=100, deadline=None)
@given(st.lists(MASKS, max_size=4))
def test_masks_are_read_back_as_they_were(masks: list[Any]) -> None:
    rest = b"".join(map(compress_masks, masks))
    for each in masks:
        found, rest = decompress_masks(rest, each.shape)
        np.testing.assert_array_equal(found, each)
    assert rest == b""


@pytest.mark.fast
@settings(max_examples=100, deadline=None)
@given(MASKS, st.binary(max_size=40), st.integers(0, 60))
def test_damaged_masks_are_refused_or_read_in_their_shape(masks: Any, noise: bytes, position: int) -> None:
    data = compress_masks(masks)
    damaged = data[:position] + noise + data[position + len(noise) :]
    try:
        found, _ = decompress_masks(damaged, masks.shape)
    except UserError:
        return
    assert found.shape == masks.shape


@pytest.mark.fast
def test_masks_take_few_bytes() -> None:
    rows, columns = np.mgrid[:128, :128]
    discs = np.stack([(np.hypot(rows - 64, columns - 60) < radius).astype(np.uint8) for radius in range(20, 60)])
    assert len(compress_masks(discs)) < discs.size / 40
