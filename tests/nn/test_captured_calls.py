"""What surrounds the kernels of CUDA graphs, with recorded calls in their place: it needs no GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisybench.nn import captures, cuda_graphs
from noisybench.nn.cuda_graphs import MAX_GRAPHS, CapturedCalls


class Recorded:
    """Stands for a CUDA graph: a replay calls a function and is counted."""

    def __init__(self, function: Any = lambda: None) -> None:
        self.function, self.replays = function, 0

    def replay(self) -> None:
        self.replays += 1
        self.function()


def stub_of_pass(parameter: Tensor) -> Any:
    """The pass scores, classes = parameter * inputs, its rounding, with outputs and gradients at fixed addresses."""
    inputs, received, gradient = torch.zeros(2), [torch.zeros(2)], torch.zeros(2)
    outputs = [torch.zeros(2), torch.zeros(2, dtype=torch.int64)]

    def forward() -> None:
        outputs[0].copy_(parameter.detach() * inputs)
        outputs[1].copy_(outputs[0].round())

    made = SimpleNamespace(
        inputs=inputs, received=received, outputs=outputs, parameters=[parameter], gradients=(gradient,),
        differentiable=[True, False], forward_graph=Recorded(forward),
        backward_graph=Recorded(lambda: gradient.copy_(received[0] * inputs)),
    )  # fmt: skip
    made.accumulate = lambda: captures.CapturedPass.accumulate(made)
    return made


def test_a_replayed_pass_has_the_gradients_of_autograd_and_adds_them_up() -> None:
    parameter = nn.Parameter(torch.tensor([2.0, 3.0]))
    replayed, anchor = stub_of_pass(parameter), torch.empty(0, requires_grad=True)
    for repeat in (1, 2, 3):
        scores, classes = captures._Replay.apply(anchor, replayed, torch.tensor([1.0, 4.0]))
        assert scores.tolist() == [2, 12]
        assert (classes.tolist(), classes.requires_grad, scores.requires_grad) == ([2, 12], False, True)
        scores.square().sum().backward()
        assert parameter.grad is not None
        assert parameter.grad.tolist() == [repeat * 4, repeat * 96], "2 s x of each pass"
    assert replayed.forward_graph.replays == replayed.backward_graph.replays == 3


def test_outputs_of_a_replay_outlive_the_next_one() -> None:
    parameter = nn.Parameter(torch.tensor([2.0, 3.0]))
    replayed, anchor = stub_of_pass(parameter), torch.empty(0, requires_grad=True)
    first, _ = captures._Replay.apply(anchor, replayed, torch.ones(2))
    captures._Replay.apply(anchor, replayed, torch.zeros(2))
    assert first.tolist() == [2, 3]


def optimizer_calls(monkeypatch: pytest.MonkeyPatch, captured: CapturedCalls) -> tuple[Any, list[str]]:
    """An optimizer whose gradients count as fixed, and the list of its ordinary steps, captures and replays."""
    parameter, calls = nn.Parameter(torch.ones(1)), list[str]()
    parameter.grad = torch.ones(1)
    captured._gradients = {id(parameter.grad): parameter.grad}
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    monkeypatch.setattr(optimizer, "step", lambda: calls.append("step"))

    def capture(self: CapturedCalls, of: Any) -> Recorded:
        assert of is optimizer
        calls.append("capture")
        return Recorded(lambda: calls.append("replay"))

    monkeypatch.setattr(CapturedCalls, "_capture_optimizer", capture)
    return optimizer, calls


def test_the_first_step_of_an_optimizer_is_ordinary_and_the_second_is_captured_and_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured = CapturedCalls(enabled=True)
    optimizer, calls = optimizer_calls(monkeypatch, captured)
    for _ in range(3):
        captured.step_optimizer(optimizer)
    assert calls == ["step", "capture", "replay", "replay"]


def test_other_settings_gradients_and_hooks_of_an_optimizer_are_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = CapturedCalls(enabled=True)
    optimizer, calls = optimizer_calls(monkeypatch, captured)
    captured.step_optimizer(optimizer)
    optimizer.param_groups[0]["lr"] = 0.2
    captured.step_optimizer(optimizer)
    assert calls == ["step", "step"], "each learning rate has a first step"
    captured.step_optimizer(optimizer)
    assert calls[2:] == ["capture", "replay"]
    hook = optimizer.register_step_post_hook(lambda *arguments: None)
    captured.step_optimizer(optimizer)
    hook.remove()
    optimizer.param_groups[0]["params"][0].grad = torch.ones(1)
    captured.step_optimizer(optimizer)
    optimizer.param_groups[0]["params"][0].grad = None
    captured.step_optimizer(optimizer)
    assert calls[4:] == ["step"] * 3, "a hook, a gradient at another address, and none"


def test_no_more_than_the_largest_number_of_steps_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = CapturedCalls(enabled=True)
    optimizer, calls = optimizer_calls(monkeypatch, captured)
    for rate in range(MAX_GRAPHS + 3):
        optimizer.param_groups[0]["lr"] = float(rate)
        captured.step_optimizer(optimizer)
        captured.step_optimizer(optimizer)
    assert calls.count("capture") == MAX_GRAPHS
    assert calls[-2:] == ["step", "step"]


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_capture_converts_weights_in_every_call() -> None:
    assert torch.is_autocast_cache_enabled()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        torch.set_autocast_enabled("cuda", True)  # PyTorch turns it off again without a GPU
        with captures.without_autocast_cache():
            assert not torch.is_autocast_cache_enabled()
        assert torch.is_autocast_cache_enabled()
    with captures.without_autocast_cache():
        assert torch.is_autocast_cache_enabled(), "nothing to turn off"


def failed_capture() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        raise RuntimeError("the end of the capture")  # noqa: B904 -- as PyTorch raises it


def test_causes_of_a_failed_capture_are_reported_in_one_line() -> None:
    with pytest.raises(RuntimeError) as raised:
        failed_capture()
    assert cuda_graphs._cause(raised.value) == "first"
    assert cuda_graphs._cause(KeyError()) == "KeyError"


class Searched(nn.Sequential):
    """A network that counts how often its layers are listed."""

    searches = 0

    def modules(self) -> Any:
        self.searches += 1
        return super().modules()


def on_gpu() -> Any:
    """Inputs on a GPU, as far as a call reads them before it is replayed."""
    return SimpleNamespace(
        is_cuda=True, requires_grad=False, shape=(3, 2), stride=lambda: (2, 1), dtype=torch.float32
    )  # fmt: skip


def replaying(monkeypatch: pytest.MonkeyPatch) -> CapturedCalls:
    monkeypatch.setattr(CapturedCalls, "_capture", lambda *arguments: lambda inputs: "replayed")
    return CapturedCalls(enabled=True)


def test_a_network_is_searched_for_its_layers_once_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    network, captured = Searched(nn.Linear(2, 1)), replaying(monkeypatch)
    for epoch in (1, 2):
        captured.start_epoch(network)
        searched, results = network.searches, []
        for _ in range(3):
            with captured.step():
                results.append(captured("scores", lambda inputs: "called", network, on_gpu()))
        assert network.searches == searched + 1
        assert results == ["called" if epoch == 1 else "replayed", "replayed", "replayed"]


@torch.no_grad()
def test_a_network_that_changes_between_steps_is_not_replayed_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    network, captured = nn.Sequential(nn.Linear(2, 1)), replaying(monkeypatch)
    captured.start_epoch(network)

    def call() -> Any:
        return captured("scores", lambda inputs: "called", network, on_gpu())

    results = [call(), call()]
    network.append(nn.ReLU())
    results.append(call())
    handle = network.register_forward_hook(lambda *arguments: None)
    results.append(call())
    handle.remove()
    assert results == ["called", "replayed", "called", "called"]
