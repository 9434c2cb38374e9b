"""Damaged, foreign and hostile files are refused in one line before anything is imported from them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import resource
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noisybench.errors import UserError
from noisybench.tracking.bundle import Draft, write_parts
from noisybench.tracking.run_content import RunContent
from tests.fuzz.exports import replace_content, write_archive
from tests.leaderboard.test_leaderboard import record

Command = Callable[..., tuple[int, str]]
Archive = dict[str, bytes]
"""Content of a zip archive by the names of its members."""

RUN = "ab" * 16
RECORD = f"run/{RUN}/artifacts/record.json"


def run_draft(seed: int = 0, size: int = 5000) -> Draft:
    """Return the item of a finished run."""
    made = record(seed=seed)
    tags = {
        "identity": made.identity, "settings": made.settings, "code": json.dumps(made.code), "stack": made.stack,
        "budget": made.budget, "label_set": made.label_set,
    }  # fmt: skip
    content = RunContent(
        name=made.title, status="FINISHED", start_time=1, end_time=2, params={}, metrics={"test_accuracy": [(0.5, 1, 0)]},
        tags={f"noisybench.{name}": value for name, value in tags.items()},
    )  # fmt: skip
    files: dict[str, Path | bytes] = {
        "run.json": content.model_dump_json().encode(),
        "artifacts/record.json": json.dumps(made.as_dict()).encode(),
        "artifacts/samples.parquet": hashlib.shake_256(bytes([seed])).digest(size),
    }
    return Draft("run", f"{seed:02}{RUN[2:]}" if seed else RUN, made.title, files)


def changed(path: Path, change: Callable[[dict[str, Any], Archive], None]) -> None:
    """Change the manifest and the members of an export."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    change(manifest, members)
    members["manifest.json"] = json.dumps(manifest).encode()
    write_archive(path, members)


def with_record(**fields: Any) -> Callable[[dict[str, Any], Archive], None]:
    """Replace fields of the record, with a digest that agrees."""
    made = dataclasses.replace(record(), **fields)
    return lambda manifest, members: replace_content(manifest, members, RECORD, json.dumps(made.as_dict()).encode())


def forge_identity(path: Path) -> None:
    """Give a run, in its record and its tags alike, an identity that its settings and code do not have."""

    def change(manifest: dict[str, Any], members: Archive) -> None:
        content = json.loads(members[f"run/{RUN}/run.json"])
        content["tags"]["noisybench.identity"] = "f" * 20
        replace_content(manifest, members, f"run/{RUN}/run.json", json.dumps(content).encode())
        with_record(identity="f" * 20)(manifest, members)

    changed(path, change)


def flip_last_byte_of_content(path: Path) -> None:
    """Damage the stored content of a member."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"run/{RUN}/artifacts/samples.parquet")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 1
    path.write_bytes(bytes(data))


def add_link(path: Path) -> None:
    """Turn a member into a symbolic link."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == RECORD else 0o100644) << 16
            archive.writestr(info, data)


def rename(manifest: dict[str, Any], members: Archive) -> None:
    """Let a file of a run leave its folder."""
    files = manifest["items"][0]["files"]
    files["artifacts/../../../x"] = files.pop("artifacts/samples.parquet")


def rename_member(name: str) -> Callable[[dict[str, Any], Archive], None]:
    """Return a function that renames a member."""

    def change(manifest: dict[str, Any], members: Archive) -> None:
        members[name] = members.pop(RECORD)
        for member in manifest["members"]:
            member["name"] = member["name"].replace(RECORD, name)

    return change


def other_zip(path: Path) -> None:
    """Write an archive of another program."""
    write_archive(path, {"photos/1.png": b"x"})


def checkpoint(data: bytes) -> Callable[[Path], object]:
    """Return a function that writes an export of a checkpoint."""
    return lambda path: write_parts([Draft("checkpoint", "cd" * 10, "a run", {"checkpoint.ckpt": data})], path)


class Malicious:
    """Object whose pickle executes code."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("executed",)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is no file of `noisybench runs export` (it is empty)"),
    "text": (lambda path: path.write_text("identity,score\n"), "is no file of `noisybench runs export`"),
    "missing": (Path.unlink, "records.zip: file not found"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder, not a file"),
    "other archive": (other_zip, "the archive has no manifest.json"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:3000]), "is damaged or incomplete"),
    "a flipped byte": (flip_last_byte_of_content, "is damaged"),
    "link": (add_link, f"{RECORD} is no regular file"),
    "newer": (lambda path: changed(path, lambda m, _: m.update(format=2)), "has format 2 of a newer noisybench"),
    "no export": (lambda path: write_archive(path, {"manifest.json": b"[1]"}), "is not that of an export"),
    "other manifest": (lambda path: changed(path, lambda m, _: m.pop("export")), "manifest.json: export: Field required"),
    "leaves its folder": (lambda path: changed(path, rename), "unsafe path"),
    "member above": (lambda path: changed(path, rename_member("../../x")), "unsafe path"),
    "absolute member": (lambda path: changed(path, rename_member("/x")), "unsafe path"),
    "drive": (lambda path: changed(path, rename_member("C:x")), "unsafe path"),
    "unlisted member": (lambda path: changed(path, lambda _, files: files.update(x=b"")), "x is not in the manifest"),
    "missing member": (lambda path: changed(path, lambda _, files: files.pop(RECORD) and None), "is missing"),
    "other content": (
        lambda path: changed(path, lambda _, files: files.update({RECORD: files[RECORD][:-2] + b" }"})),
        "has another digest",
    ),
    "bomb": (
        lambda path: changed(path, lambda _, files: files.update({RECORD: bytes(2**25)})), "more than 100 times as large"
    ),
    "impossible record": (lambda path: changed(path, with_record(rows=[])), "is refused: it has no rows"),
    "forged identity": (
        forge_identity,
        "is refused: its identity is not that of its settings and code",
    ),
    "other record": (lambda path: changed(path, with_record(identity="x")), "its tag identity is not that of its record"),
    "malicious checkpoint": (checkpoint(pickle.dumps(Malicious())), "a run (cdcdcdcdcdcdcdcdcdcd) is refused"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_not_intact_is_refused(
    damage: Callable[[Path], object], message: str, workspace: Path, noisybench: Command
) -> None:
    path = workspace / "records.zip"
    write_parts([run_draft()], path)
    damage(path)
    status, output = noisybench("runs", "import", "records.zip")
    assert (status, message in output, output.count("\n")) == (2, True, 1), output
    assert {file.name for file in workspace.iterdir()} <= {"records.zip"}, "nothing was created"


def test_parts_are_at_most_as_large_as_asked_and_hold_everything_once(workspace: Path) -> None:
    drafts = [run_draft(seed, 3000 * (seed + 1) ** 2) for seed in range(8)]
    parts = write_parts(drafts, workspace / "records.zip", 2**16)
    assert [part.name for part in parts] == [f"records-part{i}of{len(parts)}.zip" for i in range(1, len(parts) + 1)]
    assert all(part.stat().st_size <= 2**16 for part in parts)
    contents: dict[str, dict[int, bytes]] = {}
    for part in parts:
        with zipfile.ZipFile(part) as archive:
            for member in json.loads(archive.read("manifest.json"))["members"]:
                contents.setdefault(member["sha256"], {})[member["offset"]] = archive.read(member["name"])
    for digest, pieces in contents.items():
        assert hashlib.sha256(b"".join(pieces[offset] for offset in sorted(pieces))).hexdigest() == digest
    wanted = {hashlib.sha256(bytes(data)).hexdigest() for draft in drafts for data in draft.files.values() if data}
    assert set(contents) == wanted


def test_a_file_with_an_unsafe_name_is_named(workspace: Path) -> None:
    draft = run_draft()
    draft.files["artifacts/a\\b"] = b""
    with pytest.raises(UserError, match=r"title \(.*\) cannot be exported: .*unsafe path"):
        write_parts([draft], workspace / "records.zip")
    assert not list(workspace.iterdir())


def test_equal_stores_give_equal_files(workspace: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_parts([run_draft()], workspace / name)
    assert (workspace / "a.zip").read_bytes() == (workspace / "b.zip").read_bytes()


def test_a_full_disk_leaves_the_earlier_export(workspace: Path) -> None:
    (workspace / "records.zip").write_bytes(b"earlier")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"records.zip cannot be written: .*; nothing was exported"):
            write_parts([run_draft()], workspace / "records.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert [(path.name, path.read_bytes()) for path in workspace.iterdir()] == [("records.zip", b"earlier")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "records.txt"), "records.txt cannot be written: its name must end in .zip"),
        (("-o", "/proc/x.zip"), "/proc/x.zip cannot be written"),
        (("-o", "x.zip", "--max-size", "15 apples"), "--max-size: expected a size from 64K, such as 15M"),
        (("-o", "x.zip", "--max-size", "100"), "--max-size: expected a size from 64K"),
        (("-o", "x.zip"), "the store has no runs that match"),
    ],
)
def test_an_impossible_export_is_refused(arguments: tuple[str, ...], message: str, noisybench: Command) -> None:
    status, output = noisybench("runs", "export", *arguments)
    assert (status, message in output) == (2, True), output
    assert not list(Path().glob("*.zip"))


def test_a_part_that_needs_another_one_says_so(workspace: Path, noisybench: Command) -> None:
    content = io.BytesIO()
    import torch

    torch.save({"format": 1, "trained_epochs": 1, "weights": torch.arange(40_000)}, content)
    draft = Draft("checkpoint", "cd" * 10, "a run", {"checkpoint.ckpt": content.getvalue()})
    parts = write_parts([draft], workspace / "records.zip", 2**17)
    assert len(parts) == 3
    from noisybench.tracking.bundle_reader import Bundle

    with Bundle([parts[2], parts[0]]) as bundle:
        (item,) = bundle.items
        assert bundle.missing_parts(item) == "part2of3"
    with Bundle(parts) as bundle:
        assert bundle.missing_parts(item) is None
        assert bundle.read(item.files["checkpoint.ckpt"], 2**30) == content.getvalue()


def test_an_export_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    left = [tmp_path / f".partial-{2**22 + 1}.{name}" for name in ("records.zip", "records-part1of3.zip")]
    kept = [tmp_path / f".partial-{os.getppid()}.records.zip", tmp_path / f".partial-{2**22 + 1}.others.zip"]
    for path in (*left, *kept):
        path.touch()
    write_parts([run_draft()], tmp_path / "records.zip")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "records.zip"])
