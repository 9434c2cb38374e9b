"""False objects."""

from __future__ import annotations

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.noise_models._masks import MaskContext, MaskNoise, draw_objects
from noisybench.noise_models._objects import draw_donor
from noisybench.noise_models._regions import Mask


class Inclusion(MaskNoise):
    """Paste rotated objects from masks of other images on the background (Liu et al. 2024, for remote sensing).

    An image receives `count` false objects on average, each from another random image of the same split, at a random
    position. Objects that cover half of the image or more are not used.
    """

    stream_name = "inclusion"
    fidelity = Fidelity(
        reference="https://github.com/zhu-xlab/AIO2",
        commit="d59fdc28cfca7507163bee0d406e21fd54132450",
        license="MIT",
        compared="an object rotated by 12 angles and shifted by 20 pairs of whole pixels; areas of 60 false objects",
        difference="0 pixels for the same angle and shift",
        golden=("aio2",),
        deviations=(
            Deviation(
                "false objects are placed on any image, at a random position, `count` on average; the authors add "
                "one to half of the images without objects, at its former position, shifted with probability .5",
                "images without objects are rare in other data sets",
                "a setting",
            ),
            Deviation(
                "every false object is rotated; the authors rotate and dilate each with probability .5",
                "position and angle alike are random",
                "a setting",
            ),
            Deviation(
                "a false object comes from a random image of the split; the authors' is a random object of an "
                "earlier image, replaced with probability .3",
                "the noise of an image does not depend on the order of the images",
                "none in the kind of objects",
            ),
        ),
    )

    count: float = parameter(
        1.0, ge=0, low=0.2, high=3.0, help="Mean number of false objects per image", always_in_label=True
    )

    def corrupt_mask(self, mask: Mask, context: MaskContext) -> Mask:
        """Return the mask with false objects on its background."""
        noisy = mask.copy()
        for _ in range(context.stochastic_round(context.severity * self.count)):
            false_object = draw_donor(context, mask.shape)
            if false_object is not None:
                draw_objects(noisy, mask, [false_object], context)
        return noisy
