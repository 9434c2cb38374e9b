"""Losses in a plain loop give the numbers of the harness, keep their state, and refuse what cannot be right."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import noisybench as nb
from noisybench.config.registry import get_entry, list_entries
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.integrations._learner import flatten_scores
from noisybench.integrations._stack_loss import OWN_LOOP
from noisybench.integrations._stacks import IN_LIGHTNING, NOT_LOSSES, build_stack
from noisybench.integrations.losses import NamedLoss
from noisybench.runs.preparation import training_set_of
from noisybench.training.loop import attach, train_epoch
from noisybench.training.prepared import PreparedRun
from noisybench.training.task import Task
from tests.helpers import generator, prepared_toy

losses = nb.losses
LOSSES: dict[str, type[NamedLoss]] = {
    value.mitigation: value for value in vars(losses).values() if hasattr(value, "mitigation")
}
EPOCHS = 3


def cases() -> list[Any]:
    """Every loss with every set of parameters of its contract test, except those that train in phases."""
    classes = {name: get_entry("mitigations", name).load_class() for name in sorted(LOSSES)}
    return [
        pytest.param(name, parameters, id=f"{name}-{number}")
        for name, cls in classes.items()
        for number, parameters in enumerate(cls.test_cases())
        if not cls(**parameters).requirements.phases
    ]


def build_task(run: PreparedRun) -> Task:
    task_class = get_entry("tasks", run.spec.task.name).load_class()
    task = task_class(run.spec.budget, seed=0, training_set=training_set_of(run), stack=run.stack)
    attach(task, Fabric(accelerator="cpu", devices=1))
    task.on_fit_start()
    return cast(Task, task)


def loss_for(task: Task, name: str, parameters: dict[str, Any], run: PreparedRun) -> NamedLoss:
    """The loss with the parameters of a harness run; what its privileged information gives is given."""
    data = task.training_set
    own_loop = OWN_LOOP if "correction" in name else {}
    values = {key: value for key, value in parameters.items() if key not in own_loop}
    if parameters.get("matrix") == "oracle":
        values["transition"] = run.labels.manifest["transition_matrix"]
    if name == "trimmed_loss":
        values.setdefault("drop_fraction", run.labels.manifest["actual_noise_rate"])
    sizes = {"num_examples": len(data), "num_classes": data.num_classes}
    ignore = {"ignore_index": IGNORED} if data.targets.ndim > 1 else {}
    return LOSSES[name](**sizes, labels_per_example=data.num_labels // len(data), **ignore, **values)


def batches(task: Task) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs, targets and positions of every batch of an epoch."""
    for step in task.plan:
        batch = next(iter(task.batches([step])))
        yield batch.inputs, task.training_set.targets[step.index].long(), step.index


@pytest.mark.parametrize(("name", "parameters"), cases())
def test_a_plain_loop_reaches_the_weights_of_the_harness(name: str, parameters: dict[str, Any]) -> None:
    small = {"network": "mlp:8", "precision": "float32"}
    budget = {} if get_entry("mitigations", name).load_class().tasks == ("segmentation",) else {"budget": small}
    run = prepared_toy({"name": name, **parameters}, **budget)
    harness = build_task(run)
    plain = build_task(prepared_toy("cross_entropy", task=run.spec.task.name, **budget))
    loss = loss_for(harness, name, parameters, run)
    if name == "t_loss":  # its parameter is part of the optimizer
        plain.heads["loss"] = loss.heads
    optimizers = [task.configure_optimizers() for task in (harness, plain)]
    network = plain.networks[0]
    for epoch in range(EPOCHS):
        cast(Any, plain.trainer).current_epoch = epoch
        plain.on_train_epoch_start()
        if "correction" in name and epoch == parameters.get("warmup_epochs"):
            observed = plain.training_set.targets
            with warnings.catch_warnings(action="ignore"):
                loss.set_transition(
                    losses.estimate_transition(plain.training_probabilities(), observed, implausible="warn")
                )
        total = 0.0
        for number, (inputs, targets, index) in enumerate(batches(plain)):
            plain._step = number
            optimizers[1].zero_grad()
            scores = plain.scores(inputs, 0) if targets.ndim > 1 else network(inputs)
            value = loss(scores, targets, index)
            value.backward()
            plain.on_before_optimizer_step(optimizers[1])
            optimizers[1].step()
            total += value.item()
        loss.next_epoch()
        plain._epoch_has_started = False
        plain.invalidate_cache()
        expected = train_epoch(harness, optimizers[0], epoch)
        assert total / len(plain.plan) == pytest.approx(expected, rel=1e-5)
    for mine, theirs in zip(network.parameters(), harness.networks[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_every_mitigation_is_a_loss_or_has_a_reason() -> None:
    built_in = {name for name, entry in list_entries("mitigations").items() if entry.module.startswith("noisybench.")}
    assert set(LOSSES) | set(NOT_LOSSES) == built_in
    assert not set(LOSSES) & set(NOT_LOSSES)
    assert set(IN_LIGHTNING) <= set(NOT_LOSSES)


@pytest.mark.parametrize("name", ["cdr", "elr_plus"])
def test_code_of_every_step_is_refused_in_mitigations_of_other_packages_too(name: str) -> None:
    with pytest.raises(UserError, match=f"`{name}` runs code in every step"):
        build_stack(name, "lightning", unavailable={})


@pytest.mark.parametrize("name", sorted(NOT_LOSSES))
def test_a_mitigation_that_is_no_loss_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(UserError) as refusal:
        losses.StackLoss(name)
    assert NOT_LOSSES[name] in str(refusal.value)
    assert f"nb.run(..., mitigations={name!r})" in str(refusal.value)
    with pytest.raises(AttributeError, match="in the harness it is"):
        getattr(losses, "".join(part.title() for part in name.split("_")))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.GCE(q=2.0), r"losses.gce.q: .*less than or equal to 1, but got 2"),
        (lambda: losses.GCE(p=0.5), r"losses.gce: unknown parameter `p`; "),
        (lambda: losses.GCE(preset="paper"), r"losses.gce.preset: published settings .* such as q=0.7"),
        (lambda: losses.GCE(reduction="avg"), r"losses.reduction: must be mean, sum or none, but got 'avg'"),
        (lambda: losses.StackLoss(3), r"mappings with `name`, but got 3"),
        (lambda: losses.StackLoss({"q": 1}), r"mappings with `name`, but got {'q': 1}"),
        (lambda: losses.StackLoss("gcee"), r"losses: unknown mitigation `gcee`; did you mean `gce`"),
        (lambda: losses.StackLoss("gce+sce"), r"gce and sce both define the loss"),
        (lambda: losses.ELR(), r"elr keeps values for every training example; give num_examples and num_classes"),
        (lambda: losses.ELR(num_examples=0, num_classes=2), r"losses.num_examples: must be a whole number of at least 1"),
        (lambda: losses.TrimmedLoss(num_examples=4, num_classes=2), r"drop_fraction: by default this is the true noise rate"),
        (lambda: losses.ForwardCorrection(warmup_epochs=3), r"warmup_epochs: your loop decides when to call"),
        (lambda: losses.ForwardCorrection(transition=[[0.5, 0.6], [0, 1]]), r"row 0 must be probabilities that sum to 1"),
        (lambda: losses.ForwardCorrection(transition=torch.eye(2), num_classes=3), r"2 classes, but num_classes is 3"),
        (lambda: losses.ForwardCorrection(transition=[[1, 0], [1]]), r"transition has entries of different shapes"),
        (lambda: losses.ELR(num_examples=4, num_classes=2, ignore_index="a"), r"losses.ignore_index: must be a whole number"),
        (lambda: losses.GCE(transition=torch.eye(2)), r"transition: none of gce corrects the loss"),
        (lambda: losses.StackLoss("forward_correction(matrix=oracle)"), r"matrix=oracle is the transition matrix of"),
        (lambda: losses.GCE().set_transition(torch.eye(2)), r"gce uses no transition matrix"),
        (lambda: losses.Indexed(iter([1])), r"needs a dataset with a length"),
        (lambda: losses.mixup(torch.rand(3, 2), torch.tensor([0, 1]), 2), r"mixup: 3 inputs, but 2 targets"),
        (lambda: losses.mixup(torch.rand(2, 2), torch.tensor([0, 2]), 2), r"mixup.targets: must be in \[0, 1\]"),
        (lambda: losses.mixup(torch.rand(2, 2), [0, 1], 2), r"must be tensors of torch, but are Tensor and list"),
        (lambda: losses.estimate_transition([[0.5, 0.5]], "a"), r"needs \(N, C\) probabilities and \(N,\) class indices"),
        (lambda: losses.estimate_transition([[3.0, 1.0]], [0]), r"apply softmax to logits first"),
        (lambda: losses.estimate_transition([[0.5, 0.5]], [0, 1]), r"must be 1 class indices"),
        (lambda: losses.estimate_transition([[0.5, 0.5], [0.4, 0.6]], [0, 1]), r"matrix is implausible for"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_right_are_refused(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_transition_matrix_may_be_the_data_frame_of_an_audit() -> None:
    matrix = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
    frame = pd.DataFrame(matrix, index=["cat", "dog"], columns=["cat", "dog"])
    logits, targets = torch.tensor([[1.0, -1.0]]), torch.tensor([1])
    expected = losses.ForwardCorrection(transition=matrix)(logits, targets)
    assert losses.ForwardCorrection(transition=frame)(logits, targets) == expected


ZEROS = torch.zeros(2, 3)
CLASSES = torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2), CLASSES), r"logits must be \(N, C\) or \(N, C, ...\)"),
        ((torch.zeros(2, 3, dtype=torch.int64), CLASSES), r"int64 numbers of the shape \(2, 3\)"),
        ((torch.zeros(2, 4), CLASSES), r"logits of the shape \(2, 4\) have 4 classes, but num_classes is 3"),
        ((ZEROS, torch.tensor([0])), r"2 examples in logits, but 1 in targets"),
        ((ZEROS, torch.zeros(2, 2)), r"or probabilities of the shape \(2, 3\) of the logits, but are float32"),
        ((ZEROS, torch.tensor([0, 3]), CLASSES), r"targets must be in \[0, 2\], the classes of the logits, but got 3"),
        ((ZEROS, torch.tensor([0, -100]), CLASSES), r"got -100; set ignore_index=-100"),
        ((ZEROS, torch.tensor([[0.5, 0.5, -1.0]] * 2), CLASSES), r"target probabilities must be finite, at least 0"),
        ((ZEROS, torch.ones(2, 3), CLASSES), r"and sum to 1 for each label; give class indices"),
        ((ZEROS, CLASSES), r"call loss\(logits, targets, index\)"),
        ((ZEROS, CLASSES, torch.tensor([0, 5])), r"index must be in \[0, 4\], the training examples, but got 5"),
        ((ZEROS, CLASSES, torch.tensor([0])), r"index must have one whole number for each of the 2 examples"),
        ((torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64), CLASSES), r"labels_per_example is 1"),
        ((ZEROS.numpy(), CLASSES), r"must be tensors of torch, but are ndarray and Tensor"),
    ],
)  # fmt: skip
def test_batches_that_cannot_be_right_are_refused(arguments: Any, message: str) -> None:
    loss = losses.ELR(num_examples=5, num_classes=3)
    with pytest.raises(UserError, match=message):
        loss(*arguments)
    assert not loss.state_dict()["states.0.targets"].any()


def test_a_loss_with_state_is_for_training_only() -> None:
    loss = losses.ELR(num_examples=5, num_classes=3).eval()
    with pytest.raises(UserError, match="only for training; measure validation data with"):
        loss(ZEROS, CLASSES, CLASSES)


def test_a_loop_that_never_ends_an_epoch_is_refused() -> None:
    loss = losses.TrimmedLoss(num_examples=2, num_classes=3, drop_fraction=0.5)
    loss(ZEROS, CLASSES, torch.tensor([0, 1]))
    loss(ZEROS, CLASSES, torch.tensor([0, 1]))
    with pytest.raises(UserError, match=r"call loss.next_epoch\(\) after every epoch"):
        loss(ZEROS, CLASSES, torch.tensor([0, 1]))


def random_batch(count: int = 6, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(count, classes, generator=generator(1), requires_grad=True)
    return logits, torch.arange(count) % classes, torch.arange(count)


SOME = [
    lambda: losses.GCE(),
    lambda: losses.ELR(num_examples=6, num_classes=3),
    lambda: losses.ForwardCorrection(transition=torch.full((3, 3), 0.1) + 0.7 * torch.eye(3)),
    lambda: losses.BackwardCorrection(transition=torch.full((3, 3), 0.1) + 0.7 * torch.eye(3)),
    lambda: losses.TrimmedLoss(num_examples=6, num_classes=3, drop_fraction=0.4, ramp_epochs=1, among="epoch"),
    lambda: losses.StackLoss("trimmed_loss(drop_fraction=0.4,ramp_epochs=1)+elr", num_examples=6, num_classes=3),
]


@pytest.mark.parametrize("make", SOME)
def test_state_is_saved_restored_copied_and_pickled(make: Any) -> None:
    logits, targets, index = random_batch()
    loss = make()
    loss(logits, targets, index)
    loss.next_epoch()
    saved = loss.state_dict()
    restored = make()
    restored.load_state_dict(copy.deepcopy(saved))
    file = io.BytesIO()
    torch.save(loss, file)
    file.seek(0)
    twins = [restored, copy.deepcopy(loss), torch.load(file, weights_only=False)]
    for _ in range(2):
        value = loss(logits, targets, index)
        assert [twin(logits, targets, index).item() for twin in twins] == [value.item()] * 3
        for each in (loss, *twins):
            each.next_epoch()


def test_the_state_of_another_loss_is_refused() -> None:
    state = losses.ELR(num_examples=4, num_classes=3).state_dict()
    for other in (
        losses.GCE(),
        losses.ForwardCorrection(),
        losses.TrimmedLoss(num_examples=4, num_classes=3, drop_fraction=0.1),
    ):
        with pytest.raises(RuntimeError, match="Unexpected key"):
            other.load_state_dict(state)


def test_an_estimated_matrix_is_restored() -> None:
    logits, targets, _ = random_batch()
    loss, fresh = losses.BackwardCorrection(), losses.BackwardCorrection()
    loss.set_transition(torch.full((3, 3), 0.1) + 0.7 * torch.eye(3))
    value = loss(logits, targets)
    assert value != nn.functional.cross_entropy(logits, targets) == fresh(logits, targets)
    fresh.load_state_dict(loss.state_dict())
    assert fresh(logits, targets) == value


@pytest.mark.parametrize("make", SOME)
def test_half_precision_gives_the_numbers_of_single_precision(make: Any) -> None:
    logits, targets, index = random_batch()
    half = logits.detach().bfloat16().requires_grad_()
    expected = make()(half.float(), targets, index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = make()(half, targets, index)
    assert value.dtype == torch.float32
    assert value == expected
    value.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert half.grad.isfinite().all()


def test_a_step_that_overflows_leaves_no_trace_in_the_averages() -> None:
    logits, targets, index = random_batch()
    loss = losses.ELR(num_examples=6, num_classes=3)
    loss(logits, targets, index)
    before = loss.state_dict()["states.0.targets"].clone()
    overflowed = logits.detach().clone()
    overflowed[0] = torch.inf
    assert loss(overflowed, targets, index).isnan()
    after = loss.state_dict()["states.0.targets"]
    assert (after[index[0]] == before[index[0]]).all()
    assert (after[index[1:]] != before[index[1:]]).any(1).all()
    assert loss(logits, targets, index).isfinite()


@pytest.mark.parametrize("make", SOME)
def test_reductions_agree_and_soft_targets_are_those_of_one_hot(make: Any) -> None:
    logits, targets, index = random_batch()
    values = {}
    for reduction in ("none", "mean", "sum"):
        loss = make()
        loss.reduction = reduction
        values[reduction] = loss(logits, targets, index)
    assert values["none"].shape == (6,)
    assert values["none"].mean() == values["mean"]
    assert values["none"].sum() == values["sum"]
    soft = nn.functional.one_hot(targets, 3).float()
    assert make()(logits, soft, index).item() == pytest.approx(values["mean"].item(), abs=1e-6)


def test_missing_labels_do_not_count() -> None:
    logits, targets, _ = random_batch()
    loss = losses.GCE(ignore_index=-100)
    missing = targets.clone()
    missing[::2] = -100
    assert loss(logits, missing).item() == pytest.approx(losses.GCE()(logits[1::2], targets[1::2]).item())
    loss.reduction = "none"
    assert loss(logits, missing)[::2].tolist() == [0, 0, 0]


def test_dense_labels_are_labels_of_their_own() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=generator(2))
    targets = torch.arange(40).view(2, 4, 5) % 3
    loss = losses.GCE(reduction="none")
    value = loss(logits, targets)
    assert value.shape == targets.shape
    assert torch.equal(value.flatten(), loss(flatten_scores(logits), targets.flatten()))


def test_mixup_mixes_inputs_and_targets_alike() -> None:
    inputs = torch.eye(4)
    mixed, targets = losses.mixup(inputs, torch.arange(4), 4, generator=generator(0))
    assert torch.equal(mixed, targets)
    assert mixed.sum(1).allclose(torch.ones(4))
    assert not torch.equal(mixed, inputs)
    assert losses.ELR(num_examples=4, num_classes=4)(mixed, targets, torch.arange(4)).isfinite()


def test_help_shows_the_parameters_with_their_defaults() -> None:
    import inspect

    shown = inspect.signature(losses.GCE).parameters
    assert shown["q"].default == 0.7
    assert "matrix" not in inspect.signature(losses.ForwardCorrection).parameters
    assert "transition" in inspect.signature(losses.ForwardCorrection).parameters


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("make", SOME)
def test_a_loss_moves_to_a_gpu(make: Any) -> None:
    logits, targets, index = random_batch()
    with pytest.raises(UserError, match=r"call loss\.to") if list(make().buffers()) else warnings.catch_warnings():
        make()(logits.cuda(), targets.cuda(), index)
    value = make().to("cuda")(logits.cuda(), targets.cuda(), index)
    assert value.item() == pytest.approx(make()(logits, targets, index).item(), rel=1e-5)
