"""Masks as text: small PNG images in base64, whose palette shows the classes and whose indices are the classes."""

from __future__ import annotations

import base64
import hashlib
import io

import numpy as np
from numpy.typing import NDArray

from noisybench.data.targets import IGNORED
from noisybench.errors import UserError

DIGEST_LENGTH = 16
"""Number of characters of a digest, by which the masks of one image are distinguished."""


def pack_mask(mask: NDArray[np.uint8], palette: NDArray[np.uint8]) -> str:
    """Return a mask as text, from which `unpack_mask` reads it again.

    Args:
        mask: (H, W) classes; pixels of `IGNORED` are transparent.
        palette: (256, 3) color of each class, in which browsers show the image.

    Example:
        >>> mask = np.array([[0, 1], [1, IGNORED]], dtype=np.uint8)
        >>> unpack_mask(pack_mask(mask, np.zeros((256, 3), dtype=np.uint8)), mask.shape).tolist()
        [[0, 1], [1, 255]]
    """
    from PIL import Image

    picture, buffer = Image.fromarray(mask), io.BytesIO()
    picture.putpalette(palette.tobytes())
    opacity = bytes(0 if value == IGNORED else 255 for value in range(256))
    picture.save(buffer, "PNG", optimize=True, transparency=opacity, bits=8)
    return base64.b64encode(buffer.getvalue()).decode()


def unpack_mask(text: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the (H, W) classes of a mask that `pack_mask` has written.

    Args:
        text: the mask as text.
        shape: height and width that it must have.

    Raises:
        UserError: the text holds no mask, or one of another size.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
            # The size is known before any pixel is decoded.
            size, mode = (picture.height, picture.width), picture.mode
            mask = np.asarray(picture) if size == shape and mode == "P" else None
    except Exception:  # decoders of damaged images raise anything
        raise UserError("is damaged; download the table again") from None
    if mask is None:
        raise UserError(
            f"is no mask of {shape[0]}x{shape[1]} pixels but a picture of {size[0]}x{size[1]} in mode {mode}; give the "
            "dataset's parameters of the audit, such as dataset.size"
        )
    return mask


def mask_digest(mask: NDArray[np.uint8]) -> str:
    """Return a short digest of the size and classes of a mask.

    Example:
        >>> mask_digest(np.zeros((2, 3), dtype=np.uint8)) == mask_digest(np.zeros((3, 2), dtype=np.uint8))
        False
    """
    content = np.array(mask.shape, "<i8").tobytes() + mask.tobytes()
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
