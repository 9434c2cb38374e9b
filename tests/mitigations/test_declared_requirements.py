"""What mitigations need from the task and from each other, and what they make of the results of auxiliary networks."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from noisybench.config.registry import get_entry, list_entries
from noisybench.mitigations import _confident_pixels, pixel_confident_learning
from noisybench.mitigations.dividemix import DivideMix
from noisybench.training.mitigation import Requirements
from noisybench.training.optimizers import OptimizerSettings
from noisybench.training.phases import Phase
from noisybench.training.views import PolicyView

NOISE = {"noise_u": OptimizerSettings(10.0), "noise_v": OptimizerSettings(10.0)}
REVISION = {"optimizer": "adam", "learning_rate": 5e-7, "lr_schedule": "constant"}
LATE = {"optimizer": "adam", "learning_rate": 1e-4, "lr_schedule": "constant", "weight_decay": 0.0}
SIEVE = {
    "optimizer": "sgd", "learning_rate": 0.1, "lr_schedule": "constant", "momentum": 0.0, "weight_decay": 0.0,
}  # fmt: skip
RISING = {"lr_schedule": "cosine", "warmup_epochs": 5}
FINAL = {"lr_schedule": "multistep", "lr_milestones": (3, 6), "lr_gamma": 0.1}
NEEDED: dict[str, dict[str, Any]] = {
    "networks": {
        **dict.fromkeys(("co_teaching", "co_teaching_plus", "dividemix", "ensemble", "jocor", "mean_teacher", "promix"), 2),
        "elr_plus": 4, "trinet": 3,
    },
    "ensemble": {"promix": "logits", "dividemix": "logits", "elr_plus": "logits", "ensemble": "probabilities"},
    "deployed": {"elr_plus": 2, "mean_teacher": 1},
    "views": {
        "cores2_star": ("weak", PolicyView("auto_augment_cifar10", cutout=(0.5, 0.5))),
        "disc": ("weak", PolicyView("rand_augment", magnitude=8, probability=0.5, cutout=(0.15, 0.15))),
        "dividemix": ("weak", "weak_2"),
        "lsa": ("weak", "weak_2", PolicyView("rand_augment", num_ops=1, magnitude=6, crop="resized"), "contrastive"),
        "pes_semi": ("weak", "weak_2"),
        "pls": ("weak", "weak_2", "contrastive"),
        "promix": ("weak", PolicyView("rand_augment", num_ops=3, magnitude=None, cutout=(0.0, 0.5))),
        "sop_plus": ("weak", PolicyView("auto_augment_cifar10", cutout=(0.5, 0.5))),
    },
    "privileged": {
        "meta_weight_net": ("clean_validation_labels",), "oracle_pruning": ("label_status",),
        **dict.fromkeys(("cdr", "co_teaching", "co_teaching_plus", "jocor", "trimmed_loss", "trinet"), ("noise_rate",)),
    },
    "feature_stage": {"lsa": 1},
    "lr_multiplier": {"linear_probe": 10.0, "lora": 10.0},
    "head_optimizers": {
        "pencil": {"distributions": OptimizerSettings(600.0)}, "sop": NOISE, "sop_plus": NOISE,
        "volminnet": {"transition": OptimizerSettings(0.01, momentum=0.9, follows_schedule=True)},
    },
    "phases": {
        "cal": (Phase(10, restarts_schedule=True), Phase(weights="fresh", restarts_schedule=True)),
        "cores2_star": (Phase(41, settings=SIEVE), Phase(weights="fresh", settings=RISING)),
        "pencil": (Phase(), Phase(10, settings=FINAL)),
        "pes": (Phase(10), Phase(4, settings=LATE), Phase(3, settings=LATE), Phase()),
        "pes_semi": (Phase(20), Phase(5, settings=LATE), Phase()),
        "t_revision": (Phase(10), Phase(), Phase(5, settings=REVISION)),
    },
    "keep_step_count": {},
    "per_sample_state": dict.fromkeys(
        (
            "cal", "cores2", "cores2_star", "disc", "dividemix", "elr", "elr_plus", "lsa", "ogc", "pencil", "pls", "promix",
            "sop", "sop_plus",
        ), True,
    ),
    "follows_mixing": {"elr": True},
    "mixes_samples": dict.fromkeys(("disc", "dividemix", "elr_plus", "lsa", "mixup", "pes_semi", "pls", "promix"), True),
    "repeats_loss": {"sam": True},
    "trains_copies": {"ensemble": True},
    "sets_initial_weights": {"simclr": True},
    "freezes_layers": {"pes": True, "pes_semi": True},
    "replaces_classifier": dict.fromkeys(("knn", "mahalanobis", "spectral_truncation"), True),
    "distributed_state": {
        "adele": {"counts": "sum"}, "elr": {"targets": "gather"},
        "bootstrapping": {}, "cdr": {}, "cross_entropy": {}, "gce": {}, "gls": {}, "jal": {}, "label_smoothing": {}, "sce": {},
        "sop": {}, "lora": {}, "pencil": {}, "volminnet": {},
    },
}  # fmt: skip
"""Requirements of mitigations with their defaults that are not those of a plain loss."""


def test_requirements_are_those_of_the_methods() -> None:
    assert NEEDED.keys() == {field.name for field in fields(Requirements)} - {"keeps_weights"}
    found: dict[str, dict[str, Any]] = {name: {} for name in NEEDED}
    for mitigation, entry in list_entries("mitigations").items():
        if entry.module.startswith("noisybench."):
            needed = entry.load_class()().requirements
            for name in NEEDED:
                if getattr(needed, name) != getattr(Requirements(), name):
                    found[name][mitigation] = getattr(needed, name)
    assert found == NEEDED


def test_the_page_on_several_devices_names_the_methods_that_support_them() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scaling-up.md").read_text(encoding="utf-8")
    sentence = text.partition("support with `distributed_state`: ")[2].partition(" support it;")[0]
    assert sorted(re.findall(r"`(\w+)`", sentence)) == sorted(NEEDED["distributed_state"])


@pytest.mark.parametrize(("name", "key"), [("el2n", "el2n"), ("grand", "grand"), ("grand", "grand_last")])
def test_scores_are_means_over_the_scoring_networks(name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {kind: torch.rand(3, 7) for kind in ("el2n", "loss", "grand", "grand_last")}
    entry = get_entry("mitigations", name)
    monkeypatch.setattr(importlib.import_module(entry.module), "EarlyScores", lambda *arguments: arguments[1:])
    asked: list[Any] = []
    task: Any = SimpleNamespace(auxiliary=lambda run: asked.append(run) or scores)
    gradient = {"gradient": "last_layer" if key == "grand_last" else "exact"} if name == "grand" else {}
    mitigation = entry.load_class()(num_networks=3, epochs=2, score_seed=5, **gradient)
    torch.testing.assert_close(mitigation.score(task, None), sum(scores[key]) / 3)
    assert asked == [(3, 2, 5, *([key == "grand"] if name == "grand" else []))]


def test_dividemix_detects_from_the_last_epoch_of_the_warm_up_on() -> None:
    mitigation = DivideMix(warmup_epochs=3, threshold=0.5)
    mitigation.state = {
        "clean": torch.tensor([[0.9, 0.4, 0.6], [0.3, 0.4, 0.6]]),
        "scaled_loss": torch.tensor([[0.1, 0.9, 0.3], [0.3, 0.7, 0.5]]),
    }
    mitigation._components = None
    data: Any = None
    for epoch in range(5):
        task: Any = SimpleNamespace(current_epoch=epoch)
        found = mitigation.detectors(task, data)
        assert found.keys() == (set() if epoch < 2 else {"loss"})
    torch.testing.assert_close(found["loss"].score, torch.tensor([0.2, 0.8, 0.4]))
    assert found["loss"].flagged.tolist() == [False, True, False]


def test_a_pixel_has_the_score_and_the_flag_of_the_fold_that_predicts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_confident_pixels, "OutOfSamplePredictions", lambda *arguments: arguments)
    fold = torch.tensor([0, 1, 1])
    quality, flagged = torch.rand(3, 2, 2), torch.rand(3, 2, 2) > 0.5
    own = [(fold == number)[:, None, None] for number in range(2)]
    predictions = {
        "label_quality": torch.stack([quality * part for part in own]),
        "flagged": torch.stack([flagged & part for part in own]),
    }
    task: Any = SimpleNamespace(auxiliary=lambda run: predictions, budget=SimpleNamespace(epochs=4))
    mitigation = pixel_confident_learning.PixelConfidentLearning(folds=2)
    data: Any = None
    mitigation.prepare(task, data)
    torch.testing.assert_close(mitigation.state["score"].float(), 1 - quality, rtol=0, atol=1e-3)
    assert torch.equal(mitigation.state["flagged"], flagged)


@pytest.mark.parametrize("name", ["lsa", "pls"])
def test_pseudo_label_methods_detect_from_the_last_epoch_of_the_warm_up_on(name: str) -> None:
    mitigation = get_entry("mitigations", name).load_class()(warmup_epochs=1, warmup_steps=25, flag_threshold=0.7)
    mitigation.state = {
        "high_loss": torch.tensor([[0.9, 0.7, 0.6]]), "scaled_loss": torch.tensor([[0.8, 0.5, 0.1]]),
        "linear": torch.tensor([[0.2, 0.4, 0.6]]), "flags": torch.tensor([[True, False, False]]),
    }  # fmt: skip
    mitigation._components = None
    data: Any = None
    for epoch in range(6):
        task: Any = SimpleNamespace(current_epoch=epoch, sampler=SimpleNamespace(steps_per_epoch=10))
        found = mitigation.detectors(task, data)
        assert ("loss" in found) == bool(found) == (epoch >= 2), "25 steps are rounded up to three epochs"
    assert found["loss"].flagged.tolist() == [True, False, False]
    torch.testing.assert_close(found["loss"].score, mitigation.state["scaled_loss"][0])
