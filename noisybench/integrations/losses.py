"""Losses that are robust to label noise, as modules of PyTorch for a plain training loop: `nb.losses`.

Each runs the code of the harness and gives the same numbers. `StackLoss` combines several. All are called with logits,
targets (class indices or probabilities) and, for losses with a state for each example, the positions of the batch in the
training set, which `Indexed` yields:

>>> import torch
>>> train = torch.utils.data.TensorDataset(torch.rand(8, 4), torch.arange(8) % 2)
>>> network, loss = torch.nn.Linear(4, 2), ELR(num_examples=len(train), num_classes=2)
>>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
>>> for (inputs, targets), index in torch.utils.data.DataLoader(Indexed(train), batch_size=4, shuffle=True):
...     optimizer.zero_grad()
...     loss(network(inputs), targets, index).backward()
...     optimizer.step()

State is part of ``state_dict()`` and moves with ``.to(device)``.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from noisybench.config.parameters import Schema
from noisybench.config.registry import get_entry
from noisybench.errors import nearest
from noisybench.integrations._loss_helpers import Indexed, estimate_transition, mixup
from noisybench.integrations._stack_loss import OWN_LOOP, Reduction, StackLoss
from noisybench.integrations._stacks import NOT_LOSSES

__all__ = [
    "ELR", "GCE", "GLS", "JAL", "SCE", "BackwardCorrection", "Bootstrapping", "CrossEntropy", "DiceLoss", "ForwardCorrection",
    "Indexed", "LabelSmoothing", "NoiseRobustDice", "StackLoss", "TLoss", "TrimmedLoss", "estimate_transition", "mixup",
]  # fmt: skip


class NamedLoss(StackLoss):
    """Base class of the losses of one mitigation, whose parameters are keyword arguments.

    Args:
        num_examples: number of training examples; for losses with a state for each example.
        num_classes: number of classes; for losses with such a state.
        labels_per_example: number of labels of each example, such as H * W for masks; for losses with such a state.
        transition: (C, C) transition matrix of a loss correction.
        reduction: ``mean``, ``sum`` or ``none``.
        ignore_index: class index of missing labels, such as -100; None if every label exists.
        parameters: those of the mitigation, which `noisybench describe NAME` lists.

    Attributes:
        mitigation: name of the mitigation.
    """

    mitigation: ClassVar[str]

    def __init__(
        self,
        *,
        num_examples: int | None = None,
        num_classes: int | None = None,
        labels_per_example: int = 1,
        transition: Any = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            {"name": self.mitigation, **parameters},
            num_examples=num_examples,
            num_classes=num_classes,
            labels_per_example=labels_per_example,
            transition=transition,
            reduction=reduction,
            ignore_index=ignore_index,
        )

    def __init_subclass__(cls) -> None:
        """Show the parameters of the mitigation, with their defaults, in ``help()`` and in editors."""
        own = [each for each in inspect.signature(NamedLoss.__init__).parameters.values() if each.name != "self"][:-1]
        schema: Schema = get_entry("mitigations", cls.mitigation).schema
        own_loop = OWN_LOOP if "matrix" in schema.fields else {}
        declared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=spec.default, annotation=kind)
            for name, (kind, spec) in schema.fields.items()
            if name not in ("preset", *own_loop)
        ]
        setattr(cls, "__signature__", inspect.Signature([*declared, *own]))  # noqa: B010, not declared by `type`


class CrossEntropy(NamedLoss):
    """Cross-entropy, the baseline without mitigation.

    >>> import torch
    >>> CrossEntropy()(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.6931)
    """

    mitigation = "cross_entropy"


class GCE(NamedLoss):
    """Generalized cross-entropy (Zhang and Sabuncu 2018): cross-entropy for small `q`, mean absolute error for 1.

    >>> import torch
    >>> GCE(q=1.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.5000)
    """

    mitigation = "gce"


class SCE(NamedLoss):
    """Symmetric cross-entropy (Wang et al. 2019): `alpha` x cross-entropy + `beta` x reverse cross-entropy.

    >>> import torch
    >>> SCE(alpha=0.0, beta=1.0, log_zero=-4.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(2.)
    """

    mitigation = "sce"


class JAL(NamedLoss):
    """Joint asymmetric loss (Wang et al. 2025): normalized cross-entropy or focal loss + asymmetric squared error.

    >>> import torch
    >>> JAL(alpha=2.0, asymmetry=2.5)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(3.1250)
    """

    mitigation = "jal"


class ELR(NamedLoss):
    """Early-learning regularization (Liu et al. 2020) toward a running average of each example's predictions.

    >>> import torch
    >>> loss = ELR(num_examples=3, num_classes=2, beta=0.5, reg_weight=1.0)
    >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]), index=torch.tensor([2, 0]))
    tensor(0.4055)
    >>> loss.state_dict()["states.0.targets"]
    tensor([[0.2500, 0.2500],
            [0.0000, 0.0000],
            [0.2500, 0.2500]])
    """

    mitigation = "elr"


class Bootstrapping(NamedLoss):
    """Cross-entropy against targets mixed with the network's own prediction (Reed et al. 2015).

    >>> import torch
    >>> Bootstrapping(mode="soft", label_weight=0.5)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.6931)
    """

    mitigation = "bootstrapping"


class LabelSmoothing(NamedLoss):
    """Cross-entropy against targets mixed with the uniform distribution (Szegedy et al. 2016).

    >>> import torch
    >>> LabelSmoothing(smoothing=0.5)(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor(0.6269)
    """

    mitigation = "label_smoothing"


class GLS(NamedLoss):
    """Label smoothing with a rate that may be negative (Wei et al. 2021); call `next_epoch` after each epoch of a warm-up.

    >>> import torch
    >>> GLS(smoothing=-1.0, warmup_epochs=0)(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor(-0.8731)
    """

    mitigation = "gls"


class ForwardCorrection(NamedLoss):
    """Forward loss correction by the transition matrix (Patrini et al. 2017); cross-entropy until one is set.

    >>> import torch
    >>> loss = ForwardCorrection(transition=[[0.75, 0.25], [0.25, 0.75]])
    >>> loss(torch.tensor([[9.0, -9.0]]), torch.tensor([1]))
    tensor(1.3863)
    """

    mitigation = "forward_correction"


class BackwardCorrection(NamedLoss):
    """Backward loss correction by the inverse transition matrix (Patrini et al. 2017); cross-entropy until one is set.

    >>> import torch
    >>> loss = BackwardCorrection()
    >>> loss.set_transition([[0.75, 0.25], [0.25, 0.75]])
    >>> loss(torch.zeros(1, 2), torch.tensor([1]))
    tensor(0.6931)
    """

    mitigation = "backward_correction"


class TrimmedLoss(NamedLoss):
    """Train on examples or labels with a small loss only (Shen and Sanghavi 2019); call `next_epoch` after each epoch.

    >>> import torch
    >>> loss = TrimmedLoss(num_examples=8, num_classes=2, drop_fraction=0.2, unit="label")
    >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]), index=torch.tensor([2, 0]))
    tensor(0.6931)
    """

    mitigation = "trimmed_loss"


class DiceLoss(NamedLoss):
    """Cross-entropy plus soft Dice loss, for (N, C, H, W) logits of masks.

    >>> import torch
    >>> DiceLoss(dice_weight=0.0)(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.int64))
    tensor(0.6931)
    """

    mitigation = "dice_loss"


class NoiseRobustDice(NamedLoss):
    """Noise-robust Dice loss (Wang et al. 2020), for (N, C, H, W) logits of masks.

    >>> import torch
    >>> NoiseRobustDice(gamma=2.0)(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.int64))
    tensor(0.2000)
    """

    mitigation = "noise_robust_dice"


class TLoss(NamedLoss):
    """Student-t loss of whole masks (Gonzalez-Jimenez et al. 2023); give its parameter to your optimizer as well.

    >>> import torch
    >>> loss = TLoss()
    >>> [name for name, _ in loss.named_parameters()]
    ['heads.degrees_of_freedom.logarithm']
    """

    mitigation = "t_loss"


def __getattr__(name: str) -> Any:
    """Explain why a mitigation is no loss, or name the nearest loss."""
    wanted = name.replace("_", "").lower()
    for mitigation, reason in NOT_LOSSES.items():
        if wanted == mitigation.replace("_", ""):
            raise AttributeError(
                f"nb.losses has no {name}: it {reason}; in the harness it is `nb.run(..., mitigations={mitigation!r})`"
            )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; {nearest(name, __all__)}")
