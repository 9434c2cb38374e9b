"""Image classification."""

from __future__ import annotations

from noisybench.tasks._images import ImageTask


class Classification(ImageTask):
    """Image classification: cross-entropy, augmentation in batches, accuracy of the deployed prediction.

    Example:
        >>> import torch
        >>> from noisybench.config.budget import Budget
        >>> from noisybench.training.stack import Stack
        >>> from noisybench.training.training_set import TrainingSet
        >>> images = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8)
        >>> data = TrainingSet(images, torch.arange(8) % 2, num_classes=2)
        >>> task = Classification(Budget(network="mlp:4", epochs=1), seed=0, training_set=data, stack=Stack([]))
        >>> task.predict(images).shape
        torch.Size([8, 2])
    """

    supports_ddp = True
