"""`nb.load_dataset` by name, recipe and path, and the forms in which examples can be had."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import noisybench as nb
from noisybench.cli.app import app
from noisybench.config.registry import list_entries


def test_a_recipe_and_its_dataset_are_the_same():
    digits = nb.load_dataset("digits")
    # Another recipe of the same dataset, by its file.
    path = "digits.yaml"
    with open(path, "w") as file:
        file.write("dataset: {name: digits, train_size: 200}\nnoise: pair_flip\n")
    assert nb.load_dataset(path).train.targets.shape == (200,)
    assert len(nb.load_dataset(path, train_size=300).train) == 300
    assert nb.load_dataset(path, train_size=None).hash == digits.hash


def test_a_folder_is_recognized_as_on_the_command_line(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.full((8, 8, 3), 20 * number + (name == "dog"), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    by_path = nb.load_dataset("photos/", size=8)
    assert by_path.class_names == ("cat", "dog")
    assert by_path.hash == nb.load_dataset(tmp_path / "photos", size=8).hash
    assert by_path.hash == nb.load_dataset("image_folder", root="photos", size=8).hash
    result = CliRunner().invoke(app, ["data", "check", "photos", "dataset.size=8"])
    assert "image_folder" in result.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digitz", "dataset: unknown dataset `digitz`, and no such file, folder or recipe; did you mean `digits`?"),
        ("photos/none", "photos/none: there is no such file, folder or recipe"),
        ("images.npz", "images.npz: there is no such file, folder or recipe"),
        (3, "dataset: must be a name or a path, but got 3"),
    ],
)
def test_what_is_no_dataset_is_refused(name, message):
    with pytest.raises(nb.UserError, match=message):
        nb.load_dataset(name)


def test_parameters_are_checked_as_on_the_command_line():
    with pytest.raises(nb.UserError, match=r"dataset: unknown parameter `train_siz`; did you mean `train_size`"):
        nb.load_dataset("digits", train_siz=3)
    with pytest.raises(nb.UserError, match=r"dataset.train_size: .* but got 0"):
        nb.load_dataset("digits", train_size=0)


def test_splits_become_tensors_and_frames(tmp_path):
    images = nb.load_dataset("digits", train_size=100)
    pixels, targets = images.train.to_torch().tensors
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels, images.train.inputs)
    np.testing.assert_array_equal(targets, images.train.targets)
    rng = np.random.default_rng(0)
    np.savez("features.npz", train_x=rng.normal(size=(40, 3)), train_y=np.arange(40) % 2)
    features = nb.load_dataset("features.npz")
    assert features.name == "features"
    frame = features.train.to_frame(features.class_names)
    assert frame.columns.tolist() == ["feature_0", "feature_1", "feature_2", "target"]
    assert frame.index.tolist() == features.train.index.tolist()
    assert set(frame.target) == {"0", "1"}
    assert features.train.to_torch().tensors[0].shape == (len(features.train), 3)
    pd.DataFrame({"text": [f"text {n}" for n in range(40)], "label": ["a", "b"] * 20}).to_csv("texts.csv", index=False)
    texts = nb.load_dataset("texts.csv")
    assert texts.train.to_frame().columns.tolist() == ["text", "target"]
    with pytest.raises(nb.UserError, match="texts are no tensors; use to_frame"):
        texts.train.to_torch()
    with pytest.raises(nb.UserError, match="masks and traces do not fit into a data frame"):
        nb.load_dataset("scenes", train_images=4, validation_images=2, test_images=2).train.to_frame()


def test_what_is_shown_is_one_line():
    dataset = nb.load_dataset("traced_integers", train_problems=10, validation_problems=2, test_problems=3)
    assert repr(dataset).startswith("traced_integers: 10 train, 2 validation, 3 test; traces; uint8 inputs (1, 1, ")
    assert repr(dataset.test).startswith("3 examples: ")


def test_names_are_those_of_the_command_line():
    assert list(nb.list_names("noise_models")) == list(list_entries("noise_models"))
    assert nb.list_names("recipes")["digits"].startswith("Handwritten digits")
    assert nb.list_names("metrics")
    with pytest.raises(nb.UserError, match="unknown kind `noise`; did you mean `noise_models`"):
        nb.list_names("noise")
