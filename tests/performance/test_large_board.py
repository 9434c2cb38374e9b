"""The page of a large store: how long the board takes, how large it is, and how fast a browser shows and sorts it.

    NOISYBENCH_SLOW=1 python -m pytest tests/performance/test_large_board.py -n 0 -s

In the ordinary test run the store has few runs, to stay correct. Records are generated, and say so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
from playwright.sync_api import Page, expect

from noisybench.leaderboard.board import BoardCache
from noisybench.leaderboard.page import to_html
from noisybench.tracking.connection import PREFIX
from noisybench.tracking.store import Store
from tests.browser import chromium, watched
from tests.leaderboard.test_leaderboard import record
from tests.postgres import free_port
from tests.tracking_server import wait_for

RUNS = 10_000 if os.environ.get("NOISYBENCH_SLOW") else 200
STACKS, SEEDS = 10, 5
METRICS = 40
"""Latest metrics of a run, as many as real ones have."""


def fill(store: Store) -> None:
    """Generated runs of clearly fake names, written into the tables of the store at once."""
    experiment = int(store.connection.experiment)
    runs, tags, metrics, now = [], [], [], int(time.time() * 1000)
    folder = Path("mlartifacts")
    for number in range(RUNS):
        cell, rest = divmod(number, STACKS * SEEDS)
        stack, seed = divmod(rest, SEEDS)
        made = record(
            f"fake_stack_{stack}", seed, 0.5 + 0.03 * stack, label_set=f"{cell:064d}", noise=f"fake_noise(rate={cell})"
        )
        made = dataclasses.replace(
            made,
            identity=f"fake{number:016d}",
            detection=dataclasses.replace(made.detection, roc=[n / 50 for n in range(51)]),
        )
        run_id = uuid.uuid4().hex
        place = folder / run_id / "artifacts"
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(made.as_dict()))
        runs.append(
            (
                run_id,
                f"fake run {number}",
                "FINISHED",
                now,
                now,
                "active",
                f"mlflow-artifacts:/{run_id}/artifacts",
                experiment,
            )
        )
        own = {"identity": made.identity, "label_set": made.label_set, "budget": made.budget, "stack": made.stack}
        tags += [(PREFIX + key, value, run_id) for key, value in own.items()]
        metrics += [(f"fake_{place}", 0.5, now, 0, 0, run_id) for place in range(METRICS)]
    with contextlib.closing(sqlite3.connect(store.connection.database)) as connection, connection:
        connection.executemany(
            "insert into runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id) "
            "values (?, ?, ?, ?, ?, ?, ?, ?)", runs,
        )  # fmt: skip
        connection.executemany("insert into tags (key, value, run_uuid) values (?, ?, ?)", tags)
        connection.executemany(
            "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid) values (?, ?, ?, ?, ?, ?)",
            metrics,
        )


def first_paint(shown: Page) -> float:
    """Milliseconds until the page showed something, which may come after it has loaded."""
    entry = "performance.getEntriesByName('first-contentful-paint')[0]"
    shown.wait_for_function(f"() => {entry} !== undefined")
    return float(shown.evaluate(f"{entry}.startTime"))


def test_a_large_store(store: Store, tmp_path: Path) -> None:
    fill(store)
    times, boards = {}, BoardCache(store)
    start = time.perf_counter()
    board = boards.board()
    times["board"] = time.perf_counter() - start
    assert sum(each["runs"] for each in board.settings) == RUNS
    assert len(board.details) == len(board.settings)
    start = time.perf_counter()
    assert boards.board() is board
    times["again"] = time.perf_counter() - start
    start = time.perf_counter()
    page = to_html(board)
    times["page"] = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{RUNS} runs, {len(board.settings)} settings: "
        + ", ".join(f"{name} {value:.2f} s" for name, value in times.items())
    )
    print(f"page {len(page) / 2**20:.1f} MiB; peak memory of this process {memory:.0f} MiB")
    file = tmp_path / "index.html"
    file.write_text(page, encoding="utf-8")
    with chromium() as browser:
        with watched(browser) as shown:
            shown.goto(file.as_uri())
            expect(shown.locator(".matrix tbody tr")).to_have_count(min(STACKS, RUNS // SEEDS))
            paint = first_paint(shown)
            shown.get_by_role("link", name="Boards").click()
            sort = shown.evaluate(
                "() => { const begun = performance.now(); document.querySelector('[data-sort=\\'time (s)\\']').click();"
                " document.body.offsetHeight; return performance.now() - begun; }"
            )
            expect(shown.locator("tr.row")).to_have_count(min(STACKS, RUNS // SEEDS))
        print(f"from a file: first paint {paint:.0f} ms, sort {sort:.0f} ms")
        port = free_port()
        server = subprocess.Popen(
            [sys.executable, "-m", "noisybench", "leaderboard", "serve", "--port", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server)
            for name in ("first", "second"):
                with watched(browser) as shown:
                    start = time.perf_counter()
                    shown.goto(f"http://127.0.0.1:{port}/leaderboard#view=boards")
                    paint = first_paint(shown)
                    shown.locator("tr.row").first.wait_for(timeout=120_000)  # the waiting page reloads by itself
                    print(
                        f"{name} visit of the server: first paint {paint:.0f} ms, table {time.perf_counter() - start:.2f} s"
                    )
            family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
            print(
                "memory of the server's processes, MiB: "
                + ", ".join(f"{each.memory_info().rss / 2**20:.0f}" for each in family)
            )
        finally:
            server.terminate()
            server.wait(30)
