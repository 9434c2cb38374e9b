"""Noise as in crawled images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_set import ReplacedImages
from noisybench.data.noise_model import NoiseModel
from noisybench.errors import UserError
from noisybench.noise_models._ood_sources import from_files, patterns, shuffled
from noisybench.utils.seeds import Stream

PUBLISHED_SEEDS = (2718, 1414, 3142)
"""A thousand times e, the square root of two, and pi."""

ON_DISK = ("image_folder", "parquet", "imagenet32", "places365")


class Web(NoiseModel):
    """Images of none of the classes under some labels, and wrong labels on other images (Albert et al. 2022).

    Each example is replaced by an out-of-distribution image with probability `out_of_distribution` and keeps its
    label; each other one has its label redrawn from all C classes, so that `in_distribution` of all examples are
    redrawn and in_distribution * (1 - 1/C) are wrong. Either share grows without disturbing the other. The clean
    target of a replaced image is "none" (-1).

    Sources: `patterns` (drawn stripes, checks, blobs, ramps), `pixel_permuted` (the dataset's own images under one
    permutation of the pixels), `ood_classes` (those of dataset.ood_classes), and on disk, at `path`:
    `image_folder`, `parquet`, `imagenet32` (its pickled batches), `places365` (its photographs, resized). No image of
    a source is used twice.

    `sampling: published` gives the very sets of SNCF and PLS (Albert et al. 2022, 2023) for CIFAR in its own order with
    dataset.validation_fraction=0: seed 0 is their 2718, 1 their 1414, 2 their 3142. Their two shares share one stream
    of numbers, so that neither can change without the other.
    """

    stream_name = "Web"
    convention = (
        "out_of_distribution of the images are replaced and keep their label; in_distribution of all labels are redrawn "
        "from all classes, so only in_distribution * (1 - 1/C) become wrong"
    )

    out_of_distribution: float = parameter(
        0.4, ge=0, le=1, help="share of images replaced by images of no class", always_in_label=True
    )
    in_distribution: float = parameter(
        0.0, ge=0, le=1, help="share of labels redrawn; of these 1 - 1/C become wrong", always_in_label=True
    )
    source: Literal[
        "patterns", "pixel_permuted", "ood_classes", "image_folder", "parquet", "imagenet32", "places365"
    ] = parameter("patterns", help="where out-of-distribution images come from")
    path: Path | None = parameter(None, help="file or folder of a source on disk")
    resize: bool = parameter(False, help="bring a source's images to the dataset's size and colours")
    sampling: Literal["independent", "published"] = parameter(
        "independent", help="numbers of our own, or those of the published sets, in their order"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._read: dict[str, Any] = {}

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Both kinds of noise."""
        return {"in_distribution": 0.2, "seed": 3}

    def nominal_rate(self, dataset: Dataset) -> float:
        """Both shares together."""
        return self.out_of_distribution + self.in_distribution

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """Labels redrawn from all classes where the example's number is among the highest."""
        if self.out_of_distribution + self.in_distribution > 1:
            raise UserError(
                f"noise: out_of_distribution + in_distribution must be at most 1, since no example is both, but they are "
                f"{self.out_of_distribution:g} + {self.in_distribution:g}"
            )
        if self.sampling == "published":
            return self._published(dataset, split)[1]
        number, drawn = stream.uniform(2, len(split))
        redrawn = np.floor(drawn * dataset.num_classes).astype(np.int64)
        return np.where(number >= 1 - self.in_distribution, redrawn, split.targets)

    def replace_images(self, dataset: Dataset, split: Split) -> ReplacedImages | None:
        """Other images where the example's number is among the lowest.

        Training takes images from the start of the shuffled source and validation from its end, so that they share none.
        """
        if self.out_of_distribution == 0:
            return None
        if self.sampling == "published":
            return self._published(dataset, split)[0]
        wanted = {
            name: np.flatnonzero(self.stream(dataset, each).uniform(2, len(each))[0] < self.out_of_distribution)
            for name, each in (("train", dataset.train), ("validation", dataset.validation))
        }
        needed = sum(len(rows) for rows in wanted.values())
        images = self._images(dataset, needed)
        self._check_size(needed, len(images))
        order = Stream("web", "order", self.seed, len(images)).permutation(len(images))
        training = split is dataset.train
        rows = wanted["train" if training else "validation"]
        chosen = order[: len(rows)] if training else order[::-1][: len(rows)]
        return ReplacedImages(rows, np.ascontiguousarray(images[chosen]))

    def _published(self, dataset: Dataset, split: Split) -> tuple[ReplacedImages | None, NDArray[np.int64]]:
        """Replaced images and observed targets as the published sets draw them."""
        if split is not dataset.train and not len(split):
            return None, split.targets.copy()
        if len(split) != dataset.source_size:
            raise UserError(
                "noise.sampling: `published` draws for the whole training part in its own order; give "
                "dataset.validation_fraction=0 and no train_size"
            )
        if self.seed >= len(PUBLISHED_SEEDS):
            raise UserError(
                f"noise.seed: the published sets have the seeds 0 to {len(PUBLISHED_SEEDS) - 1}, but got {self.seed}"
            )
        # NumPy has frozen this generator, so its numbers stay the published ones.
        rng = np.random.RandomState(PUBLISHED_SEEDS[self.seed])
        outside, replaced = np.zeros(len(split), dtype=bool), None
        if self.out_of_distribution > 0:
            outside = rng.uniform(size=len(split)) < self.out_of_distribution
            rows = np.flatnonzero(outside)
            images = self._images(dataset, len(rows))
            self._check_size(len(rows), len(images))
            replaced = ReplacedImages(rows, np.ascontiguousarray(images[rng.permutation(len(images))[: len(rows)]]))
        observed, inside = split.targets.copy(), np.flatnonzero(~outside)
        if len(inside):
            share = self.in_distribution / max(1 - self.out_of_distribution, 1e-12)
            redrawn = inside[rng.uniform(size=len(inside)) < share]
            observed[redrawn] = np.floor(dataset.num_classes * rng.uniform(size=len(redrawn)))
        return replaced, observed

    def _check_size(self, needed: int, found: int) -> None:
        if found < needed:
            raise UserError(
                f"noise: {needed} out-of-distribution images are needed, but the source `{self.source}` has {found}; lower "
                "noise.out_of_distribution, or give a larger source"
            )

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """SHA-256 over all images of the source, and how many there are."""
        if self.out_of_distribution == 0:
            return {}
        images = self._images(dataset, 64)
        digest = hashlib.sha256(repr(images.shape[1:]).encode())
        for start in range(0, len(images), 4096):
            digest.update(images[start : start + 4096].tobytes())
        # Patterns are drawn on demand; the first ones stand for all.
        size = None if self.source == "patterns" else len(images)
        return {"source": {"name": self.source, "size": size, "sha256": digest.hexdigest()}}

    def _images(self, dataset: Dataset, needed: int) -> Any:
        """The source's images, in its own order; read once."""
        if (self.path is None) == (self.source in ON_DISK):
            what = "needs noise.path" if self.path is None else "takes no noise.path"
            raise UserError(f"noise.source: `{self.source}` {what}")
        if self.source == "patterns":
            return patterns(needed, dataset.train.inputs.shape[1:], Stream("web", "patterns", self.seed))
        if dataset.hash not in self._read:
            self._read[dataset.hash] = self._fixed_images(dataset)
        return self._read[dataset.hash]

    def _fixed_images(self, dataset: Dataset) -> Any:
        if self.source == "pixel_permuted":
            own = np.concatenate([dataset.train.inputs[:], dataset.validation.inputs[:]])
            return shuffled(own, Stream("web", "shuffled", self.seed))
        if self.source == "ood_classes":
            if dataset.ood_images is None:
                raise UserError(
                    "noise.source: `ood_classes` needs classes that are left out of the task; "
                    "give them, e.g. dataset.ood_classes=[7,8,9]"
                )
            return dataset.ood_images
        assert self.path is not None
        return from_files(self.source, self.path.expanduser(), dataset, self.resize)
