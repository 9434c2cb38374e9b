"""Early stopping deploys the weights of the best epoch by noisy validation labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from noisybench.errors import UserError
from tests.helpers import prepared_toy, toy_dataset, train_toy

BUDGET = {"epochs": 6, "learning_rate": 0.3, "lr_schedule": "constant"}


def test_the_deployed_weights_are_those_of_the_first_epoch_with_the_highest_accuracy(tmp_path: Path) -> None:
    rows = train_toy(prepared_toy("early_stopping", budget=BUDGET), tmp_path / "all").rows
    trained = [row for row in rows if row.stage == "train"]
    accuracies = [row.noisy_val_score or 0.0 for row in trained]
    best = int(np.argmax(accuracies))
    assert 0 < best < 5, "the example must end after its best epoch"
    assert [row.diagnostics["early_stopping.best_epoch"] for row in trained] == [
        int(np.argmax(accuracies[: number + 1])) for number in range(6)
    ]
    assert rows[-1].stage != "train"
    assert (rows[-1].noisy_val_score, rows[-1].test_score) == (accuracies[best], trained[best].test_score)


def test_a_dataset_without_validation_examples_is_refused() -> None:
    data = toy_dataset()
    empty = dataclasses.replace(
        data.validation, **{name: getattr(data.validation, name)[:0] for name in ("inputs", "targets", "index")}
    )
    with pytest.raises(
        UserError, match=r"mitigations.early_stopping: .* set for example dataset.validation_fraction=0.1"
    ):
        prepared_toy("early_stopping", dataclasses.replace(data, validation=empty))
