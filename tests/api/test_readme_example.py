"""The Python example of the README runs exactly as it is written."""

from __future__ import annotations

import os
import re
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from PIL import Image

import noisybench as nb

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(not os.environ.get("NOISYBENCH_SLOW"), reason="NOISYBENCH_SLOW is not set")
def test_the_example_of_the_readme_runs_as_written(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    matplotlib.use("agg")
    digits = nb.load_dataset("digits", train_size=300)
    for name, value in (("cat", 80), ("dog", 160)):
        for number in range(12):
            file = workspace / "photos" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), value + number).save(file)
    # The table of the suite needs finished runs.
    nb.bench(
        "quickstart",
        noise=[{"name": "pair_flip", "rate": 0.4}],
        stacks=["cross_entropy", "elr"],
        seeds=[0],
        progress=False,
    )

    features = digits.train.inputs.reshape(300, -1) / 16.0
    names = {"X": features, "y": digits.train.targets, "images": digits.test.inputs}
    exec(compile(code, str(README), "exec"), names)

    assert 0.3 < names["noisy"].is_mislabeled.mean() < 0.5
    assert names["data"].class_names == ("cat", "dog")
    assert 0.4 < names["result"].score < 1
    assert set(names["frame"]["stack"]) == {"cross_entropy", "elr"}
    assert len(names["board"].rows) == 2
    assert "elr" in names["board"]._repr_html_()
    assert names["model"].predict(names["images"]).shape == (len(digits.test),)
    assert isinstance(names["report"].suspects, pd.DataFrame)
    assert names["clf"].score(features, digits.train.targets) > 0.9
