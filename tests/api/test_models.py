"""Models come back: saved, loaded, retrained, and predicting what their records say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.api.models import Model
from noisybench.data.dataset import Dataset
from noisybench.runs.recorder import Recorder
from tests.helpers import prepared_toy, toy_dataset, train_toy

FEATURES: dict[str, Any] = {"task": "transfer", "budget": {"network": "features_mlp:8", "epochs": 1}}


def toy_features() -> Dataset:
    """The toy images as features."""
    made = toy_dataset()
    splits = {
        name: dataclasses.replace(
            getattr(made, name), inputs=getattr(made, name).inputs.reshape(-1, 64, 1, 1).astype(np.float32) / 255
        )
        for name in ("train", "validation", "test")
    }
    return dataclasses.replace(made, **splits)


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "images": ("elr", {}),
    "one of two networks": ("co_teaching", {"budget": {"epochs": 2}}),
    "ensemble": ("ensemble", {}),
    "truncated": ({"name": "spectral_truncation", "rank": 5}, {}),
    "features": ("gce", FEATURES),
    "frozen backbone": ("mlp_probe", {}),
    "low-rank updates": ("lora", {}),
    "masks": ("dice_loss", {}),
    "traces": ("gce", {"task": "chain_of_thought"}),
    "decoded traces": ({"name": "self_consistency", "responses": 3}, {}),
}


def train_kind(kind: str, folder: Path) -> Recorder:
    stack, fields = KINDS[kind]
    dataset = toy_features() if kind == "features" else None
    fields = {**fields, "budget": {"epochs": 1, **fields.get("budget", {})}}
    return train_toy(prepared_toy(stack, dataset, **fields), folder)


def recorded_predictions(recorder: Recorder) -> Any:
    final: dict[str, Any] = recorder.evaluator._final  # type: ignore[attr-defined]
    return next(final[name] for name in ("test", "predicted", "written") if name in final)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_model_predicts_exactly_what_its_run_recorded(kind: str, tmp_path: Path) -> None:
    recorder = train_kind(kind, tmp_path / "run")
    assert recorder.saves_model
    recorder.model.save(tmp_path / "model")
    state = torch.random.get_rng_state()
    model = Model.load(tmp_path / "model", "cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    test, recorded = recorder.prepared.dataset.test, recorded_predictions(recorder)
    if model.description.outputs == "texts":
        trace_format = recorder.prepared.dataset.trace_format
        assert trace_format is not None
        prompts = trace_format.decode(np.asarray(test.inputs)[:, 0, 0])
        assert model.predict(prompts) == [text.removesuffix(trace_format.end) for text in recorded]
    elif model.description.outputs == "masks":
        np.testing.assert_array_equal(model.predict(test.inputs), recorded)
        np.testing.assert_array_equal(model.predict_proba(test.inputs).argmax(1), recorded)
    else:
        np.testing.assert_array_equal(model.predict_proba(test.inputs), recorded)
        np.testing.assert_array_equal(model.predict(test.inputs), recorded.argmax(1))
    again = Model.load(model.save(tmp_path / "again"), "cpu")
    assert again.description == model.description
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
