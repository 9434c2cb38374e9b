"""Options that are overrides are answered with the override; help is available everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Command = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("line", "override"),
    [
        ("run digits --epochs 5", "budget.epochs=5"),
        ("run digits --epochs=5", "budget.epochs=5"),
        ("run digits --lr 0.1", "budget.learning_rate=0.1"),
        ("run digits --learning-rate 0.1", "budget.learning_rate=0.1"),
        ("run digits --batch-size=32 noise=clean", "budget.batch_size=32"),
        ("run digits --seed 3", "seed=3"),
        ("run --noise pair_flip digits", "noise=pair_flip"),
        ("run digits --mitigation elr", "mitigations=elr"),
        ("run digits --model mlp:8", "budget.network=mlp:8"),
        ("run digits --epoch", "budget.epochs=VALUE"),
        ("run digits --device cuda", "execution.device=cuda"),
        ("bench quickstart --seeds 1", "seeds=1"),
        ("bench quickstart --mitigations elr", "stacks=elr"),
        ("search digits --trials 5", "trials=5"),
        ("inspect digits --noise pair_flip", "noise=pair_flip"),
        ("labels create digits --noise-rate 0.1", "noise.rate=0.1"),
        ("audit images --epochs 3", "budget.epochs=3"),
        ("validate digits --optimizer adam", "budget.optimizer=adam"),
    ],
)
def test_an_unknown_option_is_answered_with_its_override(noisybench: Command, line: str, override: str) -> None:
    status, output = noisybench(*line.split())
    assert status == 2
    assert output.endswith(f"settings are overrides without dashes: {override}\n"), output


@pytest.mark.parametrize(
    "line", ["run digits --job 2", "run digits --qqq", "run digits --jobs", "leaderboard --seed 5"]
)
def test_other_unknown_options_keep_the_usual_message(noisybench: Command, line: str) -> None:
    status, output = noisybench(*line.split())
    assert status == 2
    assert "Error: " in output


@pytest.mark.parametrize("command", ["", "run", "bench", "search", "labels", "labels create", "leaderboard", "doctor"])
def test_the_short_option_for_help_works_everywhere(noisybench: Command, command: str) -> None:
    assert noisybench(*command.split(), "-h") == noisybench(*command.split(), "--help")
    status, output = noisybench(*command.split(), "-h")
    assert status == 0
    assert "Usage: noisybench" in output
