"""Published settings: the row that a run uses, its budget, and the notes about both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from noisybench.config import presets
from noisybench.config.budget import Budget
from noisybench.config.preset_choice import choose
from noisybench.config.presets import load_presets, mitigations_with_presets
from noisybench.config.published_recipes import load_recipe, published_recipes
from noisybench.config.registry import get_entry, list_entries
from noisybench.config.resolve import read_recipe, resolve
from noisybench.config.source_code import SourceTree
from noisybench.config.spec import Component, RunSpec
from noisybench.config.suite import read_suite
from noisybench.errors import UserError
from noisybench.leaderboard.checks import check_specification
from noisybench.leaderboard.published import METHODS, NOISE, find_published
from noisybench.runs.preparation import prepare_run
from tests.helpers import toy_dataset, toy_labels, toy_spec, train_toy

WITHOUT_PRESETS = {
    "cross_entropy": "the baseline",
    "ensemble": "the control of methods with two networks",
    "random_pruning": "the control of pruning",
    "oracle_pruning": "the upper bound of pruning",
    "small_loss_pruning": "the small-loss criterion by itself, which no paper proposes",
    "full_finetuning": "the control of methods that train a part of the weights",
    "dice_loss": "a usual loss without a published comparison under label noise",
    "noise_weighted_dice": "the full text of its paper is not public",
    "knn": "published for features that were learned without labels",
    "spectral_truncation": "its paper is not public",
    "trace_filter": "it has no paper",
    "early_stopping": "it has no settings",
    **dict.fromkeys(
        ("clslsr", "mean_teacher", "pixel_confident_learning", "sam", "trinet"),
        "published for networks and data that are not here",
    ),
}
"""Mitigations without published settings of their own, and the reason."""


def spec_of(dataset: str, noise: str, *overrides: str) -> RunSpec:
    (spec,) = read_recipe("digits", [f"dataset={dataset}", f"noise={noise}", *overrides])
    return spec


def problem(*overrides: str) -> str:
    with pytest.raises(UserError) as error:
        read_recipe("digits", overrides)
    return str(error.value)


def test_preset_paper_takes_the_settings_of_the_dataset_and_its_noise() -> None:
    spec = spec_of("cifar100", "symmetric_inclusive", "mitigations=elr(preset=paper)")
    assert spec.mitigations[0].parameters == {"preset": "paper", "beta": 0.9, "reg_weight": 7.0}
    spec = spec_of("cifar10", "asymmetric", "mitigations=elr", "mitigations.elr.preset=paper")
    assert spec.mitigations[0].parameters == {"preset": "paper", "beta": 0.9, "reg_weight": 1.0}


def test_a_label_shows_the_preset_and_only_the_values_that_replace_its_own() -> None:
    spec = spec_of("cifar100", "symmetric_inclusive", "mitigations=mixup+elr(preset=paper, beta=0.8)")
    assert spec.stack == "mixup+elr(preset=paper, beta=0.8)"
    assert spec.mitigations[1].parameters["reg_weight"] == 7


def test_a_recorded_specification_gives_the_same_run_again() -> None:
    spec = spec_of(
        "cifar10", "asymmetric", "mitigations=elr(preset=paper, beta=0.8)", "budget=paper", "budget.epochs=3"
    )
    again = resolve(spec.as_dict())
    assert (again.identity, again.stack, again.notes) == (spec.identity, spec.stack, spec.notes)
    assert again.preset_privileged == ("noise_type",)


def test_a_run_without_preset_keeps_its_identity() -> None:
    plain, null = (
        spec_of("digits", "clean", "mitigations=elr"),
        spec_of("digits", "clean", "mitigations=elr(preset=null)"),
    )
    assert plain.identity == null.identity
    assert "preset" not in plain.mitigations[0].identity()


@pytest.mark.parametrize(
    ("dataset", "noise", "rate", "member", "privileged"),
    [
        ("cifar10", "symmetric_inclusive", 0.4, "elr(preset=paper)", ("noise_type",)),
        ("cifar10", "symmetric_inclusive", 0.4, "elr(preset=cifar10-symmetric)", ("noise_type",)),
        ("cifar10", "asymmetric", 0.4, "elr(preset=cifar10-symmetric)", ()),
        ("cifar100", "symmetric_inclusive", 0.4, "elr(preset=paper)", ()),
        ("cifar100", "symmetric_inclusive", 0.4, "elr(preset=cifar100)", ()),
        ("cifar10", "symmetric_inclusive", 0.8, "dividemix(preset=paper)", ("noise_rate", "noise_type")),
        ("cifar10", "symmetric_inclusive", 0.8, "dividemix(preset=cifar10-sym80)", ("noise_rate", "noise_type")),
        ("svhn", "symmetric_inclusive", 0.8, "dividemix(preset=cifar10-sym80)", ("noise_rate", "noise_type")),
        ("cifar10", "symmetric_inclusive", 0.8, "dividemix(preset=cifar10-sym20)", ("noise_type",)),
        ("cifar10", "pair_flip", 0.45, "dividemix(preset=cifar10-sym50)", ()),
        ("cifar10", "asymmetric", 0.4, "dividemix(preset=cifar10-asym40)", ("noise_type",)),
    ],
)
def test_a_row_that_fits_the_noise_is_privileged_whether_it_is_chosen_or_named(
    dataset: str, noise: str, rate: float, member: str, privileged: tuple[str, ...]
) -> None:
    assert spec_of(dataset, noise, f"noise.rate={rate}", f"mitigations={member}").preset_privileged == privileged


def test_a_copy_of_cifar_in_another_format_is_recognized_by_its_class_names() -> None:
    names = "dataset.class_names=[airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck]"
    spec = spec_of("parquet", "symmetric_inclusive", names, "mitigations=elr(preset=paper)")
    assert spec.mitigations[0].parameters["beta"] == 0.7


@pytest.mark.parametrize(
    ("noise", "rate", "row"),
    [
        ("symmetric_inclusive", 0.35, "cifar10-sym20"),
        # With 10 classes, .35 of inclusive noise are .315 of exclusive noise.
        ("symmetric_exclusive", 0.314, "cifar10-sym20"),
        ("symmetric_exclusive", 0.316, "cifar10-sym50"),
        ("symmetric_exclusive", 0.8, "cifar10-sym90"),
    ],
)
def test_a_row_is_chosen_by_the_nominal_rate_in_the_convention_of_the_paper(noise: str, rate: float, row: str) -> None:
    dataset, model = Component("datasets", "cifar10", {}), Component("noise_models", noise, {"rate": rate})
    choice = choose("dividemix", "paper", dataset, model)
    assert (choice.name, choice.privileged) == (row, ("noise_rate", "noise_type"))


def test_the_rate_of_clean_labels_is_zero() -> None:
    assert (
        spec_of("cifar100", "clean", "mitigations=pls(preset=paper)").mitigations[0].parameters["warmup_epochs"] == 30
    )


def test_a_suite_lists_stacks_with_presets() -> None:
    stacks = 'stacks=[elr(preset=cifar100), "elr(preset=cifar100, beta=0.8)", cross_entropy]'
    runs = read_suite("quickstart", [stacks, "seeds=[0]", "noise=[clean]"])
    assert [run.stack for run in runs] == ["elr(preset=cifar100)", "elr(preset=cifar100, beta=0.8)", "cross_entropy"]


def test_without_a_fitting_row_the_message_lists_all_rows() -> None:
    message = problem("dataset=svhn", "noise=pair_flip", "mitigations=elr(preset=paper)")
    assert message.startswith(
        "mitigations.elr.preset: no settings were published for svhn with pair_flip noise at 0.45"
    )
    assert all(f"{name} (" in message for name in load_presets("elr").rows)  # type: ignore[union-attr]
    assert "did you mean `cifar100`" in problem("mitigations=elr(preset=cifar1000)")
    assert "no settings of this mitigation were published" in problem("mitigations=cross_entropy(preset=paper)")


def test_budget_paper_takes_the_published_budget_and_explicit_fields_replace_it() -> None:
    spec = spec_of("cifar100", "symmetric_inclusive", "mitigations=elr(preset=paper)", "budget=paper")
    assert (spec.budget.epochs, spec.budget.lr_milestones, spec.notes) == (150, (80, 120), ())
    spec = spec_of(
        "cifar100", "symmetric_inclusive", "mitigations=elr(preset=paper)", "budget=paper", "budget.epochs=2"
    )
    assert (spec.budget.epochs, spec.budget.learning_rate) == (2, 0.02)
    assert spec.notes == (
        "elr: the published budget of preset=paper differs: epochs=150 (budget=paper sets it)",
        "budget.lr_milestones: training ends after 2 epochs, so the learning rate does not change at 80 and 120",
    )


def test_members_with_different_published_budgets_are_refused_unless_the_fields_are_given() -> None:
    stack = "mitigations=mixup(preset=paper)+elr(preset=paper)"
    message = problem("dataset=cifar100", "noise=symmetric_inclusive", stack, "budget=paper")
    assert message.startswith("budget: mixup and elr were published with different budgets (epochs, learning_rate, ")
    fields = ["epochs=2", "learning_rate=0.1", "lr_milestones=[1]", "lr_gamma=0.1", "network=mlp", "weight_decay=0.0"]
    given = [f"budget.{field}" for field in fields]
    spec = spec_of("cifar100", "symmetric_inclusive", stack, "budget=paper", *given)
    assert (spec.budget.batch_size, spec.budget.network) == (128, "mlp")


def test_budget_paper_needs_a_preset() -> None:
    assert "budget: `paper` is the published budget of a preset, but no mitigation" in problem("budget=paper")
    misspelled = problem("mitigations=elr(preset=cifar100)", "budget=papr")
    assert "budget: expected a mapping of network and other fields, or `paper`, but got 'papr'" in misspelled
    assert "budget.preset: must be `paper`, but got 'papr'" in problem("budget.preset=papr")
    assert "budget: expected a mapping of network" in problem("budget=5")


def test_defaults_of_other_data_are_said_and_own_settings_are_not() -> None:
    spec = spec_of("cifar100", "symmetric_inclusive", "mitigations=elr")
    assert spec.notes == ("elr: its defaults are those of cifar10; preset=paper has those of cifar100",)
    spec = spec_of("cifar100", "symmetric_inclusive", "mitigations=elr(beta=0.8)")
    assert spec.notes == ("elr: the default of reg_weight is that of cifar10; preset=paper has that of cifar100",)
    assert spec_of("cifar100", "symmetric_inclusive", "mitigations=elr(beta=0.8, reg_weight=5)").notes == ()
    assert spec_of("digits", "symmetric_inclusive", "mitigations=elr").notes == ()
    names = "dataset.class_names=[" + ", ".join(f"c{number}" for number in range(50)) + "]"
    (note,) = spec_of("parquet", "symmetric_inclusive", names, "mitigations=elr").notes
    assert note == "elr: its defaults are those of cifar10, and this dataset has 50 classes"


@pytest.mark.parametrize("text", ["elr(", "elr(beta)", "(beta=1)", "elr(beta=0.5, beta=0.6)", "elr(beta=0.5)x"])
def test_malformed_parameters_in_a_stack_are_refused(text: str) -> None:
    assert problem(f"mitigations={text}").startswith("mitigations: expected")


def test_stacks_with_parameters_can_be_swept_over() -> None:
    stacks = [
        spec.stack for spec in read_recipe("digits", ["mitigations=elr(beta=0.8, reg_weight=2),gce(q=0.5)+mixup"])
    ]
    assert stacks == ["elr(beta=0.8, reg_weight=2)", "gce(q=0.5)+mixup"]


@pytest.mark.parametrize("mitigation", mitigations_with_presets())
def test_published_settings_are_valid_and_the_defaults_are_those_of_a_row(mitigation: str) -> None:
    published = load_presets(mitigation)
    assert published is not None
    fields = get_entry("mitigations", mitigation).schema.fields
    for row in published.rows.values():
        Budget(**row.budget)
    if published.defaults is not None:
        defaults: dict[str, Any] = {name: declared.default for name, (_, declared) in fields.items()}
        settings = published.rows[published.defaults].settings
        assert {name: defaults[name] for name in settings} == settings


def test_every_mitigation_has_published_settings_or_a_reason_why_not() -> None:
    assert set(list_entries("mitigations")) == {*mitigations_with_presets(), *WITHOUT_PRESETS}
    assert not set(mitigations_with_presets()) & set(WITHOUT_PRESETS)


def test_every_published_result_has_a_valid_recipe_with_its_own_settings_and_budget() -> None:
    tree = SourceTree()
    for name, recipe in published_recipes().items():
        spec = resolve(load_recipe(name), tree)
        # A note would say that the budget is not the published one.
        assert not spec.notes, name
        assert spec.mitigations[-1].from_preset == tuple(recipe.row.settings), name
        assert spec.mitigations[-1].parameters["preset"] == recipe.preset


def test_preset_paper_finds_the_row_of_every_published_result() -> None:
    tree = SourceTree()
    for name, recipe in published_recipes().items():
        raw = load_recipe(name)
        member = resolve({**raw, "mitigations": [{"name": recipe.mitigation, "preset": "paper"}]}, tree).mitigations[0]
        fitting = load_presets(recipe.mitigation).rows.items()  # type: ignore[union-attr]
        same = [preset for preset, row in fitting if row.when == recipe.row.when]
        # Of rows with the same condition, the first one is that of `paper`; the others are chosen by name.
        expected = recipe.row if same[0] == recipe.preset else load_presets(recipe.mitigation).rows[same[0]]  # type: ignore[union-attr]
        assert {key: member.parameters[key] for key in expected.settings} == expected.settings, name


def test_published_results_are_those_of_the_table_of_published_results() -> None:
    checked = 0
    for name, recipe in published_recipes().items():
        noise, expected = recipe.expected.noise_component, recipe.expected
        if expected.value is None or noise["name"] not in NOISE or recipe.mitigation not in METHODS:
            continue
        settings = {(recipe.dataset["name"], literature, noise.get("rate")) for literature in NOISE[noise["name"]]}
        found = [(result.value, result.deviation) for result in find_published(settings, recipe.mitigation)]
        if recipe.dataset["name"] != "mnist":
            assert (expected.value, expected.deviation) in found, name
            checked += 1
    assert checked > 40


def test_an_invalid_file_is_refused_with_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "a": {"when": {"dataset": "cifr10"}, "settings": {"betta": 1}, "budget": {"epochs": 0}, "source": "x"},
        "b": {"when": {}, "settings": {}, "source": ""},
    }
    monkeypatch.setattr(presets, "load_config", lambda *_: {"paper": "x", "defaults": "c", "rows": dict(rows)})
    monkeypatch.setattr(presets, "builtin_configs", lambda _: {"elr": None})
    with pytest.raises(UserError) as error:
        load_presets.__wrapped__("elr")
    assert "configs/presets/elr.yaml: rows.b.source: " in str(error.value)
    del rows["b"]
    with pytest.raises(UserError) as error:
        load_presets.__wrapped__("elr")
    message = str(error.value)
    assert "rows.a.settings: unknown parameter `betta`; did you mean `beta`?" in message
    assert "rows.a.budget.epochs: " in message
    assert "rows.a: unknown dataset `cifr10`; did you mean `cifar10`" in message
    assert "defaults: unknown row `c`" in message


def test_a_named_preset_of_other_data_is_said() -> None:
    (note,) = spec_of(
        "cifar100", "symmetric_inclusive", "noise.rate=0.4", "mitigations=elr(preset=cifar10-symmetric)", "budget=paper"
    ).notes
    assert note == (
        "elr: preset=cifar10-symmetric was published for cifar10, symmetric_inclusive or symmetric_exclusive, and this run "
        "has cifar100 with symmetric_inclusive noise at 0.4"
    )
    (note,) = spec_of("cifar10", "asymmetric", "mitigations=elr(preset=cifar10-symmetric)", "budget=paper").notes
    assert note.endswith("this run has cifar10 with asymmetric noise at 0.4")


def test_the_record_of_a_run_keeps_its_notes_and_what_selected_its_preset(tmp_path: Path) -> None:
    fields = {"dataset": "cifar10", "noise": {"name": "asymmetric", "rate": 0.4}, "budget": {"epochs": 2}}
    data = toy_dataset()
    # The name of the dataset selects the row; the data are handed over.
    prepared = prepare_run(toy_spec({"name": "elr", "preset": "paper"}, **fields), data, toy_labels(data))
    (note,) = prepared.spec.notes
    assert note.startswith("elr: the published budget of preset=paper differs: network=resnet34_cifar_stem, ")
    record = train_toy(prepared, tmp_path).record({})
    assert [row.warnings for row in record.rows] == [[note], []]
    assert record.privileged == ["noise_type"]
    assert record.stack == "elr(preset=paper)"
    # A verifier comes to the same label and privileged information from the specification alone.
    again = resolve(record.spec)
    assert (again.stack, list(again.preset_privileged), again.notes) == (record.stack, record.privileged, (note,))
    assert not [line for line in check_specification(record, again) if "is claimed to be" in line]


ALONE: dict[str, list[str]] = {
    "lr_schedule": ["constant", "cosine", "polynomial", "multistep", "cosine_warm_restarts", "constant_then_linear"],
    "optimizer": ["sgd", "adam"], "learning_rate": ["0.05", "1e-6"], "epochs": ["2"], "momentum": ["0.0"],
    "lr_milestones": ["[1]"], "nesterov": ["true"], "lr_constant_epochs": ["1"], "lr_min": ["1e-4"], "adam_beta1": ["0.5"],
}  # fmt: skip
"""Fields of a budget that a user may change alone."""


def advice(*overrides: str) -> list[str]:
    """Return the overrides that the messages recommend; empty if the run is valid."""
    try:
        read_recipe("digits", overrides)
    except UserError as error:
        return re.findall(r"set (?:for example )?(budget\.\w+=[^;]*?)(?=;|$)", str(error)) or [str(error)]
    return []


@pytest.mark.parametrize(
    "member", ["co_teaching(preset=cifar100)", "elr(preset=cifar10-symmetric)", "aum(preset=cifar)"]
)
def test_a_message_on_fields_of_a_published_budget_says_what_to_write(member: str) -> None:
    helped = 0
    for field, value in ((field, value) for field, values in ALONE.items() for value in values):
        overrides = [f"mitigations={member}", "budget=paper", f"budget.{field}={value}"]
        recommended = advice(*overrides)
        # Advice on the field itself says that it has no meaning in this budget.
        if not any(text.startswith(f"budget.{field}=") for text in recommended):
            assert advice(*overrides, *recommended) == []
            helped += bool(recommended)
    assert helped


def test_a_schedule_beyond_the_end_of_training_is_noted() -> None:
    spec = spec_of(
        "cifar100", "symmetric_inclusive", "mitigations=elr(preset=cifar100)", "budget=paper", "budget.epochs=100"
    )
    assert spec.notes == (
        "elr: the published budget of preset=cifar100 differs: epochs=150 (budget=paper sets it)",
        "budget.lr_milestones: training ends after 100 epochs, so the learning rate does not change at 120",
    )


def test_a_misspelled_mitigation_with_a_preset_has_one_message_with_the_nearest_name() -> None:
    assert problem("mitigations=elrr(preset=paper)").startswith(
        "mitigations: unknown mitigation `elrr`; did you mean `elr`"
    )
    assert len(problem("mitigations=elrr(preset=paper)", "budget=paper").splitlines()) == 1
