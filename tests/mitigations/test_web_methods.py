"""PLS, LSA, DivideMix and ensembles: each formula against a slow one, and the properties that need no training."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from noisybench.config.registry import get_entry
from noisybench.config.resolve import read_recipe
from noisybench.errors import UserError
from noisybench.evaluation.mixture import two_components
from noisybench.mitigations import _pseudo_labels as parts
from noisybench.mitigations._detection import can_be_separated, linear_separation
from noisybench.mitigations.dividemix import DivideMix, entropy
from noisybench.mitigations.lsa import LSA, detector_of_epoch
from noisybench.training.batch import Batch
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy, toy_dataset, toy_labels, toy_spec, train_toy
from tests.mitigations.test_mitigations import ConstantTask

QUICK = {"warmup_steps": 1, "flag_threshold": 0.6}


def distributions(count: int, classes: int, seed: int, power: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, classes, generator=generator, dtype=torch.float64) * power).softmax(1)


def bimodal(seed: int, count: int = 400) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    high = rng.random(count) < 0.4
    return torch.from_numpy(np.where(high, rng.normal(3, 0.4, count), rng.exponential(0.3, count)))


# Detection


@given(seed=st.integers(0, 50), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
@settings(deadline=None, max_examples=15)
def test_the_mixture_sees_neither_scale_nor_shift(seed: int, scale: float, shift: float) -> None:
    losses = bimodal(seed)
    plain, moved = two_components(losses), two_components(losses * scale + shift)
    torch.testing.assert_close(plain.high, moved.high, atol=1e-6, rtol=0)
    assert ((plain.high >= 0) & (plain.high <= 1)).all()
    assert plain.components is not None
    assert plain.components[1][0] < plain.components[1][1], "the high component is the one with the greater mean"


def test_the_mixture_does_not_depend_on_order_and_matches_densities() -> None:
    losses = bimodal(3)
    order = torch.randperm(len(losses), generator=torch.Generator().manual_seed(0))
    plain = two_components(losses)
    torch.testing.assert_close(two_components(losses[order]).high, plain.high[order], atol=1e-2, rtol=0)
    assert plain.components is not None
    dense = [w * torch.exp(-0.5 * ((plain.scaled - m) / s) ** 2) / s for w, m, s in zip(*plain.components, strict=True)]
    torch.testing.assert_close(plain.high, dense[1] / (dense[0] + dense[1]), atol=1e-6, rtol=1e-6)


def test_equal_losses_flag_nothing() -> None:
    found = two_components(torch.full((30,), 0.7))
    assert not found.high.any()
    assert found.components is None


def far_apart(seed: int, count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outside = torch.rand(count, generator=generator) < 0.4
    features = torch.rand(count, 24, generator=generator) + 0.6 * outside[:, None] * torch.rand(24, generator=generator)
    return features, outside


def test_a_hyperplane_averages_wrong_support_out() -> None:
    features, outside = far_apart(0, 1500)
    generator = torch.Generator().manual_seed(1)
    support = outside ^ (torch.rand(1500, generator=generator) < 0.2)
    found = linear_separation(features, support)
    from sklearn.metrics import roc_auc_score

    assert roc_auc_score(outside, found) > 0.98
    assert ((found > 0.5) == outside).double().mean() > ((support == outside).double().mean() + 0.1)


def test_the_hyperplane_is_that_of_scikit_learn_and_ignores_lengths() -> None:
    from sklearn.linear_model import LogisticRegression

    features, outside = far_apart(2)
    support = outside ^ (torch.arange(300) % 5 == 0)
    found = linear_separation(features, support)
    longer = features * (0.1 + 9 * torch.rand(300, 1))
    torch.testing.assert_close(linear_separation(longer, support), found, atol=2e-3, rtol=0)
    points = features / features.norm(dim=1, keepdim=True)
    points = (points - points.mean(0)) / points.std(0)
    newton = LogisticRegression(C=np.inf, class_weight="balanced", solver="newton-cholesky", tol=1e-9, max_iter=500)
    slow = newton.fit(points.double().numpy(), support.numpy()).predict_proba(points.double().numpy())[:, 1]
    np.testing.assert_allclose(found.numpy(), slow, atol=2e-3)


def test_balanced_classes_do_not_move_the_boundary_when_one_side_is_doubled() -> None:
    features, outside = far_apart(4)
    support = outside ^ (torch.arange(300) % 7 == 0)
    # Standardization depends on the doubled examples but the regression must not, so only the order is compared.
    doubled = torch.cat([features, features[~support]])
    found = linear_separation(features, support) > 0.5
    again = linear_separation(doubled, torch.cat([support, support[~support]]))[:300] > 0.5
    assert (found == again).double().mean() > 0.97


def test_too_few_on_one_side_cannot_be_separated() -> None:
    flags = torch.zeros(100, dtype=torch.bool)
    assert not can_be_separated(flags)
    flags[:9] = True
    assert not can_be_separated(flags)
    flags[9] = True
    assert can_be_separated(flags)
    assert not can_be_separated(~torch.zeros(100, dtype=torch.bool))


# Guesses and their losses


@given(seed=st.integers(0, 200), power=st.floats(1, 4))
@settings(deadline=None, max_examples=30)
def test_sharpening(seed: int, power: float) -> None:
    plain = distributions(5, 4, seed)
    sharp = parts.sharpen(plain, power)
    torch.testing.assert_close(sharp.sum(1), torch.ones(5, dtype=torch.float64))
    assert (sharp.argmax(1) == plain.argmax(1)).all()
    spread = [-(each * each.log()).sum(1) for each in (sharp, plain)]
    assert (spread[0] <= spread[1] + 1e-9).all()
    torch.testing.assert_close(parts.sharpen(plain, 1.0), plain)
    for fixed in (torch.eye(4), torch.full((2, 4), 0.25)):
        torch.testing.assert_close(parts.sharpen(fixed, power), fixed)


def test_pseudo_loss_of_a_certain_guess_is_cross_entropy_and_never_below_the_guess_entropy() -> None:
    guesses, now = distributions(20, 5, 0), 3 + distributions(20, 5, 1).log()
    certain = functional.one_hot(guesses.argmax(1), 5).double()
    torch.testing.assert_close(
        parts.pseudo_loss(certain, now), functional.cross_entropy(now, guesses.argmax(1), reduction="none")
    )
    own = -(guesses * guesses.log()).sum(1)
    assert (parts.pseudo_loss(guesses, now) >= own - 1e-9).all()
    torch.testing.assert_close(parts.pseudo_loss(guesses, guesses.log()), own)
    # A softmax underflows here, and its logarithm would be infinite.
    assert parts.pseudo_loss(torch.eye(2)[:1], torch.tensor([[-300.0, 0.0]])).item() == 300
    assert parts.pseudo_loss(torch.eye(2)[1:], torch.tensor([[-300.0, 0.0]])).item() == 0


def test_trust_is_one_where_nothing_is_flagged() -> None:
    guesses, now = distributions(60, 5, 0, 3), distributions(60, 5, 1, 3).log()
    flagged = torch.arange(60) % 2 == 0
    found = parts.pseudo_label_weights(guesses, now, flagged)
    assert (found[~flagged] == 1).all()
    losses = parts.pseudo_loss(guesses, now)[flagged]
    torch.testing.assert_close(found[flagged], 1 - two_components(losses).high)
    assert losses[found[flagged] > 0.9].max() < losses[found[flagged] < 0.1].min()
    two = torch.arange(60) < 2
    assert (parts.pseudo_label_weights(guesses, now, two) == 1).all()


# Loss


def test_weighted_cross_entropy_by_hand() -> None:
    logits, targets = distributions(6, 4, 0).log(), distributions(6, 4, 1)
    weights = torch.tensor([1.0, 0.2, 0.0, 1.0, 0.5, 0.9], dtype=torch.float64)
    partner, share = torch.tensor([3, 0, 5, 1, 2, 4]), 0.7
    found = parts.weighted_cross_entropy(logits, targets, weights, partner, share).mean()
    own = sum(weights[i] * -sum(targets[i, c] * logits[i, c] for c in range(4)) for i in range(6))
    other = sum(weights[partner[i]] * -sum(targets[partner[i], c] * logits[i, c] for c in range(4)) for i in range(6))
    wanted = (share * own + (1 - share) * other) / weights.sum()
    torch.testing.assert_close(found.double(), torch.as_tensor(wanted).double(), atol=1e-6, rtol=1e-6)
    plain = parts.weighted_cross_entropy(logits, targets, torch.ones(6), partner, share)
    mixed = targets.lerp(targets[partner], 1 - share)
    torch.testing.assert_close(
        plain.double(), functional.cross_entropy(logits, mixed, reduction="none"), atol=1e-6, rtol=1e-6
    )
    doubled = parts.weighted_cross_entropy(logits, targets, torch.full((6,), 3.0), partner, share)
    torch.testing.assert_close(doubled, plain, atol=1e-6, rtol=1e-6)


def test_a_distrusted_target_gives_no_gradient() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    loss = parts.weighted_cross_entropy(logits, torch.eye(3)[[0, 1, 2, 0, 1]], weights, torch.arange(5), 1.0)
    loss.mean().backward()
    assert logits.grad is not None
    assert not logits.grad[2].any()
    assert logits.grad[0].any()


@pytest.mark.parametrize("share", [1.0, 0.65])
def test_pairs_by_hand(share: float) -> None:
    targets, partner = distributions(6, 3, 2, 3), torch.tensor([1, 2, 3, 4, 5, 0])
    weights = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.3, 0.0], dtype=torch.float64)
    kind = targets.argmax(1)
    same = torch.tensor([[float(kind[i] == kind[j]) for j in range(6)] for i in range(6)], dtype=torch.float64)
    rows = same / same.sum(1, keepdim=True)
    found = parts.class_pairs(targets, partner, share)
    torch.testing.assert_close(found, share * rows + (1 - share) * rows[partner])
    torch.testing.assert_close(found.sum(1), torch.ones(6, dtype=torch.float64))
    mixed = (share * targets + (1 - share) * targets[partner]).argmax(1)
    raw = torch.zeros(6, 6, dtype=torch.float64)
    for i in range(6):
        for j in range(6):
            raw[i, j] = weights[i] * weights[j] * float(mixed[i] == mixed[j]) + float(i == j) * (1 - weights[i]) ** 2
    assert torch.equal(raw, raw.T)
    torch.testing.assert_close(raw.diagonal(), weights**2 + (1 - weights) ** 2)
    wanted = share * raw + (1 - share) * raw[partner]
    torch.testing.assert_close(
        parts.interpolated_pairs(targets, weights, partner, share), wanted / wanted.sum(1, keepdim=True)
    )


def test_interpolated_pairs_end_in_instances_and_in_classes() -> None:
    targets, still = distributions(5, 3, 0, 3), torch.arange(5)
    ones, zeros = torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    torch.testing.assert_close(parts.interpolated_pairs(targets, zeros, still, 1.0), torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(
        parts.interpolated_pairs(targets, ones, still, 1.0), parts.class_pairs(targets, still, 1.0)
    )


def test_contrastive_loss_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed, keys = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    pairs = distributions(4, 4, 3).float()
    wanted = []
    for i in range(4):
        near = [float(functional.cosine_similarity(mixed[i], keys[j], dim=0)) / 0.2 for j in range(4)]
        total = math.log(sum(math.exp(each) for each in near))
        wanted.append(-sum(float(pairs[i, j]) * (near[j] - total) for j in range(4)))
    torch.testing.assert_close(
        parts.contrastive_loss(mixed, keys, pairs, 0.2), torch.tensor(wanted), atol=1e-5, rtol=1e-5
    )


def test_imbalance_is_zero_for_a_uniform_mean_and_positive_otherwise() -> None:
    logits = torch.log(torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    assert parts.uniform_prior_penalty(logits).item() == pytest.approx(0, abs=1e-6)
    mean = logits[:2].softmax(1).mean(0)
    wanted = sum(math.log((1 / 3) / float(each)) / 3 for each in mean)
    assert parts.uniform_prior_penalty(logits[:2]).item() == pytest.approx(wanted, abs=1e-6)
    assert wanted > 0


# The schedule and two networks


def test_the_detector_turns_with_the_absolute_epoch() -> None:
    assert [detector_of_epoch(["linear", "loss"], epoch) for epoch in range(5)] == [
        "linear",
        "loss",
        "linear",
        "loss",
        "linear",
    ]
    used: list[str] = []

    class Watched(LSA):
        def _detect(self, task: Any, number: int) -> torch.Tensor:
            used.append(self._detector)
            return super()._detect(task, number)

    run = prepared_toy({"name": "lsa", **QUICK}, budget={"epochs": 5})
    run.stack.mitigations[0].__class__ = Watched
    train_toy(run, Path("watched"))
    # After epoch 0, the only one of the warm-up, comes W, used in epoch 1; then Z, W, Z, W.
    assert used == ["linear", "loss", "linear", "loss", "linear"]
    used.clear()
    again = prepared_toy({"name": "lsa", **QUICK}, budget={"epochs": 5})
    again.stack.mitigations[0].__class__ = Watched
    train_toy(again, Path("parts"), stop_after=3)
    again = prepared_toy({"name": "lsa", **QUICK}, budget={"epochs": 5})
    again.stack.mitigations[0].__class__ = Watched
    train_toy(again, Path("parts"))
    assert used == ["linear", "loss", "linear", "loss", "linear"], "a resumed run keeps the turn"


@pytest.mark.parametrize(("epochs", "steps", "wanted"), [(1, 0, 1), (1, 150, 8), (30, 150, 30), (1, 20, 1), (1, 21, 2)])
def test_warm_up_is_counted_in_epochs_and_steps(epochs: int, steps: int, wanted: int) -> None:
    assert LSA(warmup_epochs=epochs, warmup_steps=steps)._warmup(20) == wanted


def test_labels_survive_correction_to_the_bit(tmp_path: Path) -> None:
    dataset = toy_dataset()
    made = toy_labels(dataset)
    before = made.train.copy()
    recorder = train_toy(prepared_toy({"name": "pls", **QUICK}, dataset, made, budget={"epochs": 4}), tmp_path)
    assert (recorder.evaluator.samples().corrected_labels != before).any(), "something was corrected"
    np.testing.assert_array_equal(made.train, before)
    np.testing.assert_array_equal(recorder.evaluator.samples().observed, before)


def test_voting_flags_what_both_flag_and_shares_weights(tmp_path: Path) -> None:
    run = prepared_toy({"name": "lsa", **QUICK, "cotrain": "consensus"}, budget={"epochs": 4})
    recorder = train_toy(run, tmp_path)
    state = run.stack.mitigations[0].state
    assert torch.equal(state["flags"][0], state["flags"][1])
    assert torch.equal(state["weights"][0], state["weights"][1])
    assert torch.equal(state["pseudo_labels"][0], state["pseudo_labels"][1])
    assert (state["weights"][0][~state["flags"][0]] == 1).all()
    assert recorder.rows[-1].diagnostics["lsa.flagged"] == pytest.approx(float(state["flags"][0].float().mean()))


def test_two_equal_networks_vote_like_one(tmp_path: Path) -> None:
    class Twin(LSA):
        def prepare(self, task: Any, training_set: Any) -> None:
            super().prepare(task, training_set)
            task.networks[1].load_state_dict(task.networks[0].state_dict())
            task.heads["projection_1"].load_state_dict(task.heads["projection_0"].state_dict())

    one = prepared_toy({"name": "lsa", **QUICK})
    two = prepared_toy({"name": "lsa", **QUICK, "cotrain": "consensus"})
    two.stack.mitigations[0].__class__ = Twin
    train_toy(one, tmp_path / "one")
    train_toy(two, tmp_path / "two")
    single, both = (run.stack.mitigations[0].state for run in (one, two))
    for name in ("flags", "weights", "pseudo_labels"):
        torch.testing.assert_close(both[name][0], single[name][0])
        torch.testing.assert_close(both[name][1], single[name][0])


def test_exchange_trains_on_the_other_networks_flags(tmp_path: Path) -> None:
    run = prepared_toy({"name": "pls", **QUICK, "cotrain": "cross"}, budget={"epochs": 3})
    train_toy(run, tmp_path)
    state = run.stack.mitigations[0].state
    own = state["high_loss"] > 0.6
    assert torch.equal(state["flags"], own.flip(0))


def test_a_support_without_two_sides_falls_back_and_says_so(tmp_path: Path) -> None:
    run = prepared_toy(
        {"name": "lsa", "warmup_steps": 1, "flag_threshold": 0.999999}, labels=toy_labels(toy_dataset(), 0)
    )
    rows = train_toy(run, tmp_path).rows
    assert rows[0].diagnostics["lsa.fell_back"] == 1.0
    assert any("small loss is used instead of linear separation" in note for note in rows[0].warnings)


def test_a_class_that_vanishes_is_recorded(tmp_path: Path) -> None:
    dataset = toy_dataset()

    class Eager(LSA):
        def _detect(self, task: Any, number: int) -> torch.Tensor:
            super()._detect(task, number)
            self.state["pseudo_labels"][number] = functional.one_hot(
                torch.zeros(len(dataset.train), dtype=torch.long), 10
            ).float()
            return task.training_set.targets == 3

    Eager.__module__ = LSA.__module__
    run = prepared_toy({"name": "lsa", **QUICK}, dataset)
    run.stack.mitigations[0].__class__ = Eager
    row = train_toy(run, tmp_path).rows[-1]
    assert row.diagnostics["lsa.vanished_classes"] == 1.0
    assert "lsa: no example is left with class 3 after correction" in row.warnings


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ({"name": "lsa", "layer": 7}, r"mitigations\.lsa: layer: must be in \[0, 1\] for `small_cnn`, but got 7"),
        ({"name": "lsa"}, "the warm-up takes 38 epochs .* but the budget has 3 epochs"),
        ({"name": "lsa", **QUICK, "detector_cycle": []}, "list at least one of linear, loss, oracle"),
        (
            {"name": "lsa", **QUICK, "support": "trusted"},
            "must be at most 120, the number of training examples, but got 1000",
        ),
        ({"name": "dividemix"}, "the warm-up takes 10 of 3 epochs"),
        ([{"name": "mixup"}, {"name": "pls", **QUICK}], "keeps state per sample and cannot follow mixup"),
        (["ensemble", {"name": "dividemix", "warmup_epochs": 1}], "and .* both set the number of networks"),
        (["ensemble", "elr"], "elr keeps one state per sample and cannot train the several networks of ensemble"),
    ],
)
def test_bad_stacks_are_refused_before_training(stack: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(stack)


def test_dividemix_needs_batch_statistics_in_each_half() -> None:
    with pytest.raises(UserError, match=r"budget\.batch_size: must be at least 4, half labeled and half unlabeled"):
        prepared_toy({"name": "dividemix", "warmup_epochs": 1}, budget={"batch_size": 3})


def test_a_network_without_known_stages_is_refused() -> None:
    with pytest.raises(UserError, match="the stages of `torchvision:mobilenet_v3_small` are not known"):
        prepared_toy({"name": "lsa", **QUICK}, budget={"network": "torchvision:mobilenet_v3_small"})


# DivideMix


class TwoNetworks(ConstantTask):
    """Scores of two networks: of the labeled examples, of the others, or of all in two views at once."""

    class Module(torch.nn.Module):
        pass

    def __init__(self, *scores: torch.Tensor, epoch: int, size: int) -> None:
        super().__init__(*scores, epoch=epoch)
        self.networks, self.size = [self.Module(), self.Module()], size

    def logits(self, inputs: torch.Tensor, network: int | None = 0) -> torch.Tensor:
        own = self.scores[network or 0]
        if len(inputs) == 2 * len(own):
            return torch.cat([own, own])
        return own[: self.size] if len(inputs) == self.size else own[self.size :]


@pytest.mark.parametrize("part", [0, 1])
def test_dividemix_by_hand(part: int) -> None:
    classes, size, count = 3, 4, 6
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(count, classes, generator=generator) for _ in range(2)]
    observed = torch.tensor([0, 1, 2, 0, 1, 2])
    images = torch.randn(count, 1, 2, 2, generator=generator)
    mitigation = DivideMix(warmup_epochs=2)
    clean = torch.rand(2, count, generator=generator)
    mitigation.state, mitigation._num_labeled = {"clean": clean}, [size, size]
    mitigation._num_steps, mitigation._steps_done = [4, 4], [1, 1]
    task = TwoNetworks(*scores, epoch=6, size=size)
    batch = Batch({"weak": images, "weak_2": images}, observed, torch.arange(count), classes, phase=part)
    found = mitigation.loss(task, batch).mean()  # type: ignore[arg-type]

    own, other = scores[part].softmax(1), scores[1 - part].softmax(1)
    targets = []
    for i in range(count):
        y = functional.one_hot(observed[i], classes).float()
        w = clean[1 - part, i]
        mean = w * y + (1 - w) * own[i] if i < size else (own[i] + other[i]) / 2
        targets.append(mean**2 / (mean**2).sum())
    again = ConstantTask(*scores)
    share = float(again.rng.beta(4.0, 4.0))
    share = max(share, 1 - share)
    partner = torch.randperm(2 * count, generator=again.generator)
    labeled, unlabeled = [], []
    for row in range(2 * count):
        mixed = share * targets[row % count] + (1 - share) * targets[int(partner[row]) % count]
        p = own[row % count]
        if row % count < size:
            labeled.append(-(mixed * p.log()).sum())
        else:
            unlabeled.append(((p - mixed) ** 2).mean())
    mean = own.mean(0)
    prior = sum(math.log((1 / classes) / float(each)) / classes for each in mean)
    ramp = (6 - 2 + 1 / 4) / 16
    wanted = torch.stack(labeled).mean() + 25.0 * ramp * torch.stack(unlabeled).mean() + prior
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_dividemix_scales_each_epoch_of_the_loss_history_once() -> None:
    mitigation, epochs = DivideMix(warmup_epochs=1, loss_history=5), 7
    data = TrainingSet(torch.zeros(400, 1, 2, 2, dtype=torch.uint8), torch.zeros(400, dtype=torch.long), 2)
    mitigation.prepare(None, data)  # type: ignore[arg-type]
    history = []
    for epoch in range(epochs):
        losses = 0.01 + bimodal(epoch).abs() * 10 * (1 + epoch)
        # Two classes whose cross-entropy for the first one is the loss, also far beyond 28 nats (a probability of 1e-12).
        outputs = SimpleNamespace(logits=torch.stack([-losses, (1 - (-losses).exp()).log()], 1).float())
        task: Any = SimpleNamespace(
            current_epoch=epoch, training_set=data, training_outputs=lambda network, outputs=outputs: outputs,
            budget=SimpleNamespace(epochs=epochs),
        )  # fmt: skip
        mitigation.on_epoch_end(task)
        history.append((losses - losses.min()) / (losses.max() - losses.min()))
        mean = torch.stack(history[-5:]).mean(0)
        assert epoch < 2 or mean.max() < 0.999, "the mean does not fill the range, and scaling it again would change it"
        wanted = two_components(mean, rescale=False).high
        torch.testing.assert_close(mitigation.state["clean"][0].double(), 1 - wanted, atol=1e-4, rtol=0)


def test_dividemix_warms_up_each_network_on_batches_and_views_of_its_own(tmp_path: Path) -> None:
    seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    class Watched(DivideMix):
        def loss(self, task: Any, batch: Batch) -> torch.Tensor:
            seen.append((batch.phase, batch.index, batch.inputs))
            return super().loss(task, batch)

    run = prepared_toy({"name": "dividemix", "warmup_epochs": 2}, budget={"augmentation": "crop"})
    run.stack.mitigations[0].__class__ = Watched
    train_toy(run, tmp_path, stop_after=1)
    assert [phase for phase, _, _ in seen] == [0] * 4 + [1] * 4
    first, second = (torch.cat([index for phase, index, _ in seen if phase == network]) for network in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(120))
    assert not torch.equal(first, second)
    images = [{int(i): image for phase, index, views in seen if phase == network for i, image in zip(index, views, strict=True)}
              for network in range(2)]  # fmt: skip
    assert sum(torch.equal(images[0][i], images[1][i]) for i in range(120)) < 30


def test_dividemix_guesses_labeled_and_unlabeled_examples_in_separate_passes() -> None:
    networks = torch.nn.ModuleList(
        [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3)) for _ in range(2)]
    )
    sizes: list[tuple[int, int]] = []

    class Watching(ConstantTask):
        def logits(self, inputs: torch.Tensor, network: int = 0) -> torch.Tensor:
            sizes.append((network, len(inputs)))
            scores: torch.Tensor = networks[network](inputs)
            return scores

    task: Any = Watching(epoch=5)
    task.networks = networks
    mitigation = DivideMix(warmup_epochs=1)
    mitigation.state = {"clean": torch.full((2, 10), 0.7)}
    mitigation._num_labeled, mitigation._num_steps, mitigation._steps_done = [4, 4], [3, 3], [0, 0]
    images = torch.randn(10, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    batch = Batch({"weak": images, "weak_2": images}, torch.arange(10) % 3, torch.arange(10), 3, phase=1)
    mitigation.loss(task, batch).mean().backward()
    # Unlabeled views by this network, then by the other; labeled views; and all of them mixed.
    assert sizes == [(1, 6), (1, 6), (0, 6), (0, 6), (1, 4), (1, 4), (1, 20)]
    counters = [network[1].num_batches_tracked.item() for network in networks]  # type: ignore[index]
    assert counters == [0, 5], "the other network's statistics stay as they were"


def test_dividemix_plans_half_labeled_and_half_unlabeled(tmp_path: Path) -> None:
    run = prepared_toy({"name": "dividemix", "warmup_epochs": 1})
    recorder = train_toy(run, tmp_path)
    mitigation = run.stack.mitigations[0]
    assert isinstance(mitigation, DivideMix)

    class Sampler:
        def epoch_order(self, epoch: int, number: int) -> torch.Tensor:
            return torch.randperm(120, generator=torch.Generator().manual_seed(number))

    class Planning:
        budget, current_epoch, sampler = run.spec.budget, 1, Sampler()

    mitigation.state["clean"] = torch.stack([torch.linspace(0, 1, 120), torch.linspace(1, 0, 120)])
    steps = mitigation.plan_epoch(Planning())  # type: ignore[arg-type]
    assert steps is not None
    # The authors count 60 // 16 + 1 steps, by which the weight of the unlabeled loss rises within an epoch.
    assert (mitigation._num_steps, mitigation._steps_done) == ([4, 4], [0, 0])
    for network in range(2):
        mine = [step.index for step in steps if step.phase == network]
        assert len(mine) == 3, "sixty labeled examples in batches of sixteen"
        # Number 0 is the order of ordinary epochs, which is neither network's own.
        order = Sampler().epoch_order(1, network + 1)
        own = order[mitigation.state["clean"][1 - network, order] > 0.5]
        assert torch.equal(torch.cat([index[:16] for index in mine]), own[:48])
        kept = mitigation.state["clean"][1 - network] > 0.5
        for index in mine:
            assert kept[index[:16]].all(), "the other network says which labels are used"
            assert not kept[index[16:]].any()
        assert len({int(each) for index in mine for each in index[:16]}) == 48
    mitigation.state["clean"].zero_()
    fallback = mitigation.plan_epoch(Planning())  # type: ignore[arg-type]
    assert fallback is not None
    assert sum(len(step.index) for step in fallback) == 2 * (120 // 16) * 16
    assert any("no label is kept" in note for note in mitigation.warnings)
    assert recorder.complete


@pytest.mark.parametrize(
    ("dataset", "noise", "rate", "weight", "threshold", "history", "warmup", "penalty"),
    [
        ("cifar10", "symmetric_inclusive", 0.2, 0.0, 0.5, 1, 10, False),
        ("cifar10", "symmetric_inclusive", 0.5, 25.0, 0.5, 1, 10, False),
        ("cifar10", "symmetric_inclusive", 0.8, 25.0, 0.5, 1, 10, False),
        ("cifar10", "symmetric_inclusive", 0.9, 50.0, 0.6, 5, 10, False),
        ("cifar10", "symmetric_exclusive", 0.8, 50.0, 0.6, 5, 10, False),
        ("cifar10", "asymmetric", 0.4, 0.0, 0.5, 1, 10, True),
        ("cifar100", "symmetric_inclusive", 0.2, 25.0, 0.5, 1, 30, False),
        ("cifar100", "symmetric_inclusive", 0.5, 150.0, 0.5, 1, 30, False),
        ("cifar100", "symmetric_inclusive", 0.8, 150.0, 0.5, 1, 30, False),
        ("cifar100", "symmetric_exclusive", 0.8, 150.0, 0.5, 1, 30, False),
        ("cifar100", "symmetric_inclusive", 0.9, 150.0, 0.6, 5, 30, False),
    ],
)
def test_dividemix_has_the_published_settings_of_the_nominal_rate(
    dataset: str, noise: str, rate: float, weight: float, threshold: float, history: int, warmup: int, penalty: bool
) -> None:
    overrides = [f"dataset={dataset}", f"noise={noise}", f"noise.rate={rate}", "mitigations=dividemix(preset=paper)"]
    (spec,) = read_recipe("digits", [*overrides, "budget=paper"])
    mitigation = DivideMix(**spec.mitigations[0].parameters)
    assert (mitigation.unlabeled_weight, mitigation.threshold, mitigation.loss_history) == (weight, threshold, history)
    assert (mitigation.warmup_epochs, mitigation.confidence_penalty) == (warmup, penalty)
    assert mitigation.alpha == 4.0
    assert ("noise_rate" in spec.preset_privileged) == (noise != "asymmetric"), "the nominal rate selects the row"
    assert (spec.budget.network, spec.budget.epochs, spec.budget.batch_size) == ("preact_resnet18_stem_bn", 300, 128)


def test_dividemix_without_a_preset_reads_nothing_privileged() -> None:
    assert DivideMix().requirements.privileged == ()


def test_entropy_by_hand() -> None:
    p = distributions(3, 4, 0)
    wanted = [-sum(float(p[i, c]) * math.log(float(p[i, c])) for c in range(4)) for i in range(3)]
    torch.testing.assert_close(entropy(p.log()).double(), torch.tensor(wanted).double(), atol=1e-6, rtol=1e-6)


# Ensembles


def test_a_member_trains_as_it_would_alone(tmp_path: Path) -> None:
    alone, both = prepared_toy("cross_entropy"), prepared_toy(["ensemble", "cross_entropy"])
    first, second = train_toy(alone, tmp_path / "alone"), train_toy(both, tmp_path / "both")
    members = second._final["weights"]
    for name, tensor in first._final["weights"].items():
        assert torch.equal(tensor, members[name]), "the first member has the weights of the single network"
    mean = [f"{number}.{name.split('.', 1)[1]}" for number in (0, 1) for name in ("0.0.weight",)]
    assert not torch.equal(members[mean[0]], members[mean[1]])
    assert second._final["parameters"] == 2 * first._final["parameters"]


@pytest.mark.parametrize(
    ("stack", "rule"),
    [
        (["ensemble", "mixup"], "probabilities"),
        ([{"name": "dividemix", "warmup_epochs": 1}], "logits"),
        ([{"name": "lsa", **QUICK, "cotrain": "consensus"}], "logits"),
        ([{"name": "co_teaching", "forget_rate": 0.2, "ensemble": True}], "probabilities"),
    ],
)
def test_ensembles_deploy_the_mean_prediction(stack: list[Any], rule: str, tmp_path: Path) -> None:
    run = prepared_toy(stack)
    assert run.stack.requirements.ensemble == rule
    recorder = train_toy(run, tmp_path)
    task_class = get_entry("tasks", "classification").load_class()
    data = TrainingSet(torch.from_numpy(run.dataset.train.inputs[:]), torch.from_numpy(run.labels.train), 10)
    task = task_class(toy_spec(stack).budget, 0, data, run.stack)
    own = {name: tensor for name, tensor in recorder._final["weights"].items() if name[0].isdigit()}
    task.networks.load_state_dict(own)

    def mean(images: torch.Tensor) -> torch.Tensor:
        members = [task.evaluate(images, number).logits.double() for number in range(2)]
        by_logits, by_probabilities = sum(members).softmax(1), sum(scores.softmax(1) for scores in members) / 2  # type: ignore[union-attr]
        halved: torch.Tensor = (sum(members) / 2).softmax(1)  # type: ignore[union-attr]
        assert torch.equal(halved.argmax(1), by_logits.argmax(1)), "as the authors' sum of scores"
        assert (halved - by_probabilities).abs().max() > 1e-4, "the two rules differ here"
        return halved if rule == "logits" else by_probabilities

    test = torch.from_numpy(run.dataset.test.inputs[:])
    np.testing.assert_allclose(recorder.evaluator.predictions().probabilities, mean(test).numpy(), atol=1e-6)
    # The same rule for the label quality and the corrected labels of the training set.
    np.testing.assert_allclose(task.training_probabilities().numpy(), mean(data.inputs).numpy(), atol=1e-6)


@pytest.mark.parametrize(("linear", "warns"), [(24, False), (25, True)])
def test_separation_warns_if_it_flags_more_than_twice_as_many_as_small_loss(
    linear: int, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noisybench.mitigations.lsa.linear_separation", lambda *_: (torch.arange(100) < linear).float())
    mitigation = LSA(support="loss")
    mitigation.state = {"linear": torch.zeros(1, 100), "high_loss": torch.zeros(1, 100)}
    task: Any = SimpleNamespace(training_outputs=lambda number: SimpleNamespace(features=torch.zeros(100, 4)))
    flags = mitigation._detect_by_separation(task, 0, torch.arange(100) < 12)
    assert int(flags.sum()) == linear
    assert [note for note in mitigation.warnings if f"flags {linear}%" in note] == mitigation.warnings
    assert len(mitigation.warnings) == warns
