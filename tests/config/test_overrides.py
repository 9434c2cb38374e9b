"""Overrides from the command line, whose meaning depends on the type of the parameter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from noisybench.config.overrides import Override, parse_overrides
from noisybench.config.registry import KINDS, get_entry, list_entries
from noisybench.config.resolve import read_recipe
from noisybench.config.suite import read_suite
from noisybench.config.validation import alternatives
from noisybench.errors import UserError

FOLDERS = [
    "2024", "no", "1e3", "cats, dogs", "a,b", "a #b", "a: b", "true", "010", "1_000", "1:30", "it's", "[old] photos",
    "{new}", "photos (2)", "50%", "a=b", "Bücher", "- dash", ".5", "0x10", "yes", "2024-11-26", "12:30",
]  # fmt: skip
"""Ordinary names of folders."""


def problem(arguments: list[str], recipe: str = "digits") -> str:
    with pytest.raises(UserError) as refused:
        read_recipe(recipe, arguments)
    return str(refused.value)


@pytest.mark.parametrize("name", [*FOLDERS, "~archive", "null"])
def test_a_folder_may_have_any_ordinary_name(name: str, workspace: Path) -> None:
    for label in ("cat", "dog"):
        (workspace / name / label).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (4, 4), number).save(workspace / name / label / f"{label}{number}.png")
    (spec,) = read_recipe("digits", ["dataset=image_folder", f"dataset.root={name}", "dataset.test_fraction=0.5"])
    dataset = spec.dataset.build()
    assert dataset.root == Path(name)
    assert dataset.load().class_names == ("cat", "dog")


@pytest.mark.parametrize("name", [name for name in FOLDERS if "," not in name])
def test_a_missing_folder_keeps_its_name_for_the_message(name: str) -> None:
    (spec,) = read_recipe("digits", ["dataset=image_folder", f"dataset.root={name}"])
    with pytest.raises(UserError, match="folder not found") as refused:
        spec.dataset.build().load()
    assert f"dataset.root: {name}: " in str(refused.value)


@pytest.mark.parametrize("name", FOLDERS)
def test_yaml_keeps_the_text_of_a_name(name: str, workspace: Path) -> None:
    # What YAML takes for its own syntax needs quotes.
    written = json.dumps(name, ensure_ascii=False) if set(name) & set("#:[{") or name[:1] in "-" else name
    Path("recipe.yaml").write_text(f"dataset:\n  name: image_folder\n  root: {written}\n", encoding="utf-8")
    (spec,) = read_recipe("recipe.yaml")
    assert spec.dataset.build().root == Path(name)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[no,yes]", ["no", "yes"]), ("[1e3, 010]", ["1e3", "010"]), ("['a, b', \"c #d\", null]", ["a, b", "c #d", "null"]),
        ("[cat, true, 5]", ["cat", "true", "5"]),
    ],
)  # fmt: skip
def test_lists_of_names_keep_their_text(text: str, names: list[str]) -> None:
    (spec,) = read_recipe("digits", ["dataset=parquet", f"dataset.class_names={text}"])
    assert spec.dataset.parameters["class_names"] == names
    Path("recipe.yaml").write_text(f"dataset: {{name: parquet, class_names: {text}}}\n")
    (spec,) = read_recipe("recipe.yaml")
    assert spec.dataset.parameters["class_names"] == names


@pytest.mark.parametrize(
    ("text", "roots"),
    [
        ("a,b", ["a", "b"]), ('"a,b"', ["a,b"]), ('"a,b",c', ["a,b", "c"]), ("a, b", ["a", "b"]), ("null", [None]), ("", [None]),
        ('"null"', ["null"]), ("'2024'", ["2024"]), ("~/x y", ["~/x y"]),
    ],
)  # fmt: skip
def test_a_comma_sweeps_over_paths_unless_quotes_protect_it(text: str, roots: list[str | None]) -> None:
    specs = read_recipe("digits", ["dataset=image_folder", f"dataset.root={text}"])
    assert [spec.dataset.parameters["root"] for spec in specs] == roots


def test_an_existing_path_with_a_comma_is_one_path(workspace: Path) -> None:
    (workspace / "a,b").mkdir()
    (spec,) = read_recipe("digits", ["dataset=image_folder", "dataset.root=a,b"])
    assert spec.dataset.parameters["root"] == "a,b"
    Path("0,1").mkdir()
    assert len(read_recipe("digits", ["seed=0,1"])) == 2, "numbers are never paths"


def test_components_decide_the_type_also_when_they_are_given_later() -> None:
    Path("a,b").mkdir()
    (spec,) = read_recipe("digits", ["noise.path=a,b", "noise=from_folder"])
    assert spec.noise.parameters["path"] == "a,b"
    specs = read_recipe("digits", ["dataset.root=a,b", "dataset=image_folder,image_mask_folder"])
    assert [spec.dataset.parameters["root"] for spec in specs] == ["a,b", "a,b"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("seed=010", 10), ("seed=0x10", 16), ("seed=0o10", 8), ("seed=+7", 7), ("budget.learning_rate=1e-3", 0.001),
        ("budget.learning_rate=1", 1.0), ("budget.nesterov=true", True), ("budget.nesterov=False", False),
        ("budget.lr_milestones=[5, 9]", (5, 9)), ("budget.augmentation=none", "none"),
    ],
)  # fmt: skip
def test_numbers_and_truth_values(argument: str, value: Any) -> None:
    extra = ["budget.lr_schedule=multistep"] if "milestones" in argument else []
    (spec,) = read_recipe("digits", [argument, *extra])
    field = argument.partition("=")[0].split(".")[-1]
    assert getattr(spec.budget, field, spec.seed) == value


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("budget.epochs=true", "budget.epochs: expected an integer, but got true"),
        ("budget.epochs=30.0", "budget.epochs: expected an integer, but got 30.0"),
        ("budget.epochs=1_000", "budget.epochs: expected an integer, but got '1_000'"),
        ("budget.epochs=1:30", "budget.epochs: expected an integer, but got '1:30'"),
        ("budget.epochs='5'", "budget.epochs: expected an integer, but got '5'"),
        ("budget.epochs=", "budget.epochs: expected an integer, but got "),
        ("budget.epochs=" + "9" * 5000, "budget.epochs: expected an integer of at most 64 bits, but got '999"),
        ("budget.learning_rate=.nan", "budget.learning_rate: expected a finite number, but got .nan"),
        ("budget.learning_rate=nan", "budget.learning_rate: expected a number, but got 'nan'"),
        ("budget.learning_rate=1e999", "budget.learning_rate: expected a finite number, but got 1e999"),
        ("budget.learning_rate=false", "budget.learning_rate: expected a number, but got false"),
        ("budget.nesterov=yes", "budget.nesterov: expected true or false, but got 'yes'"),
        ("budget.nesterov=1", "budget.nesterov: expected true or false, but got 1"),
        ("budget.lr_milestones=5", r"budget.lr_milestones: expected a list such as [a, b], but got 5"),
        ("budget.lr_milestones=[-1]", "budget.lr_milestones.0: input should be greater than or equal to 1, but got -1"),
        ("budget=5", "budget: expected a mapping of network, epochs, "),
        ("budget.network=[a]", "budget.network: expected text, but got ['a']"),
        ("seed=true", "seed: must be an integer from 0 to 2^63 - 1, but got true"),
        ("seed=1e3", "seed: must be an integer from 0 to 2^63 - 1, but got 1e3"),
        ("seed=" + "9" * 5000, "seed: must be an integer from 0 to 2^63 - 1, but got '999"),
        ("seed={a: 1}", "seed: must be an integer from 0 to 2^63 - 1, but got {'a': 1}"),
        ("dataset=[digits]", "dataset: expected a name, or a mapping with `name` and parameters, but got ['digits']"),
        ("dataset.train_size=1e3", "dataset.train_size: expected an integer, but got 1e3 (allowed: [1, inf))"),
        ("dataset.train_size.x=3", "dataset.train_size: expected an integer, but got {'x': 3}"),
        ("dataset.class_names=a", "dataset: unknown parameter `class_names`"),
        ("noise.rate=true", "noise.rate: expected a number, but got true (allowed: [0, 1))"),
        ("noise={name: web, name: web}", "noise, line 1: the key `name` appears twice in one mapping"),
        ("noise=!!python/name:os.system", "noise: unknown noise model `!!python/name:os.system`"),
        ("noise={name: !!str web}", "noise, line 1: tags such as `tag:yaml.org,2002:str` are not supported"),
        ("mitigations={elr: 1}", "mitigations.None: expected a name"),
        ("nois.rate=0.3", "unknown field `nois`; did you mean `noise`?"),
        ("execution.threads=3", "execution: unknown field `threads`; did you mean `num_threads`?"),
        (
            "execution.num_threads=0",
            "execution.num_threads: input should be 'auto', or input should be greater than or equal to 1, but got 0",
        ),
        ("execution.num_threads=x", "execution.num_threads: input should be 'auto', or expected an integer, but got 'x'"),
    ],
)  # fmt: skip
def test_values_of_another_type_are_refused_with_what_was_written(argument: str, message: str) -> None:
    found = problem([argument])
    assert message in found
    assert len(found) < 700, "messages stay short"


def test_values_of_no_alternative_are_refused_by_what_was_written() -> None:
    size = get_entry("datasets", "image_mask_folder").schema
    assert size.validate({"size": {"a": 1}}, "x")[1] == [
        "x.size: expected an integer, or expected a list such as [a, b], but got {'a': 1}"
    ]
    assert size.validate({"size": [8, "b"]}, "x")[1] == ["x.size.1: expected an integer, but got 'b'"], (
        "the reason why a list is none"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_declared_bound_is_enforced(kind: str) -> None:
    checked = 0
    for entry in list_entries(kind).values():
        for name, (annotation, declared) in entry.schema.fields.items():
            if not {int, float} & set(alternatives(annotation)):
                continue  # bounds of lists count their items
            for bound, limit in declared.bounds.items():
                outside = limit + {"ge": -1, "gt": 0, "le": 1, "lt": 0}[bound]
                problems = entry.schema.validate(
                    {name: int(outside) if int in alternatives(annotation) else outside}, "x"
                )[1]
                assert len(problems) == 1, (entry.name, name, bound)
                assert "(allowed: " in problems[0]
                checked += 1
    assert checked > 50 or kind not in ("mitigations", "noise_models", "datasets")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["budget=5", "budget.epochs=3"], "budget.epochs: `budget` is 5, which has no fields"),
        (["seed=5", "seed.x=1"], "seed.x: `seed` is 5, which has no fields"),
        (["seed=1", "seed=2"], "seed is given twice, as `1` and `2`; give it once"),
        (["budget.epochs=1", "budget.epochs=1"], "budget.epochs is given twice"),
        (["dataset=image_folder", "dataset.root=a", "dataset.root.x=3"], "dataset.root.x: `dataset.root` is 'a', which has"),
        (["mitigations=elr", "mitigations.elr=3"], "expected mitigations.NAME.PARAMETER"),
    ],
)  # fmt: skip
def test_contradicting_overrides_are_refused(arguments: list[str], message: str) -> None:
    assert message in problem(arguments)


def test_every_malformed_argument_is_reported_at_once() -> None:
    with pytest.raises(UserError) as refused:
        parse_overrides(["noise", "seed=1", "seed=2", "=x"])
    assert len(refused.value.problems) == 3


def test_one_value_is_wanted_where_nothing_is_swept() -> None:
    with pytest.raises(UserError, match=r"dataset\.root: give one; no file or folder is named `a,b`, and quotes keep"):
        Override(("dataset", "root"), "a,b").value({"dataset": "image_folder"}, "give one")


@pytest.mark.parametrize(
    ("suite", "arguments", "message"),
    [
        ("quickstart", ["mitigations=elr"], r"lists its stacks.* no effect; write stacks=\[elr\]"),
        ("quickstart", ["mitigations=elr,gce"], r"write stacks=\[elr,gce\]"),
        ("quickstart", ["mitigations.elr.beta=0.3"], r"write \"stacks=\[\{name: elr, beta: 0\.3\}\]\""),
        ("quickstart", ["seed=5"], r"seed: the suite lists its seeds.* write seeds=\[5\]"),
        ("quickstart", ["noise.rate=0.3"], r"lists its noise.* write \"noise=\[\{name: NAME, rate: 0\.3\}\]\""),
        ("web-digits", ["noise=clean"], r"noise: the suite lists its settings"),
        ("web-digits", ["noise.rate=0.3"], r"noise\.rate: the suite lists its settings"),
        ("web-digits", ["dataset.test_fraction=0.2"], r"dataset\.test_fraction: the suite lists its settings"),
        ("quickstart", ["datasets=[digits]", "dataset.train_size=100"], r"lists its datasets.*name: NAME, train_size: 100"),
        ("quickstart", ["seed=5", "seeds=[1]"], "lists its seeds"),
        ("quickstart", ["stacks.elr=3"], r"stacks\.elr: replace the whole list"),
        ("quickstart", ["budget.epochs=1,2"], "all runs of a suite share one value"),
        ("quickstart", ["stack=[elr]"], "stack: unknown field `stack`; did you mean `stacks`"),
        ("quickstart", ["description=x"], "unknown field `description`"),
        ("quickstart", ["seeds=[a]"], r"seeds\.0: expected an integer, but got 'a'"),
        ("quickstart", ["seeds=[true]"], r"seeds\.0: expected an integer, but got true"),
        ("quickstart", ["seeds=[]"], "seeds: the list is empty"),
    ],
)  # fmt: skip
def test_overrides_that_a_suite_would_ignore_are_refused(suite: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_suite(suite, arguments)


def test_overrides_of_what_a_suite_does_not_list_change_its_base() -> None:
    Path("suite.yaml").write_text("base: {recipe: digits}\nstacks: [elr]\n")
    (spec,) = read_suite("suite.yaml", ["noise.rate=0.2", "dataset.train_size=100", "seed=3"])
    assert (spec.noise.parameters["rate"], spec.dataset.parameters["train_size"], spec.seed) == (0.2, 100, 3)
    assert len(read_suite("suite.yaml", ["noise=clean,pair_flip", "seeds=0,1"])) == 4
