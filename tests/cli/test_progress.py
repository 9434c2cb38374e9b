"""Steps that report their progress: audits also within a fold, exports and imports."""

from __future__ import annotations

from pathlib import Path

import pytest

import noisybench as nb
from noisybench.errors import UserError
from noisybench.tracking.bundle import Draft, write_parts
from noisybench.utils.progress import listening


def test_an_audit_reports_each_epoch_of_each_network() -> None:
    data = nb.load_dataset("digits")
    steps: list[tuple[str, int, int]] = []
    with listening(lambda *step: steps.append(step)):
        nb.audit(
            data.train.inputs[:60], data.train.targets[:60], folds=2, overrides=["budget.epochs=3"], progress=False
        )
    networks = [step for step in steps if step[0].startswith("train network")]
    assert networks == [(f"train network {fold} of 2", epoch, 3) for fold in (1, 2) for epoch in (1, 2, 3)]


def test_an_export_reports_items_and_files(tmp_path: Path) -> None:
    drafts = [Draft("run", name, name, {"a.txt": name.encode()}) for name in ("one", "two")]
    steps: list[tuple[str, int, int]] = []
    with listening(lambda *step: steps.append(step)):
        write_parts(drafts, tmp_path / "runs.zip")
    assert [step for step in steps if step[0] == "read files"] == [("read files", done, 2) for done in range(3)]
    assert steps[-1] == ("write runs.zip", 2, 2) or steps[-1][0].startswith("write")


def test_nothing_is_reported_without_a_listener(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        write_parts([Draft("run", "x", "x", {"a": tmp_path / "missing"})], tmp_path / "runs.zip")
