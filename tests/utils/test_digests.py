"""Digests of files: every byte counts, unchanged files are not read again, and nothing strange is opened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noisybench.errors import UserError
from noisybench.utils import digests
from noisybench.utils.digests import digest_files, snapshot
from noisybench.utils.file_listing import FileList, FileTree, list_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three old files in two folders, with a cache of their own that caches even small sets."""
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "CACHED_FROM", 0)
    # Change times cannot be set, so the files settle at once instead.
    monkeypatch.setattr(digests, "SETTLING_SECONDS", 0.0)
    root = tmp_path / "data"
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes are read."""
    names: list[str] = []
    original = digests._hash

    def hash_file(path: bytes) -> str:
        names.append(os.path.basename(os.fsdecode(path)))
        return original(path)

    monkeypatch.setattr(digests, "_hash", hash_file)
    return names


def overwrite(path: Path, data: bytes) -> None:
    """Overwrite a file with as many bytes, and restore its modification time."""
    status = path.stat()
    assert len(data) == status.st_size
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: overwrite(root / "cat" / "1.png", b"noise.png"),
        lambda root: (root / "cat" / "1.png").rename(root / "cat" / "3.png"),
        lambda root: (root / "dog" / "1.png").rename(root / "cat" / "0.png"),
        lambda root: (root / "dog" / "1.png").unlink(),
        lambda root: (root / "empty").mkdir(),
        lambda root: (root / ".hidden").write_bytes(b""),
        lambda root: (root / "dog" / "2.png").symlink_to("1.png"),
    ],
    ids=["same size and time", "renamed", "moved", "removed", "folder", "hidden", "link"],
)
def test_every_change_of_a_folder_changes_its_digest(change: object, folder: Path) -> None:
    before = digest_files({"root": folder})
    change(folder)  # type: ignore[operator]
    assert digest_files({"root": folder}) != before


def test_moved_and_copied_data_keep_their_digest(folder: Path) -> None:
    before = digest_files({"root": folder})
    folder.rename(folder.with_name("elsewhere"))
    assert digest_files({"root": folder.with_name("elsewhere")}) == before
    subprocess.run(["cp", "-r", folder.with_name("elsewhere"), folder], check=True)
    assert digest_files({"root": folder}) == before


def test_a_link_counts_as_what_it_leads_to(folder: Path) -> None:
    before = digest_files({"root": folder})
    (folder / "cat" / "1.png").rename(folder.parent / "away.png")
    (folder / "cat" / "1.png").symlink_to(folder.parent / "away.png")
    (folder / "dog").rename(folder.parent / "dogs")
    (folder / "dog").symlink_to(folder.parent / "dogs")
    assert digest_files({"root": folder}) == before
    overwrite(folder.parent / "dogs" / "1.png", b"noise.png")
    assert digest_files({"root": folder}) != before


def test_unchanged_files_are_not_read_again(folder: Path, reads: list[str]) -> None:
    before = digest_files({"root": folder})
    assert len(reads) == 3
    assert digest_files({"root": folder}) == before
    assert len(reads) == 3
    overwrite(folder / "dog" / "1.png", b"noise.png")
    assert digest_files({"root": folder}) != before
    assert reads[3:] == ["1.png"], "only the changed file is read"
    # A list of the same files shares their digests.
    digest_files({"files": FileList(folder, ("cat/1.png", "dog/1.png"))})
    assert len(reads) == 4


def test_files_that_changed_just_now_are_read_again(
    folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLING_SECONDS", 60.0)
    digest_files({"root": folder})
    digest_files({"root": folder})
    assert len(reads) == 6, "a further change could leave size and time stamps the same"


@pytest.mark.parametrize("damage", [b"", b"\xff\x00", b'{"a": 1}', None])
def test_a_damaged_cache_is_ignored(damage: bytes | None, folder: Path, reads: list[str]) -> None:
    before = digest_files({"root": folder})
    cached = list((folder.parent / "cache" / "digests").iterdir())
    assert cached
    for file in cached:
        # Without `damage`, one byte of a digest is changed, so that the file can still be parsed.
        file.write_bytes(damage if damage is not None else file.read_bytes().replace(b"a", b"b", 3))
    assert digest_files({"root": folder}) == before
    assert len(reads) == 6


def test_a_cache_that_cannot_be_written_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_files({"root": folder})
    (folder.parent / "file").write_bytes(b"")
    monkeypatch.setenv("NOISYBENCH_CACHE", str(folder.parent / "file" / "cache"))
    assert digest_files({"root": folder}) == before


def test_what_is_no_file_is_never_opened(folder: Path) -> None:
    before = digest_files({"root": folder})
    os.mkfifo(folder / "cat" / "fifo.png")
    (folder / "broken.png").symlink_to("nowhere")
    (folder / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "dog" / "socket.png"))
    started = time.monotonic()
    assert digest_files({"root": folder}) != before
    assert time.monotonic() - started < 5
    with pytest.raises(UserError, match=r"fifo\.png: is neither a file nor a folder"):
        digest_files({"path": folder / "cat" / "fifo.png"})


def test_loops_of_links_end(folder: Path) -> None:
    (folder / "cat" / "up").symlink_to("..")
    (folder / "self.png").symlink_to("self.png")
    (folder / "dog" / "cats").symlink_to("../cat")
    names = [str(file.relative_to(folder)) for file in list_files(folder, (".png",))]
    assert names == ["cat/1.png", "cat/2.png", "dog/1.png", "self.png"]
    before = digest_files({"root": folder})
    overwrite(folder / "cat" / "1.png", b"noise.png")
    assert digest_files({"root": folder}) != before


def test_names_that_are_no_utf8_count(folder: Path) -> None:
    raw = os.fsencode(folder) + b"/cat/\xff\xfe.png"
    with open(raw, "wb") as file:
        file.write(b"one")
    before = digest_files({"root": folder})
    with open(raw, "wb") as file:
        file.write(b"two")
    assert digest_files({"root": folder}) != before
    assert os.fsdecode(raw) in map(str, list_files(folder, (".png",)))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a" * 300, "file name too long"),
        ("b/" * 5000, "file name too long"),
        ("zero\0byte", "null"),
        ("\ud800", "surrogates not allowed"),
        ("loop", "too many levels of symbolic links"),
        ("~no-such-user/x", "home (directory|folder)"),
    ],
)
def test_bad_paths_are_refused_in_one_short_line(path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for source in (Path(path), FileTree(Path(path), (".png",))):
        with pytest.raises(UserError, match=message) as error:
            digest_files({"root": source})
        text = str(error.value)
        assert len(text) < 500
        assert text.isprintable()
        text.encode()


def test_missing_data_are_found_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "nowhere" / "deeper"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            digest_files({"root": path})
    # A listed file may be missing: some datasets skip such files.
    (tmp_path / "here").write_bytes(b"")
    absent = digest_files({"": FileList(tmp_path, ("here", "there"))})
    (tmp_path / "there").write_bytes(b"")
    assert digest_files({"": FileList(tmp_path, ("here", "there"))}) != absent


def test_only_files_of_the_suffixes_count(folder: Path) -> None:
    tree = {"images": FileTree(folder, (".png",))}
    before = digest_files(tree)
    for name in ("notes.txt", ".DS_Store", "cat/.1.png", ".cache/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("other")
    assert digest_files(tree) == before
    (folder / "cat" / "3.PNG").write_text("image")
    assert digest_files(tree) != before


def test_a_command_reads_a_folder_once(folder: Path) -> None:
    with snapshot():
        before = digest_files({"root": folder})
        overwrite(folder / "cat" / "1.png", b"noise.png")
        assert digest_files({"root": folder}) == before
    assert digest_files({"root": folder}) != before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
@pytest.mark.parametrize("name", ["dog", "cat/1.png"])
def test_what_may_not_be_read_is_named(name: str, folder: Path) -> None:
    (folder / name).chmod(0)
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    code = (
        "import os, sys; from pathlib import Path; from noisybench.utils.digests import digest_files\n"
        f"os.seteuid(65534)\ntry:\n    digest_files({{'root': Path({str(folder)!r})}})\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"UserError {folder / name}: cannot be read (permission denied); ")
    assert done.stdout.count("\n") == 1
