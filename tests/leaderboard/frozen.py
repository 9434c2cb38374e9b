"""Measurements of two boards that do not change when the boards that ship are measured again."""

from __future__ import annotations

from pathlib import Path

from noisybench.leaderboard.measurement_tables import from_csv
from noisybench.leaderboard.measurements import Measurement


def frozen_measurements() -> list[Measurement]:
    """Return the runs of the suites quickstart and web-digits as version 0.1 has measured them."""
    return from_csv((Path(__file__).parent / "data" / "board.csv").read_text(encoding="utf-8"))
