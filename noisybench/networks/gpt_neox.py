"""Small language models of the architecture of Pythia over characters, as `gpt_neox:WIDTHxLAYERS`, for pre-training."""

from __future__ import annotations

from typing import Any

from torch import nn

from noisybench.data.traces.document_format import ANSWER, QUESTION
from noisybench.errors import UserError
from noisybench.networks.decoder import NUM_HEADS, parse_size
from noisybench.networks.huggingface import LanguageModel, import_transformers

EXAMPLE = "16x1"
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
"""Characters with a token each: the printable ones of ASCII, and the line break."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    + f"{QUESTION}{{{{ message['content'] }}}}{ANSWER}"
    + "{% else %}{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""Questions of a user and answers as in the documents of `trace_documents`."""
END, UNKNOWN = "<|endoftext|>", "<|unknown|>"
"""Token that ends a text, and token of every other character."""


def character_tokenizer() -> Any:
    """Return a tokenizer of transformers with one token per printable ASCII character and line break, and a chat template.

    Example:
        >>> tokenizer = character_tokenizer()
        >>> tokenizer.decode(tokenizer("Q: 4+5\\n")["input_ids"])
        'Q: 4+5\\n'
    """
    transformers = import_transformers()
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate([END, UNKNOWN, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    # The dot of this syntax excludes the line break.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        unk_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build(num_classes: int, channels: int, argument: str) -> nn.Module:
    """Build a model of GPT-NeoX with random weights, whose positions are rotary and relative.

    Args:
        num_classes: unused, since the model has its own vocabulary.
        channels: unused, since tokens have no channels.
        argument: width (a multiple of 8), number of layers and optionally the context length, such as ``64x2`` or
            ``64x2x1024``.

    Raises:
        UserError: the argument does not have this form, or transformers is not installed.
    """
    width, num_layers, context_length = parse_size("gpt_neox", argument)
    if width % (2 * NUM_HEADS):
        raise UserError(
            f"budget.network: the width of gpt_neox must be a multiple of {2 * NUM_HEADS}, because positions rotate pairs "
            f"in each of {NUM_HEADS} heads, but got gpt_neox:{argument}"
        )
    transformers = import_transformers()
    tokenizer = character_tokenizer()
    tokenizer.model_max_length = context_length
    config = transformers.GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=num_layers,
        num_attention_heads=NUM_HEADS,
        intermediate_size=4 * width,
        max_position_embeddings=context_length,
        rotary_pct=1.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LanguageModel(transformers.AutoModelForCausalLM.from_config(config), tokenizer, is_pretrained=False)
