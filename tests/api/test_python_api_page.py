"""The examples of docs/python-api.md run, each section in a Python session and a folder of its own."""

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"


def sections() -> dict[str, str]:
    """Return the sections of the page by their title; each starts with the examples before the first one."""
    introduction, *parts = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.M)
    return {title: introduction + text for title, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize("title", sections())
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_examples_run(title):
    # Only the code: an output ends at the end of its block, even without an empty line.
    code = "\n\n".join(re.findall(r"^```python\n(.*?)^```", sections()[title], re.S | re.M))
    examples = doctest.DocTestParser().get_doctest(code, {"__name__": "__main__"}, title, str(PAGE), 0)
    output: list[str] = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.DocTestRunner(optionflags=flags, verbose=False).run(examples, out=output.append)
    assert not result.failed, "".join(output)
