"""The commands `runs list` and `runs equivalent` with a plug-in whose code changes between commands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noisybench.config import registry
from noisybench.config.resolve import resolve
from noisybench.errors import UserError
from noisybench.execution.equivalence import compare_pairs, find_code, plan_comparison
from noisybench.execution.suite_runner import make_plan
from noisybench.records.codes import as_code
from noisybench.records.equivalence import equivalences_from_json
from noisybench.records.schema import RunRecord
from noisybench.tracking.equivalences import EquivalenceStore
from noisybench.tracking.store import Store
from tests.leaderboard.test_board import keep
from tests.leaderboard.test_codes import coded, equivalence

Command = Callable[..., tuple[int, str]]

LOSS = '''
"""A loss."""

from torch import Tensor
from torch.nn import functional

from noisybench.training.batch import Batch
from noisybench.training.learner import Learner
from noisybench.training.roles import LossFunction


class Squared(LossFunction):
    """Square the cross-entropy."""

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return one loss per example."""
        value = functional.cross_entropy(task.logits(batch.inputs), batch.targets, reduction="none")
        return value * value
'''
RUN = (
    "run", "digits", "mitigations=squared", "dataset.train_size=100", "dataset.test_size=50", "budget.epochs=1",
    "budget.network=mlp:8", "budget.augmentation=none", "execution.system_metrics=false", "-j", "1",
)  # fmt: skip


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """A mitigation of another package; the function replaces text in its source."""
    metadata = tmp_path / "packages" / "squared_loss-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: squared-loss\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[noisybench.mitigations]\nsquared = squared_loss\n")
    module = metadata.parent / "squared_loss.py"
    module.write_text(LOSS)
    monkeypatch.syspath_prepend(str(metadata.parent))
    monkeypatch.setenv("PYTHONPATH", str(metadata.parent), prepend=":")
    caches = (registry.list_entries, registry._installed)
    for cache in caches:
        cache.cache_clear()
    yield lambda old, new: module.write_text(module.read_text().replace(old, new)) and None
    for cache in caches:
        cache.cache_clear()


def test_a_refactored_mitigation_is_joined_and_a_changed_one_is_refused(
    store: Store, plugin: Callable[[str, str], None], noisybench: Command
) -> None:
    assert noisybench(*RUN, "seed=0,1")[0] == 0
    old = store.runs.records()[0].code["mitigations.squared"]
    plugin("value", "entropy")
    status, output = noisybench("runs", "equivalent", old[:8], "--dry-run")
    assert "Runs to compare: 1; to train under the new code: 1" in output
    Path("list.json").write_text("[1]")
    status, output = noisybench("runs", "equivalent", old[:8], "-o", "list.json")
    assert (status, "list.json is no list of equivalences: 0: " in output) == (2, True), output
    Path("list.json").write_text("[]")
    status, output = noisybench("runs", "equivalent", old[:8], "-o", "list.json")
    assert status == 0, output
    assert len(equivalences_from_json(Path("list.json").read_text())) == 1
    assert f"mitigations.squared {old[:8]} = " in output
    assert "(1 run compared, bit-identical)" in output
    (recorded,) = EquivalenceStore(store).read().values()
    assert recorded.runs[0].old_weights == recorded.runs[0].new_weights
    status, output = noisybench(*RUN, "seed=0,1")
    assert "1 run counts as finished by equivalence of code: mitigations.squared" in output
    assert len(store.runs.records()) == 3, "nothing was trained again"
    assert "joined by equivalence mitigations.squared" in output
    plugin("return entropy", "return -entropy")
    status, output = noisybench("runs", "equivalent", old[:8])
    assert status == 2
    assert "seed 0: the weights differ" in output
    assert "nothing was recorded" in output
    assert len(EquivalenceStore(store).read()) == 1
    assert "same settings, other code: 2 runs of squared" in noisybench("leaderboard")[1]
    assert "same settings, other code: 1 run of squared" in noisybench(*RUN, "seed=0")[1]
    status, output = noisybench("runs", "list", "--code", old)
    assert output.count("finished") == 2
    assert "Equivalence" in output


def finished(seed: int = 0, stack: str = "gce", **fields: object) -> RunRecord:
    """A run under the installed code, without training it."""
    spec = resolve({"mitigations": stack, "seed": seed, "budget": {"epochs": 12}})
    made = coded("a", stack, seed)
    return dataclasses.replace(
        made, spec=spec.as_dict(), settings=spec.settings_hash, code=spec.code, identity=spec.identity,
        budget=spec.budget_hash, title=spec.title, **fields,
    )  # fmt: skip


def before(record: RunRecord) -> RunRecord:
    """The same run under an older engine."""
    return dataclasses.replace(record, code={**record.code, "engine": "a" * 16}, identity=f"old{record.identity}")


def test_one_seed_of_each_stack_is_trained_and_all_finished_pairs_are_compared() -> None:
    new = [finished(seed, stack) for stack in ("gce", "elr") for seed in range(3)]
    old = [before(run) for run in new]
    pairs = plan_comparison(old, "aaaa").pairs
    assert sorted((pair.old.stack, pair.old.seed) for pair in pairs) == [("elr", 0), ("gce", 0)]
    assert len(plan_comparison(old, "aaaa", sample=2).pairs) == 4
    pairs = plan_comparison([*old, new[2]], "aaaa").pairs
    assert sorted((pair.old.stack, pair.old.seed) for pair in pairs) == [("elr", 0), ("gce", 0), ("gce", 2)]
    recorded = compare_pairs(pairs, [*old, *new], 1, 0.0)
    assert recorded.describe().endswith("(3 runs compared, bit-identical)")


def test_differing_and_missing_runs_are_named() -> None:
    new = [finished(stack=stack) for stack in ("gce", "elr", "cross_entropy")]
    old = [before(run) for run in new]
    pairs = plan_comparison(old, "aaaa").pairs
    changed = dataclasses.replace(new[1], weights_sha256="0" * 64)
    with pytest.raises(UserError) as refused:
        compare_pairs(pairs, [*old, new[0], changed], 1, 0.0)
    problems = refused.value.problems
    assert any(
        "elr · seed 0: the weights differ" in problem and "changed: engine aaaaaaaa" in problem for problem in problems
    )
    assert any("cross_entropy · seed 0: not finished under the new code" in problem for problem in problems)
    assert len(problems) == 3


def test_only_codes_that_exist_and_differ_are_compared() -> None:
    new = finished()
    with pytest.raises(UserError, match="no finished run has code that begins with `ffff`"):
        plan_comparison([before(new)], "ffff")
    with pytest.raises(UserError, match="is the new code itself"):
        plan_comparison([new], new.code["engine"][:8])
    with pytest.raises(UserError, match="ambiguous"):
        find_code("1", [(("engine", "1a"), ("task", "1b"))])
    with pytest.raises(UserError, match="no longer the same"):
        plan_comparison([dataclasses.replace(before(new), settings="other")], "aaaa")
    mixed = [dataclasses.replace(before(new), settings="other", identity="moved"), before(finished(1))]
    plan = plan_comparison(mixed, "aaaa")
    assert [pair.old.seed for pair in plan.pairs] == [1]
    assert "no longer the same" in plan.left_out[0]
    middle = dataclasses.replace(before(new), code={**new.code, "engine": "b" * 16}, identity="middle")
    with pytest.raises(UserError, match="not the installed code"):
        plan_comparison([before(new), dataclasses.replace(middle, settings="x", stack="y")], "aaaa", "bbbb")
    (pair,) = plan_comparison([before(new), middle], "aaaa", "bbbb").pairs
    assert (pair.identity, pair.spec) == ("middle", None)


def test_finished_runs_of_equivalent_code_are_not_trained_again() -> None:
    new = [finished(seed) for seed in range(3)]
    old = [before(run) for run in new]
    specs = [resolve(run.spec) for run in new]
    recorded = equivalence((old[0], new[0]))
    plan = make_plan(specs, [*old, new[0]], [recorded])
    assert plan.pending == []
    assert set(plan.equivalent) == {specs[1].identity, specs[2].identity}
    assert {record.identity for record in plan.select([*old, new[0]])} == {run.identity for run in (new[0], *old[1:])}
    assert len(make_plan(specs, [*old, new[0]]).pending) == 2
    again = dataclasses.replace(new[0], run_id="again")
    assert make_plan(specs, [again, new[0]]).select([again, new[0]]) == [again], "figures count a repeated run once"
    elsewhere = [dataclasses.replace(run, stack="elr") for run in old]
    assert len(make_plan(specs, elsewhere, [recorded]).pending) == 3, "this stack was not compared"


def test_a_forged_or_damaged_equivalence_joins_nothing(store: Store) -> None:
    runs = [coded("a"), coded("b")]
    for run in runs:
        keep(store, run)
    equivalences = EquivalenceStore(store)
    run_id = equivalences.write(equivalence((runs[0], runs[1])), "equivalence")
    assert list(equivalences.read()) == [run_id]
    (file,) = Path("mlartifacts").glob(f"**/{run_id}/**/equivalence.json")
    content = json.loads(file.read_text())
    content["runs"][0]["new_weights"] = "0" * 64
    file.write_text(json.dumps(content))
    assert equivalences.read() == {}
    assert "the weights differ" in equivalences.unreadable[run_id]
    file.unlink()
    assert equivalences.read() == {}
    assert "does not exist" in equivalences.unreadable[run_id]
    assert as_code(runs[0].code) != as_code(runs[1].code)
