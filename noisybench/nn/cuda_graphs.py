"""Calls of networks that a GPU replays as CUDA graphs: the host launches one graph instead of hundreds of kernels.

Without graphs, a training step of a small convolutional network waits for the host, not for the GPU. The kernels of a
graph are those of the ordinary call, so that both give the same numbers.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from noisybench.nn.captures import (
    CapturedPass,
    Function,
    capture_stream,
    captured_inference,
    host_random_state,
    restore_host_random_state,
    without_autocast_cache,
)
from noisybench.nn.joint_optimizer import JointOptimizer

logger = logging.getLogger("noisybench")

MAX_GRAPHS = 32
"""Largest number of graphs that are kept; further calls are ordinary ones. Each graph keeps the memory of its call."""


class CapturedCalls:
    """Capture the calls that repeat, and replay them.

    The first call of each kind is an ordinary one, and the others are replayed. On a CPU, all calls are ordinary ones.

    Args:
        enabled: True to capture and replay calls on a GPU.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> captured = CapturedCalls(enabled=True)
        >>> captured.start_epoch(network)
        >>> with captured.step():
        ...     scores = captured("scores", network, network, torch.zeros(3, 2))
        >>> scores.shape, captured.num_graphs
        (torch.Size([3, 1]), 0)
    """

    def __init__(self, enabled: bool = False) -> None:
        self.enabled = enabled
        self._graphs: dict[Hashable, Function | None] = {}
        self._gradients: dict[int, Tensor] = {}  # by their Python ids, which are unique while they are kept here
        self._optimizer_graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph | None, torch.optim.Optimizer, Any]] = {}
        self._counts: Counter[Hashable] = Counter()
        self._slots: Counter[Hashable] = Counter()
        self._parts: dict[nn.Module, Parts] = {}
        self._structure: Hashable = None
        self._in_step = False

    @property
    def num_graphs(self) -> int:
        """Number of captured graphs."""
        return sum(graph is not None for graph in self._graphs.values())

    def start_epoch(self, module: nn.Module) -> None:
        """Discard all graphs if tensors or modes of the module have changed. Until the next call, steps keep its layers."""
        self._parts = {}
        tensors = [*module.parameters(), *module.buffers()]
        structure = (
            tuple((tensor.requires_grad, tensor.data_ptr()) for tensor in tensors),
            tuple(part.training for part in module.modules()),
        )
        if structure != self._structure:
            self._graphs, self._gradients, self._optimizer_graphs = {}, {}, {}
            self._structure = structure
            self._counts.clear()

    def step_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Take a step of an optimizer.

        It is replayed if all gradients are those of replayed backward passes, which have fixed addresses, and if its
        settings are those of the capture, except for settings in tensors on the GPU. The parts of a joint optimizer are
        replayed one by one.
        """
        if isinstance(optimizer, JointOptimizer):
            for part in optimizer.parts:
                self.step_optimizer(part)
            return
        # Other optimizers, and hooks of their steps, may keep state on the host.
        is_known = type(optimizer) in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
        if (
            not self._gradients
            or not is_known
            or optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
        ):
            optimizer.step()
            return
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        present = [id(gradient) for gradient in gradients if gradient is not None]
        if not present or not self._gradients.keys() >= set(present):
            optimizer.step()
            return
        settings = (
            (name, value)
            for group in optimizer.param_groups
            for name, value in group.items()
            if name != "params" and not isinstance(value, Tensor)
        )
        # The state of an optimizer that restores a checkpoint is another object.
        key = (id(optimizer), id(optimizer.state), *map(id, gradients), *settings)
        self._counts[key] += 1
        # The first step creates the state of the optimizer.
        if key not in self._optimizer_graphs and self._counts[key] > 1 and len(self._optimizer_graphs) < MAX_GRAPHS:
            # Kept with their owners, so that no other object can have their ids. A capture executes nothing.
            self._optimizer_graphs[key] = (self._capture_optimizer(optimizer), optimizer, optimizer.state)
        graph = self._optimizer_graphs[key][0] if key in self._optimizer_graphs else None
        if graph is None:
            optimizer.step()
        else:
            graph.replay()

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Allow calls with gradients in the block; their backward passes must be complete before the next step."""
        self._slots.clear()
        self._in_step = True
        try:
            yield
        finally:
            self._in_step = False

    def __call__(
        self,
        name: Hashable,
        function: Function,
        module: nn.Module,
        inputs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Return ``function(inputs)``.

        Args:
            name: name of the function; equal names are equal functions.
            function: a function of the inputs and of the tensors of a module. It must not read or change anything else
                on the host, since that would happen once, at the capture.
            module: module whose parameters receive gradients, and whose buffers the function may change.
            inputs: a tensor.
            generator: random numbers that the function draws, if any; always the same object.
        """
        if not self.enabled or not inputs.is_cuda:
            return function(inputs)
        # Listed once per epoch where it counts: to search a network for its layers takes the host ten times as long as the
        # rest of this call. Between the steps, a network may be changed.
        parts = self._parts.get(module) if self._in_step else None
        if parts is None:
            self._parts[module] = parts = parts_of(module)
        with_gradients = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parts.parameters)
        if (
            inputs.requires_grad
            # Without an end of the step, it is unknown when the activations of a call are no longer needed.
            or (with_gradients and not self._in_step)
            # A replay calls no Python code, so that hooks would silently see nothing.
            or has_hooks(parts)
        ):
            return function(inputs)
        kind = (name, inputs.shape, inputs.stride(), inputs.dtype, with_gradients, _modes(parts))
        # Two calls before one backward pass need activations of their own.
        key = (*kind, self._slots[kind])
        self._slots[kind] += with_gradients
        self._counts[key] += 1
        if self._counts[key] == 1:
            return function(inputs)
        if key not in self._graphs:
            self._graphs[key] = self._capture(function, module, inputs, with_gradients, generator)
        graph = self._graphs[key]
        return function(inputs) if graph is None else graph(inputs)

    def _capture(
        self,
        function: Function,
        module: nn.Module,
        inputs: Tensor,
        with_gradients: bool,
        generator: torch.Generator | None,
    ) -> Function | None:
        """Return the function as a graph, or None if it cannot be captured."""
        if self.num_graphs >= MAX_GRAPHS:
            return None
        # The calls of the warm-up must not count: neither in batch statistics nor in random streams.
        buffers = [buffer.clone() for buffer in module.buffers()]
        random_state = torch.cuda.get_rng_state(inputs.device)
        generator_state = None if generator is None else generator.get_state()
        host_state = host_random_state()
        # A graph that is deleted during a capture would make it fail, and cycles of references delay deletions.
        gc.collect()
        try:
            # The outer context restores the stream after an error, which `torch.cuda.graph` does not.
            with torch.cuda.stream(torch.cuda.current_stream()), without_autocast_cache():
                captured = (
                    CapturedPass(function, module, inputs)
                    if with_gradients
                    else captured_inference(function, inputs, generator)
                )
            if host_random_state() != host_state:
                raise RuntimeError("it draws random numbers on the host")
            if isinstance(captured, CapturedPass):
                self._gradients |= {id(gradient): gradient for gradient in captured.gradients if gradient is not None}
            return captured
        except RuntimeError as error:  # out of memory as well: a graph keeps memory that ordinary calls share
            _warn("a network", error)
            return None
        finally:
            restore_host_random_state(host_state)
            with torch.no_grad():
                for buffer, value in zip(module.buffers(), buffers, strict=True):
                    buffer.copy_(value)
            torch.cuda.set_rng_state(random_state, inputs.device)
            if generator is not None and generator_state is not None:
                generator.set_state(generator_state)

    def _capture_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.cuda.CUDAGraph | None:
        """Return a step as a graph, or None if it cannot be captured."""
        gc.collect()
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, stream=capture_stream(next(iter(self._gradients.values())).device)),
            ):
                optimizer.step()
        except RuntimeError as error:
            _warn("an optimizer", error)
            return None
        return graph


class Parts(NamedTuple):
    """The layers of a module, itself included, and its parameters."""

    layers: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


def parts_of(module: nn.Module) -> Parts:
    """Return the layers and parameters of a module.

    >>> len(parts_of(nn.Sequential(nn.Linear(2, 1), nn.ReLU())).layers)
    3
    """
    return Parts(tuple(module.modules()), tuple(module.parameters()))


def _modes(parts: Parts) -> tuple[Hashable, ...]:
    """Return what else decides the kernels of a call: modes of layers, frozen parameters, and modes of PyTorch."""
    return (
        bytes(layer.training for layer in parts.layers),
        bytes(parameter.requires_grad for parameter in parts.parameters),
        torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None,
        torch.is_inference_mode_enabled(),
    )


def has_hooks(parts: Parts) -> bool:
    """Return whether a call or a backward pass of a module runs hooks.

    >>> has_hooks(parts_of(nn.Linear(2, 1)))
    False
    """
    return any(
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
        for layer in parts.layers
    ) or any(
        parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
        for parameter in parts.parameters
    )


def _warn(captured: str, error: BaseException) -> None:
    logger.warning(
        "%s cannot be captured as a CUDA graph and runs without, which may be slower (%s); execution.cuda_graphs=false "
        "avoids this message",
        captured,
        _cause(error),
    )


def _cause(error: BaseException) -> str:
    """Return the first line of the first error: the end of a capture that has failed raises an error of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
