"""An image column of plain bytes must be read or refused.

huggingface/dataset-viewer#2545: "binary columns for images, as datasets does".
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image
from wild import create_labels, scratch, verdict


def main() -> None:
    root = scratch("21")
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(data, "png")
        rows.append(data.getvalue())
    pyarrow.parquet.write_table(
        pyarrow.table({"image": pyarrow.array(rows, pyarrow.binary()), "label": [n % 2 for n in range(40)]}),
        root / "t.parquet",
    )
    status, _ = create_labels(root / "l", "audit", "dataset=parquet", f"dataset.train={root / 't.parquet'}")
    verdict(status in (0, 2), "read or refused" if status in (0, 2) else "internal error")


if __name__ == "__main__":
    main()
