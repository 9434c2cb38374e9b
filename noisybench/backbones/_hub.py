"""The Hugging Face Hub, from which weights are downloaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from logging import getLogger

TIMEOUT = 10
"""Seconds without an answer after which a model counts as not to be had."""


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Hide the warnings of the hub about each attempt to download."""
    hub = getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel("ERROR")
    try:
        yield
    finally:
        hub.setLevel(level)


def check_reachable(name: str) -> None:
    """Raise an error of the hub for a model that it does not have, and if there is no network.

    Asked before a download, which without a network is tried again for minutes.
    """
    from huggingface_hub import HfApi

    HfApi().model_info(name, timeout=TIMEOUT)


def is_cached(name: str) -> bool:
    """Return True if a part of a model of the hub is on this machine."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(name, local_files_only=True)
    except Exception:  # no name of the hub, or not in the cache
        return False
    return True
