"""Fine-grained web images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images import image_files
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import WebImages, read_list, write_images, write_list


class WeblyFG(WebImages):
    """Webly-fg (WebFG-496): web-aircraft, web-bird or web-car, each a folder of its own (Sun et al. 2021).

    Reads `train/CLASS/…` and `val/CLASS/…` in sorted order, or the lists `train-list.txt` and `val-list.txt` with lines
    `relative/path.jpg:label` where they are there. Nobody knows the classes of the training images, of which the authors
    take 65 to 73 % for right; use it with noise=real_world.
    """

    size: int = parameter(448, ge=4, help="resize and crop at the centre to size x size pixels")

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read lists or folders and decode every image once."""
        names = sorted(each.name for each in (self.folder / "train").glob("*") if each.is_dir())
        train, test = (self._split(part, names) for part in ("train", "val"))
        known = 1 + max(label for _, label in train + test)
        return (
            self.noisy([file for file, _ in train], [label for _, label in train]),
            self.decoded([file for file, _ in test], [label for _, label in test]),
            tuple(names if len(names) == known else [str(number) for number in range(known)]),
        )

    def _split(self, part: str, names: list[str]) -> list[tuple[Path, int]]:
        lists = self.folder / f"{part}-list.txt"
        if lists.is_file():
            return [(self.folder / name, label) for name, label in read_list(lists, ":")]
        rows = [(file, label) for label, name in enumerate(names) for file in image_files(self.folder / part / name)]
        if not rows:
            raise UserError(
                f"dataset.root: {self.folder} has neither {part}-list.txt nor images in {part}/CLASS/; give the unpacked folder "
                "of one subset, such as web-bird"
            )
        return rows

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Three kinds of birds, with a list for the training part only."""
        train = [(f"train/{row % 3:03}.Bird/{row:03}.jpg", row % 3) for row in range(45)]
        write_images(folder, [name for name, _ in train])
        write_images(folder, [f"val/{row % 3:03}.Bird/{row:03}.jpg" for row in range(15)])
        write_list(folder / "train-list.txt", train, ":")
        return {"root": str(folder), "size": 8}
