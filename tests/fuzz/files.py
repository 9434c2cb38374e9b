"""Damaged and hostile data files, made from valid ones."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.exports import mutate_export

Mutation = Callable[[Path, random.Random], None]
"""Function that changes a file in place."""

LONG_NAME = "n" * 300
"""A name longer than file systems allow."""

NESTED = 100_000
"""Depth of nested brackets beyond the recursion limit of every parser."""


def mutate_file(path: Path, rng: random.Random) -> str:
    """Damage a file or folder, and return the name of the mutation."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        mutations: Sequence[Mutation] = FOLDER_MUTATIONS if not files or rng.random() < 0.25 else ()
        if not mutations:
            return mutate_file(rng.choice(files), rng)
    else:
        specific = MUTATIONS.get(path.suffix, ())
        mutations = specific if specific and rng.random() < 0.75 else ANY_FILE
    chosen = rng.choice(mutations)
    try:
        chosen(path, rng)
    except Exception:  # an earlier mutation has left no table, archive or JSON document
        if path.is_file():
            flip(path, rng)
    return f"{chosen.__name__.strip('_')} {path.name}"


def truncate(path: Path, rng: random.Random) -> None:
    """Cut the file at a random position."""
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def empty(path: Path, rng: random.Random) -> None:
    """Leave a file of 0 bytes."""
    path.write_bytes(b"")


def flip(path: Path, rng: random.Random) -> None:
    """Change some bytes, more often at the beginning, where headers are."""
    data = bytearray(path.read_bytes() or b"x")
    for _ in range(rng.randint(1, 12)):
        data[min(rng.randrange(len(data)), rng.randrange(200) if rng.random() < 0.5 else len(data) - 1)] = (
            rng.randrange(256)
        )
    path.write_bytes(bytes(data))


def garbage(path: Path, rng: random.Random) -> None:
    """Replace the content by random bytes or by text in another encoding."""
    path.write_bytes(
        rng.choice(
            [rng.randbytes(500), "größe,é\n".encode("latin1"), "index,observed\n".encode("utf-16"), b"\x00" * 300]
        )
    )


def fifo(path: Path, rng: random.Random) -> None:
    """Replace the file by a named pipe that is never written to."""
    path.unlink()
    os.mkfifo(path)


def device(path: Path, rng: random.Random) -> None:
    """Replace the file by a link to a device or to a file of the kernel."""
    path.unlink()
    path.symlink_to(rng.choice(["/dev/zero", "/dev/full", "/dev/null", "/proc/self/mem", "/proc/nosuch", str(path)]))


def folder_instead(path: Path, rng: random.Random) -> None:
    """Replace the file by a folder."""
    path.unlink()
    path.mkdir()


def remove(path: Path, rng: random.Random) -> None:
    """Delete the file."""
    path.unlink()


ANY_FILE: tuple[Mutation, ...] = (truncate, empty, flip, garbage, fifo, device, folder_instead, remove)


def rewrite_arrays(
    path: Path, change: Callable[[dict[str, np.ndarray[Any, Any]], str], None], rng: random.Random
) -> None:
    """Read all arrays of an archive, change one of them, and write the archive again."""
    with np.load(path, allow_pickle=True) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays, rng.choice(sorted(arrays)))
    np.savez(path, **arrays)  # type: ignore[arg-type]


def other_values(path: Path, rng: random.Random) -> None:
    """Give an array values of another kind or size."""
    change = rng.choice(ARRAY_CHANGES)
    rewrite_arrays(path, lambda arrays, name: arrays.update({name: change(arrays[name])}), rng)


def other_shape(path: Path, rng: random.Random) -> None:
    """Give an array another number of axes or rows."""
    change: Callable[[Any], Any] = rng.choice([
        lambda a: a[:0], lambda a: a[:1], lambda a: a[..., None], lambda a: a.reshape(-1), lambda a: np.asarray(a.flat[0]),
        lambda a: a[:-1], lambda a: np.repeat(a, 2, axis=-1), lambda a: a[None],
    ])  # fmt: skip
    rewrite_arrays(path, lambda arrays, name: arrays.update({name: change(arrays[name])}), rng)


def drop_member(path: Path, rng: random.Random) -> None:
    """Delete an array of an archive, or add unexpected ones."""
    extra = {
        "class_names": rng.choice([np.array("cat"), np.array(["a"]), np.array([[1, 2]]), np.array([b"\xff", b"b"])])
    }
    rewrite_arrays(path, lambda arrays, name: arrays.pop(name) if rng.random() < 0.5 else arrays.update(extra), rng)


def raw_member(path: Path, rng: random.Random) -> None:
    """Replace a member of an archive by bytes that are not an array, or that claim to be a huge one."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    members[rng.choice([name, "raw.txt"])] = rng.choice([b"not an array", b"", huge_array(), deep_header()])
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


def npy_instead(path: Path, rng: random.Random) -> None:
    """Write a single array under the name of an archive."""
    buffer = io.BytesIO()
    np.save(buffer, np.arange(5))
    path.write_bytes(rng.choice([buffer.getvalue(), huge_array(), deep_header()]))


def huge_array() -> bytes:
    """Return an array file whose header claims 10^14 elements."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**7, 10**7)})  # type: ignore[no-untyped-call]
    return buffer.getvalue() + b"\0" * 64


def deep_header() -> bytes:
    """Return an array file whose header is a deeply nested expression."""
    header = ("(" * 4000 + ")" * 4000 + "\n").encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


ARRAY_CHANGES: tuple[Callable[[Any], Any], ...] = (
    lambda a: a.astype(float) + 0.7, lambda a: a.astype(str), lambda a: a.astype(object), lambda a: a > 0,
    lambda a: a.astype(complex), lambda a: a.astype(np.uint64) + np.uint64(2**63), lambda a: a.astype(np.int64) + 10**10,
    lambda a: -1 - a.astype(np.int64), lambda a: np.full(a.shape, np.nan), lambda a: np.zeros_like(a),
    lambda a: a.astype(np.int64) + 5, lambda a: a.astype("datetime64[s]"), lambda a: a.astype(float),
)  # fmt: skip
"""Functions from a valid array to one of other values."""

CELLS = (
    "0.5", "nan", "", "-1", "99999999999", "1e400", "9" * 5000, "cat", "é", "\x1b[31m", "True", '"', "0", "1", "[1, 2]",
)  # fmt: skip


def other_cells(path: Path, rng: random.Random) -> None:
    """Change cells, columns or rows of a table of text."""
    lines = [line.split(",") for line in path.read_text().splitlines()] or [[""]]
    for _ in range(rng.randint(1, 4)):
        row = rng.choice(lines) if rng.random() < 0.7 else lines[0]
        position = rng.randrange(len(row))
        if rng.random() < 0.7:
            row[position] = rng.choice(CELLS)
        elif rng.random() < 0.5:
            row.append(rng.choice(CELLS))
        else:
            lines.remove(row) if len(lines) > 1 else row.clear()
            break
    if rng.random() < 0.2:  # all values of the last column
        cell = rng.choice(CELLS)
        lines = [lines[0], *([*row[:-1], cell] for row in lines[1:])]
    path.write_text("\n".join(",".join(row) for row in lines))


def other_columns(path: Path, rng: random.Random) -> None:
    """Change a column of a parquet file."""
    import pandas

    table = pandas.read_parquet(path)
    name = rng.choice(list(table.columns))
    values: list[Any] = [
        0.5, None, "cat", -1, 10**10, [1, 2], {"bytes": b"x", "path": None}, b"\xff", True, float("nan"),
    ]  # fmt: skip
    kind = rng.randrange(4)
    if kind == 0:
        table[name] = [rng.choice(values)] * len(table)
    elif kind == 1:
        table = table.drop(columns=name)
    elif kind == 2:
        table = table.iloc[: rng.choice([0, 1, len(table) // 2])]
    else:
        table = table.rename(columns={name: rng.choice(["other", "index", "label", "observed"])})
    table.to_parquet(path)


JSON_VALUES: tuple[Any, ...] = (
    None, 5, -1, "", "text", [], {}, [1], {"a": 1}, 10**30, 1e308, True, [[1, 2], [3]], "\x1b[31m\u202e", "x" * 5000,
)  # fmt: skip


def other_json(path: Path, rng: random.Random) -> None:
    """Change a value anywhere in a JSON document or in one of several JSON lines."""
    text = path.read_text()
    try:
        lines = [json.loads(text)]
    except ValueError:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    row = rng.randrange(len(lines))
    lines[row] = mutate_tree(lines[row], rng, JSON_VALUES)
    path.write_text("\n".join(json.dumps(line) for line in lines))


def deep_json(path: Path, rng: random.Random) -> None:
    """Write JSON beyond what parsers nest, or a number beyond what they convert."""
    path.write_text(
        rng.choice(["[" * NESTED + "]" * NESTED, '{"a":' * NESTED, "9" * 10_000, "NaN", '{"a": 1, "a": 2}'])
    )


def mutate_tree(tree: Any, rng: random.Random, values: Sequence[Any]) -> Any:
    """Return a tree of mappings and lists in which one node is replaced, deleted, renamed or doubled."""
    if not isinstance(tree, (dict, list)) or not tree or rng.random() < 0.15:
        return rng.choice(values)
    keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key, copied = rng.choice(keys), tree.copy()
    kind = rng.random()
    if kind < 0.12:
        del copied[key]
    elif kind < 0.2 and isinstance(copied, dict):
        copied[rng.choice([1, None, True, "unknown", str(key) + "s", ""])] = copied.pop(key)
    elif kind < 0.25 and isinstance(copied, list):
        copied.append(rng.choice(values))
    else:
        copied[key] = mutate_tree(tree[key], rng, values)
    return copied


def other_export(path: Path, rng: random.Random) -> None:
    """Change an export of runs."""
    mutate_export(path, rng, lambda tree: mutate_tree(tree, rng, JSON_VALUES))


def bomb(path: Path, rng: random.Random) -> None:
    """Replace an image by one whose header claims billions of pixels."""
    path.write_bytes(image_bomb(rng.choice([20_000, 40_000, 2**31 - 1])))


def image_bomb(side: int) -> bytes:
    """Return a PNG file that claims to have side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def other_picture(path: Path, rng: random.Random) -> None:
    """Replace an image by a valid one of another size, mode or format."""
    from PIL import Image

    mode = rng.choice(["L", "1", "P", "RGBA", "I;16", "F", "CMYK"])
    size = rng.choice([(1, 1), (1, 50), (3, 2), (64, 64)])
    picture = Image.new(mode, size)
    picture.save(path, format="TIFF" if mode in ("F", "CMYK", "I;16") else "PNG")


def strange_names(path: Path, rng: random.Random) -> None:
    """Add files and folders with unusual names to a folder."""
    name = rng.choice(
        [b"\xff\xfe.png", b" ", b"a\nb", "é".encode(), b"-rf", b"\x1b[31m", b"x" * 255, b".hidden", b"NaN"]
    )
    target = os.path.join(os.fsencode(path), name)
    if rng.random() < 0.5:
        with open(target, "wb") as file:
            file.write(b"x")
    else:
        os.mkdir(target)


def empty_folder(path: Path, rng: random.Random) -> None:
    """Delete everything in a folder."""
    shutil.rmtree(path)
    path.mkdir()


def one_file_each(path: Path, rng: random.Random) -> None:
    """Leave one file in every folder."""
    for folder in [path, *(child for child in path.rglob("*") if child.is_dir())]:
        for file in sorted(child for child in folder.iterdir() if child.is_file())[1:]:
            file.unlink()


def one_folder(path: Path, rng: random.Random) -> None:
    """Leave one of the lowest folders."""
    lowest = [folder for folder in path.rglob("*") if folder.is_dir() and not any(c.is_dir() for c in folder.iterdir())]
    for folder in sorted(lowest)[1:]:
        shutil.rmtree(folder)


def link_loop(path: Path, rng: random.Random) -> None:
    """Add a link to the folder itself, and one to nothing."""
    (path / "loop").symlink_to(path)
    (path / "broken.png").symlink_to("/proc/nosuch")


FOLDER_MUTATIONS: tuple[Mutation, ...] = (strange_names, empty_folder, one_file_each, one_folder, link_loop)
PICTURE = (bomb, other_picture)
MUTATIONS: dict[str, Sequence[Mutation]] = {
    ".npz": (other_values, other_values, other_shape, drop_member, raw_member, npy_instead),
    ".npy": (npy_instead,),
    ".zip": (other_export, other_export, npy_instead),
    ".csv": (other_cells,),
    ".parquet": (other_columns,),
    ".json": (other_json, other_json, deep_json),
    ".jsonl": (other_json, other_json, deep_json),
    ".png": PICTURE,
    ".jpg": PICTURE,
    ".txt": (other_cells,),
}
"""Mutations that keep the format of a file, by suffix."""
