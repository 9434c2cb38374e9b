"""File formats of solutions whose steps are labeled: ProcessBench, PRMBench, PRM800K and the model solutions of GSM8K."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from noisybench.data.targets import UNKNOWN_TARGET
from noisybench.data.traces.rows import Row
from noisybench.data.traces.steps import CORRECT, INCORRECT, LabeledSolution, classes_until
from noisybench.errors import UserError, show


def _texts(row: Row, field: str) -> list[str]:
    """Return the steps of a field.

    Raises:
        UserError: it is no list of texts, or it is empty.
    """
    steps = row.fields.get(field)
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise UserError(f"{row.location}: `{field}` must be a list of one or more texts, one for each step")
    return steps


def _is_integer(value: Any) -> TypeGuard[int]:
    # JSON's true and false are integers in Python.
    return isinstance(value, int) and not isinstance(value, bool)


def _further(row: Row, *read: str) -> dict[str, Any]:
    return {name: value for name, value in row.fields.items() if name not in read}


def _process_bench(row: Row) -> list[LabeledSolution]:
    """Read `problem`, `steps` and `label`: the position of the first incorrect step from 0, or -1."""
    steps, label = _texts(row, "steps"), row.fields.get("label")
    if not _is_integer(label) or not -1 <= label < len(steps):
        raise UserError(
            f"{row.location}: `label` must be the position of the first incorrect step, from 0 to {len(steps) - 1} for "
            f"{len(steps)} steps, or -1 if all are correct, but is {show(label)}; align the label with the steps"
        )
    answer = row.fields.get("final_answer_correct")
    if answer is not None and not isinstance(answer, bool):
        raise UserError(f"{row.location}: `final_answer_correct` must be true or false, but is {show(answer)}")
    classes = classes_until(None if label < 0 else label, len(steps))
    fields = _further(row, "problem", "steps", "label", "final_answer_correct")
    return [LabeledSolution(row.text("problem"), steps, classes, answer_is_correct=answer, fields=fields)]


def _prm_bench(row: Row) -> list[LabeledSolution]:
    """Read `modified_question`, `modified_process` and `error_steps`: the numbers of incorrect steps from 1."""
    steps, errors = _texts(row, "modified_process"), row.fields.get("error_steps")
    if not isinstance(errors, list) or not all(map(_is_integer, errors)):
        raise UserError(f"{row.location}: `error_steps` must be a list of numbers of steps, from 1, or an empty list")
    outside = [error for error in errors if not 1 <= error <= len(steps)]
    if outside:
        raise UserError(
            f"{row.location}: `error_steps` names step {outside[0]}, but `modified_process` has the steps 1 to {len(steps)}; "
            "align the labels with the steps"
        )
    classes = classes_until(min(errors) - 1 if errors else None, len(steps))
    fields = _further(row, "modified_question", "modified_process", "error_steps")
    return [LabeledSolution(row.text("modified_question"), steps, classes, fields=fields)]


def _prm800k(row: Row) -> list[LabeledSolution]:
    """Read `question` and `label.steps`: the chosen completion of each step with its rating, up to the first error."""
    question, label = row.fields.get("question"), row.fields.get("label")
    if not isinstance(question, dict) or not isinstance(question.get("problem"), str) or not isinstance(label, dict):
        raise UserError(f"{row.location}: PRM800K has `question.problem` and `label.steps`, which this row lacks")
    rated = label.get("steps")
    if not isinstance(rated, list):
        raise UserError(f"{row.location}: PRM800K has `question.problem` and `label.steps`, which this row lacks")
    steps: list[str] = []
    classes: list[int] = []
    for number, step in enumerate(rated, 1):
        chosen = _chosen(step, f"{row.location}: step {number}")
        if chosen is None:  # no rating
            break
        text, rating = chosen
        steps.append(text)
        classes.append(INCORRECT if rating < 0 else CORRECT)
        # Labelers stop at the first incorrect step, whose alternatives lead to other solutions.
        if rating < 0:
            break
    if not steps:
        return []
    outcome = {"solution": True, "found_error": False}.get(str(label.get("finish_reason")))
    # After a step without a rating, nothing says that the answer of what was read is that of the whole solution.
    answer = False if classes[-1] == INCORRECT else outcome if len(steps) == len(rated) else None
    fields = _further(row, "question", "label")
    return [LabeledSolution(question["problem"], steps, classes, answer_is_correct=answer, fields=fields)]


def _chosen(step: Any, location: str) -> tuple[str, int] | None:
    """Return text and rating of the chosen completion of a step; None if it has no rating.

    Raises:
        UserError: the choice is none of the completions.
    """
    completions = step.get("completions") if isinstance(step, dict) else None
    if not isinstance(completions, list) or not all(isinstance(each, dict) for each in completions):
        raise UserError(f"{location} has no list `completions`")
    human, position = step.get("human_completion"), step.get("chosen_completion")
    if position is None and human is not None:
        # Written by the labeler after all completions were rated incorrect.
        written = human.get("text") if isinstance(human, dict) else human
        if not isinstance(written, str):
            raise UserError(f"{location}: `human_completion` must be a text or have a `text`, but is {show(human)}")
        return written, 1
    if position is None:
        # The last step of a solution with an error: none of its completions was chosen.
        position = 0
    if not _is_integer(position) or not 0 <= position < len(completions):
        raise UserError(
            f"{location}: `chosen_completion` is {show(position)}, but there are {len(completions)} completions, from 0"
        )
    text, rating = completions[position].get("text"), completions[position].get("rating")
    if not isinstance(text, str) or rating not in (-1, 0, 1, None):
        raise UserError(f"{location}: a completion has a `text` and a `rating` of -1, 0, 1 or null")
    return None if rating is None else (text, rating)


def _model_solutions(row: Row) -> list[LabeledSolution]:
    """Read `question` and, of each model, `solution` and `is_correct`; its lines are the steps.

    All steps are observed as the outcome says. The steps before the answer of an incorrect solution are of unknown class.
    """
    problem, solutions = _plain(row.text("question")), []
    for model, entry in _outcomes(row).items():
        steps = [line for line in _plain(entry["solution"]).split("\n") if line.strip()]
        if not steps:
            continue
        count, is_correct = len(steps), entry["is_correct"]
        classes = classes_until(None, count) if is_correct else [*([UNKNOWN_TARGET] * (count - 1)), INCORRECT]
        observed = [CORRECT if is_correct else INCORRECT] * count
        solutions.append(LabeledSolution(problem, steps, classes, observed, is_correct, fields={"model": model}))
    return solutions


def _outcomes(row: Row) -> dict[str, dict[str, Any]]:
    """Return the fields of a row that hold a solution with its outcome."""
    return {
        name: value
        for name, value in row.fields.items()
        if isinstance(value, dict)
        and isinstance(value.get("solution"), str)
        and isinstance(value.get("is_correct"), bool)
    }


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\u2028", "\n").strip()


STEP_FORMATS: Mapping[str, tuple[tuple[str, ...], Callable[[Row], list[LabeledSolution]]]] = {
    "processbench": (("problem", "steps", "label"), _process_bench),
    "prmbench": (("modified_question", "modified_process", "error_steps"), _prm_bench),
    "prm800k": (("question", "label"), _prm800k),
    "model_solutions": (("question",), _model_solutions),
}
"""Required fields of a row and its reader, by format; the first one that fits is taken."""


def read_solutions(rows: Sequence[Row], name: str | None = None) -> list[LabeledSolution]:
    """Return the labeled solutions of the rows of a file.

    Args:
        rows: rows of one format.
        name: name in `STEP_FORMATS` (default: found from the fields of each row).

    Raises:
        UserError: a row has no known format, or its labels do not fit its steps; the message says which and what to do.

    Example:
        >>> row = Row("file: line 1", "line 1", {"problem": "1+1?", "steps": ["1+1=3", "So 3."], "label": 0})
        >>> read_solutions([row])[0].classes
        [0, 0]
    """
    return [solution for row in rows for solution in STEP_FORMATS[name or _format_of(row)][1](row)]


def _format_of(row: Row) -> str:
    for name, (required, _) in STEP_FORMATS.items():
        if all(field in row.fields for field in required) and (name != "model_solutions" or _outcomes(row)):
            return name
    known = "; ".join(f"{name} ({', '.join(required)})" for name, (required, _) in STEP_FORMATS.items())
    raise UserError(
        f"{row.location} has the fields {', '.join(row.fields) or 'nothing'}, which fit no format of labeled steps: {known}. "
        "Rename them, or set dataset.row_format"
    )
