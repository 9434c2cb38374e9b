"""Traces in the chat template of a pretrained model: the prompt is a message of the user, the response the answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noisybench.data.traces.formats import TraceFormat
from noisybench.errors import UserError, show
from noisybench.tasks._tokenizers import PretrainedTokenizer
from noisybench.utils.files import first_line

ADVICE = "set task.chat_template=false, or save the tokenizer with another chat template"


class ChatTokenizer(PretrainedTokenizer):
    """Tokenizer that writes each prompt as a message of the user, up to where the answer begins.

    A response ends with the token with which the template ends a turn.

    Args:
        trace_format: format of the traces.
        network: language model whose tokenizer has a chat template.

    Raises:
        UserError: the template does not write an answer right after the prompt, or does not end it with a special token.
    """

    def __init__(self, trace_format: TraceFormat, network: Any) -> None:
        super().__init__(trace_format, network)
        self.end_token = _end_of_turn(network, _suffix(network.tokenizer, "Q", "A"))

    def prompt_text(self, prompt: str) -> str:
        """Return the prompt as the template writes it before an answer."""
        return _render(self._tokenizer, prompt)


def check_template(network: Any, prompts: Sequence[str], responses: Sequence[str]) -> None:
    """Check that the chat template of a model writes every response unchanged after its prompt.

    Raises:
        UserError: it does not, or the tokenizer has no chat template; the message names the trace and the place.
    """
    if not getattr(network.tokenizer, "chat_template", None):
        raise UserError(
            "task.chat_template: the tokenizer of the model has no chat template; set it to false, or save the tokenizer with one"
        )
    for prompt, response in zip(prompts, responses, strict=True):
        # Templates may strip answers; a response is written as it is.
        _suffix(network.tokenizer, prompt, response.strip())


def _render(tokenizer: Any, prompt: str, response: str | None = None) -> str:
    messages = [{"role": "user", "content": prompt}]
    if response is not None:
        messages.append({"role": "assistant", "content": response})
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=response is None)
    except Exception as error:  # a template is a program, which may refuse messages in any way
        raise UserError(
            f"task.chat_template: the template refuses the prompt {show(prompt, limit=40)} ({first_line(error)[:160]}); {ADVICE}"
        ) from None
    return text


def _suffix(tokenizer: Any, prompt: str, response: str) -> str:
    """Return what the template writes after a response."""
    before, complete = _render(tokenizer, prompt), _render(tokenizer, prompt, response)
    if complete.startswith(before + response):
        return complete[len(before + response) :]
    place = next(
        (number for number, (one, other) in enumerate(zip(before + response, complete, strict=False)) if one != other),
        min(len(before + response), len(complete)),
    )
    raise UserError(
        f"task.chat_template: for the prompt {show(prompt, limit=40)}, the template must write the response "
        f"{show(response, limit=40)} right after the beginning of the answer, but at character {place} it writes "
        f"{show(complete[place : place + 24], limit=40)} instead of {show((before + response)[place : place + 24], limit=40)}; "
        f"{ADVICE}"
    )


def _end_of_turn(network: Any, suffix: str) -> int:
    """Return the token that ends an answer: the first one after it, or that of the end of a text."""
    tokens: list[int] = network.tokenizer(suffix, add_special_tokens=False)["input_ids"]
    if not tokens:
        return int(network.end_token)
    special = {int(network.end_token), *network.tokenizer.all_special_ids}
    special |= {token for token, added in network.tokenizer.added_tokens_decoder.items() if added.special}
    if tokens[0] not in special:
        raise UserError(
            f"task.chat_template: the template ends an answer with the text {show(suffix, limit=40)}, which a response may "
            f"contain, instead of a special token; {ADVICE}"
        )
    return tokens[0]
