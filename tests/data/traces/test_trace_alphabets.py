"""Traces in any alphabet: vocabularies of more characters than fit into a byte."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.data.targets import IGNORED
from noisybench.data.traces.formats import PLACEHOLDER, make_vocabulary
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.errors import UserError
from tests.data.traces.helpers import build_noise, decode_prompts, toy_task, trace_format_of
from tests.helpers import prepared_toy, train_toy

SIGNS = ["😀", "👩‍👩‍👧", "e\u0301", "∑∫", "ش", "ﷺ", "\u0000", "²", "٣", "𠀀"]


def texts(count: int = 40, number: int = 400) -> list[str]:
    """Return texts of many Chinese characters and of signs outside of the basic plane."""
    rng = random.Random(0)
    characters = [chr(0x4E00 + position) for position in range(number)] + SIGNS
    return ["".join(rng.choices(characters, k=20)) for _ in range(count)]


def load(folder: Path, lines: list[str]) -> Dataset:
    rows = [
        {"prompt": f"{line}{n}", "response": f"{line}\n{n}+1=<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"}
        for n, line in enumerate(lines)
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(rows))
    (folder / "traces.jsonl").write_text(text, encoding="utf-8")
    source: Any = get_entry("datasets", "trace_file").load_class()(path=str(folder / "traces.jsonl"))
    dataset: Dataset = source.load()
    return dataset


@pytest.mark.parametrize(
    ("size", "dtype"), [(253, np.uint8), (254, np.uint8), (255, np.int16), (40_000, np.int32)]
)  # with the end mark
def test_tokens_are_as_wide_as_their_vocabulary_needs(size: int, dtype: type) -> None:
    characters = [chr(0x20000 + position) for position in range(size)]
    trace_format = CalculationTraceFormat(make_vocabulary(characters, CalculationTraceFormat.end))
    text = "".join(characters) + CalculationTraceFormat.end
    for left in (False, True):
        tokens = trace_format.encode([text, characters[3]], len(text) + 1, left=left)
        assert tokens.dtype == dtype
        assert trace_format.decode(tokens) == [text, characters[3]]
        assert ((tokens == IGNORED).sum(1) == [1, len(text)]).all(), "no character has the number of a missing one"


def test_every_text_comes_back_from_every_noise_model(tmp_path: Path) -> None:
    lines = texts()
    dataset = load(tmp_path, lines)
    assert dataset.train.targets.dtype == np.int16
    splits = (dataset.train, dataset.validation, dataset.test)
    prompts = [text for split in splits for text in trace_format_of(dataset).decode(split.inputs[:][:, 0, 0])]
    assert sorted(prompts) == sorted(f"{line}{n}" for n, line in enumerate(lines))
    for number, (name, settings) in enumerate(
        [
            *(("cot_static", {"edit": edit}) for edit in ("digit", "character", "token", "line", "duplicate", "both")),
            ("cot_static", {"answer": "recomputed"}),
            ("cot_dynamic", {}),
        ]
    ):
        labels = build_noise(name, intensity=0.5, **settings).apply(dataset)
        folder = label_files.save(labels, dataset, tmp_path / str(number))
        frozen = label_files.load(folder)
        assert frozen.train.dtype == np.int16
        assert build_noise("from_file", path=str(folder)).apply(dataset).hash == labels.hash
        assert labels.manifest["transition_counts"] is None, "a table of all pairs of characters has no use"
        written = [json.loads(line) for line in (folder / "traces.jsonl").read_text("utf-8").split("\n") if line]
        observed = [row["observed"] for row in written if row["split"] == "train"]
        assert observed == [
            text.removesuffix(CalculationTraceFormat.end) for text in trace_format_of(dataset).decode(labels.train)
        ]
        assert not any(PLACEHOLDER in text for text in observed)


def test_damaged_wide_tokens_are_refused(tmp_path: Path) -> None:
    dataset = load(tmp_path, texts())
    folder = label_files.save(build_noise("cot_static").apply(dataset), dataset, tmp_path / "labels")
    arrays = dict(np.load(folder / "masks.npz"))
    for damaged, message in (
        (arrays["train_observed"].astype(np.uint8), "labels are uint8"),
        (np.where(arrays["train_observed"] == 3, -1, arrays["train_observed"]).astype(np.int16), "labels outside of 0"),
    ):
        np.savez(folder / "masks.npz", **{**arrays, "train_observed": damaged})
        with pytest.raises(UserError, match=message):
            label_files.load(folder)


def test_a_decoder_trains_on_wide_tokens(tmp_path: Path) -> None:
    dataset = load(tmp_path, texts(24))
    labels = build_noise("cot_static", intensity=0.2).apply(dataset)
    run = prepared_toy(
        "cross_entropy", dataset, labels, task="chain_of_thought", budget={"network": "decoder:32x1x160"}
    )
    recorder = train_toy(run, tmp_path)
    assert recorder.rows[-1].train_loss < recorder.rows[0].train_loss
    recorder.write(recorder.record({}), tmp_path)
    samples = recorder.evaluator.samples()
    assert samples.observed.dtype == samples.corrected_labels.dtype == np.int16
    np.testing.assert_array_equal(samples.observed, labels.train)
    task = toy_task(dataset, labels)
    tokens, _ = task.tokenizer.encode_responses(task.training_set.targets)
    assert task.tokenizer.decode(tokens) == trace_format_of(dataset).decode(labels.train)


@pytest.mark.parametrize("character", ["\x03", PLACEHOLDER])
def test_characters_with_another_meaning_are_refused_with_their_line(character: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2 has the character .*; remove it"):
        load(tmp_path, ["a", f"b{character}"])


def test_noise_can_write_digits_that_no_text_has(tmp_path: Path) -> None:
    rows = [{"prompt": f"问{'一' * n}", "response": "1+1=<<1+1=2>>2\n#### 2"} for n in range(20)]
    (tmp_path / "traces.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    dataset: Dataset = get_entry("datasets", "trace_file").load_class()(path=str(tmp_path / "traces.jsonl")).load()
    labels = build_noise("cot_static", intensity=1.0).apply(dataset)
    observed = set("".join(trace_format_of(dataset).decode(labels.train)))
    assert observed > set("0123456789")
    assert decode_prompts(dataset)[0].startswith("问")
