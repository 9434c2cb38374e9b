"""Noise-weighted Dice loss with iterative learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.targets import IGNORED
from noisybench.mitigations._mask_correction import predict_views
from noisybench.mitigations.dice_loss import soft_dice_loss
from noisybench.training.batch import Batch
from noisybench.training.roles import LossFunction
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class NoiseWeightedDice(LossFunction):
    """Train with a weighted Dice loss in rounds, after each of which doubtful pixels and images count less.

    In the first round all weights are 1, which is the plain Dice loss. After each other round but the last, the network
    predicts the training images, averaged over their mirror images (Wang et al. 2021). A pixel with the predicted class
    keeps weight 1, and another one receives one minus the confidence of the prediction. These weights are multiplied by
    the Dice coefficient of the image's prediction and mask, averaged over its classes. With `replace_above`, labels are
    replaced where the confidence is above it. Only the summary of the paper was available; weights, rounds and the score of
    an image are our design.

    Rows report the mean weight, and the number of images whose object the prediction misses completely. The state has
    two bytes per pixel, and one more with `replace_above`.
    """

    tasks = ("segmentation",)
    fidelity = Fidelity(
        formula="L = mean over classes of (1 - 2 · Σ w p y / (Σ w p + Σ w y))",
        reference="https://github.com/HiLab-git/PyMIC",
        commit="8bcebd62ad4360d7dc5143907f56dd793dd5e304",
        license="Apache-2.0",
        compared="Dice loss with pixel weights and its gradient; the rounds and weights themselves have no public code",
        difference="2.4e-7 in the loss, 2.3e-9 in the gradient",
        golden=("pymic_dice",),
        deviations=(
            Deviation(
                "the code adds 1e-5 to numerator and denominator, and averages over all classes; here over those that occur",
                "the coefficient of a class without pixels is undefined",
                "below 1e-6 for the frozen vectors, in which all classes occur",
            ),
            Deviation(
                "the weights of pixels and images, and the rounds, follow the summary of the paper alone",
                "its full text and code were not available",
                "not measured",
            ),
        ),
    )

    rounds: int = parameter(3, ge=1, low=2, high=5, help="Number of rounds of equal length; 1 is the plain Dice loss")
    image_weights: bool = parameter(True, help="Multiply the weights by the agreement of each image")
    replace_above: float | None = parameter(
        None, gt=0.5, lt=1, help="Confidence above which a prediction replaces a label; by default no label is replaced"
    )
    background: bool = parameter(False, help="Count the background as a class")

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return weights alone, and replaced labels."""
        return {"rounds": 3}, {"rounds": 2, "replace_above": 0.55, "image_weights": False, "background": True}

    def check(self, network: Any, budget: Any, examples: int) -> list[str]:
        """Check that every round has an epoch."""
        if self.rounds <= budget.epochs:
            return []
        return [
            f"rounds: each of the {self.rounds} rounds needs at least one epoch, but the budget has {budget.epochs}; train "
            "longer, or decrease rounds"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Start with weight 1 for all pixels."""
        self.state["weights"] = torch.ones(training_set.targets.shape, dtype=torch.float16)
        if self.replace_above is not None:
            # A copy, because labels are replaced in place and those of the training set are still needed.
            self.state["labels"] = training_set.targets.clone()

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the same loss for all pixels of a batch."""
        weights = self.state["weights"].view(-1)[batch.index].float()
        if "labels" in self.state:
            labels = self.state["labels"].view(-1)[batch.index].long()
            # Missing labels stay missing, so that the mask of those that exist stays valid.
            observed = labels if batch.has_label is None else labels.masked_fill(~batch.has_label, 0)
            batch = batch.with_labels(observed, batch.has_label)
        includes_all = self.background or not task.training_set.has_background
        value = soft_dice_loss(task.logits(batch.inputs), batch, includes_all, weights)
        return value.expand(len(batch.observed))

    def on_epoch_end(self, task: Learner) -> None:
        """Weigh the pixels again at the end of a round."""
        epoch, epochs = task.current_epoch + 1, task.budget.epochs
        ends = {epochs * number // self.rounds for number in range(1, self.rounds)}
        if epoch in ends:
            self._weigh(task)

    @torch.no_grad()
    def _weigh(self, task: Learner) -> None:
        """Set the weights, and replace labels, by the predictions of the present network."""
        data, network = task.training_set, task.networks[0]
        size, missed, num_replaced = task.eval_batch_size(data.inputs), 0, 0
        training = network.training
        # In training mode, predictions would depend on the images that share a batch, and update running statistics.
        network.eval()
        for start in range(0, len(data), size):
            rows = slice(start, start + size)
            labels = data.targets[rows]
            with task.autocast():
                confidence, predicted = predict_views(network, task.normalize(data.inputs[rows]), [1.0], flip=True)
            weights = torch.where(predicted == labels, torch.ones_like(confidence), 1 - confidence)
            agreement, misses = image_agreement(predicted, labels, data.num_classes, data.has_background)
            if self.image_weights:
                weights = weights * agreement[:, None, None]
            missed += int(misses.sum())
            self.state["weights"][rows] = weights.half()
            if self.replace_above is not None:
                replaced = (confidence > self.replace_above) & (labels != IGNORED) & (predicted != labels)
                self.state["labels"][rows] = torch.where(replaced, predicted, labels)
                num_replaced += int(replaced.sum())
        network.train(training)
        has_label = data.targets != IGNORED
        self.diagnostics["mean_weight"] = float(self.state["weights"][has_label].float().mean())
        self.diagnostics["missed_images"] = float(missed)
        if self.replace_above is not None:
            self.diagnostics["replaced_pixels"] = float(num_replaced)
        if missed:
            self.warnings.append(f"the predictions of {missed} of {len(data)} images miss every object of the mask")
        if not bool(self.state["weights"].any()):
            # A loss without weights has no gradient: it would silently end the training.
            self.state["weights"].fill_(1)
            self.warnings.append("the predictions agree with no mask, so all pixels keep weight 1")

    def corrected_labels(self, task: Learner, training_set: TrainingSet) -> Tensor | None:
        """Return the masks with replaced labels, if labels are replaced."""
        return self.state.get("labels")


def image_agreement(
    predicted: Tensor, labels: Tensor, num_classes: int, has_background: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the (B,) mean Dice coefficient of predictions and labels, and the (B,) images whose objects are missed.

    Args:
        predicted: (B, H, W) uint8 classes.
        labels: (B, H, W) uint8 classes, with `IGNORED` for pixels without a label.
        num_classes: number of classes, including the background.
        has_background: class 0 is the background, which does not count.

    Returns:
        The coefficient in [0, 1] over the classes of predictions or labels, 1 without any; and True for images with objects
        in the labels of which the prediction meets no pixel.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1, 255]], [[0, 0, 1, 0]]], dtype=torch.uint8)
        >>> predicted = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 0, 0]]], dtype=torch.uint8)
        >>> agreement, missed = image_agreement(predicted, labels, num_classes=2)
        >>> agreement.round(decimals=2), missed
        (tensor([0.6700, 0.0000]), tensor([False,  True]))
    """
    has_label = labels != IGNORED
    coefficients, common, present = [], torch.zeros(len(labels), device=labels.device), []
    for label in range(1 if has_background else 0, num_classes):
        is_predicted, is_observed = (predicted == label) & has_label, labels == label
        both = (is_predicted & is_observed).flatten(1).sum(1)
        total = (is_predicted.flatten(1).sum(1) + is_observed.flatten(1).sum(1)).clamp_min(1)
        # The classes of few images are looked at one by one, so that no (B, C, H, W) tensor is made.
        coefficients.append(2 * both / total)
        present.append((is_predicted | is_observed).flatten(1).any(1))
        common += both
    occurs = torch.stack(present)
    mean = (torch.stack(coefficients) * occurs).sum(0) / occurs.sum(0).clamp_min(1)
    first_class = 1 if has_background else 0
    has_object = ((labels >= first_class) & has_label).flatten(1).any(1)
    return torch.where(occurs.any(0), mean, torch.ones_like(mean)), has_object & (common == 0)
