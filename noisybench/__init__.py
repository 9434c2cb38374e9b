"""noisybench: benchmark methods for learning with noisy labels."""

import os

__version__ = "0.1.0"

# albumentations checks for a newer release over the network when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Training machines should send no telemetry, and a blocked network must not slow down a run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Matrix products on a GPU are deterministic only with this workspace, which cuBLAS allocates on first use.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# In a source checkout the sub-packages `tasks`, `noise_models`, `leaderboard` and `configs` are beside this folder;
# in an installed package they are inside.
_root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# `pathlib` is not imported here: until the command line receives signals, Ctrl-C would give a traceback.
if os.path.isfile(os.path.join(_root, "setup.cfg")) and os.path.isdir(os.path.join(_root, "noise_models")):
    __path__ = [*__path__, _root]
