"""Published settings: the row that a run uses, its budget, and the notes about both."""

from __future__ import annotations

from typing import Any

import pytest

from noisybench.config.budget import Budget
from noisybench.config.presets import load_presets, mitigations_with_presets
from noisybench.config.registry import get_entry
from noisybench.config.resolve import read_recipe, resolve
from noisybench.config.spec import RunSpec
from noisybench.errors import UserError


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


def test_a_row_that_was_chosen_by_the_noise_is_privileged_and_one_chosen_by_name_is_not() -> None:
    assert spec_of("cifar10", "symmetric_inclusive", "mitigations=elr(preset=paper)").preset_privileged == (
        "noise_type",
    )
    assert spec_of("cifar100", "symmetric_inclusive", "mitigations=elr(preset=paper)").preset_privileged == ()
    named = spec_of("cifar10", "symmetric_inclusive", "mitigations=elr(preset=cifar10-symmetric)")
    assert named.preset_privileged == ()


def test_a_copy_of_cifar_in_another_format_is_recognized_by_its_class_names() -> None:
    names = "dataset.class_names=[airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck]"
    spec = spec_of("parquet", "symmetric_inclusive", names, "mitigations=elr(preset=paper)")
    assert spec.mitigations[0].parameters["beta"] == 0.7


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
    assert spec.notes == ("elr: preset=paper was published with another budget: epochs=150 (budget=paper sets it)",)


def test_budget_paper_needs_a_preset() -> None:
    assert "budget: `paper` is the published budget of a preset, but no mitigation" in problem("budget=paper")
    assert "budget.preset: must be `paper`, but got 'papr'" in problem(
        "mitigations=elr(preset=cifar100)", "budget=papr"
    )
    assert "budget: expected a mapping of network" in problem("budget=5")


def test_defaults_of_other_data_are_said_and_own_settings_are_not() -> None:
    spec = spec_of("cifar100", "symmetric_inclusive", "mitigations=elr")
    assert spec.notes == ("elr: its defaults are those of cifar10; preset=paper has those of cifar100",)
    assert spec_of("cifar100", "symmetric_inclusive", "mitigations=elr(beta=0.8)").notes == ()
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
    presets = load_presets(mitigation)
    assert presets is not None
    fields = get_entry("mitigations", mitigation).schema.fields
    for row in presets.rows.values():
        Budget(**row.budget)
    if presets.defaults is not None:
        defaults: dict[str, Any] = {name: declared.default for name, (_, declared) in fields.items()}
        settings = presets.rows[presets.defaults].settings
        assert {name: defaults[name] for name in settings} == settings
