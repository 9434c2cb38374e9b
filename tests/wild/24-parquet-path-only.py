"""Hub parquet whose images are not embedded (bytes null, path set), and lists of images.

huggingface/datasets#5921, Roblox/FAI-RL#81.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from wild import create_labels, picture, scratch, verdict


def main() -> None:
    root = scratch("24")
    rng = np.random.default_rng(0)
    rows = []
    for n in range(20):
        picture(root / "images" / f"{n}.png", rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        rows.append({"bytes": None, "path": str(root / "images" / f"{n}.png")})
    typed = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pyarrow.parquet.write_table(pa.table({"image": typed, "label": [n % 2 for n in range(20)]}), root / "t.parquet")
    status, _ = create_labels(root / "l", "audit", "dataset=parquet", f"dataset.train={root / 't.parquet'}")
    pyarrow.parquet.write_table(
        pa.table(
            {"image": pa.array([[each] for each in rows], pa.list_(typed.type)), "label": [n % 2 for n in range(20)]}
        ),
        root / "u.parquet",
    )
    status2, _ = create_labels(root / "l2", "audit", "dataset=parquet", f"dataset.train={root / 'u.parquet'}")
    verdict(status in (0, 2) and status2 in (0, 2), f"status {status} for paths, {status2} for lists of images")


if __name__ == "__main__":
    main()
