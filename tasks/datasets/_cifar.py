"""The pickled batches of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.data.dataset import RawSplit
from noisybench.tasks.datasets._torchvision import TorchvisionSource, as_examples
from noisybench.utils.seeds import Stream


def read_splits(source: TorchvisionSource, constructor: Any) -> tuple[RawSplit, RawSplit, tuple[str, ...]]:
    """Training and test examples and class names of a torchvision CIFAR dataset."""
    if not source.checksum:

        class Unverified(constructor):  # type: ignore[misc]
            """The same reader, for files that are not the published ones."""

            def _check_integrity(self) -> bool:
                folder = Path(self.root) / self.base_folder
                return all((folder / name).is_file() for name, _ in self.train_list + self.test_list)

            def _load_meta(self) -> None:
                meta = pickle.loads((Path(self.root) / self.base_folder / self.meta["filename"]).read_bytes())
                self.classes = meta[self.meta["key"]]

        constructor = Unverified
    train, test = (source.open(constructor, train=part) for part in (True, False))
    return as_examples(train.data, train.targets), as_examples(test.data, test.targets), tuple(train.classes)


def write_example(
    folder: Path, batches: list[str], test: str, label_key: str, meta: tuple[str, str, list[str]]
) -> None:
    """Write random 32x32 images in the pickled-batch format, 60 per file."""
    folder.mkdir(parents=True)
    for name in [*batches, test]:
        pixels = (Stream("cifar example", name).uniform(60, 3072) * 256).astype(np.uint8)
        batch = {"data": pixels, label_key: [row % len(meta[2]) for row in range(60)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / meta[0]).write_bytes(pickle.dumps({meta[1]: meta[2]}))
