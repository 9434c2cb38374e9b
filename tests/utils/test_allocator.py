"""Memory that training frees is reused, instead of being cleared by the system in every step."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys
from noisybench.utils.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in (2**22, 2**23) * 20:
        block = bytearray(size)
        block[::4096] = b"x" * (size // 4096)
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
without = faults()
accepted = keep_freed_memory()
faults()
print(accepted, without, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has the settings")
def test_freed_memory_is_not_cleared_again() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    accepted, without, kept = done.stdout.split()
    if accepted == "True":
        assert int(kept) < 100, f"{without} faults by default"


def test_other_systems_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from noisybench.utils import allocator

    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
