"""Pseudo-labels instead of annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.masks.ellipses import EllipseModel
from noisybench.data.noise_model import NoiseModel
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import IGNORED
from noisybench.errors import UserError
from noisybench.noise_models._adversarial import AdversarialTranslation, TranslationSettings
from noisybench.noise_models._grab_cut import masks_from_boxes
from noisybench.noise_models._pseudo_label_runs import WeakNetwork
from noisybench.training.auxiliary import AuxiliaryUser
from noisybench.utils.seeds import Stream

MIN_SIDE = 16
"""Smallest side of images whose masks a network predicts: three poolings leave two pixels."""

COLLAPSED = 0.005
"""Fraction of pixels of the objects, or of the background, below which the pseudo-labels have collapsed."""

INFORMATION = {
    "few_images": "clean masks of {clean_images} training images",
    "boxes": "bounding boxes of all objects",
    "adversarial": "auxiliary masks: {auxiliary_masks} drawn ellipses, of no image in particular",
}
"""What each source knows besides the images."""


class PseudoLabels(AuxiliaryUser, NoiseModel):
    """Replace all masks by pseudo-labels that are made from the images and less than their masks.

    `few_images` trains a small U-Net on `clean_images` training images with clean masks, which keep them, and predicts the
    others. `boxes` separates the object in each bounding box by GrabCut, with sides up to `box_margin` pixels too far out.
    `adversarial` reads no mask of the dataset at all (Wang et al. 2021): two generators learn to translate unpaired images
    to auxiliary masks (ellipses of a shape model) and back, and the first one makes the pseudo-labels. A `constraint`
    scores their shape: a discriminator of patches, or a variational auto-encoder that is fitted to the auxiliary masks.
    `calibration` scales the channels of the generator by the features that the constraint has of a first mask. Only the
    summary of the paper was available; networks, losses and their weights are our design.

    The networks are an auxiliary run on the CPU: trained once, cached in the working folder, resumed after an interruption,
    and charged in full to every run with these labels. The manifest names the information that a source uses. Labels are
    the same bytes on one machine, and nearly the same on others.
    """

    tasks = ("segmentation",)
    stream_name = "pseudo_labels"
    convention = "fraction of pixels with an incorrect class; `masks` in the manifest has IoU and area bias"
    requires_inputs = True
    example_classes = ("background", "disc", "square", "ring")
    fidelity = Fidelity(
        reference="",
        commit="",
        compared="masks do not depend on those of the dataset, weights of a resumed run, information in the manifest",
        deviations=(
            Deviation(
                "the paper improves a CycleGAN; here small U-Nets with instance normalization translate both ways",
                "its full text and code were not available",
                "not measured",
            ),
            Deviation(
                "the labels are made by trained networks, so that other machines may differ in single pixels",
                "floating-point sums depend on the CPU",
                "not measured",
            ),
        ),
    )

    source: Literal["few_images", "boxes", "adversarial"] = parameter(
        "adversarial", help="What makes the pseudo-labels", always_in_label=True
    )
    clean_images: int = parameter(5, ge=1, help="Number of training images with clean masks, for `few_images`")
    box_margin: float = parameter(2.0, ge=0, help="Largest distance of a box from its object in pixels, for `boxes`")
    constraint: Literal["none", "patch_gan", "vae"] = parameter(
        "vae", help="Shape constraint of masks, for `adversarial`"
    )
    calibration: bool = parameter(False, help="Calibrate the generator by the features of the constraint")
    auxiliary_masks: int = parameter(200, ge=2, le=10000, help="Number of auxiliary masks, for `adversarial`")
    min_axis: float = parameter(
        0.15, gt=0, lt=0.5, help="Smallest major semi-axis of auxiliary ellipses by side length"
    )
    max_axis: float = parameter(0.32, gt=0, lt=0.5, help="Largest major semi-axis of auxiliary ellipses by side length")
    min_ratio: float = parameter(0.6, gt=0, le=1, help="Smallest ratio of the semi-axes of auxiliary ellipses")
    epochs: int = parameter(40, ge=1, le=1000, help="Training epochs of the networks")
    width: int = parameter(8, ge=1, le=64, help="Number of channels of the networks at full resolution")
    on_collapse: Literal["raise", "mean_mask"] = parameter(
        "raise", help="If nearly all pixels are background or object: raise an error, or use the mean of known masks"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._notes: dict[str, ReadingNote] = {}

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Return parameters of the source that trains no network."""
        return {"source": "boxes", "box_margin": 4.0, "seed": 0}

    @property
    def trains_networks(self) -> bool:
        """True for the sources that train networks."""
        return self.source != "boxes"

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """Return the information that the source uses besides the images."""
        return {"information": INFORMATION[self.source].format(**self.parameters)}

    def notes(self, dataset: Dataset) -> tuple[ReadingNote, ...]:
        """Return a note about filled boxes or collapsed networks."""
        return tuple(self._notes.values())

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[Any]:
        """Return the pseudo-labels of one split.

        Raises:
            UserError: the images, classes or parameters do not fit the source, or the pseudo-labels have collapsed.
        """
        self._check(dataset)
        if not len(split):
            return split.targets.copy()
        if self.source == "boxes":
            found = self._from_boxes(split, "train" if split is dataset.train else "validation")
        else:
            found = self._predicted(dataset)["train" if split is dataset.train else "validation"]
        return np.where(split.targets == IGNORED, np.uint8(IGNORED), found).astype(split.targets.dtype)

    def _check(self, dataset: Dataset) -> None:
        images, problems = dataset.train.inputs, list[str]()
        if images.dtype != np.uint8 or images.shape[1] not in (1, 3):
            problems.append("noise: `pseudo_labels` needs gray or RGB images of 8 bits")
        if not dataset.has_background:
            problems.append(
                "noise: `pseudo_labels` needs objects on a background; choose a dataset with dataset.background"
            )
        if self.source != "boxes" and min(images.shape[2:]) < MIN_SIDE:
            problems.append(
                f"noise.source: {self.source} needs images of at least {MIN_SIDE} pixels, but got {images.shape[2:]}"
            )
        if self.source == "adversarial" and dataset.num_classes != 2:
            problems.append(
                f"noise.source: adversarial needs one class besides the background, but {dataset.name} has "
                f"{dataset.num_classes - 1}; use noise.source=few_images or boxes"
            )
        if self.source == "adversarial" and self.calibration and self.constraint == "none":
            problems.append(
                "noise.calibration: needs noise.constraint=patch_gan or vae, whose features calibrate the generator"
            )
        if self.min_axis > self.max_axis:
            problems.append(
                f"noise.min_axis: must be at most noise.max_axis ({self.max_axis:g}), but got {self.min_axis:g}"
            )
        if self.source == "few_images" and self.clean_images > len(dataset.train):
            problems.append(
                f"noise.clean_images: must be at most the number of training images ({len(dataset.train)}), but got "
                f"{self.clean_images}"
            )
        if problems:
            raise UserError(*problems)

    def _from_boxes(self, split: Split, part: str) -> NDArray[np.uint8]:
        found, num_filled, names = np.zeros_like(split.targets), 0, []
        images = split.inputs[:]
        for row, source_row in enumerate(split.index):
            clean = np.where(split.targets[row] == IGNORED, np.uint8(0), split.targets[row])
            stream = Stream("pseudo-labels", "boxes", self.seed, source_row)
            found[row], filled = masks_from_boxes(images[row], clean, self.box_margin, stream)
            num_filled += filled
            names += [f"image {source_row}"] * bool(filled)
        if num_filled:
            text = f"Boxes of the {part} split are filled in, because they are too small for GrabCut or leave too little outside"
            self._notes[part] = ReadingNote("filled_boxes", text, num_filled, tuple(names[:20]))
        return found

    def _predicted(self, dataset: Dataset) -> dict[str, NDArray[np.uint8]]:
        """Return the masks of both splits from networks, or the mean of known masks if they have collapsed."""
        splits = {"train": dataset.train, "validation": dataset.validation}
        images = {name: torch.from_numpy(np.array(split.inputs[:])) for name, split in splits.items() if len(split)}
        if self.source == "few_images":
            order = Stream("pseudo-labels", "clean images", self.seed, len(dataset.train)).permutation(
                len(dataset.train)
            )
            rows = np.sort(order[: self.clean_images])
            known = dataset.train.targets[rows]
            if (known == IGNORED).all():
                raise UserError(
                    f"noise.clean_images: the {len(rows)} training images with clean masks have no pixel with a label; use "
                    "more clean images or another noise.seed"
                )
            run: WeakNetwork | AdversarialTranslation = WeakNetwork(
                images,
                torch.from_numpy(rows),
                torch.from_numpy(known),
                dataset.num_classes,
                self.epochs,
                self.width,
                self.seed,
            )
        else:
            rows, known = np.zeros(0, dtype=np.int64), self._auxiliary_masks(images["train"].shape[2:])
            settings = TranslationSettings(self.constraint, self.calibration, self.epochs, self.width, self.seed)
            run = AdversarialTranslation(images, torch.from_numpy(known), settings)
        found = {name: masks.numpy() for name, masks in self.auxiliary_cache.get_or_train(run).items()}
        found = self._without_collapse(found, known)
        # Images whose masks were given keep them, as in practice.
        found["train"][rows] = dataset.train.targets[rows]
        return found

    def _auxiliary_masks(self, size: Any) -> NDArray[np.bool_]:
        """Return the (M, H, W) masks of the shape model."""
        model = EllipseModel(self.min_axis, self.max_axis, self.min_ratio)
        numbers = range(self.auxiliary_masks)
        return np.stack(
            [model.draw(Stream("pseudo-labels", "auxiliary", self.seed, number), tuple(size)) for number in numbers]
        )

    def _without_collapse(
        self, found: dict[str, NDArray[np.uint8]], known: NDArray[Any]
    ) -> dict[str, NDArray[np.uint8]]:
        """Return masks that have not collapsed; those of a split that has are replaced, if the user has chosen so."""
        fraction = float((found["train"] > 0).mean())
        if COLLAPSED <= fraction <= 1 - COLLAPSED:
            return found
        what = f"{'background' if fraction < 0.5 else 'object'} in {max(fraction, 1 - fraction):.1%} of all pixels"
        if self.on_collapse == "raise":
            changed = "constraint" if self.source == "adversarial" else "clean_images"
            raise UserError(
                f"noise: the networks of pseudo_labels have collapsed: the pseudo-labels are {what}; change noise.{changed}, "
                "noise.epochs or noise.seed, or set noise.on_collapse=mean_mask to use the mean of the known masks"
            )
        counts = np.stack(
            [(known == label).sum(0) for label in range(1, max(2, int(known[known != IGNORED].max()) + 1))]
        )
        frequency = counts.sum(0)
        # Relative to the most frequent pixel: objects in random places cover no pixel in most masks.
        objects = (frequency > 0) & (frequency >= 0.5 * frequency.max())
        mean_mask = np.where(objects, 1 + counts.argmax(0), 0).astype(np.uint8)
        text = f"The networks have collapsed ({what}); all images have the mean of the known masks"
        self._notes["collapse"] = ReadingNote("collapse", text, sum(len(masks) for masks in found.values()))
        return {name: np.broadcast_to(mean_mask, masks.shape).copy() for name, masks in found.items()}
