"""Every registered name passes its kind's contract; a new file is tested by existing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noisybench.config.registry import list_entries
from tests import contracts
from tests.helpers import network_names


@pytest.mark.parametrize("name", list_entries("noise_models"))
def test_noise_model(name: str, tmp_path: Path) -> None:
    contracts.check_noise_model(list_entries("noise_models")[name], tmp_path)


@pytest.mark.parametrize("name", list_entries("noise_models"))
@given(size=st.integers(1, 300), seed=st.integers(0, 2**31), rate=st.floats(0, 1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_model_anywhere(name: str, tmp_path: Path, size: int, seed: int, rate: float) -> None:
    contracts.check_noise_model_anywhere(list_entries("noise_models")[name], tmp_path, size, seed, rate)


@pytest.mark.parametrize("name", list_entries("mitigations"))
def test_mitigation_declaration(name: str) -> None:
    contracts.check_mitigation_declaration(list_entries("mitigations")[name])


STACKS = [
    {"name": name, **each}
    for name, entry in list_entries("mitigations").items()
    for each in entry.load_class().test_cases()
]


@pytest.mark.parametrize("check", contracts.MITIGATION_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: "-".join(str(each) for each in stack.values()))
def test_mitigation(stack: contracts.Stack, check: Callable[[contracts.Stack, Path], None], tmp_path: Path) -> None:
    check(stack, tmp_path)


@pytest.mark.parametrize("name", list_entries("datasets"))
def test_dataset(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    contracts.check_dataset(list_entries("datasets")[name], folder)


@pytest.mark.parametrize("name", network_names())
@pytest.mark.parametrize("channels", [1, 3])
def test_network(name: str, channels: int) -> None:
    import torch

    from noisybench.networks import build_network

    network = build_network(name, 7, channels).eval()
    is_language_model = hasattr(network, "context_length")
    inputs = torch.zeros(2, 9, dtype=torch.long) if is_language_model else torch.zeros(2, channels, 32, 32)
    # A network with a tokenizer scores the tokens of its own vocabulary.
    num_tokens = network.vocabulary_size if hasattr(network, "tokenizer") else 7
    expected_shapes = [(2, 9, num_tokens)] if is_language_model else [(2, 7), (2, 7, 32, 32)]
    assert network(inputs).shape in expected_shapes, "scores of the classes for each image, pixel or token"
