"""noisybench: a benchmark of methods for learning with noisy labels."""

import os
import pathlib

__version__ = "0.1.0"

# albumentations looks for a newer release of itself over the network when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Training machines should not report home, and a blocked network must not slow a run down.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Matrix products on a GPU are bit-identical between runs only with a separate workspace, created by the first of them.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# From a source checkout the sub-packages `tasks`, `noise_models`, `leaderboard` and `configs` lie beside this
# folder, not in it; an installed wheel already has them inside.
_root = pathlib.Path(__file__).resolve().parents[1]
if (_root / "setup.cfg").is_file() and (_root / "noise_models").is_dir():
    __path__ = [*__path__, str(_root)]
