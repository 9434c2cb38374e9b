"""Imported once by the server from which runs are forked: everything that a run needs.

Also what a library would import at its first use: each run is a process of its own and would pay for that again.
"""

import matplotlib.backends.backend_agg
import mlflow.store.tracking.sqlalchemy_store
import mlflow.system_metrics.system_metrics_monitor
import pandas
import PIL.PngImagePlugin
import scipy.special
import sklearn.datasets
import sklearn.metrics
import sklearn.mixture
import sqlalchemy.dialects.sqlite
import torchvision

import noisybench.runner

__all__ = ["PIL", "matplotlib", "mlflow", "noisybench", "pandas", "scipy", "sklearn", "sqlalchemy", "torchvision"]
