"""Calls of networks that a GPU replays as CUDA graphs: the host launches one graph instead of hundreds of kernels.

Without graphs, a training step of a small convolutional network waits for the host, not for the GPU. The kernels of a
graph are those of the ordinary call, so that both give the same numbers.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

logger = logging.getLogger("noisybench")

MAX_GRAPHS = 32
"""Largest number of graphs that are kept; further calls are ordinary ones. Each graph keeps the memory of its call."""

WARMUP_CALLS = 3
"""Ordinary calls before a capture, in which libraries select their algorithms."""

CAPTURE_ATTEMPTS = 2
"""Attempts to capture a call. The first one of a process may fail because a library initializes itself during it."""

Function = Callable[[Tensor], Any]
"""Maps a tensor to a tensor or a tuple of tensors, with kernels and shapes that depend on the shape of the tensor alone."""


class CapturedCalls:
    """Capture the calls that repeat, and replay them.

    The first call of each kind is an ordinary one, and the others are replayed. On a CPU, all calls are ordinary ones.

    Args:
        enabled: False for ordinary calls alone.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> captured = CapturedCalls()
        >>> captured.start_epoch(network)
        >>> with captured.step():
        ...     scores = captured("scores", network, network, torch.zeros(3, 2))
        >>> scores.shape, captured.num_graphs
        (torch.Size([3, 1]), 0)
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._graphs: dict[Hashable, Function | None] = {}
        self._counts: Counter[Hashable] = Counter()
        self._slots: Counter[Hashable] = Counter()
        self._structure: Hashable = None
        self._in_step = False

    @property
    def num_graphs(self) -> int:
        """Number of captured graphs."""
        return sum(graph is not None for graph in self._graphs.values())

    def start_epoch(self, module: nn.Module) -> None:
        """Discard all graphs if tensors or modes of the module have changed."""
        tensors = [*module.parameters(), *module.buffers()]
        structure = (
            tuple((tensor.requires_grad, tensor.data_ptr()) for tensor in tensors),
            tuple(part.training for part in module.modules()),
        )
        if structure != self._structure:
            self._graphs, self._structure = {}, structure
            self._counts.clear()

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
        with_gradients = torch.is_grad_enabled() and any(part.requires_grad for part in module.parameters())
        if (
            not self.enabled
            or not inputs.is_cuda
            or inputs.requires_grad
            # Without an end of the step, it is unknown when the activations of a call are no longer needed.
            or (with_gradients and not self._in_step)
        ):
            return function(inputs)
        kind = (name, inputs.shape, inputs.dtype, module.training, with_gradients, torch.is_autocast_enabled("cuda"))
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
        # A graph that is deleted during a capture would make it fail, and cycles of references delay deletions.
        gc.collect()
        try:
            for attempt in range(CAPTURE_ATTEMPTS):
                try:
                    with _without_autocast_cache():
                        if with_gradients:
                            return _capture_with_gradients(function, module, inputs)
                        return _capture_without_gradients(function, inputs, generator)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    if attempt + 1 == CAPTURE_ATTEMPTS:
                        logger.warning(
                            "a network cannot be captured as a CUDA graph and runs without, which may be slower (%s); "
                            "execution.cuda_graphs=false avoids this message",
                            _cause(error),
                        )
            return None
        finally:
            with torch.no_grad():
                for buffer, value in zip(module.buffers(), buffers, strict=True):
                    buffer.copy_(value)
            torch.cuda.set_rng_state(random_state, inputs.device)
            if generator is not None and generator_state is not None:
                generator.set_state(generator_state)


class _FunctionOfModule(nn.Module):
    """A function of the inputs with the parameters of a module, in the form in which PyTorch captures functions."""

    def __init__(self, function: Function, module: nn.Module) -> None:
        super().__init__()
        self.module, self._function = module, function

    def forward(self, inputs: Tensor) -> Any:
        """Return the value of the function."""
        return self._function(inputs)


def _capture_with_gradients(function: Function, module: nn.Module, inputs: Tensor) -> Function:
    # Unused parameters, such as those of a stage that the loss does not read, have no gradient.
    graphed = torch.cuda.make_graphed_callables(
        _FunctionOfModule(function, module), (inputs.detach().clone(),), WARMUP_CALLS, allow_unused_input=True
    )
    # Copied, since the next replay overwrites the outputs.
    return lambda inputs: _map(cast(Function, graphed)(inputs), Tensor.clone)


def _capture_without_gradients(function: Function, inputs: Tensor, generator: torch.Generator | None) -> Function:
    static = inputs.detach().clone()
    stream = torch.cuda.Stream(inputs.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(WARMUP_CALLS):
            function(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    with torch.no_grad(), torch.cuda.graph(graph):
        outputs = function(static)

    def replay(inputs: Tensor) -> Any:
        static.copy_(inputs)
        graph.replay()
        return _map(outputs, Tensor.clone)

    return replay


def _cause(error: BaseException) -> str:
    """Return the first line of the first error: the end of a capture that has failed raises an error of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _without_autocast_cache() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which autocast converts weights in every call, as a graph must do at every replay."""
    if not torch.is_autocast_enabled("cuda"):
        return contextlib.nullcontext()
    return torch.autocast("cuda", dtype=torch.get_autocast_dtype("cuda"), cache_enabled=False)


def _map(outputs: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return the function of each tensor of a tensor, a tuple or a dictionary."""
    return torch.utils._pytree.tree_map(function, outputs)
