"""The loop of a data team: audit a folder, decide, apply, audit again, and train with what was verified."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisybench.config.registry import get_entry
from noisybench.tracking.store import Store

Command = Callable[..., tuple[int, str]]

NUM_PLANTED = 30
SHORT = ("dataset.size=12", "budget.network=mlp:16", "budget.epochs=5", "budget.batch_size=16", "budget.learning_rate=0.05",
         "budget.augmentation=none")  # fmt: skip


def is_bright(file: str) -> bool:
    return int(Path(file).stem) % 2 == 1


def write_images(root: Path) -> None:
    """Write 120 bright and dark squares, 30 of them into the folder of the other class."""
    rng = np.random.default_rng(0)
    for number in range(120):
        label = number % 2 if number >= NUM_PLANTED else 1 - number % 2
        folder = root / ("dark", "bright")[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (12, 12, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.png")


def read_scores(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))


def test_verified_labels_are_trained_on_and_no_suspects_of_a_second_audit(noisybench: Command, workspace: Path) -> None:
    write_images(workspace / "images")
    assert noisybench("audit", "images", *SHORT, "--folds", "2")[0] == 0
    # A person accepts every suggestion that is correct, keeps ten other labels, and is not sure about one.
    rows = read_scores(workspace / "audit")
    wrong = [row for row in rows if (row["label"] == "bright") != is_bright(row["file"])]
    correct = [row for row in rows if row not in wrong]
    assert len(wrong) == NUM_PLANTED
    accepted = [row for row in wrong if row["suggested"] != row["label"]][:-1]
    assert len(accepted) > 20
    for row in accepted:
        row |= {"decision": "accept", "new_label": row["suggested"]}
    for row in correct[:10]:
        row |= {"decision": "keep", "new_label": row["label"]}
    with (workspace / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    status, output = noisybench("audit", "apply", "scores.csv", "images", "dataset.size=12", "-o", "verified")
    assert status == 0, output
    assert f"{len(accepted)} accepted, 0 relabeled, 10 kept, 0 excluded" in output
    assert f"{len(accepted) + 10} labels, of which {len(accepted)} were incorrect" in output
    dataset = ("dataset=image_folder", "dataset.root=images", "dataset.size=12", "dataset.validation_fraction=0")
    assert noisybench("labels", "import", "scores.csv", "audit", *dataset, "-o", "imported")[0] == 0
    first, second = (json.loads((workspace / name / "manifest.json").read_text()) for name in ("verified", "imported"))
    assert first == second
    status, output = noisybench(
        "audit", "images", *SHORT, "--folds", "2", "noise=from_file", "noise.path=verified", "-o", "second"
    )
    assert status == 0, output
    assert f"verified by people: {len(accepted) + 10} labels, which are no suspects" in output
    again = read_scores(workspace / "second")
    assert sum(row["is_verified"] == "true" for row in again) == len(accepted) + 10
    assert not any(row["is_verified"] == "true" and row["is_suspect"] == "true" for row in again)
    changed = {row["file"] for row in accepted}
    assert all((row["label"] == "bright") == is_bright(row["file"]) for row in again if row["file"] in changed)
    status, output = noisybench(
        "run", "audit", *dataset, *SHORT[1:], "noise=from_file", "noise.path=verified", "noise.use=verified,given"
    )
    assert status == 0, output
    records = {record.spec["noise"]["use"]: record for record in Store().runs.records()}
    # Of the given labels some are known to be incorrect, of the verified ones none.
    assert records["verified"].detection.auroc is None
    assert records["given"].detection.auroc > 0.8
    assert records["verified"].rows[-1].test_score >= 0.9, "test examples have verified labels"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file,decision\nbright/000.png,accept\n", "accepts a suggestion, but has none"),
        ("file,decision\nbright/999.png,exclude\n", "no file `bright/999.png`"),
        ("file,new_label\nbright/000.png,gray\n", "the label `gray` is none of the 2 classes"),
        (
            "index,split,decision\n0,trian,exclude\n",
            "DECISIONS: decisions.csv, line 2: unknown split `trian`; did you mean",
        ),
        (
            "index,label\n0,bright\n",
            "DECISIONS: decisions.csv has no column `decision` or `new_label`, but index, label",
        ),
        ("file,decision\nbright/999.png,keep\nbright/001.png,keep\n", "remove these rows"),
    ],
)
def test_decisions_that_do_not_fit_write_nothing(
    content: str, expected: str, noisybench: Command, workspace: Path
) -> None:
    write_images(workspace / "images")
    (workspace / "decisions.csv").write_text(content)
    status, output = noisybench("audit", "apply", "decisions.csv", "images", "dataset.size=12", "-o", "verified")
    assert status == 2
    assert expected in output
    assert output.count("error:") == 1
    assert not (workspace / "verified").exists()
    assert "noise." not in output, "the user gave no parameters of noise"


def test_a_decision_belongs_to_its_example_whatever_the_split(noisybench: Command, workspace: Path) -> None:
    write_images(workspace / "images")
    write_images(workspace / "own" / "train")
    rng = np.random.default_rng(1)
    for label in ("dark", "bright"):
        (workspace / "own" / "test" / label).mkdir(parents=True)
        pixels = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(workspace / "own" / "test" / label / "0.png")
    dataset = get_entry("datasets", "image_folder").load_class()(root=workspace / "images", size=12).load()
    # Splits that are drawn may be others than those of the audit.
    for number, (split, is_noted) in enumerate(((dataset.train, True), (dataset.test, False))):
        file = dataset.source_names[split.index[0]]
        (workspace / "decisions.csv").write_text(f"split,file,decision\ntest,{file},exclude\n")
        status, output = noisybench(
            "audit", "apply", "decisions.csv", "images", "dataset.size=12", "-o", f"verified{number}"
        )
        assert status == 0, output
        assert ("note: Decisions name another split than that of their example here" in output) is is_noted
    # A test split of the source's own has its own rows.
    (workspace / "decisions.csv").write_text("split,file,decision\ntest,train/bright/031.png,exclude\n")
    status, output = noisybench("audit", "apply", "decisions.csv", "own", "dataset.size=12", "-o", "other")
    assert status == 2
    assert "line 2: the split is test, but the file `train/bright/031.png` is one of train" in output
