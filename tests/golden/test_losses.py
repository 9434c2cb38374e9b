"""Losses of single examples against the authors' code."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from noisybench.mitigations._transition import estimate_transitions
from noisybench.mitigations.backward_correction import BackwardCorrection
from noisybench.mitigations.bootstrapping import Bootstrapping
from noisybench.mitigations.co_teaching import CoTeaching
from noisybench.mitigations.co_teaching_plus import CoTeachingPlus
from noisybench.mitigations.cores2 import CORES2
from noisybench.mitigations.forward_correction import ForwardCorrection
from noisybench.mitigations.gce import GCE
from noisybench.mitigations.gls import GLS
from noisybench.mitigations.jal import JAL
from noisybench.mitigations.jocor import JoCoR
from noisybench.mitigations.label_smoothing import LabelSmoothing
from noisybench.mitigations.mixup import Mixup
from noisybench.mitigations.sce import SCE
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Mitigation
from noisybench.training.training_set import TrainingSet
from tests.golden.vectors import Golden, load_golden


def batch_of(labels: Tensor, classes: int, inputs: Tensor | None = None) -> Batch:
    return Batch({"weak": torch.zeros(1) if inputs is None else inputs}, labels, torch.arange(len(labels)), classes)


def loss_and_gradient(mitigation: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The losses of (B, C) logits, or of one network each in (K, B, C) logits, and the gradient of their sum."""
    logits = logits.clone().requires_grad_()
    task = SimpleNamespace(
        logits=lambda inputs, network=0: logits if logits.dim() == 2 else logits[network], current_epoch=1
    )
    loss = mitigation.loss(task, batch_of(labels, logits.shape[-1]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), gradient


def compare(golden: Golden, mitigation: Mitigation, name: str, place: str, tolerance: float) -> None:
    loss, gradient = loss_and_gradient(mitigation, golden.tensor(f"logits_{place}"), golden.tensor(f"labels_{place}"))
    torch.testing.assert_close(loss, golden.tensor(f"{name}_loss_{place}"), rtol=0, atol=tolerance)
    torch.testing.assert_close(gradient, golden.tensor(f"{name}_gradient_{place}"), rtol=0, atol=tolerance)


@pytest.mark.parametrize("place", ["2_1", "2_3", "10_1", "10_3"])
@pytest.mark.parametrize(("name", "kind"), [("forward", ForwardCorrection), ("backward", BackwardCorrection)])
def test_corrected_losses_are_the_authors(name: str, kind: Callable[[], Any], place: str) -> None:
    golden = load_golden("loss_correction")
    classes = place.split("_")[0]
    golden.arrays[f"labels_{place}"] = golden[f"labels_{classes}"]
    mitigation = kind()
    mitigation.state["matrix"] = golden.tensor(f"matrix_{classes}").float()
    compare(golden, mitigation, name, place, 1e-5)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("percentile", [97, 100])
def test_estimated_matrices_are_the_authors(classes: int, percentile: int) -> None:
    golden = load_golden("loss_correction")
    estimate = estimate_transitions(golden.tensor(f"predictions_{classes}"), percentile)
    torch.testing.assert_close(estimate, golden.tensor(f"estimate_{classes}_{percentile}"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_generalized_cross_entropy_is_the_authors(classes: int) -> None:
    golden = load_golden("gce")
    logits, labels = golden.tensor(f"logits_{classes}"), golden.tensor(f"labels_{classes}")
    for number, q in enumerate(golden["exponents"]):
        loss, gradient = loss_and_gradient(GCE(q=float(q)), logits, labels)
        assert loss.mean().item() == pytest.approx(golden[f"loss_{classes}"][number], abs=2e-5)
        torch.testing.assert_close(gradient / 6, golden.tensor(f"gradient_{classes}")[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", ["2_1", "2_3", "10_1", "10_3"])
def test_symmetric_cross_entropy_is_the_authors_with_the_default_for_log_zero(place: str) -> None:
    golden = load_golden("sce")
    assert SCE().log_zero == math.log(1e-4)
    logits, labels = golden.tensor(f"logits_{place}"), golden.tensor(f"labels_{place}")
    for number, (alpha, beta) in enumerate(golden["weights"].tolist()):
        loss, gradient = loss_and_gradient(SCE(alpha=alpha, beta=beta), logits, labels)
        torch.testing.assert_close(loss.mean(), golden.tensor(f"sce{number}_loss_{place}"), rtol=0, atol=2e-5)
        torch.testing.assert_close(gradient / 6, golden.tensor(f"sce{number}_gradient_{place}"), rtol=0, atol=2e-6)


@pytest.mark.parametrize("place", ["2_1", "2_3", "10_1", "10_3"])
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_bootstrapping_is_the_authors_code_of_sce(mode: str, place: str) -> None:
    compare(load_golden("sce"), Bootstrapping(mode=mode), mode, place, 1e-5)


@pytest.mark.parametrize("size", [8, 33, 64])
def test_co_teaching_is_the_authors(size: int) -> None:
    golden = load_golden("co_teaching")
    logits, labels = golden.tensor(f"logits_{size}"), golden.tensor(f"labels_{size}")
    for number, rate in enumerate(golden["rates"].tolist()):
        loss, gradient = loss_and_gradient(CoTeaching(forget_rate=rate, ramp_epochs=1), logits, labels)
        wanted = golden.tensor(f"loss_{size}")[number].sum()
        torch.testing.assert_close(loss.mean(), wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(gradient / size, golden.tensor(f"gradient_{size}")[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [8, 33, 64])
def test_co_teaching_plus_is_the_authors(size: int) -> None:
    golden = load_golden("co_teaching_plus")
    logits, labels = golden.tensor(f"logits_{size}"), golden.tensor(f"labels_{size}")
    for number, rate in enumerate(golden["rates"].tolist()):
        mitigation = CoTeachingPlus(forget_rate=rate, ramp_epochs=1, warmup_epochs=0)
        loss, gradient = loss_and_gradient(mitigation, logits, labels)
        wanted = golden.tensor(f"loss_{size}")[number].sum()
        torch.testing.assert_close(loss.mean(), wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(gradient / size, golden.tensor(f"gradient_{size}")[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [8, 33, 64])
def test_jocor_is_the_authors(size: int) -> None:
    golden = load_golden("jocor")
    logits, labels = golden.tensor(f"logits_{size}"), golden.tensor(f"labels_{size}")
    settings = [(weight, rate) for weight in golden["weights"].tolist() for rate in golden["rates"].tolist()]
    for number, (weight, rate) in enumerate(settings):
        mitigation = JoCoR(forget_rate=rate, reg_weight=weight, ramp_epochs=1)
        loss, gradient = loss_and_gradient(mitigation, logits, labels)
        assert loss.mean().item() == pytest.approx(golden[f"loss_{size}"][number], abs=1e-5)
        torch.testing.assert_close(gradient / size, golden.tensor(f"gradient_{size}")[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", range(6))
def test_cores2_is_the_authors(number: int) -> None:
    golden = load_golden("cores2")
    labels, epoch = golden.tensor("labels"), int(golden["epochs"][number])
    logits = golden.tensor("logits")[number].requires_grad_()
    mitigation, data = CORES2(), TrainingSet(torch.zeros(48, 1, 1, 1), labels, num_classes=5)
    task: Any = SimpleNamespace(logits=lambda inputs: logits, current_epoch=epoch)
    mitigation.prepare(task, data)
    mitigation.state["prior"] = golden.tensor("prior")
    loss = mitigation.loss(task, batch_of(labels, 5)).mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    # The authors divide the learning rate by this factor, here the loss is divided by it.
    factor = 1 + float(golden["weight"][number])
    assert mitigation.regularizer_weight(epoch) == pytest.approx(factor - 1, abs=1e-12)
    assert loss.item() * factor == pytest.approx(golden["loss"][number], abs=1e-5)
    torch.testing.assert_close(gradient * factor, golden.tensor("gradient")[number], rtol=0, atol=1e-6)
    torch.testing.assert_close(mitigation.state["sieve"].double(), golden.tensor("sieve")[number], rtol=0, atol=1e-5)
    left_out = torch.bincount(labels[golden.tensor("kept")[number] == 0], minlength=5)
    assert mitigation.state["left_out"].tolist() == left_out.tolist()


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_generalized_label_smoothing_is_the_authors(classes: int) -> None:
    golden = load_golden("gls")
    logits, labels = golden.tensor(f"logits_{classes}"), golden.tensor(f"labels_{classes}")
    mitigations = [*(GLS(smoothing=rate, warmup_epochs=0) for rate in golden["rates"].tolist()), GLS(warmup_epochs=2)]
    for number, mitigation in enumerate(mitigations):
        loss, gradient = loss_and_gradient(mitigation, logits, labels)
        assert loss.mean().item() == pytest.approx(golden[f"loss_{classes}"][number], abs=1e-5)
        torch.testing.assert_close(gradient / 12, golden.tensor(f"gradient_{classes}")[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", [10, 100])
def test_joint_asymmetric_loss_is_the_authors(classes: int) -> None:
    golden = load_golden("jal")
    logits, labels = golden.tensor(f"logits_{classes}"), golden.tensor(f"labels_{classes}")
    for number, (alpha, beta, asymmetry, focusing) in enumerate(golden["settings"].tolist()):
        mitigation = JAL(alpha=alpha, beta=beta, asymmetry=asymmetry, focusing=focusing)
        loss, gradient = loss_and_gradient(mitigation, logits, labels)
        assert loss.mean().item() == pytest.approx(golden[f"loss_{classes}"][number], rel=3e-7)
        torch.testing.assert_close(gradient / 8, golden.tensor(f"gradient_{classes}")[number], rtol=0, atol=1e-7)


@pytest.mark.parametrize("number", range(3))
def test_mixup_is_the_authors(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load_golden("mixup")
    weight, partner = golden["weight"][number], golden.tensor("partner")[number]
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: partner)
    task: Any = SimpleNamespace(rng=SimpleNamespace(beta=lambda *_: weight), generator=None)
    mixed: list[Tensor] = []

    def inner_loss(batch: Batch) -> Tensor:
        mixed.append(batch.inputs)
        return cross_entropy(batch.inputs @ golden.tensor("classifier"), batch)

    loss = Mixup().wrap_loss(task, batch_of(golden.tensor("labels"), 4, golden.tensor("inputs")), inner_loss)
    torch.testing.assert_close(mixed[0], golden.tensor("mixed")[number], rtol=0, atol=1e-6)
    assert loss.mean().item() == pytest.approx(golden["loss"][number], abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_cross_entropy_and_label_smoothing_are_torchs(smoothing: float) -> None:
    logits, labels = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (40, 10))).float(), torch.arange(40) % 10
    found = LabelSmoothing(smoothing=smoothing).wrap_loss(
        None,  # type: ignore[arg-type]
        batch_of(labels, 10),
        lambda batch: cross_entropy(logits, batch),
    )
    wanted = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
