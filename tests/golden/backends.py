"""Stand-ins for Keras, TensorFlow 1 and JAX on PyTorch, for references whose backend cannot be installed here.

They have only the functions that the references call. Gradients are those of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn


class KerasTensor(Tensor):
    """A tensor whose `/=` returns a new tensor, as in Keras."""

    def __itruediv__(self, other: Any) -> Self:  # type: ignore[override,misc]
        return self / other


KERAS = SimpleNamespace(
    sum=lambda values, axis, keepdims=False: values.sum(axis, keepdim=keepdims),
    clip=torch.clamp,
    epsilon=lambda: 1e-7,
    log=torch.log,
    dot=torch.matmul,
    constant=lambda values: torch.as_tensor(values, dtype=torch.float32),
    shape=lambda values: values.shape,
    argmax=torch.argmax,
    one_hot=lambda labels, num_classes: nn.functional.one_hot(labels, num_classes).float(),
)

TENSORFLOW = SimpleNamespace(
    clip_by_value=torch.clamp,
    log=torch.log,
    reduce_sum=lambda values, axis: values.sum(axis),
    reduce_mean=torch.mean,
)

JAX = {
    "jit": lambda function: function,
    "vmap": torch.func.vmap,
    "jacrev": torch.func.jacrev,
    "jnp": SimpleNamespace(
        linalg=SimpleNamespace(norm=lambda values, ord=2, axis=-1: torch.linalg.vector_norm(values, ord, axis)),
        concatenate=lambda parts, axis: torch.cat(parts, axis),
        mean=torch.mean,
        sum=lambda values, axis: values.sum(axis),
        ravel=torch.ravel,
    ),
    "nn": SimpleNamespace(softmax=lambda values: values.softmax(-1), log_softmax=lambda values: values.log_softmax(-1)),
    "np": SimpleNamespace(array=lambda values: np.asarray(values.detach())),
    "tree_map": lambda function, tree: {name: function(leaf) for name, leaf in tree.items()},
    "tree_flatten": lambda tree: (list(tree.values()), None),
}


def losses_and_gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return a Keras loss of (B, C) logits and (B,) labels, and the gradient of its sum."""
    logits = logits.clone().requires_grad_()
    targets = nn.functional.one_hot(labels, logits.shape[1]).float()
    values = loss(targets, logits.softmax(1).as_subclass(KerasTensor)).as_subclass(Tensor)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    return {"loss": values.detach().numpy(), "gradient": gradient.numpy()}
