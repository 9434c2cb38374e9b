"""Published masks of the simulated annotators of handwritten digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REFERENCE = "https://github.com/moucheng2017/Learn_Noisy_Labels_Medical_Images"
COMMIT = "9e449feed73feb48feb7011615136ffd13d213d7"
COMPUTED = (
    "MNIST_examples/test: clean masks of 20 digits, and those of annotators that draw too much, too little and wrong"
)


def generate(folder: Path) -> dict[str, Any]:
    """Return the (N, 28, 28) masks of each annotator."""

    def read(kind: str) -> NDArray[np.bool_]:
        files = sorted((folder / "MNIST_examples" / "test" / kind).glob("*.tif"))
        images = np.stack([np.array(Image.open(file)) for file in files])
        return np.asarray(images > images.max() / 2)

    kinds = {"clean": "GT", "over": "Over", "under": "Under", "wrong": "Wrong"}
    return {name: np.packbits(read(kind)) for name, kind in kinds.items()}
