"""Preflight."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from noisybench.config.spec import RunSpec
from noisybench.errors import UserError
from noisybench.execution.local import _exit_reason


def preflight(ctx: Any, specs: Sequence[RunSpec], elsewhere: bool = False) -> dict[str, Any]:
    """Check runs completely, in a process of its own, before any is trained.

    Args:
        ctx: from `context`.
        specs: the runs.
        elsewhere: they are to be trained on other machines, so that this one needs no GPU.

    Returns:
        ``gpu``: whether the runs will use one.

    Raises:
        UserError: every problem of every run.
    """
    receiver, sender = ctx.Pipe(duplex=False)
    process = ctx.Process(target=_check, args=(sender, list(specs), elsewhere), daemon=True)
    process.start()
    sender.close()
    try:
        answer: dict[str, Any] = receiver.recv()
    except EOFError:
        process.join()
        raise UserError(f"checking the runs failed: the process ended with {_exit_reason(process.exitcode)}") from None
    process.join()
    if answer["problems"]:
        raise UserError(*answer["problems"])
    return answer


def _check(sender: Connection, specs: list[RunSpec], elsewhere: bool) -> None:
    import torch

    from noisybench.runs.preparation import prepare_run

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    problems: dict[str, None] = {}
    cells: dict[str, Any] = {}
    for spec in specs:
        cell = repr((spec.dataset, spec.noise))
        try:
            known = cells.get(cell)
            checked = prepare_run(spec, *known) if known else prepare_run(spec)
            cells[cell] = (checked.dataset, checked.labels)
        except UserError as error:
            problems |= dict.fromkeys(error.problems)
        except Exception:
            problems[f"{spec.title}: checking it failed\n{traceback.format_exc()}"] = None
        cells = {cell: cells[cell]} if cell in cells else {}
    device = specs[0].execution.device if specs else "cpu"
    if device == "cuda" and not elsewhere and not torch.cuda.is_available():
        problems["execution.device: `cuda` was asked for, but torch sees no GPU here; see `noisybench doctor`"] = None
    sender.send(
        {
            "problems": list(problems),
            "gpu": device == "cuda" or (device == "auto" and torch.cuda.is_available()),
        }
    )
