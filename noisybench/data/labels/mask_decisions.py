"""Decisions of people about masks: the predicted mask, the given one, an exclusion or nothing for each image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noisybench.data.labels.decision_rows import column_cells
from noisybench.data.labels.tables import LabelTable
from noisybench.data.labels.verification import ACCEPT, EXCLUDE, KEEP, RECORDED, UNSURE
from noisybench.data.masks.packed import mask_digest, unpack_mask
from noisybench.data.targets import IGNORED, Targets
from noisybench.errors import UserError, nearest, show

DECISION, NEW_MASK, GIVEN = "decision", "new_mask", "given"

MASK_DECISIONS = (ACCEPT, KEEP, EXCLUDE, UNSURE)
"""Values of the column `decision` of a table about masks."""


class Decided(NamedTuple):
    """Decisions of the M rows of a table.

    Attributes:
        given: labels that people saw.
        verified: labels after the decisions; without a label for excluded examples.
        decision: (M,) positions in `RECORDED`, or `UNDECIDED`.
        unsure: (M,) mask of those about which people were unsure.
    """

    given: Targets
    verified: Targets
    decision: NDArray[np.int64]
    unsure: NDArray[np.bool_]


UNDECIDED = -1
"""Decision of rows without one, and of those that change nothing."""


def resolve_masks(
    table: LabelTable, given: NDArray[np.uint8], is_known: NDArray[np.bool_], num_classes: int
) -> Decided:
    """Return the mask after the decision of each row.

    Args:
        table: columns `decision`, `new_mask`, or both, as the page of an audit writes them; and `given` with the digest of
            the mask that people saw.
        given: (M, H, W) masks of the examples.
        is_known: (M,) False for examples of no split, whose decisions have no effect.
        num_classes: number of classes.

    Raises:
        UserError: a decision is unknown, contradicts itself, or is about another mask.
    """
    words, texts, digests = (column_cells(table, name)[1] for name in (DECISION, NEW_MASK, GIVEN))
    verified = np.full_like(given, IGNORED)
    decision, unsure = np.full(len(table), UNDECIDED, dtype=np.int64), np.zeros(len(table), dtype=bool)
    problems: list[tuple[int, str]] = []
    for row, (word, text, digest) in enumerate(zip(words, texts, digests, strict=True)):
        if not (word or text) or not is_known[row]:
            continue
        try:
            decided, mask = _decide(word.casefold(), text, digest, given[row], num_classes)
        except UserError as error:
            problems.append((row, error.problems[0]))
            continue
        unsure[row] = decided == UNSURE
        if decided != UNSURE:
            decision[row], verified[row] = RECORDED.index(decided), mask
    if problems:
        row, problem = problems[0]
        more = f" ({len(problems) - 1} more rows likewise)" if len(problems) > 1 else ""
        raise UserError(f"{table.option}: {table.describe_row(row)}: {problem}{more}")
    return Decided(given, verified, decision, unsure)


def _decide(
    word: str, text: str, digest: str, given: NDArray[np.uint8], num_classes: int
) -> tuple[str, NDArray[np.uint8]]:
    """Return the decision of a row, and its mask."""
    if word and word not in MASK_DECISIONS:
        hint = nearest(word, MASK_DECISIONS)
        raise UserError(
            f"unknown decision {show(word, quotes=False)}; {hint}; masks that people have drawn again are read with "
            "noise=from_folder"
        )
    if digest and digest != mask_digest(given):
        raise UserError(
            "decides about another mask than that of the dataset; it belongs to an audit of other masks or of another size: "
            "give the dataset's parameters and the noise of that audit, such as dataset.size=128 or noise=from_file "
            "noise.path=FOLDER"
        )
    mask = None if not text else _read_mask(text, given, num_classes)
    if not word:
        assert mask is not None
        word = KEEP if np.array_equal(mask, given) else ACCEPT
    if word == ACCEPT:
        if mask is None:
            raise UserError(
                f"accepts a predicted mask, but has none; the page of the audit writes it into `{NEW_MASK}`"
            )
        return word, mask
    if mask is not None and not (word == KEEP and np.array_equal(mask, given)):
        raise UserError(f"has the decision {word}, but also a `{NEW_MASK}`; leave one of them empty")
    return word, given if word == KEEP else np.full_like(given, IGNORED)


def _read_mask(text: str, given: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    try:
        mask = unpack_mask(text, given.shape)
    except UserError as error:
        raise UserError(f"`{NEW_MASK}` {error.problems[0]}") from None
    highest = int(mask.max(initial=0, where=mask != IGNORED))
    if highest >= num_classes or not (mask != IGNORED).any():
        raise UserError(
            f"`{NEW_MASK}` has classes up to {highest}, but there are {num_classes}"
            if highest >= num_classes
            else f"`{NEW_MASK}` has no labeled pixel; write {EXCLUDE}"
        )
    return mask
