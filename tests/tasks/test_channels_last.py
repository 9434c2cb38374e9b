"""The layout of images in memory: channels last for all networks with convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisybench.errors import UserError
from noisybench.networks import small_cnn
from noisybench.nn.features import capture_activations
from tests.helpers import prepared_toy, train_toy
from tests.training.test_lightning import toy_task

pytestmark = pytest.mark.fast


class Viewing(nn.Module):
    """Flattens with `view`, which needs channels first."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.convolution, self.classifier = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(128, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.convolution(inputs)
        scores: Tensor = self.classifier(features.view(len(features), -1))
        return scores


@pytest.mark.parametrize(("task", "network"), [("classification", "three_block_cnn"), ("segmentation", "unet:2")])
def test_layouts_differ_in_rounding_only(task: str, network: str, tmp_path: Path) -> None:
    outputs = []
    for is_last in (True, False):
        budget: dict[str, Any] = {"network": network, "channels_last": is_last, "epochs": 1, "batch_size": 8}
        run = prepared_toy("cross_entropy", task=task, budget=budget)
        trained = train_toy(run, tmp_path / str(is_last))
        outputs.append(trained.rows[-1].train_loss)
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-5)


def test_the_weights_of_convolutions_decide_the_layout_of_their_outputs() -> None:
    task = toy_task("cross_entropy", network="small_cnn")
    images = task.normalize(task.training_set.inputs[:4])
    with capture_activations(task.networks[0][4], inputs=False) as seen:
        task.logits(images, 0)
    assert images.is_contiguous()
    assert seen[-1].is_contiguous(memory_format=torch.channels_last)
    assert not seen[-1].is_contiguous()


def test_networks_without_convolutions_have_equal_bits(tmp_path: Path) -> None:
    runs = [
        train_toy(
            prepared_toy("cross_entropy", budget={"network": "mlp:8", "epochs": 1, "channels_last": is_last}),
            tmp_path / str(is_last),
        )
        for is_last in (True, False)
    ]
    assert runs[0].record({}).weights_sha256 == runs[1].record({}).weights_sha256


def test_a_network_that_cannot_read_channels_last_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_cnn, "build", lambda num_classes, channels: Viewing(num_classes))
    with pytest.raises(UserError, match="replace `view` by `flatten` or `reshape`"):
        prepared_toy("cross_entropy")
    task = toy_task("cross_entropy", channels_last=False)
    assert torch.isfinite(task.predict(task.training_set.inputs)).all()
