"""Causal language models of Hugging Face on this machine, as `huggingface:FOLDER` or `huggingface:NAME`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.utils.files import first_line
from noisybench.utils.places import expand_user

EXAMPLE = None
"""None, since a model needs files."""

WITHOUT_WEIGHTS = "without_weights"
"""Empty file in a folder of a configuration and tokenizer whose weights are stored elsewhere."""


class LanguageModel(nn.Module):
    """Causal language model with its tokenizer, called like `noisybench.networks.decoder.Decoder`.

    Attributes:
        context_length: largest number of tokens.
        vocabulary_size: number of tokens.
        end_token: token that ends a text.
        padding_token: number of the padding, outside the vocabulary.
        tokenizer: tokenizer of the model.
        is_pretrained: whether the weights come from a pre-training.
    """

    def __init__(self, model: Any, tokenizer: Any, is_pretrained: bool = True) -> None:
        super().__init__()
        self.is_pretrained = is_pretrained
        self.model, self.tokenizer = model, tokenizer
        config = model.config
        self.context_length = int(getattr(config, "max_position_embeddings", 0) or tokenizer.model_max_length)
        self.vocabulary_size = self.padding_token = int(config.vocab_size)
        self.end_token = int(tokenizer.eos_token_id)
        parameters = inspect.signature(type(model).forward).parameters
        # transformers renamed the argument in 5.24.
        self._cache_argument = "cache" if "cache" in parameters else "past_key_values"

    def forward(
        self,
        tokens: Tensor,
        first_position: int = 0,
        has_padding: bool = False,
        cache: Any = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the (B, L, V) scores of the token after each; padding is masked, and positions start after it."""
        is_token = tokens != self.padding_token
        if cache is not None:
            is_token = torch.cat([cache["is_token"], is_token], 1) if "is_token" in cache else is_token
            cache["is_token"] = is_token
        # Positions count real tokens, so that the scores of a text do not depend on the padding to its left.
        counted = (is_token.long().cumsum(1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        output = self.model(
            # The padding has no embedding; any token will do, because the mask hides it.
            input_ids=tokens.masked_fill(tokens == self.padding_token, self.end_token),
            attention_mask=is_token.long() if mask is None else self._additive(mask),
            position_ids=counted if positions is None else positions.expand_as(tokens),
            use_cache=cache is not None,
            **({} if cache is None else {self._cache_argument: cache["key_values"]}),
        )
        scores: Tensor = output.logits
        return scores

    def _additive(self, mask: Tensor) -> Tensor:
        """Return what is added to the scores of attention, as all implementations of transformers take a mask."""
        return torch.zeros_like(mask, dtype=self.model.dtype).masked_fill(~mask, torch.finfo(self.model.dtype).min)

    def save_files(self, folder: Path) -> None:
        """Write configuration and tokenizer, from which `build` makes the same network for weights that are loaded later."""
        self.model.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / WITHOUT_WEIGHTS).touch()

    def new_cache(self) -> dict[str, Any]:
        """Return an empty cache, to be passed with a prompt and with every token after it."""
        from transformers import DynamicCache

        return {"key_values": DynamicCache(config=self.model.config)}


def data_files(argument: str) -> dict[str, Path]:
    """Return the folder of a model, or that of its snapshot in the Hugging Face cache.

    Raises:
        UserError: transformers is not installed.
    """
    folder = expand_user(Path(argument))
    if folder.is_dir():
        return {"model": folder}
    import_transformers()  # which brings the package that knows the cache
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE) / f"models--{argument.replace('/', '--')}"
    revision = cache / "refs" / "main"
    return {"model": cache / "snapshots" / (revision.read_text().strip() if revision.is_file() else "main")}


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """Load a pretrained model in single precision; nothing is downloaded.

    Args:
        num_classes: unused, since the model has its own vocabulary.
        channels: unused.
        argument: a folder, or a name whose files are in the Hugging Face cache.

    Raises:
        UserError: transformers is not installed, the model is not on this machine, or its tokenizer is unsuitable.
    """
    transformers = import_transformers()
    folder = expand_user(Path(argument))
    source = str(folder) if folder.is_dir() else argument
    try:
        models: Any = transformers.AutoModelForCausalLM
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
        # On the meta device only the architecture matters, and a saved model has weights of its own: none are read.
        if torch.empty(0).device.type == "meta" or (folder / WITHOUT_WEIGHTS).is_file():
            model = models.from_config(config)
        else:
            model = models.from_pretrained(source, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise UserError(
            f"budget.network: no causal language model `{argument}` on this machine ({reason}); give its folder, or "
            f"download it once with `hf download {argument}`"
        ) from None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)
        # Without files, transformers makes some tokenizers without a vocabulary.
        reason = "" if len(tokenizer) > len(set(tokenizer.all_special_ids)) else "its vocabulary is empty"
    except Exception as error:  # tokenizers raise anything on files that are missing or damaged
        reason = first_line(error)[:160]
    if reason:
        raise UserError(
            f"budget.network: the model `{argument}` has no tokenizer ({reason}); save one in its folder with "
            "`tokenizer.save_pretrained`"
        )
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise UserError(
            f"budget.network: the tokenizer of `{argument}` must be a fast tokenizer with an end-of-text token; save it as "
            "one"
        )
    return LanguageModel(model, tokenizer)


def import_transformers() -> Any:
    """Return the package transformers, without its progress bars.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError(
            "budget.network: transformers is not installed; run `python -m pip install 'noisybench[language]'`"
        ) from None
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    return transformers
