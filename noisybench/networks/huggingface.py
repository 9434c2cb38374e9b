"""Any causal language model of Hugging Face that is on this machine, as `huggingface:FOLDER` or `huggingface:NAME`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisybench.errors import UserError

EXAMPLE = None
"""It needs files."""


class LanguageModel(nn.Module):
    """A causal language model with its tokenizer, called like our own decoders.

    Attributes:
        context: greatest number of tokens.
        size: number of tokens.
        end: the token that ends a text.
        padding: the number that stands for no token; it is none of the vocabulary's.
        tokenizer: text to tokens and back.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        settings = model.config
        self.context = int(getattr(settings, "max_position_embeddings", 0) or tokenizer.model_max_length)
        self.size = self.padding = int(settings.vocab_size)
        self.end = int(tokenizer.eos_token_id)
        known = inspect.signature(type(model).forward).parameters
        self._remembered = "cache" if "cache" in known else "past_key_values"  # its name before transformers 5.24

    def forward(self, tokens: Tensor, first: int = 0, padded: bool = False, cache: Any = None) -> Tensor:
        """(B, L, V) scores of the token after each; padding is attended to nowhere, and positions begin after it."""
        shown = tokens != self.padding
        if cache is not None:
            shown = torch.cat([cache["shown"], shown], 1) if "shown" in cache else shown
            cache["shown"] = shown
        places = (shown.long().cumsum(1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        answer = self.model(
            input_ids=tokens.masked_fill(tokens == self.padding, self.end),
            attention_mask=shown.long(),
            position_ids=places,
            use_cache=cache is not None,
            **({} if cache is None else {self._remembered: cache["past"]}),
        )
        scores: Tensor = answer.logits
        return scores

    def start(self) -> dict[str, Any]:
        """What to give along with a prompt, so that one token after the other can follow."""
        from transformers import DynamicCache

        return {"past": DynamicCache(config=self.model.config)}


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """A pre-trained model, in single precision; nothing is downloaded.

    Args:
        num_classes: not used; the model has its own vocabulary.
        channels: not used.
        argument: a folder, or a name whose files are in the cache of Hugging Face.

    Raises:
        UserError: transformers is not installed, there is no such model here, or its tokenizer lacks what is needed.
    """
    try:
        import transformers
    except ImportError:
        raise UserError("budget.network: transformers is not installed; `python -m pip install transformers`") from None
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    folder = Path(argument).expanduser()
    source = str(folder) if folder.is_dir() else argument
    try:
        models: Any = transformers.AutoModelForCausalLM
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=True)
        if torch.empty(0).device.type == "meta":
            config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
            model = models.from_config(config)
        else:
            model = models.from_pretrained(source, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise UserError(
            f"budget.network: there is no causal language model `{argument}` on this machine ({reason}); give its folder, or "
            f"fetch it once with `hf download {argument}`"
        ) from None
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise UserError(
            f"budget.network: the tokenizer of `{argument}` must be a fast one with a token that ends a text; save it as such"
        )
    return LanguageModel(model, tokenizer)
