"""Meta-Weight-Net: a small network that weights examples by their loss, trained on clean examples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.training.batch import Batch, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.roles import LossFunction
from noisybench.training.schedule import learning_rate_at
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import Stream, torch_seed

if TYPE_CHECKING:
    from noisybench.training.learner import Learner

HIDDEN = 100
"""Hidden units of the weighting network."""

BETAS = (0.9, 0.999)
"""Momentum of Adam for the weighting network."""


class MetaWeightNet(LossFunction):
    """Weight each example by a function of its loss that is learned on clean examples (Meta-Weight-Net).

    A small network, trained on clean labels through a trial step of the main network, maps losses to weights (Shu et al. 2019).

    In each step, a trial step of the main network under the present weights is scored on a batch of clean examples. The
    gradient of that score, through the trial step, trains the weighting network with Adam, and its new weights weight the real
    step: one more step, and a gradient of second order, beside those of cross-entropy. The clean labels are those of
    `clean_examples` examples of the validation split, which is privileged information.
    """

    fidelity = Fidelity(
        formula="Θ ← Adam(∇_Θ CE_clean(w - η ∇_w mean V_Θ(ℓ_i) ℓ_i)), then L = V_Θ(ℓ) · ℓ; V has one input, 100 ReLU units and a "
        "sigmoid",
        reference="https://github.com/xjtushujun/meta-weight-net",
        commit="3f1800ff26bc66ceda6075f3fa25f3a7e0665a4d",
        license="MIT",
        compared="weights of a linear network and of the weighting network after 8 steps in batches of 10 noisy and 6 clean "
        "examples, with Nesterov momentum and weight decay",
        difference="2.1e-6 in the weighting network (single precision), below 1e-6 in the network",
        golden=("meta_weight_net",),
        deviations=(
            Deviation(
                "batches of clean examples are drawn with replacement; the authors go through a permutation of them",
                "one way to draw further batches for all methods",
                "none in expectation",
            ),
            Deviation(
                "clean examples are drawn evenly from the validation split; the authors take the same number of each class",
                "the classes of the split are not balanced in general",
                "small for splits with balanced classes",
            ),
        ),
    )

    clean_examples: int = parameter(
        1000,
        ge=2,
        low=100,
        high=1000,
        log=True,
        help="Largest number of validation examples whose clean labels are read",
    )
    weight_learning_rate: float = parameter(
        1e-3, gt=0, low=1e-5, high=1e-2, log=True, help="Learning rate of Adam for the weighting network"
    )
    weight_decay: float = parameter(1e-4, ge=0, low=0.0, high=1e-3, help="Weight decay of the weighting network")

    @property
    def requirements(self) -> Requirements:
        """The clean labels of validation examples."""
        return Requirements(privileged=("clean_validation_labels",))

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that clean labels of validation examples are known."""
        labels = self.privileged.clean_validation_labels
        if int((labels >= 0).sum()) >= 2:
            return []
        return [
            f"the clean labels of the {len(labels)} validation examples are unknown, but at least 2 are needed; choose a dataset "
            "with clean labels, or a method without them"
        ]

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Choose the clean examples, and initialize the weighting network as linear layers are."""
        labels = self.privileged.clean_validation_labels
        order = torch.from_numpy(Stream("clean examples", task.seed).permutation(len(labels)))
        known = order[labels[order] >= 0][: self.clean_examples]
        self._clean = known, labels[known]
        generator = torch.Generator().manual_seed(torch_seed("meta_weight_net", task.seed))
        # Hidden weights and biases, output weights and bias; the bound of a layer is one over the root of its inputs.
        bounds = torch.cat([torch.ones(2 * HIDDEN), torch.full((HIDDEN + 1,), 1 / math.sqrt(HIDDEN))])
        weights = bounds * (2 * torch.rand(len(bounds), generator=generator) - 1)
        self.state = {
            "weights": weights, "mean": torch.zeros_like(weights), "square": torch.zeros_like(weights),
            "steps": torch.zeros(()), "weight_sum": torch.zeros(()), "weight_count": torch.zeros(()),
        }  # fmt: skip

    def on_epoch_start(self, task: Learner) -> None:
        """Average the weights of this epoch from zero, and seed the choice of clean examples."""
        # On the host, where the validation split is: positions from the training device would have to be waited for.
        self._generator = torch.Generator().manual_seed(torch_seed("clean examples", task.seed, task.current_epoch))
        for name in ("weight_sum", "weight_count"):
            self.state[name] = torch.zeros_like(self.state[name])

    def on_epoch_end(self, task: Learner) -> None:
        """Record the mean weight of an example."""
        self.diagnostics["mean_weight"] = float(self.state["weight_sum"] / self.state["weight_count"])

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return the weighted cross-entropy, after a step of the weighting network."""
        positions, labels = self._draw(len(batch.observed))
        clean = task.validation_batch(positions).with_labels(labels.to(batch.observed.device), None)
        self._adam_step(self._meta_gradient(task, batch, clean))
        losses = cross_entropy(task.logits(batch.inputs), batch)
        weights = example_weights(losses.detach().float(), self.state["weights"])
        self.state["weight_sum"] += weights.sum()
        self.state["weight_count"] += len(weights)
        return weights * losses

    def _draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Return positions in the validation split and clean labels of random clean examples."""
        positions, labels = self._clean
        drawn = torch.randint(len(positions), (count,), generator=self._generator)
        return positions[drawn], labels[drawn]

    def _meta_gradient(self, task: Learner, batch: Batch, clean: Batch) -> Tensor:
        """Return the gradient of the clean loss after a trial step by the (P,) parameters of the weighting network."""
        network: Any = task.networks[task.active_network]
        parameters = dict(network.named_parameters())
        trained = [name for name, values in parameters.items() if values.requires_grad]
        # Once per epoch, as in the authors' code; with a warm-up it rises from almost zero.
        step_size = learning_rate_at(task.budget, task.current_epoch)
        own = self.state["weights"].detach().requires_grad_()
        # Fused kernels of attention have no gradient of second order.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            losses = cross_entropy(_trial_logits(network, parameters, batch), batch)
            objective = (example_weights(losses.detach().float(), own) * losses).mean()
            gradients = torch.autograd.grad(
                objective, [parameters[name] for name in trained], create_graph=True, materialize_grads=True
            )
            moved = {name: parameters[name] - step_size * slope for name, slope in zip(trained, gradients, strict=True)}
            clean_loss = cross_entropy(_trial_logits(network, {**parameters, **moved}, clean), clean).mean()
            (gradient,) = torch.autograd.grad(clean_loss, own)
        return gradient

    @torch.no_grad()
    def _adam_step(self, gradient: Tensor) -> None:
        """Change the weighting network by a step of Adam, in place."""
        state = self.state
        gradient = gradient + self.weight_decay * state["weights"]
        state["steps"] += 1
        state["mean"].lerp_(gradient, 1 - BETAS[0])
        state["square"].lerp_(gradient.square(), 1 - BETAS[1])
        mean = state["mean"] / (1 - BETAS[0] ** state["steps"])
        deviation = (state["square"] / (1 - BETAS[1] ** state["steps"])).sqrt() + 1e-8
        state["weights"] -= self.weight_learning_rate * mean / deviation


def example_weights(losses: Tensor, parameters: Tensor) -> Tensor:
    """Return the (B,) weights, from 0 to 1, that the weighting network gives to (B,) losses in nats.

    Args:
        losses: losses of the examples.
        parameters: (3 * HIDDEN + 1,) hidden weights and biases, output weights and bias.

    >>> example_weights(torch.tensor([0.1, 2.0]), torch.zeros(301))
    tensor([0.5000, 0.5000])
    """
    slopes, offsets, outputs = parameters[:-1].view(3, HIDDEN)
    scores: Tensor = functional.relu(losses[:, None] * slopes + offsets) @ outputs + parameters[-1]
    return scores.sigmoid()


def _trial_logits(network: nn.Module, parameters: dict[str, Tensor], batch: Batch) -> Tensor:
    """Return the scores of a network with other parameters, whose batch statistics are not kept."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    logits: Tensor = torch.func.functional_call(network, {**parameters, **buffers}, (batch.inputs,))
    return logits.float()
