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


EMBED_TWICE = """
import os, resource, sys, tempfile
import numpy as np, torch
from noisybench.backbones import ImageBackbone
from noisybench.embedding.embed import embed_inputs

torch.set_num_threads(1)
os.environ["NOISYBENCH_CACHE"] = tempfile.mkdtemp()
# Its activations are larger than what glibc reuses by default, 32 MiB.
module = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 1), torch.nn.ReLU())
backbone = ImageBackbone(module, 80, (0.0,) * 3, (1.0,) * 3)

def faults(seed):
    images = np.random.default_rng(seed).integers(0, 256, (128, 3, 80, 80), dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    embed_inputs(images, backbone, torch.device("cpu"), "")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# The system may take back pages that are not used for a while, so that the fewest faults of further images count.
print(faults(0), min(faults(seed) for seed in range(1, 4)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has the settings")
def test_the_features_of_further_images_are_computed_in_the_same_memory() -> None:
    done = subprocess.run([sys.executable, "-c", EMBED_TWICE], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    # The activations of a batch take 12,800 pages of 4 KiB, of which there are two, each four times.
    assert second < 10_000 < first
