"""Suites on a Ray cluster: the same records as on this machine, under the same rules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from noisybench.config.resolve import resolve
from noisybench.config.suite import read_suite
from noisybench.errors import UserError
from noisybench.execution.ray import RayExecutor
from noisybench.runs.preparation import prepare_run
from noisybench.tracking.store import Store
from tests.conftest import copy_database
from tests.helpers import train_toy
from tests.postgres import free_port

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'noisybench[ray]')")

SUITE = """
base: {recipe: digits, budget: {epochs: 60}, dataset: {name: digits, train_size: 200, test_size: 100}}
stacks: [cross_entropy, elr]
seeds: [0]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two cores on this machine."""
    address, program = f"127.0.0.1:{free_port()}", str(Path(sys.executable).parent / "ray")
    quiet = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [
        program,
        "start",
        "--head",
        "--num-cpus=2",
        f"--port={address.rpartition(':')[2]}",
        "--disable-usage-stats",
    ]
    subprocess.run([*command, "--include-dashboard=false"], check=True, stdout=subprocess.DEVNULL, env=quiet)
    yield address
    subprocess.run([program, "stop", "--force"], check=True, stdout=subprocess.DEVNULL, env=quiet)


@pytest.fixture(autouse=True)
def database(tmp_path: Path, empty_database: Path) -> None:
    copy_database(empty_database, tmp_path / "mlflow.db")


def bench(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "suite.yaml").write_text(SUITE)
    return subprocess.Popen(
        [sys.executable, "-m", "noisybench", "bench", "suite.yaml", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def check_weights(folder: Path) -> None:
    """They are those of runs in this very process."""
    found = {each.identity: each.weights_sha256 for each in Store(f"sqlite:///{folder / 'mlflow.db'}").runs.records()}
    specs = read_suite(str(folder / "suite.yaml"))
    assert set(found) == {each.identity for each in specs}
    for spec in specs:
        recorder = train_toy(prepare_run(spec), folder / "here" / spec.identity)
        assert recorder.record({}).weights_sha256 == found[spec.identity]


def training_workers() -> list[int]:
    there = psutil.process_iter(["cmdline", "name"])  # read at once, for processes come and go
    return [each.pid for each in there if "ray::_serve" in " ".join(each.info["cmdline"] or [each.info["name"] or ""])]


def test_a_suite_gives_the_same_bits_on_ray_though_a_worker_is_killed(cluster: str, tmp_path: Path) -> None:
    process = bench(tmp_path, "--ray", cluster)
    runs = tmp_path / ".noisybench" / "runs"
    deadline = time.monotonic() + 600
    while not list(runs.glob("*/checkpoint.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while not (workers := training_workers()):  # between two runs, a worker has another title
        assert time.monotonic() < deadline
    os.kill(workers[0], signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    assert "its Ray worker died" in output
    assert "1 completed, 0 skipped, 1 failed" in output
    again = bench(tmp_path, "--ray", cluster)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert "1 completed, 1 skipped" in output
    check_weights(tmp_path)


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:9", "cannot connect"), ("nowhere", "expected `auto` or HOST:PORT")],
)
def test_an_address_without_a_cluster_is_refused(
    address: str, message: str, noisybench: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    status, output = noisybench("bench", "suite.yaml", "--ray", address)
    assert status == 2, output
    assert message in output
    assert "Traceback" not in output


def test_runs_fit_on_machines_that_have_what_they_need() -> None:
    small = resolve({"execution": {"num_threads": 2, "gpu_fraction": 0.5, "device": "cuda"}})
    large = resolve({"budget": {"devices": 4}, "execution": {"device": "cuda"}})
    machines = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 4.0}, {"CPU": 64.0}]
    assert RayExecutor(machines).capacity([small], gpu=False) == 2 + 1
    with pytest.raises(UserError, match="needs 4 cores and 4 GPUs, but no machine"):
        RayExecutor(machines).capacity([large], gpu=False)
    assert RayExecutor(machines[2:]).capacity([resolve({"execution": {"num_threads": 3}})], gpu=False) == 21
