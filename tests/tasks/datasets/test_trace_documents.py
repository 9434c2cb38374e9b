"""Documents of traces, and the small language models that are pre-trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from noisybench.data.dataset import Dataset
from noisybench.data.traces.builtin_programs import Add, Sub
from noisybench.data.traces.document_format import DocumentTraceFormat, few_shot_text
from noisybench.data.traces.recorder import TraceRecorder
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.tasks.datasets.trace_documents import TraceDocuments
from noisybench.tasks.datasets.traced_integers import TracedIntegers

SMALL = {"train_documents": 30, "test_documents": 6, "train_problems": 50, "test_problems": 20, "traces": 3}
ADD_AND_SUB = DocumentTraceFormat({"add": Add(width=2, count=2), "sub": Sub(width=2, count=2)})
PROMPT = "Q: 31+04:\nA: 1+4+0=05;3+0+0=03#035\n\nQ: 47+05:\nA: "
RESPONSE = "7+5+0=12;4+0+1=05#052\n\nQ: 52-47:\nA: 2-7-0=5,1;5-4-1=0,0#05$"


def texts(dataset: Dataset, split: Any) -> list[tuple[str, str]]:
    assert dataset.trace_format is not None
    prompts = dataset.trace_format.decode(split.inputs[:, 0, 0])
    return list(zip(prompts, dataset.trace_format.decode(split.targets), strict=True))


@pytest.mark.fast
def test_documents_have_the_traces_of_one_program_and_problems_of_one_split() -> None:
    dataset = TraceDocuments(**SMALL).load()
    source = TracedIntegers(program="add", train_problems=50, test_problems=20).load()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (27, 3, 6)
    asked = {prompt for prompt, _ in texts(source, source.train)}
    tested = {prompt for prompt, _ in texts(source, source.test)}
    sums = [prompt + response for prompt, response in texts(dataset, dataset.train) if "+" in prompt]
    assert sums, "each program has documents"
    for document in sums:
        questions = [block.partition("\nA: ")[0].removeprefix("Q: ") for block in document.split("\n\n")]
        assert len(questions) == 3
        assert asked.issuperset(questions)
    for prompt, response in texts(dataset, dataset.test):
        assert prompt.count("Q: ") == 3, "two demonstrations and the question"
        assert "Q: " not in response
        if "+" in prompt:
            assert prompt.rpartition("Q: ")[2].removesuffix("\nA: ") in tested


@pytest.mark.fast
def test_a_document_is_executed_again() -> None:
    assert ADD_AND_SUB.check_steps(PROMPT, RESPONSE) == [True, True, True]
    assert ADD_AND_SUB.rerun(PROMPT, RESPONSE, TraceRecorder()) == RESPONSE
    assert ADD_AND_SUB.check_steps(PROMPT, RESPONSE.replace("#052", "#053")) == [False, True, True]
    assert ADD_AND_SUB.check_steps(PROMPT, RESPONSE.replace("5,1;5", "4,1;5")) == [True, False, False]
    assert ADD_AND_SUB.recompute_answer(PROMPT, RESPONSE.replace("#05$", "#99$")) == RESPONSE
    errors = TraceRecorder([0], [9], 100)
    assert ADD_AND_SUB.rerun(PROMPT, RESPONSE, errors).startswith("9+5+0=14;4+0+1=05#054\n\nQ: 52-47:\nA: 2-7")
    for written in ("", "#", "7+5", "7+5+0=12\n\nQ: what\nA: 3#4$", "\n\n#$"):
        check = ADD_AND_SUB.check(PROMPT, written)
        assert not check.is_valid, "other texts of a model are incorrect, not an error"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("programs", "reason"), [(["ad"], "unknown program `ad`"), ([], "one or more"), (["add"] * 2, "one or more")]
)
def test_programs_that_do_not_exist_are_refused(programs: list[str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        TraceDocuments(programs=programs).load()


def test_a_tokenizer_of_characters_keeps_every_character_of_a_document() -> None:
    pytest.importorskip("transformers")
    network: Any = build_network("gpt_neox:16x1x64", 1, 1)
    tokenizer = network.tokenizer
    ids = tokenizer(PROMPT + RESPONSE, add_special_tokens=False)["input_ids"]
    assert (len(ids), tokenizer.decode(ids)) == (len(PROMPT + RESPONSE), PROMPT + RESPONSE)
    assert (network.context_length, network.is_pretrained, network.vocabulary_size) == (64, False, 98)
    turns = [{"role": "user", "content": "47+05:"}, {"role": "assistant", "content": "7+5+0=12;4+0+1=05#052"}]
    written = tokenizer.apply_chat_template(turns, tokenize=False)
    assert written == few_shot_text([("47+05:", "7+5+0=12;4+0+1=05#052")]).rstrip() + tokenizer.eos_token
    with pytest.raises(UserError, match=r"multiple of 8, .* got gpt_neox:12x1"):
        build_network("gpt_neox:12x1", 1, 1)


def test_a_pretrained_model_is_exported_and_prompted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    from typer.testing import CliRunner

    from noisybench.cli.app import app

    monkeypatch.chdir(tmp_path)
    size = [f"dataset.{name}={value}" for name, value in SMALL.items()]
    budget = ["budget.epochs=1", "budget.network=gpt_neox:8x1x512", "budget.warmup_epochs=0"]
    run = ["run", "pretrained_decoder", *size, *budget]
    assert CliRunner().invoke(app, [*run, "seed=0,1", "--export", "model"]).exit_code != 0
    first = CliRunner().invoke(app, [*run, "--export", "model"])
    assert first.exit_code == 0, first.output
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    network: Any = build_network("huggingface:model", 1, 1)
    assert network.is_pretrained
    assert torch.isfinite(network(torch.tensor([[2, 3]]))).all()
    # The finished run is not trained again.
    again = CliRunner().invoke(app, [*run, "--export", "copy"])
    assert "1 skipped" in again.output
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == weights
