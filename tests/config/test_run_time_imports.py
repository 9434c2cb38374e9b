"""Contract of the digests of code: they cover every module that a run imports.

Every component is tried in a process of its own, forked from one that has imported the libraries. All of them take two
minutes, so that this runs where NOISYBENCH_SLOW is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noisybench.config.registry import list_entries

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys, tempfile, warnings
from pathlib import Path

warnings.simplefilter("ignore")
import torch
import sklearn.datasets, sklearn.metrics, scipy.special

from noisybench.config.registry import get_entry
from noisybench.config.source_code import ENGINE, SourceTree, _is_neutral, modules_of_run

torch.set_num_threads(1)


def mitigations(name):
    from tests.helpers import prepared_toy, train_toy

    case = get_entry("mitigations", name).load_class().test_cases()[0]
    run = prepared_toy({"name": name, **case})
    train_toy(run, Path(tempfile.mkdtemp()))
    spec = run.spec
    return modules_of_run(spec.task, spec.dataset, spec.noise, spec.mitigations, spec.budget)


def noise_models(name):
    from tests.helpers import TOY_DATA, toy_dataset

    cls = get_entry("noise_models", name).load_class()
    toy = TOY_DATA.get(cls.tasks[0])
    dataset = cls.example_dataset(toy() if toy else toy_dataset(cls.example_classes))
    cls(**cls.example(dataset, Path(tempfile.mkdtemp()))).apply(dataset)
    source = {"segmentation": "scenes", "chain_of_thought": "traced_integers"}.get(cls.tasks[0], "digits")
    return {"noise": get_entry("noise_models", name).module, "dataset": get_entry("datasets", source).module}


def datasets(name):
    cls = get_entry("datasets", name).load_class()
    cls(**cls.example(Path(tempfile.mkdtemp()))).load()
    return {"dataset": get_entry("datasets", name).module}


def networks(name):
    from importlib import import_module

    from noisybench.networks import build_network

    example = getattr(import_module(get_entry("networks", name).module), "EXAMPLE", "")
    if example is not None:
        with torch.device("meta"):
            build_network(f"{name}:{example}" if example else name, 7, 3)
    # A network is built by a task, whose package is imported with the dataset's.
    return {"network": get_entry("networks", name).module}


tree, missing = SourceTree(), {}
# Neutral rooms list files for digests, so that this module is loaded even where a dataset lists none.
engine = tree.closure(ENGINE) | tree.closure("noisybench.utils.file_listing")
for kind, names in json.loads(sys.argv[1]).items():
    for name in names:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                modules = globals()[kind](name)
                covered = engine.union(*(tree.closure(module) for module in modules.values()))
                found = [m for m in sys.modules if m.startswith("noisybench.") and m not in covered and not _is_neutral(m)]
            except BaseException as error:
                found = [f"{type(error).__name__}: {error}"]
            os.write(writer, json.dumps(found).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            found = json.loads(stream.read())
        os.waitpid(child, 0)
        if found:
            missing[f"{kind}.{name}"] = found
print(json.dumps(missing))
"""


@pytest.mark.skipif(not os.environ.get("NOISYBENCH_SLOW"), reason="NOISYBENCH_SLOW is not set")
def test_all_modules_that_a_run_imports_are_in_its_digests(tmp_path: Path) -> None:
    tried = {kind: list(list_entries(kind)) for kind in ("mitigations", "noise_models", "datasets", "networks")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(tried)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    missing = json.loads(done.stdout.splitlines()[-1])
    assert not missing, missing
