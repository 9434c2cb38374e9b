"""The contrastive loss of pre-training against solo-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noisybench.mitigations.simclr import agreement_loss
from tests.golden.vectors import load_golden


@pytest.mark.parametrize("case", range(3))
def test_loss_and_gradient_are_those_of_solo_learn(case: int) -> None:
    golden = load_golden("simclr")
    projected = golden.tensor("projected").requires_grad_()
    loss = agreement_loss(projected, float(golden["temperatures"][case]))
    (gradient,) = torch.autograd.grad(loss, projected)
    np.testing.assert_allclose(loss.item(), golden["loss"][case], rtol=0, atol=2e-6)
    np.testing.assert_allclose(gradient.numpy(), golden["gradient"][case], rtol=0, atol=5e-7)
