"""Images in parquet files: the columns that hold images, labels and groups, and their rows, one row group at a time."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisybench.data.images.cache import CHUNK_SIZE, DecodedImages, OnError, check_unchanged, decode_cached, fingerprint
from noisybench.data.images.decoding import DEFAULT_RULES, DecodingRules, EncodedImage
from noisybench.data.parquet.columns import fields_of, image_column, is_text, schema_difference
from noisybench.errors import UserError
from noisybench.utils.file_listing import FileList
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, shown
from noisybench.utils.text import printable

_BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "Qk0", "Qk1")
"""Beginnings of PNG, JPEG, GIF, WebP, TIFF and BMP files in Base64."""


@dataclass(frozen=True)
class ParquetImages:
    """Parquet files of one schema with a column of images.

    Attributes:
        files: the files in their order.
        location: name of the parameter that holds their path, for messages.
        schema: Arrow schema that all files share.
        image: name of the column with the images.
        num_rows: number of rows of each file.
    """

    files: tuple[Path, ...]
    location: str
    schema: Any
    image: str
    num_rows: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.num_rows)

    def read_columns(self, names: Sequence[str]) -> Any:
        """Read columns of all files whole, as an Arrow table; the images may exceed the memory, others do not.

        Raises:
            UserError: a file is damaged.
        """
        import pyarrow

        tables = [_guarded(self.location, file, lambda opened: opened.read(columns=list(names))) for file in self.files]
        return pyarrow.concat_tables(tables, promote_options="default")

    def references(self) -> tuple[FileList, ...]:
        """Return the image files to which rows without embedded bytes refer, those of each file that has such rows.

        Relative paths are relative to the folder of the parquet file.
        """
        found = [(file, _guarded(self.location, file, self._references)) for file in self.files]
        return tuple(FileList(file.parent, tuple(dict.fromkeys(paths))) for file, paths in found if paths)

    def names(self) -> tuple[str, ...]:
        """Return the file name that each row gives for its image; nothing unless all of them differ."""
        paths: list[str | None] = []
        for file in self.files:
            paths += _guarded(self.location, file, self._paths)
        if not all(paths):
            return ()
        # Folders of the machine that wrote an absolute path say nothing about the image.
        names = tuple(printable(os.path.basename(path) if os.path.isabs(path) else path) for path in paths if path)
        return names if len(set(names)) == len(names) else ()

    def decode(
        self,
        size: int | None,
        on_error: OnError = "raise",
        rows: NDArray[np.int64] | None = None,
        rules: DecodingRules = DEFAULT_RULES,
    ) -> DecodedImages:
        """Decode the images; later calls map the decoded images.

        Args:
            size: see `noisybench.data.images.decoding.decode`.
            on_error: treatment of images that cannot be decoded.
            rows: (K,) sorted rows to decode; None for all.
            rules: choices that the images do not make.

        Raises:
            UserError: images cannot be decoded, or a file is damaged.
        """
        sources = [*self.files, *(files.path / name for files in self.references() for name in files.names)]
        key = fingerprint(sources)
        wanted = np.ones(len(self), dtype=bool)
        if rows is not None:
            wanted[:] = False
            wanted[rows] = True
        choice = "" if wanted.all() else hashlib.sha256(wanted.tobytes()).hexdigest()

        def images() -> Iterator[EncodedImage]:
            start = 0
            for file, count in zip(self.files, self.num_rows, strict=True):
                yield from self._images(file, wanted[start : start + count])
                start += count
            check_unchanged(sources, key)

        positions = np.flatnonzero(wanted)
        starts = np.cumsum([0, *self.num_rows])

        def name_of(position: int) -> str:
            file = int(np.searchsorted(starts, positions[position], "right")) - 1
            return f"{self.files[file].name}, row {positions[position] - starts[file]}"

        cache_key = f"{key} {self.image} {choice}"
        return decode_cached(len(positions), images, size, cache_key, on_error, rules, name_of)

    def _images(self, file: Path, wanted: NDArray[np.bool_]) -> Iterator[EncodedImage]:
        """Read the wanted images of one file, in batches."""
        import pyarrow.parquet

        row = 0
        try:
            with pyarrow.parquet.ParquetFile(file) as opened:
                for batch in opened.iter_batches(batch_size=CHUNK_SIZE, columns=[self.image]):
                    data, paths = _contents(batch.column(0))
                    for position in range(batch.num_rows):
                        if wanted[row]:
                            encoded = None if data is None else data[position].as_py()
                            path = None if paths is None else paths[position].as_py()
                            yield _encoded_image(file, row, encoded, path)
                        row += 1
        except (UserError, MemoryError):
            raise
        except Exception as error:  # readers of columns raise anything on damaged files
            raise _damaged(self.location, file, error) from None

    def _paths(self, opened: Any) -> list[str | None]:
        """Return the path in each row of a file."""
        kind = opened.schema_arrow.field(self.image).type
        if is_text(kind) and not self._is_base64(opened):
            return list(opened.read(columns=[self.image]).column(0).to_pylist())
        if "path" not in fields_of(kind):
            return [None]
        table = opened.read(columns=[f"{self.image}.path"])
        return [path for chunk in table.column(0).chunks for path in chunk.field("path").to_pylist()]

    def _is_base64(self, opened: Any) -> bool:
        """Return True if the first text of a column is an encoded image and no name of a file."""
        first = next(opened.iter_batches(batch_size=1, columns=[self.image]), None)
        return first is not None and _from_base64(first.column(0)[0].as_py()) is not None

    def _references(self, opened: Any) -> list[str]:
        """Return the paths in the rows of a file that hold no bytes."""
        import pyarrow.types as types

        kind = opened.schema_arrow.field(self.image).type
        if is_text(kind) and not self._is_base64(opened):
            return [path for path in opened.read(columns=[self.image]).column(0).to_pylist() if path]
        if not types.is_struct(kind) or "path" not in fields_of(kind):
            return []
        if "bytes" in fields_of(kind) and _nulls(opened, f"{self.image}.bytes") == 0:
            return []
        paths: list[str] = []
        for batch in opened.iter_batches(batch_size=CHUNK_SIZE, columns=[self.image]):
            data, names = _contents(batch.column(0))
            missing = np.ones(batch.num_rows, bool) if data is None else np.asarray(data.is_null(), dtype=bool)
            paths += [path for path, absent in zip(names.to_pylist(), missing, strict=True) if absent and path]
        return paths


def join_parquet_images(parts: Sequence[ParquetImages]) -> ParquetImages:
    """Return the rows of several splits as one, in their order.

    Raises:
        UserError: their images are in columns of different names.
    """
    first, *others = parts
    for other in others:
        if other.image != first.image:
            raise UserError(
                f"{other.location}: the images are in the column `{other.image}`, but in `{first.image}` of "
                f"{shown(first.files[0])}; rename one of them"
            )
    return replace(
        first,
        files=tuple(file for part in parts for file in part.files),
        num_rows=tuple(count for part in parts for count in part.num_rows),
    )


def open_parquet_images(files: Sequence[Path], location: str, image: str | None = None) -> ParquetImages:
    """Open parquet files and find the column of images by its type.

    Images are structs with ``bytes`` or ``path``, as the Hugging Face library ``datasets`` writes them, binary values, or
    text: names of image files, Base64 or data URLs.

    Args:
        files: files of one schema.
        location: name of the parameter that holds their path, for messages.
        image: name of the column; None to find it.

    Raises:
        UserError: a file is missing or damaged, schemas differ, or no column or several could be the images.
    """
    schemas, counts = [], []
    for file in files:
        check_file(file, location)
        schema, count = _guarded(location, file, lambda opened: (opened.schema_arrow, opened.metadata.num_rows))
        schemas.append(schema)
        counts.append(count)
        repeated = [name for name in schema.names if schema.names.count(name) > 1]
        if repeated:
            raise UserError(f"{location}: {shown(file)} has several columns `{repeated[0]}`; rename all but one")
        if difference := schema_difference(schemas[0], schema):
            raise UserError(
                f"{location}: {shown(file)} has other columns than {shown(files[0])}: {difference}; all files of a split need "
                "the same columns and class names"
            )
    column = image_column(schemas[0], f"{location}: {shown(files[0])}", image)
    return ParquetImages(tuple(files), location, schemas[0], column, tuple(counts))


def _contents(column: Any) -> tuple[Any, Any]:
    """Return the bytes and the paths of a batch of images; None for what the column lacks."""
    import pyarrow.compute
    import pyarrow.types as types

    if not types.is_struct(column.type):
        return (None, column) if is_text(column.type) else (column, None)
    fields = fields_of(column.type)
    data, paths = (pyarrow.compute.struct_field(column, name) if name in fields else None for name in ("bytes", "path"))
    return data, paths


def _encoded_image(file: Path, row: int, data: bytes | None, path: str | None) -> EncodedImage:
    origin = f"{file}, row {row}"
    data = _from_base64(path) if data is None else data
    if data is not None or not path:
        return origin, data or b""
    source = file.parent / path
    return f"{origin}: {source}", source.read_bytes() if source.is_file() else b""


def _from_base64(text: str | None) -> bytes | None:
    """Return the bytes of an image that is text in Base64 or a data URL; None for names of files.

    Example:
        >>> _from_base64("data:image/gif;base64,R0lGODlh"), _from_base64("cats/R0lGODlh.gif")
        (b'GIF89a', None)
    """
    head, comma, encoded = (text or "").rpartition(",")
    if not (head.startswith("data:image/") if comma else encoded.startswith(_BASE64_STARTS) and "." not in encoded):
        return None
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        return None


def _nulls(opened: Any, leaf: str) -> int | None:
    """Return the number of missing values by the statistics of a file; None if it has none."""
    count = 0
    for group in range(opened.metadata.num_row_groups):
        row_group = opened.metadata.row_group(group)
        columns = [row_group.column(number) for number in range(row_group.num_columns)]
        chunk = next((column for column in columns if column.path_in_schema == leaf), None)
        if chunk is None or chunk.statistics is None or not chunk.statistics.has_null_count:
            return None
        count += chunk.statistics.null_count
    return count


def _guarded(location: str, file: Path, read: Any) -> Any:
    """Return the value of a function of an opened file.

    Raises:
        UserError: the file is damaged.
    """
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            return read(opened)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # readers of columns raise anything on damaged or unusual files
        raise _damaged(location, file, error) from None


def _damaged(location: str, file: Path, error: Exception) -> UserError:
    return UserError(
        f"{location}: {shown(file)} is damaged or not a parquet file of images ({first_line(error)}); download it again"
    )
