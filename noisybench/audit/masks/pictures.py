"""Pictures of an audit of masks: the pixels under suspicion, alone and over the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisybench.audit.masks.confident import MaskScores
from noisybench.audit.masks.inputs import MaskAuditInput
from noisybench.plots.label_sets import mask_palette

MIN_SIDE = 256
"""Pixels of the shorter side from which images are shown at their size; smaller ones are enlarged by a whole factor."""

SUSPECT_COLOR = (255, 0, 0)
MAX_NAME_LENGTH = 100


def write_pictures(data: MaskAuditInput, scores: MaskScores, count: int, folder: Path) -> int:
    """Write pictures of the most suspicious images, named by their rank.

    ``0001-NAME-suspects.png`` has the size of the mask, and 255 where the label is probably incorrect;
    ``0001-NAME.png`` shows the image, its mask, and the image with the suspects in red.

    Args:
        data: audited images and masks.
        scores: their scores.
        count: largest number of images; those without a suspect are left out.
        folder: where to write; created if missing.

    Returns:
        Number of images with pictures.
    """
    from PIL import Image

    rows = [row for row in scores.ranking[:count].tolist() if scores.suspect[row].any()]
    if rows:
        folder.mkdir(parents=True, exist_ok=True)
    rank = {row: position for position, row in enumerate(scores.ranking.tolist(), 1)}
    for row in rows:
        name = f"{rank[row]:04}-{_file_name(data, row)}"
        Image.fromarray(scores.suspect[row].astype(np.uint8) * 255).save(folder / f"{name}-suspects.png")
        Image.fromarray(overlay(data.images[row : row + 1][0], data.masks[row], scores.suspect[row])).save(
            folder / f"{name}.png"
        )
    return len(rows)


def overlay(image: NDArray[np.uint8], mask: NDArray[np.uint8], suspect: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the image, its mask in colors, and the image with suspects in red, side by side.

    Args:
        image: (C, H, W).
        mask: (H, W) observed classes.
        suspect: (H, W) pixels to color.

    Returns:
        (K H, 3 K W, 3), where the whole number K enlarges small images.

    Example:
        >>> picture = overlay(np.zeros((1, 2, 2), np.uint8), np.zeros((2, 2), np.uint8), np.eye(2, dtype=bool))
        >>> picture.shape, picture[0, 512].tolist()
        ((256, 768, 3), [255, 0, 0])
    """
    # Images with other numbers of channels than 3 are shown by their first one.
    picture = np.moveaxis(image if len(image) == 3 else np.repeat(image[:1], 3, axis=0), 0, -1)
    marked = picture.copy()
    marked[suspect] = SUSPECT_COLOR
    panels = np.concatenate([picture, (mask_palette()[mask] * 255).astype(np.uint8), marked], axis=1)
    factor = max(1, -(-MIN_SIDE // min(mask.shape)))
    return np.asarray(panels.repeat(factor, axis=0).repeat(factor, axis=1))


def _file_name(data: MaskAuditInput, row: int) -> str:
    """Return the name of an example without characters that separate folders or that some file systems refuse."""
    name = data.files[row] if data.files else str(data.index[row])
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in name)[
        -MAX_NAME_LENGTH:
    ]
