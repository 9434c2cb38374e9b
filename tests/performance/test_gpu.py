"""The measurements on a GPU, tried on a CPU in tiny sizes: what they print and write, not how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.performance.gpu import main

ROOT = Path(__file__).parents[2]


def measured(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.performance.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=900)


def test_the_measurements_that_wait_for_a_gpu_run_to_their_end(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    cases = ("pls", "lsa", "resnet8", "resnet18/256")
    done = measured(
        "steps", "methods", "scoring", "processes", "--cases", *cases, "--trial", "--output", str(file)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(file.read_text())
    assert [row["measure"] for row in rows] == [
        "resnet18, batch 256", "pls against cross-entropy", "lsa against cross-entropy",
        "ten scoring networks, resnet8, batch 8", "processes, resnet8, batch 128",
    ]  # fmt: skip
    # Two passes with gradients of three forward passes each, and two or one without, against one with gradients. The first
    # layer has no gradient of its inputs, so that a pass with gradients has less than three.
    assert 8 / 3 < rows[1]["operations"] < 3.3
    assert 7 / 3 < rows[2]["operations"] < 2.9
    assert rows[3]["stacked against in turn"] > 0
    assert rows[4]["2 against one"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "no such group: speed; choose from steps"),
        (["methods", "--cases", "lsaa"], "no such case: lsaa; choose from"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_measured(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments, "--trial"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert message in capsys.readouterr().err
