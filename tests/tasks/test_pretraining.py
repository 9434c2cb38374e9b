"""Contrastive pre-training: its loss, its views, its weights, and that it is trained once and charged always."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from noisybench.errors import Interrupted, UserError
from noisybench.mitigations.simclr import agreement_loss
from noisybench.networks import build_network
from noisybench.nn.features import backbone_weights, capture_activations, global_pool, last_linear, stages
from noisybench.nn.weights import load_backbone_weights
from noisybench.runs.training import train
from noisybench.training import augmentation, operations
from noisybench.training.auxiliary import AuxiliaryCache, AuxiliaryRun
from noisybench.training.views import PolicyView
from tests.helpers import network_names, prepared_toy, train_toy

SIMCLR = {"name": "simclr", "epochs": 3, "batch_size": 32}


def test_agreement_loss_by_hand() -> None:
    points = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    wanted = []
    for i in range(6):
        near = [float(nn.functional.cosine_similarity(points[i], points[j], dim=0)) / 0.5 for j in range(6)]
        total = math.log(sum(math.exp(each) for j, each in enumerate(near) if j != i))
        wanted.append(total - near[(i + 3) % 6])
    assert agreement_loss(points, 0.5).item() == pytest.approx(np.mean(wanted), abs=1e-5)


# Views


def images(count: int = 6, channels: int = 3, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


@given(seed=st.integers(0, 300), channels=st.sampled_from([1, 3]), smallest=st.floats(0.05, 1.0))
@settings(deadline=None, max_examples=25)
def test_views_keep_shape_and_range(seed: int, channels: int, smallest: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    seen = augmentation.contrastive_view(images(channels=channels), generator, flip=True, smallest=smallest)
    assert seen.shape == images(channels=channels).shape
    assert seen.min() >= 0
    assert seen.max() <= 255.01
    strong = PolicyView("rand_augment").operate(images(channels=channels), np.random.default_rng(seed))
    assert strong.shape == seen.shape
    assert strong.dtype == torch.uint8


def test_the_whole_image_as_a_crop_is_the_image_or_its_mirror() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = augmentation.resized_crop(images(40), generator, flip=True, smallest=1.0)
    # The ratio may still cut: only draws at the ratio one keep all, so compare what is certain, the ends of the range.
    assert whole.min() >= images(40).min()
    assert whole.max() <= images(40).max()
    flat = torch.full((4, 3, 8, 8), 77, dtype=torch.uint8)
    torch.testing.assert_close(
        augmentation.resized_crop(flat, generator, flip=True, smallest=0.1), flat.float(), atol=1e-3, rtol=0
    )


def test_a_crop_shows_a_part_in_its_place() -> None:
    # A ramp stays a ramp under cropping; its values at the ends say which part was taken.
    ramp = torch.arange(0, 256, 8, dtype=torch.uint8).expand(50, 1, 32, 32).contiguous()
    seen = augmentation.resized_crop(ramp, torch.Generator().manual_seed(0), flip=False, smallest=0.2)[:, 0, 16]
    width = (seen[:, -1] - seen[:, 0]) / (31 * 8)
    assert (width > 0.2).all()
    assert (width < 1.01).all()
    slope = seen.diff(dim=1)
    middle = slope[:, 2:-2]
    assert (middle.max(1).values - middle.min(1).values < 0.5).all(), "bilinear reading of a ramp is a ramp"
    assert width.std() > 0.05


def test_turning_hues_keeps_grays_and_brightness() -> None:
    turn = augmentation._hue_rotation(torch.tensor([0.1, -0.25, 0.0]))
    gray = torch.full((3, 3), 0.4)
    torch.testing.assert_close(torch.einsum("bij,bj->bi", turn, gray), gray)
    torch.testing.assert_close(turn @ turn.transpose(1, 2), torch.eye(3).expand(3, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(turn[2], torch.eye(3))
    third = augmentation._hue_rotation(torch.tensor([1 / 3]))[0]
    assert sorted(third.round().abs().sum(0).tolist()) == [1, 1, 1], "a third of the circle permutes the colors"


def test_operations_are_those_of_torchvisions_randaugment() -> None:
    from torchvision.transforms import v2

    magnitude, width = 9, 32
    table = v2.RandAugment(num_ops=1, num_magnitude_bins=31)._AUGMENTATION_SPACE
    assert tuple(table) == operations.RAND_AUGMENT
    pictures = images(3, 3, width)
    for place, (name, (by_bin, signed)) in enumerate(table.items()):
        strength = by_bin(31, width, width)
        strength = 0.0 if strength is None else float(strength[magnitude])
        for negative in (0, 1):
            values = operations.strengths(
                np.full(3, place), magnitude / 30, np.full(3, 1 - 2 * negative), (width, width)
            )
            ours = operations.apply_operations(pictures, np.full(3, place), values)
            theirs = v2.RandAugment()._apply_image_or_video_transform(
                pictures,
                name,
                -strength if signed and negative else strength,
                v2.InterpolationMode.NEAREST,
                {torch.Tensor: None},
            )
            # A place that falls between two pixels may be read from either, and colors may round either way.
            differing = ((ours.int() - theirs.int()).abs() > 1).double().mean().item()
            assert differing < 0.01, f"{name} {negative}: {differing:.1%}"


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_without_a_wait_have_the_bits_of_torchvisions(channels: int) -> None:
    from torchvision.transforms.v2 import functional as vision

    pictures = images(40, channels)
    pictures[::4] = 17
    pictures[1::4, :, :8] = 0
    by_factor = {
        "Brightness": vision.adjust_brightness, "Color": vision.adjust_saturation,
        "Contrast": vision.adjust_contrast, "Sharpness": vision.adjust_sharpness,
    }  # fmt: skip
    cases: list[tuple[str, float, torch.Tensor]] = [
        ("AutoContrast", 0.0, vision.autocontrast(pictures)),
        ("Equalize", 0.0, vision.equalize(pictures)),
        ("Invert", 0.0, vision.invert(pictures)),
        *(("Posterize", float(bits), vision.posterize(pictures, bits)) for bits in (4, 5, 7, 8)),
        *(("Solarize", limit, vision.solarize(pictures, limit)) for limit in (0.0, 127.5, 255.0)),
        *((name, factor, adjust(pictures, factor)) for name, adjust in by_factor.items() for factor in (0.1, 1.0, 1.9)),
    ]
    for name, value, wanted in cases:
        chosen = np.full(40, operations.OPERATIONS.index(name))
        found = operations.apply_operations(pictures, chosen, np.full(40, value))
        # A product and a sum may be rounded together or one after the other, just before a level is cut off.
        differing = (found.int() - wanted.int()).abs()
        assert differing.max() <= (name in by_factor), name
        assert (differing > 0).double().mean() < 1e-3, name


def test_operations_of_a_batch_are_those_of_each_image_alone() -> None:
    pictures, rng = images(60), np.random.default_rng(0)
    chosen = rng.integers(len(operations.OPERATIONS), size=60)
    values = operations.strengths(chosen, rng.random(60), 1 - 2 * rng.integers(2, size=60), (16, 16))
    together = operations.apply_operations(pictures, chosen, values)
    for row in range(60):
        alone = operations.apply_operations(pictures[[row]], chosen[[row]], values[[row]])
        assert torch.equal(together[[row]], alone)


def test_every_image_has_its_own_operation() -> None:
    same = images(1).expand(64, -1, -1, -1).contiguous()
    seen = PolicyView("rand_augment", num_ops=2, magnitude=None).operate(same, np.random.default_rng(0))
    assert len({each.numpy().tobytes() for each in seen}) > 45


# Features


WITHOUT_STAGES = ("features", "torchvision:mobilenet_v3_small")


OF_PIXELS_AND_TOKENS = ("unet", "smp", "torchvision_segmentation", "decoder", "gpt_neox")
CLASSIFIERS = [name for name in network_names() if name.partition(":")[0] not in OF_PIXELS_AND_TOKENS]


@pytest.mark.parametrize("name", [*CLASSIFIERS, "torchvision:resnet18"])
def test_stages_and_classifier_of_a_network(name: str) -> None:
    network = build_network(name, 5, 3).eval()
    found = last_linear(network)
    assert found is not None
    assert found[1].out_features == 5
    inputs = torch.rand(4, 3, 32, 32)
    with capture_activations(found[1], inputs=True) as seen:
        scores = network(inputs)
    torch.testing.assert_close(found[1](seen[0]), scores)
    widths = []
    for stage in stages(network):
        with capture_activations(stage, inputs=False) as maps:
            network(inputs)
        assert global_pool(maps[0]).shape == (4, maps[0].shape[1])
        if maps[0].dim() == 4:
            torch.testing.assert_close(global_pool(maps[0]), maps[0].mean((2, 3)))
            widths.append(maps[0].shape[1])
    assert bool(stages(network)) == (name not in WITHOUT_STAGES)
    assert widths == sorted(widths)
    assert not any(name.startswith(f"{found[0]}.") for name in backbone_weights(network))


def test_resnet18_takes_weights_learned_with_torchvisions_names(tmp_path: Path) -> None:
    import torchvision

    theirs = torchvision.models.resnet18(weights=None)
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)  # what solo-learn trains on small images
    state = {f"backbone.{name}": each for name, each in theirs.state_dict().items() if not name.startswith("fc.")}
    torch.save({"state_dict": {**state, "projector.0.weight": torch.zeros(3)}, "epoch": 7}, tmp_path / "solo.ckpt")
    network = build_network("resnet18_cifar_stem", 10, 3)
    weights = load_backbone_weights(tmp_path / "solo.ckpt", backbone_weights(network), "checkpoint")
    assert set(weights) == set(backbone_weights(network))
    network.load_state_dict({**network.state_dict(), **weights})
    theirs.maxpool, theirs.fc = nn.Identity(), nn.Identity()
    found = last_linear(network)
    assert found is not None
    inputs = torch.rand(2, 3, 32, 32)
    with capture_activations(found[1], inputs=True) as seen:
        network.eval()(inputs)
    torch.testing.assert_close(seen[0], theirs.eval()(inputs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.weight"), r"1 of \d+ weights are missing \(0\.weight\)"),
        (lambda state: state.update({"0.weight": torch.zeros(2)}), r"0\.weight is \(2,\), not \(16, 1, 3, 3\)"),
        (lambda state: state.clear(), "weights are missing .* the file has 0"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_training(change: Any, message: str, tmp_path: Path) -> None:
    state = dict(build_network("small_cnn", 3, 1).state_dict())
    torch.save(state, tmp_path / "good.pt")
    taken = prepared_toy([{"name": "simclr", "checkpoint": str(tmp_path / "good.pt")}, {"name": "elr"}])
    assert taken.stack.requirements.privileged == ("pretrained_weights",)
    recorder = train_toy(taken, tmp_path / "run")
    assert recorder.record({}).auxiliary == []
    change(state)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(UserError, match=message):
        prepared_toy({"name": "simclr", "checkpoint": str(tmp_path / "bad.pt")})
    (tmp_path / "bad.pt").write_bytes(b"nothing of torch")
    with pytest.raises(UserError, match="not a readable file of PyTorch weights"):
        prepared_toy({"name": "simclr", "checkpoint": str(tmp_path / "bad.pt")})
    with pytest.raises(UserError, match="does not exist"):
        prepared_toy({"name": "simclr", "checkpoint": str(tmp_path / "none.pt")})


def test_networks_start_from_the_pretrained_backbone(tmp_path: Path) -> None:
    run = prepared_toy([SIMCLR, {"name": "ensemble"}], budget={"epochs": 1, "learning_rate": 1e-9, "weight_decay": 0})
    weights = train_toy(run, tmp_path)._final["weights"]
    for name in ("0.weight", "4.weight"):
        torch.testing.assert_close(weights[f"0.{name}"], weights[f"1.{name}"], atol=1e-6, rtol=0)
    assert not torch.allclose(weights["0.9.weight"], weights["1.9.weight"]), "classifiers start fresh, each its own"


# Auxiliary runs


class Counting(AuxiliaryRun):
    """Adds up the numbers of its epochs."""

    title, epochs, examples, device = "counting", 4, 10, torch.device("cpu")

    def __init__(self, name: str = "a") -> None:
        self.cache_key = {"kind": "counting", "name": name}
        self.total, self.trained = torch.zeros(()), 0

    def train_epoch(self, epoch: int) -> float:
        self.total = self.total + epoch + 1
        self.trained += 1
        return 1.0 / (epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"]

    def result(self) -> dict[str, torch.Tensor]:
        return {"total": self.total}


def auxiliaries(folder: Path, stop: Any = lambda: False, finished: Any = lambda *_: None) -> AuxiliaryCache:
    return AuxiliaryCache(folder, lambda kind, data: None, stop, finished)


def test_an_auxiliary_run_is_trained_once_and_charged_always(tmp_path: Path) -> None:
    finished: list[Any] = []
    first, second = auxiliaries(tmp_path, finished=lambda *run: finished.append(run)), auxiliaries(tmp_path)
    runs = [Counting(), Counting()]
    results = [each.get_or_train(run)["total"].item() for each, run in zip((first, second), runs, strict=True)]
    assert results == [10, 10]
    assert [run.trained for run in runs] == [4, 0]
    assert [each.costs[0].cached for each in (first, second)] == [False, True]
    assert first.costs[0].wall_seconds == second.costs[0].wall_seconds > 0
    assert second.costs[0].examples == 40
    assert len(finished) == 1
    other = Counting("b")
    assert second.get_or_train(other)["total"] == 10
    assert other.trained == 4, "another meaning is another run"


def test_an_interrupted_auxiliary_run_goes_on(tmp_path: Path) -> None:
    run = Counting()
    with pytest.raises(Interrupted):
        auxiliaries(tmp_path, stop=lambda: run.trained >= 2).get_or_train(run)
    rest = Counting()
    assert auxiliaries(tmp_path).get_or_train(rest)["total"] == 10
    assert rest.trained == 2


def test_two_processes_train_it_once(tmp_path: Path) -> None:
    runs = [Counting(), Counting()]
    threads = [threading.Thread(target=lambda run=run: auxiliaries(tmp_path).get_or_train(run)) for run in runs]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(run.trained for run in runs) == [0, 4]


def test_a_truncated_result_is_trained_again(tmp_path: Path) -> None:
    cache, again = auxiliaries(tmp_path), Counting()
    result = cache.get_or_train(Counting())
    file = tmp_path / f"{cache.identity(again)}.pt"
    file.write_bytes(file.read_bytes()[:100])
    assert auxiliaries(tmp_path).get_or_train(again) == result
    assert again.trained == again.epochs


def test_runs_of_a_suite_share_pretraining_and_pay_for_it(tmp_path: Path) -> None:
    def start(mitigations: Any, folder: str, seed: int) -> Any:
        run = prepared_toy(mitigations, seed=seed)
        (tmp_path / folder).mkdir()
        return train(
            run, tmp_path / folder, lambda rows: None, lambda kind, data: None, lambda: False, tmp_path / "shared"
        ).record({})

    first, second = start([SIMCLR, "mixup"], "a", 0), start([SIMCLR, "elr"], "b", 1)
    without = start("elr", "c", 1)
    assert first.auxiliary[0]["identity"] == second.auxiliary[0]["identity"]
    assert [each.auxiliary[0]["cached"] for each in (first, second)] == [False, True]
    for each in (first, second):
        assert each.cost.wall_seconds > each.auxiliary[0]["wall_seconds"]
        assert each.cost.train_seconds > each.auxiliary[0]["wall_seconds"]
    assert without.auxiliary == []
    # Three epochs of three whole batches of 32.
    assert second.auxiliary[0]["examples"] == 3 * 96
    longer = start([{**SIMCLR, "pretraining_seed": 5}, "elr"], "d", 1)
    assert longer.auxiliary[0]["identity"] != second.auxiliary[0]["identity"]


def test_interrupted_pretraining_comes_to_the_same_weights(tmp_path: Path) -> None:
    whole = train_toy(prepared_toy([SIMCLR, "mixup"]), tmp_path / "whole")
    parts = train_toy(prepared_toy([SIMCLR, "mixup"]), tmp_path / "parts", stop_after=1)
    assert not parts.complete
    assert not parts.rows, "it was stopped while pre-training"
    again = train_toy(prepared_toy([SIMCLR, "mixup"]), tmp_path / "parts")
    assert again.record({}).weights_sha256 == whole.record({}).weights_sha256
