"""Selection before training: scores against slow references, rules, cost, and the outcome on handwritten digits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional

from noisybench.config.registry import get_entry
from noisybench.errors import TrainingError, UserError
from noisybench.mitigations import _scores
from noisybench.mitigations._pruning import Pruning, select_by_score
from noisybench.mitigations._scores import (
    EarlyScores,
    ScoreCollector,
    TrainingDynamics,
    early_scores,
    error_norms,
    gradient_norms,
    margins,
)
from noisybench.mitigations.aum import threshold_scores
from noisybench.mitigations.grand import rank_correlation
from noisybench.runs.runner import execute
from noisybench.tracking.store import Store
from noisybench.training.batch import Batch
from noisybench.training.loop import train_epoch
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from tests.helpers import prepared_toy, toy_dataset, toy_labels, toy_spec, train_toy

SCORES = st.lists(st.integers(0, 6), min_size=1, max_size=40).map(lambda each: torch.tensor(each, dtype=torch.float32))


def toy_task(seed: int = 0, network: str = "small_cnn", **budget: Any) -> Task:
    """A task outside any run, on the toy data."""
    dataset = toy_dataset()
    data = TrainingSet(torch.from_numpy(dataset.train.inputs), torch.from_numpy(toy_labels(dataset).train), 10)
    chosen_budget = toy_spec(budget={"network": network, **budget}).budget
    task: Task = get_entry("tasks", "classification").load_class()(chosen_budget, seed, data, Stack([]))
    return task


# Rules


@given(scores=SCORES, keep=st.floats(0.01, 1), offset=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_window_has_its_size_and_lies_in_order(scores: torch.Tensor, keep: float, offset: float) -> None:
    offset = min(offset, 1 - keep)
    inside, above = select_by_score(scores, "window", keep, offset)
    assert int(inside.sum()) == math.floor(keep * len(scores) + 1e-9)
    assert not (inside & above).any()
    if inside.any() and above.any():
        assert scores[inside].max() <= scores[above].min()
    below = ~inside & ~above
    if inside.any() and below.any():
        assert scores[below].max() <= scores[inside].min()


@given(scores=SCORES, kept=st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_both_ends_are_windows(scores: torch.Tensor, kept: int) -> None:
    kept, count = min(kept, len(scores)), len(scores)
    for rule, offset in (("drop_highest", 0), ("keep_highest", count - kept)):
        one = select_by_score(scores, rule, kept / count)[0]
        assert torch.equal(one, select_by_score(scores, "window", kept / count, offset / count)[0])


def test_ties_go_by_position() -> None:
    assert select_by_score(torch.zeros(4), "drop_highest", 0.5)[0].tolist() == [True, True, False, False]


# Scores


@given(st.integers(2, 12), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_error_norms_keep_their_bounds(classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(20, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (20,), generator=generator)
    probabilities = logits.softmax(1)
    norms, own = error_norms(probabilities, targets), probabilities.gather(1, targets[:, None]).squeeze(1)
    torch.testing.assert_close(norms**2, 1 - 2 * own + (probabilities**2).sum(1))
    assert (
        (norms >= math.sqrt(classes / (classes - 1)) * (1 - own) - 1e-9) & (norms <= math.sqrt(2) * (1 - own) + 1e-9)
    ).all()
    right = probabilities.argmax(1) == targets
    assert (norms[right] <= math.sqrt(1 - 1 / classes) + 1e-9).all()
    assert (norms[~right] >= 1 / math.sqrt(2) - 1e-9).all()
    torch.testing.assert_close(error_norms((logits + 3).softmax(1), targets), norms)
    renamed = torch.randperm(classes, generator=generator)
    torch.testing.assert_close(error_norms(probabilities[:, renamed.argsort()], renamed[targets]), norms)


def test_a_uniform_prediction_has_the_error_of_its_classes() -> None:
    assert error_norms(torch.full((1, 10), 0.1), torch.tensor([3])).item() == pytest.approx(0.948683, abs=1e-6)


@pytest.mark.parametrize("network", ["small_cnn", "resnet8_cifar_stem", "mlp:16n-8"])
def test_gradient_norms_are_those_of_single_examples(network: str) -> None:
    task = toy_task(network=network)
    task.networks.eval()
    exact, early = gradient_norms(task), early_scores(task)
    last = [name for name, each in task.networks[0].named_modules() if isinstance(each, torch.nn.Linear)][-1]
    for place in (0, 1, 57, 119):
        task.zero_grad()
        image = task.normalize(task.training_set.inputs[place : place + 1])
        loss = functional.cross_entropy(task.logits(image), task.training_set.targets[place : place + 1])
        assert early["loss"][place].item() == pytest.approx(loss.item(), rel=1e-4)
        loss.backward()
        grads = {name: each.grad for name, each in task.networks[0].named_parameters() if each.grad is not None}
        whole = math.sqrt(sum(float((each**2).sum()) for each in grads.values()))
        part = math.sqrt(sum(float((each**2).sum()) for name, each in grads.items() if name.startswith(f"{last}.")))
        assert exact[place].item() == pytest.approx(whole, rel=1e-4)
        assert early["grand_last"][place].item() == pytest.approx(part, rel=1e-4)
        assert exact[place] >= early["grand_last"][place] - 1e-5


def test_scores_do_not_depend_on_the_portion_and_follow_one_label_each(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy_task()
    before, exact = early_scores(task), gradient_norms(task)
    monkeypatch.setattr(type(task), "eval_batch_size", lambda self, inputs: 7)
    for name, each in early_scores(task).items():
        torch.testing.assert_close(each, before[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient_norms(task), exact, rtol=1e-5, atol=1e-6)
    task.training_set.targets[5] = (task.training_set.targets[5] + 1) % 10
    changed = (early_scores(task)["el2n"] - before["el2n"]).abs() > 1e-6
    assert torch.nonzero(changed).squeeze(1).tolist() == [5]


def test_margins_by_hand() -> None:
    found = margins(torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]]), torch.tensor([1, 2]))
    assert found.tolist() == [2.0, -2.0]


def test_the_collector_counts_what_it_observes() -> None:
    shown = [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0]]
    collector, seen = ScoreCollector(), iter(shown)
    collector.prepare(None, [None] * 3)  # type: ignore[arg-type]

    class Shown:
        def logits(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.tensor([next(seen)])

    for _ in shown:
        collector.loss(Shown(), Batch({"weak": torch.zeros(1)}, torch.tensor([0]), torch.tensor([1]), 2))  # type: ignore[arg-type]
    state = collector.state
    assert state["margin"].tolist() == [0, 2 - 1 + 3 - 5, 0]
    assert state["seen"].tolist() == [0, 4, 0]
    assert state["forgotten"].tolist() == [0, 2, 0]
    assert state["learned"].tolist() == [False, True, False]


def test_a_wrong_prediction_after_a_wrong_one_is_no_forgetting_event() -> None:
    collector = ScoreCollector()
    collector.prepare(None, [None])  # type: ignore[arg-type]
    for correct, forgotten in ((0, 0), (0, 0), (1, 0), (0, 1), (0, 1), (0, 1), (1, 1), (0, 2)):

        class Shown:
            def logits(self, inputs: torch.Tensor, correct: int = correct) -> torch.Tensor:
                return torch.tensor([[0.0, 2.0 * correct - 1]])

        collector.loss(Shown(), Batch({"weak": torch.zeros(1)}, torch.tensor([1]), torch.tensor([0]), 2))  # type: ignore[arg-type]
        assert collector.state["forgotten"].tolist() == [forgotten]


def test_thresholds_of_the_false_class_by_hand() -> None:
    margin = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    false = torch.tensor([[True, False, False, False], [False, True, False, False]])
    assert threshold_scores(margin, false, 99).tolist() == [
        6 - 5,
        1 - 2,
        ((1 - 3) + (6 - 7)) / 2,
        ((1 - 4) + (6 - 8)) / 2,
    ]


def test_rank_correlation_is_spearmans() -> None:
    first, second = torch.randn(50, generator=torch.Generator().manual_seed(1)), torch.arange(50.0).remainder(7)
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation(first, torch.ones(50)) == 0


# Networks that score


def test_scoring_networks_are_trained_like_the_runs_own(tmp_path: Path) -> None:
    """The same seed gives the same weights outside and inside Lightning."""
    inside = train_toy(prepared_toy("cross_entropy", seed=7), tmp_path)
    task = toy_task(seed=7)
    optimizer: Any = task.configure_optimizers()
    for epoch in range(3):
        train_epoch(task, optimizer, epoch)
    for name, each in inside._final["weights"].items():
        assert torch.equal(task.networks.state_dict()[name], each)


@pytest.mark.parametrize("kind", [EarlyScores, TrainingDynamics])
def test_interrupted_scoring_comes_to_the_same(kind: type[_scores.ScoringNetworks]) -> None:
    task = toy_task()
    whole, first, second = (kind(task, 2, 2, 0) for _ in range(3))  # type: ignore[call-arg]
    for epoch in range(4):
        whole.train_epoch(epoch)
    for stop in (1, 2, 3):
        first = kind(task, 2, 2, 0)  # type: ignore[call-arg]
        for epoch in range(stop):
            first.train_epoch(epoch)
        second = kind(task, 2, 2, 0)  # type: ignore[call-arg]
        second.load_state_dict(first.state_dict())
        for epoch in range(stop, 4):
            second.train_epoch(epoch)
        for name, each in whole.result().items():
            assert torch.equal(second.result()[name], each)
    assert all(len(each) == 2 for each in whole.result().values())


def test_scores_are_shared_between_seeds_and_kinds_and_charged_to_all(tmp_path: Path) -> None:
    from noisybench.runs.training import train

    charges = []
    for seed, name in ((0, "el2n"), (1, "el2n"), (2, "small_loss_pruning")):
        stack = {"name": name, "num_networks": 2, "epochs": 1, "keep_fraction": 0.8, "per_class": True}
        run = prepared_toy(stack, seed=seed)
        (tmp_path / str(seed)).mkdir()
        recorder = train(
            run, tmp_path / str(seed), lambda rows: None, lambda *_: None, lambda: False, tmp_path / "shared"
        )
        charges.append(recorder.auxiliary_costs[0])
    assert [each.cached for each in charges] == [False, True, True]
    assert len({each.identity for each in charges}) == 1
    assert all(each.wall_seconds == charges[0].wall_seconds > 0 for each in charges)
    held = torch.load(next((tmp_path / "shared").glob("*.pt")), weights_only=True)["result"]
    assert held["el2n"].shape == (2, 120)


# What is refused


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ({"name": "el2n", "num_networks": 0}, r"num_networks: .*greater than or equal to 1"),
        (
            {"name": "el2n", "epochs": 1, "strategy": "window", "keep_fraction": 0.7, "offset": 0.4},
            "beyond the data; the offset can be at most 0.3",
        ),
        (
            {"name": "el2n", "epochs": 1, "strategy": "window"},
            "keep_fraction: the strategy window needs the fraction to keep",
        ),
        ({"name": "el2n", "epochs": 1, "keep_fraction": 0.5, "offset": 0.1}, "offset: only a window has an offset"),
        ({"name": "el2n", "epochs": 1, "keep_fraction": 0.001}, "0.001 of 120 examples is less than one example"),
        ({"name": "el2n", "epochs": 1, "keep_fraction": 0.5, "noise_rate": "oracle"}, "set only one of them"),
        ({"name": "el2n", "epochs": 4}, "schedule has 3 epochs, but scores are taken after 4"),
        ({"name": "confident_learning", "folds": 121}, "120 examples cannot be divided into 121 folds"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(stack: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(stack)


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        ({"name": "random_pruning", "keep_fraction": 0.02}, r"random_pruning: none of the \d+ examples of classes .* is kept"),
        ({"name": "random_pruning", "keep_fraction": 0.001, "allow_empty_classes": True}, "is kept"),
        ({"name": "el2n", "epochs": 1, "keep_fraction": 0.05, "per_class": True}, "of the smallest class is kept at a"),
        ({"name": "el2n", "epochs": 1, "noise_rate": "oracle", "noise_rate_multiplier": 9}, "examples of all classes is kept"),
    ],
)  # fmt: skip
def test_selections_that_must_be_empty_are_refused_before_training(stack: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy(stack)


def test_the_oracle_needs_a_correct_example_of_every_class() -> None:
    dataset = toy_dataset()
    labels = toy_labels(dataset, wrong_every=0)
    labels.train[labels.train == 3] = 4
    labels.train[0] = 3
    with pytest.raises(UserError, match="oracle_pruning: none of the 1 examples of class 3 is kept"):
        prepared_toy("oracle_pruning", dataset, labels)


def test_a_class_that_is_emptied_is_named(tmp_path: Path) -> None:
    dataset = toy_dataset()
    labels = toy_labels(dataset, wrong_every=0)
    labels.train[labels.train == 3] = 4
    labels.train[0] = 3  # the only example of its class, and mislabeled
    stack = {"name": "el2n", "num_networks": 2, "epochs": 3, "keep_fraction": 0.9}
    with pytest.raises(
        TrainingError, match=r"mitigations.el2n: none of the 1 examples of class 3 is kept; keep more examples"
    ):
        train_toy(prepared_toy(stack, dataset, labels), tmp_path / "refused")
    allowed = train_toy(prepared_toy({**stack, "allow_empty_classes": True}, dataset, labels), tmp_path / "allowed")
    assert allowed.rows[0].warnings == ["el2n: none of the 1 examples of class 3 is kept"]


class KeepFirst(Pruning):
    """Keeps the first four of six examples."""

    def kept(self, task: Any, training_set: TrainingSet) -> torch.Tensor:
        return torch.arange(6) < 4


@pytest.mark.parametrize(
    ("targets", "smallest"),
    [
        pytest.param([0, 1, 1, 1, 1, 1], 0.6, id="three of five"),
        pytest.param([0, 1, 2, 3, 2, 3], 0.5, id="one of two"),
        pytest.param([0, 0, 1, 1, 0, 3], 0.0, id="none of one, and two classes without examples"),
    ],
)
def test_the_smallest_kept_fraction_is_that_of_a_class_with_examples(targets: list[int], smallest: float) -> None:
    pruning = KeepFirst(allow_empty_classes=True)
    data = TrainingSet(torch.zeros(6, 1), torch.tensor(targets), 5)
    assert pruning.sample_weights(toy_task(), data).tolist() == [1, 1, 1, 1, 0, 0]
    assert pruning.diagnostics["smallest_class_kept"] == pytest.approx(smallest)


def test_a_class_of_one_kept_example_is_kept_completely() -> None:
    class KeepAll(Pruning):
        def kept(self, task: Any, training_set: TrainingSet) -> torch.Tensor:
            return torch.ones(3, dtype=torch.bool)

    pruning = KeepAll()
    pruning.sample_weights(toy_task(), TrainingSet(torch.zeros(3, 1), torch.tensor([0, 1, 1]), 2))
    assert pruning.diagnostics["smallest_class_kept"] == 1.0


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install cleanlab"):
        prepared_toy({"name": "confident_learning", "epochs": 1})


def test_what_is_left_is_recorded_against_the_truth(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy("oracle_pruning"), tmp_path / "oracle")
    assert recorder.rows[0].diagnostics["kept_fraction"] == 0.75
    assert recorder.rows[0].diagnostics["kept_noise_rate"] == 0
    half = train_toy(prepared_toy({"name": "random_pruning", "keep_fraction": 0.5}), tmp_path / "random")
    assert half.rows[-1].diagnostics["kept_fraction"] == 0.5
    assert 0.1 < half.rows[-1].diagnostics["kept_noise_rate"] < 0.4


def test_scores_are_an_artifact_of_a_tracked_run(store: Store) -> None:
    """The matrix over networks below the run that had it trained; the mean among the run's samples."""
    spec = toy_spec(
        {"name": "el2n", "num_networks": 2, "epochs": 1, "keep_fraction": 0.8},
        dataset={"name": "digits", "train_size": 100},
    )
    assert execute(spec, store, lambda *_: None, lambda: False) == "finished"
    runs = store.connection.client.search_runs([store.connection.experiment])
    child = next(run for run in runs if "mlflow.parentRunId" in run.data.tags)
    parent = next(run for run in runs if run.info.run_id == child.data.tags["mlflow.parentRunId"])
    folder = store.connection.database.parent / "mlartifacts"
    (file,) = folder.glob(f"**/{child.info.run_id}/artifacts/*")
    held = torch.load(file, weights_only=True)["result"]
    assert held["el2n"].shape == (2, 100)
    (table,) = folder.glob(f"**/{parent.info.run_id}/artifacts/samples.parquet")
    samples = pandas.read_parquet(table)
    np.testing.assert_allclose(samples["detector_el2n"], held["el2n"].mean(0), rtol=1e-6)
    assert samples["detector_el2n_flagged"].sum() == 20
