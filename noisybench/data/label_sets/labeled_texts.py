"""Labeled texts as JSON lines: the texts of a dataset with the labels of a label set, and the fields of their source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import LabelSet, with_clean_targets
from noisybench.data.targets import Targets
from noisybench.data.texts import is_text, texts_of
from noisybench.errors import UserError


def write_labeled_texts(labels: LabelSet, dataset: Dataset, file: Path) -> int:
    """Write a line for each text, with its split, index, clean and observed class, and return their number.

    Classes are written by name, null if they are unknown or not given; those that people have verified are the clean ones. Test
    texts have no observed class. Fields of the source follow; one with the name of a field above is named `original_NAME`.

    Args:
        labels: classes of the texts.
        dataset: dataset of the label set.
        file: file to write.

    Raises:
        UserError: the inputs of the dataset are no texts.
    """
    if not is_text(dataset.train.inputs[:1]):
        raise UserError(
            f"the dataset {dataset.name} has no texts, which JSON lines would repeat; name a table (.csv or .parquet) instead"
        )
    applied = with_clean_targets(dataset, labels.replaced, labels.verification)
    splits: dict[str, tuple[Split, Targets | None]] = {
        "train": (applied.train, labels.observed("train")),
        "validation": (applied.validation, labels.observed("validation")),
        "test": (applied.test, None),
    }

    def name_of(target: int) -> str | None:
        return dataset.class_names[target] if target >= 0 else None

    count = 0
    with file.open("w", encoding="utf-8") as lines:
        for name, (split, observed) in splits.items():
            texts, fields = texts_of(split.inputs[:]), split.fields or ({},) * len(split)
            for row, (text, others) in enumerate(zip(texts, fields, strict=True)):
                line: dict[str, Any] = {
                    "split": name, "index": int(split.index[row]), "text": text, "clean": name_of(int(split.targets[row])),
                }  # fmt: skip
                if observed is not None:
                    line["observed"] = name_of(int(observed[row]))
                line |= {f"original_{field}" if field in line else field: value for field, value in others.items()}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += len(texts)
    return count
