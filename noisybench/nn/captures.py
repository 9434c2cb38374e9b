"""Forward and backward passes of networks as CUDA graphs.

Warm-up calls and captures run in a stream of their own, as PyTorch requires.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WARMUP_CALLS = 3
"""Ordinary calls before a capture, in which libraries select their algorithms."""

Function = Callable[[Tensor], Any]
"""Maps a tensor to a tensor or a tuple of tensors, with kernels and shapes that depend on the shape of the tensor alone."""


class _FunctionOfModule(nn.Module):
    """A function that uses a module, as a module: PyTorch can then call it with other parameters."""

    def __init__(self, function: Function, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        # In a tuple: a function that is a module would be registered here, and its parameters twice.
        self._function = (function,)

    def forward(self, inputs: Tensor) -> Any:
        """Return the value of the function."""
        return self._function[0](inputs)


class CapturedPass:
    """A forward pass and its backward pass as two graphs.

    Attributes:
        gradients: gradients of the parameters, which every replay of the backward pass overwrites; None for unused ones.
    """

    def __init__(self, function: Function, module: nn.Module, inputs: Tensor) -> None:
        self.inputs = inputs.detach().clone()
        trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.parameters = list(trained.values())
        # Autograd remembers the stream in which it first met a parameter, and a capture must not wait for another stream.
        # It has not met these, which share the memory of the parameters.
        self._aliases: dict[str, Tensor] = {
            f"module.{name}": nn.Parameter(parameter.detach()) for name, parameter in trained.items()
        }
        self._called = _FunctionOfModule(function, module)
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()

        stream = capture_stream(inputs.device)
        with _in_stream(stream):
            for _ in range(WARMUP_CALLS):
                outputs = [output for output in self._run() if output.requires_grad]
                self._gradients_of(outputs, [torch.empty_like(output) for output in outputs])
            del outputs
        # Both passes share their memory, since the second one reads the activations of the first.
        pool = torch.cuda.graph_pool_handle()
        with torch.cuda.graph(self.forward_graph, pool=pool, stream=stream):
            outputs = self._run()
        differentiable = [output for output in outputs if output.requires_grad]
        self.received = [torch.empty_like(output) for output in differentiable]
        with torch.cuda.graph(self.backward_graph, pool=pool, stream=stream):
            self.gradients = self._gradients_of(differentiable, self.received)
        self.differentiable = [output.requires_grad for output in outputs]
        # Detached, so that the graph of the capture can be freed; its memory is kept by the pool.
        self.outputs = [output.detach() for output in outputs]
        # A tensor without elements makes the outputs differentiable; parameters receive their gradients directly.
        self.anchor = torch.empty(0, device=inputs.device, requires_grad=True)

    def __call__(self, inputs: Tensor) -> Any:
        """Replay the forward pass."""
        outputs = _Replay.apply(self.anchor, self, inputs)
        return torch.utils._pytree.tree_unflatten(outputs, self.form)

    def accumulate(self) -> None:
        """Add the gradients of the latest backward pass to those of the parameters."""
        earlier, added = [], []
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                earlier.append(parameter.grad)
                added.append(gradient)
        if earlier:
            torch._foreach_add_(earlier, added)

    def _run(self) -> list[Tensor]:
        outputs = torch.func.functional_call(self._called, self._aliases, (self.inputs,))
        flat, self.form = torch.utils._pytree.tree_flatten(outputs)
        return flat

    def _gradients_of(self, outputs: list[Tensor], received: list[Tensor]) -> tuple[Tensor | None, ...]:
        # Unused parameters, such as those of a stage that the loss does not read, have no gradient.
        gradients = torch.autograd.grad(outputs, list(self._aliases.values()), received, allow_unused=True)
        # Fused optimizers read gradients in the memory layout of the parameters, as autograd would store them.
        return tuple(
            gradient
            if gradient is None or gradient.stride() == parameter.stride()
            else torch.empty_like(parameter).copy_(gradient)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        )


class _Replay(torch.autograd.Function):
    """Replay the graphs of a pass where autograd runs forward and backward passes."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, graphs: CapturedPass, inputs: Tensor) -> tuple[Tensor, ...]:
        graphs.inputs.copy_(inputs)
        graphs.forward_graph.replay()
        ctx.graphs = graphs
        # Copied, since the next replay overwrites the outputs.
        outputs = tuple(output.clone() for output in graphs.outputs)
        ctx.mark_non_differentiable(
            *(output for output, has_gradient in zip(outputs, graphs.differentiable, strict=True) if not has_gradient)
        )
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        graphs: CapturedPass = ctx.graphs
        received = [each for each, is_used in zip(gradients, graphs.differentiable, strict=True) if is_used]
        for static, gradient in zip(graphs.received, received, strict=True):
            static.copy_(gradient)
        for parameter, fixed in zip(graphs.parameters, graphs.gradients, strict=True):
            # Gradients of an earlier step that accumulate would be overwritten by the replay, and counted twice.
            if fixed is not None and parameter.grad is fixed:
                parameter.grad = fixed.clone()
        graphs.backward_graph.replay()
        graphs.accumulate()
        return None, None, None


def captured_inference(function: Function, inputs: Tensor, generator: torch.Generator | None) -> Function:
    """Return a function without gradients as a graph.

    Args:
        function: the function.
        inputs: example of its inputs.
        generator: random numbers that it draws, if any.
    """
    static, stream = inputs.detach().clone(), capture_stream(inputs.device)
    with torch.no_grad(), _in_stream(stream):
        for _ in range(WARMUP_CALLS):
            function(static)
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    with torch.no_grad(), torch.cuda.graph(graph, stream=stream):
        outputs = function(static)

    def replay(inputs: Tensor) -> Any:
        static.copy_(inputs)
        graph.replay()
        # Copied, since the next replay overwrites the outputs.
        return torch.utils._pytree.tree_map(Tensor.clone, outputs)

    return replay


@functools.cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all warm-ups and captures: libraries initialize themselves once per stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _in_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Run a block in another stream, after everything before it and before everything after it."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


HostRandomState = tuple[Any, ...]
"""States of the random numbers of Python, NumPy and PyTorch on the host."""


def host_random_state() -> HostRandomState:
    """Return the states of the global random numbers on the host, which a graph would draw once and repeat.

    Example:
        >>> state = host_random_state()
        >>> number = random.random()
        >>> host_random_state() == state
        False
        >>> restore_host_random_state(state)
        >>> random.random() == number
        True
    """
    name, keys, *position = np.random.get_state()  # noqa: NPY002 -- networks may use the global state
    return random.getstate(), (name, tuple(keys), *position), torch.get_rng_state().numpy().tobytes()


def restore_host_random_state(state: HostRandomState) -> None:
    """Set the global random numbers on the host to earlier states."""
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002 -- as above
    torch.set_rng_state(torch.frombuffer(bytearray(state[2]), dtype=torch.uint8))


def without_autocast_cache() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which autocast converts weights in every call, as a graph must do at every replay."""
    if not torch.is_autocast_enabled("cuda"):
        return contextlib.nullcontext()
    return torch.autocast("cuda", dtype=torch.get_autocast_dtype("cuda"), cache_enabled=False)
