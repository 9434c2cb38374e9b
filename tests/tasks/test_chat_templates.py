"""Traces in the chat template of a pretrained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.api.models import Model
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.runs.preparation import prepare_run
from noisybench.tasks.chain_of_thought import ChainOfThought
from noisybench.training.batch import BatchPlan
from noisybench.training.stack import Stack
from tests.data.traces.helpers import training_set
from tests.helpers import start_first_epoch, toy_labels, toy_spec, toy_traces, train_toy
from tests.tasks.test_language_models import save_model

TEMPLATE = (
    "{% for message in messages %}{{ '<user>' if message.role == 'user' else '<answer>' }}{{ message.content }}<turn>"
    "{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


def prepared(network: str, **budget: Any) -> Any:
    dataset = toy_traces()
    spec = toy_spec(
        dataset="traced_integers",
        task={"name": "chain_of_thought", "chat_template": True},
        budget={"network": network, "epochs": 1, "batch_size": 8, "optimizer": "adam", "learning_rate": 0.01, **budget},
    )
    return prepare_run(spec, dataset, toy_labels(dataset))


def test_the_loss_covers_the_answer_and_its_end_in_the_template(tmp_path: Path) -> None:
    folder, dataset = save_model(tmp_path, TEMPLATE), toy_traces()
    labels = toy_labels(dataset)
    spec = toy_spec(task="chain_of_thought", budget={"network": f"huggingface:{folder}"})
    task = ChainOfThought(spec.budget, 0, training_set(dataset, labels), Stack([]), chat_template=True)
    start_first_epoch(task)
    (batch,) = task.batches([BatchPlan(torch.arange(3))])
    assert dataset.trace_format is not None
    network: Any = task.networks[0]
    observed = batch.observed.masked_fill(~batch.has_label, -1).view(3, -1)
    for row in range(3):
        prompt, response = (
            dataset.trace_format.decode(values[row : row + 1])[0]
            for values in (np.asarray(dataset.train.inputs)[:, 0, 0], labels.train)
        )
        answer = observed[row][observed[row] >= 0]
        read = batch.inputs.tokens[row, : batch.inputs.lengths[row]]
        text = network.tokenizer.decode(torch.cat([read, answer[-1:]]))
        assert text == f"<user>{prompt}<turn><answer>{response.removesuffix('$')}<turn>"
        assert network.tokenizer.decode(answer) == f"{response.removesuffix('$')}<turn>"


def test_a_trained_model_answers_in_its_template(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "base", TEMPLATE)
    run = prepared(f"huggingface:{folder}", epochs=2, batching="packed")
    recorder = train_toy(run, tmp_path / "run")
    assert recorder.rows[-1].train_loss < recorder.rows[0].train_loss
    recorder.model.save(tmp_path / "model")
    form = run.dataset.trace_format
    prompts = form.decode(np.asarray(run.dataset.test.inputs)[:, 0, 0])
    written = [text.removesuffix(form.end) for text in recorder.evaluator.test_by_epoch[-1]]  # type: ignore[attr-defined]
    assert Model.load(tmp_path / "model", "cpu").predict(prompts) == written


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template; set it to false, or save the tokenizer with one"),
        (
            TEMPLATE.replace("{{ message.content }}", "{{ '1' if message.role != 'user' }}{{ message.content }}"),
            r"right after the beginning of the answer, but at character \d+ it writes '1.*' instead of",
        ),
        (TEMPLATE.replace("<turn>", "=="), "ends an answer with the text '==', which a response may contain"),
        ("{{ raise_exception('no users') }}", "the template refuses the prompt '.*' .*no users"),
    ],
)
def test_a_template_that_does_not_fit_is_refused(tmp_path: Path, template: str | None, message: str) -> None:
    with pytest.raises(UserError, match=r"task\.chat_template: .*" + message):
        prepared(f"huggingface:{save_model(tmp_path, template)}")


def test_networks_without_tokenizer_and_short_contexts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`decoder:16x1` has no tokenizer, so no chat template; choose a model such as"):
        prepared("decoder:16x1")
    long = TEMPLATE.replace("<user>", 50 * "<user>")
    with pytest.raises(
        UserError, match=r"needs a context of \d+ tokens, but .* has 64; choose one with a longer context"
    ):
        prepared(f"huggingface:{save_model(tmp_path, long)}")
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        UserError, match=r"has no tokenizer .*; save one in its folder with `tokenizer\.save_pretrained`"
    ):
        build_network(f"huggingface:{tmp_path}", 1, 1)
