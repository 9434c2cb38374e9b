"""Masks that are warped."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import Corruption, Mask, MaskNoise


class Elastic(MaskNoise):
    """The mask alone is warped by a smooth random field of displacements (Simard et al. 2003)."""

    stream_name = "elastic"

    amplitude: float = parameter(
        4.0, ge=0, low=1.0, high=12.0, help="deviation of a move in pixels", always_in_label=True
    )
    smoothness: float = parameter(
        8.0, gt=0, low=2.0, high=32.0, help="deviation of the smoothing Gaussian", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, given: Corruption) -> Mask:
        """Each pixel has the class of the place that it was displaced from; beyond the edge, that of the edge."""
        rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float32)
        down, right = (self._field(mask.shape, given) for _ in range(2))
        warped = cv2.remap(mask, columns + right, rows + down, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped)

    def _field(self, shape: tuple[int, ...], given: Corruption) -> NDArray[np.float32]:
        noise = given.stream.normal(*shape).astype(np.float32)
        smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), self.smoothness))
        return smooth * np.float32(given.severity * self.amplitude / max(float(smooth.std()), 1e-6))
