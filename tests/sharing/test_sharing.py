"""Label sets are published and copied without a change, and what is damaged, foreign or hostile is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import noisybench as nb
from noisybench.config.registry import get_entry
from noisybench.config.resolve import resolve
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.data.label_sets.label_set import LabelSet, make_label_set
from noisybench.data.label_sets.manifest import manifest_digest, noise_entry
from noisybench.data.labels.verification import Verification, VerifiedRows
from noisybench.data.labels.votes import Votes
from noisybench.errors import UserError
from noisybench.runs.preparation import prepare_run
from noisybench.sharing import index as index_files
from noisybench.sharing.transfer import read_published_card
from tests.cli.test_commands import accepted, refused
from tests.helpers import toy_dataset, toy_masks, toy_traces
from tests.sharing.servers import Hub, file_server

Made = tuple[Path, LabelSet, Dataset]


def make(folder: Path, name: str = "pair_flip", dataset: Dataset | None = None, **parameters: Any) -> Made:
    """Return the folder of a label set, the label set, and its dataset."""
    dataset = dataset or toy_dataset()
    labels = get_entry("noise_models", name).load_class()(**parameters).apply(dataset)
    return label_files.save(labels, dataset, folder), labels, dataset


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path / "made", rate=0.3)


@pytest.fixture
def published(made: Made, tmp_path: Path) -> Path:
    nb.push_label_set(made[0], tmp_path / "published", license="CC-BY-4.0")
    return tmp_path / "published"


@pytest.fixture(params=["folder", "file", "memory", "http", "hub"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Address to push to, and address to pull from."""
    import fsspec

    if request.param == "folder":
        yield "shared/labels", "shared/labels"
    elif request.param == "file":
        yield f"file://{tmp_path}/shared/labels", f"file://{tmp_path}/shared/labels"
    elif request.param == "memory":
        yield "memory://shared/labels", "memory://shared/labels"
        fsspec.filesystem("memory").store.clear()
        fsspec.filesystem("memory").pseudo_dirs[:] = [""]
    elif request.param == "http":
        (tmp_path / "served").mkdir()
        with file_server(tmp_path / "served") as url:
            yield "served/labels", f"{url}/labels"
    else:
        with Hub().serve() as url:
            monkeypatch.setenv("HF_ENDPOINT", url)
            yield "hf://datasets/ann/labels", "hf://datasets/ann/labels"


def test_a_label_set_comes_back_from_every_place(made: Made, place: tuple[str, str]) -> None:
    folder, labels, dataset = made
    pushed = nb.push_label_set(folder, place[0], license="cc-by-4.0", source="drawn at random", citation="Ann 2026")
    pulled = nb.pull_label_set(place[1], sha256=pushed[:12])
    assert pulled == Path("labels")
    assert pushed == labels.hash == label_files.load(pulled).hash
    again = get_entry("noise_models", "from_file").load_class()(path=str(pulled)).apply(dataset)
    assert again.hash == labels.hash
    card = read_published_card(pulled)
    assert card is not None
    assert (card.license, card.source, card.citation) == ("CC-BY-4.0", "drawn at random", "Ann 2026")


@pytest.mark.parametrize("kind", ["masks", "traces", "replaced images", "votes", "verified labels"])
def test_all_kinds_of_labels_come_back(kind: str, tmp_path: Path) -> None:
    if kind == "masks":
        folder, labels, dataset = make(tmp_path / "made", "pixel_flip", toy_masks())
    elif kind == "traces":
        folder, labels, dataset = make(tmp_path / "made", "cot_static", toy_traces())
    elif kind == "replaced images":
        folder, labels, dataset = make(tmp_path / "made", "web")
    else:
        dataset = toy_dataset()
        labels = labels_of_people(dataset, kind)
        folder = label_files.save(labels, dataset, tmp_path / "made")
    nb.push_label_set(folder, "memory://kinds", license="unknown", replace=True)
    copy = nb.pull_label_set("memory://kinds", "copy")
    stored = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}
    assert stored == {name: (copy / name).read_bytes() for name in stored}
    assert label_files.load(copy).manifest == labels.manifest


def labels_of_people(dataset: Dataset, kind: str) -> LabelSet:
    """Return labels that several annotators have given, or that people have verified."""
    train, validation = dataset.train.targets, dataset.validation.targets
    rows, one = dataset.train.index[:2], np.zeros(2, np.int64)
    votes = Votes(("ann", "bob"), rows, np.array([0, 1]), one) if kind == "votes" else None
    verified = {"train": VerifiedRows(rows, one, one, one)}
    verification = Verification(verified, of_dataset=False) if votes is None else None
    return make_label_set(
        dataset,
        train,
        validation,
        noise_entry("people", "labels of people"),
        None,
        votes=votes,
        verification=verification,
    )


def test_a_run_trains_on_the_labels_that_were_published(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    accepted(capsys, monkeypatch, "labels", "create", "digits", "noise=pair_flip", "noise.rate=0.3", "-o", "made")
    accepted(
        capsys, monkeypatch, "labels", "push", "made", "shared", "--license", "cc-by-4.0", "--citation", "Ann 2026"
    )
    text = accepted(capsys, monkeypatch, "labels", "pull", "shared", "-o", "copy")
    assert "Use it with noise=from_file noise.path=copy" in text
    text = accepted(capsys, monkeypatch, "labels", "info", "copy")
    assert "license        CC-BY-4.0" in text
    assert "citation       Ann 2026" in text
    run, copied = (
        prepare_run(resolve({"dataset": "digits", "noise": noise})).labels
        for noise in ({"name": "pair_flip", "rate": 0.3}, {"name": "from_file", "path": "copy"})
    )
    assert run.hash == copied.hash


def test_the_commands_ask_for_a_license(made: Made, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    message = refused(capsys, monkeypatch, "labels", "push", str(made[0]), "shared")
    assert message.startswith("error: --license: is missing")


def test_the_same_label_set_is_pushed_and_pulled_once(made: Made, place: tuple[str, str], tmp_path: Path) -> None:
    other = make(tmp_path / "other", rate=0.1)[0]
    for _ in range(2):
        nb.push_label_set(made[0], place[0], license="cc-by-4.0")
        times = {path.name: path.stat().st_mtime_ns for path in nb.pull_label_set(place[1], "copy").iterdir()}
    nb.pull_label_set(place[1], "copy")
    assert times == {path.name: path.stat().st_mtime_ns for path in Path("copy").iterdir()}
    with pytest.raises(UserError, match="has another label set, or another card; use --replace"):
        nb.push_label_set(other, place[0], license="cc-by-4.0")
    nb.push_label_set(other, place[0], license="cc-by-4.0", replace=True)
    with pytest.raises(
        UserError, match="copy: has other files already; choose another folder with --output, or use --r"
    ):
        nb.pull_label_set(place[1], "copy")
    nb.pull_label_set(place[1], "copy", replace=True)
    assert label_files.load(Path("copy")).hash == label_files.load(other).hash


def test_files_of_others_stay(made: Made, published: Path) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine: has other files .notes.txt., which are not those of a label set"):
        nb.push_label_set(made[0], "mine", license="unknown", replace=True)
    with pytest.raises(UserError, match=r"mine has other files .notes.txt., which --replace would delete"):
        nb.pull_label_set(published, "mine", replace=True)
    assert os.listdir("mine") == ["notes.txt"]
    with pytest.raises(UserError, match="is the folder of the label set itself"):
        nb.push_label_set(made[0], made[0], license="cc-by-4.0")


def test_an_interrupted_upload_is_no_label_set_and_can_be_repeated(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    upload = MemoryFileSystem.put_file

    def interrupted(self: Any, source: str, target: str, **options: Any) -> None:
        if target.endswith("labels.parquet"):
            raise OSError("connection reset")
        upload(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", interrupted)
        with pytest.raises(UserError, match=r"memory://broken: cannot be reached \(OSError: connection reset\)"):
            nb.push_label_set(made[0], "memory://broken", license="cc-by-4.0")
    with pytest.raises(UserError, match="no label set is published there"):
        nb.pull_label_set("memory://broken")
    with pytest.raises(UserError, match="has files of a label set, but no index of them; use --replace"):
        nb.push_label_set(made[0], "memory://broken", license="cc-by-4.0")
    nb.push_label_set(made[0], "memory://broken", license="cc-by-4.0", replace=True)
    assert label_files.load(nb.pull_label_set("memory://broken")).hash == made[1].hash


def test_an_interrupted_copy_leaves_nothing(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    before = sorted(os.listdir(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("noisybench.sharing.transfer._verify", interrupt)
        with pytest.raises(KeyboardInterrupt):
            nb.pull_label_set(published, tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == before
    # A killed process has left this; its id is above the largest one.
    (tmp_path / ".partial-4194305.copy.00000000").mkdir()
    # Killed between two renames, while it replaced the folder `copy.v2`.
    (tmp_path / ".partial-4194305.copy.v2.00000000" / "old").mkdir(parents=True)
    nb.pull_label_set(published, tmp_path / "copy")
    assert (tmp_path / ".partial-4194305.copy.v2.00000000" / "old").exists(), "the files of another folder stay"
    with pytest.raises(UserError, match="no label set is published there"):
        nb.pull_label_set(tmp_path / "nothing", tmp_path / "copy.v2")
    (published / "labels.parquet").unlink()
    with pytest.raises(UserError, match=r"labels.parquet is missing"):
        nb.pull_label_set(published, tmp_path / "copy.v2")
    assert (tmp_path / "copy.v2").is_dir(), "the folder has its name again"
    (tmp_path / "copy.v2").rmdir()
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "copy"])


def test_labels_in_csv_are_published_as_parquet_without_folders_of_this_machine(tmp_path: Path) -> None:
    dataset = toy_dataset()
    table = tmp_path / "private" / "mine.csv"
    table.parent.mkdir()
    observed = (dataset.train.targets + 1) % dataset.num_classes
    rows = [f"{index},{label}" for index, label in zip(dataset.train.index, observed, strict=True)]
    rows += [
        f"{index},{label}" for index, label in zip(dataset.validation.index, dataset.validation.targets, strict=True)
    ]
    table.write_text("index,observed\n" + "\n".join(rows))
    noise = get_entry("noise_models", "from_file").load_class()(path=str(table))
    labels = noise.apply(dataset)
    label_files.save(labels, dataset, tmp_path / "csv", format="csv")
    nb.push_label_set(tmp_path / "csv", "shared", license="mit")
    assert (Path("shared/labels.parquet")).exists()
    assert not [path for path in Path("shared").iterdir() if b"private" in path.read_bytes()]
    assert json.loads(Path("shared/manifest.json").read_text())["noise"]["parameters"]["path"] == "mine.csv"
    assert label_files.load(nb.pull_label_set("shared", "copy")).hash == labels.hash


def test_the_card_can_be_read_by_the_hub(made: Made, published: Path) -> None:
    from huggingface_hub import DatasetCard

    text = (published / "README.md").read_text()
    head = DatasetCard(text).data.to_dict()
    assert head["license"] == "cc-by-4.0"
    assert head["configs"] == [{"config_name": "labels", "data_files": "labels.parquet"}]
    assert head["noisybench"]["label_set"] == made[1].hash
    assert "noise=from_file" in text


@pytest.mark.parametrize(
    ("license", "head"),
    [
        ("unknown", {"license": "unknown"}),
        (
            "elastic-2.0",
            {"license": "other", "license_name": "elastic-2.0", "license_link": "https://spdx.org/licenses/"},
        ),
        ("gpl-3.0-only", {"license": "gpl-3.0"}),
    ],
)
def test_every_license_has_a_name_that_the_hub_takes(made: Made, license: str, head: dict[str, str]) -> None:
    nb.push_label_set(made[0], "shared", license=license)
    card = next(yaml.safe_load_all(Path("shared/README.md").read_text().split("\n---\n")[0]))
    assert {name: value for name, value in card.items() if name.startswith("license")} == head


def _change(name: str, change: Callable[[bytes], bytes], listed: bool = False) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        if listed:
            _list_again(folder)

    return apply


def _list_again(folder: Path) -> None:
    """Write an index that fits the changed files, as an attacker would."""
    stored = json.loads((folder / "files.json").read_text())
    content = index_files.make_index(folder, stored["label_set"], list(stored["files"]))
    (folder / "files.json").write_bytes(content)


def _index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "files.json").read_text())
        change(content)
        (folder / "files.json").write_text(json.dumps(content))

    return apply


ENTRY = {"bytes": 1, "sha256": "0" * 64}


def _many_rows(folder: Path) -> None:
    import pandas

    rows = pandas.DataFrame({"split": ["train"], "index": [0], "clean": [0], "observed": [0]})
    pandas.concat([rows] * 5000).to_parquet(folder / "labels.parquet", index=False)
    _list_again(folder)


def _unpickling(folder: Path) -> None:
    (folder / "labels.parquet").unlink()
    np.savez(folder / "masks.npz", allow_pickle=True, train_index=np.array([print], dtype=object))
    stored = json.loads((folder / "files.json").read_text())
    stored["files"]["masks.npz"] = stored["files"].pop("labels.parquet")
    (folder / "files.json").write_text(json.dumps(stored))
    _list_again(folder)


def _other_labels(folder: Path) -> None:
    import pandas

    table = pandas.read_parquet(folder / "labels.parquet")
    table["observed"] = (table["observed"] + 1) % 2
    table.to_parquet(folder / "labels.parquet", index=False)
    _list_again(folder)


def _other_noise(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = "0" * 64
    manifest["manifest_sha256"] = manifest_digest(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _list_again(folder)


BOMB = "---\nnoisybench:\n  a: &a [x, x]\n  b: &b [*a, *a]\n---\n"

HOSTILE = {
    "a changed byte": (_change("labels.parquet", lambda data: data[:-9] + b"?" + data[-8:]), "labels.parquet has the SHA-256"),
    "a longer file": (_change("labels.parquet", lambda data: data + b"?"), "labels.parquet has more than"),
    "a shorter file": (_change("manifest.json", lambda data: data[:-1]), "manifest.json has .* of .* bytes"),
    "a missing file": (lambda folder: (folder / "labels.parquet").unlink(), "labels.parquet is missing"),
    "no index": (lambda folder: (folder / "files.json").unlink(), "no label set is published there"),
    "a huge index": (_change("files.json", lambda data: b" " * 2**21), "is larger than 1048576 bytes"),
    "text as index": (_change("files.json", lambda data: b"<html>404</html>"), "is no index of a label set"),
    "nested index": (_change("files.json", lambda data: b"[" * 10**5), "is no index of a label set"),
    "another format": (_index(lambda content: content.update(format=2)), "format: input should be 1"),
    "a path upwards": (_index(lambda content: content["files"].update({"../evil": ENTRY})), "is no index of a label set"),
    "an absolute path": (_index(lambda content: content["files"].update({"/evil": ENTRY})), "is no index of a label"),
    "a program": (_index(lambda content: content["files"].update({"load.py": ENTRY})), "is no index of a label set"),
    "a pickle": (_index(lambda content: content["files"].update({"labels.pkl": ENTRY})), "is no index of a label set"),
    "no card": (_index(lambda content: content["files"].pop("README.md")), "README.md must be listed"),
    "a large file": (_index(lambda content: content["files"]["labels.parquet"].update(bytes=10**12)), "use --max-gb"),
    "a negative size": (_index(lambda content: content["files"]["labels.parquet"].update(bytes=-1)), "is no index of a"),
    "another hash": (_index(lambda content: content.update(label_set="0" * 64)), "belong to different label sets"),
    "other labels": (_other_labels, "the labels do not match their manifest"),
    "another manifest": (_other_noise, "the labels do not match their manifest"),
    "many rows": (_many_rows, "has 5000 rows, but at most"),
    "objects": (_unpickling, "contains Python objects, which could run code"),
    "a card without a head": (_change("README.md", lambda data: b"# Labels", True), "it has no head in YAML"),
    "a card with objects": (
        _change("README.md", lambda data: b"---\nnoisybench: !!python/object/apply:os.getcwd []\n---\n", True),
        "is no card of a label set",
    ),
    "a card with aliases": (_change("README.md", lambda data: BOMB.encode(), True), "it has aliases"),
    "a card with other fields": (
        _change("README.md", lambda data: data.replace(b"  license: CC", b"  licence: CC"), True), "noisybench.license",
    ),
    "another card": (
        _change("README.md", lambda data: data.replace(b"label_set: ", b"label_set: '" + b"0" * 64 + b"' #"), True),
        "belong to different label sets",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_hostile_content_is_refused_and_leaves_nothing(published: Path, tmp_path: Path, name: str) -> None:
    change, message = HOSTILE[name]
    change(published)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        nb.pull_label_set(published, tmp_path / "copies" / "copy")
    assert ".partial" not in str(error.value), "messages name the source, not a temporary folder"
    shutil.rmtree(tmp_path / "copies", ignore_errors=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_local_index_and_copy_that_were_changed_are_replaced_only_on_request(published: Path) -> None:
    copy = nb.pull_label_set(published, "copy")
    (copy / "labels.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="copy: has other files already"):
        nb.pull_label_set(published, "copy")
    nb.pull_label_set(published, "copy", replace=True)
    assert label_files.load(copy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sha256": "0" * 12}, "is the label set .*, but --sha256 is 000000000000"),
        ({"sha256": "abc"}, "--sha256: must be 8 to 64 hexadecimal digits"),
        ({"max_gb": 1e-6}, "but at most 1e-06 GB are allowed; if you trust the source, use --max-gb"),
    ],
)
def test_another_label_set_than_the_expected_one_is_refused(
    published: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        nb.pull_label_set(published, "copy", **arguments)
    assert not Path("copy").exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "source: must be text or a path, but got ''"),
        (" ", "the address of the label set is empty"),
        ("nothing", "no label set is published there"),
        ("memory://nothing", "no label set is published there"),
        ("http://127.0.0.1:9/labels", r"http://127.0.0.1:9/labels: cannot be reached \(ClientConnectorError.*copy the folder"),
        ("http://ann:secret@127.0.0.1:9/labels", "^http://127.0.0.1:9/labels: cannot be reached"),
        ("s4://bucket/labels", "unknown protocol `s4`"),
        ("hf://models/ann/labels", "expected hf://datasets/USER/NAME"),
        ("hf://datasets/ann/labels", "hf://datasets/ann/labels: cannot be reached .*Without a network"),
    ],
)  # fmt: skip
def test_an_address_without_a_label_set_gives_one_message(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=message) as error:
        nb.pull_label_set(address)
    assert len(error.value.problems) == 1
    assert "secret" not in str(error.value)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(
        UserError, match=r"hf://datasets/ann/labels: needs huggingface_hub; pip install 'noisybench\[share\]'"
    ):
        nb.pull_label_set("hf://datasets/ann/labels")
    with pytest.raises(UserError, match=r"https:// needs noisybench\[share\]; install it with pip"):
        nb.pull_label_set("https://example.org/labels")


def test_the_hub_answers_for_missing_and_closed_datasets_and_old_revisions(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, address = Hub(), "hf://datasets/ann/labels"
    with hub.serve() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(UserError, match="no label set is published there"):
            nb.pull_label_set(address)
        nb.push_label_set(made[0], address, license="cc-by-4.0")
        assert len(hub.commits["ann/labels"]) == 2, "one commit for all files"
        found = hub.files("ann/labels", "main")
        assert found is not None
        assert f"noisybench labels pull {address} " in found[1]["README.md"].decode()
        nb.push_label_set(make(tmp_path / "other", rate=0.1)[0], address, license="cc-by-4.0", replace=True)
        old = nb.pull_label_set(f"{address}@{found[0]}", "old")
        assert label_files.load(old).hash == made[1].hash
        hub.commits["ann/data"] = [{"train.csv": b""}]
        with pytest.raises(UserError, match=r"has other files .train.csv., which are not those of a label set"):
            nb.push_label_set(made[0], "hf://datasets/ann/data", license="cc-by-4.0", replace=True)
        hub.denied.add("ann/labels")
        with pytest.raises(UserError, match=r"access denied .*hf auth login"):
            nb.pull_label_set(address)


def test_a_web_server_is_read_only(made: Made, tmp_path: Path) -> None:
    with (
        file_server(tmp_path) as url,
        pytest.raises(UserError, match="a web server can only be read; push to a folder"),
    ):
        nb.push_label_set(made[0], f"{url}/labels", license="cc-by-4.0")


def test_a_damaged_label_set_is_not_published(made: Made) -> None:
    path = made[0] / "labels.parquet"
    _other_labels_in(path)
    with pytest.raises(UserError, match="the labels do not match their manifest"):
        nb.push_label_set(made[0], "shared", license="cc-by-4.0")
    assert not Path("shared").exists()


def _other_labels_in(path: Path) -> None:
    import pandas

    table = pandas.read_parquet(path)
    table["observed"] = (table["observed"] + 1) % 2
    table.to_parquet(path, index=False)
