"""Digests of source code: they follow the meaning of the files that decide a result, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noisybench.config import registry
from noisybench.config.registry import list_entries
from noisybench.config.resolve import resolve
from noisybench.config.source_code import ENGINE, NEUTRAL_ROOMS, SourceTree, _packages_beside
from noisybench.config.syntax import module_digest, read_source
from noisybench.errors import UserError
from noisybench.utils.files import cache_folder

ROOT = Path(__file__).parents[2]
CONTENT = ("tasks", "noise_models", "leaderboard")

SAMPLE = '''
"""A module."""
from __future__ import annotations
import os, typing as t
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = object

__version__ = "1.0"
LIMIT: int = 0x10  # hexadecimal
"""The limit."""
TEXT = "a" 'b' f"c{LIMIT}" "d" f"{LIMIT!r:>{LIMIT}}{LIMIT=}" f"" u"ü\\u2028"
DATA = b"\\xff" rb"\\n"
NUMBERS = (1_000, 1e-3, 1j, -1, 10**400, True, None, ...)

@t.final
class Sample(dict[str, int], metaclass=type):
    """A class."""
    rate: float = parameter(0.5, ge=0, help="Fraction")

    async def step(self, a: int, /, b=1, *args, c: "int" = 2, **kwargs) -> t.Any:
        """Return a step."""
        async with a as b, c:
            [x async for x in b if x]
        try:
            return await (lambda *, x=1: x if x else -x)()
        except* (ValueError, OSError) as error:
            raise error from None
        finally:
            global LIMIT
            LIMIT @= b[1:2, ..., *args]

    def select(self, value):
        match value:
            case {"a": [1, *rest], **more} if (n := len(rest)) > 1:
                return n
            case Sample(rate=0.5) | None as found:
                return found
            case _:
                pass
        for _ in range(3):
            continue
        else:
            del value
        assert not value, f"{value:}"
        yield from {**more, "x": {1, 2}}
'''
SAMPLE_DIGEST = "febd235742b3da730c30bc4fb6011901"

SAME = [
    ("return 1 - p ** q", "return (1 - p**q)  # the loss"),
    ("return 1 - p ** q", "'''Return the loss.'''\n    return (\n        1\n        - p ** q\n    )"),
    ("return 1 - p ** q", "pass\n    return 1 - p ** q\n    ..."),
    ("x = 'a' \"b\"\n    return x", 'x = "ab"  # type: str\n    return x'),
    ("return f'a{p}' 'b'", "return 'a' f'{p}b'"),
    ("return f'{p:}'", "return f'{p}'"),
    ("return 1000, 0x10, .5", "return 1_000, 16, 0.5"),
    ("return parameter(1, help='a')", "return parameter(1, help='b')"),
    ("return 1", "fidelity = Fidelity('a')\n    return 1"),
    ("return 1", "license = License('MIT')\n    return 1"),
    ("return 1", "if TYPE_CHECKING:\n        import torch\n    return 1"),
]
DIFFERENT = [
    ("return 1 - p ** q", "return 1 + p ** q"),
    ("return 1", "return 1.0"),
    ("return 1", "return True"),
    ("return 'p'", "return p"),
    ("return 'p'", "return b'p'"),
    ("return 'ab'", "return 'a', 'b'"),
    ("return p, q", "return q, p"),
    ("return f'{p!r}'", "return f'{p!s}'"),
    ("return f'{p:>3}'", "return f'{p:<3}'"),
    ("return g(p, q=1)", "return g(p, r=1)"),
    ("return g(help='a')", "return g(help='b')"),
    ("return [p]", "return (p,)"),
    ("fidelity = 1", "fidelity = 2"),
    ("fidelity = Card(1)", "fidelity = Card(2)"),
    ("a = Fidelity('a')", "a = Fidelity('b')"),
    ("if p:\n        q = 1\n    return q", "if p:\n        q = 1\n        return q"),
]


def digest(tmp_path: Path, text: str | bytes) -> str:
    file = tmp_path / "module.py"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return module_digest(file)


def function(body: str) -> str:
    return f"def f(p, q):\n    {body}\n"


@pytest.mark.parametrize(("first", "second"), SAME)
def test_comments_docstrings_and_formatting_do_not_count(tmp_path: Path, first: str, second: str) -> None:
    assert digest(tmp_path, function(first)) == digest(tmp_path, function(second))


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_every_change_of_meaning_counts(tmp_path: Path, first: str, second: str) -> None:
    assert digest(tmp_path, function(first)) != digest(tmp_path, function(second))


def test_the_digest_does_not_depend_on_line_ends_encoding_or_version_number(tmp_path: Path) -> None:
    text = "x = 'é'\n__version__ = '1.0'\n"
    expected = digest(tmp_path, text)
    assert digest(tmp_path, text.replace("\n", "\r\n")) == expected
    assert digest(tmp_path, b"\xef\xbb\xbf" + text.encode()) == expected
    assert digest(tmp_path, ("# coding: latin-1\n" + text).encode("latin-1")) == expected
    assert digest(tmp_path, text.replace("1.0", "2.0")) == expected


def test_every_supported_python_version_gives_this_digest(tmp_path: Path) -> None:
    assert digest(tmp_path, SAMPLE) == SAMPLE_DIGEST


def test_a_long_chain_of_operators_has_a_digest(tmp_path: Path) -> None:
    assert digest(tmp_path, "x = " + "+".join(["1"] * 2000)) != digest(tmp_path, "x = " + "+".join(["1"] * 2001))


@pytest.mark.parametrize(
    ("content", "message"), [(b"x = (\n", r"module.py:1: not valid Python"), (b"x\0", "not valid")]
)
def test_a_file_that_is_not_python_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        digest(tmp_path, content)


def test_imports_are_found_wherever_they_stand() -> None:
    text = (
        "from . import a\nfrom ..b import c\nimport d.e as f\nimport importlib\nif TYPE_CHECKING:\n    import never\n"
        "def g():\n    from .h import i\n    importlib.import_module('.j', __package__)\n    __import__('k')\n"
    )
    source = read_source(text.encode(), "top.package.module", False, Path("module.py"))
    assert {"top.package.a", "top.b", "top.b.c", "d.e", "top.package.h", "top.package.h.i", "top.package.j", "k"} <= {
        *source.imports
    }
    assert "never" not in source.imports
    package = read_source(b"from . import a", "top.package", True, Path("__init__.py"))
    assert "top.package.a" in package.imports


def write_plugin(folder: Path) -> dict[str, list[Path]]:
    """Write a plug-in with a helper, and return its folder by its name."""
    package = folder / "acme"
    (package / "shared").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('nothing is imported')\n")
    (package / "method.py").write_text(
        "import torch\nfrom noisybench.nn.features import transform\nfrom acme.shared.helper import loss\n"
    )
    (package / "shared" / "helper.py").write_text("def loss(p):\n    return 1 - p\n")  # a namespace package
    (package / "unused.py").write_text("x = 1\n")
    return {"acme": [package]}


def test_a_plug_in_is_followed_within_its_own_package_and_noisybench(tmp_path: Path) -> None:
    folders = write_plugin(tmp_path)
    closure = SourceTree(folders=folders).closure("acme.method")
    assert {"acme", "acme.method", "acme.shared.helper", "noisybench.nn.features"} <= closure
    assert "acme.unused" not in closure
    assert "torch" not in closure
    modules = {"mitigations.method": "acme.method", "mitigations.unused": "acme.unused"}
    before = SourceTree(folders=folders).code(modules)
    (tmp_path / "acme" / "shared" / "helper.py").write_text("def loss(p):\n    return 1 + p\n")
    after = SourceTree(folders=folders).code(modules)
    assert {part for part in before if before[part] != after[part]} == {"mitigations.method"}


def test_a_plug_in_is_followed_within_all_packages_of_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_method.py").write_text("import acme_helpers, unrelated\n")
    (tmp_path / "acme_helpers.py").write_text("x = 1\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    metadata = tmp_path / "acme-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[noisybench.mitigations]\nmethod = acme_method\n")
    (metadata / "top_level.txt").write_text("acme_method\nacme_helpers\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for cached in (registry._installed, _packages_beside):
        cached.cache_clear()
    try:
        assert SourceTree().closure("acme_method") == {"acme_method", "acme_helpers"}
    finally:
        registry._installed.cache_clear()
        _packages_beside.cache_clear()


def installed_layout(folder: Path) -> dict[str, list[Path]]:
    """Copy the package to the layout of a wheel, and return its folder by its name."""
    ignored = shutil.ignore_patterns("__pycache__", "static", "templates", "entries", "*.csv")
    shutil.copytree(ROOT / "noisybench", folder / "noisybench", ignore=ignored)
    for name in CONTENT:
        shutil.copytree(ROOT / name, folder / "noisybench" / name, ignore=ignored)
    return {"noisybench": [folder / "noisybench"]}


def all_modules() -> dict[str, str]:
    return {
        f"{kind}.{name}": entry.module
        for kind in ("mitigations", "noise_models", "datasets", "tasks", "networks")
        for name, entry in list_entries(kind).items()
    }


def private_helpers() -> list[str]:
    return sorted(path.stem for path in (ROOT / "noisybench" / "mitigations").glob("_[a-z]*.py"))


def users_of(helper: str) -> set[str]:
    """Return the mitigations that import a helper, directly or through another helper, by their text alone."""
    texts = {path.stem: path.read_text() for path in (ROOT / "noisybench" / "mitigations").glob("*.py")}
    users = {helper}
    while more := {
        name for name, text in texts.items() if name not in users and any(
            re.search(rf"noisybench\.mitigations\.{user} import", text) for user in users
        )
    }:  # fmt: skip
        users |= more
    return {f"mitigations.{name}" for name in users if not name.startswith("_")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Return the folder of a copy of the package in the layout of a wheel."""
    return installed_layout(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def checkout() -> SourceTree:
    return SourceTree()


def edited(checkout: SourceTree, wheel: dict[str, list[Path]], edits: dict[str, Callable[[str], str]]) -> set[str]:
    """Return the parts of the code that change when files of the wheel are edited."""
    modules = all_modules()
    original = {name: (wheel["noisybench"][0] / name).read_text() for name in edits}
    before = checkout.code(modules)
    changed = {"noisybench." + name.removesuffix(".py").replace("/", ".") for name in edits}
    # Only the edited files are parsed again.
    known = {name: source for name, source in checkout._sources.items() if source and name not in changed}
    try:
        for name, edit in edits.items():
            assert edit(original[name]) != original[name]
            (wheel["noisybench"][0] / name).write_text(edit(original[name]))
        after = SourceTree(known, wheel).code(modules)
    finally:
        for name, text in original.items():
            (wheel["noisybench"][0] / name).write_text(text)
    return {part for part in before if before[part] != after[part]}


def flip_a_sign(text: str) -> str:
    flipped = re.sub(r"(return|=) (.*?) ([-+*]) ", lambda found: found[0].replace(found[3], "//"), text, count=1)
    return flipped if flipped != text else text.replace(" if not ", " if ", 1)


def append(text: str) -> str:
    return text + "\nADDED = 1\n"


def test_a_checkout_and_a_wheel_have_the_same_code(checkout: SourceTree, wheel: dict[str, list[Path]]) -> None:
    assert SourceTree(folders=wheel).code(all_modules()) == checkout.code(all_modules())


@pytest.mark.parametrize("helper", private_helpers())
def test_a_change_of_a_private_helper_changes_exactly_its_users(
    checkout: SourceTree, wheel: dict[str, list[Path]], helper: str
) -> None:
    assert edited(checkout, wheel, {f"mitigations/{helper}.py": flip_a_sign}) == users_of(helper)


def test_the_engine_is_part_of_every_run_and_neutral_rooms_are_part_of_none(
    checkout: SourceTree, wheel: dict[str, list[Path]]
) -> None:
    neutral = ("cli/app.py", "tracking/store.py", "records/schema.py", "leaderboard/table.py", "utils/files.py")
    assert edited(checkout, wheel, dict.fromkeys(neutral, append)) == set()
    assert edited(checkout, wheel, dict.fromkeys(("training/loop.py", "utils/seeds.py"), append)) == {"engine"}


def test_every_neutral_room_exists_and_has_a_reason() -> None:
    tree = SourceTree()
    assert all(reason and tree.path(name) is not None for name, reason in NEUTRAL_ROOMS.items())
    assert not set(tree.closure(ENGINE)) & set(NEUTRAL_ROOMS)


def test_components_named_in_parameters_count() -> None:
    pretraining = {"noise": {"name": "pair_flip"}, "budget": {"epochs": 1}}
    spec = resolve({"task": {"name": "transfer", "pretraining": pretraining}, "mitigations": "elr+linear_probe"})
    assert {*spec.code} == {
        "engine", "task", "dataset", "noise", "network", "mitigations.elr", "mitigations.linear_probe",
        "task.pretraining.dataset", "task.pretraining.noise",
    }  # fmt: skip
    pair_flip = resolve({"noise": "pair_flip"})
    assert spec.code["task.pretraining.noise"] == pair_flip.code["noise"]
    assert spec.code["task.pretraining.dataset"] == pair_flip.code["dataset"], "left out: the default dataset"


def test_digests_import_neither_torch_nor_a_plug_in() -> None:
    code = (
        "import sys\nfrom noisybench.config.registry import get_entry\n"
        "from noisybench.config.source_code import SourceTree\n"
        "modules = [get_entry('mitigations', 'half_of_the_examples').module, get_entry('noise_models', 'plugin_flip').module]\n"
        "assert len(SourceTree().code(dict(zip('ab', modules)))) == 3\n"
        "loaded = {'torch', 'numpy', 'acme_methods', 'noisybench.mitigations', 'noisybench.training'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "plugins")])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr


def test_settings_have_a_hash_of_their_own() -> None:
    spec, other = resolve({"mitigations": "gce"}), resolve({"mitigations": "gce", "seed": 1})
    assert spec.settings_hash != other.settings_hash
    assert spec.identity != spec.settings_hash
    assert spec.code == other.code


def code_of_plugin(folders: dict[str, list[Path]]) -> str:
    return SourceTree(folders=folders).code({"mitigations.method": "acme.method"})["mitigations.method"]


def test_a_file_changed_within_one_tick_of_the_clock_is_read_again(tmp_path: Path) -> None:
    folders = write_plugin(tmp_path)
    file = tmp_path / "acme" / "shared" / "helper.py"
    before = code_of_plugin(folders)
    status = file.stat()
    file.write_text("def loss(p):\n    return 1 + p\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert code_of_plugin(folders) != before


@pytest.mark.parametrize("content", [b"{", b'{"format": 1, "files": {"a b": [1]}}', b"\xff"])
def test_a_damaged_cache_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "cache"))
    expected = code_of_plugin(write_plugin(tmp_path))
    file = cache_folder() / "source_code.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    assert code_of_plugin({"acme": [tmp_path / "acme"]}) == expected


def test_unchanged_files_are_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("noisybench.config.source_cache.RECENT_SECONDS", -1)
    folders = write_plugin(tmp_path)
    before = code_of_plugin(folders)
    entries = json.loads((cache_folder() / "source_code.json").read_bytes())["files"]
    assert any(key.startswith("acme.method ") for key in entries)
    monkeypatch.setattr("noisybench.config.source_code.read_source", None)  # nothing is parsed
    assert code_of_plugin(folders) == before


def test_a_cache_folder_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert code_of_plugin(write_plugin(tmp_path))
