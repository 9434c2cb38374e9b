"""The strict loader of YAML files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from noisybench.config.resolve import read_recipe
from noisybench.config.scalars import plain_value
from noisybench.config.suite import read_suite
from noisybench.config.yaml_files import MAX_BYTES, load_config, parse_yaml
from noisybench.errors import UserError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{earlier}'] * 10)}]\n"
    for earlier, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("010", 10), ("0o10", 8), ("0x1F", 31), ("-3", -3), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0),
        ("-.inf", -float("inf")),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("1:30", "1:30"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"),
        ("'1'", "1"), ('"true"', "true"), ("=", "="), ("1" * 30, "1" * 30), ("0b1", "0b1"), ("nan", "nan"),
        ("[1, [2, {a: no}]]", [1, [2, {"a": "no"}]]), ("{2: a, true: b}", {2: "a", True: "b"}), ("&x 5", 5),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)  # fmt: skip
def test_values_follow_the_core_schema_of_yaml_12(text: str, value: Any) -> None:
    found = plain_value(parse_yaml(text, "text"))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key `a` appears twice"),
        ("a: {b: 1, b: 1}", "line 1: the key `b` appears twice"),
        ("a: &x [*x]", r"line 1: the alias \*x refers to the value that contains it"),
        ("a: &x {b: {c: *x}}", "refers to the value that contains it"),
        ("a: *x", "refers to no earlier anchor|undefined alias"),
        (BOMB, "more than 100,000 values, of which aliases may repeat many"),
        ("a: !!python/object/apply:os.system [ls]", "tags such as `tag:yaml.org,2002:python/object/apply:os.system`"),
        ("a: !mine 3", "tags such as `!mine` are not supported"),
        ("a: !!binary aGk=", "tags such as"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "line 3: merge keys"),
        ("a: 1\n---\nb: 2\n", "several documents"),
        ("[" * 500, "more than 64 lists and mappings are nested"),
        ("? [a, b]\n: 1\n", "a key must be a single name or number"),
        ("a: [", "not valid YAML"),
        ("\ta: 1", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("- a", "expected a mapping of fields"),
        ("", "expected a mapping of fields"),
        ("just text", "expected a mapping of fields"),
    ],
)  # fmt: skip
def test_files_are_refused_in_one_line(text: str, message: str, workspace: Path) -> None:
    Path("config.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        load_config("recipes", "config.yaml")
    assert str(refused.value).startswith("config.yaml")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xef\xbb\xbfseed: 1", "byte-order mark; save it as UTF-8"),
        ("seed: 1".encode("utf-16"), "byte-order mark; save it as UTF-8"),
        (b"description: \xff", "byte 13 is not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "larger than 1 MiB"),
        (b"\x1f\x8b\x08\x00", "byte 1 is not UTF-8"),
    ],
)
def test_other_encodings_and_large_files_are_refused(data: bytes, message: str, workspace: Path) -> None:
    Path("config.yaml").write_bytes(data)
    with pytest.raises(UserError, match=message):
        load_config("recipes", "config.yaml")


def test_pipes_devices_and_folders_are_refused_without_waiting(workspace: Path) -> None:
    os.mkfifo("pipe.yaml")
    Path("folder.yaml").mkdir()
    Path("zero.yaml").symlink_to("/dev/zero")
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("dangling.yaml").symlink_to("nothing")
    signal.alarm(20)  # a hang fails the test
    try:
        for name in ("pipe", "folder", "zero", "loop", "dangling", "missing", "x" * 5000, "a\0b"):
            with pytest.raises(UserError) as refused:
                read_suite(f"./{name}.yaml")
            assert len(str(refused.value)) < 250
    finally:
        signal.alarm(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: 2", "unknown field `1`"),
        ("base: 3", "base: expected a mapping"),
        ("base: {budget: [1]}", "budget: expected a mapping of network"),
        ("base: {budget: abc}", "budget: expected a mapping of network"),
        ("base: {recipe: 3}", "unknown recipe `3`"),
        ("base: {recipe: [a]}", r"base.recipe: expected the name of a recipe, but got \['a'\]"),
        ("base: {recipe: digits, nois: 1}", "unknown field `nois`"),
        ("stacks: {a: 1}", "expected a name, or a mapping with `name`"),
        ("stacks: [[[3]]]", "unknown mitigation `3`"),
        ("noise: 5", "unknown noise model `5`"),
        ("settings: 3", "settings.0: expected a mapping of task, dataset, noise, stacks, but got 3"),
        ("description: [a]", "description: expected text"),
        ("seeds: [1.5]", "seeds.0: expected an integer, but got 1.5"),
        ("seeds: [-1]", "seeds.0: input should be greater than or equal to 0, but got -1"),
        ("seeds: {a: 1}", "seeds.0: expected an integer"),
    ],
)
def test_suites_of_other_types_are_refused(text: str, message: str, workspace: Path) -> None:
    Path("suite.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_suite("suite.yaml")


def test_a_key_without_a_value_counts_as_missing(workspace: Path) -> None:
    Path("suite.yaml").write_text("base: {recipe: digits, budget: }\nstacks:\nseeds: [1, 2]\nfigures:\n")
    assert [spec.seed for spec in read_suite("suite.yaml")] == [1, 2]
    Path("recipe.yaml").write_text("noise:\nbudget:\nmitigations: ~\nseed: null\n")
    (spec,) = read_recipe("recipe.yaml")
    assert (spec.noise.name, spec.seed, spec.stack) == ("clean", 0, "cross_entropy")
