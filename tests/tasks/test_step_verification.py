"""Verifiers of steps: features, pre-training, scores and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from noisybench.api.models import Model
from noisybench.config.budget import Budget
from noisybench.config.resolve import resolve
from noisybench.data.texts import text_bytes, text_inputs, texts_of
from noisybench.errors import TrainingError, UserError
from noisybench.leaderboard.class_evidence import DIAGNOSTICS
from noisybench.networks._step_verifier import NUM_SURPRISES, build_verifier
from noisybench.runs.preparation import prepare_run
from noisybench.tasks._language_pretraining import LanguagePretraining, complete_texts, is_complete
from noisybench.tasks.step_verification import StepVerification
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from tests.helpers import train_toy
from tests.tasks.test_language_models import save_model

RECIPE: dict[str, Any] = {
    "task": {"name": "step_verification", "pretraining_epochs": 1},
    "dataset": {"name": "traced_steps", "train_problems": 40, "test_problems": 12},
    "noise": {"name": "step_dynamic", "rate": 0.3},
    "mitigations": "mlp_probe",
    "budget": {
        "network": "decoder:16x1x64", "epochs": 2, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.01,
        "augmentation": "none",
    },
}  # fmt: skip


def recipe(**changed: Any) -> dict[str, Any]:
    return {
        name: {**value, **changed[name]} if name in changed and isinstance(value, dict) else changed.get(name, value)
        for name, value in RECIPE.items()
    }


def coded(*texts: str) -> torch.Tensor:
    return torch.from_numpy(text_bytes(text_inputs(texts))).float()


def test_features_do_not_depend_on_other_texts_of_the_batch() -> None:
    torch.manual_seed(0)
    verifier = build_verifier("decoder:16x2", 2).eval()
    texts = ("4+5?\n4+5=9\n", "é?\nlong long step\nanother step\n")
    together = verifier(coded(*texts))
    for row, text in enumerate(texts):
        torch.testing.assert_close(verifier(coded(text)), together[row : row + 1], rtol=1e-4, atol=1e-5)


def test_surprises_are_those_of_the_steps_alone() -> None:
    torch.manual_seed(0)
    verifier = build_verifier("decoder:16x1", 2).eval()
    text = "4+5?\nx=9\n"
    content = torch.tensor(list(text.encode()))
    scores = verifier.model(content[None, :-1])[0].log_softmax(1)
    surprise = -scores[torch.arange(len(content) - 1), content[1:]]
    expected = surprise[4:].topk(NUM_SURPRISES).values
    features = verifier._features(coded(text)[:, 0, 0].long())
    torch.testing.assert_close(features[0, -NUM_SURPRISES:], expected)


def test_pretraining_reads_complete_solutions_and_learns_them() -> None:
    texts = torch.from_numpy(text_bytes(text_inputs(["a?\n1\n", "a?\n1\n2\n", "a?\n1\n2\n", "b?\n3\n"] * 200)))
    assert len(complete_texts(texts[:, 0, 0])) == 600
    run = LanguagePretraining("decoder:16x1x16", texts, "x", epochs=30, seed=0, device=torch.device("cpu"))
    losses = [run.train_epoch(epoch) for epoch in range(30)]
    assert losses[-1] < 0.2 * losses[0]


def test_a_run_scores_steps_solutions_and_problems(tmp_path: Path) -> None:
    recorder = train_toy(prepare_run(resolve(recipe())), tmp_path)
    found = recorder.rows[-1].diagnostics
    assert {"first_error.f1", "best_of.verifier", "best_of.random", "best_of.oracle"} <= set(found)
    assert set(found) <= DIAGNOSTICS, "submissions may claim them"
    assert found["best_of.random"] <= found["best_of.oracle"]
    assert [cost.title for cost in recorder.auxiliary_costs] == ["language-model pre-training · decoder:16x1x64"]


@pytest.mark.fast
def test_complete_texts_are_found_on_the_device_of_the_training_set() -> None:
    with FakeTensorMode():
        texts = torch.empty(6, 8, dtype=torch.uint8, device="cuda")
        assert is_complete(texts).device.type == "cuda"


@pytest.mark.fast
def test_few_texts_are_evaluated_at_a_time_if_they_have_many_scores() -> None:
    data = TrainingSet(torch.zeros(2, 1, 1, 64, dtype=torch.uint8), torch.tensor([0, 1]), num_classes=2)
    task = StepVerification(Budget(network="decoder:8x1"), seed=0, training_set=data, stack=Stack([]))
    sizes = [task.eval_batch_size(torch.empty(9, 1, 1, length, device="meta")) for length in (64, 2048, 2**20)]
    assert sizes == [256, 2**26 // (2048 * 256), 1]


# Features of a frozen model can be mixed, as texts cannot.
@pytest.mark.parametrize("stack", ["cross_entropy", "gce+linear_probe", "mixup+mlp_probe"])
def test_stacks_train_all_weights_or_a_head(stack: str, tmp_path: Path) -> None:
    fields = recipe(task={"pretraining_epochs": 0}, mitigations=stack.split("+"))
    recorder = train_toy(prepare_run(resolve(fields)), tmp_path)
    assert recorder.rows[-1].test_score > 0.3


def test_exact_gradients_of_single_texts_are_refused(tmp_path: Path) -> None:
    grand = {"name": "grand", "num_networks": 1, "epochs": 1, "keep_fraction": 0.8}
    with pytest.raises(TrainingError, match="gradient=exact: not possible for this network; set gradient=last_layer"):
        train_toy(prepare_run(resolve(recipe(task={"pretraining_epochs": 0}, mitigations=[grand]))), tmp_path)


def test_language_model_of_hugging_face(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    fields = recipe(task={"pretraining_epochs": 0}, budget={"network": f"huggingface:{folder}"})
    recorder = train_toy(prepare_run(resolve(fields)), tmp_path / "run")
    assert recorder.rows[-1].test_score > 0.3
    with pytest.raises(UserError, match="is pre-trained already; set it to 0"):
        prepare_run(resolve(recipe(budget={"network": f"huggingface:{folder}"})))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"budget": {"network": "decoder:16x1x16"}}, "needs a context of .* tokens, but `decoder:16x1x16` has 16"),
        ({"budget": {"network": "mlp:4"}}, "`mlp:4` reads no texts; choose a decoder"),
        ({"budget": {"augmentation": "crop"}}, "texts cannot be augmented"),
        ({"mitigations": "pls"}, "pls: it reads the view .* but the task draws weak, weak_2 only"),
        ({"mitigations": "mixup"}, "mixup: it mixes inputs, but texts have no mean; add mlp_probe or linear_probe"),
        ({"mitigations": "elr_plus"}, "elr_plus: it mixes inputs, but texts have no mean"),
        ({"mitigations": "simclr"}, "simclr: it sets initial weights by pre-training on images; remove it, or set"),
        ({"dataset": "digits", "noise": "clean"}, "digits has no steps of solutions"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, Any], reason: str) -> None:
    fields = {**RECIPE, **changed} if "dataset" in changed else recipe(**changed)
    with pytest.raises(UserError, match=reason):
        prepare_run(resolve(fields))


def test_a_saved_verifier_reads_texts(tmp_path: Path) -> None:
    run = prepare_run(resolve(recipe(task={"pretraining_epochs": 0}, mitigations="mlp_probe")))
    recorder = train_toy(run, tmp_path)
    recorder.write(recorder.record({}), tmp_path / "written")
    model = Model.load(tmp_path / "written" / "model")
    texts = texts_of(run.dataset.test.inputs)
    expected = recorder.evaluator.predictions().probabilities
    np.testing.assert_allclose(model.predict_proba(texts), expected, rtol=1e-4, atol=1e-5)
    assert set(model.predict(texts[:2], names=True)) <= {"correct", "incorrect"}
    np.testing.assert_array_equal(model.predict_proba(texts[0].rstrip("\n")), model.predict_proba(texts[:1]))
    for text in ("", "1+1:\n"):
        with pytest.raises(UserError, match=r"text 1, .*, has no step; write the problem in one line"):
            model.predict([texts[0], text])
    with pytest.raises(UserError, match="has 67 tokens, but the context of the verifier has 64"):
        model.predict("1:\n" + 63 * "9")
    with pytest.raises(UserError, match="half of a character"):
        model.predict("1:\n\ud800")
    with pytest.raises(UserError, match="the model reads texts, but got features"):
        model.predict(np.zeros((2, 3)))
