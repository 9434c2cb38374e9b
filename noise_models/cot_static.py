"""Errors in the text of a finished trace."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from noisybench.config.fidelity import Deviation, Fidelity
from noisybench.config.parameters import parameter
from noisybench.data.dataset import Split
from noisybench.data.targets import IGNORED, TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_UNKNOWN, Tokens
from noisybench.data.traces.formats import TraceFormat
from noisybench.noise_models._traces import NoisyResponses, TraceNoise, encode_or_cut
from noisybench.utils.seeds import Stream

CORRECT_BYTE, CORRUPTED_BYTE, UNKNOWN_BYTE = (
    bytes([status]) for status in (TOKEN_CORRECT, TOKEN_CORRUPTED, TOKEN_UNKNOWN)
)
"""Token status as one byte per character, which is joined and sliced along with the text."""

Piece = tuple[str, bytes]
"""A part of a text, and the status of each of its characters."""

WORD = re.compile(r"\d+|[^\W\d_]+")


class CotStatic(TraceNoise):
    """Edit finished traces, so that the rest of the computation stays correct (Havrilla and Iyer 2024).

    `digit` replaces each digit of the response with probability `intensity` by a uniform digit, which may be the same one
    unless `exclude_self` is set. `character` replaces any character by another one of the data. `token` replaces whole
    numbers by numbers with as many digits, and words by words of the same trace. `line` deletes lines except the answer;
    the character after the gap counts as corrupted. `duplicate` repeats lines. `both` replaces digits, then deletes lines.

    `answer`: `corrupted` edits it like the rest, as the authors' code does with digits; `kept` leaves it unchanged, as that
    code does with lines; `recomputed` replaces it by the answer that follows from the edited lines.
    """

    fidelity = Fidelity(
        reference="https://github.com/Dahoas/transformer_arithmetic",
        commit="7e5fe0a667cd40d6ce2c346ed21610e0b6254595",
        license="not stated",
        compared="digits replaced in, and lines deleted from, a trace of 9 lines, 12 times with given random numbers",
        difference="no character differs",
        golden=("cot_static",),
        deviations=(
            Deviation(
                "the code replaces digits of words that consist of digits only; here all digits",
                "numbers next to a sign, such as 57 in `[57,`, are numbers as well",
                "none in traces whose numbers are surrounded by blanks",
            ),
            Deviation(
                "`edit=both` in the code corrupts the digits of the answer and keeps its line; here `answer` decides",
                "the answer is one choice for all edits",
                "none with answer=corrupted",
            ),
            Deviation(
                "the edits `character`, `token` and `duplicate` are not in the code",
                "text without programs has other units",
                "no counterpart to compare with",
            ),
        ),
    )
    stream_name = "CotStatic"

    edit: Literal["digit", "character", "token", "line", "duplicate", "both"] = parameter(
        "digit", help="Unit of text to edit", always_in_label=True
    )
    answer: Literal["kept", "recomputed", "corrupted"] = parameter(
        "corrupted",
        help="Answer of a corrupted trace: unchanged, recomputed from the edited lines, or edited like them",
        always_in_label=True,
    )
    exclude_self: bool = parameter(False, help="Whether a replacement always differs from the original")

    def corrupt_traces(
        self, trace_format: TraceFormat, split: Split, rows: NDArray[np.int64], stream: Stream
    ) -> NoisyResponses:
        """Return edited responses and the status of their tokens."""
        targets = split.targets[rows]
        # Numbers are drawn for all rows of the split, so that the edits of a row do not depend on the contamination.
        is_edited = (stream.uniform(*split.targets.shape) < self.intensity)[rows]
        uniform = stream.uniform(*split.targets.shape)[rows]
        observed: Tokens = targets
        token_status: NDArray[np.uint8] = np.full(targets.shape, TOKEN_CORRECT, dtype=np.uint8)
        if self.edit in ("digit", "character", "both"):
            observed = self._replace_characters(trace_format, targets, is_edited, uniform)
            token_status[observed != targets] = TOKEN_CORRUPTED
        if self.edit in ("token", "line", "duplicate", "both"):
            # `both` selects lines by the numbers from the end of the row on, so that they are independent of the digits.
            selected = is_edited[:, ::-1] if self.edit == "both" else is_edited
            observed, token_status = self._edit_texts(trace_format, observed, selected, uniform, token_status)
        if self.answer == "recomputed":
            prompts, texts = trace_format.decode(split.inputs[:][rows, 0, 0]), trace_format.decode(observed)
            recomputed = [trace_format.recompute_answer(*pair) for pair in zip(prompts, texts, strict=True)]
            observed = encode_or_cut(trace_format, [*recomputed], targets.shape[1])
            for row, (text, clean) in enumerate(zip(recomputed, trace_format.decode(targets), strict=True)):
                start = trace_format.step_spans(text)[-1][0]
                clean_answer = trace_format.extract_answer(clean) or ""
                is_correct = trace_format.answers_match(trace_format.extract_answer(text), clean_answer)
                token_status[row, start : len(text)] = TOKEN_CORRECT if is_correct else TOKEN_CORRUPTED
        return observed, token_status

    def _replace_characters(
        self,
        trace_format: TraceFormat,
        targets: Tokens,
        is_edited: NDArray[np.bool_],
        uniform: NDArray[np.float64],
    ) -> Tokens:
        """Return the tokens with the selected ones replaced by others of their kind."""
        if self.edit == "character":
            # The end mark stays out: in the middle of a trace it would cut off the rest.
            candidates = np.setdiff1d(np.unique(targets), [IGNORED, trace_format.vocabulary.index(trace_format.end)])
        else:
            candidates = np.array([trace_format.vocabulary.index(digit) for digit in "0123456789"], dtype=targets.dtype)
        selected = is_edited & np.isin(targets, candidates)
        if self.answer != "corrupted":
            answer_starts = np.array([trace_format.step_spans(text)[-1][0] for text in trace_format.decode(targets)])
            selected &= np.arange(targets.shape[1]) < answer_starts[:, None]
        original = np.searchsorted(candidates, targets[selected])
        if self.exclude_self:
            # A uniform offset from 1 to n - 1, modulo n, never returns to the original.
            new = (original + 1 + (uniform[selected] * (len(candidates) - 1)).astype(np.int64)) % len(candidates)
        else:
            new = (uniform[selected] * len(candidates)).astype(np.int64)
        replaced = targets.copy()
        replaced[selected] = candidates[new]
        return replaced

    def _edit_texts(
        self,
        trace_format: TraceFormat,
        observed: Tokens,
        is_edited: NDArray[np.bool_],
        uniform: NDArray[np.float64],
        token_status: NDArray[np.uint8],
    ) -> tuple[Tokens, NDArray[np.uint8]]:
        """Return the tokens with words replaced, or lines deleted or repeated; the status moves along with its token."""
        length = observed.shape[1]
        texts: list[str | None] = []
        statuses: list[bytes] = []
        rows = zip(trace_format.decode(observed), token_status, is_edited, uniform, strict=True)
        for text, status, selected, numbers in rows:
            if self.edit == "token":
                pieces = self._replace_words(trace_format, text, selected, numbers)
            else:
                pieces = self._edit_lines(trace_format, text, selected.tolist(), status.tobytes())
            edited = "".join([piece for piece, _ in pieces])
            texts.append(edited)
            if len(edited) <= length:
                statuses.append(b"".join([piece_status for _, piece_status in pieces]).ljust(length, CORRECT_BYTE))
            else:
                statuses.append(UNKNOWN_BYTE * length)
        # A copy, because arrays over bytes are read-only and a recomputed answer changes its status.
        new_status = np.frombuffer(b"".join(statuses), dtype=np.uint8).reshape(len(statuses), length).copy()
        return encode_or_cut(trace_format, texts, length), new_status

    def _replace_words(
        self, trace_format: TraceFormat, text: str, is_edited: NDArray[np.bool_], uniform: NDArray[np.float64]
    ) -> list[Piece]:
        """Return the pieces of a text with the selected numbers and words replaced."""
        stop = len(text) if self.answer == "corrupted" else trace_format.step_spans(text)[-1][0]
        # Sorted, because the order of a set of strings differs between Python processes.
        words = sorted({word for word in WORD.findall(text) if not word.isdecimal()})
        pieces: list[Piece] = []
        position = 0
        for match in WORD.finditer(text, 0, stop):
            if not is_edited[match.start()]:
                continue
            old, number = match.group(), uniform[match.start()]
            num_choices = 10 ** len(old) if old.isdecimal() else len(words)
            original = int(old) if old.isdecimal() else words.index(old)
            if self.exclude_self:
                new = (original + 1 + int(number * (num_choices - 1))) % num_choices
            else:
                new = int(number * num_choices)
            word = f"{new:0{len(old)}d}" if old.isdecimal() else words[new]
            before = text[position : match.start()]
            pieces.append((before, CORRECT_BYTE * len(before)))
            pieces.append((word, (CORRECT_BYTE if word == old else CORRUPTED_BYTE) * len(word)))
            position = match.end()
        return [*pieces, (text[position:], CORRECT_BYTE * (len(text) - position))]

    def _edit_lines(self, trace_format: TraceFormat, text: str, is_edited: list[bool], status: bytes) -> list[Piece]:
        """Return the pieces of a text with the selected lines deleted or repeated, and the answer.

        A deleted line has no character that could be marked, so the first character after the gap counts as corrupted.
        """
        lines, tail = trace_format.split_response(text)
        pieces: list[Piece] = []
        separator = trace_format.separator, CORRECT_BYTE * len(trace_format.separator)
        start, after_gap = 0, False
        # A line uses the number of its position; there are more positions in a row than lines.
        for line, is_selected in zip(lines, is_edited, strict=False):
            line_status = status[start : start + len(line)]
            start += len(line) + len(trace_format.separator)
            if is_selected and self.edit != "duplicate":
                after_gap = True
                continue
            if pieces:
                pieces.append(separator)
            pieces.append((line, CORRUPTED_BYTE + line_status[1:] if after_gap else line_status))
            after_gap = False
            if is_selected:
                pieces += [separator, (line, CORRUPTED_BYTE * len(line))]
        tail_status = status[len(text) - len(tail) : len(text)]
        return [*pieces, (tail, CORRUPTED_BYTE + tail_status[1:] if after_gap else tail_status)]
