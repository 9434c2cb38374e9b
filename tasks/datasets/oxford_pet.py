"""Oxford-IIIT Pet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.tasks.datasets._masks import MaskSource, read_stems
from noisybench.utils.seeds import Stream

TRIMAP = {1: 1, 2: 0, 3: IGNORED}
"""Pet, background, and the outline, which has no label."""


class OxfordPet(MaskSource):
    """Oxford-IIIT Pet with its trimaps: pets before a background, 3,680 and 3,669 images (Parkhi et al. 2012).

    `root/oxford-iiit-pet`, fetched through torchvision where missing. Outlines have no label.
    """

    root: Path = parameter("data", help="folder that holds oxford-iiit-pet")
    download: bool = parameter(True, help="fetch the files where they are missing")
    size: int | None = parameter(
        128, ge=8, help="resize and crop at the centre to size x size pixels", always_in_label=True
    )

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Decode all pairs once; later runs map the decoded ones."""
        folder = self.root.expanduser() / "oxford-iiit-pet"
        if not (folder / "annotations" / "trainval.txt").is_file():
            self._fetch(folder)
        parts = []
        for name in ("trainval", "test"):
            stems = read_stems(folder / "annotations" / f"{name}.txt")
            files = [
                (folder / "images" / f"{each}.jpg", folder / "annotations" / "trimaps" / f"{each}.png")
                for each in stems
            ]
            parts.append(self.decoded(files, 2, TRIMAP))
        return parts[0], parts[1], ("background", "pet")

    def _fetch(self, folder: Path) -> None:
        if not self.download:
            raise UserError(f"dataset.root: {folder} is missing; put it there, or allow dataset.download")
        from torchvision.datasets import OxfordIIITPet

        try:
            OxfordIIITPet(str(folder.parent), target_types="segmentation", download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"dataset: Oxford-IIIT Pet could not be fetched ({str(error).splitlines()[0]}); put it at {folder} yourself"
            ) from None

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """A tiny copy in the official layout."""
        from PIL import Image

        base = folder / "oxford-iiit-pet"
        for name in ("images", "annotations/trimaps"):
            (base / name).mkdir(parents=True)
        for part, count in (("trainval", 24), ("test", 6)):
            lines = [f"{part}_{number} 1 1 1" for number in range(count)]
            (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
            for line in lines:
                stem = line.split()[0]
                pixels = (Stream("pet example", stem).uniform(20, 24, 3) * 255).astype(np.uint8)
                trimap = np.full((20, 24), 2, dtype=np.uint8)
                trimap[5:15, 6:18], trimap[8:12, 9:15] = 3, 1
                Image.fromarray(pixels).save(base / "images" / f"{stem}.jpg")
                Image.fromarray(trimap).save(base / "annotations" / "trimaps" / f"{stem}.png")
        return {"root": str(folder), "size": 16}
