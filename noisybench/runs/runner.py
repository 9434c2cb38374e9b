"""Execute one run: from its specification to the record in the tracking store."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from noisybench.config.data_files import check_data
from noisybench.config.loaded_code import LoadedCode, code_of_class
from noisybench.config.spec import RunSpec
from noisybench.errors import Interrupted, StoreUnavailable
from noisybench.records.schema import RunRecord
from noisybench.runs.device_memory import explain_out_of_memory
from noisybench.runs.environment import describe_environment
from noisybench.runs.preparation import prepare_run
from noisybench.runs.recorder import ProgressCallback, progress_event
from noisybench.runs.row_uploader import RowUploader
from noisybench.runs.run_folder import RunFolder
from noisybench.runs.training import train
from noisybench.tracking.store import ActiveRun, Store
from noisybench.training.auxiliary import AUXILIARY_DIR, AuxiliaryCache, AuxiliaryCost

logger = logging.getLogger("noisybench")


def execute(spec: RunSpec, store: Store, report: ProgressCallback, stop: Callable[[], bool]) -> str:
    """Train a run, or resume it, and record it in a tracking store.

    Args:
        spec: specification of the run.
        store: tracking store.
        report: called after every epoch.
        stop: called after every epoch; the run is interrupted if it returns True.

    Returns:
        ``"finished"``, or ``"stopped"`` if the run was interrupted.

    Raises:
        UserError: the run was refused before training.
        CodeChanged: the code in this process is not the one that was planned; nothing is recorded under its identity.
        TrainingError: training failed for a known reason. The run is recorded as failed, as after other exceptions.
        StoreUnavailable: the store cannot be reached. A trained run keeps its record in its folder.
    """
    folder = RunFolder(spec.run_dir())
    # Everything below holds the lock: two processes with the same run would overwrite each other's checkpoints.
    with folder.lock(stop) as acquired:
        if not acquired:
            return "stopped"
        if not spec.is_trial and store.runs.is_finished(spec.identity, after=spec.replaces):
            folder.remove()  # another process trained the run while this one waited
            return "finished"
        record = folder.pending_record()
        if record is not None:  # trained earlier, while the store was unavailable
            tags = _tags(record.label_set, record.privileged, record.environment)
            run = store.start(spec, tags, resume=folder.run_id)
            report("epoch", progress_event(record.rows, spec.budget.epochs))
            return _upload(run, record, folder)
        spec = _with_threads_of_checkpoint(spec, folder)
        try:
            cache = AuxiliaryCache(AUXILIARY_DIR, report, stop, code_of=code_of_class)
            prepared = prepare_run(spec, auxiliary_cache=cache)
        except Interrupted:  # during an auxiliary run of the noise model
            return "stopped"
        # After the data are loaded: a record must not name other bytes than those that were trained on.
        check_data(spec)
        # Before the run is tracked: a failure under an identity that is never planned again would remain listed.
        LoadedCode(spec)
        environment = describe_environment(spec)
        tags = _tags(prepared.labels.hash, prepared.privileged, environment)
        with store.track(spec, tags, resume=folder.run_id) as run:
            # Kept before training starts, so that a resumed run continues the same entry of the store.
            folder.run_id, folder.num_threads = run.run_id, spec.num_threads
            on_auxiliary = functools.partial(_track_auxiliary, run)
            with RowUploader(run) as send, explain_out_of_memory(spec, folder.checkpoint):
                recorder = train(prepared, folder.path, send, report, stop, AUXILIARY_DIR, on_auxiliary)
                if recorder.complete:
                    send.discard()
            if not recorder.complete:
                return "stopped"
            record = recorder.record(environment)
            # On disk before the upload starts: if that fails or the process dies, nothing is trained again.
            recorder.write(record, folder.pending)
            return _upload(run, record, folder)


def _upload(run: ActiveRun, record: RunRecord, folder: RunFolder) -> str:
    """Upload the record and files of a finished run, and delete its folder."""
    try:
        run.finish(record, folder.pending)
    except (StoreUnavailable, OSError) as error:  # OSError: for instance no space for the artifacts
        reason = str(error).splitlines()[0][:200]
        raise StoreUnavailable(
            f"training is complete, but the tracking store could not be written ({reason}). The record is kept in "
            f"{folder.pending}; run the same command again to upload it without training"
        ) from error
    folder.remove()
    return "finished"


def _with_threads_of_checkpoint(spec: RunSpec, folder: RunFolder) -> RunSpec:
    """Return a run with the number of threads of its checkpoint: the order of floating-point sums depends on it."""
    threads = folder.num_threads
    if threads in (None, spec.num_threads):
        return spec
    logger.warning(
        "%s: resumed with the number of threads of its checkpoint, %d instead of %d, so that the result is bit-identical to "
        "that of an uninterrupted run; delete %s to train it from the start",
        spec.title, threads, spec.num_threads, folder.path,
    )  # fmt: skip
    return spec.with_threads(threads)


def _track_auxiliary(run: ActiveRun, cost: AuxiliaryCost, cache_key: dict[str, Any], file: Path) -> None:
    """Track an auxiliary run as a child of the run that trained it; the result does not depend on the store."""
    try:
        run.log_auxiliary(cost.title, cache_key, dataclasses.asdict(cost), file)
    except Exception as error:
        # Tracking is secondary here: the result is in the cache already, and the run can use it.
        logger.warning("the auxiliary run could not be tracked: %s", error)


def _tags(label_set: str, privileged: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    return {
        "label_set": label_set,
        "privileged": ", ".join(privileged),
        **{f"env.{name}": value for name, value in environment.items()},
    }
