"""Models of finished runs: load, predict, save, export."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisybench.api.model_inputs import ModelInputs, image_paths, read_image_chunks, read_prompts, read_values
from noisybench.api.paths import read_path
from noisybench.errors import UserError, show
from noisybench.nn.weights import weights_digest
from noisybench.runs.mlflow_files import read_example
from noisybench.runs.saved_model import (
    ModelDescription,
    TrainedModel,
    load_task,
    read_description,
)
from noisybench.tracking.models import FOLDER, MLFLOW_SCHEMES, downloaded, find_finished_run
from noisybench.tracking.store import Store, upload_files
from noisybench.utils.console import make_console

if TYPE_CHECKING:
    from noisybench.records.schema import RunRecord
    from noisybench.tracking.reader import TrackedRun
    from noisybench.training.task import Task


class Model:
    """A trained model with the preprocessing of its training; `load_model` and `RunResult.model` return it.

    Its predictions for the test examples of its run are those of the record: exactly on the device and with the number of
    threads of the training, and up to rounding elsewhere.

    Attributes:
        description: how inputs are read, how the networks are built, and from which run they come.
    """

    def __init__(self, task: Task, description: ModelDescription, example: NDArray[Any] | str | None) -> None:
        self.description, self._task, self._example = description, task, example

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Model:
        """Load the model of a folder.

        Args:
            folder: folder that `save` has written, or `model` among the files of a run.
            device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

        Raises:
            UserError: the folder holds no model, or a file of it is damaged.
        """
        from noisybench.embedding.embed import choose_device

        folder = read_path(folder, "folder")
        description = read_description(folder)
        task = load_task(folder, description, choose_device(device))
        return cls(task, description, read_example(folder, description))

    def save(self, folder: str | Path) -> Path:
        """Save the model with its present weights, for `load_model` and MLflow, and return the folder.

        Raises:
            UserError: the folder exists, or cannot be written.
        """
        target = read_path(folder, "folder")
        weights = {name: tensor.cpu() for name, tensor in self._task.networks.state_dict().items()}
        content = self.description.model_copy(update={"weights_sha256": weights_digest(weights)})
        try:
            TrainedModel(content, weights, self._task.networks[0], self._example).save(target)
        except FileExistsError:
            raise UserError(f"{target}: exists; choose a new folder for the model") from None
        except OSError as error:
            raise UserError(f"{target}: the model cannot be written ({error.strerror or error})") from None
        return target

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in the order of their indices; empty for a model that writes texts."""
        return self.description.class_names

    @property
    def network(self) -> nn.Module:
        """The network, a torch module that takes normalized inputs; a `ModuleList` if several are deployed together."""
        networks = self._task.networks
        return networks if len(networks) > 1 else networks[0]

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self._task.device

    def to(self, device: str | torch.device) -> Model:
        """Move the networks to a device, and return the model."""
        self._task.to(device)
        return self

    def predict(self, inputs: Any, names: bool = False) -> Any:
        """Return the predictions for some inputs.

        Args:
            inputs: (N, H, W), (N, H, W, C) or (N, C, H, W) images as uint8, or floating-point numbers from 0 to 1; one image
                or a list of images of Pillow; a path of an image, a folder of images, or a list of paths; (N, D) features
                as an array, tensor or data frame; a prompt, or a list of prompts. Images are resized and converted to
                grayscale or color as in training.
            names: return names of classes instead of their indices.

        Returns:
            (N,) int64 classes, or their names; (N, H, W) uint8 masks in the size of the training; or N responses.

        Raises:
            UserError: the inputs are not what the model was trained on.
        """
        if self.description.outputs == "texts":
            return self._respond(read_prompts(self.description, inputs))
        if self.description.outputs == "masks":
            predicted = self._collect(inputs, lambda probabilities: probabilities.max(1).indices.to(torch.uint8))
        else:
            predicted = self.predict_proba(inputs).argmax(1)
        return np.array(self.class_names, dtype=object)[predicted] if names else predicted

    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Return the (N, C) class probabilities of some inputs, or (N, C, H, W) for masks; see `predict`.

        Raises:
            UserError: the inputs are not what the model was trained on, or it writes texts.
        """
        if self.description.outputs == "texts":
            raise UserError("predict_proba: the model writes texts, which have no class probabilities; use predict")
        return self._collect(inputs, lambda probabilities: probabilities)

    def export(self, path: str | Path) -> Path:
        """Write the whole prediction, from raw inputs in the size of the training to probabilities, and return the file.

        Args:
            path: file that ends in ``.onnx`` (ONNX; needs `pip install noisybench[onnx]`) or ``.pt2`` (`torch.export`).

        Raises:
            UserError: the model writes texts, or the network cannot be exported.
        """
        from noisybench.api.model_export import export_model

        return export_model(self._task, self.description, read_path(path, "path"))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a language model of Hugging Face as a folder that transformers loads, and return the folder.

        Of a run with low-rank updates, the folder holds the adapter, which peft loads onto the model that was tuned.

        Raises:
            UserError: the network is no model of transformers.
        """
        from noisybench.api.model_export import save_pretrained

        return save_pretrained(self._task, self.description, read_path(folder, "folder"))

    def batches(self, inputs: Any) -> Iterator[ModelInputs]:
        """Yield inputs as the networks take them: arrays at once, and files some at a time."""
        files = image_paths(inputs) if self.description.inputs == "images" else None
        if files is None:
            yield read_values(self.description, inputs)
        else:
            yield from read_image_chunks(self.description, files)

    def probabilities(self, values: NDArray[Any]) -> Iterator[Tensor]:
        """Yield the class probabilities of prepared inputs on the device, some inputs at a time."""
        tensor = torch.from_numpy(values)
        if self.description.outputs == "masks":
            for _, probabilities in self._task.predict_batches(tensor):
                yield probabilities
        else:
            tensor = tensor.to(self.device)
            yield self._task.predict(tensor)
            self._task.release(tensor)

    def _collect(self, inputs: Any, reduce: Callable[[Tensor], Tensor]) -> NDArray[Any]:
        parts = [
            reduce(probabilities).cpu().numpy()
            for batch in self.batches(inputs)
            for probabilities in self.probabilities(batch.values)
        ]
        return np.concatenate(parts)

    def _respond(self, prompts: list[str]) -> list[str]:
        task: Any = self._task
        trace_format, (width,) = task.training_set.traces, self.description.input_shape[2:]
        # Positions are counted from the left, so that prompts need the columns that they had in training.
        encoded = trace_format.encode(prompts, width, left=True)[:, None, None, :]
        responses: list[str] = task.respond(torch.from_numpy(encoded), self.description.target_shape[0])
        return [response.removesuffix(trace_format.end) for response in responses]

    def __repr__(self) -> str:
        description = self.description
        shape = "x".join(map(str, description.input_shape))
        outputs = {"classes": f"{description.num_classes} classes", "masks": "masks", "texts": "texts"}
        return (
            f"Model({description.budget['network']}: {shape} {description.inputs} -> {outputs[description.outputs]}; "
            f"{description.title})"
        )


def load_model(source: str | Path, retrain: bool = False, device: Literal["auto", "cpu", "cuda"] = "auto") -> Model:
    """Load the model of a finished run, or of a folder.

    Args:
        source: folder of a saved model; id or identity of a run in the store of the working folder, or its first digits; or
            an address of MLflow, such as ``runs:/RUN_ID/model`` or ``models:/NAME/1``.
        retrain: train the run again if its model was not saved; refused if it does not reach the recorded weights.
        device: device of the networks; ``auto`` is a GPU if there is one.

    Raises:
        UserError: there is no such model, it was not saved, or it is damaged.
    """
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise UserError(
            f"run: must be the id of a run, a folder or an address of MLflow, but got {show(source)}"
            + ("; the model of a result is result.model()" if hasattr(source, "model") else "")
        )
    folder, name = read_path(source, "run"), str(source)
    if folder.is_dir():
        return Model.load(folder, device)
    store = Store()
    # Without a server, MLflow itself does not find the files of the embedded store.
    name = re.sub(r"^runs:/(\w+)(/model)?$", r"\1", name)
    if name.startswith(MLFLOW_SCHEMES):
        with downloaded(name, store.connection.uri) as local:
            return Model.load(local, device)
    return model_of_run(store, find_finished_run(store, name), retrain, device)


def model_of_run(store: Store, run: TrackedRun, retrain: bool, device: str) -> Model:
    """Return the model of a run; see `load_model`.

    Raises:
        UserError: it was not saved, or cannot be trained again.
    """
    with store.runs.open_file(run, FOLDER) as saved:
        if saved is not None:
            return Model.load(saved, device)
    record = store.runs.record(run)
    if not retrain:
        raise UserError(
            f"run {run.run_id} ({run.title}): its model was not saved, since its weights take more than 2 MiB or "
            "execution.save_model=false; run it again with execution.save_model=true, or ask for its training from the "
            "record with --retrain (Python: retrain=True)"
        )
    return retrained_model(record, store, device)


def retrained_model(record: RunRecord, store: Store, device: str = "auto") -> Model:
    """Train a finished run again, check its weights, add its model to the run, and return it.

    Raises:
        UserError: it reaches other weights than recorded; says why.
    """
    from noisybench.runs.retraining import retrain

    make_console(stderr=True).print(
        f"Training {record.title} again ({record.cost.wall_seconds:.0f} s before), since its model was not saved ...",
        markup=False,
    )
    model = retrain(record)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / FOLDER)
        upload_files(store.connection, record.run_id, [Path(folder) / FOLDER])
        return Model.load(Path(folder) / FOLDER, device)
