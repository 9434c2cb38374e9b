"""Figures of an Optuna study."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisybench.search.study import trial_states

if TYPE_CHECKING:
    import optuna


def plot_study(study: optuna.Study, folder: Path) -> None:
    """Write `timeline.png` and `history.png`, and with enough trials the importances and parallel coordinates.

    With two objectives `pareto.png` shows their trade-off.

    Args:
        study: study with at least one complete trial.
        folder: existing folder for the figures.
    """
    import matplotlib as mpl
    import optuna

    # Optuna draws through pyplot, which would otherwise look for a display.
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for name, (function, arguments) in _plots(study).items():
        with warnings.catch_warnings():
            # With few trials the parameters cannot be distinguished, which the figure shows without a warning.
            warnings.filterwarnings("ignore", message="Target and region quantiles")
            warnings.filterwarnings("ignore", message="Some regimes for parameter")
            warnings.filterwarnings("ignore", message=".*computes the importances of params to achieve low")
            axes: Any = getattr(optuna.visualization.matplotlib, function)(study, **arguments)
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=90)
        # Pyplot keeps every figure in memory until it is closed.
        plt.close(figure)


def _plots(study: optuna.Study) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return Optuna's plotting function and its arguments by file name."""
    one_objective = len(study.directions) == 1
    target: dict[str, Any] = (
        {} if one_objective else {"target": lambda trial: trial.values[0], "target_name": "validation"}
    )
    plots: dict[str, tuple[str, dict[str, Any]]] = {
        "timeline": ("plot_timeline", {}),
        "history": ("plot_optimization_history", target),
    }
    if len(study.get_trials(deepcopy=False, states=(trial_states().COMPLETE,))) > 1:
        # Optuna computes the importance for low values of a custom target, so the score is negated.
        importance_target = {} if one_objective else {**target, "target": lambda trial: -trial.values[0]}
        plots["importances"] = "plot_param_importances", importance_target
        plots["parallel"] = "plot_parallel_coordinate", target
    if not one_objective:
        plots["pareto"] = "plot_pareto_front", {"target_names": ["validation", "seconds"]}
    return plots
