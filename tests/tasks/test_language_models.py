"""Pre-trained language models that read tokens of their own; small random ones, built here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.api.models import Model
from noisybench.config.resolve import read_recipe, resolve
from noisybench.data.targets import IGNORED
from noisybench.data.traces.formats import make_vocabulary
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.data.traces.recorder import TraceRecorder
from noisybench.errors import UserError
from noisybench.networks import build_network
from noisybench.runs.preparation import prepare_run
from noisybench.tasks._token_batches import IGNORE_INDEX
from noisybench.tasks._tokenizers import PretrainedTokenizer
from noisybench.tasks.chain_of_thought import ChainOfThought
from noisybench.training.batch import BatchPlan
from noisybench.training.stack import Stack
from tests.data.traces.helpers import load_traces, training_set
from tests.helpers import prepared_toy, start_first_epoch, toy_labels, toy_spec, toy_traces, train_toy

TOKENS = ["<end>", *"0123456789+=:;#$", "0=", "#0", "+0", ";1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


def save_model(place: Path, template: str | None = None) -> Path:
    """Save a model of two layers with random weights; its tokenizer joins some pairs of characters.

    With a chat template, it also has the special tokens <user>, <answer> and <turn>.
    """
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    merges = [(each[0], each[1]) for each in TOKENS if len(each) == 2]
    special = ["<user>", "<answer>", "<turn>"] * (template is not None)
    known = {each: n for n, each in enumerate([*TOKENS, *special])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(known, merges))
    made.add_special_tokens(special)
    made.decoder = tokenizers.decoders.Fuse()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
    fast.chat_template = template
    fast.save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(known), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(place)
    return place


def task_of(folder: Path, dataset: Any) -> Any:
    spec = toy_spec(task="chain_of_thought", budget={"network": f"huggingface:{folder}"})
    task = ChainOfThought(spec.budget, 0, training_set(dataset), Stack([]))
    start_first_epoch(task)
    return task


def test_tokens_are_characters_again(folder: Path) -> None:
    dataset = toy_traces()
    assert dataset.trace_format is not None
    reader = PretrainedTokenizer(dataset.trace_format, build_network(f"huggingface:{folder}", 1, 1))
    texts = ["7+5+0=12;4+0+1=05#052$", "#1$", "7+5+0=12"]
    characters = torch.from_numpy(dataset.trace_format.encode(texts, 30))
    labels, places = reader.encode_responses(characters)
    assert reader.decode(labels) == texts
    assert TOKENS[int(labels[0, 2])] == "+0" or "+0" in [
        TOKENS[int(each)] for each in labels[0] if each != IGNORE_INDEX
    ]
    spread = reader.expand_to_characters(places, characters, places)
    for row, text in enumerate(texts):
        for place in range(len(text)):
            begin = int(spread[row, place])
            assert begin <= place < begin + 2, "each character has the value of the token that it belongs to"
            assert begin in places[row][labels[row] != IGNORE_INDEX].tolist()


@pytest.mark.parametrize(
    ("starts", "owners"),
    [([0, 1, 1, 3], [0, 2, 2, 3]), ([1, 2, 4, 4], [0, 0, 1, 1]), ([0, 0, 0, 2], [2, 2, 3, 3])],
)
def test_a_character_of_several_tokens_shifts_no_other(folder: Path, starts: list[int], owners: list[int]) -> None:
    dataset = toy_traces()
    assert dataset.trace_format is not None
    reader = PretrainedTokenizer(dataset.trace_format, build_network(f"huggingface:{folder}", 1, 1))
    numbers = reader.expand_to_characters(torch.arange(4)[None], torch.zeros(1, 4), torch.tensor([starts]))
    assert numbers.tolist() == [owners]


def test_a_tokenizer_of_bytes_reads_any_alphabet(tmp_path: Path) -> None:
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    signs = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.Tokenizer(tokenizers.models.BPE({each: n for n, each in enumerate(["<end>", *signs])}, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<end>").save_pretrained(tmp_path)
    config = transformers.GPT2Config(
        vocab_size=257, n_positions=256, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    characters = [*map(chr, range(0x4E00, 0x4E00 + 400)), "😀", "\u0301", "ش"]
    trace_format = CalculationTraceFormat(make_vocabulary(characters, CalculationTraceFormat.end))
    reader = PretrainedTokenizer(trace_format, build_network(f"huggingface:{tmp_path}", 1, 1))
    text = "丁七😀ش\u0301\u4f00" + CalculationTraceFormat.end
    labels, starts = reader.encode_responses(torch.from_numpy(trace_format.encode([text], 12)))
    assert reader.decode(labels) == [text]
    assert labels.shape[1] == len(text.encode()), "each byte is a token, and the end is one"
    characters_of_tokens = reader.expand_to_characters(starts, torch.zeros(1, 12), starts)[0, : len(text)]
    assert characters_of_tokens.tolist() == list(range(len(text))), "each character has tokens that start at it"


def test_padding_and_a_cache_change_nothing(folder: Path) -> None:
    network: Any = build_network(f"huggingface:{folder}", 1, 1).eval()
    given = torch.randint(1, 17, (2, 9))
    padded = torch.cat([torch.full((2, 3), network.padding_token), given], 1)
    whole = network(given)
    torch.testing.assert_close(network(padded, has_padding=True)[:, 3:], whole, rtol=1e-4, atol=1e-5)
    cache = network.new_cache()
    parts = [
        network(padded[:, :6], cache=cache),
        *(network(padded[:, each : each + 1], cache=cache) for each in range(6, 12)),
    ]
    torch.testing.assert_close(torch.cat(parts, 1)[:, 3:], whole, rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_the_library(folder: Path) -> None:
    dataset = toy_traces()
    task = task_of(folder, dataset)
    task.networks.eval()
    (batch,) = task.batches([BatchPlan(torch.arange(6))])
    reading = batch.inputs
    wanted_labels = batch.observed.masked_fill(~batch.has_label, -100).view(6, -1)
    # The library shifts the labels by one; the last token of a response is only predicted.
    tokens = torch.cat([reading.tokens, torch.zeros(6, 1, dtype=torch.long)], 1)
    labels = torch.full_like(tokens, -100)
    is_label = wanted_labels >= 0
    labels[torch.arange(6)[:, None].expand_as(is_label)[is_label], reading.label_columns[is_label] + 1] = wanted_labels[
        is_label
    ]
    wanted = task.networks[0].model(input_ids=tokens, labels=labels).loss
    torch.testing.assert_close(task.sampler.mean_loss(task.default_loss(batch), batch), wanted, rtol=1e-4, atol=1e-5)
    assert (batch.index[batch.has_label] < task.training_set.num_labels).all()


@pytest.mark.parametrize("stack", ["cross_entropy", "lora", "co_teaching"])
def test_models_are_tuned(folder: Path, tmp_path: Path, stack: str) -> None:
    dataset = toy_traces()
    run = prepared_toy(
        stack, dataset, toy_labels(dataset), task="chain_of_thought",
        budget={"network": f"huggingface:{folder}", "epochs": 2, "learning_rate": 0.01},
    )  # fmt: skip
    recorder = train_toy(run, tmp_path)
    first, last = recorder.rows[0], recorder.rows[-1]
    assert last.train_loss < first.train_loss
    record = recorder.record({})
    recorder.write(record, tmp_path)
    samples = recorder.evaluator.samples()
    assert ((samples.label_quality > 0) == (samples.observed != IGNORED)).mean() > 0.99
    if stack == "lora":
        whole = sum(each.numel() for each in build_network(f"huggingface:{folder}", 1, 1).parameters())
        assert record.cost.parameters < whole / 2


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft reads it from transformers
@pytest.mark.parametrize("stack", ["cross_entropy", "lora"])
def test_a_tuned_model_comes_back_as_a_folder_of_transformers_or_peft(folder: Path, tmp_path: Path, stack: str) -> None:
    import peft
    import transformers

    base, dataset = tmp_path / "base", toy_traces()
    shutil.copytree(folder, base)
    fields: dict[str, Any] = {"network": f"huggingface:{base}", "epochs": 1, "learning_rate": 0.01}
    recorder = train_toy(
        prepared_toy(stack, dataset, toy_labels(dataset), task="chain_of_thought", budget=fields), tmp_path / "run"
    )
    recorder.model.save(tmp_path / "model")
    shutil.rmtree(base)  # a saved model needs no other files
    model = Model.load(tmp_path / "model", "cpu")
    trace_format = dataset.trace_format
    assert trace_format is not None
    prompts = trace_format.decode(np.asarray(dataset.test.inputs)[:, 0, 0])
    written = [text.removesuffix(trace_format.end) for text in recorder.evaluator.test_by_epoch[-1]]  # type: ignore[attr-defined]
    assert model.predict(prompts) == written

    made = model.save_pretrained(tmp_path / "pretrained")
    if stack == "lora":
        loaded: Any = peft.PeftModel.from_pretrained(
            transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), made
        )
        assert any(tensor.abs().max() > 0 for name, tensor in loaded.named_parameters() if "lora_B" in name)
    else:
        loaded = transformers.AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    tokens = transformers.AutoTokenizer.from_pretrained(made)(prompts[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(tokens).logits, model.network.eval()(tokens), rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="is not empty"):
        model.save_pretrained(tmp_path / "pretrained")


def test_a_prompted_model_comes_back_with_the_examples_of_its_prompt(folder: Path, tmp_path: Path) -> None:
    dataset = load_traces(program="max", width=1, count=2, train_problems=8, validation_problems=2, test_problems=3)
    spec = toy_spec(
        task={"name": "prompting", "shots": 1},
        dataset="traced_integers",
        budget={"network": f"huggingface:{folder}", "epochs": 1},
    )
    recorder = train_toy(prepare_run(spec, dataset, toy_labels(dataset)), tmp_path / "run")
    recorder.model.save(tmp_path / "model")
    model = Model.load(tmp_path / "model", "cpu")
    assert "Q: " in model.description.state["prefix"]
    trace_format = dataset.trace_format
    assert trace_format is not None
    prompts = trace_format.decode(np.asarray(dataset.test.inputs)[:, 0, 0])
    written = [text.removesuffix(trace_format.end) for text in recorder.evaluator.test_by_epoch[-1]]  # type: ignore[attr-defined]
    assert model.predict(prompts) == written


def test_a_model_without_its_package_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("transformers", "huggingface_hub", "huggingface_hub.constants"):
        monkeypatch.setitem(sys.modules, package, None)
    (spec,) = read_recipe("traced_addition", ["budget.network=huggingface:no-folder"])
    assert spec.data["network"], "reading a recipe needs no package"
    with pytest.raises(UserError, match=r"transformers is not installed; run `python -m pip install 'noisybench\[lang"):
        prepare_run(spec)


def test_a_short_context_is_refused_with_the_length_that_is_needed(folder: Path) -> None:

    spec = toy_spec(task="chain_of_thought", budget={"network": f"huggingface:{folder}"})
    dataset = load_traces(program="max", width=3, count=15, train_problems=20, validation_problems=5, test_problems=5)
    with pytest.raises(UserError, match=r"needs a context of \d+ tokens, but .* has 64"):
        prepare_run(spec, dataset, toy_labels(dataset))


# Prompting


class Scripted(torch.nn.Module):
    """Reads bytes, and writes the right trace of the last question; it counts how many traces it was shown."""

    context_length, vocabulary_size, padding_token, end_token = 4096, 256, 256, 0

    def __init__(self, tokenizer: Any, form: Any) -> None:
        super().__init__()
        self.is_pretrained = True
        self.tokenizer, self.form = tokenizer, form
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[str] = []

    def new_cache(self) -> dict[str, Any]:
        return {}

    def forward(
        self,
        tokens: torch.Tensor,
        first_position: int = 0,
        has_padding: bool = False,
        cache: Any = None,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if cache is not None:
            cache["tokens"] = tokens = torch.cat([*([cache["tokens"]] if cache else []), tokens], 1)
        scores = torch.zeros(*tokens.shape, self.vocabulary_size)
        for row, ids in enumerate(tokens.tolist()):
            text = self.tokenizer.decode([each for each in ids if each != self.padding_token])
            self.seen.append(text)
            question, _, written = text.rpartition("Q: ")[2].partition("\nA: ")
            wanted = self.form.rerun(question, "", TraceRecorder()).removesuffix("$") + "\n\n"
            scores[row, -1, self.tokenizer(wanted[len(written) : len(written) + 1] or "\n")["input_ids"][0]] = 9.0
        return scores


@pytest.fixture
def by_bytes() -> Any:
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({each: n for n, each in enumerate(alphabet)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token=alphabet[0])


def test_noisy_traces_are_shown_and_the_answer_is_read(
    by_bytes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = toy_traces(40)
    labels = toy_labels(dataset)
    network = Scripted(by_bytes, dataset.trace_format)
    for place in ("noisybench.tasks._trace_task", "noisybench.networks"):
        monkeypatch.setattr(f"{place}.build_network", lambda *names: network)
    spec = {
        "task": {"name": "prompting", "shots": 3, "instruction": "Add."},
        "dataset": "traced_integers",
        "mitigations": "cross_entropy",
        "budget": {"network": "huggingface:scripted", "epochs": 1},
        "execution": {"system_metrics": False, "device": "cpu"},
    }
    run = prepare_run(resolve(spec), dataset, labels)
    recorder = train_toy(run, tmp_path)
    assert recorder.rows[-1].test_score == 1.0
    assert recorder.rows[-1].diagnostics["step_accuracy"] == 1.0
    shown = network.seen[-1].rpartition("Q: ")[0]
    assert shown.startswith("Add.\n\nQ: ")
    assert shown.count("Q: ") == 3
    assert dataset.trace_format is not None
    observed = {each.removesuffix("$") for each in dataset.trace_format.decode(labels.train)}
    assert {each.partition("\nA: ")[2] for each in shown.removeprefix("Add.\n\n").split("\n\n") if each} <= observed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": {"network": "decoder:16x1", "epochs": 1}}, "prompting needs a pretrained model"),
        ({"budget": {"network": "decoder:16x1", "epochs": 2}}, "prompting trains nothing; set it to 1"),
        ({"mitigations": "gce", "budget": {"network": "decoder:16x1", "epochs": 1}}, "changes how a model is trained"),
    ],
)
def test_prompts_that_cannot_work_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare_run(
            resolve({"task": "prompting", "dataset": "traced_integers", **fields}),
            toy_traces(),
            toy_labels(toy_traces()),
        )


def test_too_many_shots_are_refused(folder: Path) -> None:
    spec = {"task": {"name": "prompting", "shots": 6}, "dataset": "traced_integers"}
    budget = {"network": f"huggingface:{folder}", "epochs": 1}
    with pytest.raises(UserError, match=r"6 of the longest traces and a problem need a context of \d+ tokens"):
        prepare_run(resolve({**spec, "budget": budget}), toy_traces(), toy_labels(toy_traces()))
