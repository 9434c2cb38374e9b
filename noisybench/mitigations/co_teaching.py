"""Co-teaching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._small_loss import PeerSelection, example_index, small_loss_weights
from noisybench.training.batch import Batch, cross_entropy

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class CoTeaching(PeerSelection):
    """Train two networks, each on the small-loss examples that the other one selects.

    Networks fit correct labels first, so examples with a small loss are likely correct, and the two networks filter
    different errors (Han et al. 2018). Epochs of the ramp count from 0. The default `forget_rate` is the true noise
    rate, which is privileged information. The deployed prediction is that of the first network, as in the paper;
    `ensemble` averages both, which is no longer the prediction of a single network. If an example has many labels, such
    as the tokens of a trace, `unit` decides whether labels or whole examples are selected.
    """

    tasks = ("classification", "segmentation", "chain_of_thought")
    fidelity = Fidelity(
        formula="kept fraction in epoch e: R(e) = 1 - forget_rate · min(e / ramp_epochs, 1)",
        reference="https://github.com/bhanML/Co-teaching",
        commit="7c7fbe23e15e517db76a0882b6d108e4508e09d6",
        license="not stated",
        compared="losses and gradients of batches of 8, 33 and 64 at forget rates of 0, .2, .45 and .7",
        difference="9.5e-7 in the loss, 7.5e-9 in the gradient",
        golden=("co_teaching",),
        deviations=(
            Deviation(
                "the ramp is the paper's R(e) = 1 - rate * min(e / ramp_epochs, 1) from epoch 0; the authors' code "
                "reaches the rate in epoch ramp_epochs - 1 and begins with epoch 1",
                "the formula of the paper",
                "forgets up to .08 less during a ramp of 10 epochs to .4, nothing afterward",
            ),
            Deviation(
                "the mean over the kept examples; the authors' code divides it by their number once more",
                "the formula of the paper",
                "the gradient is so many times larger, which only the epsilon of the authors' Adam notices; with SGD "
                "it is the learning rate",
            ),
            Deviation(
                "one optimizer for both networks, which see the same batches; the authors have two",
                "it is elementwise",
                "none",
            ),
            Deviation(
                "an epoch is one pass over the data; the authors' loop ends after 401 batches of 128",
                "all stacks have equal budgets",
                "none on CIFAR, which has 390 whole batches; on MNIST, with 468, a sixth more steps per epoch",
            ),
        ),
    )

    unit: Literal["label", "example"] = parameter(
        "label", help="Unit of selection: labels, or examples by their mean loss"
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the true noise rate with one deployed network, and a given rate with both."""
        return {"ramp_epochs": 2}, {"forget_rate": 0.3, "ensemble": True, "unit": "example"}

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the sum of both networks' losses, each on the selection of the other."""
        keep_fraction = self.keep_fraction(task.current_epoch)
        losses = [cross_entropy(task.logits(batch.inputs, network), batch) for network in range(2)]
        examples = example_index(batch, task.training_set) if self.unit == "example" else None
        # Detached: a selection has no gradient, so no graph has to be recorded for it.
        weights = [small_loss_weights(loss.detach(), keep_fraction, batch.has_label, examples) for loss in losses]
        return losses[0] * weights[1] + losses[1] * weights[0]
