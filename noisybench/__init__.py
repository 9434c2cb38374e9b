"""noisybench: benchmark methods for learning with noisy labels, and use them in your own code.

>>> import noisybench as nb
>>> nb.load_dataset("digits").num_classes
10
"""

# Nothing else is imported here: the command line starts with this file, and Ctrl-C during an import gives a traceback.
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noisybench.api.audit import audit as audit
    from noisybench.api.catalog import list_names as list_names
    from noisybench.api.datasets import load_dataset as load_dataset
    from noisybench.api.detect import detect as detect
    from noisybench.api.label_sets import pull_label_set as pull_label_set
    from noisybench.api.label_sets import push_label_set as push_label_set
    from noisybench.api.leaderboard import leaderboard as leaderboard
    from noisybench.api.models import load_model as load_model
    from noisybench.api.noise import noise as noise
    from noisybench.api.results import results as results
    from noisybench.api.runs import bench as bench
    from noisybench.api.runs import run as run
    from noisybench.errors import TrainingError as TrainingError
    from noisybench.errors import UserError as UserError
    from noisybench.integrations import hf as hf
    from noisybench.integrations import lightning as lightning
    from noisybench.integrations import losses as losses
    from noisybench.integrations.sklearn import RobustClassifier as RobustClassifier

__version__ = "0.2.0"

# albumentations checks for a newer release over the network when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Training machines should send no telemetry, and a blocked network must not slow down a run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Matrix products on a GPU are deterministic only with this workspace, which cuBLAS allocates on first use.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# In a source checkout the sub-packages `tasks`, `noise_models`, `leaderboard` and `configs` are beside this folder;
# in an installed package they are inside.
_root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if os.path.isfile(os.path.join(_root, "setup.cfg")) and os.path.isdir(os.path.join(_root, "noise_models")):
    __path__ = [*__path__, _root]

_MODULES = {
    "RobustClassifier": "noisybench.integrations.sklearn",
    "TrainingError": "noisybench.errors",
    "UserError": "noisybench.errors",
    "audit": "noisybench.api.audit",
    "bench": "noisybench.api.runs",
    "detect": "noisybench.api.detect",
    "hf": "noisybench.integrations.hf",
    "leaderboard": "noisybench.api.leaderboard",
    "lightning": "noisybench.integrations.lightning",
    "list_names": "noisybench.api.catalog",
    "load_dataset": "noisybench.api.datasets",
    "load_model": "noisybench.api.models",
    "losses": "noisybench.integrations.losses",
    "noise": "noisybench.api.noise",
    "pull_label_set": "noisybench.api.label_sets",
    "push_label_set": "noisybench.api.label_sets",
    "results": "noisybench.api.results",
    "run": "noisybench.api.runs",
}
"""Modules of the public names, which are imported when a name is first used: torch takes seconds."""

__all__ = [
    "RobustClassifier",
    "TrainingError",
    "UserError",
    "audit",
    "bench",
    "detect",
    "hf",
    "leaderboard",
    "lightning",
    "list_names",
    "load_dataset",
    "load_model",
    "losses",
    "noise",
    "pull_label_set",
    "push_label_set",
    "results",
    "run",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        if name.startswith("_"):
            raise AttributeError(f"module 'noisybench' has no attribute {name!r}")
        from noisybench.errors import nearest

        raise AttributeError(f"module 'noisybench' has no attribute {name!r}; {nearest(name, _MODULES)}")
    import importlib

    module = importlib.import_module(_MODULES[name])
    # A name that is that of its module, such as `losses`, stands for the module itself.
    value: object = getattr(module, name) if hasattr(module, name) else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, also those that are not imported yet."""
    return sorted({*globals(), *_MODULES})


class _Package(ModuleType):
    """Module whose public names are not replaced by sub-packages of the same name, such as `audit`, when they are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _MODULES and isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}":
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
