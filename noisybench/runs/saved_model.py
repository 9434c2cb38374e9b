"""Trained models in files: the deployed networks of a run, saved so that its predictions can be repeated exactly.

A folder of a model has `model.json` (how inputs are read, and how the networks are built), `weights.pt` (the weights of the
deployed networks) and `MLmodel`, with which MLflow loads it. A pre-trained language model has its configuration and tokenizer
in `network/` beside them. No file holds code or pickled objects.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisybench import __version__
from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.config.spec import Component, RunSpec
from noisybench.data.dataset import Dataset
from noisybench.data.texts import is_text, texts_of
from noisybench.data.traces.answers import AnswerFormat
from noisybench.data.traces.deployed_format import DeployedTraceFormat
from noisybench.data.traces.formats import TraceFormat
from noisybench.data.traces.gsm8k_calculations import CalculationTraceFormat
from noisybench.errors import UserError
from noisybench.nn.weights import weights_digest
from noisybench.runs.mlflow_files import write_mlflow_files
from noisybench.tracking.models import MAX_SMALL_BYTES, WEIGHTS
from noisybench.training.roles import PostProcessor
from noisybench.training.stack import Stack
from noisybench.training.task import Task
from noisybench.training.training_set import TrainingSet
from noisybench.utils.files import first_line
from noisybench.utils.torch_state import preserved_torch_state

DESCRIPTION, NETWORK = "model.json", "network"
"""File of the description, and folder of the files of a language model."""

READING_PARAMETERS = ("size", "resize_mode", "intensity_range", "transparent_color")
"""Parameters of datasets that decide how an image file becomes an input."""

Kind = Literal["images", "features", "texts"]

Size = Annotated[int, pydantic.Field(ge=1)]
"""Number of channels, pixels, features, characters or classes."""


class ModelDescription(pydantic.BaseModel):
    """Everything about a saved model besides its weights.

    Attributes:
        format: number of the layout; models of another one are refused.
        noisybench: version that saved it.
        torch: version of PyTorch that trained it.
        title: one-line description of its run.
        identity: identity of its run.
        inputs: kind of its inputs; texts are prompts.
        outputs: kind of its predictions; texts are responses.
        input_shape: shape of an input in training: (C, H, W), (D, 1, 1), or (1, 1, characters).
        target_shape: shape of a target in training: () for classes, (H, W) for masks, (characters,) for responses.
        class_names: names of the classes; empty for texts.
        num_classes: number of outputs of the networks.
        has_background: whether class 0 of masks is the background.
        reading: parameters with which the dataset reads image files.
        traces: format of prompts and responses, for texts.
        task: task with its parameters.
        mitigations: stack of mitigations with their parameters.
        budget: training settings, which name the network.
        seed: seed of the run.
        state: values of the task beside the weights, such as the statistics that normalize images.
        weights_sha256: digest of the saved weights.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    noisybench: str
    torch: str
    title: str
    identity: str
    inputs: Kind
    outputs: Literal["classes", "masks", "texts"]
    input_shape: tuple[Size, ...] = pydantic.Field(min_length=3, max_length=3)
    target_shape: tuple[Size, ...]
    class_names: tuple[str, ...]
    num_classes: Size
    has_background: bool
    reading: dict[str, Any]
    traces: dict[str, Any] | None
    task: dict[str, Any]
    mitigations: list[dict[str, Any]]
    budget: dict[str, Any]
    seed: int
    state: dict[str, Any]
    weights_sha256: str


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model in memory, before it is saved.

    Attributes:
        description: everything but the weights.
        weights: weights of the deployed networks by name, on the host; the number of the network comes first.
        network: first deployed network, which may have files of its own.
        example: (1, ...) input, or a prompt.
    """

    description: ModelDescription
    weights: dict[str, Tensor]
    network: torch.nn.Module
    example: NDArray[Any] | str | None

    @property
    def num_bytes(self) -> int:
        """Size of the weights."""
        return sum(tensor.nbytes for tensor in self.weights.values())

    def save(self, folder: Path) -> None:
        """Write all files of the model into a new folder.

        Raises:
            OSError: the folder exists, or cannot be written.
        """
        folder.mkdir(parents=True)
        torch.save(self.weights, folder / WEIGHTS)
        save_files = getattr(self.network, "save_files", None)
        if save_files is not None:
            save_files(folder / NETWORK)
        write_mlflow_files(self.description, self.example, folder)
        # Last: a folder without its description is no model, wherever the process dies.
        (folder / DESCRIPTION).write_text(self.description.model_dump_json(indent=2), encoding="utf-8")


def is_saved(spec: RunSpec, num_bytes: int) -> bool:
    """Return True if a run saves its model.

    Args:
        spec: specification of the run.
        num_bytes: size of the weights.

    Example:
        >>> from noisybench.config.resolve import resolve
        >>> is_saved(resolve({}), 25_000), is_saved(resolve({}), 45_000_000)
        (True, False)
        >>> is_saved(resolve({"execution": {"save_model": True}}), 45_000_000)
        True
    """
    wanted = spec.execution.save_model
    return num_bytes <= MAX_SMALL_BYTES if wanted is None else wanted


def trained_model(spec: RunSpec, dataset: Dataset, task: Task, weights: Mapping[str, Tensor]) -> TrainedModel:
    """Return the deployed networks of a trained task, with their description.

    Args:
        spec: specification of the run.
        dataset: its dataset.
        task: the task after training and post-processing.
        weights: weights of all networks on the host, by name; the number of the network comes first.
    """
    prefixes = tuple(f"{number}." for number in task.stack.deployed_networks)
    kept = {name: tensor for name, tensor in weights.items() if name.startswith(prefixes)}
    train, outputs = dataset.train, {"classes": "classes", "masks": "masks", "tokens": "texts"}
    writes_text = dataset.trace_format is not None
    is_image = train.inputs.dtype == np.uint8
    kind: Kind = "texts" if writes_text or is_text(train.inputs[:1]) else "images" if is_image else "features"
    content = spec.as_dict()
    description = ModelDescription(
        noisybench=__version__,
        torch=torch.__version__,
        title=spec.title,
        identity=spec.identity,
        inputs=kind,
        outputs=outputs[dataset.target_kind.name],  # type: ignore[arg-type]  # checked by pydantic
        input_shape=tuple(train.inputs.shape[1:]),
        target_shape=train.targets.shape[1:],
        class_names=() if writes_text else dataset.class_names,
        num_classes=dataset.num_classes,
        has_background=dataset.has_background,
        reading={name: content["dataset"][name] for name in READING_PARAMETERS if name in content["dataset"]},
        traces=None if dataset.trace_format is None else _trace_fields(dataset.trace_format),
        task=content["task"],
        mitigations=content["mitigations"],
        budget=content["budget"],
        seed=spec.seed,
        state=task.deployment_state(),
        weights_sha256=weights_digest(kept),
    )
    first = np.asarray(dataset.test.inputs[:1])
    example = first.reshape(1, -1) if kind == "features" else first
    prompt: str | None = dataset.trace_format.decode(first[:, 0, 0])[0] if dataset.trace_format is not None else None
    if is_text(first):
        (prompt,) = texts_of(first)
    return TrainedModel(description, kept, task.networks[0], example if prompt is None else prompt)


def read_description(folder: Path) -> ModelDescription:
    """Return the description of a saved model.

    Raises:
        UserError: the folder holds no model, or one of another format.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise UserError(f"{folder}: is no folder of a model, since it has no {DESCRIPTION}")
    try:
        return ModelDescription.model_validate_json(file.read_bytes())
    except (OSError, pydantic.ValidationError) as error:
        raise UserError(
            f"{file}: is damaged, or was saved by another version of noisybench ({_reason(error)}); save it again"
        ) from None


def load_task(folder: Path, description: ModelDescription, device: torch.device) -> Task:
    """Return the task of a saved model with its deployed networks, ready to predict.

    Args:
        folder: folder of the model.
        description: its description.
        device: device of the networks.

    Raises:
        UserError: the weights are damaged, or the installed code builds other networks.
    """
    weights = _read_weights(folder, description)
    try:
        with preserved_torch_state():  # networks are initialized from seeds of their own
            task = _build_task(folder, description)
            for number in task.stack.deployed_networks:
                prefix = f"{number}."
                own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
                for processor in task.stack.with_role(PostProcessor):
                    processor.rebuild(task.networks[number], own)
    except UserError as error:
        raise UserError(*(f"{folder / DESCRIPTION}: {problem}" for problem in error.problems)) from None
    except Exception as error:  # networks, tasks and formats raise anything if their settings are damaged
        raise UserError(
            f"{folder / DESCRIPTION}: describes a model that cannot be built ({_reason(error)}); save the model again"
        ) from None
    # The other networks of a stack are trained and not deployed.
    del task.networks[len(task.stack.deployed_networks) :], task.forwards[len(task.stack.deployed_networks) :]
    try:
        task.networks.load_state_dict(weights)
        task.load_deployment_state(description.state)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder}: its weights do not fit the network `{description.budget['network']}` that is installed "
            f"({first_line(error)}); install noisybench {description.noisybench}, which saved it"
        ) from None
    return task.to(device).eval()


def _build_task(folder: Path, description: ModelDescription) -> Task:
    """Return the untrained task of a model, with networks as its stack builds them."""
    stack = Stack([_component("mitigations", fields).build() for fields in description.mitigations])
    task_component = _component("tasks", description.task)
    task_class = get_entry("tasks", task_component.name).load_class()
    budget = Budget.model_validate_json(pydantic.TypeAdapter(dict[str, Any]).dump_json(description.budget))
    if (folder / NETWORK).is_dir():
        budget = budget.model_copy(update={"network": f"huggingface:{folder / NETWORK}"})
    task: Task = task_class(budget, description.seed, _example_set(description), stack, **task_component.parameters)
    task.build_models()
    return task


def _component(kind: str, fields: Mapping[str, Any]) -> Component:
    """Return a task or a mitigation from its name and parameters, which may be damaged."""
    entry = get_entry(kind, str(fields.get("name")), kind)
    parameters, problems = entry.schema.validate({key: value for key, value in fields.items() if key != "name"}, kind)
    if problems:
        raise UserError(*problems)
    return Component(kind, entry.name, parameters)


def _example_set(description: ModelDescription) -> TrainingSet:
    """Return a training set of one empty example, from which the task learns the shapes of its inputs and targets."""
    # Texts are read as bytes.
    types = {"images": torch.uint8, "features": torch.float32, "texts": torch.uint8}
    traces = None if description.traces is None else _trace_format(description.traces)
    if traces is None:
        inputs = torch.zeros(1, *description.input_shape, dtype=types[description.inputs])
        targets = torch.zeros(
            1, *description.target_shape, dtype=torch.uint8 if description.target_shape else torch.int64
        )
    else:
        inputs = torch.from_numpy(np.zeros((1, *description.input_shape), traces.dtype))
        targets = torch.from_numpy(np.zeros((1, *description.target_shape), traces.dtype))
    return TrainingSet(
        inputs,
        targets,
        description.num_classes,
        class_names=description.class_names,
        traces=traces,
        has_background=description.has_background,
    )


def _reason(error: Exception) -> str:
    """Return why a description is refused: its first field that is invalid, or the first line of another error."""
    if not isinstance(error, pydantic.ValidationError):
        return first_line(error)
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _read_weights(folder: Path, description: ModelDescription) -> dict[str, Tensor]:
    file = folder / WEIGHTS
    try:
        # `weights_only` keeps a downloaded file from executing code.
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        digest = weights_digest(weights)
    except pickle.UnpicklingError:
        raise UserError(
            f"{file}: is damaged, or holds pickled objects, which could run code and are not read; save the model again"
        ) from None
    except Exception as error:  # parsers raise anything on damaged files
        raise UserError(f"{file}: is missing or damaged ({first_line(error)}); save the model again") from None
    if digest != description.weights_sha256:
        raise UserError(
            f"{file}: does not hold the weights that {DESCRIPTION} names (SHA-256 {digest[:8]}, expected "
            f"{description.weights_sha256[:8]}); save the model again"
        )
    return weights


def _trace_fields(trace_format: TraceFormat) -> dict[str, Any]:
    """Return the fields of a format that reading prompts and responses needs."""
    answers = getattr(trace_format, "answers", None)
    return {
        "vocabulary": trace_format.vocabulary,
        "end": trace_format.end,
        "separator": trace_format.separator,
        "answer_marks": list(trace_format.answer_marks),
        "answers": dataclasses.asdict(answers) if isinstance(answers, AnswerFormat) else None,
    }


def _trace_format(fields: Mapping[str, Any]) -> TraceFormat:
    if fields["answers"] is not None:
        return CalculationTraceFormat(fields["vocabulary"], AnswerFormat(**fields["answers"]))
    return DeployedTraceFormat(fields["vocabulary"], fields["end"], fields["separator"], tuple(fields["answer_marks"]))
