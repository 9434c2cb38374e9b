"""The language of code, documentation and messages, and the size of files and classes."""

from __future__ import annotations

import ast
import functools
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ("noisybench", "tasks", "noise_models", "leaderboard")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".js"}

EXEMPT = {
    "CHANGELOG.md",  # lists old names beside the new ones
    "tests/test_language.py",
}
"""Files that have to contain words of the list."""

WORDS = {
    r"told|tells|telling": "reports, receives, shows, describes",
    r"outsiders?": "out-of-distribution (OOD) image",
    r"whoever|somebody|nobody|anybody": "name the actor, or use the passive",
    r"by heart": "memorized",
    r"go(es)? on|going on|go on with": "continue, resume",
    r"tak(en|es?|ing) up|took up": "resume",
    r"what an? \w+": "name it: 'the effect of a method', not 'what a method does'",
    r"rivals?": "baseline",
    r"remed(y|ies)": "method, mitigation",
    r"judges?|judged|judging": "evaluator, evaluate, compare",
    r"(is|are|was|goes|went) away": "unavailable",
    r"bit for bit|to the bit": "bit-identical",
    r"wrong labels?|wrongly labell?ed": "mislabeled example, incorrect label, noisy label",
    r"right labels?|rightly labell?ed": "correct label, correctly labeled",
    r"(?<!-)processors?": "CPU",
    r"any more": "rewrite the sentence: 'no longer'",
}
"""Phrases that must not appear, as regular expressions, and their replacements."""

BRITISH = {
    r"colour(s|ed|ing)?": "color",
    r"neighbour(s|ing|hood)?": "neighbor",
    r"behaviour(s|al)?": "behavior",
    r"favour(s|ed|ite)?": "favor",
    r"labell(ed|ing)|(re)?labelling|relabelled|unlabelled|mislabelled": "labeled",
    r"centre[ds]?": "center",
    r"(memor|normal|optim|initial|real|recogn|random|general|regular|summar|vector|quant|token|capital|categor|character"
    r"|emphas|visual|minim|maxim|standard|special|serial|parameter|local|penal)is(e|ed|es|er|ers|ing|ation)": "-ize",
    r"analys(e|ed|es|ing)(?<!analyses)": "analyze",
    r"artefacts?": "artifact",
    r"grey(scale)?": "gray",
}
"""British spellings and their American ones."""

NOT_IDENTIFIERS = {"processor", "processors", "telling"}
"""Words that may be part of an identifier, such as `platform.processor`."""

SEEDING_CALLS = {"Stream", "torch_seed", "stable_hash"}
"""Functions whose arguments decide random numbers, so that their text must never change."""

MAX_LINES = 350
MAX_METHODS = 20
QUESTION_WORDS = {"What", "Who", "Whether", "How", "Of", "As"}

# Phrases may be broken across lines.
PHRASES = {
    re.compile(rf"\b({pattern})\b".replace(" ", r"\s+"), re.IGNORECASE): hint
    for pattern, hint in {**WORDS, **BRITISH}.items()
}


def tracked_files() -> list[Path]:
    """Return the tracked files whose language is checked."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    paths = [ROOT / name for name in listed.split("\0") if name and name not in EXEMPT]
    return [path for path in paths if path.suffix in SUFFIXES and path.is_file() and "entries" not in path.parts[:-2]]


def package_files() -> list[Path]:
    """Return the Python files of the package, without those of the tests."""
    return [path for folder in PACKAGE for path in sorted((ROOT / folder).rglob("*.py"))]


@functools.cache  # the same identifiers are in many files
def phrases(text: str) -> list[tuple[int, str, str]]:
    """Return line offset, phrase and replacement of every phrase to avoid in a text."""
    # The indentation or the comment sign of the next line does not end a phrase.
    joined = re.sub(r"\n[ \t#>*]*", lambda gap: "\n" + " " * (len(gap[0]) - 1), text)
    return [
        (joined[: match.start()].count("\n"), " ".join(match[0].split()), hint)
        for pattern, hint in PHRASES.items()
        for match in pattern.finditer(joined)
    ]


def seeding_strings(tree: ast.Module) -> set[tuple[int, int]]:
    """Return the positions of strings that decide random numbers."""
    positions = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in SEEDING_CALLS:
            fixed: list[ast.expr] = node.args
        elif isinstance(node, ast.Assign | ast.AnnAssign) and "stream_name" in ast.unparse(node).split("=")[0]:
            fixed = [node.value] if node.value else []
        else:
            continue
        positions |= {
            (each.lineno, each.col_offset)
            for expression in fixed
            for each in ast.walk(expression)
            if isinstance(each, ast.Constant)
        }
    return positions


def python_phrases(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, phrase and replacement for the strings, comments and identifiers of Python source."""
    tree = ast.parse(source)
    fixed = seeding_strings(tree)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and (node.lineno, node.col_offset) not in fixed
        ):
            for offset, phrase, hint in phrases(node.value):
                yield min(node.lineno + offset, node.end_lineno or node.lineno), phrase, hint
    comments: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string
        elif token.type == tokenize.NAME:
            words = " ".join(word for word in token.string.lower().split("_") if word not in NOT_IDENTIFIERS)
            # Between two words of an identifier nothing is a phrase: only single words count.
            yield from (
                (token.start[0], f"{phrase} (in `{token.string}`)", hint)
                for word in words.split()
                for _, phrase, hint in phrases(word)
            )
    for line, comment in comments.items():
        if line - 1 in comments:
            continue
        block = [comment]
        while line + len(block) in comments:
            block.append(comments[line + len(block)])
        for offset, phrase, hint in phrases("\n".join(block)):
            yield line + offset, phrase, hint


def language_problems(path: Path) -> list[str]:
    """Return the problems of a file as `file:line: phrase -> replacement`."""
    source = path.read_text(encoding="utf-8")
    hits = python_phrases(source) if path.suffix == ".py" else ((n + 1, p, h) for n, p, h in phrases(source))
    name = path.relative_to(ROOT).as_posix()
    return [f"{name}:{line}: {phrase} -> {hint}" for line, phrase, hint in sorted(set(hits))]


def docstring_problems(path: Path) -> list[str]:
    """Return the public module-level functions and classes, and the modules, without a proper first docstring line."""
    tree, name, problems = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(ROOT).as_posix(), []
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [node for node in nodes if not node.name.startswith("_") and not _is_overload(node)]
    for node in (tree, *public):
        title = "the module" if isinstance(node, ast.Module) else f"`{node.name}`"
        line = 1 if isinstance(node, ast.Module) else node.lineno
        docstring = ast.get_docstring(node)
        if not docstring:
            if not isinstance(node, ast.Module) or tree.body:
                problems.append(f"{name}:{line}: {title} has no docstring")
        elif re.split(r"\W", docstring, maxsplit=1)[0] in QUESTION_WORDS:
            problems.append(f"{name}:{line}: the docstring of {title} starts with `{docstring.split()[0]}`")
    return problems


def _is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)


def size_problems(path: Path) -> list[str]:
    """Return the problems of a file with too many lines, or classes with too many methods."""
    source, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
    lines = len(source.splitlines())
    problems = [f"{name}: {lines} lines, but at most {MAX_LINES} are allowed"] if lines > MAX_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            if len(methods) > MAX_METHODS:
                problems.append(
                    f"{name}:{node.lineno}: `{node.name}` has {len(methods)} methods, but at most {MAX_METHODS} are allowed"
                )
    return problems


def report(problems: list[str]) -> None:
    assert not problems, f"{len(problems)} places\n" + "\n".join(problems)


def test_words_to_avoid_do_not_appear() -> None:
    report([problem for path in tracked_files() for problem in language_problems(path)])


def test_docstrings_start_with_what_a_reader_searches_for() -> None:
    report([problem for path in package_files() for problem in docstring_problems(path)])


def test_files_and_classes_are_small() -> None:
    report([problem for path in package_files() for problem in size_problems(path)])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('x = "the wrong labels"', "wrong labels"),
        ('"""One line.\n\nTold of each epoch."""', "Told"),
        ('"""The labels are wrong\nlabels."""', "wrong labels"),
        ("x = 1  # nobody reads it", "nobody"),
        ("# the same command goes\n# on\n", "goes on"),
        ("def told_of():\n    pass", "told (in `told_of`)"),
        ("colour = 1", "colour (in `colour`)"),
        ('f"{x} processors"', "processors"),
    ],
)
def test_the_check_finds_phrases_in_strings_comments_and_identifiers(source: str, expected: str) -> None:
    assert expected in [phrase for _, phrase, _ in python_phrases(source)]


@pytest.mark.parametrize(
    "source",
    [
        'Stream("initialisation", seed)',
        'stream_name = "outsider"',
        "platform.processor()",
        'x = "analyses, retold, wronglabels, anymore, post-processors"',
    ],
)
def test_the_check_allows_seeds_and_parts_of_words(source: str) -> None:
    assert not list(python_phrases(source))
