"""What must come out on handwritten digits, with wide margins: early scores, truncated spectra, noisy pre-training."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets.label_set import LabelSet
from noisybench.evaluation.metrics import noise_auroc
from noisybench.mitigations._feature_classifiers import extract_features, predict_linear
from noisybench.mitigations._pruning import select_by_score
from noisybench.mitigations._scores import EarlyScores, TrainingDynamics
from noisybench.mitigations.grand import input_norms, rank_correlation
from noisybench.nn.spectrum import Spectrum, effective_rank, spectrum_of
from noisybench.runs.preparation import prepare_run
from noisybench.runs.training import train
from noisybench.training.loop import train_epoch
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from tests.helpers import toy_spec

RATE = 0.4
SLOW = bool(os.environ.get("NOISYBENCH_SLOW"))


@functools.cache
def digits(rate: float, seed: int) -> tuple[Dataset, LabelSet]:
    dataset = get_entry("datasets", "digits").load_class()(validation_fraction=0.186).load()
    noise = get_entry("noise_models", "symmetric_exclusive").load_class()(rate=rate, seed=seed)
    return dataset, noise.apply(dataset)


def task_on_digits(network: str, rate: float = RATE, seed: int = 0, epochs: int = 60) -> Task:
    dataset, labels = digits(rate, seed)
    data = TrainingSet(torch.from_numpy(dataset.train.inputs), torch.from_numpy(labels.train), 10)
    budget = Budget(
        network=network,
        epochs=epochs,
        batch_size=64,
        learning_rate=0.05,
        lr_schedule="constant",
        weight_decay=0.0,
    )
    task: Task = get_entry("tasks", "classification").load_class()(budget, seed, data, Stack([]))
    return task


def trained(task: Task, kept: torch.Tensor | None = None) -> Task:
    """Trained for its whole budget, with as many steps whatever is kept."""
    task.sampler.weights = None if kept is None else kept.float()
    optimizer: Any = task.configure_optimizers()
    for epoch in range(task.budget.epochs):
        train_epoch(task, optimizer, epoch)
    return task


def accuracy(task: Task) -> float:
    test = digits(RATE, 0)[0].test
    return float((task.predict(torch.from_numpy(test.inputs)).argmax(1).numpy() == test.targets).mean())


def scored(run: Any) -> dict[str, torch.Tensor]:
    for epoch in range(run.epochs):
        run.train_epoch(epoch)
    found: dict[str, torch.Tensor] = run.result()
    return found


def auroc(score: torch.Tensor, rate: float = RATE, seed: int = 0) -> float:
    dataset, labels = digits(rate, seed)
    found = noise_auroc(-score.numpy(), labels.train != dataset.train.targets)
    assert found is not None
    return found


# Early scores


@pytest.fixture(scope="module")
def early() -> dict[int, dict[str, torch.Tensor]]:
    """Scores of five networks after four epochs, for two draws of the noise."""
    return {seed: scored(EarlyScores(task_on_digits("mlp:256-128", seed=seed), 5, 4, seed)) for seed in (0, 1)}


def test_early_errors_find_wrong_labels(early: dict[int, dict[str, torch.Tensor]]) -> None:
    for seed, found in early.items():
        assert auroc(found["el2n"].mean(0), seed=seed) >= 0.98
        single = np.mean([auroc(each, seed=seed) for each in found["el2n"]])
        assert auroc(found["el2n"].mean(0), seed=seed) >= single - 0.002
        dataset, labels = digits(RATE, seed)
        wrong = labels.train != dataset.train.targets
        top = found["el2n"].mean(0).argsort(descending=True)[: int(wrong.sum())].numpy()
        assert wrong[top].mean() >= 0.92


def test_untrained_networks_find_nothing_and_late_ones_forget() -> None:
    task = task_on_digits("mlp:256-128")
    untrained = scored(EarlyScores(task, 10, 0, 0, exact=True))
    assert 0.42 <= auroc(untrained["el2n"].mean(0)) <= 0.58
    assert untrained["el2n"].mean().item() == pytest.approx(0.9487, abs=0.01)
    assert 0.4 <= auroc(untrained["grand"].mean(0)) <= 0.6
    assert rank_correlation(untrained["grand"].mean(0), input_norms(task, task.training_set)) >= 0.9
    late = scored(EarlyScores(task, 1, 50, 0))
    assert auroc(late["el2n"][0]) <= 0.88


def test_never_learned_examples_count_as_forgotten() -> None:
    found = scored(TrainingDynamics(task_on_digits("mlp:256-128"), 1, 4, 0))
    with_rule = found["forgotten"].masked_fill(~found["learned"], 4.0)[0]
    assert auroc(found["forgotten"][0]) < 0.5 < auroc(with_rule)
    assert auroc(-found["margin"][0]) >= 0.98


def test_dropping_the_highest_helps_and_keeping_them_ruins(early: dict[int, dict[str, torch.Tensor]]) -> None:
    for seed, found in list(early.items())[: None if SLOW else 1]:
        score = found["el2n"].mean(0)
        dataset, labels = digits(RATE, seed)
        wrong = labels.train != dataset.train.targets
        rules = {
            "dropped": select_by_score(score, "drop_highest", 1 - float(wrong.mean()))[0],
            "highest": select_by_score(score, "keep_highest", 0.4)[0],
            "window 0": select_by_score(score, "window", 0.4, 0.0)[0],
            "window 0.2": select_by_score(score, "window", 0.4, 0.2)[0],
            "window 0.4": select_by_score(score, "window", 0.4, 0.4)[0],
            "random": select_by_score(
                torch.rand(len(score), generator=torch.Generator().manual_seed(seed)), "window", 0.4
            )[0],
        }
        reached = {
            name: accuracy(trained(task_on_digits("mlp:256-128", seed=seed), kept)) for name, kept in rules.items()
        }
        plain = accuracy(trained(task_on_digits("mlp:256-128", seed=seed)))
        assert wrong[rules["dropped"].numpy()].mean() <= 0.05
        assert reached["dropped"] >= plain + 0.15
        assert reached["highest"] <= min(0.15, reached["random"])
        assert reached["window 0.2"] >= max(reached["window 0"] - 0.01, reached["window 0.4"])


# Truncated spectra


@pytest.fixture(scope="module")
def converged() -> dict[float, tuple[Task, Spectrum, torch.Tensor]]:
    """Networks that have memorized clean or half incorrect labels, with their spectra and test features."""
    found = {}
    for rate in (0.0, RATE):
        task = trained(task_on_digits("mlp:512-512", rate, epochs=100))
        points = extract_features(task, task.networks[0], task.training_set.inputs)
        test = extract_features(task, task.networks[0], torch.from_numpy(digits(rate, 0)[0].test.inputs))
        found[rate] = task, spectrum_of(points, task.training_set.targets, 10), test
    return found


def on_test(points: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor) -> float:
    return float((predict_linear(points, weights, bias).numpy() == digits(RATE, 0)[0].test.targets).mean())


def memorized_fraction(task: Task, weights: torch.Tensor, bias: torch.Tensor) -> float:
    dataset, labels = digits(RATE, 0)
    seen = predict_linear(extract_features(task, task.networks[0], task.training_set.inputs), weights, bias).numpy()
    return float((seen == labels.train)[labels.train != dataset.train.targets].mean())


def test_truncation_recovers_part_of_what_convergence_lost(
    converged: dict[float, tuple[Task, Spectrum, torch.Tensor]],
) -> None:
    task, spectrum, test = converged[RATE]
    last: Any = task.networks[0].classifier
    head = last.weight.detach().double(), last.bias.detach().double()
    learned = task.training_outputs(0).probabilities.argmax(1) == task.training_set.targets
    assert learned.float().mean() >= 0.99
    plain = on_test(test, *head)
    assert 0.6 <= plain <= 0.8
    by_head = {rank: on_test(test, *spectrum.truncated(*head, rank)) for rank in (5, 15, 512)}
    by_squares = {rank: on_test(test, *spectrum.least_squares(rank)) for rank in (5, 15, 512)}
    assert by_head[512] == plain
    assert by_head[15] >= plain + 0.03
    assert by_squares[15] >= max(0.8, by_squares[512] + 0.08)
    for found in (by_head, by_squares):
        assert found[15] > max(found[5], found[512])
    assert memorized_fraction(task, *spectrum.least_squares(15)) <= 0.35
    assert memorized_fraction(task, *spectrum.least_squares(512)) >= 0.95


def test_clean_labels_lose_nothing_and_noise_spreads_the_spectrum(
    converged: dict[float, tuple[Task, Spectrum, torch.Tensor]],
) -> None:
    task, spectrum, test = converged[0.0]
    last: Any = task.networks[0].classifier
    head = last.weight.detach().double(), last.bias.detach().double()
    assert abs(on_test(test, *spectrum.truncated(*head, 15)) - on_test(test, *head)) <= 0.02
    assert effective_rank(spectrum.values) < 15
    assert effective_rank(converged[RATE][1].values) > 35


def test_truncation_is_no_better_than_ridge_class_means_and_untrained_features(
    converged: dict[float, tuple[Task, Spectrum, torch.Tensor]],
) -> None:
    """The controls that a report must show; here the untrained features win."""
    _, spectrum, test = converged[RATE]
    truncated = on_test(test, *spectrum.least_squares(15))
    assert on_test(test, *spectrum.least_squares(512, 1.0)) >= truncated - 0.1
    fresh = task_on_digits("mlp:512-512")
    points = extract_features(fresh, fresh.networks[0], fresh.training_set.inputs)
    untrained = spectrum_of(points, fresh.training_set.targets, 10).least_squares(512, 1.0)
    seen = extract_features(fresh, fresh.networks[0], torch.from_numpy(digits(RATE, 0)[0].test.inputs))
    assert on_test(seen, *untrained) > truncated


# Noisy pre-training


def tuned(stack: Any, rate: float, seed: int, folder: Path) -> Any:
    """Return the last row of a head on a network that was pre-trained at a noise rate."""
    common = {"optimizer": "adamw", "batch_size": 64, "weight_decay": 1e-4, "lr_schedule": "cosine"}
    spec = toy_spec(
        stack,
        seed=seed,
        task={
            "name": "transfer",
            "spectrum": "raw",
            "pretraining": {
                "dataset": {"name": "digits", "subset_range": [0, 0.5565], "validation_fraction": 0.0, "test_fraction": 0.01},
                "noise": {"name": "symmetric_exclusive", "rate": rate, "seed": seed},
                "budget": {**common, "epochs": 60, "learning_rate": 0.003},
            },
        },
        dataset={
            "name": "digits", "subset_range": [0.5565, 1], "validation_fraction": 0.0, "test_fraction": 0.5, "train_size": 200,
            "test_shifts": ["rotation:25", "noise:0.3", "translation:1"],
        },
        budget={**common, "network": "mlp:256n-64", "epochs": 30, "learning_rate": 0.001},
    )  # fmt: skip
    place = folder / f"{spec.identity}"
    place.mkdir()
    recorder = train(prepare_run(spec), place, lambda rows: None, lambda *_: None, lambda: False, folder / "auxiliary")
    return recorder.rows[-1]


def test_noise_in_pretraining_flattens_features_and_nmtune_sharpens_them(tmp_path: Path) -> None:
    # The margins are those for the mean of three seeds; two are quicker, and hold as well.
    seeds = (0, 1, 2) if SLOW else (0, 1)

    def mean(name: str, stack: Any, rate: float) -> float:
        rows = [rows_of(json_key(stack), rate, seed) for seed in seeds]
        return float(np.mean([row.test_score if name == "test_accuracy" else row.diagnostics[name] for row in rows]))

    def json_key(stack: Any) -> Any:
        return stack if isinstance(stack, str) else tuple(sorted(stack.items()))

    @functools.cache
    def rows_of(key: Any, rate: float, seed: int) -> Any:
        return tuned(key if isinstance(key, str) else dict(key), rate, seed, tmp_path)

    entropy, ratio = "singular_value_entropy", "largest_singular_value_ratio"
    flat = {rate: mean(f"backbone.{entropy}", "linear_probe", rate) for rate in (0.0, 0.1, 0.3)}
    weak = {rate: mean(f"backbone.{ratio}", "linear_probe", rate) for rate in (0.0, 0.1, 0.3)}
    assert flat[0.0] <= flat[0.1] <= flat[0.3]
    assert weak[0.0] <= weak[0.1] <= weak[0.3]
    assert flat[0.3] - flat[0.0] >= 0.25
    assert weak[0.3] - weak[0.0] >= 0.10
    assert mean("mean_shift_accuracy", "linear_probe", 0.0) - mean("mean_shift_accuracy", "linear_probe", 0.3) >= 0.10
    for rate in (0.0, 0.3):
        for name in ("test_accuracy", "mean_shift_accuracy"):
            assert mean(name, "nmtune", rate) >= mean(name, "mlp_probe", rate) - 0.02
    # The mechanism: features of more even energy, but for a stronger first direction.
    gains = {
        name: [
            mean(f"classifier_input.{name}", "nmtune", rate) - mean(f"classifier_input.{name}", "mlp_probe", rate)
            for rate in (0.0, 0.3)
        ]
        for name in (entropy, ratio)
    }
    assert min(gains[entropy]) > 0 > max(gains[ratio])
    assert np.mean(gains[entropy]) >= 0.03
    assert np.mean(gains[ratio]) <= -0.05
    too_strong = {"name": "nmtune", "strength": 1.0}
    assert mean("test_accuracy", too_strong, 0.0) <= mean("test_accuracy", "mlp_probe", 0.0) - 0.03
