"""A mitigation that cannot act within its budget is refused, and one that acts less than it should says so in its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from noisybench.errors import UserError
from noisybench.mitigations.pixel_confident_learning import PixelConfidentLearning
from noisybench.training.batch import Batch
from tests.helpers import prepared_toy, toy_dataset, toy_labels, train_toy

SIEVE = {"warmup_epochs": 0, "sieve_epoch": 1, "lr_warmup_epochs": 0}
NEVER_ACTS = [
    ({"name": "forward_correction", "warmup_epochs": 3}, 3, "never be corrected"),
    ({"name": "backward_correction", "warmup_epochs": 5}, 3, "never be corrected"),
    ({"name": "dividemix", "warmup_epochs": 3}, 3, "never be divided"),
    ({"name": "pls", "warmup_epochs": 3, "warmup_steps": 0}, 3, "warm-up"),
    ({"name": "lsa", "warmup_epochs": 3, "warmup_steps": 0}, 3, "warm-up"),
    ({"name": "co_teaching"}, 1, "one epoch is training without selection"),
    ({"name": "co_teaching_plus", "warmup_epochs": 3}, 3, "disagreement would never be used; set it to at most 2"),
    ({"name": "jocor"}, 1, "one epoch is training without selection"),
    ({"name": "cores2", "warmup_epochs": 2, "sieve_epoch": 4}, 3, "leave cross-entropy in all 3 epochs"),
    ({"name": "cores2_star", **SIEVE, "sieve_phase_epochs": 3}, 3, "take 4 or more, but budget.epochs is 3"),
    ({"name": "promix", "warmup_epochs": 3, "ramp_epochs": 4}, 3, "no example would be selected"),
    ({"name": "gls", "warmup_epochs": 3}, 3, "is cross-entropy only; set it to at most 2"),
    ({"name": "peer_loss"}, 1, "gives the peer term no weight in a budget of 1 epoch"),
    ({"name": "ogc", "interval": 2, "queue_size": 384}, 3, "so that no gradient would be clipped; decrease queue_size"),
    ({"name": "f_divergence", "warmup_epochs": 3}, 3, "is cross-entropy only; set it to at most 2"),
    ({"name": "trimmed_loss"}, 1, "one epoch is training without selection"),
    ({"name": "adele", "fixed_onset": 3}, 3, "first correction is possible after epoch 3"),
    ({"name": "adele"}, 3, "first correction is possible after epoch 3"),
]


@pytest.mark.parametrize(("stack", "epochs", "message"), NEVER_ACTS, ids=lambda value: str(value)[:40])
def test_refuses_a_budget_in_which_it_never_acts(stack: dict[str, Any], epochs: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(stack, budget={"epochs": epochs})
    prepared_toy(stack, budget={"epochs": 6})


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ({"name": "co_teaching", "forget_rate": 0.4, "ramp_epochs": 10}, "at most 8 % were left out, not 40 %"),
        ({"name": "trimmed_loss", "drop_fraction": 0.3, "ramp_epochs": 4}, "at most 15 % were left out, not 30 %"),
        ({"name": "dividemix", "warmup_epochs": 1}, "reached at most 12% of its target"),
        ({"name": "pes_semi", "warmup_epochs": 1, "classifier_epochs": 0}, "reached at most 12% of its target"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_reports_a_ramp_that_never_reaches_its_target(stack: dict[str, Any], message: str, tmp_path: Path) -> None:
    rows = train_toy(prepared_toy(stack), tmp_path).rows
    assert [message in text for text in rows[-1].warnings].count(True) == 1
    assert not any(message in text for row in rows[:-1] for text in row.warnings)


def test_reports_nothing_where_the_ramp_ends_in_time(tmp_path: Path) -> None:
    stack = {"name": "co_teaching", "forget_rate": 0.4, "ramp_epochs": 2}
    assert not any(row.warnings for row in train_toy(prepared_toy(stack), tmp_path).rows)


def test_reports_that_clean_labels_leave_nothing_out(tmp_path: Path) -> None:
    run = prepared_toy({"name": "co_teaching", "ramp_epochs": 1}, labels=toy_labels(toy_dataset(), wrong_every=0))
    assert "every example was used" in train_toy(run, tmp_path).rows[-1].warnings[0]


def test_flagged_pixels_have_no_influence_on_the_loss() -> None:
    mitigation = PixelConfidentLearning(drop=True)
    mitigation.state["flagged"] = torch.tensor([[[False, True], [False, False]]])
    labeled = torch.tensor([True, True, True, False])
    batch = Batch(
        {"weak": torch.zeros(1, 1, 2, 2)}, torch.zeros(4, dtype=torch.int64), torch.arange(4), 2, None, 0, labeled
    )
    losses = torch.tensor([1.0, 100.0, 3.0, 100.0])
    weighted = mitigation.wrap_loss(None, batch, lambda inner: losses)
    # The task takes the mean over the three labeled pixels; the mean over the two that are kept is 2.
    assert float((weighted * labeled).sum() / labeled.sum()) == 2.0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sieve_phase_epochs": 1, **SIEVE}, "sieve_phase_epochs to more than 1"),
        ({"sieve_phase_epochs": 2, **SIEVE, "unlabeled_fraction": 0.01}, "leaves 32 labeled and 0 unlabeled examples"),
        (
            {"sieve_phase_epochs": 2, **SIEVE, "lr_warmup_epochs": 9},
            "takes the whole second phase of 1 epochs",
        ),
    ],
)
def test_refuses_phases_of_cores2_star_that_do_not_train(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy({"name": "cores2_star", **parameters})
