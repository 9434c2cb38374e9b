"""Oxford-IIIT Pet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.images.examples import object_image
from noisybench.data.masks.values import MaskValues
from noisybench.data.targets import IGNORED
from noisybench.tasks.datasets._masks import MaskSource, download_with_torchvision, read_stems
from noisybench.utils.file_listing import FileList, Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

TRIMAP = MaskValues({1: 1, 2: 0, 3: IGNORED})
"""Class of each trimap value: pet, background, and the outline, which has no label."""


class OxfordPet(MaskSource):
    """Oxford-IIIT Pet with its trimaps: pet and background, 3,680 + 3,669 images (Parkhi et al. 2012).

    Reads `root/oxford-iiit-pet`, and downloads it with torchvision if it is missing. Outlines have no label.
    """

    license = License("CC-BY-SA-4.0", "https://www.robots.ox.ac.uk/~vgg/data/pets/")
    root: Path = parameter("data", help="Folder that contains oxford-iiit-pet")
    download: bool = parameter(True, help="Download missing files", in_identity=False, access="download")
    size: int | list[int] | None = parameter(
        128, help="Side of square examples, or height and width such as 256x512, in pixels", always_in_label=True
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the lists, and the images and trimaps that they name."""
        sources: dict[str, Source] = {}
        for name in ("trainval", "test"):
            sources[f"{name}.txt"] = self._list(name)
            # A missing list shows that files are missing, which `fetch` can download.
            if self._list(name).is_file():
                names = [part for files in self._files(name) for part in files]
                sources[name] = FileList(self._folder, tuple(names))
        return sources

    def fetch(self) -> None:
        """Download missing files with torchvision."""
        if not self._list("trainval").is_file():
            root = expand_user(self.root)
            download_with_torchvision("Oxford-IIIT Pet", self._folder, self.download, lambda: _download(root))

    @property
    def _folder(self) -> Path:
        return expand_user(self.root) / "oxford-iiit-pet"

    def _list(self, name: str) -> Path:
        return self._folder / "annotations" / f"{name}.txt"

    def _files(self, name: str) -> list[tuple[str, str]]:
        """Return image and trimap of each example of a list."""
        return [(f"images/{stem}.jpg", f"annotations/trimaps/{stem}.png") for stem in read_stems(self._list(name))]

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded arrays."""
        self.fetch()
        folder = self._folder
        train, test = (
            self.read_examples([(folder / image, folder / mask) for image, mask in self._files(name)], 2, TRIMAP)
            for name in ("trainval", "test")
        )
        return train, test, ("background", "pet")

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write a tiny copy in the official layout."""
        from PIL import Image

        base = folder / "oxford-iiit-pet"
        for name in ("images", "annotations/trimaps"):
            (base / name).mkdir(parents=True)
        for part, count in (("trainval", 24), ("test", 6)):
            stems = [f"{part}_{number}" for number in range(count)]
            (base / "annotations" / f"{part}.txt").write_text("".join(f"{stem} 1 1 1\n" for stem in stems))
            for stem in stems:
                trimap = np.full((20, 24), 2, dtype=np.uint8)
                trimap[5:15, 6:18], trimap[8:12, 9:15] = 3, 1
                pixels = object_image(Stream("pet example", stem), np.array([1, 0, 1], dtype=np.uint8)[trimap - 1])
                Image.fromarray(pixels).save(base / "images" / f"{stem}.jpg")
                Image.fromarray(trimap).save(base / "annotations" / "trimaps" / f"{stem}.png")
        return {"root": str(folder), "size": 16}


def _download(root: Path) -> None:
    from torchvision.datasets import OxfordIIITPet

    OxfordIIITPet(str(root), target_types="segmentation", download=True)
