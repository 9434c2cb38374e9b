"""Votes of annotators on disk: a table with the columns index, annotator and label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noisybench.data.labels.votes import ANONYMOUS, Votes
from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, shown


def write_votes(votes: Votes, path: Path) -> None:
    """Write votes to a parquet file; anonymous ones have no annotator.

    Example:
        >>> import tempfile
        >>> votes = Votes(("ann", "bob"), np.array([0, 0]), np.array([0, 1]), np.array([1, 2]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_votes(votes, Path(folder) / "votes.parquet")
        ...     read_votes(Path(folder) / "votes.parquet", num_classes=3).hash == votes.hash
        True
    """
    import pyarrow
    import pyarrow.parquet

    names = [None if number == ANONYMOUS else votes.annotators[number] for number in votes.annotator.tolist()]
    columns = {"index": votes.index, "annotator": pyarrow.array(names, pyarrow.string()), "label": votes.label}
    # Annotators without a vote occur in no row.
    metadata = {"annotators": "\x1f".join(votes.annotators)}
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), path)


def read_votes(path: Path, num_classes: int) -> Votes:
    """Read votes that `write_votes` has written.

    Raises:
        UserError: the file is damaged, or a vote is for no class.
    """
    import pyarrow.parquet

    check_file(path)
    try:
        table = pyarrow.parquet.read_table(path)
        listed = (table.schema.metadata or {}).get(b"annotators", b"").decode()
        annotators = tuple(listed.split("\x1f")) if listed else ()
        position = {name: number for number, name in enumerate(annotators)}
        index, label = (table[name].to_numpy().astype(np.int64, casting="safe") for name in ("index", "label"))
        numbers = [ANONYMOUS if name is None else position[name] for name in table["annotator"].to_pylist()]
        votes = Votes(annotators, index, np.array(numbers, dtype=np.int64), label)
    except Exception as error:  # readers of columns raise anything on damaged files
        raise UserError(
            f"{shown(path)}: cannot be read ({first_line(error)}); create or copy the label set again"
        ) from None
    if ((label < 0) | (label >= num_classes)).any():
        raise UserError(
            f"{shown(path)}: has labels outside of 0 to {num_classes - 1}; create or copy the label set again"
        )
    return votes
