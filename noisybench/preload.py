"""Imported once by the server from which runs are forked: everything that a run needs."""

import matplotlib.figure
import mlflow
import mlflow.system_metrics.system_metrics_monitor
import pandas
import scipy.special
import sklearn.datasets
import sklearn.metrics
import sklearn.mixture
import torchvision

import noisybench.runner

__all__ = ["matplotlib", "mlflow", "noisybench", "pandas", "scipy", "sklearn", "torchvision"]
