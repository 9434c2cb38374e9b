"""Measurements of the finished runs of a store, selected by suite or label set."""

from __future__ import annotations

from collections.abc import Sequence

from noisybench.config.suite import read_metric, read_suite
from noisybench.errors import UserError, nearest, show
from noisybench.leaderboard.measurement_tables import SHIPPED, builtin_measurements
from noisybench.leaderboard.measurements import Measurement, measure_valid
from noisybench.records.equivalence import Equivalence, builtin_equivalences
from noisybench.records.schema import RunRecord
from noisybench.tracking.equivalences import recorded_equivalences
from noisybench.tracking.store import Store

NO_RUNS = "the store has no finished runs that match; create some with `noisybench bench quickstart`"

Excluded = list[dict[str, str]]
"""Runs that no table shows, as ``what`` and ``why``."""


def suite_metric(suite: str | None) -> str:
    """Return the metric by which a suite is ranked; ``default`` without a suite, and for what ships with noisybench.

    Example:
        >>> suite_metric(None), suite_metric("quickstart")
        ('default', 'default')
    """
    return "default" if suite in (None, SHIPPED) else read_metric(suite)


def stored_records(store: Store, suite: str | None, label_set: str | None = None) -> tuple[list[RunRecord], Excluded]:
    """Return the records of finished runs, the latest first, and the runs whose record cannot be used.

    Args:
        store: store of the runs.
        suite: suite whose settings the runs must have, with whatever code; None for all runs.
        label_set: beginning of the hash of their label set; None for all.
    """
    selected = None if suite is None else {spec.settings_hash for spec in read_suite(suite)}
    stored = store.runs.read()

    def matches(settings: str, labels: str) -> bool:
        return (selected is None or settings in selected) and labels.startswith(label_set or "")

    excluded = [
        {"what": each.run.title, "why": each.reason}
        for each in stored.excluded
        if matches(each.run.tags.get("settings", ""), each.run.tags.get("label_set", ""))
    ]
    return [each for each in stored.records if matches(each.settings, each.label_set)], excluded


def measurements_of(
    suite: str | None, label_set: str | None = None
) -> tuple[list[Measurement], Excluded, list[Equivalence]]:
    """Return the measurements of a suite, those that no table can show, and the equivalences of code between them.

    Args:
        suite: suite whose finished runs the store of this folder has, ``shipped`` for the measurements that ship with
            noisybench, for which there need be no store, or None for all runs of the store.
        label_set: beginning of the hash of their label set; None for all.

    Raises:
        UserError: there are none.

    Example:
        >>> len(measurements_of("shipped")[0]) == len(builtin_measurements())
        True
    """
    if suite == SHIPPED:
        measurements = [each for each in builtin_measurements() if each.setting.label_set.startswith(label_set or "")]
        excluded, equivalences = Excluded(), list(builtin_equivalences())
    else:
        store = Store()
        records, excluded = stored_records(store, suite, label_set)
        measurements, unusable = measure_valid(records)
        excluded += unusable
        equivalences = recorded_equivalences(store)
    if label_set and not measurements and not excluded:
        # Raises an error of its own if there are no other runs either.
        known = {each.setting.label_set[:16] for each in measurements_of(suite)[0]}
        raise UserError(
            f"label_set: no finished run has a label set whose hash begins with {show(label_set, quotes=False)}; "
            f"{nearest(label_set, known)}"
        )
    check_any(measurements, excluded)
    return measurements, excluded, equivalences


def check_any(measurements: Sequence[Measurement], excluded: Excluded) -> None:
    """Check that there are runs to show.

    Raises:
        UserError: there are none; the runs that no table can show are listed with the reasons.
    """
    if not measurements:
        raise UserError(NO_RUNS, *(f"excluded: {each['what']}: {each['why']}" for each in excluded))
