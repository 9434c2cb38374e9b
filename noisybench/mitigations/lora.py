"""Low-rank adaptation."""

from __future__ import annotations

import importlib.util
from typing import Any

from torch import Tensor, nn

from noisybench.config.parameters import parameter
from noisybench.mitigations._heads import Head
from noisybench.nn.frozen import Tuned, fresh_classifier, split_network


class LoRA(Head):
    """Trains low-rank changes of a pre-trained backbone's weights, and a fresh classifier (Hu et al. 2022).

    Every linear and every ungrouped convolutional layer of the backbone gets one, through peft: `pip install peft`. All
    else of the backbone stays as it is, statistics of normalisation included. Its learning rate is ten times the
    budget's: changes that start at zero and pass a bottleneck need more than whole weights do. Of a language model every
    layer but the one that scores tokens is changed, and there is no fresh classifier.
    """

    tasks = ("transfer", "chain_of_thought")

    rate_times: float = parameter(10.0, gt=0, low=0.1, high=100.0, log=True, help="times the budget's learning rate")

    rank: int = parameter(8, ge=1, low=2, high=32, log=True, help="of the changes")
    alpha: int = parameter(8, ge=1, low=4, high=64, log=True, help="the changes are scaled by alpha / rank")

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """peft is there, and there is something to adapt."""
        problems = [] if is_language_model(network) else super().check(network, budget, examples)
        if isinstance(getattr(network, "context_length", None), int) and not is_language_model(network):
            problems = [f"`{budget.network}` is trained from scratch; low-rank changes are for a pre-trained model"]
        if importlib.util.find_spec("peft") is None:
            problems.append("peft is not installed; `python -m pip install peft`")
        elif not problems and not is_language_model(network) and not adaptable(split_network(network)[0]):
            problems.append(f"`{budget.network}` has no layer before its classifier that could be adapted")
        return problems

    def build_model(self, network: nn.Module) -> nn.Module:
        """The backbone with low-rank changes, and a fresh classifier."""
        from peft import LoraConfig, inject_adapter_in_model

        if is_language_model(network):
            model: Any = network.model
            model.requires_grad_(False)
            settings = LoraConfig(
                r=self.rank,
                lora_alpha=self.alpha,
                target_modules="all-linear",
                fan_in_fan_out=any(type(each).__name__ == "Conv1D" for each in model.modules()),
            )
            inject_adapter_in_model(settings, model)
            return network
        backbone, last = split_network(network)
        backbone.requires_grad_(False)
        settings = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=adaptable(backbone))
        changed = inject_adapter_in_model(settings, backbone)
        return Tuned(_Unmoved(changed), nn.Identity(), fresh_classifier(last.in_features, last.out_features))


def is_language_model(network: nn.Module) -> bool:
    """Whether it is a pre-trained language model, whose layers peft knows."""
    return hasattr(network, "tokenizer")


def adaptable(backbone: nn.Module) -> list[str]:
    """Names of the layers that can be given a low-rank change."""
    return [
        name
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    ]


class _Unmoved(nn.Module):
    """A backbone in evaluation mode even while its changes are trained."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def train(self, mode: bool = True) -> _Unmoved:
        return super().train(False)

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.backbone(inputs)
        return features.flatten(1)
