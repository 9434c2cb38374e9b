"""PES: progressive early stopping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.nn.features import last_linear, stages
from noisybench.training.batch import Batch, BatchPlan, cross_entropy
from noisybench.training.mitigation import Requirements
from noisybench.training.phases import Phase
from noisybench.training.roles import Detector, DetectorProvider, EpochPlanner, LossFunction
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import torch_seed

if TYPE_CHECKING:
    from noisybench.config.budget import Budget
    from noisybench.training.learner import Learner


class PES(LossFunction, EpochPlanner, DetectorProvider):
    """Stop the training of late layers earlier than that of early ones, which memorize labels later (PES).

    After a few epochs, the last stage and then the classifier are initialized again and trained briefly, with the layers
    before them fixed; the rest uses the examples whose labels the network predicts (Bai et al. 2021). Classes are weighted
    equally then.
    """

    fidelity = Fidelity(
        formula="L = w_y · CE(p, y) / mean w_y over the batch, for examples with argmax p = y;  w_c = mean count / count of "
        "class c among them;  w = 1 and all examples before",
        reference="https://github.com/tmllab/PES",
        commit="54662382dca22f314911488d79711cffa7fbf1a0",
        license="not stated",
        compared="weights and running statistics of a network of three layers after an epoch of SGD, both re-initializations "
        "with two epochs each, and an epoch on confident examples, from the same new weights; selection and class weights",
        difference="1.2e-7 in the weights; none in the selection",
        golden=("pes",),
        deviations=(
            Deviation(
                "labels are compared with predictions without augmentation; the authors average those of two augmented views",
                "these predictions exist after every epoch",
                "two passes over the training set fewer per epoch; the selection differs where augmentation changes the class",
            ),
            Deviation(
                "SGD has no momentum from before when it continues; the authors keep its state",
                "every phase begins with a new optimizer",
                "none without momentum; otherwise the first steps after the re-initializations",
            ),
        ),
    )

    warmup_epochs: int = parameter(
        10, ge=1, low=3, high=30, help="Epochs of cross-entropy before layers are trained again"
    )
    last_stage_epochs: int = parameter(4, ge=0, low=0, high=10, help="Epochs of the last stage with the classifier")
    classifier_epochs: int = parameter(3, ge=0, low=0, high=10, help="Epochs of the classifier alone")
    late_learning_rate: float = parameter(
        1e-4, gt=0, low=1e-5, high=1e-2, log=True, help="Learning rate of Adam for the re-initialized layers"
    )
    trains: Literal["early", "all"] = parameter(
        "early",
        help="Layers trained on confident examples: `early` keeps re-initialized ones fixed, as the authors' code does, or `all`",
    )

    @classmethod
    def test_cases(cls) -> tuple[dict[str, Any], ...]:
        """Return the classifier alone, and both parts with all layers in the end."""
        first = {"warmup_epochs": 1, "last_stage_epochs": 0, "classifier_epochs": 1, "late_learning_rate": 0.01}
        return first, {**first, "last_stage_epochs": 1, "classifier_epochs": 0, "trains": "all"}

    @property
    def requirements(self) -> Requirements:
        """One phase for each part, and one for the confident examples."""
        adam = {
            "optimizer": "adam", "learning_rate": self.late_learning_rate, "lr_schedule": "constant", "weight_decay": 0.0,
        }  # fmt: skip
        late = (Phase(epochs, settings=adam) for epochs in (self.last_stage_epochs, self.classifier_epochs) if epochs)
        return Requirements(phases=(Phase(self.warmup_epochs), *late, Phase()), freezes_layers=True)

    def check(self, network: nn.Module, budget: Budget, examples: int) -> list[str]:
        """Check that the network has the layers that are trained again, and that they can be initialized."""
        last, problems = last_linear(network), list[str]()
        if last is None or last[1] is network:
            problems.append(
                "the network has no layer before its last linear one, which is trained again; choose another network"
            )
        elif self.last_stage_epochs and len(stages(network)) < 2:
            problems.append(
                f"last_stage_epochs={self.last_stage_epochs}: the network has no two stages, of which the last is trained again; "
                "set it to 0, or choose a network with stages such as resnet18_cifar_stem"
            )
        elif not all(hasattr(module, "reset_parameters") for module in _with_weights(self._late(network))):
            problems.append("a late layer of the network has no method `reset_parameters`; choose another network")
        return problems

    def prepare(self, task: Learner, training_set: TrainingSet) -> None:
        """Remember which weights are trained, and initialize the selection."""
        self._trained = [weights for weights in task.networks[0].parameters() if weights.requires_grad]
        self.state["confident"] = torch.ones(len(training_set), dtype=torch.bool)
        self.state["class_weights"] = torch.ones(training_set.num_classes)

    def on_epoch_start(self, task: Learner) -> None:
        """Initialize the layers of a phase at its start, select the weights that are trained, and the confident examples."""
        network, epoch = task.networks[0], task.current_epoch
        classifier_start = self.warmup_epochs + self.last_stage_epochs
        end = self._end
        late = {id(weights) for module in self._late(network) for weights in module.parameters(recurse=False)}
        classifier = _classifier(network)
        if self.warmup_epochs <= epoch < end:
            is_stage = epoch < classifier_start
            if epoch == (self.warmup_epochs if is_stage else classifier_start):
                torch.manual_seed(torch_seed("late_layers", task.seed, epoch))
                for module in _with_weights(self._late(network) if is_stage else [classifier]):
                    module.reset_parameters()  # type: ignore[operator]
                task.invalidate_cache()
            chosen = late if is_stage else {id(weights) for weights in classifier.parameters()}
        elif epoch >= end and self.trains == "early":
            chosen = {id(weights) for weights in self._trained} - late
        else:
            chosen = {id(weights) for weights in self._trained}
        for weights in self._trained:
            weights.requires_grad_(id(weights) in chosen)
        if epoch >= end:
            self._select(task)

    def _select(self, task: Learner) -> None:
        """Select the examples whose labels the network predicts, and weight their classes equally."""
        targets, weights = task.training_set.targets, task.sampler.weights
        confident = task.training_predictions() == targets
        # Another mitigation may leave out examples for the whole run.
        kept = torch.ones_like(confident) if weights is None else weights > 0
        if int((confident & kept).sum()) < 2:
            self.warnings.append("the network predicts fewer than two labels, so that it trains on all examples")
            confident = torch.ones_like(confident)
        counts = torch.bincount(targets[confident & kept], minlength=task.training_set.num_classes).float()
        mean = counts.sum() / (counts > 0).sum()
        self.state["confident"] = confident
        self.state["class_weights"] = torch.where(counts > 0, mean / counts.clamp_min(1), torch.zeros_like(counts))
        self.diagnostics["confident"] = float(confident.float().mean())

    def plan_epoch(self, task: Learner) -> list[BatchPlan] | None:
        """Return batches of confident examples; those that fill no batch are left out, as in the authors' code."""
        if not self._selects(task):
            return None
        order = task.sampler.epoch_order(task.current_epoch)
        order = order[self.state["confident"][order]]
        size = min(task.budget.batch_size, len(order))
        return [BatchPlan(order[start : start + size]) for start in range(0, len(order) - size + 1, size)]

    def loss(self, task: Learner, batch: Batch) -> Tensor:
        """Return cross-entropy, weighted by class once examples are selected."""
        losses = cross_entropy(task.logits(batch.inputs), batch)
        if not self._selects(task):
            return losses
        weights = self.state["class_weights"][batch.observed]
        return losses * weights / weights.mean().clamp_min(1e-12)

    def detectors(self, task: Learner, training_set: TrainingSet) -> dict[str, Detector]:
        """Return the examples that are left out, once examples are selected."""
        if not self._selects(task):
            return {}
        return {"confident": Detector(1 - task.training_label_quality(), ~self.state["confident"])}

    def _selects(self, task: Learner) -> bool:
        return task.current_epoch >= self._end

    @property
    def _end(self) -> int:
        """Epoch after the last of the re-initialized layers."""
        return self.warmup_epochs + self.last_stage_epochs + self.classifier_epochs

    def _late(self, network: nn.Module) -> list[nn.Module]:
        """Return the layers that were initialized again in the phases, with their parts."""
        if not self.last_stage_epochs:
            return list(_classifier(network).modules()) if self.classifier_epochs else []
        modules, before = list(network.modules()), set(stages(network)[-2].modules())
        # Modules are listed in the order of their definition, in which networks with stages run them.
        last = max(position for position, module in enumerate(modules) if module in before)
        return modules[last + 1 :]


def _classifier(network: nn.Module) -> nn.Module:
    last = last_linear(network)
    assert last is not None  # checked before training
    return last[1]


def _with_weights(modules: list[nn.Module]) -> list[nn.Module]:
    """Return the modules that have parameters of their own."""
    return [module for module in modules if any(True for _ in module.parameters(recurse=False))]
