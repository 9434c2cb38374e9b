"""Specifications: overrides, identities, and the report of all problems at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisybench.config.overrides import expand, parse_overrides, parse_stack
from noisybench.config.registry import KINDS, get_entry, list_entries
from noisybench.config.resolve import read_recipe, resolve
from noisybench.config.scalars import plain_value
from noisybench.config.suite import read_suite
from noisybench.config.yaml_files import builtin_configs
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream, stable_hash


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as refused:
        resolve(raw)
    return refused.value.problems


def test_the_documented_line() -> None:
    line = "noise=symmetric_exclusive noise.rate=0.4 mitigations=elr mitigations.elr.beta=0.7 seed=0"
    (spec,) = read_recipe("digits", line.split())
    assert spec.noise.as_dict() == {"name": "symmetric_exclusive", "seed": 0, "rate": 0.4}
    assert spec.mitigations[0].parameters["beta"] == 0.7
    assert spec.stack == "elr"


def test_commas_sweep_and_brackets_do_not() -> None:
    specs = read_recipe("digits", ["seed=0,1,2", "mitigations=elr,mixup+gce"])
    assert sorted((spec.seed, spec.stack) for spec in specs) == [(s, m) for s in range(3) for m in ("elr", "mixup+gce")]
    (spec,) = read_recipe("digits", ["mitigations=[mixup, gce]"])
    assert spec.stack == "mixup+gce"


def test_order_of_overrides_does_not_matter() -> None:
    one = expand({}, ["noise.rate=0.2", "noise=pair_flip"])
    other = expand({}, ["noise=pair_flip", "noise.rate=0.2"])
    assert one == other
    assert plain_value(one) == [{"noise": {"name": "pair_flip", "rate": 0.2}}]


def test_numbers_that_yaml_takes_for_text() -> None:
    (spec,) = read_recipe("digits", ["budget.learning_rate=1e-3"])
    assert spec.budget.learning_rate == 0.001


def test_spelled_out_defaults_do_not_change_the_identity() -> None:
    plain = resolve({"noise": "pair_flip", "mitigations": "elr"})
    spelled = resolve(
        {
            "noise": {"name": "pair_flip", "rate": 0.45, "seed": 0},
            "mitigations": [{"name": "elr", "beta": 0.7}],
            "seed": 0,
        }
    )
    assert plain.identity == spelled.identity
    assert plain.identity == resolve(plain.as_dict()).identity


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"noise": {"name": "pair_flip", "rate": 0.3}}, {"noise": {"name": "pair_flip", "seed": 1}},
        {"mitigations": "gce"}, {"budget": {"epochs": 31}}, {"dataset": {"name": "digits", "split_seed": 1}},
    ],
)  # fmt: skip
def test_what_matters_changes_the_identity(change: dict[str, Any]) -> None:
    base = {"noise": "pair_flip"}
    assert resolve(base).identity != resolve({**base, **change}).identity


def test_where_it_runs_does_not_change_the_identity() -> None:
    assert (
        resolve({}).identity == resolve({"execution": {"device": "cpu", "num_threads": 2, "save_model": True}}).identity
    )


def test_identity_follows_a_files_content_not_its_place(tmp_path: Path) -> None:
    for name, text in (("a.csv", "observed\n1\n"), ("b.csv", "observed\n1\n"), ("c.csv", "observed\n2\n")):
        (tmp_path / name).write_text(text)
    a, b, c = (resolve({"noise": {"name": "from_file", "path": str(tmp_path / f"{n}.csv")}}).identity for n in "abc")
    assert a == b
    assert a != c


def test_all_problems_are_reported_at_once() -> None:
    found = problems({
        "nose": 1, "noise": {"name": "symmetric_exclusive", "rate": 1.2, "rat": 3},
        "mitigations": ["elrr", {"name": "gce", "q": "x"}],
        "budget": {"epochs": 0, "networkk": "a"}, "seed": -1, "dataset": 7,
    })  # fmt: skip
    text = "\n".join(found)
    for expected in (
        "unknown field `nose`; did you mean `noise`",
        "noise.rate: input should be less than 1, but got 1.2 (allowed: [0, 1))",
        "noise: unknown parameter `rat`; did you mean `rate`",
        "mitigations: unknown mitigation `elrr`; did you mean `elr`",
        "mitigations.gce.q: ",
        "budget.epochs: input should be greater than or equal to 1, but got 0",
        "budget: unknown field `networkk`; did you mean `network`",
        "seed: must be an integer from 0 to 2^63 - 1, but got -1",
        "dataset: expected a name",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"budget": {"network": "resnet"}}, "budget.network: unknown network `resnet`"),
        ({"budget": {"nesterov": True, "optimizer": "adam"}}, "nesterov requires the optimizer sgd"),
        ({"budget": {"lr_schedule": "multistep"}}, "lr_schedule=multistep requires lr_milestones; set"),
        ({"mitigations": "elr+elr"}, "`elr` appears twice in the stack"),
        ({"noise": {"rate": 0.3}}, "noise: expected a name, or a mapping with `name`"),
    ],
)
def test_single_problems(raw: dict[str, Any], message: str) -> None:
    assert any(message in each for each in problems(raw))


@pytest.mark.parametrize(
    "argument", ["noise", "=3", "noise.rate=[1", "a..b=1", ".a=1", "a.=1", "a b=1", "seed=0,", "seed='1"]
)
def test_malformed_overrides(argument: str) -> None:
    with pytest.raises(UserError):
        [override.values({}) for override in parse_overrides([argument])]


def test_an_override_of_an_absent_member_names_the_stack() -> None:
    with pytest.raises(UserError, match=r"mitigations\.elf\.beta: .* did you mean `elr`"):
        read_recipe("digits", ["mitigations=elr", "mitigations.elf.beta=0.3"])


@given(st.lists(st.sampled_from(["elr", "gce", "mixup"]), min_size=1, max_size=3, unique=True))
def test_a_stack_may_be_written_in_three_ways(names: list[str]) -> None:
    assert parse_stack("+".join(names)) == parse_stack(names) == parse_stack([names]) == names


@pytest.mark.parametrize("name", builtin_configs("recipes"))
def test_every_shipped_recipe_is_valid(name: str) -> None:
    assert len(read_recipe(name)) == 1


@pytest.mark.parametrize("name", builtin_configs("suites"))
def test_every_shipped_suite_is_valid(name: str) -> None:
    specs = read_suite(name)
    assert len({spec.identity for spec in specs}) == len(specs) > 1


def test_the_quickstart_is_as_large_as_promised() -> None:
    specs = read_suite("quickstart")
    assert len({spec.noise.display_name() for spec in specs}) >= 3
    assert len({spec.stack for spec in specs}) >= 8
    assert len({spec.seed for spec in specs}) >= 3


def test_settings_pair_datasets_with_noise() -> None:
    Path("settings.yaml").write_text(
        "base: {recipe: digits, noise: clean}\n"
        "settings:\n"
        "  - {noise: {name: web, source: pixel_permuted}}\n"
        "  - {dataset: {name: digits, ood_classes: [8, 9]}, noise: {name: web, source: ood_classes}}\n"
        "  - {dataset: {name: digits, train_size: 300}}\n"
        "stacks: [cross_entropy, mixup]\n"
        "seeds: [0, 1]\n"
    )
    specs = read_suite("settings.yaml")
    assert len(specs) == 12
    found = {(spec.dataset_label, spec.noise.display_name()) for spec in specs}
    assert found == {
        ("digits", "web(out_of_distribution=0.4, in_distribution=0, source=pixel_permuted)"),
        ("digits(ood_classes=[8, 9])", "web(out_of_distribution=0.4, in_distribution=0, source=ood_classes)"),
        ("digits(train_size=300)", "clean"),
    }
    assert [spec.seed for spec in specs] == [0] * 6 + [1] * 6, "seeds outermost, so that settings fill evenly"


@pytest.mark.fast
def test_a_setting_has_stacks_of_its_own_unless_an_override_gives_them() -> None:
    Path("settings.yaml").write_text(
        "base: {recipe: digits}\nsettings:\n  - {noise: clean}\n  - {noise: pair_flip, stacks: [gce]}\nstacks: [elr, mixup]\n"
    )
    stacks = {(spec.noise.name, spec.stack) for spec in read_suite("settings.yaml")}
    assert stacks == {("clean", "elr"), ("clean", "mixup"), ("pair_flip", "gce")}
    overridden = {(spec.noise.name, spec.stack) for spec in read_suite("settings.yaml", ["stacks=[sce]"])}
    assert overridden == {("clean", "sce"), ("pair_flip", "sce")}


def test_a_stack_has_seeds_of_its_own_unless_an_override_gives_them() -> None:
    Path("seeds.yaml").write_text(
        "base: {recipe: digits}\nnoise: [clean, pair_flip]\nseeds: [0, 1]\n"
        "stacks: [sce, {stack: {name: gce, q: 0.5}, seeds: [1, 2]}, {stack: elr+mixup, seeds: [0]}]\n"
    )
    specs = read_suite("seeds.yaml")
    seeds = {spec.stack: [other.seed for other in specs if other.stack == spec.stack] for spec in specs}
    assert seeds == {"sce": [0, 0, 1, 1], "elr+mixup": [0, 0], "gce(q=0.5)": [1, 1, 2, 2]}
    assert [spec.seed for spec in specs] == [0] * 4 + [1] * 4 + [2] * 2, "seeds outermost"

    overridden = read_suite("seeds.yaml", ["seeds=[7]"])
    assert [(spec.stack, spec.seed) for spec in overridden[:3]] == [("sce", 7), ("gce(q=0.5)", 7), ("elr+mixup", 7)]
    given = read_suite("seeds.yaml", ["stacks=[{stack: mixup, seeds: [3]}]"])
    assert [(spec.stack, spec.seed) for spec in given] == [("mixup", 3)] * 2
    both = ["seeds=[7]", "stacks=[{stack: mixup, seeds: [3]}]"]
    for changes in (both, both[::-1]):
        assert [spec.seed for spec in read_suite("seeds.yaml", changes)] == [7, 7], "the order does not matter"
    Path("seeds.yaml").write_text("base: {recipe: digits}\nstacks: {stack: gce, seeds: [5]}\n")
    assert [spec.seed for spec in read_suite("seeds.yaml")] == [5]
    assert [spec.seed for spec in read_suite("seeds.yaml", ["seeds=3"])] == [3]
    with pytest.raises(UserError, match=r"write seeds=\[3\]"):
        read_suite("seeds.yaml", ["seed=3"])


def test_what_is_not_given_leaves_no_trace_in_the_identity() -> None:
    plain = resolve({"dataset": "digits", "noise": "web"})
    given = resolve({"dataset": {"name": "digits", "ood_classes": None}, "noise": {"name": "web", "path": None}})
    assert given.identity == plain.identity
    assert "ood_classes" not in plain.dataset.identity()
    other = resolve({"dataset": {"name": "digits", "ood_classes": [9]}, "noise": "web"})
    assert other.identity != plain.identity


def test_suite_overrides(tmp_path: Path) -> None:
    specs = read_suite("quickstart", ["seeds=[5]", "stacks=[elr]", "budget.epochs=2"])
    assert len(specs) == 3
    assert {(spec.seed, spec.stack, spec.budget.epochs) for spec in specs} == {(5, "elr", 2)}


def test_noise_seeds_draw_every_random_noise_model_again() -> None:
    plain = read_suite("quickstart", ["stacks=[elr]", "seeds=[0]", "noise=[pair_flip,clean]"])
    specs = read_suite("quickstart", ["stacks=[elr]", "seeds=[0]", "noise=[pair_flip,clean]", "noise_seeds=0,1"])
    assert [spec.noise.display_name() for spec in specs] == [
        "pair_flip(rate=0.45)", "clean", "pair_flip(seed=1, rate=0.45)",
    ]  # fmt: skip
    assert [specs[0].identity, specs[1].identity] == [spec.identity for spec in plain], "seed 0 is the default"


def test_noise_seeds_of_the_base_noise(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        "{base: {recipe: digits, noise: pair_flip}, noise_seeds: [1, 2], stacks: [elr]}"
    )
    assert [spec.noise.parameters["seed"] for spec in read_suite("suite.yaml")] == [1, 2]
    with pytest.raises(UserError, match=r"noise\.seed: the suite lists its noise_seeds.* write noise_seeds=\[3\]"):
        read_suite("suite.yaml", ["noise.seed=3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{noise: [{name: pair_flip, seed: 4}], noise_seeds: [0]}", "pair_flip has the seed 4 already"),
        ("noise_seeds: []", "noise_seeds: the list is empty"),
        ("noise_seeds: [a]", "noise_seeds.0: expected an integer"),
        ("bas: {recipe: digits}", "unknown field `bas`; did you mean `base`"),
        ("base: {recipe: digitz}", "unknown recipe `digitz`; did you mean `digits`"),
        ("stacks: []", "stacks: the list is empty"),
        ("stacks: [elrr, gce, elrr]", "unknown mitigation `elrr`"),
        ("stacks: [{stack: gce, seeds: [1], epochs: 2}]", "stacks.0: unknown field `epochs`"),
        ("stacks: [{name: gce, seeds: [1]}]", "stacks.0.seeds: seeds stand beside a stack; write {stack: {...}, seeds"),
        ("settings: [{noise: clean}, {stacks: [{stack: gce, seeds: [1, 1]}]}]", "settings.1.stacks.0.seeds: each seed"),
        ("stacks: [{stack: gce, seeds: [1, 1]}]", "stacks.0.seeds: each seed may be given once"),
        ("settings: [{nois: clean}]", "settings.0: unknown field `nois`; did you mean `noise`?"),
        ("{settings: [{noise: clean}], datasets: [digits]}", "excludes the axes `datasets` and `noise`"),
        ("- a", "expected a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_bad_suites(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        read_suite("suite.yaml")
    assert message in str(refused.value)
    assert len(refused.value.problems) == 1, "the same problem is reported once"


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_has_a_summary(kind: str) -> None:
    assert list_entries(kind)
    for entry in list_entries(kind).values():
        assert entry.summary.rstrip().endswith((".", ")", ":")), entry.name


def test_streams_of_other_names_are_unrelated() -> None:
    assert stable_hash("a", "bc") != stable_hash("ab", "c")
    uniform = Stream("a", 0).uniform(5000)
    assert 0.48 < uniform.mean() < 0.52
    assert abs((uniform * Stream("a", 1).uniform(5000)).mean() - 0.25) < 0.01
    assert sorted(Stream("p").permutation(50)) == list(range(50))
    normal = Stream("n").normal(20000)
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.03


@pytest.mark.parametrize(
    ("kind", "name", "parameter"),
    [
        (kind, name, parameter)
        for kind in KINDS
        for name, entry in list_entries(kind).items()
        for parameter in entry.schema.fields
        if parameter.endswith("seed")
    ],
)
def test_negative_seeds_are_refused(kind: str, name: str, parameter: str) -> None:
    _, problems = get_entry(kind, name).schema.validate({parameter: -1}, name)
    assert problems == [
        f"{name}.{parameter}: input should be greater than or equal to 0, but got -1 (allowed: [0, inf))"
    ]


@pytest.mark.parametrize("axis", ["seeds", "noise_seeds"])
def test_a_seed_that_is_given_twice_is_refused(axis: str) -> None:
    with pytest.raises(UserError) as error:
        read_suite("quickstart", [f"{axis}=[0,1,0]"])
    assert error.value.problems == [
        f"{axis}: each seed may be given once, because a second run would be the same, but got [0, 1, 0]"
    ]


def test_a_value_of_a_sweep_that_is_given_twice_is_refused() -> None:
    for argument, message in (
        ("seed=0,1,0", "seed: `0` is given 2 times; give it once"),
        ("mitigations=elr,gce,gce", "mitigations: `gce` is given 2 times; give it once"),
    ):
        with pytest.raises(UserError) as error:
            read_recipe("digits", [argument])
        assert error.value.problems == [message]
