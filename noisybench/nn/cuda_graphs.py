"""Calls of networks that a GPU replays as CUDA graphs: the host launches one graph instead of hundreds of kernels.

Without graphs, a training step of a small convolutional network waits for the host, not for the GPU. The kernels of a
graph are those of the ordinary call, so that both give the same numbers.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

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
        self._gradients: dict[int, Tensor] = {}  # by their Python ids, which are unique while they are kept here
        self._optimizer_graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
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
            self._graphs, self._gradients, self._optimizer_graphs = {}, {}, {}
            self._structure = structure
            self._counts.clear()

    def step_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Take a step of an optimizer, whose settings may change in tensors on the GPU only.

        It is replayed if all gradients are those of replayed backward passes, which have fixed addresses.
        """
        if not self._gradients:
            optimizer.step()
            return
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        present = [id(gradient) for gradient in gradients if gradient is not None]
        if not present or not self._gradients.keys() >= set(present):
            optimizer.step()
            return
        key = ("optimizer", *map(id, gradients))
        graph = self._optimizer_graphs.get(key)
        if graph is not None:
            graph.replay()
            return
        self._counts[key] += 1
        # The first step creates the state of the optimizer.
        if self._counts[key] > 1 and len(self._optimizer_graphs) < MAX_GRAPHS:
            # A capture executes nothing.
            graph = self._optimizer_graphs[key] = self._capture_optimizer(optimizer)
            graph.replay()
        else:
            optimizer.step()

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
                            return self._capture_pass(function, module, inputs)
                        return _capture_without_gradients(function, inputs, generator)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    logger.debug("attempt %d to capture a call has failed: %s", attempt + 1, _cause(error))
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

    def _capture_pass(self, function: Function, module: nn.Module, inputs: Tensor) -> Function:
        graphs = _Pass(function, module, inputs)
        self._gradients |= {id(gradient): gradient for gradient in graphs.gradients if gradient is not None}
        return graphs

    def _capture_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.cuda.CUDAGraph:
        gc.collect()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=_capture_stream(next(iter(self._gradients.values())).device)):
            optimizer.step()
        return graph


class _Pass:
    """A forward pass and its backward pass as two graphs.

    Attributes:
        gradients: gradients of the parameters, which every replay of the backward pass overwrites; None for unused ones.
    """

    def __init__(self, function: Function, module: nn.Module, inputs: Tensor) -> None:
        self.inputs = inputs.detach().clone()
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()

        stream = _capture_stream(inputs.device)
        with _in_stream(stream):
            for _ in range(WARMUP_CALLS):
                outputs = [output for output in self._run(function) if output.requires_grad]
                self._gradients_of(outputs, [torch.empty_like(output) for output in outputs])
            del outputs
        # Both passes share their memory, since the second one reads the activations of the first.
        pool = torch.cuda.graph_pool_handle()
        with torch.cuda.graph(self.forward_graph, pool=pool, stream=stream):
            outputs = self._run(function)
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

    def _run(self, function: Function) -> list[Tensor]:
        outputs, self.form = torch.utils._pytree.tree_flatten(function(self.inputs))
        return outputs

    def _gradients_of(self, outputs: list[Tensor], received: list[Tensor]) -> tuple[Tensor | None, ...]:
        # Unused parameters, such as those of a stage that the loss does not read, have no gradient.
        gradients = torch.autograd.grad(outputs, self.parameters, received, allow_unused=True)
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
    def forward(ctx: Any, anchor: Tensor, graphs: _Pass, inputs: Tensor) -> tuple[Tensor, ...]:
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
        graphs: _Pass = ctx.graphs
        received = [each for each, is_used in zip(gradients, graphs.differentiable, strict=True) if is_used]
        for static, gradient in zip(graphs.received, received, strict=True):
            static.copy_(gradient)
        graphs.backward_graph.replay()
        graphs.accumulate()
        return None, None, None


def _capture_without_gradients(function: Function, inputs: Tensor, generator: torch.Generator | None) -> Function:
    static, stream = inputs.detach().clone(), _capture_stream(inputs.device)
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
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all warm-ups and captures: libraries initialize themselves once per stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _in_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    """Run a block in another stream, after everything before it and before everything after it."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


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
