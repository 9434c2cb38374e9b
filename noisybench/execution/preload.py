"""Import everything that a run needs; executed once by the server process from which runs are forked.

The list includes modules that libraries import on first use: each run is a separate process and would pay for them again.
"""

import atexit
import gc
import importlib
import os
import sys

from noisybench.config.loaded_code import remember_modules
from noisybench.config.source_code import ENGINE, SourceTree
from noisybench.utils.allocator import keep_freed_memory

before = SourceTree()
before.closure(ENGINE)
keep_freed_memory()
gc.disable()  # garbage collection during the imports takes a fifth of their time
for name in (
    "noisybench.runs.runner",
    "PIL.PngImagePlugin",
    "matplotlib.backends.backend_agg",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.system_metrics_monitor",
    "pandas.core.arrays.arrow.extension_types",
    "pyarrow.parquet",
    "scipy.special",
    "sklearn.datasets",
    "sklearn.metrics",
    "sklearn.mixture",
    "sqlalchemy.dialects.sqlite",
    "torch.utils.serialization.config",
    "torchvision",
):
    importlib.import_module(name)
# What MLflow computes on its first use in a process.
importlib.import_module("sqlalchemy.orm").configure_mappers()
importlib.import_module("noisybench.tracking.database").latest_schema()
environment = importlib.import_module("noisybench.runs.environment")
for name in environment.PACKAGES:
    environment.package_version(name)  # every run records the versions
remember_modules([name for name in sys.modules if name.startswith("noisybench.")], before)
gc.freeze()  # a collection in a run would copy the memory that runs share with the server process
gc.enable()
# The server ends when its command has ended. Its finalization would take seconds, and libraries would report leaks.
if sys.argv[:1] == ["-c"]:
    atexit.register(os._exit, 0)
