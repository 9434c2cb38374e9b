"""Imported once by the server from which runs are forked: everything that a run needs.

Also what a library would import at its first use: each run is a process of its own and would pay for that again.
"""

import gc
import importlib

gc.disable()  # to look for garbage among what libraries make as they are imported takes a fifth of the time
for name in (
    "noisybench.runs.runner",
    "PIL.PngImagePlugin",
    "matplotlib.backends.backend_agg",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.system_metrics_monitor",
    "pandas",
    "scipy.special",
    "sklearn.datasets",
    "sklearn.metrics",
    "sklearn.mixture",
    "sqlalchemy.dialects.sqlite",
    "torchvision",
):
    importlib.import_module(name)
gc.freeze()  # nor need runs look there, which would copy the memory that they share
gc.enable()
