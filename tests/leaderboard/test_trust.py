"""Trust in submitted specifications: no file, program, download, pickle or plug-in is reached, whatever a record names."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisybench.config import registry
from noisybench.config.registry import KINDS, Entry, list_entries
from noisybench.errors import UserError
from noisybench.leaderboard import trust
from noisybench.leaderboard.nested_components import manifest_without_places, without_places
from noisybench.leaderboard.trust import Refused, TrustPolicy
from tests.leaderboard.changes import changed_record, verdict

FLAGS = {
    "adaptive", "allow_empty_classes", "allow_shared_groups", "allow_unequal_geometry", "allow_unknown_files", "background",
    "center",
    "confidence_penalty", "correct", "cumulative", "download", "drop", "ensemble", "every_slice", "exclude_self", "flip",
    "literal", "partial", "per_class", "protect_small_objects", "residual", "resize", "checksum", "published",
    "split_folders", "strong_on_flagged", "uniform_prior", "calibration", "image_weights", "refine_targets",
    "chat_template", "instances",
}  # fmt: skip
"""Flags of built-in components. Before a name is added here, its flag must be harmless, or declared with access=..."""

DECLARED_FLAGS = {"download": "download", "checksum": "checksum", "published": "weights"}


def parameters() -> list[tuple[Entry, str]]:
    return [(entry, name) for kind in KINDS for entry in list_entries(kind).values() for name in entry.schema.fields]


def test_every_parameter_of_every_component_is_classified() -> None:
    unclassified = [f"{entry.name}.{name}" for entry, name in parameters() if entry.schema.access(name) is None]
    assert unclassified == [], "declare with parameter(..., access=...) what the text gives access to"
    flags = {(name, entry.schema.access(name)) for entry, name in parameters() if entry.schema.fields[name][0] is bool}
    assert {name for name, _ in flags} <= FLAGS
    assert flags == {(name, DECLARED_FLAGS.get(name, "value")) for name, _ in flags}


def test_paths_are_places_whatever_they_declare() -> None:
    for entry, name in parameters():
        if name in entry.schema.paths():
            assert entry.schema.access(name) in ("place", "download"), f"{entry.name}.{name}"


def test_every_network_is_classified() -> None:
    known = trust.NETWORKS_FROM_CODE | trust.NETWORKS_FROM_FILES
    assert known == {name for name, entry in list_entries("networks").items() if entry.module.startswith("noisybench.")}
    assert not trust.NETWORKS_FROM_CODE & trust.NETWORKS_FROM_FILES


def spec(**fields: Any) -> dict[str, Any]:
    return {"dataset": {"name": "digits"}, "noise": {"name": "clean"}, "budget": {"network": "small_cnn"}, **fields}


PRETRAINING = {"dataset": {"name": "image_folder", "root": "/"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a folder": (spec(dataset={"name": "image_folder", "root": "/"}), "dataset.root: .* a file or folder"),
    "a default folder": (spec(dataset={"name": "mnist", "root": "data"}), "dataset.root: .* a file or folder"),
    "a file": (spec(noise={"name": "from_file", "path": "/etc/passwd"}), "noise.path: .* a file or folder"),
    "a list of files": (spec(dataset={"name": "parquet", "train": ["/etc/passwd"]}), "dataset.train: .* a file or folder"),
    "an address": (spec(dataset={"name": "npz", "path": "http://example.org/x.npz"}), "dataset.path: .* a file or folder"),
    "a program": (spec(dataset={"name": "traced_integers", "program": "x.py:Evil"}), "dataset.program: .* program in a file"),
    "a program of traces": (spec(dataset={"name": "trace_file", "program": "x.py:Evil"}), "dataset.program: .* program in a"),
    "no program at all": (spec(dataset={"name": "traced_integers", "program": ["x"]}), "dataset.program: .* program in a file"),
    "a part of a name": (spec(dataset={"name": "image_mask_folder", "mask_suffix": "/../x"}), "dataset.mask_suffix"),
    "a checkpoint": (spec(mitigations=[{"name": "simclr", "checkpoint": "w.pt"}]), "mitigations.simclr.checkpoint"),
    "a checkpoint of a task": (spec(task={"name": "transfer", "checkpoint": "w.pt"}), "task.checkpoint"),
    "a nested folder": (spec(task={"name": "transfer", "pretraining": PRETRAINING}), "task.pretraining.dataset.root: .* file"),
    "a nested network": (
        spec(task={"name": "transfer", "pretraining": {"budget": {"network": "huggingface:x"}}}),
        "task.pretraining.budget.network: .* reads files",
    ),
    "a download": (spec(noise={"name": "human"}), "noise.path: would be downloaded"),
    "published weights": (spec(task={"name": "transfer", "published": True}), "task.published: pre-trained weights would"),
    "a network of files": (spec(budget={"network": "huggingface:../x"}), "budget.network: .* reads files"),
    "an unknown network": (spec(budget={"network": "mine"}), "budget.network: .* of another package"),
    "an unknown component": (spec(dataset={"name": "mine"}), "unknown dataset `mine`"),
    "a path as a component": (spec(dataset={"name": "../x"}), "unknown dataset"),
    "an unknown parameter": (spec(noise={"name": "clean", "path": "/"}), "unknown parameter `path`"),
    "an unknown field": (spec(program="x.py"), "unknown field `program`"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_specification_must_not_reach_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, reason = REFUSED[name]
    # Nothing is built or read from disk before the refusal.
    monkeypatch.setattr(Entry, "load_class", lambda self: pytest.fail("imported"))
    with pytest.raises(Refused, match=reason):
        TrustPolicy().resolve(raw)


def test_the_same_reaches_what_the_verifier_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(trust, "download_missing", lambda specs: [fetched.append(specs[0].title), *specs][1:])
    policy = TrustPolicy([f"dataset.root={tmp_path}"])
    claimed, safe = policy.resolve(spec(dataset={"name": "image_folder"}))
    assert claimed.dataset.parameters["root"] == safe.dataset.parameters["root"] == str(tmp_path)
    policy.check_used()
    nested = TrustPolicy([f"task.pretraining.dataset.root={tmp_path}"])
    raw = spec(task={"name": "transfer", "pretraining": {"dataset": {"name": "image_folder"}}})
    assert nested.resolve(raw)[1].task.parameters["pretraining"]["dataset"]["root"] == str(tmp_path)
    assert fetched == []
    downloads = TrustPolicy(downloads=True)
    assert downloads.resolve(spec(noise={"name": "human"}))[1].noise.name == "human"
    assert downloads.resolve(spec(dataset={"name": "cifar10"}))[1].dataset.parameters["download"] is True
    assert len(fetched) == 2
    with_network = TrustPolicy(networks=["huggingface:x"])
    assert with_network.resolve(spec(budget={"network": "huggingface:x"}))[1].budget.network == "huggingface:x"


def test_downloads_and_checksums_are_the_verifiers() -> None:
    raw = spec(dataset={"name": "cifar10", "download": True, "checksum": False})
    claimed, safe = TrustPolicy().resolve(raw)
    assert (claimed.dataset.parameters["download"], claimed.dataset.parameters["checksum"]) == (True, False)
    assert (safe.dataset.parameters["download"], safe.dataset.parameters["checksum"]) == (False, True)
    safe = TrustPolicy(["dataset.checksum=false"]).resolve(raw)[1]
    assert safe.dataset.parameters["checksum"] is False


@pytest.mark.parametrize("folder", ["2024", "no", "1e3", "a, b", "a: b", "a #b"])
def test_a_place_is_text_whatever_it_looks_like(folder: str) -> None:
    safe = TrustPolicy([f"dataset.root={folder}"]).resolve(spec(dataset={"name": "image_folder"}))[1]
    assert safe.dataset.parameters["root"] == folder


@pytest.mark.parametrize("override", ["mitigations.elr.beta=0.9", "dataset.size=8", "seed=1", "dataset.rot=x"])
def test_overrides_give_places_only(override: str) -> None:
    policy = TrustPolicy([override])
    policy.resolve(spec(dataset={"name": "image_folder"}, mitigations=[{"name": "elr"}]))
    with pytest.raises(UserError, match="no run of the submission takes such a place"):
        policy.check_used()


def test_plugins_run_only_if_the_verifier_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '''
"""Write a file when it is imported."""
from pathlib import Path
from noisybench.data.source import DatasetSource
Path("executed").touch()
class Mine(DatasetSource):
    """A dataset."""
    def read(self):
        raise NotImplementedError
    @classmethod
    def example(cls, folder):
        return {}
'''
    (tmp_path / "mine_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = {**list_entries("datasets"), "mine": Entry("datasets", "mine", "mine_plugin")}
    for module in (
        registry,
        sys.modules["noisybench.config.resolve"],
        sys.modules["noisybench.leaderboard.nested_components"],
    ):
        monkeypatch.setattr(module, "list_entries", lambda kind: known if kind == "datasets" else list_entries(kind))
    with pytest.raises(Refused, match=r"`mine` is a dataset of another package, .* --allow-plugin mine"):
        TrustPolicy().resolve(spec(dataset={"name": "mine"}))
    assert not Path("executed").exists()
    assert TrustPolicy(plugins=["mine"]).resolve(spec(dataset={"name": "mine"}))[1].dataset.name == "mine"


def with_spec(**fields: Any) -> Callable[[Path], None]:
    return changed_record(lambda record: record["spec"].update(fields))


def test_a_program_beside_a_submission_is_not_executed(entry: Path) -> None:
    """Reproduces an attack: a record that names a file of Python."""
    (entry.parent / "helper.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    reference = f"{entry.parent / 'helper.py'}:Evil"
    with_spec(dataset={"name": "traced_integers", "program": reference}, task={"name": "chain_of_thought"})(entry)
    found = verdict(entry)
    assert any("must not name a program in a file" in problem for problem in found.problems)
    assert not Path("executed").exists()


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


def test_a_pickle_beside_a_submission_is_not_read(entry: Path) -> None:
    """Reproduces an attack: a record that names a folder of pickles and switches their checksums off."""
    folder = entry.parent / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("batches.meta", "test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(Command()))
    dataset = {"name": "cifar10", "download": False, "checksum": False}
    with_spec(dataset={**dataset, "root": str(folder.parent)})(entry)
    assert any("must not name a file or folder" in problem for problem in verdict(entry).problems)
    # Without the name, the verifier's own folder is read, with checksums.
    assert folder.parent == Path("data").absolute()
    with_spec(dataset=dataset)(entry)
    with pytest.raises(UserError, match="files are missing or damaged"):
        verdict(entry)
    assert not Path("executed").exists()


def test_data_of_other_tasks_are_not_built(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_spec(dataset={"name": "scenes", "size": 512, "train_images": 10**12})(entry)
    found = verdict(entry)
    assert any("dataset.name: `scenes` is for the task segmentation" in problem for problem in found.problems)


CHECK_WITH_LITTLE_MEMORY = """
import sys
from pathlib import Path
from noisybench.leaderboard import submission
from noisybench.leaderboard.verification import verify
from noisybench.tasks.datasets.digits import Digits
Digits().load()  # imports its libraries, which need memory themselves
*_, found = verify(submission.read(Path(sys.argv[1])), max_memory=0.05)
print(*found.problems)
assert len(bytearray(2**28)) == 2**28, "the limit is gone"
"""


def test_checking_a_run_stays_within_the_memory_that_is_allowed(entry: Path) -> None:
    shifts = [f"noise:{number}" for number in range(1, 3000)]
    with_spec(dataset={"name": "digits", "test_shifts": shifts})(entry)
    # A process of its own: this one may have kept memory that other tests have freed, which needs no allowance.
    command = [sys.executable, "-c", CHECK_WITH_LITTLE_MEMORY, str(entry)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "need more than 0.05 GiB of memory; allow more" in result.stdout


def test_places_are_left_out_of_a_submission() -> None:
    raw = spec(
        dataset={"name": "parquet", "train": "/home/me/train.parquet", "test": None, "label": "label"},
        task={
            "name": "transfer",
            "pretraining": {"dataset": "digits", "noise": {"name": "from_file", "path": "x.csv"}},
        },
    )
    assert without_places(raw) == spec(
        dataset={"name": "parquet", "label": "label"},
        task={"name": "transfer", "pretraining": {"dataset": "digits", "noise": {"name": "from_file"}}},
    )
    with pytest.raises(UserError, match=r"task.checkpoint: runs that start from a file of weights cannot be submitted"):
        without_places(spec(task={"name": "transfer", "checkpoint": "w.pt"}))


def test_a_manifest_of_a_submission_names_no_place() -> None:
    def manifest(**parameters: str) -> dict[str, object]:
        return {"sha256": "0" * 64, "noise": {"name": "human", "parameters": parameters, "details": {}}}

    home = manifest(labels="worse_label", path="/home/me/labels.pt")
    assert manifest_without_places(home) == manifest(labels="worse_label")
    assert manifest_without_places(manifest(labels="worse_label")) == manifest(labels="worse_label")
    assert manifest_without_places({}) == {}


def test_a_submission_names_no_place(entry: Path) -> None:
    for file in (entry / "runs").glob("*.json"):
        record = json.loads(file.read_text())
        TrustPolicy().resolve(record["spec"])
        assert str(Path.home()) not in file.read_text()
