"""Submissions: measured runs as a folder that anyone can read, score again and train again.

A folder holds `submission.json`, which lists every other file with its SHA-256, and for each run `runs/IDENTITY.json`, its
record, and `runs/IDENTITY.npz`, the predictions from which its scores follow. Nothing in it is executed or unpickled: records
are JSON of one exact form, arrays are plain numbers, and no name in a file is used as a path.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from noisybench.errors import UserError, show
from noisybench.leaderboard.evidence_kinds import EvidenceKind, check_evidence_size
from noisybench.leaderboard.measurements import Measurement, measure, without_record
from noisybench.leaderboard.nested_components import manifest_without_places, without_places
from noisybench.leaderboard.stamps import Digest, StampStatus, Status, VerificationStamp, check_stamp, sign_stamp
from noisybench.leaderboard.strict_files import (
    MAX_ARRAY_BYTES,
    MAX_JSON_BYTES,
    parse_json,
    read_arrays,
    read_plain_file,
    same_json,
    write_arrays,
)
from noisybench.records.evidence import array_types
from noisybench.records.schema import RECORD_FORMAT, RunRecord
from noisybench.utils.files import write_atomically
from noisybench.utils.text import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FORMAT: Literal[2] = 2
MANIFEST_FILE = "submission.json"
STAMP_FILE = "verified.json"
MAX_DESCRIPTION = 2000
"""Largest number of characters of a description."""

MAX_AUTHOR = 200
"""Largest number of characters of an author."""

MAX_RUNS = 5000
MAX_PROBLEMS = 20
"""Most problems of a folder that are listed."""

# An identity becomes part of a path: its pattern leaves no room for separators or dots.
IDENTITY_PATTERN = "^[0-9a-f]{20}$"
Identity = Annotated[str, pydantic.StringConstraints(pattern=IDENTITY_PATTERN)]


class RunFiles(pydantic.BaseModel):
    """SHA-256 of a run's files."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    record: Digest
    evidence: Digest


class SubmissionManifest(pydantic.BaseModel):
    """Content of `submission.json`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    format: Literal[2]
    description: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=MAX_DESCRIPTION)]
    """Claim of the runs, and how they were trained."""
    author: Annotated[str, pydantic.StringConstraints(max_length=MAX_AUTHOR)] = ""
    """Name or address of the authors; empty if they do not state it."""
    date: Annotated[str, pydantic.StringConstraints(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = ""
    """Day on which it was packaged, in UTC."""
    noisybench: Annotated[str, pydantic.StringConstraints(max_length=50)]
    runs: Annotated[dict[Identity, RunFiles], pydantic.Field(min_length=1, max_length=MAX_RUNS)]


_RECORD_ADAPTER = pydantic.TypeAdapter(RunRecord)


@dataclass(frozen=True)
class Submission:
    """A complete folder of the correct form, whose scores may still be false.

    Attributes:
        folder: folder of the submission.
        manifest: content of `submission.json`.
        digest: SHA-256 of `submission.json`, which has the digests of all other files.
        stamp: verification by a maintainer, for a reader with certain keys.
    """

    folder: Path
    manifest: SubmissionManifest
    digest: str
    stamp: StampStatus

    @property
    def status(self) -> Status:
        """Verification by a maintainer whose key the reader trusts."""
        return self.stamp.status

    def records(self) -> Iterator[RunRecord]:
        """Yield the records of its runs, as claimed.

        Raises:
            UserError: a record is damaged, or not of the form that noisybench writes.
        """
        for identity, files in self.manifest.runs.items():
            path = self.folder / "runs" / f"{identity}.json"
            record = parse_record(_read_listed(path, files.record, MAX_JSON_BYTES), path)
            # The name of the file selects the predictions, which must be those of this record.
            if record.identity != identity:
                raise UserError(f"{path}: the record belongs to another run ({record.identity})")
            yield record

    def measurements(self) -> Iterator[Measurement]:
        """Yield the numbers of its runs, without their records.

        Raises:
            UserError: a record is damaged, or not of the form that noisybench writes.
        """
        for record in self.records():
            try:
                yield without_record(measure(record, self.status, self.folder.name))
            # Not verified yet, so that its free-form fields may have any content.
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise UserError(
                    f"{printable(str(self.folder))}: run {record.identity} lacks what tables show "
                    f"({type(error).__name__}: {printable(str(error)[:100])})"
                ) from None

    def evidence(self, identity: str, kind: EvidenceKind) -> Any:
        """Return the predictions of a run, of the kind that its task has.

        Raises:
            UserError: the file is damaged, or not of the correct form.
        """
        path = self.folder / "runs" / f"{identity}.npz"
        data = _read_listed(path, self.manifest.runs[identity].evidence, MAX_ARRAY_BYTES)
        return kind.evidence(**read_arrays(data, array_types(kind.evidence), path))


def parse_record(data: bytes, path: Path) -> RunRecord:
    """Return a record from JSON exactly as noisybench writes it, without other fields or other types.

    Raises:
        UserError: the JSON is anything else.
    """
    content = parse_json(data, path)
    try:
        record: RunRecord = _RECORD_ADAPTER.validate_python(content)
        # Validation converts types and ignores unknown fields, so the record must give back the same data.
        is_exact = same_json(content, _RECORD_ADAPTER.dump_python(record))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{printable(str(path))}: not a record of a run ({printable(str(error).splitlines()[0])})"
        ) from None
    if not is_exact:
        raise UserError(
            f"{printable(str(path))}: not a record as noisybench writes it: it has unknown fields or other types"
        )
    if record.format != RECORD_FORMAT:
        raise UserError(
            f"{printable(str(path))}: a record of format {record.format}, but this version reads {RECORD_FORMAT}"
        )
    return record


def read(folder: Path, keys: Sequence[Ed25519PublicKey] = ()) -> Submission:
    """Open a submission after checking that every file is listed and present.

    Args:
        folder: folder of the submission.
        keys: public keys whose stamps count.

    Raises:
        UserError: all problems found.
    """
    if not os.path.lexists(folder / MANIFEST_FILE):
        raise UserError(
            f"{printable(str(folder))}: not a submission ({MANIFEST_FILE} is missing); create one with "
            "`noisybench leaderboard package`"
        )
    data = read_plain_file(folder / MANIFEST_FILE, MAX_JSON_BYTES)
    content = parse_json(data, folder / MANIFEST_FILE)
    try:
        manifest = SubmissionManifest.model_validate(content)
    except pydantic.ValidationError as error:
        raise UserError(
            *(
                printable(f"{folder / MANIFEST_FILE}: {'.'.join(map(str, detail['loc']))[:200]}: {detail['msg']}")
                for detail in error.errors()[:20]
            )
        ) from None
    listed = {f"runs/{identity}.{kind}" for identity in manifest.runs for kind in ("json", "npz")} | {MANIFEST_FILE}
    present = _list_files(folder, len(listed) + 1)
    problems = [
        f"{printable(str(folder / name))}: is not listed in {MANIFEST_FILE}"
        for name in sorted(present - listed - {STAMP_FILE})
    ]
    problems += [f"{printable(str(folder / name))}: is missing" for name in sorted(listed - present)]
    if problems:
        raise UserError(*problems[:MAX_PROBLEMS])
    digest = hashlib.sha256(data).hexdigest()
    return Submission(folder, manifest, digest, check_stamp(_read_stamp(folder / STAMP_FILE), digest, keys))


def _list_files(folder: Path, most: int) -> set[str]:
    """Return the names of the plain files in a submission and in its folder `runs`.

    Raises:
        UserError: there are links, pipes, devices or other folders, or far more files than listed.
    """
    names: set[str] = set()
    for place in ("", "runs/"):
        try:
            with os.scandir(folder / place) as entries:
                for entry in entries:
                    # The type of a link is asked for itself, because what it points to is not in the submission.
                    is_runs = place == "" and entry.name == "runs" and entry.is_dir(follow_symlinks=False)
                    if entry.is_symlink():
                        raise UserError(f"{printable(entry.path)}: a link; a submission may only contain plain files")
                    if not is_runs and not entry.is_file(follow_symlinks=False):
                        raise UserError(f"{printable(entry.path)}: neither a plain file nor the folder `runs`")
                    if not is_runs:
                        names.add(place + entry.name)
                    if len(names) > most + MAX_PROBLEMS:
                        raise UserError(f"{printable(str(folder))}: has far more files than {MANIFEST_FILE} lists")
        except OSError as error:
            raise UserError(f"{printable(str(folder / place))}: cannot be read ({error.strerror})") from None
    return names


def _read_stamp(path: Path) -> VerificationStamp | None:
    if not os.path.lexists(path):
        return None
    content = parse_json(read_plain_file(path, MAX_JSON_BYTES), path)
    try:
        return VerificationStamp.model_validate(content)
    except pydantic.ValidationError as error:
        raise UserError(f"{printable(str(path))}: {error.errors()[0]['msg']}; verify the submission again") from None


def mark_verified(submission: Submission, status: Status, version: str, retrained: int, key: Ed25519PrivateKey) -> None:
    """Write the outcome of a verification to `verified.json` in the folder of the submission.

    Args:
        submission: verified submission.
        status: outcome of the verification.
        version: version of noisybench.
        retrained: number of runs that were trained again.
        key: private key of the maintainer.
    """
    stamp = sign_stamp(submission.digest, status, version, retrained, key)
    write_atomically(submission.folder / STAMP_FILE, (stamp.model_dump_json(indent=2) + "\n").encode())


def _read_listed(path: Path, digest: str, limit: int) -> bytes:
    """Return the content of a file that the manifest lists."""
    data = read_plain_file(path, limit)
    if hashlib.sha256(data).hexdigest() != digest:
        raise UserError(
            f"{printable(str(path))}: the file has changed since the submission was packaged (its SHA-256 differs)"
        )
    return data


def write(
    folder: Path, description: str, version: str, runs: Iterator[tuple[RunRecord, Any]], author: str = ""
) -> Submission:
    """Write a submission.

    Args:
        folder: folder that does not exist yet or is empty.
        description: claim of the runs, and how they were trained.
        version: version of noisybench.
        runs: records with their evidence.
        author: name or address of the authors, if they state it.

    Raises:
        UserError: the folder is not empty, or the evidence of a run is larger than `MAX_ARRAY_BYTES`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; choose a folder that does not exist yet")
    # Refused before anything is written, because readers refuse it.
    parse_json(json.dumps({"description": description, "author": author}).encode(), Path("description"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic only within one file system.
    temporary = Path(tempfile.mkdtemp(prefix=".submission-", dir=folder.parent))
    try:
        files = _write_files(temporary, runs)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        manifest = SubmissionManifest(
            format=FORMAT, description=description, author=author, date=today, noisybench=version, runs=files
        )
        write_atomically(temporary / MANIFEST_FILE, (manifest.model_dump_json(indent=1) + "\n").encode())
        # `mkdtemp` makes folders that only their owner can read.
        temporary.chmod(0o755)
        temporary.replace(folder)  # so that a reader never sees a partial submission
    # Ctrl-C is no Exception, and would leave the partial folder behind.
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    # The same checks as at the recipient, so that a faulty submission is noticed before it is sent.
    return read(folder)


def _write_files(folder: Path, runs: Iterator[tuple[RunRecord, Any]]) -> dict[str, RunFiles]:
    """Write the files of all runs, and return their digests by identity."""
    (folder / "runs").mkdir()
    files = {}
    for record, evidence in runs:
        # A store may be shared with others, and the identity becomes a part of a path.
        if not re.fullmatch(IDENTITY_PATTERN, record.identity):
            raise UserError(f"{printable(record.title)}: its identity {show(record.identity)} is not one of noisybench")
        path = folder / "runs" / record.identity
        check_evidence_size(record, {name: array.nbytes for name, array in vars(evidence).items()})
        # The identifier of the run means nothing outside its store, and paths may contain names of users.
        public = dataclasses.replace(
            record, run_id="", spec=without_places(record.spec), manifest=manifest_without_places(record.manifest)
        )
        path.with_suffix(".json").write_text(json.dumps(public.as_dict(), separators=(",", ":"), allow_nan=False))
        write_arrays(path.with_suffix(".npz"), vars(evidence))
        # Digests are computed from the files on disk, because verification reads those.
        digests = [hashlib.sha256(path.with_suffix(f".{kind}").read_bytes()).hexdigest() for kind in ("json", "npz")]
        files[record.identity] = RunFiles(record=digests[0], evidence=digests[1])
    return dict(sorted(files.items()))
