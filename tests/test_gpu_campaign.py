"""The script for a machine with a GPU and without a network, tried on a CPU with tiny budgets."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from noisybench.tracking.store import Store
from tests.conftest import copy_database

SCRIPT = Path(__file__).parents[1] / "tools" / "gpu_campaign.sh"
SUITE = """
base:
  dataset: {name: digits, train_size: 200, test_size: 100}
  noise: pair_flip
  budget: {epochs: 1, batch_size: 32}
  execution: {system_metrics: false}
stacks: [gce]
seeds: [0]
"""

STUB = """#!/bin/bash
echo "called: $*" >>"$LOG"
case "$*" in
    *"noisybench bench"* | *tests.performance.gpu*) eval "$BENCH" ;;
    *"runs export"*)
        while [[ "$1" != -o ]]; do shift; done
        echo records >"$2"
        ;;
esac
"""
"""Stands for Python: logs its calls, and runs the commands in BENCH for `bench` and `benchmark`."""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the script needs bash")


def script(*arguments: str, python: str = sys.executable, **environment: str) -> tuple[int, str]:
    command = ["bash", str(SCRIPT), "--python", python, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment})
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def stub(workspace: Path) -> dict[str, str]:
    """Options of `script` that replace Python by `STUB`."""
    python = workspace / "python"
    python.write_text(STUB)
    python.chmod(0o755)
    return {"python": str(python), "LOG": str(workspace / "calls")}


def calls() -> list[str]:
    """Return the commands of noisybench that the stub was called with."""
    lines = Path("calls").read_text().splitlines()
    return [line.split("noisybench ")[1] for line in lines if "-m noisybench" in line]


def make_wheel(folder: Path) -> None:
    """Write a wheel with one module."""
    folder.mkdir()
    files = {
        "carried_module.py": b"VALUE = 7\n",
        "carried-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: carried\nVersion: 1.0\n",
        "carried-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    with zipfile.ZipFile(folder / "carried-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(content)}")
        wheel.writestr("carried-1.0.dist-info/RECORD", "\n".join([*lines, "carried-1.0.dist-info/RECORD,,"]) + "\n")


def test_a_part_of_a_campaign_comes_home(
    workspace: Path, empty_database: Path, noisybench: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(workspace / "wheels")
    (workspace / "work").mkdir()
    copy_database(empty_database, workspace / "work" / "mlflow.db")
    options = ("--device", "cpu", "--work", "work", "--wheels", "wheels")
    Path("tiny.yaml").write_text(SUITE)
    status, output = script(*options, "--out", "out", "bench", "tiny.yaml")
    assert status == 0, output
    assert "CPU as requested" in output
    assert (workspace / "work" / "site" / "carried_module.py").is_file(), "the wheel is installed"
    parts = sorted(Path("out").glob("*.zip"))
    assert len(parts) == 1, output
    assert re.search(r"Exported .*\b1 run\. Import:", Path("out/log.txt").read_text())

    (workspace / "home").mkdir()
    copy_database(empty_database, workspace / "home" / "mlflow.db")
    monkeypatch.chdir(workspace / "home")
    status, output = noisybench("runs", "import", f"../{parts[0]}")
    assert status == 0, output
    assert re.search(r"Imported .*\b1 run\b", output), output
    assert {record.stack for record in Store().runs.records()} == {"gce"}
    status, output = noisybench("leaderboard")
    assert (status, "gce" in output) == (0, True), output


def test_parts_are_imported_before_and_exported_after_the_bench(stub: dict[str, str]) -> None:
    Path("earlier").mkdir()
    Path("earlier/a.zip").write_text("records")
    status, output = script(
        "--device", "cpu", "--parts", "earlier", "bench", "quickstart", "seeds=0", **stub, BENCH="exit 75"
    )
    assert status == 75, "the status of the bench is that of the script"
    assert "bench ended with status 75" in output
    imported, trained, exported = calls()
    assert imported.startswith("runs import /")
    assert re.fullmatch(r"bench quickstart seeds=0 execution.device=cpu --time-limit 5[01]\ds", trained)
    assert "--max-size 15M" in exported
    assert "exported/a.zip" in exported.split("--without")[1], "what is at home already is left out"
    assert "--checkpoints" not in exported
    script("--device", "cpu", "--checkpoints", "bench", "quickstart", **stub, BENCH="exit 0")
    assert calls()[-1].count("--without") == 2, "so is what the first call has exported"
    assert "--checkpoints" in calls()[-1]


@pytest.mark.skipif(not os.environ.get("NOISYBENCH_SLOW"), reason="it waits 16 s; NOISYBENCH_SLOW is not set")
def test_a_bench_that_ignores_its_limit_is_ended_and_exported(stub: dict[str, str]) -> None:
    status, output = script("--device", "cpu", "--limit", "36s", "bench", "quickstart", **stub, BENCH="exec sleep 60")
    assert "bench ended with status 124" in output
    assert status == 124
    assert "runs export" in calls()[-1]


def test_measurements_keep_the_limit_as_well(stub: dict[str, str]) -> None:
    status, output = script("--device", "cpu", "--limit", "5s", "benchmark", "methods", **stub, BENCH="exec sleep 60")
    assert status == 124
    assert "benchmark ended with status 124" in output
    status, output = script("--device", "cpu", "benchmark", "methods", "--cases", "lsa", **stub, BENCH="exit 1")
    assert status == 1, "a measurement that failed is a failure"
    assert "tests.performance.gpu methods --cases lsa --output /" in Path("calls").read_text()


def test_a_signal_reaches_the_bench_and_the_export_follows(stub: dict[str, str]) -> None:
    bench = "trap 'exit 143' TERM; touch started; while :; do sleep 0.1; done"
    command = ["bash", str(SCRIPT), "--python", stub.pop("python"), "--device", "cpu", "bench", "quickstart"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **stub, "BENCH": bench})
    started, end = Path("gpu-campaign/started"), time.monotonic() + 60
    while not started.exists() and time.monotonic() < end:
        time.sleep(0.05)
    running.terminate()
    output, _ = running.communicate(timeout=60)
    assert "bench ended with status 143" in output
    assert "runs export" in calls()[-1]
    assert running.returncode == 143


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bench",), "bench: expected the name of a suite"),
        (("train",), "expected check, benchmark or bench, but got 'train'"),
        (("--limit", "soon", "check"), "--limit: expected a time such as 90s, 9m or 1h, but got 'soon'"),
        (("--data", ".", "check"), "--data: ./train.parquet is missing"),
        (("--wheels", "nothing", "check"), "--wheels: nothing is not a folder"),
        (("--limits", "9m", "check"), "unknown option --limits"),
        (("--device", "tpu", "check"), "--device: expected cuda or cpu, but got 'tpu'"),
    ],
)
def test_wrong_arguments_are_one_message(arguments: tuple[str, ...], message: str) -> None:
    status, output = script(*arguments)
    assert status == 2
    assert f"error: {message}" in output.splitlines()[-1]
    assert not Path("gpu-campaign").exists(), "nothing is written"


def test_a_gpu_that_is_not_there_is_one_message() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    status, output = script("check")
    assert status == 1
    assert "sees no GPU here" in output.splitlines()[-1]
