"""Elastic deformation of masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import MaskContext, MaskNoise
from noisybench.noise_models._regions import Mask


class Elastic(MaskNoise):
    """Warp the mask, but not the image, by a smooth random displacement field (Simard et al. 2003)."""

    stream_name = "elastic"
    fidelity = Fidelity(
        reference="https://github.com/scipy/scipy",
        commit="1.17.1",
        license="BSD-3-Clause",
        compared="4 masks warped by the same random fields, with deviations of 2 and 4 and smoothing by 3 and 6 pixels (the "
        "authors published no code)",
        difference="0 pixels",
        golden=("elastic",),
        deviations=(
            Deviation(
                "displacements are smoothed normal noise with standard deviation `amplitude`; in the paper they are"
                " smoothed uniform noise, normalized and scaled",
                "the same field but for the unit of its strength",
                "none in shape: smoothing makes either noise normal; amplitude is in pixels",
            ),
            Deviation(
                "only the mask is warped; the paper warps image and label together",
                "label noise instead of augmentation",
                "the noise itself",
            ),
        ),
    )

    amplitude: float = parameter(
        4.0,
        ge=0,
        low=1.0,
        high=12.0,
        help="Standard deviation of the displacements, in pixels",
        always_in_label=True,
    )
    smoothness: float = parameter(
        8.0,
        gt=0,
        low=2.0,
        high=32.0,
        help="Standard deviation of the smoothing Gaussian, in pixels",
        always_in_label=True,
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the warped mask; beyond its edge the edge pixels are repeated."""
        rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float32)
        down, right = (self._displacements(mask.shape, context) for _ in range(2))
        # Maps must be float32; nearest neighbor, because interpolated class indices have no meaning.
        warped = cv2.remap(mask, columns + right, rows + down, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(warped)

    def _displacements(self, shape: tuple[int, ...], context: MaskContext) -> NDArray[np.float32]:
        """Return a smooth random field with the requested standard deviation."""
        # Independent of amplitude and severity, so that greater values only lengthen the same displacements.
        noise = context.stream.normal(*shape).astype(np.float32)
        smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), self.smoothness))
        # Smoothing shrinks the deviation by an amount that depends on the size of the mask, so it is rescaled.
        return smooth * np.float32(context.severity * self.amplitude / max(float(smooth.std()), 1e-6))
