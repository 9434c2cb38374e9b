"""The option `--export` of `run`, which refuses what cannot be exported before the run is trained."""

from __future__ import annotations

import pytest

from tests.cli.test_runs import Command


@pytest.mark.parametrize(
    ("recipe", "path", "problem"),
    [
        ("digits", "model.bin", "`model.bin` must end in .onnx (ONNX) or .pt2 (torch.export)"),
        ("digits", "model", "models of the task classification are exported to a .onnx or .pt2 file, not to a folder"),
        ("traced_addition", "model", "`decoder:64x2` has no tokenizer, and cannot be loaded by transformers"),
        ("traced_addition", "model.pt2", "models of the task chain_of_thought write texts; name a new folder"),
    ],
)
def test_an_export_that_is_impossible_is_refused_before_training(
    recipe: str, path: str, problem: str, noisybench: Command
) -> None:
    code, output = noisybench("run", recipe, "--export", path)
    assert code == 2
    assert problem in " ".join(output.split())
    assert "[1/1]" not in output
