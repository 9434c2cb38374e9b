"""Every hub set beyond 500 MB comes in shards, which the folder, a pattern or a list names.

huggingface/datasets (to_parquet, max_shard_size); any image set on the hub.
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image
from wild import create_labels, scratch, verdict


def main() -> None:
    root = scratch("20")
    rng = np.random.default_rng(0)
    (root / "hub").mkdir()
    for shard in range(3):
        rows = []
        for _ in range(20):
            data = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(data, "png")
            rows.append({"bytes": data.getvalue(), "path": None})
        pyarrow.parquet.write_table(
            pyarrow.table({"image": rows, "label": [n % 2 for n in range(20)]}),
            root / "hub" / f"train-{shard:05}-of-00003.parquet",
        )
    found = []
    for given in (
        root / "hub",
        root / "hub" / "train-*.parquet",
        f"[{','.join(str(e) for e in sorted((root / 'hub').glob('*')))}]",
    ):
        status, _ = create_labels(root / f"l{len(found)}", "audit", "dataset=parquet", f"dataset.train={given}")
        found.append(status == 0)
    verdict(
        any(found),
        "shards are read as one set" if any(found) else "only one file can be given: a sharded set cannot be read",
    )


if __name__ == "__main__":
    main()
