"""Training and test files whose ClassLabel metadata order the names differently.

Classes must be matched by name or refused. huggingface/datasets#3578, huggingface/course#731, pixeltable#81: ClassLabel
names in the `huggingface` metadata.
"""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image
from wild import create_labels, dataset, scratch, verdict


def main() -> None:
    root = scratch("23")
    rng = np.random.default_rng(0)

    def write(name, order):
        rows, labels = [], []
        for n in range(40):
            dark = n % 2
            data = io.BytesIO()
            Image.fromarray((rng.integers(0, 40, (8, 8, 3)) + (0 if dark else 200)).astype(np.uint8)).save(data, "png")
            rows.append({"bytes": data.getvalue(), "path": None})
            labels.append(order.index("dark" if dark else "bright"))
        features = {"image": {"_type": "Image"}, "label": {"names": order, "_type": "ClassLabel"}}
        pyarrow.parquet.write_table(
            pa.table({"image": rows, "label": labels}).replace_schema_metadata(
                {"huggingface": json.dumps({"info": {"features": features}})}
            ),
            root / name,
        )

    write("train.parquet", ["bright", "dark"])
    write("test.parquet", ["dark", "bright"])
    status, _ = create_labels(
        root / "l",
        "audit",
        "dataset=parquet",
        f"dataset.train={root / 'train.parquet'}",
        f"dataset.test={root / 'test.parquet'}",
    )
    if status == 0:
        data = dataset("parquet", train=root / "train.parquet", test=root / "test.parquet")
        mean = [data.test.inputs[:][data.test.targets == each].mean() for each in (0, 1)]
        print("classes", data.class_names, "mean brightness in test by class:", mean)
        verdict(
            mean[0] > mean[1],
            f"test images labeled {data.class_names[0]} are the bright ones"
            if mean[0] > mean[1]
            else "the test labels are exchanged without a word",
        )
    verdict(status == 2, "refused")


if __name__ == "__main__":
    main()
