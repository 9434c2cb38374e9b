"""Each mitigation's arithmetic against a slow reference, a closed form, or another library."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from noisybench.config.budget import Budget
from noisybench.errors import UserError
from noisybench.mitigations._small_loss import small_loss_weights
from noisybench.mitigations._transition import estimate_transitions
from noisybench.mitigations.backward_correction import backward_cross_entropy
from noisybench.mitigations.bootstrapping import Bootstrapping, bootstrapped_cross_entropy
from noisybench.mitigations.co_teaching import CoTeaching
from noisybench.mitigations.co_teaching_plus import CoTeachingPlus
from noisybench.mitigations.cores2 import CORES2
from noisybench.mitigations.elr import ELR
from noisybench.mitigations.f_divergence import FDivergence
from noisybench.mitigations.forward_correction import forward_cross_entropy
from noisybench.mitigations.gce import generalized_cross_entropy
from noisybench.mitigations.gls import GLS
from noisybench.mitigations.jocor import JoCoR
from noisybench.mitigations.label_smoothing import LabelSmoothing
from noisybench.mitigations.mixup import Mixup
from noisybench.mitigations.sce import reverse_cross_entropy
from noisybench.training.batch import Batch
from noisybench.training.phases import Phase
from noisybench.training.schedule import learning_rate_at
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy

CLASSES = 4


class ConstantTask:
    """Gives prepared scores per network, whatever the input; the random streams of one epoch."""

    def __init__(self, *scores: torch.Tensor, epoch: int = 0) -> None:
        self.scores, self.current_epoch = scores, epoch
        self.generator = torch.Generator().manual_seed(0)
        self.rng = np.random.default_rng(0)

    def logits(self, inputs: torch.Tensor, network: int = 0) -> torch.Tensor:
        return self.scores[network]

    def default_loss(self, batch: Batch) -> torch.Tensor:
        return functional.cross_entropy(self.scores[0], batch.targets, reduction="none")


def scores(seed: int = 0, count: int = 6) -> torch.Tensor:
    return torch.randn(count, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def batch(count: int = 6) -> Batch:
    observed = torch.arange(count) % CLASSES
    images = torch.arange(count * 4, dtype=torch.float64).reshape(count, 1, 2, 2)
    return Batch({"weak": images}, observed, torch.arange(count), CLASSES)


def probabilities(logits: torch.Tensor) -> list[list[float]]:
    """Softmax by hand."""
    rows = []
    for row in logits.tolist():
        powers = [math.exp(value) for value in row]
        rows.append([each / sum(powers) for each in powers])
    return rows


def close(found: torch.Tensor, wanted: Any) -> None:
    torch.testing.assert_close(found.double(), torch.as_tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("q", [0.05, 0.3, 0.7, 1.0])
def test_gce_by_hand(q: float) -> None:
    p = probabilities(scores())
    wanted = [(1 - p[row][row % CLASSES] ** q) / q for row in range(6)]
    close(generalized_cross_entropy(scores(), batch().targets, q), wanted)


def test_gce_ends_are_cross_entropy_and_mean_absolute_error() -> None:
    plain = functional.cross_entropy(scores(), batch().observed, reduction="none")
    torch.testing.assert_close(
        generalized_cross_entropy(scores(), batch().targets, 1e-4).double(), plain, rtol=2e-3, atol=2e-3
    )
    absolute = (scores().softmax(1) - batch().targets).abs().sum(1)
    close(generalized_cross_entropy(scores(), batch().targets, 1.0), absolute / 2)


def test_sce_by_hand() -> None:
    p = probabilities(scores())
    # With one-hot targets every other class counts with log 0 = -4.
    wanted = [4 * sum(p[row][c] for c in range(CLASSES) if c != row % CLASSES) for row in range(6)]
    close(reverse_cross_entropy(scores(), batch().targets, -4.0), wanted)


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_bootstrapping_by_hand(mode: str) -> None:
    p = probabilities(scores())
    wanted = []
    for row in range(6):
        loss = 0.0
        for c in range(CLASSES):
            own = p[row][c] if mode == "soft" else float(p[row][c] == max(p[row]))
            loss -= (0.8 * (c == row % CLASSES) + 0.2 * own) * math.log(p[row][c])
        wanted.append(loss)
    close(bootstrapped_cross_entropy(scores(), batch().targets, mode, 0.8), wanted)


def test_bootstrapping_uses_the_papers_weights_by_mode() -> None:
    assert Bootstrapping(mode="soft").target_weight == 0.95
    assert Bootstrapping(mode="hard").target_weight == 0.8
    assert Bootstrapping(mode="hard", label_weight=0.5).target_weight == 0.5


def test_label_smoothing_is_torchs() -> None:
    found = LabelSmoothing(smoothing=0.3).wrap_loss(
        ConstantTask(), batch(), lambda b: functional.cross_entropy(scores(), b.targets, reduction="none")
    )
    close(found, functional.cross_entropy(scores(), batch().observed, label_smoothing=0.3, reduction="none"))


def random_matrix(seed: int) -> torch.Tensor:
    matrix = np.random.default_rng(seed).dirichlet(np.ones(CLASSES), size=CLASSES) * 0.5 + 0.5 * np.eye(CLASSES)
    return torch.tensor(matrix, dtype=torch.float32)


def test_forward_correction_by_hand() -> None:
    p, matrix = probabilities(scores()), random_matrix(1)
    wanted = [-math.log(sum(p[row][c] * matrix[c, row % CLASSES].item() for c in range(CLASSES))) for row in range(6)]
    close(forward_cross_entropy(scores(), batch().targets, matrix), wanted)


@given(seed=st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_backward_correction_is_unbiased(seed: int) -> None:
    # Patrini et al. 2017, theorem 1: the expectation over the noise is the clean loss.
    matrix = random_matrix(seed).double()
    plain = -scores(seed).log_softmax(1)
    inverse = torch.linalg.inv(matrix)
    for clean in range(CLASSES):
        expected = sum(
            matrix[clean, observed] * backward_cross_entropy(
                scores(seed).float(), functional.one_hot(torch.full((6,), observed), CLASSES).float(), inverse.float()
            ).double()
            for observed in range(CLASSES)
        )  # fmt: skip
        torch.testing.assert_close(expected, plain[:, clean], rtol=2e-3, atol=2e-3)


def test_estimated_matrix_is_exact_where_perfect_examples_exist() -> None:
    # A network that has learned the noise exactly predicts row c of the matrix for examples of class c.
    matrix = random_matrix(3)
    found = estimate_transitions(matrix.repeat_interleave(50, 0), percentile=100)
    torch.testing.assert_close(found, matrix)


@pytest.mark.parametrize(("q", "gap"), [(0.1, 17.0), (0.1, 25.0), (0.3, 17.0), (0.7, 40.0), (1.0, 60.0)])
def test_gce_is_exact_for_the_hardest_examples(q: float, gap: float) -> None:
    logits = torch.tensor([[gap, 0.0, 0.0]], requires_grad=True)
    targets = functional.one_hot(torch.tensor([1]), 3).float()
    loss = generalized_cross_entropy(logits, targets, q)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    p = math.exp(-gap) / (1 + 2 * math.exp(-gap))
    assert loss.item() == pytest.approx((1 - p**q) / q, rel=1e-6)
    # The derivative of (1 - p^q) / q by the label's logit is -p^q (1 - p).
    assert gradient[0, 1].item() == pytest.approx(-(p**q) * (1 - p), rel=1e-5)


def test_small_loss_weights_keep_the_smallest() -> None:
    weights = small_loss_weights(torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0]), keep_fraction=0.6)
    torch.testing.assert_close(weights, torch.tensor([5 / 3, 5 / 3, 5 / 3, 0.0, 0.0]))


def test_small_loss_weights_ignore_examples_without_a_valid_label() -> None:
    losses = torch.tensor([0.1, 0.2, 3.0, 5.0, 1.0, 1.0])
    examples, valid = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([False, False, True, False, True, True])
    # Of the two examples with a label, the one with the smaller mean is kept: 2, not 0, which has no loss at all.
    weights = small_loss_weights(losses, 0.5, valid, examples)
    torch.testing.assert_close(weights, torch.tensor([0.0, 0.0, 0.0, 0.0, 1.5, 1.5]))
    both = small_loss_weights(losses, 0.7, valid, examples)
    torch.testing.assert_close(both, weights)
    everything = small_loss_weights(losses, 1.0, valid, examples)
    torch.testing.assert_close(everything, torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 1.0]))


@pytest.mark.parametrize(("epoch", "kept"), [(0, 10), (2, 8), (5, 6), (50, 6)])
def test_co_teaching_exchanges_small_loss_examples(epoch: int, kept: int) -> None:
    first, second = scores(1, 10), scores(2, 10)
    mitigation = CoTeaching(forget_rate=0.4, ramp_epochs=4)
    found = mitigation.loss(ConstantTask(first, second, epoch=epoch), batch(10)).mean().item()
    losses = [functional.cross_entropy(each, batch(10).observed, reduction="none").tolist() for each in (first, second)]
    wanted = 0.0
    for own, other in ((0, 1), (1, 0)):
        chosen = sorted(range(10), key=lambda row, other=other: losses[other][row])[:kept]
        wanted += sum(losses[own][row] for row in chosen) / kept
    assert found == pytest.approx(wanted)


def test_co_teaching_plus_uses_disagreeing_examples_after_the_warm_up() -> None:
    first, second = scores(1, 10), scores(2, 10)
    second[:4] = first[:4]
    disagreeing = [row for row in range(10) if first[row].argmax() != second[row].argmax()]
    assert 4 <= len(disagreeing) < 7
    mitigation = CoTeachingPlus(forget_rate=0.5, ramp_epochs=1, warmup_epochs=2, loss_input="scores")
    plain = CoTeaching(forget_rate=0.5, ramp_epochs=1)
    task = ConstantTask(first, second, epoch=1)
    close(mitigation.loss(task, batch(10)), plain.loss(task, batch(10)))
    losses = [functional.cross_entropy(each, batch(10).observed, reduction="none").tolist() for each in (first, second)]
    kept, wanted = len(disagreeing) // 2, 0.0
    for own, other in ((0, 1), (1, 0)):
        chosen = sorted(disagreeing, key=lambda row, other=other: losses[other][row])[:kept]
        wanted += sum(losses[own][row] for row in chosen) / kept
    found = mitigation.loss(ConstantTask(first, second, epoch=2), batch(10)).mean().item()
    assert found == pytest.approx(wanted)


def test_co_teaching_plus_learns_nothing_where_the_networks_agree() -> None:
    logits = scores(1).float().requires_grad_()
    mitigation = CoTeachingPlus(forget_rate=0.2, ramp_epochs=1, warmup_epochs=0)
    loss = mitigation.loss(ConstantTask(logits, logits.detach(), epoch=3), batch()).sum()
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


@pytest.mark.parametrize("reg_weight", [0.0, 0.7])
def test_jocor_by_hand(reg_weight: float) -> None:
    first, second = scores(1, 10), scores(2, 10)
    mitigation = JoCoR(forget_rate=0.4, ramp_epochs=1, reg_weight=reg_weight)
    found = mitigation.loss(ConstantTask(first, second, epoch=1), batch(10)).mean().item()
    losses = []
    for row, (p, q) in enumerate(zip(probabilities(first), probabilities(second), strict=True)):
        label = int(batch(10).observed[row])
        agreement = sum(a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True))
        losses.append((1 - reg_weight) * -(math.log(p[label]) + math.log(q[label])) + reg_weight * agreement)
    assert found == pytest.approx(sum(sorted(losses)[:6]) / 6, rel=1e-5)


def test_cores2_leaves_out_examples_and_follows_the_classes_of_the_others() -> None:
    logits, mitigation = torch.full((6, CLASSES), -1.0), CORES2(reg_weight=1.0, warmup_epochs=0, sieve_epoch=1)
    # Confident in class 0 everywhere: the labels 0 of examples 0 and 4 have a small loss, all others a large one.
    logits[:, 0] = 3.0
    data = TrainingSet(torch.zeros(6, 1, 1, 1), batch().observed, CLASSES)
    task: Any = ConstantTask(logits, epoch=1)
    task.budget = SimpleNamespace(epochs=9)
    mitigation.prepare(task, data)
    close(mitigation.state["prior"], [2 / 6, 2 / 6, 1 / 6, 1 / 6])
    mitigation.on_epoch_start(task)
    loss = mitigation.loss(task, batch())
    assert (loss != 0).tolist() == [True, False, False, False, True, False]
    assert mitigation.detectors(task, data)["sieve"].flagged.tolist() == [False, True, True, True, False, True]
    mitigation.on_epoch_end(task)
    close(mitigation.state["prior"], [1.0, 0.0, 0.0, 0.0])
    assert mitigation.diagnostics["left_out"] == pytest.approx(4 / 6)


def test_losses_after_a_warm_up_restart_as_published() -> None:
    warmup, after = GLS(warmup_epochs=4, continue_from="best", restart_learning_rate=1e-6).requirements.phases
    assert (warmup, after.weights) == (Phase(4), "best")
    assert (after.settings["nesterov"], after.settings["lr_schedule"]) == (True, "constant")
    settings = FDivergence(restart_learning_rate=0.01).requirements.phases[1].settings
    budget = Budget(epochs=100, **settings)
    rates = [learning_rate_at(budget, epoch) for epoch in (0, 29, 30, 60, 99)]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 1e-4, 1e-5])
    assert FDivergence().requirements.phases == ()
    with pytest.raises(UserError, match="warmup_epochs is 0; leave them out"):
        prepared_toy({"name": "gls", "warmup_epochs": 0, "continue_from": "best"})
    masks = TrainingSet(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4), CLASSES)
    assert "set continue_from=last" in GLS(continue_from="best").check_data(masks, torch.nn.Identity(), 0)[0]


@pytest.mark.parametrize("loss", [forward_cross_entropy, backward_cross_entropy])
def test_corrected_losses_keep_their_digits_under_autocast(loss: Any) -> None:
    targets = functional.one_hot(batch().observed, CLASSES).float()
    matrix = torch.full((CLASSES, CLASSES), 0.1) + 0.6 * torch.eye(CLASSES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(scores().float(), targets, matrix)
    torch.testing.assert_close(found, loss(scores().float(), targets, matrix), rtol=0, atol=1e-6)


def test_generalized_label_smoothing_by_hand() -> None:
    mitigation = GLS(smoothing=-0.6, warmup_epochs=1)
    by_class = [[-math.log(p) for p in row] for row in probabilities(scores())]
    close(
        mitigation.loss(ConstantTask(scores(), epoch=0), batch()),
        [row[number % CLASSES] for number, row in enumerate(by_class)],
    )
    close(
        mitigation.loss(ConstantTask(scores(), epoch=1), batch()),
        [1.6 * row[number % CLASSES] - 0.6 * sum(row) / CLASSES for number, row in enumerate(by_class)],
    )
    assert "no lower bound" in mitigation.explain_divergence()
    assert not GLS(smoothing=0.1).explain_divergence()


def test_elr_by_hand_over_two_epochs() -> None:
    mitigation = ELR(beta=0.6, reg_weight=2.0)
    mitigation.state["targets"] = torch.zeros(6, CLASSES)
    averages = [[0.0] * CLASSES for _ in range(6)]
    for epoch in range(2):
        found = mitigation.loss(ConstantTask(scores(epoch).float()), batch())
        p, wanted = probabilities(scores(epoch)), []
        for row in range(6):
            averages[row] = [0.6 * old + 0.4 * new for old, new in zip(averages[row], p[row], strict=True)]
            agreement = sum(a * b for a, b in zip(p[row], averages[row], strict=True))
            wanted.append(-math.log(p[row][row % CLASSES]) + 2.0 * math.log(1 - agreement))
        torch.testing.assert_close(found.double(), torch.tensor(wanted, dtype=torch.float64), rtol=2e-3, atol=2e-3)


def test_elr_gradient_pulls_towards_the_average() -> None:
    # The derivative of log(1 - <p, t>) by the scores, Liu et al. 2020: p_c / (1 - <p, t>) * (<p, t> - t_c).
    logits = scores(4).float().requires_grad_()
    mitigation = ELR(beta=0.0, reg_weight=1.0)
    mitigation.state["targets"] = torch.zeros(6, CLASSES)
    total = mitigation.loss(ConstantTask(logits), batch()).sum()
    plain = functional.cross_entropy(logits, batch().observed, reduction="sum")
    (found,) = torch.autograd.grad(total - plain, logits)
    p = logits.detach().softmax(1)
    agreement = (p * p).sum(1, keepdim=True)
    torch.testing.assert_close(found, p / (1 - agreement) * (agreement - p), rtol=1e-3, atol=1e-3)


def test_mixup_mixes_inputs_and_targets_alike() -> None:
    seen: list[Batch] = []

    def inner_loss(mixed: Batch) -> torch.Tensor:
        seen.append(mixed)
        return mixed.targets.sum(1)

    Mixup(alpha=0.7).wrap_loss(ConstantTask(), batch(), inner_loss)
    weight = np.random.default_rng(0).beta(0.7, 0.7)
    partner = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    close(seen[0].inputs, weight * batch().inputs + (1 - weight) * batch().inputs[partner])
    close(seen[0].targets, weight * batch().targets + (1 - weight) * batch().targets[partner])
    close(seen[0].targets.sum(1), torch.ones(6))
