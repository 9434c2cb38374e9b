"""Early stopping by noisy validation labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.training.mitigation import Requirements
from noisybench.training.phases import validation_accuracy
from noisybench.training.roles import PostProcessor
from noisybench.training.training_set import TrainingSet

if TYPE_CHECKING:
    from noisybench.training.learner import Learner


class EarlyStopping(PostProcessor):
    """Deploy the weights of the epoch with the highest accuracy on noisy validation labels.

    Networks learn correct labels first, so that the best epoch is often not the last (Arpit et al. 2017). Training uses the
    whole budget, since all stacks have the same; at its end, networks and heads return to the best epoch, the first of
    several. The selection rule `noisy_val` reads the same accuracy, but chooses among the rows of any finished run; here the
    choice is part of the stack, so that predictions, label quality and the saved model come from the best epoch, by every
    rule. It works with any loss.
    """

    fidelity = Fidelity(
        reference="",
        commit="",
        compared="there is no public reference; the tests hold the deployed weights to those of the first epoch with the highest "
        "accuracy",
        deviations=(
            Deviation(
                "training does not end early; implementations with a patience stop some epochs after the best one",
                "all stacks have equal budgets",
                "none, unless accuracy rises again after the patience",
            ),
        ),
    )

    @property
    def requirements(self) -> Requirements:
        """Nothing that other mitigations must know."""
        return Requirements()

    def check_data(self, training_set: TrainingSet, network: nn.Module, seed: int) -> list[str]:
        """Check that there are validation examples."""
        if training_set.validation is not None:
            return []
        return [
            "the epoch is chosen by the accuracy on noisy validation labels, but the dataset has no validation split; set for "
            "example dataset.validation_fraction=0.1"
        ]

    def on_epoch_end(self, task: Learner) -> None:
        """Keep the weights if the accuracy is higher than in all epochs before."""
        score = torch.tensor(validation_accuracy(task), dtype=torch.float64)
        if "score" not in self.state or bool(score > self.state["score"].cpu()):
            self.state = {"score": score, "epoch": torch.tensor(task.current_epoch)}
            self.state |= {name: values.detach().clone() for name, values in _weights(task).items()}
        best = int(self.state["epoch"])
        self.diagnostics["best_epoch"] = float(best)
        if best == task.budget.epochs - 1:
            self.warnings.append("the last epoch is the best on noisy validation labels, so that it changes nothing")

    @torch.no_grad()
    def refine(self, task: Learner, training_set: TrainingSet) -> bool:
        """Return networks and heads to the best epoch; False if that was the last."""
        if int(self.state["epoch"]) == task.budget.epochs - 1:
            return False
        for name, values in _weights(task).items():
            values.copy_(self.state[name])
        return True


def _weights(task: Learner) -> dict[str, Tensor]:
    """Return all parameters and buffers of the networks and heads by name."""
    modules = {"networks": task.networks, "heads": task.heads}
    return {
        f"{kind}.{name}": values for kind, module in modules.items() for name, values in module.state_dict().items()
    }
