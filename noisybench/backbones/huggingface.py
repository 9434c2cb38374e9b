"""Any image or text encoder of Hugging Face, as `huggingface:NAME` or `huggingface:FOLDER`; needs `pip install transformers`.

The preprocessing is that of the model: its image preprocessing, or its tokenizer with the pooling of sentence-transformers, if
the model declares one, and the mean over the tokens otherwise. Of models of both, such as CLIP, it is the image encoder.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.backbones import ImageBackbone
from noisybench.backbones._hub import check_reachable, quiet_hub
from noisybench.backbones._text import Pooling, TextBackbone
from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import expand_user, shown

EXAMPLE = "facebook/dinov2-small"

MAX_TOKENS = 512
"""Largest number of tokens of encoders that do not say how many they take."""

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
SETTINGS = ("*.json", "*/*.json", "*.txt", "*.model")
"""Files of a model."""

POOLING: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
}
"""Names of sentence-transformers."""


class ImageEncoder(nn.Module):
    """Encoder of transformers, called with images alone.

    Attributes:
        model: the encoder.
        pools: whether its pooled output has trained weights.
    """

    def __init__(self, model: nn.Module, pools: bool) -> None:
        super().__init__()
        self.model, self.pools = model, pools

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, D) pooled output, the first token, or (B, D, h, w) maps."""
        # Models of images and texts.
        if hasattr(self.model, "get_image_features"):
            encode: Any = self.model.get_image_features
            output = encode(pixel_values=images)
            features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
            return features
        output = self.model(pixel_values=images)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None and self.pools:
            return pooled
        hidden: Tensor = output.last_hidden_state
        return hidden[:, 0] if hidden.dim() == 3 else hidden


def load(name: str, size: int | None = None) -> ImageBackbone | TextBackbone:
    """Return an encoder with its published weights.

    Args:
        name: name on the Hugging Face Hub, or a folder with the files of a model.
        size: side in pixels to which images are resized, or largest number of tokens.

    Raises:
        UserError: transformers is not installed, there is no such model on this machine and none can be downloaded, or it
            lacks weights.
    """
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise UserError(
            "--backbone: transformers is not installed; run `python -m pip install 'noisybench[language]'`"
        ) from None
    title = f"huggingface:{name}"
    with _quiet():
        folder = _folder(name, title)
        if (folder / "preprocessor_config.json").is_file():
            return _load_image_encoder(folder, title, size)
        return load_text_encoder(folder, title, size)


def load_text_encoder(folder: Path, title: str, size: int | None = None) -> TextBackbone:
    """Return a text encoder with the pooling that its files declare, and the mean over the tokens otherwise.

    Args:
        folder: folder with the files of a model.
        title: name of the backbone for messages.
        size: largest number of tokens (default: that of the model).

    Raises:
        UserError: a file is missing or damaged, or lacks weights, or has layers after the pooling.
    """
    from transformers import AutoTokenizer

    with _quiet():
        model = _load_model(folder, title)
        with _wrap_errors(title):
            tokenizer = AutoTokenizer.from_pretrained(folder)
    pooling, normalize, declared = _sentence_transformers(folder, title)
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    # Tokenizers without a limit say 10^30.
    known = [limit for limit in limits if limit and limit < 10**6]
    largest = min(known) if known else MAX_TOKENS
    if size is not None and size > largest:
        raise UserError(f"--size: {title} accepts at most {largest} tokens, but got {size}")
    sentence = _read_json(folder / "sentence_bert_config.json")
    return TextBackbone(
        model,
        tokenizer,
        size or sentence.get("max_seq_length") or min(largest, MAX_TOKENS),
        pooling,
        normalize,
        bool(sentence.get("do_lower_case", False)) and declared,
    )


def _load_image_encoder(folder: Path, title: str, size: int | None) -> ImageBackbone:
    from transformers import AutoImageProcessor

    processors: Any = AutoImageProcessor
    model, missing = _load_model_with_missing(folder, title)
    with _wrap_errors(title):
        processor = processors.from_pretrained(folder)
    options: dict[str, Any] = {}
    if size is not None:
        sides = {"height": size, "width": size}
        options["size"] = {"shortest_edge": size} if "shortest_edge" in dict(processor.size or {}) else sides
        options |= {"crop_size": sides} if getattr(processor, "crop_size", None) else {}

    def process(images: Tensor) -> Tensor:
        """Return the inputs of the model for (B, 3, H, W) uint8 images."""
        pixels: Tensor = processor(
            list(images.cpu()), return_tensors="pt", input_data_format="channels_first", **options
        )["pixel_values"]
        return pixels.to(images.device)

    declared = dict(processor.size or {})
    side = size or next(iter(declared.values()), None)
    return ImageBackbone(
        ImageEncoder(model, not any("pooler" in name for name in missing)),
        int(side) if side else None,
        None,
        None,
        transform=process,
        settings=f"{processor.to_json_string()} {options}",
    )


def _load_model(folder: Path, title: str) -> Any:
    return _load_model_with_missing(folder, title)[0]


def _load_model_with_missing(folder: Path, title: str) -> tuple[Any, list[str]]:
    """Return a model and the names of its weights that its files lack, which can only be those of an unused pooling layer."""
    from transformers import AutoModel

    with _wrap_errors(title):
        model, report = AutoModel.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    missing = sorted(report["missing_keys"])
    lacking = [name for name in missing if "pooler" not in name]
    if lacking:
        raise UserError(
            f"--backbone: {title} lacks {len(lacking)} weights of {type(model).__name__} ({', '.join(lacking[:3])}), which "
            "would be random; choose an encoder"
        )
    return model, missing


def _sentence_transformers(folder: Path, title: str) -> tuple[Pooling, bool, bool]:
    """Return pooling, normalization and whether a model declares them for sentence-transformers."""
    modules = _read_json(folder / "modules.json")
    if not modules:
        return "mean", False, False
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    others = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if others:
        raise UserError(
            f"--backbone: {title} has layers after its encoder that are not supported ({', '.join(others)})"
        )
    pooling: Pooling = "mean"
    if "Pooling" in kinds:
        settings = _read_json(folder / modules[kinds.index("Pooling")]["path"] / "config.json")
        chosen = [way for name, way in POOLING.items() if settings.get(name)]
        # Newer files name the way itself.
        chosen = chosen or [way for way in POOLING.values() if settings.get("pooling_mode") == way]
        if len(chosen) != 1:
            raise UserError(
                f"--backbone: {title} joins {len(chosen)} ways of pooling, which is not supported; choose another"
            )
        pooling = chosen[0]
    return pooling, "Normalize" in kinds, True


def _read_json(file: Path) -> Any:
    """Return the content of an optional file of a model; empty without one."""
    return json.loads(file.read_text()) if file.is_file() else {}


def _folder(name: str, title: str) -> Path:
    """Return the folder with the files of a model: the given one, that of the cache, or one that is downloaded."""
    from huggingface_hub import snapshot_download

    given = expand_user(Path(name))
    if given.is_dir():
        return given
    if name.startswith((".", "/", "~")):
        raise UserError(
            f"--backbone: {title}: there is no folder {shown(given)}; name one with the files of a model, or a model of the "
            f"Hugging Face Hub, such as {EXAMPLE}"
        )
    with contextlib.suppress(Exception):  # no name of the hub, or not in the cache
        cached = Path(snapshot_download(name, local_files_only=True))
        if (cached / "config.json").is_file() and any(any(cached.glob(pattern)) for pattern in WEIGHTS):
            return cached
    with _wrap_errors(title):
        check_reachable(name)
        return Path(snapshot_download(name, allow_patterns=[*WEIGHTS, *SETTINGS]))


@contextlib.contextmanager
def _wrap_errors(title: str) -> Iterator[None]:
    """Raise a `UserError` for a model that cannot be read or downloaded."""
    try:
        yield
    except Exception as error:  # libraries raise many types for missing and damaged files, and for failed downloads
        raise UserError(
            f"--backbone: {title} cannot be read or downloaded ({first_line(error)}); name a folder with its files, download "
            "it on another machine into the cache of Hugging Face, or use a backbone whose weights are installed, such as "
            "efficientnet_lite0 or minilm"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the reports and progress bars of transformers and of the hub."""
    from transformers.utils import logging as library_logging

    logging: Any = library_logging
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with quiet_hub():
            yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()
