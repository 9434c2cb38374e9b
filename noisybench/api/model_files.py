"""Predict for files: read inputs from them, and write tables of predictions, masks or responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noisybench.api.model_inputs import image_paths
from noisybench.api.models import Model
from noisybench.data.arrays import read_archive, read_array
from noisybench.data.images.decoding import IMAGE_SUFFIXES
from noisybench.data.labels.numeric_table import SUFFIXES as TABLE_SUFFIXES
from noisybench.data.labels.numeric_table import read_numbers
from noisybench.data.masks.layout import MaskLayout
from noisybench.errors import UserError, nearest
from noisybench.utils.cells import plain_cell
from noisybench.utils.files import replacing, wrap_write_errors
from noisybench.utils.places import check_file, shown

if TYPE_CHECKING:
    import pandas

LOCATION = "path"
"""Name of the argument for messages."""


@dataclass
class FilePredictions:
    """Predictions for the inputs of a file or folder.

    Attributes:
        names: name of each input: its path, or its row in a file.
        predicted: name of each class, or each response; empty for masks.
        probabilities: (N, C) class probabilities; None for masks and responses.
        masks: mask of each image by name, in the size of the image file.
        prompts: prompts of the responses.
    """

    names: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)
    probabilities: NDArray[np.float32] | None = None
    masks: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)

    def frame(self, class_names: tuple[str, ...]) -> pandas.DataFrame:
        """Return a table with a row per input: its name, what is predicted, and the probability of every class."""
        import pandas

        columns: dict[str, Any] = {"input": [plain_cell(name) for name in self.names]}
        if self.prompts:
            columns["prompt"] = [plain_cell(prompt) for prompt in self.prompts]
        columns["predicted"] = [plain_cell(text) for text in self.predicted]
        frame = pandas.DataFrame(columns)
        if self.probabilities is None:
            return frame
        frame["confidence"] = self.probabilities.max(1)
        # One column is named after each class, as `noisybench audit --pred-probs` reads them.
        return pandas.concat([frame, pandas.DataFrame(self.probabilities, columns=list(class_names))], axis=1)

    def write_table(self, class_names: tuple[str, ...], path: Path) -> None:
        """Write the table as CSV, or as parquet by the suffix.

        Raises:
            UserError: the file cannot be written.
        """
        frame = self.frame(class_names)
        with wrap_write_errors(path), replacing(path) as partial:
            if path.suffix == ".parquet":
                frame.to_parquet(partial, index=False)
            else:
                frame.to_csv(partial, index=False)

    def write_masks(self, folder: Path) -> None:
        """Write each mask as a PNG file of class indices, with the name of its image.

        Raises:
            UserError: a file cannot be written.
        """
        from PIL import Image

        for name, mask in self.masks.items():
            path = folder / f"{name}.png"
            with wrap_write_errors(path), replacing(path) as partial:
                Image.fromarray(mask).save(partial, "png")


def predict_files(model: Model, path: Path, array: str | None = None) -> FilePredictions:
    """Predict for an image, a folder of images, or the rows of a file.

    Args:
        model: the model.
        path: image file or folder of images; `.npz` or `.npy` file of images or features; `.csv` or `.tsv` table of
            features; or text file with one prompt in each line.
        array: name of the array in a `.npz` file that holds several.

    Raises:
        UserError: the path does not exist, cannot be read, or holds what the model was not trained on.
    """
    if not path.exists():
        raise UserError(f"{LOCATION}: {shown(path)} does not exist")
    if model.description.inputs == "texts" and model.description.outputs == "classes":
        raise UserError(
            f"{LOCATION}: the model classifies texts of several lines, which a file of lines cannot hold; use "
            "nb.Model.load(...).predict(texts) in Python"
        )
    if model.description.inputs == "texts":
        prompts = _read_lines(path)
        names = [str(row) for row in range(len(prompts))]
        return FilePredictions(names, model.predict(prompts), prompts=prompts)
    is_images = path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES
    if is_images and model.description.inputs == "images":
        return _predict_images(model, path)
    values = _read_values(model, path, array)
    names = [str(row) for row in range(len(values))]
    if model.description.outputs == "masks":
        masks = dict(zip((f"{row:05}" for row in range(len(values))), model.predict(values), strict=True))
        return FilePredictions(names, masks=masks)
    return _classes(model, names, model.predict_proba(values))


def _classes(model: Model, names: list[str], probabilities: NDArray[np.float32]) -> FilePredictions:
    predicted = [model.class_names[number] for number in probabilities.argmax(1)]
    return FilePredictions(names, predicted, probabilities)


def _predict_images(model: Model, path: Path) -> FilePredictions:
    """Return predictions for image files, which are named relative to their folder."""
    files = image_paths(path) or []
    root = path if path.is_dir() else path.parent
    short = {str(file): file.relative_to(root).as_posix() for file in files}
    if model.description.outputs == "classes":
        return _classes(model, list(short.values()), model.predict_proba(files))
    stems = {name: Path(text).with_suffix("").as_posix() for name, text in short.items()}
    if len(set(stems.values())) < len(stems):
        raise UserError(f"{LOCATION}: images in {shown(path)} differ in their suffix only; masks would have one name")
    predictions = FilePredictions(list(short.values()))
    for batch in model.batches(files):
        assert batch.layout is not None
        masks = [
            probabilities.max(1).indices.cpu().numpy().astype(np.uint8)
            for probabilities in model.probabilities(batch.values)
        ]
        names = tuple(stems[name] for name in batch.layout.names)
        layout = MaskLayout(names, batch.layout.placements)
        predictions.masks |= layout.restore(np.arange(len(names)), np.concatenate(masks))
    return predictions


def _read_values(model: Model, path: Path, array: str | None) -> NDArray[Any]:
    suffix, kind = path.suffix.lower(), model.description.inputs
    if suffix == ".npz":
        return _choose(read_archive(path, LOCATION), array, path)
    if suffix == ".npy":
        return read_array(path, LOCATION)
    if kind == "features" and suffix in TABLE_SUFFIXES:
        return read_numbers(path, LOCATION)
    kinds = {
        "images": "an image, a folder of images, or a .npz or .npy file of them",
        "features": "a .npz or .npy file, or a .csv or .tsv table of numbers; `noisybench embed` computes those of images",
    }
    raise UserError(f"{LOCATION}: {shown(path)} holds no {kind} that the model reads; give {kinds[kind]}")


def _choose(arrays: Mapping[str, NDArray[Any]], name: str | None, path: Path) -> NDArray[Any]:
    """Return the array of a name, or the only one of inputs."""
    candidates = [key for key, values in arrays.items() if values.ndim >= 2]
    if name is not None and name not in arrays:
        raise UserError(f"--array: {shown(path)} has no array `{name}`; {nearest(name, arrays)}")
    if name is None and len(candidates) != 1:
        listed = ", ".join(candidates) or "none"
        raise UserError(f"--array: {shown(path)} has several arrays of examples or none ({listed}); name one of them")
    return arrays[candidates[0] if name is None else name]


def _read_lines(path: Path) -> list[str]:
    try:
        lines = check_file(path, LOCATION).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{LOCATION}: {shown(path)} is no text in UTF-8; write one prompt in each line") from None
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise UserError(f"{LOCATION}: {shown(path)} has no prompts; write one in each line")
    return prompts
