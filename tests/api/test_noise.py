"""`nb.noise`: every noise model on data of any form, with the labels that the harness makes."""

import dataclasses
import json

import datasets as hugging_face
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy import sparse
from typer.testing import CliRunner

import noisybench as nb
from noisybench.cli.app import app
from noisybench.config.registry import get_entry, list_entries
from noisybench.data.label_sets import label_files
from noisybench.data.noise_model import TARGETS_OF_TASK
from tests.contracts import noise_toy

NOT_IN_MEMORY = {
    "real_world": "noisy labels of its own",
    "from_folder": "the images of in_memory_labels have none",
    "step_annotator": "its examples are not steps of solutions",
    "step_dynamic": "its examples are not steps of solutions",
}
"""Noise models that read what arrays do not have, with the reason that they give."""


def example(name, folder):
    """Return a noise model with the parameters of its contract test, and the toy data for it as a training split."""
    entry = get_entry("noise_models", name)
    cls = entry.load_class()
    dataset = noise_toy(cls, 200, 4)
    first = dataset.train
    empty = dataclasses.replace(first, inputs=first.inputs[:0], targets=first.targets[:0], index=np.arange(0))
    alone = dataclasses.replace(dataset, validation=empty, test=empty, source_size=len(first), source_names=())
    if name == "from_folder":
        return {"path": str(folder)}, alone
    return cls.example(alone, folder), alone


@pytest.mark.parametrize("name", sorted(list_entries("noise_models")))
def test_every_noise_model_works_on_arrays_or_says_why_not(name, tmp_path):
    parameters, dataset = example(name, tmp_path)
    kind, noise = TARGETS_OF_TASK[get_entry("noise_models", name).load_class().tasks[0]], nb.noise(name, **parameters)
    images, y = dataset.train.inputs, dataset.train.targets
    if kind == "tokens":
        prompts = dataset.trace_format.decode(images[:, 0, 0])
        responses = [text.removesuffix("$") for text in dataset.trace_format.decode(y)]
        noisy = noise.apply(prompts, responses, program="add")
        assert [type(text) for text in noisy.y] == [str] * len(y)
        assert noisy.is_mislabeled.shape == (len(y),)
        changed = np.array(responses) != np.array(noisy.y)
        assert changed.any()
        assert not (noisy.is_mislabeled & ~changed).any()
    elif name in NOT_IN_MEMORY:
        with pytest.raises(nb.UserError, match=NOT_IN_MEMORY[name]):
            noise.apply(images, y)
        return
    else:
        noisy = noise.apply(images, y, class_names=dataset.class_names)
        assert noisy.y.shape == y.shape
        assert noisy.y.dtype == y.dtype
        clean = noisy.label_set.apply_to(noisy.dataset).train.targets
        np.testing.assert_array_equal(noisy.is_mislabeled, (noisy.y != clean) & dataset.target_kind.is_labeled(y))
    assert noisy.rate == noisy.manifest["actual_noise_rate"]
    assert noisy.manifest["noise"]["name"] == name
    assert label_files.load(noisy.save(tmp_path / "saved")).hash == noisy.label_set.hash
    stored = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    given = json.loads(json.dumps(noisy.manifest))
    files = {"traces_sha256", "manifest_sha256"} if kind == "tokens" else set()
    assert {key: stored[key] for key in stored.keys() - files} == {key: given[key] for key in given.keys() - files}


@pytest.mark.parametrize("name", ["web", "instance_dependent"])
def test_noise_that_depends_on_inputs_needs_them(name):
    with pytest.raises(nb.UserError, match=f"X: the labels of `{name}` depend on the inputs; give them"):
        nb.noise(name).apply(y=Y)


def test_the_container_does_not_change_the_labels():
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    for name in ("pair_flip", "instance_dependent"):
        first = nb.noise(name).apply(images, Y)
        for inputs, labels in (
            (torch.from_numpy(images), torch.from_numpy(Y)),
            (images.transpose(0, 2, 3, 1), Y.tolist()),
        ):
            again = nb.noise(name).apply(inputs, labels)
            assert list(again.y) == first.y.tolist()
            assert again.manifest == first.manifest


def test_a_dataset_gets_the_labels_of_the_harness(tmp_path):
    """`noisybench labels create digits noise=... ` and `nb.noise(...).apply(nb.load_dataset("digits"))` are the same."""
    for name in ("pair_flip", "instance_dependent"):
        arguments = ["labels", "create", "digits", f"noise={name}", "noise.rate=0.3", "-o", str(tmp_path / name)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        stored = label_files.load(tmp_path / name)
        noisy = nb.noise(name, rate=0.3).apply(nb.load_dataset("digits"))
        assert noisy.label_set.hash == stored.hash
        np.testing.assert_array_equal(noisy.y["train"], stored.train)
        np.testing.assert_array_equal(noisy.y["validation"], stored.validation)
        assert [len(mask) for mask in noisy.is_mislabeled.values()] == [len(stored.train), len(stored.validation)]
        assert noisy.is_mislabeled["train"].mean() == noisy.rate


Y = np.arange(60) % 3
NAMES = np.array(["bird", "cat", "horse"])
NOISE = nb.noise("symmetric_exclusive", rate=0.5)
EXPECTED = NOISE.apply(y=Y).y


def test_text_and_numbers_have_the_same_noise_if_the_classes_have_the_same_names():
    noisy = NOISE.apply(y=NAMES[Y].tolist())
    assert noisy.class_names == ("bird", "cat", "horse")
    assert all(isinstance(label, str) for label in noisy.y)
    by_number = NOISE.apply(y=Y, class_names=NAMES)
    assert NAMES[by_number.y].tolist() == noisy.y


def test_a_series_keeps_its_index_and_a_tensor_its_type():
    series = pd.Series(Y, index=[f"row {row}" for row in range(60)], name="label")
    noisy = NOISE.apply(y=series)
    assert noisy.y.index.equals(series.index)
    assert noisy.y.name == "label"
    np.testing.assert_array_equal(noisy.y, EXPECTED)
    tensor = NOISE.apply(y=torch.from_numpy(Y).to(torch.int32)).y
    assert tensor.dtype == torch.int32
    np.testing.assert_array_equal(tensor, EXPECTED)


def test_a_frame_comes_back_with_another_column():
    frame = pd.DataFrame({"width": np.arange(60.0), "label": Y}, index=np.repeat(np.arange(30), 2))
    noisy = NOISE.apply(frame)
    pd.testing.assert_frame_equal(noisy.y, frame.assign(label=EXPECTED))
    assert frame.label.tolist() == Y.tolist(), "the given frame must not change"
    renamed = frame.rename(columns={"label": "kind"})
    pd.testing.assert_frame_equal(NOISE.apply(renamed, "kind").y, renamed.assign(kind=EXPECTED))
    dependent = nb.noise("instance_dependent").apply(frame)
    assert dependent.y.columns.tolist() == ["width", "label"]
    assert 0 < dependent.rate < 1
    table = pa.table({"width": np.arange(60.0), "label": NAMES[Y]})
    assert NOISE.apply(table).y.schema == table.schema
    with pytest.raises(nb.UserError, match="y: name the column with the labels; X has the columns width, kind"):
        NOISE.apply(renamed)
    with pytest.raises(nb.UserError, match="y: X has no column `kinds`; did you mean `kind`"):
        NOISE.apply(renamed, "kinds")


class Pictures(torch.utils.data.Dataset):
    """Data set in the style of torchvision, which must not be read for its labels."""

    classes = ("bird", "cat", "horse")

    def __init__(self, transform=None):
        self.targets, self.transform, self.reads = Y.tolist(), transform, 0
        self.images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)

    def __len__(self):
        return 60

    def __getitem__(self, index):
        self.reads += 1
        image = torch.from_numpy(self.images[index]) / 255
        return (self.transform(image) if self.transform else image), self.targets[index]


def test_a_torch_dataset_yields_noisy_labels():
    data = Pictures()
    noisy = NOISE.apply(data)
    assert data.reads < 10, "labels are read without decoding images"
    expected = NOISE.apply(y=Y, class_names=NAMES).y
    loaded = next(iter(torch.utils.data.DataLoader(noisy.y, batch_size=60)))
    np.testing.assert_array_equal(loaded[1], expected)
    torch.testing.assert_close(loaded[0], torch.from_numpy(data.images) / 255)
    assert isinstance(noisy.y[0][1], int)
    tensors = torch.utils.data.TensorDataset(torch.arange(60.0)[:, None], torch.from_numpy(Y))
    pairs = NOISE.apply(tensors).y
    np.testing.assert_array_equal([label for _, label in pairs], EXPECTED)
    assert pairs[3][1].dtype == torch.int64
    half = torch.utils.data.Subset(tensors, range(1, 60, 2))
    assert [int(label) for _, label in NOISE.apply(half).y] == NOISE.apply(y=Y[1::2]).y.tolist()
    records = [{"image": row, "label": int(label)} for row, label in enumerate(Y)]

    class Records(torch.utils.data.Dataset):
        def __len__(self):
            return len(records)

        def __getitem__(self, index):
            return records[index]

    assert NOISE.apply(Records()).y[5] == {"image": 5, "label": EXPECTED[5]}


def test_a_torch_dataset_of_images_gets_noise_that_depends_on_them():
    dependent = nb.noise("instance_dependent", rate=0.4)
    noisy = dependent.apply(Pictures())
    np.testing.assert_array_equal(
        [label for _, label in noisy.y], dependent.apply(Pictures().images, Y, class_names=NAMES).y
    )
    web = nb.noise("web", out_of_distribution=0.5).apply(Pictures())
    replaced = [not torch.equal(web.y[row][0], Pictures()[row][0]) for row in range(60)]
    assert replaced == web.is_mislabeled.tolist()
    with pytest.raises(nb.UserError, match="item 0 changes each time it is read, so that its transforms are random"):
        dependent.apply(Pictures(transform=lambda image: (image + torch.rand(())) / 2))


def test_replaced_images_come_back_in_the_layout_of_the_given_ones():
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    noisy = nb.noise("web", out_of_distribution=0.5).apply(images, Y)
    assert noisy.X.shape == images.shape
    changed = (images != noisy.X).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, noisy.is_mislabeled)
    assert 0.2 < changed.mean() < 0.8
    assert NOISE.apply(images, Y).X is images
    with pytest.raises(nb.UserError, match="holds features"):
        nb.noise("web").apply(np.eye(60), Y)


def test_hugging_face_data_sets_keep_their_features():
    features = hugging_face.Features(
        {"label": hugging_face.ClassLabel(names=NAMES.tolist()), "text": hugging_face.Value("string")}
    )
    data = hugging_face.Dataset.from_dict({"label": Y.tolist(), "text": [f"text {row}" for row in range(60)]}, features)
    noisy = NOISE.apply(data)
    assert noisy.class_names == ("bird", "cat", "horse")
    assert noisy.y.features == features
    assert noisy.y["label"][:] == NOISE.apply(y=Y, class_names=NAMES).y.tolist()
    assert noisy.y["text"][:] == data["text"][:]
    splits = hugging_face.DatasetDict(train=data, validation=data.select(range(30)), test=data.select(range(10)))
    noisy = NOISE.apply(splits)
    assert isinstance(noisy.y, hugging_face.DatasetDict)
    assert noisy.y["test"]["label"][:] == splits["test"]["label"][:], "the test split stays clean"
    assert set(noisy.is_mislabeled) == {"train", "validation"}
    for name, mask in noisy.is_mislabeled.items():
        np.testing.assert_array_equal(np.array(noisy.y[name]["label"][:]) != np.array(splits[name]["label"][:]), mask)
    with pytest.raises(nb.UserError, match="IterableDataset, which has no positions"):
        NOISE.apply(data.to_iterable_dataset())


def test_integers_of_data_sets_with_class_names_are_indices():
    features = hugging_face.Features({"label": hugging_face.ClassLabel(names=["1", "2", "3"])})
    data = hugging_face.Dataset.from_dict({"label": [1, 2, 1]}, features)
    assert nb.noise("clean").apply(data).y["label"][:] == [1, 2, 1]
    pictures = Pictures()
    pictures.classes = ("1", "2", "3")
    half = torch.utils.data.Subset(pictures, [1, 2, 4])
    noisy = nb.noise("clean").apply(half)
    assert noisy.class_names == ("1", "2", "3")
    assert [label for _, label in noisy.y] == [1, 2, 1]


def test_a_dictionary_of_frames_is_like_splits():
    frame = pd.DataFrame({"width": np.arange(60.0), "label": Y + 1})
    splits = {"train": frame, "val": frame[:30], "test": frame[:10]}
    noisy = NOISE.apply(splits)
    pd.testing.assert_frame_equal(noisy.y["test"], frame[:10])
    assert set(noisy.is_mislabeled) == {"train", "val"}
    assert (noisy.y["val"].label != frame[:30].label).tolist() == noisy.is_mislabeled["val"].tolist()
    assert set(noisy.y["train"].label) == {1, 2, 3}


def test_hugging_face_images_get_noise_that_depends_on_them():
    pictures = Pictures()
    images = [Image.fromarray(image.transpose(1, 2, 0)) for image in pictures.images]
    features = hugging_face.Features(
        {"image": hugging_face.Image(), "label": hugging_face.ClassLabel(names=NAMES.tolist())}
    )
    data = hugging_face.Dataset.from_dict({"image": images, "label": Y.tolist()}, features)
    noisy = nb.noise("instance_dependent").apply(data)
    expected = nb.noise("instance_dependent").apply(pictures.images, Y, class_names=NAMES)
    assert noisy.y["label"][:] == expected.y.tolist()
    web = nb.noise("web", out_of_distribution=0.5).apply(data)
    changed = [np.asarray(web.y[row]["image"]).tolist() != np.asarray(images[row]).tolist() for row in range(60)]
    assert changed == web.is_mislabeled.tolist()


def test_masks_have_any_form():
    masks = np.zeros((6, 16, 16), np.uint8)
    masks[:, 4:12, 4:12] = 1
    masks[:, 0, 0] = 255
    noisy = nb.noise("morph_disc").apply(y=masks)
    assert noisy.y.shape == masks.shape
    assert (noisy.y[:, 0, 0] == 255).all()
    assert noisy.is_mislabeled.shape == masks.shape
    assert noisy.is_mislabeled.any()
    assert not noisy.is_mislabeled[:, 0, 0].any()
    tensor = nb.noise("morph_disc").apply(torch.zeros(6, 3, 16, 16), torch.from_numpy(masks).long())
    np.testing.assert_array_equal(tensor.y.numpy(), noisy.y)
    pictures = [(Image.fromarray(masks[row]), Image.fromarray(masks[row])) for row in range(6)]
    data = torch.utils.data.StackDataset([a for a, _ in pictures], [b for _, b in pictures])
    np.testing.assert_array_equal(
        np.stack([np.asarray(mask) for _, mask in nb.noise("morph_disc").apply(data).y]), noisy.y
    )


def solved(count=12):
    return [
        {
            "prompt": f"Ann has {n} clips and buys 3.",
            "response": f"{n}+3 = <<{n}+3={n + 3}>>{n + 3} clips.\n#### {n + 3}",
        }
        for n in range(count)
    ]


def test_traces_are_texts_or_records():
    noise = nb.noise("cot_dynamic", intensity=0.5)
    records = solved()
    noisy = noise.apply(records)
    assert [record["prompt"] for record in noisy.y] == [record["prompt"] for record in records]
    assert noisy.is_mislabeled.any()
    texts = noise.apply([record["prompt"] for record in records], [record["response"] for record in records])
    assert texts.y == [record["response"] for record in noisy.y]
    chats = [
        {"messages": [{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["response"]}]}
        for r in records
    ]
    assert [chat["messages"][1]["content"] for chat in noise.apply(chats).y] == texts.y
    data = hugging_face.Dataset.from_list(records)
    assert noise.apply(data, "response").y["response"][:] == texts.y
    assert nb.noise("clean").apply(records).y == records


def test_parameters_are_numbers_of_python_or_numpy():
    given = nb.noise("pair_flip", rate=np.float32(0.25), seed=np.int64(3))
    assert {name: given.parameters[name] for name in ("rate", "seed")} == {"rate": 0.25, "seed": 3}
    assert len(nb.load_dataset("digits", train_size=np.int64(100)).train) == 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nb.noise("pair_flop"), "noise: unknown noise model `pair_flop`; did you mean `pair_flip`"),
        (lambda: nb.noise("pair_flip", rat=0.2), "noise: unknown parameter `rat`; did you mean `rate`"),
        (lambda: NOISE.apply(), r"y: give the labels, as in apply\(X, y\)"),
        (lambda: NOISE.apply(Y), r"y: give the labels of X; labels alone are apply\(y=labels\)"),
        (lambda: nb.noise(["pair_flip"]), "noise: must be the name of a noise model, but got"),
        (lambda: NOISE.apply(y={"a": 0, "b": 1}), "y must be one label for each example"),
        (lambda: NOISE.apply(y={0, 1}), "y must be one label for each example"),
        (lambda: NOISE.apply(nb.load_dataset("digits").train), "X: is one split; pass the whole dataset"),
        (lambda: nb.noise("instance_dependent").apply(sparse.eye(3), [0, 1, 2]), r"sparse matrix; pass X.toarray\(\)"),
        (lambda: nb.noise("morph_disc").apply(np.zeros((1, 3, 9, 9)), np.eye(8)[None]), "each pixel needs one label"),
        (lambda: NOISE.apply(y=torch.tensor(1)), "y must have an entry for each example, but is the single value"),
        (lambda: NOISE.apply(np.eye(3), [0, 1]), "X has 3 examples, but y has 2 labels"),
        (lambda: NOISE.apply(y=[0, 0, 0]), "y has the one class `0`, but at least two are needed"),
        (lambda: NOISE.apply(y=[0, 1, -1]), "y: entry 2 is -1, which often stands for no label"),
        (lambda: NOISE.apply(y=[0, 1, 0.5]), "y must be integers, but entry 2 is 0.5"),
        (lambda: NOISE.apply(y=np.full((4, 2), 0.5)), "y are probabilities of 2 classes"),
        (lambda: nb.noise("morph_disc").apply(y=[0, 1]), "`morph_disc` corrupts masks, but the targets .* are classes"),
        (lambda: NOISE.apply(y=np.eye(8, dtype=np.uint8)[None]), "corrupts classes, but the targets .* are masks"),
        (lambda: nb.noise("cot_static").apply(["1+1"], [2]), "y: row 0 must be a text, but is 2"),
        (lambda: nb.noise("cot_static").apply(["1+1"], ["2", "3"]), "X has 1 prompts, but y has 2 responses"),
        (lambda: nb.noise("asymmetric").apply(y=["a", "b"]), "noise.map: maps are built in for CIFAR-10"),
        (lambda: NOISE.apply(torch.utils.data.DataLoader(Pictures())), "X is a DataLoader, whose order changes"),
        (lambda: nb.noise("instance_dependent").apply(["a", "b"], [0, 1]), "the dataset holds texts"),
        (lambda: NOISE.apply({"test": Pictures()}), "X: its splits are test, of which none is the training split"),
        (lambda: nb.noise("human").apply(y=[0, 1]), "human labels exist for CIFAR-10 and CIFAR-100"),
        (lambda: nb.noise("from_file").apply(y=[0, 1]), "noise.path: set the file or folder with the labels"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(call, message):
    with pytest.raises(nb.UserError, match=message):
        call()


def test_a_saved_label_set_comes_back(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    for name in ("pair_flip", "instance_dependent", "web"):
        noisy = nb.noise(name).apply(images, Y)
        again = nb.noise("from_file", path=noisy.save(tmp_path / name)).apply(images, Y)
        np.testing.assert_array_equal(again.y, noisy.y)
        np.testing.assert_array_equal(again.X, noisy.X)
        assert again.label_set.hash == noisy.label_set.hash
    with pytest.raises(nb.UserError, match="already contains a different label set"):
        NOISE.apply(images, Y).save(tmp_path / "web")
    with pytest.raises(nb.UserError, match="belongs to the dataset"):
        nb.noise("from_file", path=tmp_path / "pair_flip").apply(y=Y[::-1].copy())


def test_a_table_of_labels_is_read_by_position(tmp_path):
    (tmp_path / "labels.csv").write_text("\n".join(["observed", *map(str, EXPECTED)]) + "\n")
    noisy = nb.noise("from_file", path=tmp_path / "labels.csv").apply(y=Y)
    np.testing.assert_array_equal(noisy.y, EXPECTED)
    gaps = [f"{row},{label if row else ''}" for row, label in enumerate(Y)]
    (tmp_path / "gaps.csv").write_text("\n".join(["index,observed", *gaps]))
    with pytest.raises(nb.UserError, match="1 of 60 examples have no observed label, the first in row 0"):
        nb.noise("from_file", path=tmp_path / "gaps.csv").apply(y=Y)


def test_what_is_shown_is_one_line():
    noisy = NOISE.apply(y=Y)
    assert repr(NOISE) == "noise: symmetric_exclusive(rate=0.5)"
    assert repr(noisy) == f"60 labels of 3 classes, {100 * noisy.rate:.1f} % incorrect: symmetric_exclusive(rate=0.5)"
    assert noisy.matrix.shape == (3, 3)
    assert NOISE.parameters == {"seed": 0, "rate": 0.5}
    assert len(noisy.manifest["manifest_sha256"]) == 64
