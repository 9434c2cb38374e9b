"""Cards of mitigations, noise models and datasets: complete, and true to the code that they describe without importing it."""

from __future__ import annotations

import re
import shlex

import pytest

from noisybench.config.component_card import CARD_KINDS, component_card
from noisybench.config.papers import all_papers, citations
from noisybench.config.presets import load_presets, mitigations_with_presets
from noisybench.config.registry import Entry, list_entries
from noisybench.config.resolve import read_recipe
from noisybench.config.static_class import TASKS, class_constant
from noisybench.config.suite import read_suite
from noisybench.data.privileged import PRIVILEGED

NO_CITATIONS = ("ISIC 2017", "March 2026", "Pascal VOC 2012")
"""Names with a year that are no papers."""
WITHOUT_PAPER = {
    "cross_entropy", "ensemble", "full_finetuning", "oracle_pruning", "random_pruning", "small_loss_pruning", "trace_filter",
}  # fmt: skip
"""Baselines, and methods of this project."""
FORMULA = re.compile(r"\b(log|exp|sqrt)\(|\w\^|[A-Z]\(\w\) =|\w \* \w")


def builtin(kind: str) -> list[Entry]:
    return [entry for entry in list_entries(kind).values() if entry.module.startswith("noisybench.")]


COMPONENTS = [entry for kind in CARD_KINDS for entry in builtin(kind)]


@pytest.mark.fast
def test_every_citation_has_a_title_and_an_address() -> None:
    cited = {citation for entry in COMPONENTS for citation in citations(entry.documentation)} - {*NO_CITATIONS}
    published = [presets.paper for name in mitigations_with_presets() if (presets := load_presets(name))]
    cited |= {citation for text in published for citation in citations(text)}
    assert cited == all_papers().keys(), "noisybench/config/papers.csv has other papers than the documentation cites"
    for paper in all_papers().values():
        assert re.fullmatch(r"https?://[\w./~()?=-]+", paper.url), paper.url
        assert paper.title.strip(". ") == paper.title


@pytest.mark.fast
def test_every_mitigation_has_a_paper_unless_it_is_a_baseline() -> None:
    without = {entry.name for entry in builtin("mitigations") if not component_card(entry).papers}
    assert without == WITHOUT_PAPER


@pytest.mark.fast
def test_a_formula_in_the_documentation_is_data_of_the_card() -> None:
    with_formula = [entry for kind in ("mitigations", "noise_models") for entry in builtin(kind)]
    missing = [
        entry.name
        for entry in with_formula
        if FORMULA.search(entry.documentation) and not component_card(entry).formula
    ]
    assert missing == []


@pytest.mark.fast
@pytest.mark.parametrize("entry", COMPONENTS, ids=lambda entry: entry.name)
def test_a_card_begins_with_at_most_two_sentences(entry: Entry) -> None:
    card = component_card(entry)
    assert card.lead.endswith(".")
    assert card.lead == " ".join(entry.documentation.split())[: len(card.lead)]
    assert len(card.lead) <= (330 if entry.kind == "mitigations" else 480)
    assert " ".join([card.lead, *card.details]) == " ".join(entry.documentation.split())


@pytest.mark.parametrize("entry", builtin("mitigations"), ids=lambda entry: entry.name)
def test_the_privileged_information_of_a_card_is_that_of_the_class(entry: Entry) -> None:
    uses, cls = component_card(entry).privileged, entry.load_class()
    assert {use.name for use in uses} <= PRIVILEGED.keys()
    assert [use.name for use in uses if use.by_default] == list(cls().requirements.privileged)
    used = {name for case in cls.test_cases() for name in cls(**case).requirements.privileged}
    assert used <= {use.name for use in uses}


@pytest.mark.parametrize("entry", COMPONENTS, ids=lambda entry: entry.name)
def test_the_tasks_of_a_card_are_those_of_the_class(entry: Entry) -> None:
    assert component_card(entry).tasks == tuple(entry.load_class().tasks)
    assert class_constant(entry, "own_files", False) == getattr(entry.load_class(), "own_files", False)


@pytest.mark.parametrize("entry", COMPONENTS, ids=lambda entry: entry.name)
def test_the_command_of_a_card_is_accepted(entry: Entry) -> None:
    program, command, name, *overrides = shlex.split(component_card(entry).command)
    assert program == "noisybench"
    if command == "bench":
        assert {spec.mitigations[0].name for spec in read_suite(name, overrides)} == {entry.name}
    elif command != "embed":
        (spec,) = read_recipe(name, overrides)
        names = {spec.dataset.name, spec.noise.name, *(member.name for member in spec.mitigations)}
        assert entry.name in names


def test_tasks_without_a_declaration_are_those_of_the_base_classes() -> None:
    from noisybench.data.noise_model import NoiseModel
    from noisybench.data.source import DatasetSource
    from noisybench.training.mitigation import Mitigation

    assert Mitigation.tasks == NoiseModel.tasks == DatasetSource.tasks == TASKS
