"""What is mutated, and which tests ought to notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Area:
    """Modules, and the tests that are run for a mutant of one of them.

    Attributes:
        modules: patterns of files, relative to the root of the repository.
        tests: files and folders of tests, the quickest first; a mutant is killed by the first test that fails.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]

    def files(self) -> list[str]:
        """Return the files of the area in order."""
        return sorted({path.relative_to(ROOT).as_posix() for pattern in self.modules for path in ROOT.glob(pattern)})


STATISTICS = ("statistics", "pair_model", "moderation", "multiplicity", "pairwise", "mixed_model", "verdict")

AREAS = {
    "statistics": Area(
        tuple(f"leaderboard/{name}.py" for name in STATISTICS),
        tuple(
            f"tests/leaderboard/test_{name}.py"
            for name in (
                "moderation",
                "multiplicity",
                "statistics",
                "ragged_seeds",
                "unstable_stacks",
                "verdict",
                "leaderboard",
            )
        ),
    ),
    "metrics": Area(
        ("noisybench/evaluation/*.py", "noisybench/records/selection.py"),
        ("tests/evaluation", "tests/golden", "tests/tasks/test_segmentation.py"),
    ),
    "losses": Area(
        ("noisybench/mitigations/*.py", "noisybench/nn/*.py"),
        (
            "tests/golden",
            "tests/nn",
            "tests/training/test_cuda_graphs.py",
            "tests/mitigations",
            "tests/test_doctests.py",
            "tests/tasks/test_pretraining.py",
        ),
    ),
    "noise": Area(
        ("noise_models/*.py",),
        ("tests/test_label_hashes.py", "tests/golden", "tests/noise_models"),
    ),
    "masks": Area(
        ("tasks/_mask_evaluator.py", "tasks/_mask_augmentation.py", "tasks/segmentation.py"),
        (
            "tests/golden",
            "tests/evaluation",
            "tests/tasks/test_mask_augmentation.py",
            "tests/tasks/test_segmentation.py",
        ),
    ),
}
