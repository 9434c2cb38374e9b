"""Tests of stacks of mitigations and of privileged information."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from noisybench.config import registry
from noisybench.config.parameters import parameter
from noisybench.data.privileged import PrivilegedInfo
from noisybench.errors import TrainingError, UserError
from noisybench.mitigations.mlp_probe import MLPProbe
from noisybench.mitigations.simclr import SimCLR
from noisybench.mitigations.sop import SOP
from noisybench.mitigations.t_revision import TRevision
from noisybench.runs.preparation import prepare_run
from noisybench.training.divergence import divergence_error, has_finite_weights
from noisybench.training.roles import StepCallback
from noisybench.training.stack import Stack
from tests.contracts import check_mitigation_is_honest
from tests.helpers import comparable_rows, prepared_toy, toy_dataset, toy_labels, toy_spec, train_toy


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ("gce+elr", "gce and elr both define the loss, but only one mitigation of a stack can"),
        ("ensemble+elr", "elr keeps one state per sample and cannot train the several networks of ensemble"),
        ("sam+elr", "elr keeps state per sample, which sam would update twice in each step"),
        ("elr+elr", "`elr` appears twice in the stack"),
    ],
)
def test_impossible_stacks_are_refused(stack: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(stack)


def test_wrappers_act_in_order_around_the_loss(tmp_path: Path) -> None:
    assert train_toy(prepared_toy("label_smoothing+mixup+gce"), tmp_path / "a").complete
    plain = train_toy(prepared_toy("gce"), tmp_path / "b").record({})
    neutral = train_toy(prepared_toy(["gce", {"name": "label_smoothing", "smoothing": 0.0}]), tmp_path / "c").record({})
    np.testing.assert_allclose(plain.rows[-1].train_loss, neutral.rows[-1].train_loss, rtol=1e-5)


def test_undeclared_privileged_information_cannot_be_read() -> None:
    comparable_rows = {"noise_rate": 0.4, "transition_matrix": torch.eye(2)}
    known = PrivilegedInfo(comparable_rows, ["noise_rate"])
    assert known.noise_rate == 0.4
    with pytest.raises(UserError, match="`transition_matrix` is privileged information"):
        _ = known.transition_matrix
    with pytest.raises(AttributeError):
        _ = known.something_else


def test_unavailable_privileged_information_is_refused() -> None:
    spec = toy_spec(
        {"name": "forward_correction", "matrix": "oracle"}, noise={"name": "instance_dependent", "rate": 0.2}
    )
    with pytest.raises(UserError, match="needs the transition matrix, which this setting does not offer"):
        prepare_run(spec, toy_dataset())


@pytest.mark.usefixtures("plugins")
def test_reading_undeclared_clean_labels_fails_the_contract(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="reads clean labels that it does not declare"):
        check_mitigation_is_honest({"name": "cheater"}, tmp_path)


@pytest.mark.usefixtures("plugins")
def test_plugins_are_found_and_pass_the_same_contract(tmp_path: Path) -> None:
    from tests import contracts

    entry = registry.get_entry("mitigations", "half_of_the_examples")
    contracts.check_mitigation_declaration(entry)
    for number, check in enumerate(contracts.MITIGATION_CHECKS):
        check({"name": entry.name}, tmp_path / str(number))
    (tmp_path / "noise").mkdir()
    contracts.check_noise_model(registry.get_entry("noise_models", "plugin_flip"), tmp_path / "noise")


@pytest.mark.usefixtures("plugins")
def test_a_selection_leaves_examples_out(tmp_path: Path) -> None:
    run = prepared_toy({"name": "half_of_the_examples", "share": 0.25})
    recorder = train_toy(run, tmp_path)
    # 120 examples are 4 batches of 32; so the 30 that are left are gone through 4 times in each of 3 epochs.
    record = recorder.record({})
    assert record.cost.images_per_second * record.cost.train_seconds == pytest.approx(3 * 4 * 30)
    assert record.rows[0].diagnostics["kept_fraction"] == 0.25


@pytest.mark.usefixtures("plugins")
def test_an_empty_selection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="half_of_the_examples: the selection is empty"):
        train_toy(prepared_toy({"name": "half_of_the_examples", "share": 0.0}), tmp_path)


@pytest.mark.usefixtures("plugins")
def test_refining_adds_a_row_beside_the_untouched_network(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy({"name": "half_of_the_examples", "reset": True}), tmp_path)
    assert [(row.epoch, row.stage) for row in recorder.rows] == [
        (0, "train"),
        (1, "train"),
        (2, "train"),
        (2, "refine"),
    ]
    assert recorder.rows[-1].test_score != recorder.rows[-2].test_score
    assert recorder.evaluator.predictions().by_epoch.shape == (40, 4)


def test_a_loss_that_is_not_finite_is_a_failed_run(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"the training loss became (nan|inf) in epoch \d+; decrease budget\.learning_rate"
    ):
        train_toy(prepared_toy("cross_entropy", budget={"learning_rate": 1e18}), tmp_path)


class Overflowing(StepCallback):
    """Multiplies all weights after the last step, as a huge update would."""

    factor: float = parameter(1.0, help="Factor, applied twice")

    def on_step_end(self, task: Any) -> None:
        with torch.no_grad():
            for weight in task.networks.parameters():
                weight.mul_(self.factor).mul_(self.factor)


@pytest.mark.parametrize(("factor", "problem"), [(1e30, "the weights became"), (1e15, "the predictions became NaN")])
def test_a_run_that_diverges_in_the_last_step_of_an_epoch_is_a_failed_run(
    factor: float, problem: str, tmp_path: Path
) -> None:
    run = prepared_toy("elr", budget={"epochs": 1, "batch_size": 120, "network": "mlp:16-16"})
    stack = Stack([*run.stack.mitigations, Overflowing(factor=factor)])
    with pytest.raises(TrainingError, match=problem + r".* in epoch 0; decrease budget\.learning_rate"):
        train_toy(replace(run, stack=stack), tmp_path)


def test_the_advice_after_a_divergence_names_the_learning_rates_of_the_stack() -> None:
    stack = Stack([SOP()])
    text = str(divergence_error(stack, 2, "the training loss became inf"))
    rates = "budget.learning_rate or mitigations.sop.lr_u=10 or mitigations.sop.lr_v=10"
    assert text == f"the training loss became inf in epoch 2; decrease {rates} or set budget.warmup_epochs"
    assert "revision_learning_rate=5e-07" in str(divergence_error(Stack([TRevision()]), 0, ""))
    assert "simclr" not in str(divergence_error(Stack([SimCLR()]), 0, "")), "a rate of an auxiliary run"
    assert "mitigations.mlp_probe.lr_multiplier=9" in str(divergence_error(Stack([MLPProbe(lr_multiplier=9.0)]), 0, ""))


def test_weights_and_batch_statistics_are_finite_but_a_mask_need_not_be() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    assert has_finite_weights([network])
    network[1].running_var[0] = torch.inf
    assert not has_finite_weights([network])
    network[1].running_var[0] = 1
    network[0].weight.data[0, 0] = torch.nan
    assert not has_finite_weights([network])


def test_streams_are_independent(tmp_path: Path) -> None:
    """Another network or batch size changes no label; another run seed changes weights but no label."""
    runs = [
        prepare_run(toy_spec(noise={"name": "pair_flip", "rate": 0.3}, seed=seed, budget=budget), toy_dataset())
        for seed, budget in (
            (0, {}),
            (1, {}),
            (0, {"batch_size": 16}),
            (0, {"network": "resnet8_cifar_stem"}),
        )
    ]
    assert len({run.labels.hash for run in runs}) == 1
    hashes = [train_toy(run, tmp_path / str(i)).record({}).weights_sha256 for i, run in enumerate(runs[:2])]
    assert hashes[0] != hashes[1]


def test_a_repeated_run_is_bit_identical(tmp_path: Path) -> None:
    first, second = (
        train_toy(prepared_toy("mixup+gce", budget={"augmentation": "crop_flip"}), tmp_path / name) for name in "ab"
    )
    assert comparable_rows(first.rows) == comparable_rows(second.rows)
    assert first.record({}).weights_sha256 == second.record({}).weights_sha256


@pytest.mark.parametrize("budget", [
    {"optimizer": "adam", "learning_rate": 0.003},
    {"optimizer": "adamw", "learning_rate": 0.003},
    {"lr_schedule": "multistep", "lr_milestones": [1], "warmup_epochs": 1},
    {"nesterov": True, "channels_last": False, "augmentation": "crop"},
    {"precision": "bfloat16"},
])  # fmt: skip
def test_every_budget_trains_and_resumes(budget: dict[str, Any], tmp_path: Path) -> None:
    whole = train_toy(prepared_toy("cross_entropy", budget=budget), tmp_path / "whole")
    train_toy(prepared_toy("cross_entropy", budget=budget), tmp_path / "parts", stop_after=1)
    parts = train_toy(prepared_toy("cross_entropy", budget=budget), tmp_path / "parts")
    assert comparable_rows(whole.rows) == comparable_rows(parts.rows)
    assert whole.record({}).weights_sha256 == parts.record({}).weights_sha256


def test_bfloat16_follows_the_optimizer(tmp_path: Path) -> None:
    # Inside one autocast context torch would keep using the weights that it converted in the first step.
    exact = train_toy(prepared_toy("cross_entropy", budget={"epochs": 8}), tmp_path / "exact")
    rounded = train_toy(
        prepared_toy("cross_entropy", budget={"epochs": 8, "precision": "bfloat16"}), tmp_path / "rounded"
    )
    assert exact.rows[-1].train_loss == pytest.approx(rounded.rows[-1].train_loss, abs=0.1)
    assert rounded.rows[-1].train_loss < 0.8 * rounded.rows[0].train_loss


def test_the_recorder_scores_the_labels_of_a_toy_setting(tmp_path: Path) -> None:
    """Memorized, recovered and detected labels equal loops over the samples."""
    dataset = toy_dataset()
    recorder = train_toy(prepared_toy("cross_entropy", dataset, toy_labels(dataset)), tmp_path)
    samples, row = recorder.evaluator.samples(), recorder.rows[-1]
    wrong = [i for i in range(len(samples.observed)) if samples.observed[i] != samples.clean[i]]
    assert row.memorized_fraction == sum(samples.prediction[i] == samples.observed[i] for i in wrong) / len(wrong)
    assert row.recovered_fraction == sum(samples.prediction[i] == samples.clean[i] for i in wrong) / len(wrong)
    right = [i for i in range(len(samples.observed)) if i not in wrong]
    pairs = [
        (samples.label_quality[i] < samples.label_quality[j])
        + 0.5 * (samples.label_quality[i] == samples.label_quality[j])
        for i in wrong
        for j in right
    ]
    assert row.noise_auroc == pytest.approx(np.mean(pairs))
    predictions = recorder.evaluator.predictions()
    assert row.test_score == pytest.approx((predictions.probabilities.argmax(1) == predictions.target).mean())
    assert [r.test_score for r in recorder.rows] == pytest.approx(
        list((predictions.by_epoch == predictions.target[:, None]).mean(0))
    )
