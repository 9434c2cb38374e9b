"""Write and read recorded equivalences of code: MLflow runs with an artifact that can be checked again."""

from __future__ import annotations

import pydantic

from noisybench.records.equivalence import Equivalence, builtin_equivalences
from noisybench.tracking.connection import PREFIX, _wrap_connection_errors
from noisybench.tracking.reader import TrackedRun
from noisybench.tracking.store import Store, upload_text

FILE = "equivalence.json"
"""Artifact that holds an equivalence."""
TAG = f"{PREFIX}equivalence"
"""Tag of the MLflow runs that are equivalences; its value is the number of compared runs."""

MAX_TITLE_LENGTH = 250
"""Limit of MLflow's tables, in characters."""


class EquivalenceStore:
    """Recorded equivalences of one MLflow store.

    Args:
        store: the store.

    Attributes:
        unreadable: reason for each equivalence that `read` has ignored, by MLflow id.

    Example:
        >>> import tempfile
        >>> EquivalenceStore(Store(f"sqlite:///{tempfile.gettempdir()}/does-not-exist.db")).read()
        {}
    """

    def __init__(self, store: Store) -> None:
        self.connection, self._reader = store.connection, store.runs
        self.unreadable: dict[str, str] = {}

    @_wrap_connection_errors
    def write(self, equivalence: Equivalence, title: str) -> str:
        """Record an equivalence and return its MLflow id."""
        client = self.connection.client
        tags = {TAG: str(len(equivalence.runs))}
        run = client.create_run(self.connection.experiment, run_name=title[:MAX_TITLE_LENGTH], tags=tags)
        run_id = str(run.info.run_id)
        upload_text(self.connection, run_id, equivalence.model_dump_json(indent=2), FILE)
        # The status comes last: an equivalence without its file is never read.
        client.set_terminated(run_id, "FINISHED")
        return run_id

    @_wrap_connection_errors
    def read(self) -> dict[str, Equivalence]:
        """Return the recorded equivalences by MLflow id, the oldest first.

        An equivalence that is damaged, or that contradicts itself, joins nothing: it is listed in `unreadable`.
        """
        self.unreadable = {}
        if not self.connection.exists():
            return {}
        query = f"attributes.status = 'FINISHED' and tags.`{TAG}` != ''"
        found = self.connection.client.search_runs(
            [self.connection.experiment], query, max_results=50_000, order_by=["attributes.start_time ASC"]
        )
        equivalences = {}
        for run in found:
            tracked = TrackedRun(run.info.run_id, run.info.run_name, run.info.artifact_uri, {})
            try:
                with self._reader.open_file(tracked, FILE) as path:
                    if path is None:
                        raise FileNotFoundError(f"{FILE} does not exist")
                    equivalences[tracked.run_id] = Equivalence.model_validate_json(path.read_bytes())
            except pydantic.ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                self.unreadable[tracked.run_id] = f"{tracked.title}: {FILE} is refused: {reason}"
            except (OSError, ValueError) as error:
                self.unreadable[tracked.run_id] = f"{tracked.title}: {FILE} cannot be read: {error}"
        return equivalences


def recorded_equivalences(store: Store) -> list[Equivalence]:
    """Return the equivalences that ship with noisybench, and those of a store that can be read, the oldest first."""
    return [*builtin_equivalences(), *EquivalenceStore(store).read().values()]
