"""Max pooling of evaluations against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from noisybench.networks import build_network
from noisybench.nn.pooling import max_pool_2x2

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (2, 3, 7, 9), (2, 3, 6, 5), (1, 1, 2, 2), (0, 2, 4, 4), (2, 3, 3, 4)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_evaluations_pool_to_the_same_bits_and_layout(
    shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype, ceil_mode: bool
) -> None:
    # Rectified, so that many windows have several largest values.
    inputs = (
        torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu().to(dtype).contiguous(memory_format=layout)
    )
    expected = functional.max_pool2d(inputs, 2, ceil_mode=ceil_mode)
    with torch.no_grad():
        pooled = max_pool_2x2(inputs, ceil_mode)
    assert torch.equal(pooled, expected)
    assert pooled.dtype == dtype
    assert pooled.is_contiguous(memory_format=layout) or not len(inputs)


def test_values_that_are_no_numbers_stay_visible() -> None:
    inputs = torch.zeros(1, 1, 4, 4)
    inputs[0, 0, 1, 1], inputs[0, 0, 2, 3] = float("nan"), float("inf")
    with torch.no_grad():
        assert max_pool_2x2(inputs).flatten().tolist()[1:] == [0.0, 0.0, float("inf")]
        assert max_pool_2x2(inputs)[0, 0, 0, 0].isnan()


def test_an_image_smaller_than_a_window_is_refused_as_by_pytorch() -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="too small"):
        max_pool_2x2(torch.zeros(1, 1, 1, 4))


def test_gradients_are_those_of_pytorch_also_for_equal_values() -> None:
    inputs = torch.tensor([[[[1.0, 1.0], [0.0, 1.0]]]], requires_grad=True)
    max_pool_2x2(inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.flatten().tolist() == [1.0, 0.0, 0.0, 0.0], "the first of equal values, not a share of each"


@pytest.mark.parametrize(("name", "channels"), [("small_cnn", 3), ("conv_dense", 1), ("unet:4", 3)])
def test_networks_evaluate_to_the_bits_of_their_training_graph(name: str, channels: int) -> None:
    torch.manual_seed(0)
    network = build_network(name, 4, channels).eval()
    inputs = torch.randn(5, channels, 10, 12)
    with_gradients = network(inputs)
    with torch.no_grad():
        assert torch.equal(network(inputs), with_gradients)
