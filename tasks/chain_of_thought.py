"""Chains of thought."""

from __future__ import annotations

from noisybench.tasks._trace_task import TraceTask


class ChainOfThought(TraceTask):
    """Language modelling of traces, after Havrilla and Iyer 2024: a decoder learns to write them.

    A prompt is given, and the response is learned token by token; loss is on the response and its end alone. The stack's
    mitigations see every token of a response as an example of its own. A small decoder is trained from scratch and reads
    characters; a Hugging Face model by its name or folder is tuned and reads the tokens of its own tokenizer.

    The score is the exact match of the answer that is decoded greedily for clean test problems. The record has besides:
    exact match when sampled at temperature 1 (at the end), share of responses without a readable answer, share of the written
    steps that follow from the steps before, first wrong step, mean length, and the loss on right and on wrong training tokens.
    """
