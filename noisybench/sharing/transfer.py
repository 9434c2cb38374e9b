"""Push a label set to a place where others find it, and pull one from there."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from noisybench.config.licenses import License
from noisybench.config.registry import list_entries
from noisybench.data.label_sets import label_files
from noisybench.data.label_sets.label_set import SPLITS, LabelSet
from noisybench.data.label_sets.manifest import MANIFEST, read_manifest, write_manifest
from noisybench.errors import UserError
from noisybench.sharing.addresses import HUB, Store, open_store
from noisybench.sharing.card import CardEntry, Statement, card_entry, read_card, render_card
from noisybench.sharing.folder import FolderStore, check_replaceable, new_folder
from noisybench.sharing.index import CARD, DATA_FILES, INDEX, MAX_SMALL, Index, file_digest, make_index, read_index
from noisybench.sharing.licensing import Source, check_license, sources_of
from noisybench.utils.places import check_output_folder, expand_user, read_text, shown

KNOWN = (*DATA_FILES, CARD, INDEX)
"""Names of all files of a published label set."""

MAX_GB = 4.0
"""Largest size of a label set that is pulled, in gigabytes, unless another one is given."""

DAMAGED = "it is damaged, or was just published again: pull once more"

MAX_VOTES = 1000
"""Largest number of votes for each example, by which the size of a table is checked before it is read."""


def push(
    folder: Path, destination: str, license: str, source: str = "", citation: str = "", replace: bool = False
) -> CardEntry:
    """Publish a label set with its card and its index, and return what the card says.

    Args:
        folder: folder of the label set.
        destination: folder, URL of a filesystem of fsspec, or ``hf://datasets/USER/NAME``.
        license: license of the labels by its name in SPDX, or `other` or `unknown`.
        source: where the labels come from, in words.
        citation: publication to cite.
        replace: whether another label set at the destination is replaced.

    Raises:
        UserError: the label set is damaged, the license drops conditions of what it is made from, the destination has other
            files or cannot be reached.
    """
    folder = expand_user(folder)
    labels = label_files.load(folder)
    manifest = read_manifest(folder)
    sources, previous = sources_of(manifest), read_published_card(folder)
    if previous is not None:
        # A copy keeps the statements of its author.
        sources.append(Source("labels as they were published", License(previous.license)))
        source, citation = source or previous.source, citation or previous.citation
    statement = Statement(check_license(license, sources), source, citation)
    entry = card_entry(manifest, statement, sources)
    store = open_store(destination)
    if isinstance(store, FolderStore) and store.folder.absolute() == folder.absolute():
        raise UserError(f"{store.address}: is the folder of the label set itself; choose another destination")
    with tempfile.TemporaryDirectory() as name:
        staging = Path(name)
        _write(folder, manifest, labels, entry, staging, destination)
        names = [name for name in KNOWN if (staging / name).exists()]
        obsolete = _check_destination(store, staging, replace)
        if obsolete is not None:
            store.write(staging, names, obsolete)
    return entry


def pull(
    source: str, folder: Path | None = None, sha256: str | None = None, replace: bool = False, max_gb: float = MAX_GB
) -> Path:
    """Copy a published label set to a folder, and return the folder.

    Every file is compared with its digest, and the labels with their hash, before anything has its final name.

    Args:
        source: folder, URL of a filesystem of fsspec, or ``hf://datasets/USER/NAME``.
        folder: folder to write; by default the last part of the address, in the working folder.
        sha256: hash of the label set that is expected, or its beginning of at least 8 digits.
        replace: whether another label set in the folder is replaced.
        max_gb: largest size of all files together, in gigabytes.

    Raises:
        UserError: there is no label set, it is damaged, too large, or not the expected one, or the folder has other files.
    """
    if sha256 is not None and (not 8 <= len(sha256) <= 64 or set(sha256) - set("0123456789abcdef")):
        raise UserError(f"--sha256: must be 8 to 64 hexadecimal digits in lower case, but got {shown(sha256)}")
    store = open_store(source)
    # A name of dots alone would be a folder above.
    target = expand_user(folder if folder is not None else Path(store.default_name.strip(".") or "labels"))
    with tempfile.TemporaryDirectory() as name:
        index = _fetch_index(store, Path(name))
    if sha256 is not None and not index.label_set.startswith(sha256):
        raise UserError(f"{store.address}: is the label set {index.label_set[:16]}…, but --sha256 is {sha256[:16]}…")
    if index.total_bytes > max_gb * 1e9:
        raise UserError(
            f"{store.address}: has {index.total_bytes / 1e9:.2f} GB, but at most {max_gb:g} GB are allowed; if you trust the "
            f"source, use --max-gb {index.total_bytes / 1e9 + 0.005:.2f}"
        )
    if _is_there(target, index, replace):
        return target
    check_output_folder(target.parent)
    if index.total_bytes > (free := shutil.disk_usage(target.parent).free):
        raise UserError(f"{shown(target)}: needs {index.total_bytes / 1e9:.2f} GB, but {free / 1e9:.2f} GB are free")
    with new_folder(target) as partial:
        _fetch(store, index, partial)
        _verify(partial, index, store.address)
    return target


def read_published_card(folder: Path) -> CardEntry | None:
    """Return what the card of a label set says, if it was published; None for other folders.

    Raises:
        UserError: the card is damaged, or belongs to another label set.
    """
    if not ((folder / INDEX).is_file() and (folder / CARD).is_file()):
        return None
    entry = read_card(read_text(folder / CARD), shown(folder))
    if entry.label_set != read_manifest(folder)["sha256"]:
        raise UserError(f"{shown(folder / CARD)}: belongs to another label set; pull the label set again")
    return entry


def _write(
    folder: Path, manifest: dict[str, Any], labels: LabelSet, entry: CardEntry, staging: Path, destination: str
) -> None:
    """Write the files of a published label set to an empty folder."""
    for name in DATA_FILES:
        if (folder / name).exists() and name != MANIFEST:
            shutil.copyfile(folder / name, staging / name)
    # As `label_files.load`, which prefers arrays to tables, and the first of two tables.
    table = next((folder / name for name in label_files.TABLES if (folder / name).exists()), None)
    if table is not None and table.name != label_files.TABLES[0]:
        label_files.read_stored_table(table).to_parquet(staging / label_files.TABLES[0], index=False)
    write_manifest(staging, _without_local_paths(manifest))
    names = [name for name in DATA_FILES if (staging / name).exists()]
    address = destination if destination.startswith(HUB) else "ADDRESS"
    (staging / CARD).write_text(render_card(entry, manifest, names, address), encoding="utf-8")
    (staging / INDEX).write_bytes(make_index(staging, labels.hash, [*names, CARD]))
    # What is published is what was checked.
    if label_files.load(staging).hash != labels.hash:
        raise UserError(f"{shown(folder)}: has changed while it was read; push it again")


def _without_local_paths(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with the names of the noise model's files alone: folders of this machine concern no one else."""
    noise = manifest["noise"]
    entry = list_entries("noise_models").get(noise["name"])
    paths = set() if entry is None else set(entry.schema.paths())
    parameters = {
        name: Path(value).name if name in paths and isinstance(value, str) else value
        for name, value in noise["parameters"].items()
    }
    return {**manifest, "noise": {**noise, "parameters": parameters}}


def _check_destination(store: Store, staging: Path, replace: bool) -> list[str] | None:
    """Return the files to delete at the destination; None if the same label set is there already.

    Raises:
        UserError: the destination has other files.
    """
    present = store.names()
    if not present:
        return []
    others = sorted(present - set(KNOWN))
    if INDEX in present:
        with tempfile.TemporaryDirectory() as name:
            store.read(INDEX, Path(name) / INDEX, MAX_SMALL)
            if (Path(name) / INDEX).read_bytes() == (staging / INDEX).read_bytes():
                return None
    if others:
        raise UserError(
            f"{store.address}: has other files ({shown(others[0])}), which are not those of a label set; choose another "
            "destination"
        )
    if not replace:
        what = (
            "another label set, or another card" if INDEX in present else "files of a label set, but no index of them"
        )
        raise UserError(f"{store.address}: has {what}; use --replace to replace them")
    # The index first, so that an interrupted copy is no label set.
    return sorted(present, key=lambda name: name != INDEX)


def _fetch_index(store: Store, folder: Path) -> Index:
    try:
        store.read(INDEX, folder / INDEX, MAX_SMALL)
    except FileNotFoundError:
        raise UserError(
            f"{store.address}: no label set is published there ({INDEX} is missing); check the address, or publish one with "
            "`noisybench labels push`"
        ) from None
    if (folder / INDEX).stat().st_size > MAX_SMALL:
        raise UserError(f"{store.address}: {INDEX} is larger than {MAX_SMALL} bytes, so it is no index of a label set")
    return read_index((folder / INDEX).read_bytes(), store.address)


def _fetch(store: Store, index: Index, folder: Path) -> None:
    """Copy all files, and compare each with its size and digest.

    Raises:
        UserError: a file is missing, or another one than that of the index.
    """
    for name, entry in index.files.items():
        path = folder / name
        try:
            store.read(name, path, entry.bytes)
        except FileNotFoundError:
            raise UserError(f"{store.address}: {name} is missing; it must be published again") from None
        size = path.stat().st_size
        if size != entry.bytes:
            relation = f"more than {entry.bytes}" if size > entry.bytes else f"{size} of {entry.bytes}"
            raise UserError(f"{store.address}: {name} has {relation} bytes; {DAMAGED}")
        digest = file_digest(path)
        if digest != entry.sha256:
            raise UserError(
                f"{store.address}: {name} has the SHA-256 {digest[:12]}… instead of {entry.sha256[:12]}…; {DAMAGED}"
            )
    (folder / INDEX).write_bytes((index.model_dump_json(indent=2) + "\n").encode())


def _verify(folder: Path, index: Index, address: str) -> None:
    """Check what was copied: sizes of tables, the labels, their hash and the card.

    Raises:
        UserError: something is damaged or does not belong together.
    """
    try:
        manifest = read_manifest(folder)
        _check_rows(folder, manifest)
        labels = label_files.load(folder)
        card = read_card(read_text(folder / CARD), address)
    except UserError as error:
        # The folder is temporary, so messages name the source.
        problems = [text.replace(shown(folder), address) for text in error.problems]
        raise UserError(*problems) from None
    if not labels.hash == index.label_set == card.label_set:
        raise UserError(
            f"{address}: {INDEX}, {CARD} and {MANIFEST} belong to different label sets; it must be published again"
        )


def _check_rows(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuse tables with more rows than a label set has: a small file can stand for any number of equal rows."""
    import pyarrow
    import pyarrow.parquet

    sizes = manifest["dataset"]["sizes"]
    examples, everything = sum(sizes[name] for name in SPLITS), sum(sizes.values())
    limits = {
        label_files.TABLES[0]: examples,
        label_files.VERIFIED: everything,
        label_files.VOTES: everything * MAX_VOTES,
    }
    for name, limit in limits.items():
        if (folder / name).exists():
            try:
                rows = pyarrow.parquet.read_metadata(folder / name).num_rows
            except (OSError, pyarrow.ArrowException):  # `label_files.load` reports damaged files
                continue
            if rows > limit:
                raise UserError(f"{shown(folder)}/{name}: has {rows} rows, but at most {limit} belong to its dataset")


def _is_there(target: Path, index: Index, replace: bool) -> bool:
    """Return True if the label set is in its folder already.

    Raises:
        UserError: the folder has other files.
    """
    names = FolderStore(target).names()
    if not names:
        return False
    if INDEX in names:
        stored = read_index((target / INDEX).read_bytes(), shown(target))
        if stored == index and _is_intact(target, index):
            return True
    if not replace:
        raise UserError(
            f"{shown(target)}: has other files already; choose another folder with --output, or use --replace"
        )
    check_replaceable(target, KNOWN, "folder with --output")
    return False


def _is_intact(target: Path, index: Index) -> bool:
    for name, entry in index.files.items():
        path = target / name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            return False
        if file_digest(path) != entry.sha256:
            return False
    return True
