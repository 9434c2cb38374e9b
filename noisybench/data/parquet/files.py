"""Parquet files of one dataset: a file, a list, a pattern, or a folder of shards, sorted by split and number."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from noisybench.data.splits.names import ROLES, Role, find_splits
from noisybench.errors import UserError
from noisybench.utils.file_listing import list_files
from noisybench.utils.places import expand_user, shown

SUFFIXES = (".parquet", ".pq")
"""Suffixes of parquet files in a folder."""

_SHARD = re.compile(r"(?P<stem>.*?)[ _.-]?(?P<number>\d+)-of-(?P<total>\d+)(?:-[0-9a-f]{8,})?", re.IGNORECASE)
_PART = re.compile(r"(?P<stem>.*?)[ _.-]?(?P<number>\d+)(?:-[0-9a-f-]{8,}.*)?", re.IGNORECASE)

MAX_LISTED = 10
"""Largest number of files that a message lists."""

MAX_SHARDS = 100_000
"""Largest number of shards that are looked for."""


@dataclass(frozen=True)
class ParquetFolder:
    """Parquet files of a folder.

    Attributes:
        splits: files of each split in the order of their numbers; all are for training if no name stands for a split.
        others: files whose names stand for no split, if others do.
        has_names: True if names stand for splits.
    """

    splits: Mapping[Role, tuple[Path, ...]] = field(default_factory=dict)
    others: tuple[Path, ...] = ()
    has_names: bool = True


def find_parquet(value: Path | Sequence[Path], location: str, role: Role = "train") -> tuple[Path, ...]:
    """Return the parquet files of one split.

    Args:
        value: a file, a pattern such as ``data/train-*.parquet``, a folder, or a list of those.
        location: name of the parameter for messages.
        role: split whose files a folder of several splits gives.

    Raises:
        UserError: there are no files, a shard is missing, or a file is listed twice.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("part-10", "part-9"):
        ...     (folder / f"{name}.parquet").touch()
        >>> [file.name for file in find_parquet(folder / "*.parquet", "dataset.train")]
        ['part-9.parquet', 'part-10.parquet']
    """
    if not isinstance(value, Path):
        files = [file for each in value for file in find_parquet(each, location, role)]
        repeated = sorted({file for file in files if files.count(file) > 1})
        if repeated or not files:
            problem = f"{shown(repeated[0])} is listed twice" if repeated else "the list is empty"
            raise UserError(f"{location}: {problem}; list each file once")
        return tuple(files)
    path = expand_user(value)
    if path.is_dir():
        folder = split_folder(path, location)
        if not folder.has_names:
            return folder.splits["train"]
        if role not in folder.splits:
            names = ", ".join(folder.splits)
            raise UserError(f"{location}: {shown(path)} has files of the splits {names}, but none of {role}")
        return folder.splits[role]
    if glob.has_magic(str(path)) and not path.exists():
        files = _in_order(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not files:
            raise UserError(f"{location}: no file has a name like {shown(path)}; correct the pattern, or name a folder")
        check_shards(files, location)
        return tuple(files)
    return (path,)


def split_folder(folder: Path, location: str) -> ParquetFolder:
    """Sort the parquet files below a folder by split: by their names, else by the names of the folders they are in.

    Args:
        folder: such as a dataset of the Hugging Face Hub.
        location: name of the parameter for messages.

    Raises:
        UserError: there are no files, shards are missing, two names stand for one split, or files of one split are in
            several folders.
    """
    if not folder.is_dir():
        raise UserError(f"{location}: {shown(folder)}: folder not found")
    files = _in_order(list_files(folder, SUFFIXES))
    if not files:
        raise UserError(f"{location}: {shown(folder)} contains no parquet files ({', '.join(SUFFIXES)})")
    where = f"{location}: {shown(folder)}"
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_group(file), []).append(file)
    roles = find_splits(groups, where)
    by_file = bool(roles)
    if not roles:
        groups = {}
        for file in files:
            groups.setdefault(file.relative_to(folder).parts[0] if file.parent != folder else "", []).append(file)
        roles = find_splits(groups, where)
    if not roles:
        check_shards(files, location)
        return ParquetFolder({"train": tuple(files)}, has_names=False)
    splits = {
        role: tuple(file for name in roles.names[role] for file in groups[name])
        for role in ROLES
        if role in roles.names
    }
    for role, members in splits.items():
        check_shards(members, location)
        parents = sorted({str(file.parent.relative_to(folder)) for file in members})
        if by_file and len(parents) > 1:
            raise UserError(
                f"{where} has {role} files in the folders {', '.join(parents[:MAX_LISTED])}, probably of several "
                "configurations; name one of these folders"
            )
    return ParquetFolder(splits, tuple(file for name in roles.others for file in groups[name]))


def check_shards(files: Sequence[Path], location: str) -> None:
    """Check that no shard of files such as ``train-00000-of-00003.parquet`` is missing.

    Raises:
        UserError: the message names the missing shards.

    Example:
        >>> check_shards([Path("a-0-of-3.parquet"), Path("a-2-of-3.parquet")], "dataset.train")
        Traceback (most recent call last):
        noisybench.errors.UserError: dataset.train: 1 of 3 shards is missing: a-1-of-3.parquet; download it, or list ...
    """
    missing = missing_shards(files, location)
    if missing:
        more = f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
        raise UserError(
            f"{location}: {len(missing)} of {len(files) + len(missing)} shards {'is' if len(missing) == 1 else 'are'} missing: "
            f"{', '.join(missing[:MAX_LISTED])}{more}; download {'it' if len(missing) == 1 else 'them'}, or list the files to "
            "use"
        )


def missing_shards(files: Sequence[Path], location: str) -> list[str]:
    """Return the names of the shards that are missing among files.

    Raises:
        UserError: the files are shards of two versions of a set.

    Example:
        >>> missing_shards([Path("train-00001-of-00002.parquet"), Path("more.parquet")], "dataset.train")
        ['train-00000-of-00002.parquet']
    """
    sets: dict[tuple[Path, str], dict[int, tuple[int, Path]]] = {}
    for file in files:
        match = _SHARD.fullmatch(file.stem)
        if match is None:
            continue
        members = sets.setdefault((file.parent, match["stem"]), {})
        number, total = int(match["number"]), int(match["total"])
        versions = [other for other_total, other in members.values() if other_total != total]
        versions += [members[number][1]] if number in members else []
        if versions:
            raise UserError(
                f"{location}: {versions[0].name} and {file.name} are shards of two versions of one set; remove one version"
            )
        members[number] = total, file
    missing = []
    for members in sets.values():
        total, file = next(iter(members.values()))
        missing += [_renamed(file, number) for number in range(min(total, MAX_SHARDS)) if number not in members]
    return missing


def _renamed(file: Path, number: int) -> str:
    """Return the name of another shard."""
    match = _SHARD.fullmatch(file.stem)
    assert match
    start, end = match.span("number")
    digits = f"{number:0{end - start}}"
    stem = file.stem[:start] + digits + file.stem[end : match.end("total")]
    return stem + file.suffix


def _group(file: Path) -> str:
    """Return the name of a file without the number of its shard; that of its folder if nothing is left."""
    match = _SHARD.fullmatch(file.stem) or _PART.fullmatch(file.stem)
    return (match["stem"] if match else file.stem) or file.parent.name


def _in_order(files: Iterable[Path]) -> list[Path]:
    """Return files sorted by their names, numbers in them by their value."""
    return sorted(
        files, key=lambda file: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in _digits(file)]
    )


def _digits(file: Path) -> list[str]:
    return re.split(r"([0-9]+)", str(file))
