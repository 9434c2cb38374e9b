"""Tuning of pre-trained networks: regularisers by hand, what stays frozen, shifted tests, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from noisybench.errors import UserError
from noisybench.mitigations._heads import ResidualMLP
from noisybench.mitigations.lora import adaptable
from noisybench.mitigations.nmtune import consistency, covariance, dominance
from noisybench.networks import build_network, published_weights
from noisybench.registry import find
from noisybench.runner import prepare
from noisybench.shifts import shift
from noisybench.tuning import Frozen, Tuned, on_frozen, split_network
from tests.helpers import TRANSFER, prepared_toy, toy_dataset, toy_labels, toy_spec, train_toy


def points(seed: int = 0, count: int = 20, width: int = 6) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Regularisers


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_consistency_is_a_distance_of_directions(seed: int, scale: float) -> None:
    features, changed = points(seed), points(seed + 1)
    found = consistency(changed, features)
    cosine = functional.cosine_similarity(changed, features)
    torch.testing.assert_close(found, (2 - 2 * cosine).mean())
    torch.testing.assert_close(consistency(scale * changed, features), found)
    torch.testing.assert_close(6 * consistency(changed, features, by_element=True), found)
    assert consistency(features, features) == pytest.approx(0, abs=1e-12)
    assert consistency(-features, features) == pytest.approx(4)


def test_no_gradient_reaches_the_features() -> None:
    features = points().requires_grad_()
    consistency(points(1).requires_grad_(), features).backward()
    assert features.grad is None


def test_covariance_by_hand() -> None:
    rows = points().tolist()
    means = [sum(row[i] for row in rows) / 20 for i in range(6)]
    total = 0.0
    for a in range(6):
        for b in range(6):
            if a != b:
                total += (sum((row[a] - means[a]) * (row[b] - means[b]) for row in rows) / 19) ** 2
    assert covariance(points()).item() == pytest.approx(total / 6)
    assert covariance(points() + 5).item() == pytest.approx(total / 6)
    assert covariance(3 * points()).item() == pytest.approx(81 * total / 6)
    assert covariance(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).item() == 0
    with pytest.raises(ValueError, match="at least two rows"):
        covariance(points(count=1))


def test_dominance_of_one_direction_and_of_none() -> None:
    alone = torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 4)).double()
    assert dominance(alone).item() == pytest.approx(-1, abs=1e-6)
    even = torch.linalg.qr(points())[0]
    assert dominance(even).item() == pytest.approx(-1 / 6)
    singular = np.linalg.svd(points().numpy(), compute_uv=False)
    assert dominance(points(), 3).item() == pytest.approx(-(singular[:3] / singular.sum()).mean())
    assert dominance(7 * points(), 3).item() == pytest.approx(dominance(points(), 3).item())
    centred = points() + 100
    assert dominance(centred, center=True).item() == pytest.approx(dominance(points() - points().mean(0)).item())
    assert torch.autograd.gradcheck(dominance, (points(count=5, width=3).requires_grad_(),))


# Heads


def test_the_head_has_as_many_weights_as_the_formula_says() -> None:
    width, classes = 16, 10
    head = on_frozen(
        nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.Linear(width, classes)),
        lambda each: ResidualMLP(each, 4, 1, True, 1.0),
    )
    trained = sum(each.numel() for each in head.parameters() if each.requires_grad)
    assert trained == 8 * width**2 + 14 * width + (width + 1) * classes


def test_a_head_whose_output_is_zero_changes_nothing() -> None:
    head = ResidualMLP(6, 4, 1, True, 1.0)
    last: Any = head.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    features = points().float()
    assert torch.equal(head(features), features)
    assert consistency(head(features), features).item() == pytest.approx(0, abs=1e-6)


def test_without_weights_nmtune_is_the_perceptron(tmp_path: Path) -> None:
    probe = train_toy(prepared_toy("mlp_probe"), tmp_path / "probe")
    tuned = train_toy(prepared_toy({"name": "nmtune", "strength": 0.0}), tmp_path / "tuned")
    other = train_toy(prepared_toy("nmtune"), tmp_path / "other")
    assert probe.record({}).weights_sha256 == tuned.record({}).weights_sha256
    assert probe.record({}).weights_sha256 != other.record({}).weights_sha256
    assert {"nmtune.consistency", "nmtune.covariance", "nmtune.dominance"} <= set(other.rows[-1].facts)
    assert -1 <= other.rows[-1].facts["nmtune.dominance"] < 0


@pytest.mark.parametrize("name", ["linear_probe", "nmtune", "lora"])
def test_the_backbone_stays_as_it_was_trained(name: str, tmp_path: Path) -> None:
    """One with batch normalisation, whose statistics must not move either."""
    run = prepared_toy(name, budget={"network": "mlp:16n-8"})
    recorder = train_toy(run, tmp_path)
    pretrained = torch.load(next((tmp_path / "auxiliary").glob("*.pt")), weights_only=True)["result"]
    found = {key: value for key, value in recorder._final["weights"].items() if "lora" not in key}
    assert len(pretrained) > 8
    for key, value in pretrained.items():
        if key == "observed_accuracy":
            continue
        own = [each for place, each in found.items() if place.replace(".base_layer", "").endswith(f"backbone.{key}")]
        assert len(own) == 1
        assert torch.equal(own[0], value), key


def test_full_tuning_changes_the_backbone(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy("full_tuning", budget={"network": "mlp:16n-8"}), tmp_path)
    pretrained = torch.load(next((tmp_path / "auxiliary").glob("*.pt")), weights_only=True)["result"]
    found = recorder._final["weights"]
    own = next(each for key, each in found.items() if key.endswith("hidden1.weight"))
    assert not torch.equal(own, pretrained["hidden1.weight"])


def test_frozen_features_that_are_known_give_what_images_give(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy("linear_probe"), tmp_path)
    network = on_frozen(build_network("small_cnn", 10, 1), lambda width: nn.Identity())
    network.load_state_dict({k.removeprefix("0."): v for k, v in recorder._final["weights"].items()})
    images = toy_dataset().train.inputs
    mean, deviation = images.mean(), images.astype(np.float64).std()
    normalised = torch.from_numpy(((images - mean) / deviation).astype(np.float32))
    with torch.no_grad():
        scores = network.eval()(normalised).softmax(1)
    assert (scores.argmax(1).numpy() == recorder.samples().prediction).all()
    features = network.backbone(normalised)
    assert torch.equal(network.backbone(features), features)


def test_heads_serve_losses_against_downstream_noise(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy(["elr", "nmtune"], task=TRANSFER), tmp_path)
    assert recorder.complete
    assert recorder.rows[-1].memorised is not None


def test_every_network_of_several_is_regularised(tmp_path: Path) -> None:
    for stack in (["co_teaching", "nmtune"], ["ensemble", "nmtune"]):
        run = prepared_toy(stack, task=TRANSFER)
        heads = train_toy(run, tmp_path / stack[0])._final["weights"]
        strong = prepared_toy([stack[0], {"name": "nmtune", "strength": 0.5}], task=TRANSFER)
        others = train_toy(strong, tmp_path / f"{stack[0]} strong")._final["weights"]
        for number in (0, 1):
            name = f"{number}.head.layers.0.weight"
            assert not torch.equal(heads[name], others[name])


def test_a_backbone_has_its_initial_weights_once() -> None:
    with pytest.raises(
        UserError, match="simclr: it gives the networks their initial weights, but those of the backbone"
    ):
        prepared_toy(["simclr", "linear_probe"], task=TRANSFER)


def test_scores_of_examples_come_from_networks_with_the_same_head(tmp_path: Path) -> None:
    stack = [{"name": "el2n", "members": 2, "epochs": 1, "keep": 0.8, "per_class": True}, "linear_probe"]
    recorder = train_toy(prepared_toy(stack, task=TRANSFER), tmp_path)
    assert recorder.rows[0].facts["kept"] == 0.75  # 9 of the 12 of each class
    titles = [charge.title.split(" · ")[0] for charge in recorder.charges]
    assert titles == ["pre-training", "early scores"]


@pytest.mark.parametrize("name", ["small_cnn", "features", "resnet8_cifar_stem", "mlp:16n-8", "timm:resnet10t"])
def test_a_network_splits_into_backbone_and_classifier(name: str) -> None:
    network = build_network(name, 5, 3).eval()
    backbone, last = split_network(network)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(last(backbone.eval()(images).flatten(1)), network(images))
    assert not any(isinstance(each, nn.Linear) and each.out_features == 5 for each in backbone.modules())
    assert Tuned(Frozen(backbone), nn.Identity(), last)(images).shape == (2, 5)


def test_low_rank_changes_start_at_nothing() -> None:
    torch.manual_seed(0)
    network = build_network("small_cnn", 10, 1).eval()
    lora = find("mitigations", "lora").load()(rank=2)
    backbone, images = split_network(network)[0].eval(), torch.rand(3, 1, 8, 8)
    adapted = lora.adapt(network)
    torch.testing.assert_close(adapted.backbone(images), backbone(images).flatten(1))
    trained = {key for key, each in adapted.named_parameters() if each.requires_grad}
    assert trained
    assert all("lora_" in key or key.startswith("classifier.") for key in trained)
    assert adaptable(backbone) == ["0", "4"]


# Spectra and shifted tests


def test_flatness_is_recorded_for_every_head(tmp_path: Path) -> None:
    head = train_toy(prepared_toy("mlp_probe"), tmp_path / "head").rows
    whole = train_toy(prepared_toy("full_tuning"), tmp_path / "whole").rows
    names = ("singular_value_entropy", "largest_singular_value_ratio")
    for name in names:
        assert head[-1].facts[f"classifier_input.{name}"] > 0
        assert head[-1].facts[f"backbone.{name}"] > 0
        assert whole[-1].facts[f"classifier_input.{name}"] > 0
        assert f"backbone.{name}" not in whole[-1].facts
        assert f"backbone.{name}" not in head[0].facts, "only at the end"
    assert 0 < head[-1].facts["pretraining_accuracy"] <= 1


def test_shifted_copies_have_the_labels_and_order_of_the_test_split(tmp_path: Path) -> None:
    dataset = find("datasets", "digits").load()(shifts=["rotation:15", "noise:0.2", "inversion"], test_size=100).load()
    assert list(dataset.shifted) == ["rotation:15", "noise:0.2", "inversion"]
    for each in dataset.shifted.values():
        np.testing.assert_array_equal(each.targets, dataset.test.targets)
        np.testing.assert_array_equal(each.index, dataset.test.index)
        assert each.inputs.dtype == np.uint8
    np.testing.assert_array_equal(dataset.shifted["inversion"].inputs, 255 - dataset.test.inputs)
    plain = find("datasets", "digits").load()(test_size=100).load()
    assert plain.hash != dataset.hash
    spec = toy_spec(dataset={"name": "digits", "shifts": ["inversion", "noise:0.2"]}, budget={"epochs": 1})
    row = train_toy(prepare(spec), tmp_path).rows[-1]
    assert row.facts["shifted"] == pytest.approx((row.facts["shifted.inversion"] + row.facts["shifted.noise:0.2"]) / 2)


def test_shifted_tests_change_nothing_in_training(tmp_path: Path) -> None:
    runs = [
        train_toy(
            prepare(toy_spec(dataset={"name": "digits", "train_size": 100, **more}, budget={"epochs": 1})),
            tmp_path / name,
        )
        for name, more in (("plain", {}), ("shifted", {"shifts": ["inversion"]}))
    ]
    assert runs[0].record({}).weights_sha256 == runs[1].record({}).weights_sha256
    assert runs[0].rows[0].test_accuracy == runs[1].rows[0].test_accuracy


def test_a_translation_moves_whole_pixels_and_a_rotation_keeps_the_middle() -> None:
    image = np.zeros((1, 1, 5, 5), dtype=np.uint8)
    image[0, 0, 2, 2] = 200
    moved = shift("translation:1", image)
    assert moved.sum() == 200
    assert {tuple(each) for each in np.argwhere(moved[0, 0])} <= {(1, 1), (1, 3), (3, 1), (3, 3)}
    assert shift("rotation:30", image)[0, 0, 2, 2] == 200
    quarter = np.zeros((1, 1, 4, 6), dtype=np.uint8)
    quarter[0, 0, 1:3, 2:4] = 100
    np.testing.assert_array_equal(shift("rotation:90", quarter), quarter)  # a square in the middle, of no square image


def test_noise_has_its_deviation() -> None:
    image = np.full((20, 1, 30, 30), 128, dtype=np.uint8)
    assert shift("noise:0.1", image).std() == pytest.approx(25.5, rel=0.02)
    np.testing.assert_array_equal(shift("noise:0.1", image), shift("noise:0.1", image))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rotate:15", "there is no shift `rotate`; did you mean `rotation`"),
        ("rotation", "expected `rotation:AMOUNT`, a number above 0"),
        ("noise:-1", "expected `noise:AMOUNT`"),
        ("inversion:2", "expected `inversion` alone"),
    ],
)
def test_shifts_that_are_none_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        shift(name, np.zeros((1, 1, 2, 2), dtype=np.uint8))


def test_parts_have_nothing_in_common() -> None:
    def load(part: list[float]) -> Any:
        return find("datasets", "digits").load()(part=part, test_fraction=0.1).load()

    first, second = load([0, 0.6]), load([0.6, 1])
    rows = [set(split.index) for each in (first, second) for split in (each.train, each.validation, each.test)]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 1797
    with pytest.raises(UserError, match=r"two shares from 0 to 1, the first smaller, but got \[0.6, 0.2\]"):
        load([0.6, 0.2])


# Bad input


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({}, "give one source of the backbone's weights .* but there is none"),
        ({"checkpoint": "x.pt", "published": True}, "but there are checkpoint, published"),
        ({"checkpoint": "absent.pt"}, "task.checkpoint: absent.pt: there is no such file"),
        ({"pretraining": {"noises": "clean"}}, "task.pretraining.noises: it has dataset, noise, budget, seed alone"),
        ({"pretraining": {"budget": {"network": "mlp:8"}}}, "its network is that of the run, small_cnn"),
        ({"pretraining": {"noise": {"name": "symmetric_exclusiv"}}}, "task.pretraining.noise: unknown noise model"),
        ({"pretraining": {"budget": {"epochs": 0}}}, "task.pretraining.budget.epochs"),
    ],
)
def test_backbones_that_cannot_be_had_are_refused(task: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepared_toy("linear_probe", task={"name": "transfer", **task})


def test_a_file_whose_names_do_not_match_is_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(
        UserError, match=r"task.checkpoint: .*other.pt does not fit the network: 10 of 10 weights are missing"
    ):
        prepared_toy("linear_probe", task={"name": "transfer", "checkpoint": str(tmp_path / "other.pt")})
    network = build_network("small_cnn", 7, 1)
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, tmp_path / "own.pt")
    task = {"name": "transfer", "checkpoint": str(tmp_path / "own.pt"), "backbone": "mine"}
    recorder = train_toy(prepared_toy("linear_probe", task=task), tmp_path / "run")
    found = recorder._final["weights"]["0.backbone.backbone.0.weight"]
    assert torch.equal(found, network.state_dict()["0.weight"])
    assert recorder.record({}).task.startswith("transfer(checkpoint=")


def test_weights_that_nobody_published_are_refused() -> None:
    with pytest.raises(UserError, match="nobody has published weights of `small_cnn`"):
        published_weights("small_cnn", {})


@pytest.mark.parametrize("channels", [1, 3])
def test_published_weights_fit_gray_and_colour(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fetched for colour images; the repetition of gray ones in front has no weights to fetch."""
    from noisybench.features import backbone_weights
    from noisybench.networks import torchvision as family

    colour = build_network("torchvision:resnet18", 1000, 3)
    monkeypatch.setattr(family, "published", lambda name: colour.state_dict())
    network = build_network("torchvision:resnet18", 10, channels)
    found = published_weights("torchvision:resnet18", backbone_weights(network))
    network.load_state_dict({**network.state_dict(), **found})
    own = network if channels == 3 else network[1]  # type: ignore[index]
    assert torch.equal(own.layer4[1].conv2.weight, colour.layer4[1].conv2.weight)
    assert not any("fc." in name for name in found)
    monkeypatch.setattr(family, "published", lambda name: {})
    with pytest.raises(UserError, match="the weights of `torchvision:resnet18` do not fit images of this kind"):
        published_weights("torchvision:resnet18", backbone_weights(network))


def test_published_weights_that_cannot_be_fetched_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from noisybench.networks import torchvision as family

    def away(name: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(family, "published", away)
    with pytest.raises(UserError, match=r"cannot be fetched \(no route to host\); give a file by task.checkpoint"):
        published_weights("torchvision:resnet18", {})


def test_two_ways_to_tune_are_refused() -> None:
    with pytest.raises(UserError, match="linear_probe, nmtune each decide what is trained of a network"):
        prepared_toy(["linear_probe", "nmtune"], task=TRANSFER)


def test_heads_are_for_transfer_alone() -> None:
    with pytest.raises(UserError, match="linear_probe: serves transfer, not classification"):
        prepared_toy("linear_probe", task="classification")


@pytest.mark.parametrize("library", ["peft"])
def test_a_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"pip install {library}"):
        prepared_toy("lora")


def arrays(**changes: Any) -> dict[str, Any]:
    made = {"train_x": np.eye(6), "train_y": np.arange(6) % 3, "id_x": np.eye(6)[:3], "id_y": np.arange(3)}
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_y": np.arange(5)},
            r"train_y must be 6 whole numbers, one for each row of train_x, but is int64 of shape \(5,\)",
        ),
        ({"train_x": np.where(np.eye(6) > 0, np.nan, 1.0)}, "6 of 6 rows of train_x hold numbers that are not finite"),
        ({"id_x": np.zeros((3, 4))}, "id_x has 4 features, but train_x has 6"),
        ({"id_x": np.zeros(3)}, r"id_x must be \(N, D\) numbers"),
        ({"id_y": np.array([0, 1, 9])}, r"id_y holds the labels \[9\], which train_y does not"),
        ({"ood_far_x": np.zeros((2, 6)), "ood_far_y": np.array([0, 7])}, r"ood_far_y holds the labels \[7\]"),
        ({"ood_far_x": np.zeros((2, 6))}, "ood_far_x has no labels; add ood_far_y"),
        ({"id_x": None}, "lacks id_x"),
        ({"train_y": np.zeros(6)}, "must be 6 whole numbers"),
    ],
)
def test_features_that_do_not_fit_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **arrays(**changes))
    with pytest.raises(UserError, match=message):
        find("datasets", "features").load()(path=str(tmp_path / "f.npz")).load()


def test_features_from_a_file_and_from_a_folder_are_the_same(tmp_path: Path) -> None:
    cls = find("datasets", "features").load()
    parameters = cls.example(tmp_path)
    with np.load(parameters["path"]) as archive:
        (tmp_path / "folder").mkdir()
        for name in archive.files:
            np.save(tmp_path / "folder" / f"{name}.npy", archive[name])
    one, other = cls(**parameters).load(), cls(path=str(tmp_path / "folder")).load()
    assert one.hash == other.hash
    assert list(one.shifted) == ["far"]


def test_features_are_tuned_without_any_backbone(tmp_path: Path) -> None:
    cls = find("datasets", "features").load()
    dataset = {"name": "features", **cls.example(tmp_path)}
    fields: dict[str, Any] = {
        "task": "transfer",
        "dataset": dataset,
        "budget": {"network": "features", "batch_size": 8},
    }
    recorder = train_toy(prepare(toy_spec("nmtune", **fields)), tmp_path / "run")
    assert recorder.rows[-1].facts["shifted"] == recorder.rows[-1].facts["shifted.far"]
    assert json.dumps(recorder.record({}).as_dict())
    assert math.isfinite(recorder.rows[-1].facts["backbone.singular_value_entropy"])
    for change, message in (
        ({"network": "small_cnn"}, "the dataset holds features; set it to `features`"),
        ({"augmentation": "crop"}, "features cannot be augmented"),
    ):
        wrong = {**fields, "budget": {**fields["budget"], **change}}
        with pytest.raises(UserError, match=message):
            prepare(toy_spec("nmtune", **wrong))


def test_pretraining_is_shared_by_heads_and_charged_to_each(tmp_path: Path) -> None:
    from noisybench.runner import train

    charges = []
    for name in ("linear_probe", "nmtune"):
        (tmp_path / name).mkdir()
        run = prepared_toy(name)
        recorder = train(run, tmp_path / name, lambda rows: None, lambda *_: None, lambda: False, tmp_path / "shared")
        charges.append(recorder.charges)
    assert [[each.cached for each in found] for found in charges] == [[False], [True]]
    other = prepared_toy("linear_probe", toy_dataset(), toy_labels(toy_dataset()), seed=1)
    (tmp_path / "other").mkdir()
    recorder = train(other, tmp_path / "other", lambda rows: None, lambda *_: None, lambda: False, tmp_path / "shared")
    assert not recorder.charges[0].cached, "by default another seed pre-trains another backbone"
