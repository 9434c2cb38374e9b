"""The map of names: complete, and only of what exists."""

from __future__ import annotations

from noisybench.config.registry import list_entries
from noisybench.leaderboard.method_names import (
    LIBRARY_METHODS,
    MISSING,
    library_names,
    literature_names,
    names_to_markdown,
)
from noisybench.leaderboard.published import METHODS, all_published


def test_every_method_of_the_library_has_one_name_here() -> None:
    assert len(LIBRARY_METHODS) == len(set(LIBRARY_METHODS.values())) == 23
    assert dict(library_names()) == LIBRARY_METHODS, "all of them are registered"


def test_every_published_name_is_listed_with_its_results() -> None:
    names = literature_names()
    assert sum(count for *_, count in names) == len(all_published())
    assert {name for name, *_ in names} == {result.method for result in all_published()}
    found = {name: ours for name, ours, _ in names}
    assert (found["Co-teaching+"], found["Negative-LS"], found["M-DYR-H"]) == ("co_teaching_plus", "gls", "")
    assert found["C2D(ELR+)"] == "simclr+elr_plus"


def test_the_stacks_of_published_names_consist_of_registered_mitigations() -> None:
    for stack, names in METHODS.items():
        members = [member.partition("(")[0] for member in stack.split("+")]
        assert set(members) <= set(list_entries("mitigations")), stack
        assert names


def test_a_method_that_is_not_here_is_marked() -> None:
    lines = names_to_markdown()
    assert "| co_teaching_plus | `co_teaching_plus` |" in lines
    assert f"| M-DYR-H | {MISSING} | 16 |" in lines
