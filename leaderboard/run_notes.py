"""Descriptions of runs in MLflow: where each stands on the leaderboard."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from noisybench.leaderboard.table import Setting
from noisybench.tracking.store import Store
from noisybench.utils.text import counted


def write_rank_notes(store: Store, settings: Sequence[Setting], run_ids: Collection[str]) -> int:
    """Write rank and score of its stack, and a link to the leaderboard, into the description of runs; return how many.

    Args:
        store: store of the runs.
        settings: ranked settings.
        run_ids: runs to describe, one request each; runs of other commands keep their description.

    Raises:
        StoreUnavailable: the store cannot be written.
    """
    written = 0
    for setting in settings:
        for row in setting.rows:
            text = _standing(setting, row.stack)
            for measurement in row.measurements:
                if measurement.run_id in run_ids and measurement.record is not None:
                    note = f"{measurement.record.title}\n\n{text} [Leaderboard](/leaderboard)"
                    store.describe_run(measurement.run_id, note)
                    written += 1
    return written


def _standing(setting: Setting, stack: str) -> str:
    """Return rank and score of a stack in a sentence."""
    row = next(row for row in setting.rows if row.stack == stack)
    summary, rank = row.scores[setting.rule], setting.ranking.ranks.get(stack)
    seeds = counted(len(row.measurements), "seed")
    score = f"{100 * summary.mean:.1f} % by `{setting.rule}` over {seeds}" if summary else "no score"
    place = "not ranked" if rank is None else f"rank {rank} of {counted(len(setting.rows), 'stack')}"
    return f"{score}, {place} when this was written."
