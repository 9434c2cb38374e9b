"""Superclasses of CIFAR-100 from the authors' function."""

from __future__ import annotations

import ast
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from noisybench.noise_models.asymmetric_superclass_uniform import SUPERCLASSES

REFERENCE = "https://github.com/ContrastToDivide/C2D"
COMMIT = "38053869b77c1544349c53ba6f3c1325254aa413"
COMPUTED = "dataloaders.dataloader_cifar.get_asym_cifar100: the superclass of each class index, in the order of CIFAR-100's file"

COARSE = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture "
    "insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores "
    "medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2"
)


def generate(folder: Path) -> dict[str, Any]:
    """Return the superclass of each of the 100 classes in alphabetical order."""
    source = (folder / "dataloaders" / "dataloader_cifar.py").read_text(encoding="utf-8")
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "get_asym_cifar100"
    )
    # The rest of the file imports packages for pictures that are not needed.
    namespace: dict[str, Any] = {"pickle": pickle}
    exec(compile(ast.Module([function], []), "get_asym_cifar100", "exec"), namespace)
    fine = sorted(SUPERCLASSES.replace("|", " ").split())
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "meta").write_bytes(
            pickle.dumps({"fine_label_names": fine, "coarse_label_names": COARSE.split()})
        )
        groups = namespace["get_asym_cifar100"](root)
    superclass = np.empty(100, dtype=np.int8)
    for number, members in enumerate(groups):
        superclass[members] = number
    return {"superclass": superclass}
