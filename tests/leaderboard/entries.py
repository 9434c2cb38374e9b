"""Small submissions of short real runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noisybench.config.resolve import resolve
from noisybench.leaderboard import submission, verification
from noisybench.runs import runner
from noisybench.tracking.store import Store

DATA = {"name": "digits", "train_size": 150, "test_size": 60}
NOISE = {"name": "pair_flip", "rate": 0.3}
BUDGET = {"network": "small_cnn", "epochs": 3, "batch_size": 32, "learning_rate": 0.05}
CLASSES = {"dataset": DATA, "noise": NOISE, "budget": BUDGET}


def write_entry(folder: Path, stacks: Sequence[Any], name: str = "entry", setting: Mapping[str, Any] = CLASSES) -> Path:
    """Train one short run per stack of a setting in the store of a folder, and package them."""
    with contextlib.chdir(folder):
        store = Store()
        store.connection.check()
        for stack in stacks:
            runner.execute(resolve({**setting, "mitigations": stack}), store, lambda kind, data: None, lambda: False)
        runs = verification.collect_evidence(store, store.runs.list_runs("FINISHED"))
        submission.write(folder / name, "short runs", "0", runs)
    return folder / name
