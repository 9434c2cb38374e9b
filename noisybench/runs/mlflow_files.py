"""Files with which MLflow loads a saved model: `MLmodel`, its requirements and an input example.

They are written as text: importing MLflow's model classes and inferring requirements takes seconds, more than a small run.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from noisybench import __version__
from noisybench.errors import UserError
from noisybench.utils.files import first_line

if TYPE_CHECKING:
    from noisybench.runs.saved_model import ModelDescription

LOADER = "noisybench.api.mlflow_flavor"
"""Module whose `_load_pyfunc` loads the model."""

EXAMPLE_FILE = "input_example.json"

MAX_EXAMPLE_VALUES = 2**14
"""Largest number of values of an input example: an image of 224 pixels would take more space than a small network."""

INPUT_TYPES = {"images": "uint8", "features": "float32"}
"""Types of the values of inputs."""


def write_mlflow_files(description: ModelDescription, example: NDArray[Any] | str | None, folder: Path) -> None:
    """Write `MLmodel` and the files that it names into the folder of a model.

    Args:
        description: description of the model.
        example: (1, ...) input, or a prompt; None for no example.
        folder: folder of the model.
    """
    content: dict[str, Any] = {
        "artifact_path": folder.name,
        "flavors": {"python_function": {"loader_module": LOADER, "python_version": platform.python_version()}},
        "metadata": {
            "class_names": list(description.class_names),
            "inputs": description.inputs,
            "outputs": description.outputs,
            "run": description.title,
        },
        "mlflow_version": importlib.metadata.version("mlflow-skinny"),
        "model_uuid": uuid.uuid4().hex,
        "signature": {**_signature(description), "params": None},
        "utc_time_created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    if isinstance(example, str):
        (folder / EXAMPLE_FILE).write_text(json.dumps([example]), encoding="utf-8")
        content["saved_input_example_info"] = {"artifact_path": EXAMPLE_FILE, "type": "json_object"}
    elif example is not None and example.size <= MAX_EXAMPLE_VALUES:
        (folder / EXAMPLE_FILE).write_text(json.dumps(example.tolist()), encoding="utf-8")
        content["saved_input_example_info"] = {"artifact_path": EXAMPLE_FILE, "type": "ndarray"}
    (folder / "MLmodel").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    requirements = f"noisybench=={__version__}\ntorch=={description.torch.partition('+')[0]}\n"
    (folder / "requirements.txt").write_text(requirements, encoding="utf-8")


def _signature(description: ModelDescription) -> dict[str, str]:
    """Return the types and shapes of inputs and outputs, as JSON in JSON."""
    texts = [{"type": "string", "required": True}]
    inputs: list[dict[str, Any]] = texts
    if description.inputs != "texts":
        # Features are given as (N, D), without the axes of an image of one pixel.
        shape = description.input_shape if description.inputs == "images" else description.input_shape[:1]
        inputs = [_tensor(INPUT_TYPES[description.inputs], shape)]
    outputs: list[dict[str, Any]] = texts
    if description.outputs == "classes":
        outputs = [{"type": "float", "name": name, "required": True} for name in description.class_names]
    elif description.outputs == "masks":
        outputs = [_tensor("uint8", description.target_shape)]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)}


def _tensor(dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}


def read_example(folder: Path, description: ModelDescription) -> NDArray[Any] | str | None:
    """Return the input example of a model's folder; None if it has none.

    Raises:
        UserError: it is damaged.
    """
    file = folder / EXAMPLE_FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
        if description.inputs == "texts":
            return str(content[0])
        return np.array(content, dtype=INPUT_TYPES[description.inputs])
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{file}: is damaged ({first_line(error)}); save the model again") from None
