"""Web noise: out-of-distribution images and mislabeled images, as in crawled datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.label_sets.label_set import ReplacedImages
from noisybench.data.noise_model import NoiseModel
from noisybench.data.texts import is_text
from noisybench.errors import UserError
from noisybench.noise_models._ood_sources import from_files, ood_files, pixel_permuted, synthetic_patterns
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user
from noisybench.utils.seeds import Stream

PUBLISHED_SEEDS = (2718, 1414, 3142)
"""Seeds of the published label sets: digits of e, the square root of two, and pi."""

ON_DISK = ("image_folder", "parquet", "imagenet32", "places365")
"""Sources that need a path."""

HASH_CHUNK = 4096
"""Number of images that are hashed at a time."""


class Web(NoiseModel):
    """Replace images by out-of-distribution images, and redraw labels of other images (Albert et al. 2022).

    Each image is replaced by an out-of-distribution (OOD) image with probability `out_of_distribution` and keeps its
    label; of the others, labels are redrawn from all C classes so that a fraction `in_distribution` of all examples is
    redrawn, of which 1 - 1/C become incorrect. Changing one fraction does not affect the examples of the other. The clean
    target of an OOD image is -1.

    Sources: `patterns` (synthetic stripes, checks, blobs, ramps), `pixel_permuted` (the dataset's own images under one
    permutation of the pixels), `ood_classes` (those of dataset.ood_classes), and on disk, at `path`: `image_folder`,
    `parquet`, `imagenet32` (its pickled batches), `places365` (its photographs, resized). No source image is used twice.

    `sampling: published` reproduces the label sets of SNCF and PLS (Albert et al. 2022, 2023) for CIFAR in its original
    order with dataset.validation_fraction=0: seed 0 is their 2718, 1 their 1414, 2 their 3142. There both fractions share
    one stream of numbers, so neither can change without the other.
    """

    stream_name = "Web"
    requires_inputs = True
    convention = (
        "a fraction out_of_distribution of the images is replaced and keeps its labels; a fraction in_distribution of all "
        "labels is redrawn from all classes, so only in_distribution * (1 - 1/C) become incorrect"
    )
    license = License(
        "not applicable", access="own files", note="images that replace others have the license of their source"
    )
    fidelity = Fidelity(
        reference="https://github.com/PaulAlbert31/SNCF",
        commit="58211a180c9a5a46fef5a90c3731a9c580492140",
        license="not stated",
        compared="labels, replaced images and their sources with sampling=published, of 300 examples of 100 classes at "
        "four pairs of fractions",
        difference="0 labels and 0 images",
        golden=("sncf_noise",),
        deviations=(
            Deviation(
                "by default, both fractions have independent random numbers; sampling=published has those of "
                "the authors",
                "one fraction can be changed without the other",
                "the same expected fractions; other examples",
            ),
            Deviation(
                "seed 0 of the published sets is that of SNCF and DSOS; the runs of PLS used 1414 and 3142, "
                "here seeds 1 and 2",
                "one list of seeds for all papers",
                "which examples are noisy",
            ),
        ),
    )

    out_of_distribution: float = parameter(
        0.4, ge=0, le=1, help="Fraction of images replaced by out-of-distribution images", always_in_label=True
    )
    in_distribution: float = parameter(
        0.0, ge=0, le=1, help="Fraction of labels redrawn; of these 1 - 1/C become incorrect", always_in_label=True
    )
    source: Literal[
        "patterns", "pixel_permuted", "ood_classes", "image_folder", "parquet", "imagenet32", "places365"
    ] = parameter("patterns", help="Source of out-of-distribution images")
    path: Path | None = parameter(None, help="File or folder of a source on disk")
    resize: bool = parameter(False, help="Convert source images to the size and channels of the dataset")
    sampling: Literal["independent", "published"] = parameter(
        "independent", help="Independent random numbers for both fractions, or those of the published label sets"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._source_images: dict[Any, Any] = {}

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Return parameters with both kinds of noise."""
        return {"in_distribution": 0.2, "seed": 3}

    def data_files(self) -> Mapping[str, Source]:
        """Return the images of a source on disk."""
        return {} if self.path is None else ood_files(self.source, self.path)

    def nominal_rate(self, dataset: Dataset) -> float:
        """Return the sum of both fractions."""
        return self.out_of_distribution + self.in_distribution

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        """Redraw the labels of examples with the highest random numbers."""
        if self.out_of_distribution + self.in_distribution > 1:
            raise UserError(
                f"noise: out_of_distribution + in_distribution must be at most 1, because no example can be both, but their "
                f"sum is {self.out_of_distribution:g} + {self.in_distribution:g}"
            )
        if self.sampling == "published":
            return self._sample_published(dataset, split)[1]
        # One number decides both kinds: low ones replace the image, high ones redraw the label, so no example has both.
        number, drawn = stream.uniform(2, len(split))
        redrawn = np.floor(drawn * dataset.num_classes).astype(np.int64)
        return np.where(number >= 1 - self.in_distribution, redrawn, split.targets)

    def replace_images(self, dataset: Dataset, split: Split) -> ReplacedImages | None:
        """Replace the images of examples with the lowest random numbers.

        The training split takes images from the start of the shuffled source and the validation split from its end, so
        they share none.
        """
        if self.out_of_distribution == 0:
            return None
        if self.sampling == "published":
            return self._sample_published(dataset, split)[0]
        # Both splits are needed in either call, because they share the images of one source.
        train_rows, validation_rows = (
            np.flatnonzero(self.stream(dataset, part).uniform(2, len(part))[0] < self.out_of_distribution)
            for part in (dataset.train, dataset.validation)
        )
        needed = len(train_rows) + len(validation_rows)
        images = self._images(dataset, needed)
        self._check_size(needed, len(images))
        order = Stream("web", "order", self.seed, len(images)).permutation(len(images))
        is_train = split is dataset.train
        rows = train_rows if is_train else validation_rows
        chosen = order[: len(rows)] if is_train else order[::-1][: len(rows)]
        return ReplacedImages(rows, np.ascontiguousarray(images[chosen]))

    def _sample_published(self, dataset: Dataset, split: Split) -> tuple[ReplacedImages | None, NDArray[np.int64]]:
        """Return replaced images and observed targets as in the published label sets."""
        if split is not dataset.train and not len(split):
            return None, split.targets.copy()
        if len(split) != dataset.source_size:
            raise UserError(
                "noise.sampling: `published` needs the whole training split in its original order; set "
                "dataset.validation_fraction=0 and no train_size"
            )
        if self.seed >= len(PUBLISHED_SEEDS):
            raise UserError(
                f"noise.seed: the published label sets have the seeds 0 to {len(PUBLISHED_SEEDS) - 1}, but got {self.seed}"
            )
        # NumPy has frozen this generator, so its numbers stay the published ones.
        rng = np.random.RandomState(PUBLISHED_SEEDS[self.seed])
        is_ood, replaced = np.zeros(len(split), dtype=bool), None
        # The order of the draws from here on decides whether the published numbers are reproduced.
        if self.out_of_distribution > 0:
            is_ood = rng.uniform(size=len(split)) < self.out_of_distribution
            rows = np.flatnonzero(is_ood)
            images = self._images(dataset, len(rows))
            self._check_size(len(rows), len(images))
            replaced = ReplacedImages(rows, np.ascontiguousarray(images[rng.permutation(len(images))[: len(rows)]]))
        observed, id_rows = split.targets.copy(), np.flatnonzero(~is_ood)
        if len(id_rows):
            # The fraction refers to all examples, but only in-distribution examples are redrawn.
            probability = self.in_distribution / max(1 - self.out_of_distribution, 1e-12)
            redrawn = id_rows[rng.uniform(size=len(id_rows)) < probability]
            observed[redrawn] = np.floor(dataset.num_classes * rng.uniform(size=len(redrawn)))
        return replaced, observed

    def _check_size(self, needed: int, available: int) -> None:
        if available < needed:
            raise UserError(
                f"noise: {needed} out-of-distribution images are needed, but the source `{self.source}` has {available}; "
                "decrease noise.out_of_distribution, or use a larger source"
            )

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """Return name, size and SHA-256 of the source."""
        if self.out_of_distribution == 0:
            return {}
        # The number matters only for patterns; other sources return all of their images.
        images = self._images(dataset, 64)
        digest = hashlib.sha256(repr(images.shape[1:]).encode())
        for start in range(0, len(images), HASH_CHUNK):
            digest.update(images[start : start + HASH_CHUNK].tobytes())
        # Patterns are drawn on demand; the first ones identify all others.
        size = None if self.source == "patterns" else len(images)
        return {"source": {"name": self.source, "size": size, "sha256": digest.hexdigest()}}

    def _images(self, dataset: Dataset, needed: int) -> Any:
        """Return the images of the source in its order; read once."""
        if is_text(dataset.train.inputs):
            raise UserError("noise: `web` puts images into the training set, but the dataset holds texts")
        if dataset.train.inputs.dtype != np.uint8:
            raise UserError("noise: `web` puts images into the training set, but the dataset holds features")
        if (self.path is None) == (self.source in ON_DISK):
            requirement = "needs noise.path" if self.path is None else "does not use noise.path; remove it"
            raise UserError(f"noise.source: `{self.source}` {requirement}")
        shape = dataset.train.inputs.shape[1:]
        # Patterns are drawn on demand; other sources have all of their images at once.
        key = (needed, *shape) if self.source == "patterns" else dataset.hash
        if key not in self._source_images:
            self._source_images[key] = self._read_images(dataset, needed)
        return self._source_images[key]

    def _read_images(self, dataset: Dataset, needed: int) -> Any:
        if self.source == "patterns":
            return synthetic_patterns(needed, dataset.train.inputs.shape[1:], Stream("web", "patterns", self.seed))
        if self.source == "pixel_permuted":
            images = np.concatenate([dataset.train.inputs[:], dataset.validation.inputs[:]])
            return pixel_permuted(images, Stream("web", "shuffled", self.seed))
        if self.source == "ood_classes":
            if dataset.ood_images is None:
                raise UserError(
                    "noise.source: `ood_classes` needs classes that are excluded from the task; set them, e.g. "
                    "dataset.ood_classes=[7,8,9]"
                )
            return dataset.ood_images
        assert self.path is not None
        return from_files(self.source, expand_user(self.path), dataset, self.resize)
