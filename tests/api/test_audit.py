"""`nb.audit` takes what people hold in memory, and gives what the command gives."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from torch.utils.data import TensorDataset

import noisybench as nb


def points_and_labels(count=300):
    """Return features of three classes, labels of which every tenth is incorrect, and which are incorrect."""
    clean = np.arange(count) % 3
    is_mislabeled = np.arange(count) % 10 == 0
    points = np.random.default_rng(0).normal(size=(count, 4)) + 5 * np.eye(3, 4)[clean]
    return points.astype(np.float32), np.where(is_mislabeled, (clean + 1) % 3, clean), is_mislabeled


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Audit of a data frame with text labels and an index of its own, one row of which is a copy."""
    points, labels, _ = points_and_labels()
    points[7] = points[4]
    frame = pd.DataFrame(points, columns=list("abcd"), index=[f"row {number}" for number in range(300)])
    frame["animal"] = np.array(["cat", "dog", "owl"])[labels]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("audit"))
        return nb.audit(frame, "animal", progress=False)


def test_suspects_have_the_index_and_the_labels_of_the_given_frame(report):
    _, _, is_mislabeled = points_and_labels()
    incorrect = {f"row {number}" for number in np.flatnonzero(is_mislabeled)}
    assert set(report.suspects.index) == incorrect
    suspect = report.suspects.loc["row 0"]
    assert (suspect["label"], suspect["suggested"]) == ("dog", "cat")
    assert report.scores.index.tolist() == [f"row {number}" for number in range(300)]
    assert set(report.scores.index[report.scores["is_suspect"]]) == incorrect
    assert report.scores["rank"].sort_values().tolist() == list(range(1, 301))
    assert {"posterior", "confident", "neighbors", "label_quality", "confidence"} <= set(report.scores.columns)
    assert (report.suspects["rank"].diff().dropna() == 1).all()


def test_estimates_have_an_interval_and_the_names_of_classes(report):
    low, high = report.rate_interval
    assert low <= 0.1 <= high
    assert report.rate == pytest.approx(0.1, abs=0.02)
    assert report.rate_problem is None
    assert report.classes.index.tolist() == ["cat", "dog", "owl"]
    assert report.classes["labels"].sum() == 300
    assert set(zip(report.pairs["label"], report.pairs["suggested"], strict=True)) == {
        ("dog", "cat"),
        ("owl", "dog"),
        ("cat", "owl"),
    }
    assert report.pairs["suspects"].sum() == 30
    assert report.pairs["probability"].between(0.05, 0.15).all()
    assert report.transition_matrix.loc["cat", "dog"] == pytest.approx(
        report.pairs.set_index("label")["probability"]["dog"]
    )


def test_copies_are_listed_by_group(report):
    assert report.duplicates.index.tolist() == ["row 4", "row 7"]
    assert report.duplicates["kind"].tolist() == ["first", "exact"]
    assert report.duplicates["group"].nunique() == 1
    assert report.scores.loc["row 7", "duplicate_of"] == "row 4"


def test_it_is_shown_as_text_and_in_notebooks_and_saved_as_the_command_saves_it(report, tmp_path):
    assert "estimated noise rate: 10%" in repr(report)
    console = Console(record=True, width=200)
    console.print(report)
    assert "estimated noise rate: 10%" in console.export_text()
    page = report._repr_html_()
    assert "<table" in page
    assert page.count("<tr") == 11  # a heading and ten suspects
    report.to_html(tmp_path / "page.html")
    report.save(tmp_path / "audit")
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == [
        "findings.json",
        "report.html",
        "scores.csv",
        "scores.parquet",
    ]
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "audit" / "report.html").read_bytes()
    table = pd.read_parquet(tmp_path / "audit" / "scores.parquet").sort_values("index")
    assert (table["error_score"].to_numpy() == report.scores["error_score"].to_numpy()).all()


def test_a_file_gives_the_result_of_its_arrays_and_of_the_command(tmp_path, noisybench):
    points, labels, _ = points_and_labels()
    np.savez(tmp_path / "features.npz", train_x=points, train_y=labels)
    status, output = noisybench("audit", str(tmp_path / "features.npz"), "-o", "command")
    assert status == 0
    lines = []
    of_path = nb.audit(tmp_path / "features.npz", folder="path", progress=lines.append)
    assert output.splitlines()[: len(lines)] == lines
    assert output.splitlines()[len(lines) : -2] == list(of_path.summary)
    assert (tmp_path / "path" / "findings.json").read_bytes() == (tmp_path / "command" / "findings.json").read_bytes()
    of_arrays = nb.audit(points, labels.tolist(), progress=False)
    assert (of_arrays.scores["error_score"].to_numpy() == of_path.scores["error_score"].to_numpy()).all()
    assert of_arrays.rate == of_path.rate == json.loads((tmp_path / "path" / "findings.json").read_text())["noise_rate"]


def test_tables_and_data_sets_hold_their_labels():
    points, labels, _ = points_and_labels()
    expected = nb.audit(points, labels, progress=False).scores["error_score"].to_numpy()
    table = pa.table({**{name: points[:, column] for column, name in enumerate("abcd")}, "label": labels})
    pairs = TensorDataset(torch.from_numpy(points), torch.from_numpy(labels))
    for data in (table, table.to_pandas(), pairs):
        report = nb.audit(data, progress=False)
        assert (report.scores["error_score"].to_numpy() == expected).all(), type(data)


def test_predictions_of_any_model_replace_training():
    _, labels, is_mislabeled = points_and_labels()
    probabilities = 0.7 * np.eye(3)[np.arange(300) % 3] + 0.1
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)
    report = nb.audit(images, pd.Series(labels, index=range(1000, 1300)), pred_probs=probabilities, progress=False)
    assert set(report.suspects.index) == set(1000 + np.flatnonzero(is_mislabeled))
    assert report.suspects["label"].dtype.kind == "i"
    texts = nb.audit([f"text {number}" for number in range(300)], labels, pred_probs=probabilities, progress=False)
    assert texts.rate == report.rate


def test_images_are_audited_by_networks_and_datasets_by_their_training_split():
    dataset = nb.load_dataset("digits", train_size=60)
    short = ["budget.network=mlp:8", "budget.epochs=1", "budget.augmentation=none", "execution.num_threads=1"]
    lines = []
    report = nb.audit(dataset, folds=2, overrides=short, progress=lines.append)
    assert [line.partition(",")[0] for line in lines[-2:]] == ["[1/2] trained", "[2/2] trained"]
    assert report.scores.index.tolist() == dataset.train.index.tolist()
    assert report.rate is None
    assert report.rate_interval is None
    assert "there are 60 labels of 10 classes" in report.rate_problem or "not learned" in report.rate_problem
    again = nb.audit(dataset.train.inputs, dataset.train.targets, folds=2, overrides=short, progress=False)
    assert (again.scores["error_score"].to_numpy() == report.scores["error_score"].to_numpy()).all()


def test_masks_are_audited_by_segmentation_networks(tmp_path):
    rng = np.random.default_rng(0)
    masks = np.zeros((12, 16, 16), np.uint8)
    masks[:, 4:12, 4:12] = 1
    images = (masks[..., None] * 150 + rng.integers(0, 60, (12, 16, 16, 3))).astype(np.uint8)
    masks[0] = 0
    short = ["budget.network=unet:4", "budget.epochs=6", "execution.num_threads=1"]
    report = nb.audit(images, masks, folds=2, overrides=short, folder=tmp_path / "audit", pictures=1, progress=False)
    assert report.scores.index.tolist() == list(range(12))
    assert report.pixels.shape == masks.shape
    assert report.classes.index.tolist() == ["0", "1"]
    assert report.num_pictures <= 1
    assert (tmp_path / "audit" / "classes.csv").is_file()
    assert repr(report).startswith("given data: 12 masks of 2 classes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": np.eye(4)}, "y: arrays need labels"),
        ({}, "y: arrays need labels"),
        ({"y": [0, 1, 0, 1]}, "data: give the inputs"),
        ({"data": np.eye(4), "y": [0, 1, 0, 1], "seed": -1}, "seed: must be a whole number of at least 0, but got -1"),
        ({"data": np.eye(4), "y": [0, 1]}, "X has 4 examples, but y has 2 labels"),
        ({"data": np.eye(4), "y": "label"}, "y: 'label' is no column of the given data"),
        ({"data": "digits", "y": [0, 1]}, "y: paths and recipes have labels of their own; leave it out"),
        ({"data": "digit"}, "digit: not a folder .*did you mean `digits`"),
        ({"data": np.eye(4), "y": [0, 1, 0, 1], "folds": 1}, "folds: must be at least 2, but got 1"),
        ({"data": np.eye(4), "y": [0, 1, 0, 1], "size": 64}, "--size: only a backbone has a size"),
        ({"data": np.eye(4), "y": [0, 1, 0, 1], "pictures": 3}, "--pictures: only masks have suspicious pixels"),
        ({"data": np.eye(4), "y": [0, 1, 0, 1], "backbone": "minilm"}, "has features already"),
        ({"data": np.eye(4), "y": [0, 1, 0, 1], "pred_probs": np.eye(4)}, "pred_probs has 4 columns, but there are 2 classes"),
        (
            {"data": np.eye(4), "y": [0, 1, 0, 1], "overrides": "execution.device=mps"},
            "execution.device: `mps` is requested, but torch .* sees no Apple GPU here",
        ),
        ({"data": list("abcd"), "y": [0, 1, 0, 1]}, 'texts are audited by the features of a backbone; pass backbone="minilm"'),
        ({"data": np.eye(4), "y": [0, 1, 0, 1], "overrides": ["budget.epoch=3"]}, "did you mean .*epochs"),
        ({"data": np.zeros((2, 8, 8), np.uint8), "y": np.ones((2, 8, 8), int), "pred_probs": 1}, "--pred-probs: masks are"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_training(arguments, message):
    with pytest.raises(nb.UserError, match=message):
        nb.audit(**arguments, progress=False)
