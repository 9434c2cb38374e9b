"""Entry point of the command `noisybench` and of `python -m noisybench`."""

import atexit
import os
import sys
from contextlib import suppress

RESUMABLE = ("run", "bench", "search", "advise", "audit", "embed")
"""Commands that resume when they are run again."""


def main() -> None:
    """Run the command line and end the process."""
    is_resumable = any(argument in RESUMABLE for argument in sys.argv[1:3])
    message = "Interrupted. Run the same command to resume." if is_resumable else "Interrupted."
    try:
        # Before all other imports, which take a second or more, so that Ctrl-C during them gives no traceback.
        from noisybench.utils.interrupts import INTERRUPTS
        from noisybench.utils.status import show_status

        INTERRUPTS.install(message, is_resumable)
        # The imports of the command line and of its libraries take many seconds on a busy machine.
        show_status(f"{' '.join(['noisybench', *_names(sys.argv[1:])])}: starting")
    except KeyboardInterrupt:
        os.write(2, f"{message}\n".encode())
        os._exit(130)
    status = [1]  # that of an exception with --debug, whose traceback Python prints
    atexit.register(_end, status)  # the first that is registered is the last that is called
    from noisybench.cli.app import main as run

    try:
        run()
    except SystemExit as end:
        status[0] = end.code if isinstance(end.code, int) else 0
        raise


def _names(arguments: list[str]) -> list[str]:
    """Return the name of the command, as far as it is known without the command line's own parser."""
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    return [name] if name.replace("-", "").isalpha() else []


def _end(status: list[int]) -> None:
    """End the process without the finalization of the interpreter, which takes a second after torch is imported."""
    from noisybench.utils.interrupts import kill_children
    from noisybench.utils.status import clear_status

    clear_status()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # None if it was closed before the start
            stream.flush()
    # The server process of the runs would otherwise end by itself a second later.
    kill_children()
    os._exit(status[0])


if __name__ == "__main__":
    main()
