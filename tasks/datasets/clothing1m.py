"""Clothing1M: a million images of clothes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.data.dataset import RawSplit
from noisybench.data.labels.class_names import check_class_names
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import WebImages, read_list, write_images, write_list
from noisybench.utils.file_listing import FileList, Source
from noisybench.utils.places import read_text

KEY_LISTS = ("noisy_train_key_list.txt", "clean_test_key_list.txt")
LABEL_LISTS = ("noisy_label_kv.txt", "clean_label_kv.txt")
NAME_LIST = "category_names_eng.txt"


class Clothing1M(WebImages):
    """Clothing1M: a million images of 14 classes, labeled by the surrounding text in online shops (Xiao et al. 2015).

    Reads the published lists: `noisy_train_key_list.txt`, `noisy_label_kv.txt`, `clean_test_key_list.txt`,
    `clean_label_kv.txt` and, for names, `category_names_eng.txt`. Training images have noisy labels; the target is the
    label of human annotators for images that they have checked, and unknown for all others. The test split is the clean
    test list; the clean training and validation lists are not used. Use it with noise=real_world.
    """

    license = License(
        "not stated", "https://github.com/Cysu/noisy_label", "registration", "the authors send links on request"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the lists, and the images that they name."""
        if self.root is None:
            return {}
        folder = self.folder
        lists = [name for name in (*KEY_LISTS, *LABEL_LISTS, NAME_LIST) if (folder / name).is_file()]
        images = tuple(key for name in KEY_LISTS for key in self._read_lines(name))
        return {**{name: folder / name for name in lists}, "images": FileList(folder, images)}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the lists, and decode every image once."""
        noisy, clean = (_read_labels(self.folder / name) for name in LABEL_LISTS)
        train = self._read_keys(KEY_LISTS[0], noisy, LABEL_LISTS[0])
        test = self._read_keys(KEY_LISTS[1], clean, LABEL_LISTS[1])
        # Counted from the labels, because the file with the names is optional.
        num_classes = 1 + max(*(noisy[key] for key in train), *(clean[key] for key in test))
        return (
            self.read_examples(
                [self.folder / key for key in train],
                [clean.get(key, UNKNOWN_TARGET) for key in train],
                [noisy[key] for key in train],
            ),
            self.read_clean([(self.folder / key, clean[key]) for key in test]),
            self._class_names(num_classes),
        )

    def _class_names(self, num_classes: int) -> tuple[str, ...]:
        file = self.folder / NAME_LIST
        if not file.is_file():
            return tuple(str(index) for index in range(num_classes))
        names = [line.strip() for line in read_text(file, "dataset.root").splitlines() if line.strip()]
        # An incomplete list of names might assign them to other classes.
        if len(names) < num_classes:
            raise UserError(
                f"{file}: has {len(names)} names, but there are {num_classes} classes; complete or remove it"
            )
        check_class_names(names, str(file))
        return tuple(names)

    def _read_keys(self, name: str, labels: dict[str, int], label_file: str) -> list[str]:
        """Return the files of a list, each of which has a label."""
        file, keys = self.folder / name, self._read_lines(name)
        unlabeled = [key for key in keys if key not in labels]
        if unlabeled or not keys:
            first = f" (first: {unlabeled[0]})" if unlabeled else ""
            raise UserError(f"{file}: {len(unlabeled)} of {len(keys)} images have no label in {label_file}{first}")
        return keys

    def _read_lines(self, name: str) -> list[str]:
        """Return the lines of a list that are not empty."""
        file = self.folder / name
        if not file.is_file():
            raise UserError(f"dataset.root: the list {file} is missing; it is part of the dataset, download it as well")
        return [line.strip() for line in read_text(file, "dataset.root").splitlines() if line.strip()]

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write images of three classes; every fourth training label is checked, and half of these are incorrect."""
        train = [(f"images/{row % 10}/{row:04}.jpg", row % 3) for row in range(60)]
        test = [(f"images/9/t{row:04}.jpg", row % 3) for row in range(15)]
        checked = [(name, (label + row % 2) % 3) for row, (name, label) in enumerate(train[::4])]
        write_images(folder, train + test, 3)
        write_list(folder / "noisy_label_kv.txt", train)
        write_list(folder / "clean_label_kv.txt", test + checked)
        (folder / "noisy_train_key_list.txt").write_text("".join(f"{name}\n" for name, _ in train))
        (folder / "clean_test_key_list.txt").write_text("".join(f"{name}\n" for name, _ in test))
        (folder / "category_names_eng.txt").write_text("T-Shirt\nShirt\nKnitwear\n")
        return {"root": str(folder), "size": 8}


def _read_labels(path: Path) -> dict[str, int]:
    """Return the label of each file in a list.

    Raises:
        UserError: a file has two labels.
    """
    labels: dict[str, int] = {}
    for name, label in read_list(path):
        if labels.setdefault(name, label) != label:
            raise UserError(f"{path}: {name} has the labels {labels[name]} and {label}; remove one of the lines")
    return labels
