"""Filters of traces by re-execution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noisybench.config.registry import get_entry
from noisybench.errors import UserError
from tests.data.traces.helpers import (
    build_noise,
    decode_prompts,
    kept_traces,
    load_traces,
    trace_format_of,
)


def test_filters_keep_the_documented_traces() -> None:
    dataset = load_traces(train_problems=200)
    trace_format = trace_format_of(dataset)
    noisy = build_noise("cot_dynamic", contamination=0.5, intensity=0.3).apply(dataset)
    right = [
        bool(trace_format.check(*pair).answer_is_correct)
        for pair in zip(decode_prompts(dataset), trace_format.decode(noisy.train), strict=True)
    ]
    changed = (noisy.train != dataset.train.targets).any(1)
    np.testing.assert_array_equal(kept_traces("answer", dataset, noisy), right)
    replayed = kept_traces("execution", dataset, noisy)
    assert replayed[~changed].all(), "clean traces replay"
    assert not replayed[changed].any()
    np.testing.assert_array_equal(kept_traces("oracle", dataset, noisy), ~changed)
    assert kept_traces("random", dataset, noisy).sum() == replayed.sum()


def test_filtering_by_answer_needs_a_program(tmp_path: Path) -> None:
    cls = get_entry("datasets", "gsm8k").load_class()
    dataset = cls(**cls.example(tmp_path)).load()
    with pytest.raises(UserError, match="by=answer needs a program"):
        kept_traces("answer", dataset, build_noise("real_world").apply(dataset))
