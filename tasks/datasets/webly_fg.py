"""WebFG-496: fine-grained web images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.cache import image_files
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.images.unread_files import subfolders
from noisybench.errors import UserError
from noisybench.tasks.datasets._web import LabeledFile, WebImages, read_list, write_images, write_list
from noisybench.utils.file_listing import FileList, FileTree, Source


class WeblyFG(WebImages):
    """WebFG-496 (Webly-fg): web-aircraft, web-bird or web-car, each a folder of its own (Sun et al. 2021).

    Reads `train/CLASS/…` and `val/CLASS/…` in sorted order, or the lists `train-list.txt` and `val-list.txt` with lines
    `relative/path.jpg:label` if they exist. The classes of the training images are unknown; the authors estimate that
    65 to 73 % of their labels are correct. Use it with noise=real_world.
    """

    license = License(
        "not stated",
        "https://github.com/NUST-Machine-Intelligence-Laboratory/weblyFG-dataset",
        note="images from the web belong to others",
    )
    size: int = parameter(448, ge=4, help="Side in pixels to which images are resized and cropped at the center")

    def data_files(self) -> Mapping[str, Source]:
        """Return the lists with the images that they name, or the folders without lists."""
        if self.root is None:
            return {}
        sources: dict[str, Source] = {}
        for part in ("train", "val"):
            file_list = self.folder / f"{part}-list.txt"
            if file_list.is_file():
                sources[file_list.name] = file_list
                sources[part] = FileList(self.folder, tuple(name for name, _ in read_list(file_list, ":")))
            else:
                sources[part] = FileTree(self.folder / part, IMAGE_SUFFIXES)
        return sources

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read the lists or folders, and decode every image once."""
        folder = self.folder / "train"
        names = [path.name for path in subfolders(folder)] if folder.is_dir() else []
        train, test = (self._labeled_files(part, names) for part in ("train", "val"))
        num_classes = 1 + max(label for _, label in train + test)
        class_names = names if len(names) == num_classes else [str(index) for index in range(num_classes)]
        folders = [self.folder / part for part in ("train", "val") if not (self.folder / f"{part}-list.txt").is_file()]
        return self.read_noisy(train, self.unread_notes(*folders)), self.read_clean(test), tuple(class_names)

    def _labeled_files(self, part: str, names: list[str]) -> list[LabeledFile]:
        file_list = self.folder / f"{part}-list.txt"
        if file_list.is_file():
            return [(self.folder / name, label) for name, label in read_list(file_list, ":")]
        rows = [(file, label) for label, name in enumerate(names) for file in image_files(self.folder / part / name)]
        if not rows:
            raise UserError(
                f"dataset.root: {self.folder} has neither {part}-list.txt nor images in {part}/CLASS/; expected the unpacked "
                "folder of one subset, such as web-bird"
            )
        return rows

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write three classes of birds, with a list for the training split only."""
        train = [(f"train/{row % 3:03}.Bird/{row:03}.jpg", row % 3) for row in range(45)]
        write_images(folder, train, 3)
        write_images(folder, [(f"val/{row % 3:03}.Bird/{row:03}.jpg", row % 3) for row in range(15)], 3)
        write_list(folder / "train-list.txt", train, ":")
        return {"root": str(folder), "size": 8}
