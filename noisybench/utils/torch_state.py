"""The global state of torch, which training changes and which belongs to the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def preserved_torch_state(num_threads: int | None = None) -> Iterator[None]:
    """Restore the global random numbers and the number of CPU threads of torch when the block ends.

    Args:
        num_threads: number of CPU threads inside of the block; None for the present one.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> expected = torch.rand(1, generator=torch.Generator().manual_seed(0))
        >>> with preserved_torch_state(num_threads=1):
        ...     _ = torch.manual_seed(1)
        >>> bool(torch.rand(1) == expected)
        True
    """
    before = torch.get_num_threads()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(before)
