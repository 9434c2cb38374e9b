"""Defaults, bounds, choices and roles of the parameters of mitigations and noise models.

They are part of a method as much as its formula: a change of a default changes what the name of the method stands for.
"""

from __future__ import annotations

from tests.golden.declared_parameters import frozen_declarations, present_declarations


def test_defaults_and_bounds_are_those_of_the_methods() -> None:
    frozen, present = frozen_declarations(), present_declarations()
    changes = [
        f"{component}.{parameter}: {frozen.get((component, parameter))} -> {present.get((component, parameter))}"
        for component, parameter in sorted(frozen.keys() | present.keys())
        if frozen.get((component, parameter)) != present.get((component, parameter))
    ]
    assert not changes, (
        f"{'; '.join(changes)}. This changes the method: update its fidelity card, presets and CHANGELOG.md, then run "
        "`python -m tests.golden.declared_parameters`"
    )
