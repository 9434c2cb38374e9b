"""Slips on the page of a trace."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.parameters import parameter
from noisybench.data.dataset import Split
from noisybench.data.targets import IGNORED, TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_UNKNOWN
from noisybench.data.traces.formats import TraceFormat
from noisybench.noise_models._traces import Noised, TraceNoise, fitted
from noisybench.utils.seeds import Stream

OWN, SLIP, NOBODY = (bytes([each]) for each in (TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_UNKNOWN))
"""Events as bytes."""

Piece = tuple[str, bytes]
"""A part of a text, and the event of each of its characters."""

WORD = re.compile(r"\d+|[^\W\d_]+")


class CotStatic(TraceNoise):
    """Edits finished traces; the rest is still the right computation (Havrilla and Iyer 2024).

    `digit`: each digit of the response is replaced with probability `intensity` by a uniform one, which may be the same;
    `exclude_self` never draws the same. `character`: the same with any character, and one that occurs in the data.
    `token`: the same with whole numbers, by one of as many digits, and words, by another of the trace. `line`: each
    line but the answer is deleted; what comes after the gap counts as wrong. `duplicate`: each line is written twice.
    `both`: digits, then deleted lines.

    `answer`: `corrupted` treats it like the rest, as the authors' code does with digits; `kept` leaves it, as that code does
    with lines; `recomputed` has what follows from the edited lines.
    """

    stream_name = "CotStatic"

    edit: Literal["digit", "character", "token", "line", "duplicate", "both"] = parameter(
        "digit", help="what is edited", always_in_label=True
    )
    answer: Literal["kept", "recomputed", "corrupted"] = parameter(
        "corrupted", help="left, what follows from the edited lines, or edited like these", always_in_label=True
    )
    exclude_self: bool = parameter(False, help="what is replaced is always another one")

    def noised(self, form: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream) -> Noised:
        """Edited responses."""
        targets = split.targets[rows]
        hits = (stream.uniform(*split.targets.shape) < self.intensity)[rows]
        draws = stream.uniform(*split.targets.shape)[rows]
        observed: NDArray[np.uint8] = targets
        events: NDArray[np.uint8] = np.full(targets.shape, TOKEN_CORRECT, dtype=np.uint8)
        if self.edit in ("digit", "character", "both"):
            observed = self._characters(form, targets, hits, draws)
            events[observed != targets] = TOKEN_CORRUPTED
        if self.edit in ("token", "line", "duplicate", "both"):
            # Lines are hit by other numbers than digits: by those from the end on.
            observed, events = self._edited(
                form, observed, hits[:, ::-1] if self.edit == "both" else hits, draws, events
            )
        if self.answer == "recomputed":
            prompts, texts = form.decode(split.inputs[:][rows, 0, 0]), form.decode(observed)
            changed = [form.recompute_answer(*pair) for pair in zip(prompts, texts, strict=True)]
            observed = fitted(form, [*changed], targets.shape[1])
            for row, (text, before) in enumerate(zip(changed, form.decode(targets), strict=True)):
                start = form.step_spans(text)[-1][0]
                own = form.answers_match(form.extract_answer(text), form.extract_answer(before) or "")
                events[row, start : len(text)] = TOKEN_CORRECT if own else TOKEN_CORRUPTED
        return observed, events

    def _characters(
        self, form: TraceFormat, targets: NDArray[np.uint8], hits: NDArray[np.bool_], draws: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Characters replaced by others of their kind."""
        end = form.vocabulary.index(form.end)
        if self.edit == "character":
            kinds = np.setdiff1d(np.unique(targets), [IGNORED, end])
        else:
            kinds = np.array([form.vocabulary.index(each) for each in "0123456789"], dtype=np.uint8)
        chosen = hits & np.isin(targets, kinds)
        if self.answer != "corrupted":
            starts = np.array([form.step_spans(each)[-1][0] for each in form.decode(targets)])
            chosen &= np.arange(targets.shape[1]) < starts[:, None]
        own = np.searchsorted(kinds, targets[chosen])
        if self.exclude_self:
            new = (own + 1 + (draws[chosen] * (len(kinds) - 1)).astype(np.int64)) % len(kinds)
        else:
            new = (draws[chosen] * len(kinds)).astype(np.int64)
        found = targets.copy()
        found[chosen] = kinds[new]
        return found

    def _edited(
        self,
        form: TraceFormat,
        observed: NDArray[np.uint8],
        hits: NDArray[np.bool_],
        draws: NDArray[np.float64],
        events: NDArray[np.uint8],
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Words replaced, or lines deleted or doubled; events go with their characters."""
        length = observed.shape[1]
        texts: list[str | None] = []
        told: list[bytes] = []
        rows = zip(form.decode(observed), events, hits, draws, strict=True)
        for text, row, hit, draw in rows:
            if self.edit == "token":
                pieces = self._words(form, text, hit, draw)
            else:
                pieces = self._lines(form, text, hit.tolist(), row.tobytes())
            new = "".join([piece for piece, _ in pieces])
            texts.append(new)
            fits = len(new) <= length
            told.append(b"".join([event for _, event in pieces]).ljust(length, OWN) if fits else NOBODY * length)
        found = np.frombuffer(b"".join(told), dtype=np.uint8).reshape(len(told), length).copy()
        return fitted(form, texts, length), found

    def _words(self, form: TraceFormat, text: str, hits: NDArray[np.bool_], draws: NDArray[np.float64]) -> list[Piece]:
        """Pieces of a text with some numbers and words replaced."""
        stop = len(text) if self.answer == "corrupted" else form.step_spans(text)[-1][0]
        words = sorted({each for each in WORD.findall(text) if not each.isdigit()})
        pieces: list[Piece] = []
        place = 0
        for each in WORD.finditer(text, 0, stop):
            if not hits[each.start()]:
                continue
            old, draw = each.group(), draws[each.start()]
            choices = 10 ** len(old) if old.isdigit() else len(words)
            own = int(old) if old.isdigit() else words.index(old)
            new = (own + 1 + int(draw * (choices - 1))) % choices if self.exclude_self else int(draw * choices)
            word = f"{new:0{len(old)}d}" if old.isdigit() else words[new]
            before = text[place : each.start()]
            pieces += [(before, OWN * len(before)), (word, (OWN if word == old else SLIP) * len(word))]
            place = each.end()
        return [*pieces, (text[place:], OWN * (len(text) - place))]

    def _lines(self, form: TraceFormat, text: str, hits: list[bool], events: bytes) -> list[Piece]:
        """Lines of a text with some deleted or doubled, and the rest. What comes after a gap begins with a wrong character."""
        lines, tail = form.split_response(text)
        pieces: list[Piece] = []
        separator = form.separator, OWN * len(form.separator)
        place, gap = 0, False
        for line, hit in zip(lines, hits, strict=False):
            own = events[place : place + len(line)]
            place += len(line) + len(form.separator)
            if hit and self.edit != "duplicate":
                gap = True
                continue
            if pieces:
                pieces.append(separator)
            pieces.append((line, SLIP + own[1:] if gap else own))
            gap = False
            if hit:
                pieces += [separator, (line, SLIP * len(line))]
        own = events[len(text) - len(tail) : len(text)]
        return [*pieces, (tail, SLIP + own[1:] if gap else own)]
