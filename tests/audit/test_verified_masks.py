"""The loop of a data team with masks: decide, apply, audit again, and train with what was verified."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.data.masks.packed import mask_digest, pack_mask
from noisybench.data.targets import IGNORED
from noisybench.tracking.store import Store
from tests.audit.test_masks import squares

Command = Callable[..., tuple[int, str]]

DATASET = {"size": 16, "resize_mode": "letterbox", "validation_fraction": 0.0}
PALETTE = np.zeros((256, 3), dtype=np.uint8)


def load_dataset(root: Path) -> Dataset:
    made: Dataset = get_entry("datasets", "image_mask_folder").load_class()(root=root, **DATASET).load()
    return made


def given_masks(dataset: Dataset) -> dict[str, NDArray[np.uint8]]:
    """Return the mask of each file of the training and test split."""
    return {
        dataset.source_names[row]: mask
        for split in (dataset.train, dataset.test)
        for row, mask in zip(split.index, split.targets, strict=True)
    }


def with_square(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    corrected = mask.copy()
    corrected[4:11, 4:11] = 1
    return corrected


def write_decisions(path: Path, masks: dict[str, NDArray[np.uint8]]) -> None:
    """Accept a square in the mask that lacks one, exclude an image, keep two masks, and be unsure about another."""
    rows = [
        ("p07", "accept", pack_mask(with_square(masks["p07"]), PALETTE)),
        ("p01", "exclude", ""), ("p02", "keep", ""), ("p03", "keep", ""), ("p04", "unsure", ""),
    ]  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "given", "decision", "new_mask"])
        writer.writerows([name, mask_digest(masks[name]), word, mask] for name, word, mask in rows)


def test_verified_masks_are_trained_on_and_have_no_suspects_in_a_second_audit(
    noisybench: Command, workspace: Path
) -> None:
    squares(workspace / "photographs")
    dataset = load_dataset(workspace / "photographs")
    masks = given_masks(dataset)
    write_decisions(workspace / "decisions.csv", masks)
    status, output = noisybench("audit", "apply", "decisions.csv", "photographs", "dataset.size=16", "-o", "verified")
    assert status == 0, output
    assert "1 accepted, 0 relabeled, 2 kept, 1 excluded" in output
    assert "3 masks, of which 1 were incorrect (33.3%)" in output
    assert "background -> class 1 49 pixels" in output
    overrides = ["dataset=image_mask_folder", "dataset.root=photographs"]
    overrides += [f"dataset.{name}={value}" for name, value in DATASET.items()]
    assert noisybench("labels", "import", "decisions.csv", "audit_masks", *overrides, "-o", "imported")[0] == 0
    first, second = (json.loads((workspace / name / "manifest.json").read_text()) for name in ("verified", "imported"))
    assert first == second
    labels = label_files.load(workspace / "verified")
    assert labels.verification is not None
    assert labels.verification.statistics["train"] == {"verified": 3, "incorrect": 1, "excluded": 1}
    applied = labels.apply_to(dataset)
    names = [dataset.source_names[row] for row in applied.train.index]
    assert "p01" not in names, "excluded images are not trained on"
    for name, observed, clean in zip(names, labels.train, applied.train.targets, strict=True):
        assert np.array_equal(observed, with_square(masks[name]) if name == "p07" else masks[name])
        # Only verified masks are known to be correct.
        is_verified = name in ("p07", "p02", "p03")
        assert np.array_equal(clean, observed if is_verified else np.full_like(observed, IGNORED))
    tiny = ["dataset.size=16", "budget.network=unet:2", "execution.num_threads=1", "budget.epochs=1"]
    source = ("noise=from_file", "noise.path=verified")
    status, output = noisybench("audit", "photographs", *tiny, *source, "--folds", "2", "-o", "again")
    assert status == 0, output
    assert "verified by people: 3 masks, which have no suspects" in output
    assert "compared with the clean masks" not in output, "nothing is known about the others"
    rows = list(csv.DictReader((workspace / "again" / "scores.csv").read_text().splitlines()))
    assert len(rows) == 19
    assert {row["file"] for row in rows[-3:]} == {"p07", "p02", "p03"}
    assert [row["is_verified"] for row in rows] == ["false"] * 16 + ["true"] * 3
    assert all(float(row["suspect_share"]) == 0 for row in rows[-3:])
    run = ("run", "audit_masks", *overrides, *tiny[1:], *source, "noise.use=verified,given")
    status, output = noisybench(*run)
    assert status == 0, output
    records = {record.spec["noise"]["use"]: record for record in Store().runs.records()}
    # Of the given masks one is known to be incorrect, of the verified ones none.
    assert records["verified"].detection.auroc is None
    assert records["given"].detection.auroc is not None


MASK = pack_mask(np.zeros((16, 16), dtype=np.uint8), PALETTE)
LARGE = pack_mask(np.zeros((8, 8), dtype=np.uint8), PALETTE)
BEYOND = pack_mask(np.full((16, 16), 7, dtype=np.uint8), PALETTE)
EMPTY = pack_mask(np.full((16, 16), IGNORED, dtype=np.uint8), PALETTE)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file,decision\np00,accept\n", "line 2: accepts a predicted mask, but has none; the page of the audit writes it"),
        ("file,decision\np00,acept\n", "unknown decision `acept`; did you mean `accept`"),
        (f"file,decision,new_mask\np00,exclude,{MASK}\n", "has the decision exclude, but also a `new_mask`"),
        (f"file,decision,new_mask\np00,accept,{LARGE}\n", "is no mask of 16x16 pixels but a picture of 8x8"),
        (f"file,decision,new_mask\np00,accept,{BEYOND}\n", "`new_mask` has classes up to 7, but there are 2"),
        (f"file,decision,new_mask\np00,accept,{EMPTY}\n", "has no labeled pixel; write exclude"),
        ("file,decision,new_mask\np00,accept,AAAA\n", "`new_mask` is damaged"),
        ("file,decision,given\np00,keep,0123456789abcdef\n", "decides about another mask than that of the dataset"),
        ("file,decision\np99,keep\n", "no file `p99`"),
        ("file,decision\np00,unsure\n", "no decision but `unsure`, which changes nothing"),
        ("file,label\np00,1\n", "has no column `decision` or `new_mask`"),
    ],
)  # fmt: skip
def test_decisions_that_do_not_fit_write_nothing(
    content: str, expected: str, noisybench: Command, workspace: Path
) -> None:
    squares(workspace / "photographs")
    (workspace / "decisions.csv").write_text(content)
    status, output = noisybench("audit", "apply", "decisions.csv", "photographs", "dataset.size=16", "-o", "verified")
    assert status == 2
    assert expected in " ".join(output.split())
    assert output.count("error:") == 1
    assert not (workspace / "verified").exists()


def test_decisions_of_another_size_are_refused(noisybench: Command, workspace: Path) -> None:
    squares(workspace / "photographs")
    write_decisions(workspace / "decisions.csv", given_masks(load_dataset(workspace / "photographs")))
    status, output = noisybench("audit", "apply", "decisions.csv", "photographs", "dataset.size=32", "-o", "verified")
    assert status == 2
    assert "give the dataset's parameters and the noise of that audit, such as dataset.size=128" in output


def test_a_table_of_labels_is_refused_for_masks(noisybench: Command, workspace: Path) -> None:
    (workspace / "labels.csv").write_text("observed\n1\n0\n")
    status, output = noisybench("labels", "create", "scenes", "noise=from_file", "noise.path=labels.csv")
    assert status == 2
    assert "holds no decisions about masks" in " ".join(output.split())
    assert "noise=from_folder" in output
