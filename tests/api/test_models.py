"""Models come back: saved, loaded, retrained, and predicting what their records say."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import noisybench as nb
from noisybench.api.models import Model
from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from noisybench.runs.recorder import Recorder
from noisybench.runs.retraining import retrain
from noisybench.tracking.store import Store
from tests.helpers import prepared_toy, toy_dataset, toy_labels, toy_spec, train_toy

Command = Callable[..., tuple[int, str]]
slow = pytest.mark.skipif(not os.environ.get("NOISYBENCH_SLOW"), reason="NOISYBENCH_SLOW is not set")

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
    "neighbors": ({"name": "knn", "neighbors": 5}, {}),
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
    evaluator: Any = recorder.evaluator
    found = [evaluator._final[name] for name in ("test", "predicted") if name in evaluator._final]
    return found[0] if found else evaluator.test_by_epoch[-1]


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


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of gray images of 8x8 pixels."""
    folder = tmp_path_factory.mktemp("images")
    train_kind("images", folder / "run").model.save(folder / "model")
    return folder / "model"


def test_images_of_any_form_are_prepared_as_in_training(images: Path, tmp_path: Path) -> None:
    from PIL import Image, ImageOps

    model = Model.load(images, "cpu")
    gray = toy_dataset().test.inputs
    expected = model.predict_proba(gray)
    np.testing.assert_array_equal(model.predict_proba(gray[:, 0]), expected)
    np.testing.assert_array_equal(model.predict_proba(torch.from_numpy(np.asarray(gray))), expected)
    np.testing.assert_array_equal(model.predict_proba(np.asarray(gray, np.float32) / 255), expected)
    np.testing.assert_array_equal(model.predict_proba(np.asarray(gray).repeat(3, 1).transpose(0, 2, 3, 1)), expected)
    pictures = [Image.fromarray(pixels[0]) for pixels in gray]
    np.testing.assert_array_equal(model.predict_proba(pictures), expected)
    for number, picture in enumerate(pictures):
        picture.convert("RGB").save(tmp_path / f"{number:02}.png")
    np.testing.assert_array_equal(model.predict_proba(tmp_path), expected)
    np.testing.assert_array_equal(model.predict_proba([tmp_path / "03.png"])[0], model.predict_proba(pictures[3])[0])
    names = model.predict(tmp_path, names=True)
    assert names.tolist() == [str(number) for number in expected.argmax(1)]
    enlarged = [picture.resize((30, 24)) for picture in pictures]
    fitted = [np.asarray(ImageOps.fit(picture, (8, 8), Image.Resampling.BILINEAR)) for picture in enlarged]
    np.testing.assert_array_equal(model.predict_proba(enlarged), model.predict_proba(np.stack(fitted)))


def test_photos_are_read_as_their_dataset_reads_them(tmp_path: Path) -> None:
    source = get_entry("datasets", "image_folder").load_class()
    (tmp_path / "photos").mkdir()
    parameters = source.example(tmp_path / "photos")
    dataset = source(**parameters).load()
    spec = toy_spec("cross_entropy", dataset={"name": "image_folder", **parameters}, budget={"epochs": 1})
    recorder = train_toy(prepare_run(spec, dataset, toy_labels(dataset)), tmp_path / "run")
    recorder.model.save(tmp_path / "model")
    model = Model.load(tmp_path / "model", "cpu")
    assert model.class_names == ("circle", "square")
    files = sorted((tmp_path / "photos" / "test").rglob("*.png"))
    of_files = model.predict_proba(files)
    by_row = [np.abs(of_files - row).max(1).min() for row in recorded_predictions(recorder)]
    assert max(by_row) < 1e-6, "each test image is among the files, with the probabilities that were recorded"


def test_masks_of_files_have_the_sizes_of_the_files(tmp_path: Path, noisybench: Command) -> None:
    from PIL import Image

    recorder = train_kind("masks", tmp_path / "run")
    recorder.model.save(tmp_path / "model")
    inputs = recorder.prepared.dataset.test.inputs[:2]
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(np.asarray(inputs)):
        picture = Image.fromarray(pixels.transpose(1, 2, 0))
        picture.resize((16 * (number + 1), 16)).save(tmp_path / "photos" / f"{number}.png")
    status, output = noisybench("predict", str(tmp_path / "model"), str(tmp_path / "photos"), "-o", "masks")
    assert status == 0, output
    assert "2 masks of class indices" in output
    masks = [np.asarray(Image.open(f"masks/{number}.png")) for number in range(2)]
    assert [mask.shape for mask in masks] == [(16, 16), (16, 32)]
    np.testing.assert_array_equal(masks[0], recorded_predictions(recorder)[0])


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (np.zeros((2, 5)), "the model classifies images of 8x8 pixels with 1 channel, but got features"),
        (np.zeros((2, 2, 8, 8), np.uint8), "with 1 or 3 channels"),
        (np.full((2, 8, 8), -0.5), "pixels from -0.5 to -0.5"),
        ("nowhere/", "nowhere: does not exist"),
        (toy_dataset(), "inputs must be inputs alone, such as dataset.train.inputs, but is a dataset"),
        (toy_dataset().test, "inputs must be inputs alone, such as split.inputs, but is a split"),
        ({"image": 1}, "inputs must be an array, a data frame or a list"),
        (["a.png", "b.png"], "a.png: does not exist"),
    ],
)
def test_other_inputs_are_refused_with_what_the_model_reads(images: Path, inputs: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Model.load(images, "cpu").predict(inputs)


def test_unreadable_images_are_listed(images: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(UserError) as refusal:
        Model.load(images, "cpu").predict(tmp_path)
    assert [problem.split(":")[0] for problem in refusal.value.problems] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "b.jpg"),
    ]


def test_features_need_their_number_and_prompts_their_characters(tmp_path: Path) -> None:
    import pandas

    recorder = train_kind("features", tmp_path / "run")
    recorder.model.save(tmp_path / "features")
    model = Model.load(tmp_path / "features", "cpu")
    points = np.asarray(recorder.prepared.dataset.test.inputs)[:, :, 0, 0]
    expected = recorded_predictions(recorder)
    for given in (points, torch.from_numpy(points), pandas.DataFrame(points), points.tolist()):
        np.testing.assert_array_equal(model.predict_proba(given), expected)
    with pytest.raises(UserError, match="trained on 64 features, but got 63 features"):
        model.predict(points[:, :63])
    with pytest.raises(UserError, match="reads 64 features of each example, not files"):
        model.predict("photos/")
    train_kind("traces", tmp_path / "traced").model.save(tmp_path / "traces")
    writer = Model.load(tmp_path / "traces", "cpu")
    with pytest.raises(UserError, match="has the character 'A'"):
        writer.predict("ABC")
    with pytest.raises(UserError, match="writes texts, which have no class probabilities"):
        writer.predict_proba("1+2:")
    with pytest.raises(UserError, match="bias in their output layer"):
        writer.save_pretrained(tmp_path / "pretrained")
    with pytest.raises(UserError, match="use save_pretrained"):
        writer.export(tmp_path / "model.onnx")


def test_damaged_models_are_refused(images: Path, tmp_path: Path) -> None:
    model = Model.load(images, "cpu")
    with pytest.raises(UserError, match="exists; choose a new folder"):
        model.save(images)
    folder = model.save(tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"does not hold the weights that model\.json names"):
        nb.load_model(folder)
    (folder / "weights.pt").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"is missing or damaged|is damaged, or holds pickled objects"):
        nb.load_model(folder)
    torch.save({"weights": tmp_path}, folder / "weights.pt")
    with pytest.raises(UserError, match="holds pickled objects, which could run code and are not read"):
        nb.load_model(folder)
    (folder / "model.json").write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(UserError, match="another version of noisybench"):
        nb.load_model(folder)
    with pytest.raises(UserError, match="is no folder of a model"):
        nb.load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": {}}, "tasks: unknown task `None`"),
        ({"task": {"name": "classification", "rate": 1}}, "tasks: unknown parameter `rate`"),
        ({"mitigations": [{"name": "gce", "q": "a"}]}, r"mitigations.q: expected a number, but got 'a'"),
        ({"budget": {"network": "small_cnn", "epochs": -1}}, "describes a model that cannot be built"),
        ({"input_shape": [1]}, "input_shape: Tuple should have at least 3 items"),
        ({"input_shape": [1, 2**31, 2**31]}, "describes a model that cannot be built"),
        ({"num_classes": -1}, "num_classes: Input should be greater than or equal to 1"),
        ({"state": {"mean": "a"}}, "its weights do not fit the network"),
        ({"seed": "a"}, "seed: Input should be a valid integer"),
        ({"inputs": "sounds"}, "inputs: Input should be 'images', 'features' or 'texts'"),
    ],
)
def test_descriptions_that_were_changed_are_refused(
    images: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = Model.load(images, "cpu").save(tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, **changes}))
    with pytest.raises(UserError, match=reason):
        nb.load_model(folder)


@pytest.mark.parametrize("source", [None, 3, ""])
def test_what_names_no_model_is_refused(source: Any) -> None:
    with pytest.raises(UserError, match="run: must be the id of a run, a folder or an address of MLflow"):
        nb.load_model(source)


def test_mlflow_predicts_with_signature_example_and_class_names(images: Path) -> None:
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(images))
    example = loaded.metadata.load_input_example(str(images))
    assert example.shape == (1, 1, 8, 8)
    assert example.dtype == np.uint8
    predicted = loaded.predict(toy_dataset().test.inputs)
    assert predicted.columns.tolist() == list("0123456789")
    expected = Model.load(images, "cpu").predict_proba(toy_dataset().test.inputs)
    np.testing.assert_array_equal(predicted.to_numpy(), expected)
    assert loaded.metadata.signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "uint8", "shape": (-1, 1, 8, 8)}
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        loaded.predict(np.zeros((2, 1, 9, 9), np.uint8))


def test_a_program_of_torch_export_gives_the_same_probabilities(images: Path, tmp_path: Path) -> None:
    model, inputs = Model.load(images, "cpu"), np.asarray(toy_dataset().test.inputs)
    with pytest.raises(UserError, match=r"must end in \.onnx \(ONNX\) or \.pt2"):
        model.export(tmp_path / "model.pb")
    program = torch.export.load(model.export(tmp_path / "model.pt2")).module()
    np.testing.assert_allclose(program(torch.from_numpy(inputs)).numpy(), model.predict_proba(inputs), atol=1e-6)


@slow
@pytest.mark.parametrize("kind", ["images", "ensemble", "features", "frozen backbone", "low-rank updates", "masks"])
def test_onnx_gives_the_same_probabilities(kind: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    recorder = train_kind(kind, tmp_path / "run")
    recorder.model.save(tmp_path / "model")
    model = Model.load(tmp_path / "model", "cpu")
    inputs = np.asarray(recorder.prepared.dataset.test.inputs)
    given = inputs[:, :, 0, 0] if kind == "features" else inputs
    session = onnxruntime.InferenceSession(model.export(tmp_path / "model.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: given})
    np.testing.assert_allclose(found, model.predict_proba(inputs), atol=1e-5)
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    assert tuple(names) == model.class_names


def test_a_model_that_was_not_saved_is_trained_again_and_checked(store: Store, noisybench: Command) -> None:
    result: Any = nb.run(
        "digits", "execution.save_model=false", dataset={"train_size": 200}, budget={"epochs": 1}, progress=False
    )
    test = nb.load_dataset("digits", train_size=200).test
    np.savez("digits.npz", x=test.inputs, y=test.targets)
    status, output = noisybench("predict", result.run_id, "digits.npz")
    assert status == 2
    assert "its model was not saved" in output
    assert "--retrain" in output
    changed = dataclasses.replace(
        result.record, weights_sha256="0" * 64, code={**result.record.code, "engine": "1" * 16}
    )
    with pytest.raises(UserError, match=r"reached other weights .*: the code is another one \(engine"):
        retrain(changed)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    model = result.model("cpu")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(
        model.predict_proba(test.inputs), np.stack(result.predictions["probabilities"].to_numpy())
    )
    # It is added to the run.
    again = nb.load_model(result.run_id[:8])
    assert again.description == model.description
    assert nb.load_model(f"runs:/{result.run_id}/model").description == model.description
    status, output = noisybench("predict", result.record.identity, "digits.npz", "-o", "table.csv")
    assert status == 0, output
    import pandas

    table = pandas.read_csv("table.csv")
    assert table.columns.tolist() == ["input", "predicted", "confidence", *"0123456789"]
    assert table["predicted"].tolist() == model.predict(test.inputs).tolist()
    with pytest.raises(UserError, match=rf"`zzzz`, and no folder has this name; known: .*{result.run_id[:8]}"):
        nb.load_model("zzzz")
