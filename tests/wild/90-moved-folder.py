"""A working folder that was moved, copied or mounted elsewhere keeps its leaderboard.

mlflow/mlflow#3144, #8226, ultralytics-like cluster scratch folders.
"""

from __future__ import annotations

import os
import shutil

from wild import nb, scratch, verdict


def main() -> None:
    root = scratch("90")
    (root / "here").mkdir()
    os.chdir(root / "here")
    nb("run", "digits", "budget.epochs=2", "dataset.train_size=100", "mitigations=cross_entropy,mixup", "--jobs", "1")
    os.chdir(root)
    shutil.move("here", "there")
    os.chdir(root / "there")
    status, text = nb("leaderboard")
    again, _ = nb(
        "run",
        "digits",
        "budget.epochs=2",
        "dataset.train_size=100",
        "mitigations=cross_entropy,mixup,elr",
        "--jobs",
        "1",
    )
    verdict(
        status == 0 and "mixup" in text and again == 0, f"leaderboard status {status}, a further run status {again}"
    )


if __name__ == "__main__":
    main()
