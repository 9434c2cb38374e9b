"""Fits, corrections, consistency and pooled IoU of the authors' code, for SegTHOR and for VOC."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

REFERENCE = "https://github.com/Kangningthu/ADELE"
COMMIT = "7195bd0af39be79c533d67dd7eab7f9bfd6a4285"
COMPUTED = (
    "label_correction.fit, .if_update and .merge_labels_with_skip, VOCTrainwsegDataset.update_allclass, "
    "JSD_loss.calc_jsd_multiscale and iou_computation.compute_iou"
)

CLASSES, SIZE, IMAGES = 4, 12, 40


def generate(folder: Path) -> dict[str, Any]:
    """Return inputs and results of every part."""
    sys.path.insert(0, str(folder / "SegThor"))
    from brat import label_correction
    from lib.utils import JSD_loss, iou_computation

    rng = np.random.default_rng(0)
    arrays = _fits(label_correction, rng) | _corrections(label_correction, _voc_update(folder), rng)
    return arrays | _consistency(JSD_loss, rng) | _iou(iou_computation, rng)


def _fits(module: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Fit curves at epochs 1, 2, ...; in the last two, training IoU rises like a sigmoid, which needs the bound c <= 1."""
    times = np.arange(1, 21.0)
    curves = [a * (1 - np.exp(-b * times**c)) for a, b, c in ((0.8, 0.3, 0.7), (0.6, 0.7, 0.9), (0.95, 0.9, 0.5))]
    curves += [0.8 / (1 + np.exp(-(times - middle) / 2)) for middle in (3.5, 4.5)]
    # Noise is larger in the first epochs, whose points have the least weight.
    noisy = np.array(curves) + rng.normal(size=(5, 20)) * np.geomspace(0.02, 0.005, 20)
    fitted = np.array([module.fit(module.curve_func, times, curve) for curve in noisy])
    # The authors' curve is a (1 - exp(-t^b / c)).
    return {"curves": noisy, "fits": np.stack([fitted[:, 0], 1 / fitted[:, 2], fitted[:, 1]], 1)}


def _voc_update(folder: Path) -> Any:
    """Return the correction of VOC, without the packages that its module reads images with."""
    sys.path.insert(0, str(folder / "lib"))
    for name in ("pandas", "skimage", "PIL", "transformmultiGT", "datasets"):
        sys.modules.setdefault(name, mock.MagicMock())
    for name in ("transformmultiGT", "transformmultiGTauginfo"):
        sys.modules[f"datasets.{name}"] = mock.MagicMock(__all__=[])
    base = mock.MagicMock(BaseMultiwGTauginfoDataset=object)
    sys.modules["datasets.BaseMultiwGTauginfoDataset"] = base
    sys.modules["utils.imutils"] = mock.MagicMock(__all__=[])
    registry = SimpleNamespace(register_module=lambda cls: cls)
    sys.modules["utils.registry"] = mock.MagicMock(DATASETS=registry)
    import importlib.util

    spec = importlib.util.spec_from_file_location("voc", folder / "lib/datasets/VOCTrainwsegDataset.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.VOCTrainwsegDataset.update_allclass


def _corrections(module: Any, voc_update: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Correct masks by both rules; some images are nearly all background, so that the rule for small objects acts."""
    labels = np.kron(rng.integers(0, CLASSES, (IMAGES, SIZE // 4, SIZE // 4)), np.ones((1, 4, 4))).astype(np.uint8)
    labels[: IMAGES // 4][:, SIZE // 3 :] = 0
    labels[IMAGES // 4 : IMAGES // 2, 3:] = 0
    labels[IMAGES // 4 : IMAGES // 2, :, 2:] = 0
    without_label = rng.random(labels.shape) < 0.1
    without_label[: IMAGES // 2] = False
    scores = rng.normal(0, 1.5, (IMAGES, CLASSES, SIZE, SIZE))
    scores[: IMAGES // 2, 0] += 4
    probabilities = torch.from_numpy(scores).softmax(1).numpy().round(3)
    memorized = rng.random((IMAGES, CLASSES)) < 0.6
    memorized[:, 0] = True
    memorized[:, 1] |= ~memorized[:, 1:].any(1)
    labels = np.where(without_label, np.uint8(255), labels)
    both, single = labels.copy(), labels.copy()
    for image in range(IMAGES):
        flags = {label: bool(memorized[image, label]) for label in range(1, CLASSES)}
        merged = module.merge_labels_with_skip(
            {0: labels[image]}, {0: probabilities[image]}, flags, conf_threshold=0.6, conf_threshold_bg=0.6
        )
        both[image] = merged[0]
        voc = SimpleNamespace(
            seg_dict={0: torch.from_numpy(labels[image][None].astype(np.int64))},
            prev_pred_dict={
                0: (
                    torch.from_numpy(probabilities[image].argmax(0)[None]),
                    torch.from_numpy(probabilities[image].max(0)[None]),
                )
            },
        )
        voc_update(
            voc, 0, np.flatnonzero(memorized[image]), 0.6, "single", class_constraint=True, update_all_bg_img=True
        )
        single[image] = voc.seg_dict[0][0].numpy()
    return {
        "labels": labels,
        "predicted": probabilities.argmax(1).astype(np.uint8),
        "confidence": probabilities.max(1).astype(np.float32),
        "memorized": memorized,
        "both": both,
        "single": single,
    }


def _consistency(module: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Compute the divergence of three scales, with pixels without a label that alone are confident in some images."""
    scores = rng.normal(0, 0.7, (3, 6, CLASSES, 5, 5)).astype(np.float32)
    scores[:, ::2, 1, 0, 0] = 4
    labels = rng.integers(0, CLASSES, (6, 5, 5))
    labels[::4, 0, 0] = 255
    weight = torch.ones(3)
    logits = [torch.from_numpy(each).requires_grad_() for each in scores]
    _, _, divergence, _ = module.calc_jsd_multiscale(weight, torch.from_numpy(labels), *logits, threshold=0.8)
    divergence.sum().backward()
    # The sum over three scales, of which the divergence is the mean.
    return {
        "scores": scores,
        "has_label": labels != 255,
        "divergence": divergence.detach().numpy() / 3,
        "divergence_gradient": np.stack([np.asarray(each.grad) for each in logits]) / 3,
    }


def _iou(module: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Pool the IoU over the images, with pixels without a label."""
    targets = np.where(rng.random((3, 8, 8)) < 0.1, 255, rng.integers(0, CLASSES, (3, 8, 8)))
    predicted = rng.integers(0, CLASSES, (3, 8, 8))
    counts = module.update_iou_stat(predicted, targets, *np.zeros((3, CLASSES)), num_classes=CLASSES)
    iou = module.compute_iou(*counts, num_classes=CLASSES)
    return {"iou_targets": targets.astype(np.uint8), "iou_predicted": predicted.astype(np.uint8), "iou": np.array(iou)}
