"""Areas under the margin of the authors' library."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.golden.reference import imports_from

REFERENCE = "https://github.com/asappresearch/aum"
COMMIT = "892e76eda4b6b85e21bda441d86134e0430ded7a"
COMPUTED = "AUMCalculator.update: areas of 12 examples of 5 classes after 6 epochs"


def generate(folder: Path) -> dict[str, Any]:
    """Return the logits of every epoch, labels and areas."""
    with imports_from(folder):
        from aum import AUMCalculator
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (6, 12, 5)).astype(np.float32), rng.integers(0, 5, 12)
    with tempfile.TemporaryDirectory() as results:
        calculator = AUMCalculator(results)
        for epoch in logits:
            records = calculator.update(torch.from_numpy(epoch), torch.from_numpy(labels), list(range(12)))
    return {"logits": logits, "labels": labels, "areas": np.array([records[number].aum for number in range(12)])}
