"""Runs of changed code: what is trained again, what is refused, and what stays finished."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noisybench.config import registry
from noisybench.config.loaded_code import LoadedCode
from noisybench.config.resolve import resolve
from noisybench.config.source_code import _packages_beside
from noisybench.config.spec import RunSpec
from noisybench.errors import CodeChanged, UserError
from noisybench.execution.engine import Event
from noisybench.execution.suite_runner import make_plan, run_plan
from noisybench.runs.preparation import prepare_run
from noisybench.search.config import read_searches
from noisybench.search.study import changed_code, open_study
from noisybench.tracking.store import Store
from noisybench.training.auxiliary import AuxiliaryCache
from tests.helpers import toy_spec

Command = Callable[..., tuple[int, str]]
ROOT = Path(__file__).parents[2]
SMALL = ["dataset.train_size=120", "dataset.test_size=60", "budget.epochs=1", "execution.system_metrics=false"]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a copy of `gce` as the plug-in `acme_gce` and return its file."""
    package = tmp_path / "site" / "acme"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    file = package / "acme_gce.py"
    file.write_text((ROOT / "noisybench" / "mitigations" / "gce.py").read_text())
    metadata = tmp_path / "site" / "acme-1.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.5\n")
    (metadata / "entry_points.txt").write_text("[noisybench.mitigations]\nacme_gce = acme.acme_gce\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    caches = (registry.list_entries, registry._installed, registry._source, registry._parse, _packages_beside)

    def forget() -> None:
        for cached in caches:
            cached.cache_clear()
        for name in ("acme", "acme.acme_gce"):
            sys.modules.pop(name, None)

    forget()
    yield file
    forget()


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.usefixtures("store")
def test_flipping_a_sign_trains_again_and_a_comment_does_not(plugin: Path, noisybench: Command) -> None:
    command = ["run", "digits", "mitigations=acme_gce", *SMALL]
    assert "1 completed, 0 skipped" in noisybench(*command, "seed=0")[1]
    edit(plugin, "-(targets", "+(targets")
    assert "2 completed, 0 skipped" in noisybench(*command, "seed=0,1")[1]
    edit(plugin, "+(targets * ", "+(  # a comment\n        targets\n        * ")
    edit(plugin, '"""', '"""Another docstring. ')
    output = noisybench(*command, "seed=0,1")[1]
    assert "0 completed, 2 skipped" in output
    records = Store().runs.records()
    assert len(records) == 3
    assert len({record.settings for record in records}) == 2
    codes = [record.code for record in records]
    assert {part for part in codes[0] if len({code[part] for code in codes}) > 1} == {"mitigations.acme_gce"}
    assert records[0].environment["acme"] == "1.5"
    assert {"torch", "torchvision", "scikit-learn", "scipy", "pandas", "albumentations"} <= {*records[0].environment}


def small_spec(**fields: Any) -> RunSpec:
    return toy_spec("acme_gce", dataset={"name": "digits", "train_size": 120, "test_size": 60}, **fields)


def test_a_file_that_changes_during_a_command_is_refused(plugin: Path, store: Store) -> None:
    specs = [small_spec(seed=seed, budget={"epochs": 1}) for seed in range(3)]

    def change_after_the_first_run(event: Event, seconds: float | None) -> None:
        if event.kind == "finished":
            edit(plugin, "-(targets", "+(targets")

    result = run_plan(make_plan(specs, []), store, [], 1, change_after_the_first_run, lambda: 0)
    assert len(result.completed) == 1
    ((_, reason, _),) = result.failed
    assert reason == "acme/acme_gce.py changed since this command started; rerun the command"
    assert result.not_started == 1, "one message is enough"
    assert len(store.runs.records()) == 1
    assert not store.runs.failed(), "nothing is recorded under an identity that was not trained"


def test_a_loaded_module_keeps_its_code(plugin: Path) -> None:
    spec = small_spec()
    prepare_run(spec)
    code = LoadedCode(spec)
    edit(plugin, "-(targets", "+(targets")
    code.check_later_imports()
    LoadedCode(spec)
    with pytest.raises(CodeChanged, match=r"acme/acme_gce\.py changed"):
        LoadedCode(small_spec())


def test_auxiliary_runs_are_cached_by_their_code(plugin: Path) -> None:
    from noisybench.mitigations.simclr import _PreTraining

    spec = toy_spec("simclr")
    code = LoadedCode(spec)
    run = _PreTraining.__new__(_PreTraining)
    run.cache_key = {"kind": "any"}
    identity = AuxiliaryCache(plugin.parent, code_of=code.code_of).identity(run)
    assert identity == AuxiliaryCache(plugin.parent, code_of=code.code_of).identity(run)
    assert {*code.code_of(_PreTraining)} == {"engine", "task", "network", "class"}
    for part in ("engine", "task", "network", "class"):
        changed = {**code.code_of(_PreTraining), part: "0" * 16}
        assert AuxiliaryCache(plugin.parent, code_of=lambda kind, new=changed: new).identity(run) != identity  # type: ignore[misc]


def test_a_study_does_not_mix_trials_of_different_code(plugin: Path) -> None:
    arguments = ["mitigations=acme_gce", "trials=2", *SMALL]
    (search,) = read_searches("digits", arguments)
    with open_study(search, "mine", None):
        pass
    edit(plugin, "-(targets", "+(targets")
    (search,) = read_searches("digits", arguments)
    with open_study(search, "mine", None) as study:
        assert not changed_code(search, study), "without trials, the study begins with the present code"
        study.tell(study.ask(), 0.5)
    edit(plugin, "+(targets", "-(targets")
    (search,) = read_searches("digits", arguments)
    message = r"code of the study `mine` changed \(mitigations\.acme_gce\) since its first 1 trials.*--study NAME"
    with pytest.raises(UserError, match=message), open_study(search, "mine", None):
        pass
    finished = dataclasses.replace(search, trials=1)
    with open_study(finished, "mine", None) as study:
        assert changed_code(finished, study) == ["mitigations.acme_gce"]


@pytest.mark.usefixtures("store")
def test_finished_runs_are_trained_again_on_request_and_for_files_that_they_lack(noisybench: Command) -> None:
    command = ["run", "digits", "mitigations=gce", "seed=0", *SMALL, "execution.save_model=false"]
    noisybench(*command)
    output = noisybench(*command, "--again", "--dry-run")[1]
    assert "1 run is finished and trained again for --again." in output
    assert "1 completed, 0 skipped" in noisybench(*command, "--again")[1]
    assert "0 completed, 1 skipped" in noisybench(*command)[1]
    wanted = [*command[:-1], "execution.save_model=true"]
    assert "trained again for execution.save_model=true." in noisybench(*wanted, "--dry-run")[1]
    output = noisybench(*wanted)[1]
    assert "1 completed, 0 skipped" in output
    assert "other weights" not in output
    assert "0 completed, 1 skipped" in noisybench(*wanted)[1]
    runs = Store().runs
    records = runs.records()
    assert len(records) == 3
    assert len({record.weights_sha256 for record in records}) == 1
    latest = runs.list_runs("FINISHED")[0]
    assert runs.finished() == {records[0].identity: latest.run_id}
    with runs.open_file(latest, "model") as file:
        assert file is not None


def test_other_weights_of_a_repeated_run_are_reported(store: Store) -> None:
    from tests.leaderboard.test_leaderboard import record

    spec = resolve({"mitigations": "gce"})
    old = record(identity=spec.identity, run_id="old", spec={"execution": {}})
    plan = make_plan([spec], [old], again=True)
    assert [pending.replaces for pending in plan.pending] == ["old"]
    assert not plan.other_weights([old]), "it was not trained again"
    new = dataclasses.replace(old, run_id="new", weights_sha256="0" * 64)
    assert plan.other_weights([new, old]) == [new]
    assert not plan.other_weights([dataclasses.replace(old, run_id="new"), old])


def test_corrected_masks_are_refused_without_masks() -> None:
    with pytest.raises(UserError, match=r"execution\.save_corrected_masks: the task classification has no masks"):
        prepare_run(toy_spec("gce", execution={"save_corrected_masks": True}))
