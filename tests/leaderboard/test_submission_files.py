"""Hostile files: each is refused with one line, without being executed, unpacked or waited for."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisybench.cli.app import main
from noisybench.errors import UserError
from noisybench.leaderboard import strict_files, submission
from tests.leaderboard.changes import changed_evidence, changed_record, index_with, list_files, one, verdict


def pickled(entry: Path) -> None:
    """An array of objects that would run a command when it is unpickled."""

    class Command:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(entry / "executed"),))

    def change(arrays: dict[str, Any]) -> None:
        arrays["label_quality"] = np.array([Command()], dtype=object)

    changed_evidence(change)(entry)
    shutil.rmtree(entry / "executed", ignore_errors=True)


def archive_with(**members: bytes) -> Callable[[Path], None]:
    """Replace members of an archive, or add some, at the level of bytes."""

    def apply(entry: Path) -> None:
        place = one(entry).with_suffix(".npz")
        with zipfile.ZipFile(place) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in {**content, **{f"{name}.npy": data for name, data in members.items()}}.items():
                archive.writestr(name, data)
        list_files(entry)

    return apply


def array(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header.encode() + data


def header(kind: str, shape: str) -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"


def overlapping(entry: Path) -> None:
    """Let all entries of an archive share the bytes of the first."""
    place = one(entry).with_suffix(".npz")
    data = bytearray(place.read_bytes())
    position = data.index(b"PK\x01\x02")
    while (position := data.find(b"PK\x01\x02", position)) >= 0:
        data[position + 42 : position + 46] = bytes(4)
        position += 4
    place.write_bytes(data)
    list_files(entry)


def cut(entry: Path) -> None:
    place = one(entry).with_suffix(".npz")
    place.write_bytes(place.read_bytes()[:-100])
    list_files(entry)


def bomb(entry: Path) -> None:
    archive_with(label_quality=bytes(strict_files.MAX_ARRAY_BYTES + 1))(entry)


def large(entry: Path) -> None:
    with one(entry).open("ab") as file:
        file.truncate(strict_files.MAX_JSON_BYTES + 1)


def link(entry: Path) -> None:
    place = one(entry)
    place.unlink()
    place.symlink_to("/etc/passwd")


def text_of_record(text: bytes) -> Callable[[Path], None]:
    def apply(entry: Path) -> None:
        one(entry).write_bytes(text)
        list_files(entry)

    return apply


def replaced(make: Callable[[Path], None], kind: str = ".json") -> Callable[[Path], None]:
    """Replace a file of a run by another kind of file."""

    def apply(entry: Path) -> None:
        place = one(entry).with_suffix(kind)
        place.unlink()
        make(place)

    return apply


def in_record(before: str, after: str) -> Callable[[Path], None]:
    """Change the text of a record."""

    def apply(entry: Path) -> None:
        place = one(entry)
        text = place.read_text()
        assert before in text
        text_of_record(text.replace(before, after, 1).encode(errors="surrogatepass"))(entry)

    return apply


def link_to_folder(entry: Path) -> None:
    (entry / "runs").rename(entry.parent / "elsewhere")
    (entry / "runs").symlink_to(entry.parent / "elsewhere")


def index_as_pipe(entry: Path) -> None:
    (entry / submission.MANIFEST_FILE).unlink()
    os.mkfifo(entry / submission.MANIFEST_FILE)


def with_many_files(entry: Path) -> None:
    for number in range(60):
        (entry / "runs" / f"{number}.txt").touch()


NOT_PLAIN = "not a plain array of numbers"

HOSTILE = {
    "a pickle": (pickled, NOT_PLAIN),
    "a zip bomb": (bomb, "bytes unpacked exceed"),
    "entries that overlap": (overlapping, "overlap"),
    "an archive that is cut": (cut, "cannot be read"),
    "no archive": (lambda entry: (one(entry).with_suffix(".npz").write_bytes(b"PK"), list_files(entry)), "cannot be read"),
    "an array more": (archive_with(extra=array(header("<i8", "(0,)"))), "expected the arrays"),
    "a huge shape": (archive_with(label_quality=array(header("<f4", "(100000000000000,)"))), "do not make an array of shape"),
    "a shape of huge numbers": (archive_with(label_quality=array(header("<f4", f"({'9' * 70},)"))), "do not make an array"),
    "a shape of no numbers": (archive_with(label_quality=array(header("<f4", "(-1,)"))), NOT_PLAIN),
    "a deep header": (archive_with(label_quality=array("(" * 60_000)), NOT_PLAIN),
    "a header of code": (archive_with(label_quality=array("__import__('os').getcwd()\n")), NOT_PLAIN),
    "objects": (archive_with(label_quality=array(header("|O", "(90,)"))), NOT_PLAIN),
    "structures": (archive_with(label_quality=array(header("<f4", "(1,)").replace("'<f4'", "[('a', '<f4')]"))), NOT_PLAIN),
    "another version": (archive_with(label_quality=array(header("<f4", "(0,)"), version=b"\x03\x00")), NOT_PLAIN),
    "no array": (archive_with(label_quality=b""), NOT_PLAIN),
    "another type": (archive_with(label_quality=array(header("<f8", "(0,)"))), "must be 1-dimensional of type f4"),
    "an oversized file": (large, "larger than the"),
    "a link to elsewhere": (link, "a link; a submission may only contain plain files"),
    "a pipe": (replaced(os.mkfifo), "neither a plain file nor"),
    "a pipe of arrays": (replaced(os.mkfifo, ".npz"), "neither a plain file nor"),
    "a folder": (replaced(os.mkdir), "neither a plain file nor"),
    "a folder more": (lambda entry: (entry / "data").mkdir(), "neither a plain file nor"),
    "a link to a folder": (link_to_folder, "a link"),
    "no folder": (lambda entry: shutil.rmtree(entry / "runs"), "No such file"),
    "many files": (with_many_files, "far more files than"),
    "a name that no terminal shows": (lambda entry: (entry / "a\x1b[2Jb").touch(), r"a\\x1b\[2Jb: is not listed"),
    "a name that is no text": (lambda entry: open(os.fsencode(entry) + b"/\xff", "w").close(), r"\\udcff: is not listed"),
    "a stamp that is a pipe": (lambda entry: os.mkfifo(entry / submission.STAMP_FILE), "neither a plain file nor"),
    "a stamp of other fields": (lambda entry: (entry / submission.STAMP_FILE).write_text("{}"), "Field required"),
    "an index that is a pipe": (index_as_pipe, "not a plain file"),
    "a file more": (lambda entry: (entry / "run.py").write_text("import os"), "is not listed in"),
    "a file less": (lambda entry: one(entry).unlink(), "is missing"),
    "a path as a name": (index_with(runs={"../../etc/passwd": {"record": "0" * 64, "evidence": "0" * 64}}), "pattern"),
    "unknown fields": (index_with(execute="rm"), "Extra inputs are not permitted"),
    "no runs": (index_with(runs={}), "at least 1 item"),
    "not JSON": (lambda entry: (entry / submission.MANIFEST_FILE).write_bytes(b"\x80"), "not plain JSON"),
    "JSON without end": (text_of_record(b"[" * 100_000), "not plain JSON"),
    "deep JSON": (text_of_record(b"[" * 40 + b"]" * 40), "nested more than"),
    "a list": (text_of_record(b"[]"), "not a record of a run"),
    "a huge integer": (in_record('"seed":0', '"seed":' + "9" * 400), "an integer beyond"),
    "an endless integer": (in_record('"seed":0', '"seed":' + "9" * 5000), "not plain JSON"),
    "an infinite power": (in_record('"seed":0', '"seed":1e999'), "an infinite number"),
    "a name twice": (in_record('"seed":0', '"seed":0,"seed":0'), "'seed' occurs twice"),
    "true for a number": (in_record('"seed":0,"dataset"', '"seed":false,"dataset"'), "other types"),
    "another encoding": (text_of_record("{}".encode("utf-16")), "not plain JSON"),
    "a byte-order mark": (text_of_record(b"\xef\xbb\xbf{}"), "not plain JSON"),
    "half a character": (in_record('"title":"', '"title":"\\ud800'), "which is not plain text"),
    "an escape of terminals": (in_record('"title":"', '"title":"\\u001b[2J'), "which is not plain text"),
    "text from right to left": (in_record('"title":"', '"title":"\\u202e'), "which is not plain text"),
    "an endless text": (in_record('"title":"', '"title":"' + "x" * 20_000), "a text of more than"),
    "an escape in the description": (index_with(description="\x1b[2J"), "which is not plain text"),
    "a number that is none": (changed_record(lambda r: r["rows"][0].update(test_loss=float("nan"))), "or NaN"),
    "a number without end": (changed_record(lambda r: r["rows"][0].update(train_loss=float("inf"))), "must not be infinite"),
    "text for a number": (changed_record(lambda r: r["rows"][0].update(test_loss="0.5")), "other types"),
    "a field more": (changed_record(lambda r: r.update(html="<script>")), "unknown fields"),
    "another run's record": (changed_record(lambda r: r.update(identity="0" * 20)), "belongs to another run"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_and_not_executed(name: str, entry: Path) -> None:
    change, reason = HOSTILE[name]
    change(entry)
    with pytest.raises(UserError, match=reason):
        verdict(entry)
    assert not (entry / "executed").exists()


def test_a_pickle_would_have_been_executed(entry: Path) -> None:
    """So that the test above cannot pass for another reason."""
    pickled(entry)
    with np.load(one(entry).with_suffix(".npz"), allow_pickle=True) as archive:
        archive["label_quality"]
    assert (entry / "executed").exists()


def test_a_hostile_file_is_one_line_of_the_command(
    entry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    HOSTILE["a huge shape"][0](entry)
    monkeypatch.setattr(sys, "argv", ["noisybench", "leaderboard", "verify", str(entry)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("unit", ["{},", '{"a":0},'])
def test_reading_stays_within_the_stated_memory(unit: str) -> None:
    text = "[" + unit * ((strict_files.MAX_JSON_BYTES - 2) // len(unit)) + unit[:-1] + "]"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = strict_files.parse_json(text.encode(), Path("x.json"))
    assert len(content) > 1_000_000
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < strict_files.MAX_MEMORY_BYTES


def test_arrays_come_back_as_written(tmp_path: Path) -> None:
    arrays = {"a": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)), "b": np.empty((0, 4), np.float32)}
    strict_files.write_arrays(tmp_path / "x.npz", arrays)
    data = (tmp_path / "x.npz").read_bytes()
    found = strict_files.read_arrays(data, {"a": ("i2", 2), "b": ("f4", 2)}, Path("x.npz"))
    assert all(np.array_equal(found[name], arrays[name]) and found[name].flags.c_contiguous for name in arrays)


@pytest.mark.parametrize("place", ["missing", "x" * 300, "x/" * 3000, "/dev/zero", "/etc/passwd", "\udcff", "a\x1b[2J"])
def test_what_is_no_folder_of_a_submission_is_refused(place: str) -> None:
    with pytest.raises(UserError, match="not a submission") as refusal:
        submission.read(Path(place))
    assert str(refusal.value).isprintable()
