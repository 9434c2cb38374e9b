"""Runs that pages in a browser show."""

from __future__ import annotations

import dataclasses

from noisybench.records.schema import RunRecord
from tests.leaderboard.test_leaderboard import record

EVIL = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"


def runs() -> list[RunRecord]:
    """Three settings of one noise model at rising rates, with a stack that knows more and one of a hostile name."""
    found = []
    for rate in (0.2, 0.4, 0.6):
        for stack, level in {"gce": 0.9, "elr": 0.88, "cross_entropy": 0.7, "co_teaching": 0.8, EVIL: 0.6}.items():
            for seed in range(2 if stack == EVIL else 3):
                made = record(stack, seed, level - rate / 4, label_set=f"{int(10 * rate)}" * 64)
                detection = dataclasses.replace(made.detection, roc=[place / 50 for place in range(51)])
                found.append(
                    dataclasses.replace(
                        made,
                        noise=f"pair_flip(rate={rate})",
                        manifest={**made.manifest, "actual_noise_rate": rate},
                        privileged=["noise_rate"] if stack == "co_teaching" else [],
                        cost=dataclasses.replace(made.cost, wall_seconds=9.0 if stack == "elr" else 3.0),
                        detection=detection,
                    )
                )
    return found
