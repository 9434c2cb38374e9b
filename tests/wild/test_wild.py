"""Data as people have it: every case reads it as meant, or refuses it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.conftest import copy_database

TRAINING = ("42-relabeled", "90-moved-folder")
"""Cases that train for some seconds; they run where NOISYBENCH_SLOW is set."""

CASES = [
    file
    for file in sorted(Path(__file__).parent.glob("[0-9]*.py"))
    if file.stem not in TRAINING or os.environ.get("NOISYBENCH_SLOW")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(
    case: Path,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("NOISYBENCH_CACHE", "OMP_NUM_THREADS", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")  # restored after the case, which sets some of them
        monkeypatch.delenv(name)
    monkeypatch.setenv("WILD", str(tmp_path))
    if case.stem not in TRAINING:  # MLflow takes seconds to create a database
        copy_database(empty_database, tmp_path / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.syspath_prepend(case.parent)
    spec = importlib.util.spec_from_file_location(f"case_{case.stem[:2]}", case)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0, capsys.readouterr().out
