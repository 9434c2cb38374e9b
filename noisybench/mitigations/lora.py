"""Low-rank adaptation."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.mitigations._probe_heads import HeadBuilder
from noisybench.nn.frozen import BackboneWithHead, new_classifier, split_network
from noisybench.training.mitigation import Requirements


class LoRA(HeadBuilder):
    """Fine-tune low-rank updates of a pre-trained backbone (LoRA).

    Every linear and every ungrouped convolutional layer of the backbone gets a low-rank update (Hu et al. 2022), and
    the network a new classifier. All other parts of the backbone are frozen, including the statistics of
    normalization. The default learning rate is ten times that of the budget, because updates that start at zero behind
    a bottleneck need more than full weights. In a language model, every layer except the one that scores tokens gets an
    update, and there is no new classifier. Requires peft: `pip install peft`.
    """

    tasks = ("transfer", "chain_of_thought")

    fidelity = Fidelity(
        formula="W' = W + (alpha / rank) · B A,  with rank columns in B and rank rows in A",
        reference="https://github.com/microsoft/LoRA",
        commit="c4593f060e6a368d7bb5af5273b8e42810cdef90",
        license="MIT",
        compared="outputs of a linear layer at the start and with given updates, and gradients of the updates",
        difference="none in outputs and gradients",
        golden=("lora",),
        deviations=(
            Deviation(
                "the updates are those of peft, which for a convolution are a convolution to `rank` channels and one of "
                "1 x 1; the authors' are a product of matrices in the shape of the kernel",
                "peft is well kept, and knows the layers of language models",
                "for k x k kernels, rank * (inputs * k * k + outputs) instead of rank * k * (inputs * k + outputs * k) weights",
            ),
            Deviation(
                "the paper updates query and value projections of attention; here all linear and convolutional layers",
                "networks other than transformers have no attention",
                "more updated weights; quality as reported for updates of all layers",
            ),
        ),
    )

    lr_multiplier: float = parameter(
        10.0, gt=0, low=0.1, high=100.0, log=True, help="Factor applied to the budget's learning rate"
    )
    rank: int = parameter(8, ge=1, low=2, high=32, log=True, help="Rank of the updates")
    alpha: int = parameter(
        8, ge=1, low=4, high=64, log=True, help="Scale of the updates, which are multiplied by alpha / rank"
    )

    @property
    def requirements(self) -> Requirements:
        """A multiple of the budget's learning rate; each example has a loss of its own."""
        return replace(super().requirements, distributed_state={})

    def check(self, network: nn.Module, budget: Any, examples: int) -> list[str]:
        """Check that peft is installed, and that the network has layers to adapt."""
        problems = [] if is_language_model(network) else super().check(network, budget, examples)
        is_decoder = isinstance(getattr(network, "context_length", None), int)
        if is_decoder and not getattr(network, "is_pretrained", False):
            problems = [f"`{budget.network}` is trained from scratch; low-rank updates need a pre-trained model"]
        if importlib.util.find_spec("peft") is None:
            problems.append("peft is not installed; run `python -m pip install peft`")
        elif not problems and not is_language_model(network) and not adaptable_layers(split_network(network)[0]):
            problems.append(f"`{budget.network}` has no layer before its classifier that could be adapted")
        return problems

    def explain_divergence(self) -> str:
        """Return how far the updates are multiplied, if they are."""
        if self.alpha <= self.rank:
            return ""
        return (
            f"lora multiplies its updates by alpha / rank = {self.alpha / self.rank:.3g}: decrease mitigations.lora.alpha, or "
            "increase mitigations.lora.rank"
        )

    def build_model(self, network: nn.Module) -> nn.Module:
        """Return the backbone with low-rank updates and a new classifier."""
        from peft import LoraConfig, inject_adapter_in_model

        if is_language_model(network):
            model: Any = network.model
            # Frozen before the updates are inserted, which are trainable when they are created.
            model.requires_grad_(False)
            config = LoraConfig(
                r=self.rank,
                lora_alpha=self.alpha,
                target_modules="all-linear",
                # GPT-2 stores its weights transposed, in layers of this name.
                fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
            )
            inject_adapter_in_model(config, model)
            return network
        backbone, last = split_network(network)
        backbone.requires_grad_(False)
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=adaptable_layers(backbone))
        adapted = inject_adapter_in_model(config, backbone)
        return BackboneWithHead(
            _EvalModeBackbone(adapted), nn.Identity(), new_classifier(last.in_features, last.out_features)
        )


def is_language_model(network: nn.Module) -> bool:
    """Return True for a pre-trained language model, whose layers peft knows."""
    return hasattr(network, "tokenizer")


def adaptable_layers(backbone: nn.Module) -> list[str]:
    """Return the names of the layers that can have a low-rank update.

    >>> adaptable_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8)))
    ['0']
    """
    return [
        name
        for name, layer in backbone.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    ]


class _EvalModeBackbone(nn.Module):
    """A backbone that stays in evaluation mode while its updates are trained."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def train(self, mode: bool = True) -> _EvalModeBackbone:
        # Otherwise the statistics of normalization would change with the data although its weights are frozen.
        return super().train(False)

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.backbone(inputs)
        return features.flatten(1)
