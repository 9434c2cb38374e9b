"""Human annotations of CIFAR-10 and CIFAR-100 (CIFAR-N)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.arrays import exact_integers
from noisybench.data.dataset import Dataset, Split
from noisybench.data.noise_model import NoiseModel
from noisybench.data.pickled_arrays import MAGIC, read_pickled_arrays
from noisybench.errors import UserError, nearest
from noisybench.utils.file_listing import Source
from noisybench.utils.files import cache_folder, download
from noisybench.utils.places import check_file, expand_user
from noisybench.utils.seeds import Stream

SOURCE = "https://github.com/UCSC-REAL/cifar-10-100n/raw/main/data/"
# No checksum is published for CIFAR-100N; like CIFAR-10N it is checked against the dataset's own labels.
PUBLISHED = {
    10: ("CIFAR-10_human.pt", "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310"),
    100: ("CIFAR-100_human.pt", None),
}


class Human(NoiseModel):
    """Use human annotations of CIFAR-10 or CIFAR-100 (Wei et al. 2022; license CC BY-NC 4.0, so never bundled).

    `labels` selects the annotations: CIFAR-10N has aggre_label (9 % incorrect), random_label1 to 3 (17 to 18 %) and
    worse_label (40 %), CIFAR-100N has noisy_label (40 %). The file at `path` is read without running any code in it, or
    downloaded once; its clean labels must be those of the dataset.
    """

    stream_name = "Human"
    convention = "labels by human annotators; the actual noise rate is measured against the dataset's own targets"
    license = License("CC-BY-NC-4.0", "https://github.com/UCSC-REAL/cifar-10-100n", note="never part of noisybench")
    fidelity = Fidelity(
        reference="https://github.com/UCSC-REAL/cifar-10-100n",
        commit="49df7d8a69e355470c77c1c2f2424916325a394b",
        license="CC-BY-NC-4.0",
        compared="all labels of both files as read without running code in them, and the fractions of incorrect labels",
        difference="0 labels; fractions .0901, .1723, .1812, .1764 and .4021 of CIFAR-10N and .4020 of CIFAR-100N, "
        "published as .0903, .1723, .1812, .1764, .4021 and .4020",
    )

    labels: Literal["worse_label", "aggre_label", "random_label1", "random_label2", "random_label3", "noisy_label"] = (
        parameter("worse_label", help="Set of annotations to use")
    )
    path: Path | None = parameter(None, help="Annotation file (.pt or .npy; default: downloaded)", access="download")

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Write a file in the format of CIFAR-10N in which every fourth worse_label is the next class."""
        import torch

        clean = np.zeros(dataset.source_size, dtype=np.int64)
        for split in (dataset.train, dataset.validation):
            clean[split.index] = split.targets
        worse = (clean + (np.arange(len(clean)) % 4 == 0)) % dataset.num_classes
        torch.save({"clean_label": clean, "worse_label": worse}, folder / "human.pt")
        return {"path": str(folder / "human.pt")}

    def data_files(self) -> Mapping[str, Source]:
        """Return the annotation file; without `path` the downloaded one."""
        return {"path": self.path or _location(self._num_classes)}

    def fetch(self) -> None:
        """Download the annotation file."""
        if self.path is None:
            _download(self._num_classes)

    @property
    def _num_classes(self) -> int:
        """Number of classes of the dataset that has these annotations."""
        return 100 if self.labels == "noisy_label" else 10

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """Return the annotations of the split."""
        path = expand_user(self.path) if self.path else _download(dataset.num_classes)
        annotations = read_annotations(path)
        if self.labels not in annotations:
            raise UserError(f"noise.labels: {path} has no `{self.labels}`; {nearest(self.labels, annotations)}")
        clean = annotations.get("clean_label")
        if clean is None:
            raise UserError(
                f"noise.path: {path} has no `clean_label` to compare with the dataset; provide an original CIFAR-N file"
            )
        for name in ("clean_label", self.labels):
            if len(annotations[name]) != dataset.source_size:
                raise UserError(
                    f"noise.path: `{name}` in {path} has {len(annotations[name])} labels, but the dataset's source has "
                    f"{dataset.source_size} training examples; the annotations must belong to this dataset"
                )
        # Annotations have no identifiers; only equal clean labels show that both are in the same order.
        differing = np.flatnonzero(clean[split.index] != split.targets)
        if len(differing):
            raise UserError(
                f"noise.path: the clean labels in {path} differ from the dataset's in {len(differing)} rows, the first is "
                f"{split.index[differing[0]]}; the images must be in the original order"
            )
        return annotations[self.labels][split.index]


def _download(num_classes: int) -> Path:
    if num_classes not in PUBLISHED:
        raise UserError(
            f"noise: human labels exist for CIFAR-10 and CIFAR-100, but this dataset has {num_classes} classes; "
            "provide other annotations with noise=from_file"
        )
    name, checksum = PUBLISHED[num_classes]
    return download(SOURCE + name, checksum, _location(num_classes))


def _location(num_classes: int) -> Path:
    return cache_folder() / "human" / PUBLISHED[num_classes][0]


def read_annotations(path: Path) -> dict[str, NDArray[np.int64]]:
    """Read a CIFAR-N file, `.pt` or `.npy`, without running any code in it.

    Returns:
        (N,) labels of each set of annotations.

    Raises:
        UserError: the file is missing, damaged, or contains other objects or labels that are no integers.
    """
    check_file(path, "noise.path")
    with path.open("rb") as file:
        is_npy = file.read(len(MAGIC)) == MAGIC
    content = read_pickled_arrays(path, "noise.path") if is_npy else _read_torch(path)
    # The authors' file of CIFAR-100 for TensorFlow has another spelling.
    content = {"noisy_label" if name == "noise_label" else name: values for name, values in content.items()}
    return {name: exact_integers(values, f"noise.path: {path}: `{name}`") for name, values in content.items()}


def _read_torch(path: Path) -> dict[str, NDArray[Any]]:
    """Read a `.pt` file with a restricted unpickler that can only build NumPy arrays."""
    import codecs

    import torch
    from numpy._core import multiarray

    # Pickles name the module under which their NumPy knew the function: `numpy.core` before version 2.
    allowed: list[Any] = [
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
        (codecs.encode, "_codecs.encode"),
        np.ndarray,
        np.dtype,
        type(np.dtype(np.int64)),
        type(np.dtype(np.int32)),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): np.asarray(values) for name, values in content.items()}
    except Exception as error:  # unpicklers raise anything on damaged files
        reason = str(error).splitlines()[0][:160]
        raise UserError(
            f"noise.path: {path} is not a readable file of CIFAR-N labels ({reason}); download it again"
        ) from None
