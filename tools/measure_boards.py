"""Measure the boards of a release: train their suites, verify and sign the submissions, and write the tables that ship.

usage: python tools/measure_boards.py --work DIR --key private.pem [--jobs N] [--time-limit TIME] [--rerun N] [ENTRY ...]

For each entry of tools/boards.yaml, or those that are named: `run --export` of the models that its suite reads; `bench`, or
`search`, in the folder DIR, which holds the store and the data that some suites need; `leaderboard package` of its finished
runs into DIR/submissions; `leaderboard verify --rerun N --mark-verified`; and `leaderboard summarize` into
leaderboard/measured and leaderboard/entries.csv. In the end, tools/measured_blocks.py writes README.md, docs and headers
anew. The same command resumes after an interruption, a failure or the time limit (exit status 75), and trains no finished
run again. Nothing else should run meanwhile, because tables show the time of runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
OUT_OF_TIME = 75
"""Exit status of `noisybench bench` whose time limit has passed."""
WEIGHTS = "model.safetensors"
"""File of the weights in an exported folder, which is written last."""
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Board:
    """One entry that ships.

    Attributes:
        name: name of the entry, of its submission and its table.
        suite: name or file of the suite.
        claim: description of the submission.
        needs: files that the working folder must have.
        places: locations of the data for the verification.
        exports: folders of the pre-trained models that the networks of the suite read, with the recipes that train them.
        search: search of the suite and its overrides, whose selected configurations are the runs; without it, those of the suite.
    """

    name: str
    suite: str
    claim: str
    needs: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    exports: Mapping[str, str] = field(default_factory=dict)
    search: tuple[str, ...] = ()


def read_boards(file: Path, names: Sequence[str]) -> list[Board]:
    """Return the boards of a file in its order, or those of them that are named."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    if unknown := set(names) - set(content):
        sys.exit(f"error: {file.name} has no entry {', '.join(sorted(unknown))}; it has {', '.join(content)}")
    return [
        Board(
            name,
            each["suite"],
            each["claim"],
            tuple(each.get("needs", ())),
            tuple(each.get("places", ())),
            each.get("exports", {}),
            tuple(each.get("search", ())),
        )
        for name, each in content.items()
        if not names or name in names
    ]


def measure(board: Board, options: argparse.Namespace, public_key: Path, deadline: float | None) -> None:
    """Train, package, verify and summarize one board.

    Raises:
        SystemExit: a command failed, with its exit status.
    """
    work = options.work
    if missing := [each for each in board.needs if not (work / each).exists()]:
        sys.exit(f"error: {board.name}: {work} has no {', '.join(missing)}; see `noisybench describe {board.suite}`")
    for folder, recipe in board.exports.items():
        # Weights that are trained again may differ by rounding, and all runs of the suite would be others.
        if not (work / folder / WEIGHTS).is_file():
            noisybench(work, "run", recipe, "--export", folder, *time_limit(deadline))
    command, runs = ("search", board.search) if board.search else ("bench", (board.suite,))
    noisybench(work, command, *runs, "--jobs", str(options.jobs), *time_limit(deadline))
    submission = work / "submissions" / board.name
    # A submission of other runs, such as those before a change of the code, would be packaged beside these.
    shutil.rmtree(submission, ignore_errors=True)
    author = ["--author", options.author] if options.author else []
    noisybench(
        work, "leaderboard", "package", submission, f"--{'search' if board.search else 'suite'}", runs[0],
        "--description", board.claim, *author,
    )  # fmt: skip
    signed = ["--rerun", str(options.rerun), "--mark-verified", "--key", options.key]
    networks = [argument for folder in board.exports for argument in ("--allow-network", f"huggingface:{folder}")]
    noisybench(work, "leaderboard", "verify", submission, *board.places, *networks, *signed)
    tables = options.output.resolve() / "measured"
    noisybench(work, "leaderboard", "summarize", submission, "--trusted-keys", public_key, "-o", tables)


def time_limit(deadline: float | None) -> list[str]:
    """Return the option of a command that ends at a deadline of `time.monotonic`."""
    return [] if deadline is None else ["--time-limit", f"{max(1, int(deadline - time.monotonic()))}s"]


def noisybench(work: Path, *arguments: str | Path) -> None:
    """Run a command in the working folder, and end with its exit status if it fails."""
    command = [sys.executable, "-m", "noisybench", *map(str, arguments)]
    print("+", *command[2:], flush=True)
    status = subprocess.run(command, cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode
    if status == OUT_OF_TIME:
        print("out of time: the same command resumes", flush=True)
    if status:
        sys.exit(status)


def write_public_key(key: Path, file: Path) -> None:
    """Write the public key of a private one, by which `summarize` trusts the signature."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from noisybench.leaderboard.stamps import read_private_key

    public = read_private_key(key).public_key()
    file.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def seconds(text: str) -> float:
    """Return a time such as 90s, 9m or 1h in seconds."""
    if text[-1:] not in UNITS or not text[:-1].isdecimal():
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 9m or 1h, but got {text}")
    return float(text[:-1]) * UNITS[text[-1]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all boards, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="*", metavar="ENTRY", help="entries to measure (default: all)")
    parser.add_argument("--work", type=Path, required=True, help="folder with the store and the data")
    parser.add_argument("--key", type=Path, required=True, help="private Ed25519 key that signs the verification")
    parser.add_argument("--jobs", type=int, default=2, help="runs that are trained at once")
    parser.add_argument("--rerun", type=int, default=3, help="runs of each entry that are trained again")
    parser.add_argument("--time-limit", type=seconds, help="time for everything, such as 9m or 3h")
    parser.add_argument("--author", default="noisybench maintainers", help="author of the submissions")
    parser.add_argument("--boards", type=Path, default=ROOT / "tools" / "boards.yaml", help="file of entries")
    parser.add_argument("--output", type=Path, default=ROOT / "leaderboard", help="folder of the tables to write")
    options = parser.parse_args(arguments)
    deadline = None if options.time_limit is None else time.monotonic() + options.time_limit
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    options.key = options.key.resolve()
    public_key = options.work / "public.pem"
    write_public_key(options.key, public_key)
    for board in read_boards(options.boards, options.entries):
        measure(board, options, public_key, deadline)
    if options.output.resolve() == (ROOT / "leaderboard").resolve():
        subprocess.run([sys.executable, ROOT / "tools" / "measured_blocks.py"], check=True)


if __name__ == "__main__":
    main()
