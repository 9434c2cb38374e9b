"""Rows are uploaded from a thread, without delaying training and without losing any."""

from __future__ import annotations

import threading
import time

import pytest

from noisybench.records.schema import EpochRow
from noisybench.runs import runner
from noisybench.runs.row_uploader import RowUploader
from noisybench.tracking.presentation import row_metrics
from noisybench.tracking.store import Store
from tests.helpers import toy_spec


class Requests:
    """Store that keeps the requests it receives."""

    def __init__(self, error: Exception | None = None) -> None:
        self.rows: list[list[EpochRow]] = []
        self.received, self.may_answer = threading.Event(), threading.Event()
        self.error = error
        self.may_answer.set()

    def log_rows(self, rows: list[EpochRow]) -> None:
        self.rows.append(list(rows))
        self.received.set()
        assert self.may_answer.wait(10)
        if self.error:
            raise self.error


def row(epoch: int) -> EpochRow:
    return EpochRow(epoch, "train", 1.2, 0.5, None, None, 0.6, 1.1, None, None, None, 0.1, 2.0, 0)


def test_rows_of_an_interval_share_a_request() -> None:
    requests = Requests()
    with RowUploader(requests, interval=60) as upload:
        for epoch in range(5):
            upload([row(epoch)])
        assert requests.rows == []
    assert [[each.epoch for each in rows] for rows in requests.rows] == [[0, 1, 2, 3, 4]]


def test_rows_are_uploaded_while_the_run_trains() -> None:
    requests = Requests()
    with RowUploader(requests, interval=0.01) as upload:
        upload([row(0)])
        assert requests.received.wait(10)
        upload([row(1)])
    assert [each.epoch for rows in requests.rows for each in rows] == [0, 1]


def test_training_does_not_wait_for_a_slow_store() -> None:
    requests = Requests()
    requests.may_answer.clear()
    with RowUploader(requests, interval=0) as upload:
        upload([row(0)])
        assert requests.received.wait(10)
        start = time.perf_counter()
        upload([row(1)])
        assert time.perf_counter() - start < 1
        requests.may_answer.set()
    assert [each.epoch for rows in requests.rows for each in rows] == [0, 1]


def test_a_finished_run_leaves_its_last_rows_to_its_record() -> None:
    requests = Requests()
    with RowUploader(requests, interval=60) as upload:
        upload([row(0)])
        upload.discard()
    assert requests.rows == []


def test_rows_are_uploaded_when_training_fails() -> None:
    requests = Requests()

    def diverge() -> None:
        with RowUploader(requests, interval=60) as upload:
            upload([row(0)])
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        diverge()
    assert [len(rows) for rows in requests.rows] == [1]


def test_a_store_that_fails_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    requests = Requests(ConnectionError("no answer"))
    with RowUploader(requests, interval=0) as upload:
        upload([row(0)])
        assert requests.received.wait(10)
        upload([row(1)])
    assert len(requests.rows) == 1
    assert "will be uploaded at the end: no answer" in caplog.text


def test_a_short_run_sends_its_rows_in_one_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client, sizes = store.connection.client, []
    log_batch = client.log_batch

    def counted(run_id: str, **values: list[object]) -> None:
        sizes.append({name: len(value) for name, value in values.items()})
        log_batch(run_id, **values)

    monkeypatch.setattr(client, "log_batch", counted)
    spec = toy_spec(dataset={"name": "digits", "train_size": 60, "test_size": 30})
    assert runner.execute(spec, store, lambda kind, data: None, lambda: False) == "finished"
    (record,) = store.runs.records()
    # Parameters and tags at the start, then the rows, then the summary.
    assert [sorted(size) for size in sizes] == [["params", "tags"], ["metrics"], ["metrics"]]
    assert sizes[1]["metrics"] == sum(len(row_metrics(row)) for row in record.rows)
    assert len(client.get_metric_history(record.run_id, "test_loss")) == len(record.rows)
