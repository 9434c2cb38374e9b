"""Loader with which `mlflow.pyfunc.load_model` loads a saved model."""

from __future__ import annotations

from typing import Any

from noisybench.api.models import Model


class PyfuncModel:
    """A model as MLflow calls it.

    Args:
        model: the loaded model.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(self, inputs: Any, params: dict[str, Any] | None = None) -> Any:
        """Return a data frame of class probabilities with one column per class, masks, or responses.

        Args:
            inputs: images, features, or prompts.
            params: unused; MLflow passes them.
        """
        if self.model.description.outputs != "classes":
            return self.model.predict(inputs)
        import pandas

        return pandas.DataFrame(self.model.predict_proba(inputs), columns=list(self.model.class_names))


def _load_pyfunc(path: str) -> PyfuncModel:
    """Load the model of a folder; the name is MLflow's."""
    return PyfuncModel(Model.load(path))
