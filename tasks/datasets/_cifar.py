"""The pickled batches of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.data.dataset import RawSplit
from noisybench.data.images.examples import class_images
from noisybench.tasks.datasets._torchvision import TorchvisionSource
from noisybench.utils.seeds import Stream


def read_splits(source: TorchvisionSource, constructor: Any) -> tuple[RawSplit, RawSplit, tuple[str, ...]]:
    """Return training and test examples and class names of a torchvision CIFAR dataset."""
    # torchvision has no setting for this, and compares the checksums of the batches and of the metadata.
    if not source.checksum:

        class Unverified(constructor):  # type: ignore[misc]
            """The same reader without checksums."""

            def _check_integrity(self) -> bool:
                folder = Path(self.root) / self.base_folder
                return all((folder / name).is_file() for name, _ in self.train_list + self.test_list)

            def _load_meta(self) -> None:
                meta = pickle.loads((Path(self.root) / self.base_folder / self.meta["filename"]).read_bytes())
                self.classes = meta[self.meta["key"]]

        constructor = Unverified
    train, test = (source.open(constructor, train=is_train) for is_train in (True, False))
    splits = [source.to_raw_split(split.data, split.targets) for split in (train, test)]
    return splits[0], splits[1], tuple(map(str, train.classes))


def write_example(
    folder: Path, batches: list[str], test: str, label_key: str, meta: tuple[str, str, list[str]]
) -> None:
    """Write 32x32 images in the pickled-batch format, 60 per file.

    Args:
        folder: folder to create.
        batches: file names of the training batches.
        test: file name of the test batch.
        label_key: key of the labels in a batch.
        meta: file name of the metadata, its key of the class names, and the class names.
    """
    folder.mkdir(parents=True)
    meta_file, names_key, class_names = meta
    for name in [*batches, test]:
        labels = np.arange(60) % len(class_names)
        pixels = class_images(Stream("cifar example", name), labels, len(class_names), (3072,))
        batch = {"data": pixels, label_key: labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / meta_file).write_bytes(pickle.dumps({names_key: class_names}))
