"""Labels provided by the user."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Dataset, Split
from noisybench.data.in_memory import NAME_OF_LABELS
from noisybench.data.label_sets import label_files
from noisybench.data.label_sets.label_set import SPLITS, LabelSet, ReplacedImages
from noisybench.data.labels.decisions import ABSENT
from noisybench.data.labels.label_import import ImportedLabels, ImportOptions, import_labels, own_labels, own_targets
from noisybench.data.labels.rows import names_of
from noisybench.data.labels.verification import Verification, merge
from noisybench.data.labels.votes import Votes
from noisybench.data.noise_model import NoiseModel
from noisybench.data.notes import ReadingNote
from noisybench.data.targets import UNKNOWN_TARGET, Targets
from noisybench.errors import UserError
from noisybench.utils.file_listing import Source
from noisybench.utils.places import expand_user, shown
from noisybench.utils.seeds import Stream

MAJORITY, DRAW = "majority", "draw"


class FromFile(NoiseModel):
    """Read observed labels from a table, or a frozen label set from its folder.

    A table (`.csv`, `.tsv` or `.parquet`) has a column `observed`, `label`, `class` or the like with a class name or index
    in each row. A column `index` has rows of the dataset's source, or a column `file` its file names in any order;
    without either there is one row for each training example of the source in its order. Examples whose cell is empty
    have no label and are not trained on. Decisions in the columns `decision` and `new_label`, or `new_mask` for masks, which
    `noisybench audit` writes, change the dataset's labels: verified ones replace them and count as clean, and excluded
    examples are not trained on. Labels of several people in a column `annotator` or in columns such as `annotator_1`, and
    numbers of votes in one column for each class, give one label by `annotators`. A `.npy` file has one label, or one number for
    each class, for each training example in the order of the source.

    A folder written by `noisybench labels create` is checked against its manifest and must belong to the same dataset.
    The dataset's own targets are the clean labels, unless people have verified labels.
    """

    stream_name = "FromFile"
    tasks = ("classification", "segmentation", "chain_of_thought")
    convention = (
        "labels provided by the user; the actual noise rate is measured against verified labels if there are some, and "
        "against the dataset's own targets otherwise"
    )
    requires_clean_labels = False
    fidelity = Fidelity(
        reference="",
        commit="",
        compared="that labels are matched by source row or order, that frozen label sets come back byte by byte, and "
        "that tables with missing, repeated or unknown entries are refused",
    )

    path: Path | None = parameter(
        None, help="Table of labels (.csv, .tsv, .parquet or .npy), or the folder of a label set"
    )
    column: str | list[str] | None = parameter(
        None,
        help="Column with the labels, or one for each annotator (default: `observed`, or the only ones with usual names)",
        access="value",
    )
    key: str | None = parameter(
        None, help="Column with source rows or file names (default: `index`, or one with a usual name)", access="value"
    )
    integer_labels: Literal["auto", "indices", "names"] = parameter(
        "auto", help="Meaning of integers: class indices, names of classes, or the only one that is possible"
    )
    unlabeled: int | str | list[str] | None = parameter(
        None, help="Values that stand for no label, beside empty cells, such as -1 or unknown", access="value"
    )
    soft_labels: Literal["refuse", "argmax"] = parameter(
        "refuse", help="Treatment of class probabilities: refuse them, or use the most probable class"
    )
    annotators: str | None = parameter(
        None,
        help="Observed label of several annotators: `majority` (default), `draw` of one vote, or the name of one annotator",
        access="value",
    )
    ties: Literal["draw", "unlabeled", "refuse"] = parameter(
        "draw", help="Treatment of equally frequent labels in a majority: draw one of them, use no label, or refuse"
    )
    partial: bool = parameter(False, help="Whether examples that the table does not have keep the dataset's labels")
    allow_unknown_files: bool = parameter(
        False, help="Whether rows of files that the dataset does not have are left out"
    )
    use: Literal["verified", "given"] = parameter(
        "verified",
        help="Observed labels where people have verified some: the verified ones, or those that were given before",
    )
    base: LabelSet | None = None
    """Label set that a table of decisions is about; None for the dataset's own labels."""
    decisions_argument: str | None = None
    """Argument that names the table, for messages, if it has to hold decisions; None for `noise.path`."""

    @classmethod
    def example(cls, dataset: Dataset, folder: Path) -> dict[str, Any]:
        """Write a table in which every third example of the source has the next class."""
        observed = np.zeros(dataset.source_size, dtype=np.int64)
        for split in (dataset.train, dataset.validation):
            # Rows of the source that are in neither split keep class 0; they are never used.
            observed[split.index] = (split.targets + (split.index % 3 == 0)) % dataset.num_classes
        (folder / "labels.csv").write_text("\n".join(["observed", *map(str, observed), ""]))
        return {"path": str(folder / "labels.csv")}

    def data_files(self) -> Mapping[str, Source]:
        """Return the table, or the files of a label set."""
        if self.path is None or not expand_user(self.path).is_dir():
            return super().data_files()
        return label_files.stored_files(expand_user(self.path))

    def corrupt_labels(self, dataset: Dataset, split: Split, stream: Stream) -> Targets:
        """Return the labels of the split from the file."""
        if self.path is None:
            raise UserError("noise.path: set the file or folder with the labels, e.g. noise.path=labels.csv")
        path = expand_user(self.path)
        if path.is_dir():
            labels = self._read_label_set(path, dataset, split)
            return self._as_given(labels, self._label_set.verification, dataset, split)
        if dataset.trace_format is not None:
            raise UserError(
                "noise.path: traces are read from a folder that `noisybench labels create` has written; provide other traces "
                "with dataset=trace_file"
            )
        imported = self._imported(dataset)
        labels = self._select(imported, dataset, split, stream)
        return self._as_given(labels, self.verification(dataset), dataset, split)

    def _as_given(self, labels: Targets, verification: Verification | None, dataset: Dataset, split: Split) -> Targets:
        """Return labels before they were verified, if the user asks for them."""
        if self.use == "verified" or verification is None:
            return labels
        return verification.given("train" if split is dataset.train else "validation", split, labels)

    def replace_images(self, dataset: Dataset, split: Split) -> ReplacedImages | None:
        """Return the replaced images of a frozen label set."""
        if not self._is_label_set:
            return None
        return self._label_set.replaced.get("train" if split is dataset.train else "validation")

    def error_spans(self, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.uint8] | None:
        """Return the error spans of a frozen label set of traces."""
        if dataset.trace_format is None:
            return None
        return self._label_set.error_spans.get("train" if split is dataset.train else "validation")

    def votes(self, dataset: Dataset) -> Votes | None:
        """Return the votes on the training and validation examples, if several annotators labeled them."""
        if self._is_label_set:
            return self._label_set.votes
        votes = self._imported(dataset).votes
        return None if votes is None else votes.of_examples(_used_rows(dataset))

    def verification(self, dataset: Dataset) -> Verification | None:
        """Return the decisions of a table, with earlier ones of the label set that it is about, or of a label set."""
        if self._is_label_set:
            return self._label_set.verification
        decided = self._imported(dataset).verification
        return decided if decided is None or self.base is None else merge(self.base.verification, decided)

    def source_info(self, dataset: Dataset) -> dict[str, Any]:
        """Return the agreement of the annotators, if there are several."""
        if self._is_label_set:
            details: dict[str, Any] = self._label_set.manifest["noise"]["details"]
            return {name: details[name] for name in ("agreement", "given") if name in details}
        votes = self.votes(dataset)
        details = {} if votes is None else {"agreement": votes.agreement(dataset.num_classes)}
        if self.base is not None:
            details["given"] = {"sha256": self.base.hash, "noise": self.base.manifest["noise"]}
        return details

    def notes(self, dataset: Dataset) -> tuple[ReadingNote, ...]:
        """Return what was converted, left out or kept."""
        if self._is_label_set:
            return ()
        imported, used = self._imported(dataset), _used_rows(dataset)
        notes = list(imported.notes)
        if imported.votes is not None:
            notes += self._vote_notes(imported.votes.of_examples(used), dataset)
        splits = (dataset.train, dataset.validation)
        labels = [self.corrupt_labels(dataset, split, self.stream(dataset, split)) for split in splits]
        annotated = [dataset.target_kind.is_annotated(observed) for observed in labels]
        unlabeled = np.concatenate([split.index[~mask] for split, mask in zip(splits, annotated, strict=True)])
        if len(unlabeled):
            excluded = imported.verification is not None
            text = f"Examples {'that were excluded' if excluded else 'without a label'} are not trained on"
            notes.append(_note("unlabeled", text, np.sort(unlabeled), dataset))
        kept = used[~imported.listed[used]]
        if len(kept) and self.partial:
            text = "Examples that the table does not have keep their labels"
            notes.append(ReadingNote("kept_labels", text, len(kept)))
        return tuple(notes)

    @property
    def requires_inputs(self) -> bool:
        """True for a frozen label set, unless it was made from labels alone."""
        return self._is_label_set and self._label_set.manifest["dataset"]["name"] != NAME_OF_LABELS

    @property
    def _is_label_set(self) -> bool:
        return self.path is not None and expand_user(self.path).is_dir()

    @functools.cached_property
    def _label_set(self) -> LabelSet:
        """Frozen label set of the folder, read once."""
        assert self.path is not None
        return label_files.load(expand_user(self.path))

    def _read_label_set(self, folder: Path, dataset: Dataset, split: Split) -> Targets:
        labels = self._label_set
        # The hash covers the splits, so equal hashes mean that the rows of both are the same examples.
        expected = labels.manifest["dataset"]["sha256"]
        if expected != dataset.hash:
            raise UserError(
                f"noise.path: the label set in {folder} belongs to the dataset {expected[:12]}…, but this one is "
                f"{dataset.hash[:12]}… (different files or splits); check the dataset's parameters"
            )
        return labels.observed("train" if split is dataset.train else "validation")

    def _imported(self, dataset: Dataset) -> ImportedLabels:
        """Return the labels of the table, which is read once for a dataset."""
        if self._read is None or self._read[0] is not dataset:
            assert self.path is not None
            given = None if self.base is None else _labels_of(self.base, dataset)
            self._read = dataset, import_labels(expand_user(self.path), dataset, self._options(), given)
        return self._read[1]

    _read: tuple[Dataset, ImportedLabels] | None = None

    def _options(self) -> ImportOptions:
        values = self.unlabeled if isinstance(self.unlabeled, list) else [self.unlabeled]
        return ImportOptions(
            column=self.column if isinstance(self.column, str) else None,
            annotator_columns=tuple(self.column) if isinstance(self.column, list) else (),
            key=self.key,
            integer_labels=self.integer_labels,
            unlabeled=tuple(str(value) for value in values if value is not None),
            soft_labels=self.soft_labels,
            annotators=self.annotators,
            partial=self.partial,
            allow_unknown_files=self.allow_unknown_files,
            decisions_argument=self.decisions_argument,
        )

    def _select(self, imported: ImportedLabels, dataset: Dataset, split: Split, stream: Stream) -> Targets:
        """Return the labels of a split; every example needs a row, or keeps its own label."""
        if imported.verification is not None:
            name = "train" if split is dataset.train else "validation"
            given = own_targets(split) if self.base is None else self.base.observed(name)
            return imported.verification.observed(name, split, given)
        if imported.votes is not None:
            labels = self._choose(imported.votes, dataset, split, stream)
            labels[~imported.listed[split.index]] = ABSENT
        else:
            assert imported.observed is not None
            labels = imported.observed[split.index]
        absent = np.flatnonzero(labels == ABSENT)
        if len(absent) and not self.partial:
            assert self.path is not None
            first = names_of(split.index[absent[:1]], dataset.source_names)[0]
            raise UserError(
                f"noise.path: {shown(self.path)} has labels of {int(imported.listed.sum())} examples, but none for {first} "
                f"({len(absent)} of {len(split)} examples of the split are missing); every training and validation example "
                "needs one, or set noise.partial=true to keep the dataset's own labels where there is none"
            )
        labels[absent] = own_labels(dataset)[split.index[absent]]
        return labels

    def _choose(self, votes: Votes, dataset: Dataset, split: Split, stream: Stream) -> NDArray[np.int64]:
        if self.annotators not in (None, MAJORITY, DRAW):
            return votes.by_annotator(split.index, self.annotators)
        uniform = stream.uniform(len(split))
        if self.annotators == DRAW:
            return votes.draw(split.index, uniform)
        labels, tied = votes.majority(split.index, dataset.num_classes, uniform)
        if self.ties == "refuse" and tied.any():
            first = names_of(split.index[tied], dataset.source_names)[0]
            raise UserError(
                f"noise.ties: {int(tied.sum())} examples of {len(split)} have several most frequent labels, the first is "
                f"{first}; add votes, or set noise.ties=draw or noise.ties=unlabeled"
            )
        if self.ties == "unlabeled":
            labels[tied] = UNKNOWN_TARGET
        return labels

    def _vote_notes(self, votes: Votes, dataset: Dataset) -> list[ReadingNote]:
        who = f"{len(votes.annotators)} annotators" if votes.annotators else "several annotators"
        if self.annotators not in (None, MAJORITY):
            what = "one vote that is drawn" if self.annotators == DRAW else f"that of annotator `{self.annotators}`"
            return [ReadingNote("votes", f"The label is {what} of {who}", len(votes.label))]
        rows = np.unique(votes.index)
        notes = [ReadingNote("votes", f"The label is the majority of the votes of {who}", len(votes.label))]
        tied = rows[votes.majority(rows, dataset.num_classes, np.zeros(len(rows)))[1]]
        if len(tied):
            treatment = "have no label" if self.ties == "unlabeled" else "got one of them at random"
            text = f"Examples with several most frequent labels {treatment} (noise.ties={self.ties})"
            notes.append(_note("tied_votes", text, tied, dataset))
        return notes


def _note(kind: str, text: str, rows: NDArray[np.int64], dataset: Dataset) -> ReadingNote:
    return ReadingNote(kind, text, len(rows), tuple(names_of(rows, dataset.source_names)))


def _labels_of(base: LabelSet, dataset: Dataset) -> dict[str, Targets]:
    """Return the observed labels of a label set, and those of the test split that it has verified."""
    labels: dict[str, Targets] = {name: base.observed(name) for name in SPLITS}
    if base.verification is not None:
        labels["test"] = base.verification.observed("test", dataset.test, dataset.test.targets)
    return labels


def _used_rows(dataset: Dataset) -> NDArray[np.int64]:
    """Return the source rows of the training and validation examples, ascending."""
    return np.sort(np.concatenate([dataset.train.index, dataset.validation.index]))
