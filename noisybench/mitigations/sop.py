"""Sparse over-parameterization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.mitigations._sparse_noise import SparseNoise
from noisybench.training.batch import Batch

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class SOP(SparseNoise):
    """Learn the noise of each label next to the network, so that the network fits what is left (SOP).

    The noise is the product of two small factors, which gradient descent grows for few labels only: those that the
    network does not fit early (Liu et al. 2022b). Its learning rates are constant, without momentum and weight decay.
    `mixup` and `ensemble` cannot be combined with it, since each label has one noise.
    """

    fidelity = Fidelity(
        formula="L = -log normalize(p + u² · y - v² · (1 - y))_y + ‖argmax p + u² · y - v² · (1 - y) - y‖²",
        reference="https://github.com/shengliu66/SOP",
        commit="4d991cedf1fafec98f858a213ccc31e52318a77f",
        license="MIT",
        compared="losses of 8 steps of both optimizers, weights of a linear network, u and v afterward, at two settings",
        difference="4.8e-7 in the loss (single precision); none in weights, u and v",
        golden=("sop",),
        deviations=(
            Deviation(
                "u and v come from a named random stream; the authors' code draws them from the global one",
                "a resumed run draws the same numbers",
                "other draws of the same distribution, with a standard deviation of 1e-8",
            ),
        ),
    )

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the loss with the learned noise of each label."""
        return self.separate(task, batch, task.logits(batch.inputs))[0]
