"""Results of finished runs: scores, curves, records of every training example, predictions."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.errors import UserError
from noisybench.records.schema import RunRecord
from noisybench.records.selection import SELECTION_RULES, select
from noisybench.tracking.store import Store
from noisybench.utils.durations import format_duration

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from noisybench.api.models import Model


@dataclass(frozen=True)
class RunResult:
    """Result of one finished run.

    Attributes:
        record: everything that was measured.
        store_uri: address of the tracking store that has the run and its files.
    """

    record: RunRecord
    store_uri: str = dataclasses.field(repr=False)

    @property
    def run_id(self) -> str:
        """Id of the run in the tracking store, which is an MLflow run."""
        return self.record.run_id

    @property
    def title(self) -> str:
        """Dataset, noise, stack and seed in one line."""
        return self.record.title

    @property
    def spec(self) -> dict[str, Any]:
        """Complete specification, which `nb.run` accepts as a recipe."""
        return self.record.spec

    @property
    def metric(self) -> str:
        """Name of the score, for example ``accuracy``."""
        return self.record.metric

    @property
    def score(self) -> float | None:
        """Test score of the last epoch, in [0, 1]; `scores` has those of the other selection rules."""
        return self.scores["last"]

    @property
    def scores(self) -> dict[str, float | None]:
        """Test score by selection rule; None where a rule has none, such as ``noisy_val`` without a validation split."""
        return {rule: select(self.record, rule) for rule in SELECTION_RULES}

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch with the columns of `EpochRow`; detectors and diagnostics are columns of their own."""
        import pandas as pd

        rows = []
        for row in self.record.rows:
            values: dict[str, Any] = {
                name: value for name, value in vars(row).items() if name not in ("detectors", "diagnostics")
            }
            for detector, scores in row.detectors.items():
                values |= {f"detector/{detector}/{name}": value for name, value in scores.items()}
            rows.append(values | {f"diagnostics/{name}": value for name, value in row.diagnostics.items()})
        return pd.DataFrame(rows)

    @property
    def samples(self) -> pd.DataFrame:
        """One row per training example: index, observed and clean label, label quality, prediction and more.

        The columns are those of `Samples`, and ``is_mislabeled``, which is missing where the clean label is unknown; so is
        ``clean`` there. Images of none of the classes have the clean label -1.

        Raises:
            UserError: the run predicts masks or traces, see `arrays`.
        """
        import pandas as pd

        frame = self._table("samples")
        frame.index.name = "position"
        clean, observed = frame["clean"].to_numpy(), frame["observed"].to_numpy()
        unknown = clean == UNKNOWN_TARGET
        frame["clean"] = pd.array(np.where(unknown, 0, clean), dtype="Int64")
        frame.loc[unknown, "clean"] = pd.NA
        is_mislabeled = pd.array(clean != observed, dtype="boolean")
        is_mislabeled[unknown] = pd.NA
        frame.insert(3, "is_mislabeled", is_mislabeled)
        return frame

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per test example: index, target, probabilities at the end and the class at each epoch.

        For chain-of-thought runs: prompt, target and written response.

        Raises:
            UserError: the run predicts masks, see `arrays`.
        """
        return self._table("predictions")

    def arrays(self, name: str = "samples") -> dict[str, NDArray[Any]]:
        """Return the arrays of a run that predicts masks or traces.

        Args:
            name: ``samples`` for the training examples, ``predictions`` for the test examples.

        Raises:
            UserError: the run has no such arrays, or its files are no longer in the store.
        """
        store = Store(self.store_uri)
        with store.runs.open_file(store.runs.run(self.run_id), f"{name}.npz") as path:
            if path is None:
                raise UserError(f"{self.title}: run {self.run_id} has no file {name}.npz; `{name}` of it is a table")
            with np.load(path) as arrays:
                return dict(arrays)

    def model(self, device: Literal["auto", "cpu", "cuda"] = "auto") -> Model:
        """Return the trained model.

        The model of a small network was saved with its run. Any other one is trained again from the record, which takes as
        long as before, and added to the run, if it reaches the recorded weights.

        Args:
            device: device of the networks; ``auto`` is a GPU if there is one.

        Raises:
            UserError: the model was not saved, and training it again reaches other weights; says why.
        """
        from noisybench.api.models import model_of_run

        store = Store(self.store_uri)
        return model_of_run(store, store.runs.run(self.run_id), retrain=True, device=device)

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        store = Store(self.store_uri)
        with store.runs.open_file(store.runs.run(self.run_id), f"{name}.parquet") as path:
            if path is None:
                raise UserError(
                    f"{self.title}: run {self.run_id} has no table {name}.parquet; `arrays({name!r})` returns the arrays of "
                    "masks and traces"
                )
            return pd.read_parquet(path)

    def __str__(self) -> str:
        """Return title, scores and cost in a few lines."""
        scores = ", ".join(f"{rule} {100 * score:.1f} %" for rule, score in self.scores.items() if score is not None)
        epochs = self.record.rows[-1].epoch + 1
        cost = f"{epochs} epoch{'s' if epochs != 1 else ''} in {format_duration(self.record.cost.wall_seconds)}"
        privileged = ", ".join(self.record.privileged) or "none"
        return (
            f"{self.title}\n{self.metric.replace('_', ' ')}: {scores}\n{cost}; privileged information: {privileged}; "
            f"run {self.run_id}"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the same lines for a notebook."""
        title, *lines = (html.escape(line) for line in str(self).split("\n"))
        return f"<div><b>{title}</b><br>{'<br>'.join(lines)}</div>"


@dataclass(frozen=True)
class RunResults(Sequence[RunResult]):
    """Results of several runs in the order in which they were asked for.

    Attributes:
        runs: the results.
    """

    runs: tuple[RunResult, ...]

    @overload
    def __getitem__(self, index: int) -> RunResult: ...

    @overload
    def __getitem__(self, index: slice) -> RunResults: ...

    def __getitem__(self, index: int | slice) -> RunResult | RunResults:
        """Return one result, or a part of them."""
        return RunResults(self.runs[index]) if isinstance(index, slice) else self.runs[index]

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self.runs)

    def __iter__(self) -> Iterator[RunResult]:
        """Yield the results."""
        return iter(self.runs)

    def __str__(self) -> str:
        """Return one line per result."""
        return "\n".join(f"{_percent(result.score)}  {result.title}" for result in self.runs)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        rows = "".join(
            f"<tr><td>{html.escape(result.title)}</td><td>{_percent(result.score)}</td></tr>" for result in self.runs
        )
        return f"<table><tr><th>run</th><th>score</th></tr>{rows}</table>"


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{100 * score:.1f} %"
