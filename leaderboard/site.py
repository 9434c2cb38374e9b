"""The leaderboard as a static site: one self-contained page, and its tables and stress cards as CSV."""

from __future__ import annotations

from pathlib import Path

from noisybench.errors import UserError
from noisybench.leaderboard.board import Board, BoardCache
from noisybench.leaderboard.measurement_tables import builtin_measurements, with_builtin
from noisybench.leaderboard.page import to_html
from noisybench.leaderboard.stress import stress_point, stress_tables
from noisybench.leaderboard.stress_text import to_csv as stress_to_csv
from noisybench.leaderboard.table import build_settings
from noisybench.leaderboard.text_tables import to_csv
from noisybench.tracking.equivalences import recorded_equivalences
from noisybench.tracking.store import Store
from noisybench.utils.outputs import write_text


def write_site(store: Store, folder: Path, mlflow: str | None = None) -> Board:
    """Write `index.html`, `leaderboard.csv` and `stress.csv`, and return the board of the page.

    Args:
        store: store of the runs, to which the results of this package are added.
        folder: folder to write.
        mlflow: address of an MLflow server with the same store, to link runs to; None for no links.

    Raises:
        UserError: the address is none, or a file cannot be written.
    """
    if mlflow is not None and not mlflow.startswith(("http://", "https://")):
        raise UserError(f"--mlflow: expected an address such as http://localhost:5000, but got `{mlflow}`")
    runs_url = f"{mlflow.rstrip('/')}/#/experiments/{store.connection.experiment}/runs/" if mlflow else ""
    # Everything is computed before the first write, so that an unreadable record leaves no incomplete site.
    board = BoardCache(store, runs_url, measured=builtin_measurements()).board()
    equivalences = recorded_equivalences(store)
    settings = build_settings(with_builtin(store.runs.records()), equivalences=equivalences)
    points = [point for setting in settings if (point := stress_point(setting)) is not None]
    texts = {
        "index.html": to_html(board),
        "leaderboard.csv": to_csv(settings),
        "stress.csv": stress_to_csv(stress_tables(points, "last")),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return board
