"""Robust losses in the `Trainer` of transformers: the steps of a hand-written loop, with state, resumption and evaluation."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

import noisybench as nb
from noisybench.errors import UserError
from tests.helpers import generator

CLASSES, VOCABULARY, EXAMPLES, LENGTH = 3, 20, 12, 7


def bert(kind: Any = BertForSequenceClassification) -> Any:
    """A tiny classifier of texts with random weights, without dropout."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(
        vocab_size=VOCABULARY, num_labels=CLASSES, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **sizes
    )
    return kind(config)


def llama() -> Any:
    """A tiny language model with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=16, pad_token_id=0, **sizes))


def texts() -> list[dict[str, Any]]:
    """Texts with a class and a column that the model does not take."""
    tokens = torch.randint(VOCABULARY, (EXAMPLES, LENGTH), generator=generator(1))
    return [{"input_ids": row, "label": number % CLASSES, "source": number} for number, row in enumerate(tokens)]


def traces() -> list[dict[str, Any]]:
    """Texts whose labels are their tokens, except for prompts of different length."""
    examples = []
    for number, example in enumerate(texts()):
        labels = example["input_ids"].clone()
        labels[: number % 4] = -100
        examples.append({"input_ids": example["input_ids"], "labels": labels})
    return examples


class Recording:
    """Keep the batches of training, in order."""

    def training_step(self, model: Any, inputs: Any, *arguments: Any) -> Tensor:
        if not hasattr(self, "seen"):
            self.seen: list[Any] = []
        self.seen.append({name: value.clone() for name, value in inputs.items()})
        value: Tensor = super().training_step(model, inputs, *arguments)  # type: ignore[misc]
        return value


class RecordingTrainer(Recording, Trainer):
    """A user's trainer."""


class RecordingMitigatedTrainer(Recording, nb.hf.MitigatedTrainer):
    """A user's trainer with a stack."""


def arguments(**options: Any) -> TrainingArguments:
    defaults = {
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "max_grad_norm": 0,
    }
    quiet = {
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_strategy": "no",
    }
    return TrainingArguments("out", **{**defaults, **quiet, **options})


def optimizers(model: nn.Module) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def run(trainer: Any, **options: Any) -> None:
    with warnings.catch_warnings(action="ignore"):
        trainer.train(**options)


def assert_close(first: nn.Module, second: nn.Module) -> None:
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def train_by_hand(model: Any, seen: list[dict[str, Tensor]], step_loss: Any, steps: int = 2) -> None:
    """A loop that divides the sum over all accumulated batches by their number of labels."""
    optimizer = optimizers(model)[0]
    for start in range(0, len(seen), steps):
        group = seen[start : start + steps]
        optimizer.zero_grad()
        for batch in group:
            (step_loss(model, batch) / sum(count(each["labels"]) for each in group)).backward()
        optimizer.step()


def count(labels: Tensor) -> int:
    shifted = labels[:, 1:] if labels.ndim == 2 else labels
    return int((shifted != -100).sum())


def test_text_classification_is_that_of_a_loop() -> None:
    model = bert()
    by_hand, loss = copy.deepcopy(model), nb.losses.GCE(reduction="sum")
    options = {"args": arguments(), "train_dataset": texts(), "optimizers": optimizers(model)}
    trainer = RecordingTrainer(model, compute_loss_func=nb.hf.compute_loss("gce"), **options)
    run(trainer)
    assert set(trainer.seen[0]) == {"input_ids", "labels"}
    assert len(trainer.seen) == 8
    train_by_hand(by_hand, trainer.seen, lambda model, batch: loss(model(batch["input_ids"]).logits, batch["labels"]))
    assert_close(model, by_hand)


@pytest.mark.parametrize("stack", ["sce", "label_smoothing+gce"])
def test_causal_language_is_that_of_a_loop_over_tokens_with_a_label(stack: str) -> None:
    model = llama()
    by_hand, loss = copy.deepcopy(model), nb.losses.StackLoss(stack, reduction="sum", ignore_index=-100)
    options = {"args": arguments(), "train_dataset": traces(), "optimizers": optimizers(model)}
    trainer = RecordingTrainer(model, compute_loss_func=nb.hf.compute_loss(stack), **options)
    run(trainer)

    def step_loss(model: Any, batch: Any) -> Tensor:
        logits = model(batch["input_ids"]).logits[:, :-1]
        value: Tensor = loss(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())
        return value

    train_by_hand(by_hand, trainer.seen, step_loss)
    assert_close(model, by_hand)


# Models of text classification ignore the number of labels that the Trainer hands over, so that their own loss is right
# without accumulation only.
@pytest.mark.parametrize(("build", "data", "accumulated"), [(bert, texts, 1), (llama, traces, 2)])
def test_cross_entropy_is_the_trainer_s_own_loss(build: Any, data: Any, accumulated: int) -> None:
    models, evaluated = [build(), build()], []
    for model, options in zip(models, ({}, {"compute_loss_func": nb.hf.compute_loss("cross_entropy")}), strict=True):
        args = arguments(gradient_accumulation_steps=accumulated)
        sets = {"train_dataset": data(), "eval_dataset": data()}
        trainer = Trainer(model, args=args, optimizers=optimizers(model), **sets, **options)
        run(trainer)
        evaluated.append(trainer.evaluate()["eval_loss"])
    assert_close(*models)
    assert evaluated[0] == pytest.approx(evaluated[1])


def only_known(features: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A collator that knows the model's columns only."""
    return {
        "input_ids": torch.stack([each["input_ids"] for each in features]),
        "labels": torch.tensor([each["label"] for each in features]),
    }


@pytest.mark.parametrize(("collator", "remove"), [(None, True), (None, False), (only_known, True)])
def test_values_of_each_example_follow_it(collator: Any, remove: bool) -> None:
    model = bert()
    by_hand = copy.deepcopy(model)
    loss = nb.losses.ELR(num_examples=EXAMPLES, num_classes=CLASSES, reduction="sum")
    data = [{key: value for key, value in each.items() if remove or collator or key != "source"} for each in texts()]
    trainer = RecordingMitigatedTrainer(
        model, mitigations="elr", args=arguments(remove_unused_columns=remove), train_dataset=data, eval_dataset=data,
        optimizers=optimizers(model), data_collator=collator,
    )  # fmt: skip
    run(trainer)
    positions = torch.cat([batch["noisybench_index"] for batch in trainer.seen[:4]])
    assert sorted(positions.tolist()) == list(range(EXAMPLES))
    for batch in trainer.seen:
        of_position = [data[position]["label"] for position in batch["noisybench_index"].tolist()]
        assert batch["labels"].tolist() == of_position
    train_by_hand(
        by_hand,
        trainer.seen,
        lambda model, batch: loss(model(batch["input_ids"]).logits, batch["labels"], batch["noisybench_index"]),
    )
    assert_close(model, by_hand)
    with torch.no_grad():
        model.eval()
        logits = model(torch.stack([each["input_ids"] for each in data])).logits
    expected = functional.cross_entropy(logits, torch.tensor([each["label"] for each in data]))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-5)


TRIMMED = {"name": "trimmed_loss", "drop_fraction": 0.4, "ramp_epochs": 1, "among": "epoch"}


@pytest.mark.parametrize(
    ("build", "data", "stack", "save"),
    [
        (bert, texts, [TRIMMED, "elr"], {"save_strategy": "epoch"}),
        (bert, texts, [TRIMMED, "elr"], {"save_strategy": "steps", "save_steps": 2}),
        (llama, traces, TRIMMED, {"save_strategy": "epoch"}),
        (llama, traces, {**TRIMMED, "among": "batch"}, {"save_strategy": "steps", "save_steps": 2}),
    ],
)
def test_training_resumes_with_the_state_of_the_loss(
    workspace: Path, build: Any, data: Any, stack: Any, save: Any
) -> None:
    def trainer(epochs: int = 3) -> Any:
        model = build()
        options = arguments(num_train_epochs=epochs, **save)
        return nb.hf.MitigatedTrainer(
            model, mitigations=stack, args=options, train_dataset=data(), optimizers=optimizers(model)
        )

    complete, resumed = trainer(), trainer()
    run(complete)
    assert complete.compute_loss_func.loss.epoch == 2
    run(resumed, resume_from_checkpoint=str(workspace / "out" / "checkpoint-4"))
    assert_close(complete.model, resumed.model)
    for mine, theirs in zip(
        complete.compute_loss_func.loss.state_dict().values(),
        resumed.compute_loss_func.loss.state_dict().values(),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    (workspace / "out" / "checkpoint-4" / "noisybench_loss.pt").unlink()
    with pytest.raises(UserError, match=r"noisybench_loss.pt does not exist, so training cannot resume"):
        run(trainer(), resume_from_checkpoint="out/checkpoint-4")


def test_labels_of_tokens_are_not_shifted_in_token_classification() -> None:
    model = bert(BertForTokenClassification)
    tokens = torch.randint(VOCABULARY, (2, LENGTH), generator=generator(1))
    labels = torch.arange(2 * LENGTH).view(2, LENGTH) % CLASSES
    labels[0, :2] = -100
    outputs = model(tokens)
    value = nb.hf.compute_loss("cross_entropy")(outputs, labels)
    torch.testing.assert_close(value, model(tokens, labels=labels).loss)


LOGITS = {"logits": torch.zeros(2, CLASSES)}
SEQUENCES = {"logits": torch.zeros(2, 4, CLASSES)}


def elr() -> Any:
    return nb.hf.compute_loss("elr", num_examples=2, num_classes=CLASSES)


def mitigated(**options: Any) -> Any:
    return nb.hf.MitigatedTrainer(bert(), mitigations="elr", **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nb.hf.compute_loss("gcee"), r"unknown mitigation `gcee`; did you mean `gce`"),
        (lambda: nb.hf.compute_loss("co_teaching"), r"`co_teaching` trains two networks"),
        (lambda: nb.hf.compute_loss("dice_loss"), r"hf: dice_loss is a loss of masks"),
        (lambda: nb.hf.compute_loss("forward_correction"), r"forward_correction needs transition"),
        (lambda: nb.hf.compute_loss("gce")(LOGITS, None), r"the batch has no `labels`; name the column"),
        (lambda: nb.hf.compute_loss("gce")(LOGITS, torch.rand(2)), r"labels must be class indices or tokens"),
        (lambda: nb.hf.compute_loss("gce")({"loss": 1}, torch.tensor([0])), r"logits, but they are missing"),
        (lambda: nb.hf.compute_loss("gce")(LOGITS, torch.tensor([0, 3])), r"targets must be in \[0, 2\]"),
        (lambda: elr()(LOGITS, torch.tensor([0, 1])), r"use `nb.hf.MitigatedTrainer`"),
        (lambda: elr()(SEQUENCES, torch.zeros(2, 4).long()), r"elr does not serve the labels of tokens"),
        (lambda: mitigated(), r"train_dataset=... must be a dataset with a length"),
        (lambda: mitigated(compute_loss_func=print), r"both define the loss"),
        (lambda: run(mitigated(args=arguments(), train_dataset=[1, 2])), r"must be dictionaries"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_a_batch_without_any_label_has_loss_zero_and_a_gradient() -> None:
    logits = torch.zeros(2, 4, 5, requires_grad=True)
    value = nb.hf.compute_loss("gce", shift=True)({"logits": logits}, torch.full((2, 4), -100), torch.tensor(3))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
