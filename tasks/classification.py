"""Image classification."""

from __future__ import annotations

from noisybench.tasks._images import ImageTask


class Classification(ImageTask):
    """One class per image: cross-entropy, batched augmentation, accuracy of the deployed network."""

    supports_ddp = True
