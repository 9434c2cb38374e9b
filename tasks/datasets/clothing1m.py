"""A million pictures of clothes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.data.dataset import RawSplit
from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import WebImages, read_list, write_images, write_list


class Clothing1M(WebImages):
    """Clothing1M: a million images of 14 classes, labelled by the text around them in online shops (Xiao et al. 2015).

    Reads the published lists: `noisy_train_key_list.txt`, `noisy_label_kv.txt`, `clean_test_key_list.txt`,
    `clean_label_kv.txt` and, for names, `category_names_eng.txt`. Training images have their noisy labels; where people
    have also looked at one, its target is theirs, else nobody knows it. The test split is the clean test list; the clean
    training and validation lists are not used. Use it with noise=real_world.
    """

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the lists and decode every image once."""
        noisy, clean = (dict(read_list(self.folder / f"{kind}_label_kv.txt")) for kind in ("noisy", "clean"))
        train = self._keys("noisy_train_key_list.txt", noisy, "noisy_label_kv.txt")
        test = self._keys("clean_test_key_list.txt", clean, "clean_label_kv.txt")
        names = self.folder / "category_names_eng.txt"
        known = 1 + max(*(noisy[key] for key in train), *(clean[key] for key in test))
        listed = [line.strip() for line in names.read_text().splitlines() if line.strip()] if names.is_file() else []
        return (
            self.decoded(
                [self.folder / key for key in train],
                [clean.get(key, UNKNOWN_TARGET) for key in train],
                [noisy[key] for key in train],
            ),
            self.decoded([self.folder / key for key in test], [clean[key] for key in test]),
            tuple(listed if len(listed) >= known else [str(number) for number in range(known)]),
        )

    def _keys(self, name: str, labels: dict[str, int], source: str) -> list[str]:
        file = self.folder / name
        if not file.is_file():
            raise UserError(f"dataset.root: the list {file} is missing; it comes with the data set, fetch it as well")
        keys = [line.strip() for line in file.read_text().splitlines() if line.strip()]
        unlabelled = [key for key in keys if key not in labels]
        if unlabelled or not keys:
            first = f" ({unlabelled[0]})" if unlabelled else ""
            raise UserError(f"{file}: {len(unlabelled)} of {len(keys)} images have no label in {source}{first}")
        return keys

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Three classes; people have looked at every fourth training image, and found every other one wrong."""
        train = [(f"images/{row % 10}/{row:04}.jpg", row % 3) for row in range(60)]
        test = [(f"images/9/t{row:04}.jpg", row % 3) for row in range(15)]
        checked = [(name, (label + row % 2) % 3) for row, (name, label) in enumerate(train[::4])]
        write_images(folder, [name for name, _ in train + test])
        write_list(folder / "noisy_label_kv.txt", train)
        write_list(folder / "clean_label_kv.txt", test + checked)
        (folder / "noisy_train_key_list.txt").write_text("".join(f"{name}\n" for name, _ in train))
        (folder / "clean_test_key_list.txt").write_text("".join(f"{name}\n" for name, _ in test))
        (folder / "category_names_eng.txt").write_text("T-Shirt\nShirt\nKnitwear\n")
        return {"root": str(folder), "size": 8}
