"""Tuning of pre-trained networks: regularizers by hand, what stays frozen, shifted tests, and what is refused."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from noisybench.config.registry import get_entry, list_entries
from noisybench.errors import UserError
from noisybench.mitigations.lora import adaptable_layers
from noisybench.networks import build_network, published_weights
from noisybench.nn.frozen import BackboneWithHead, FrozenBackbone, split_network, with_frozen_backbone
from noisybench.runs.preparation import prepare_run
from noisybench.training.roles import ModelBuilder
from tests.helpers import TRANSFER, prepared_toy, toy_dataset, toy_labels, toy_spec, train_toy

# Regularizers


@pytest.mark.parametrize("name", ["linear_probe", "nmtune", "lora"])
def test_the_backbone_stays_as_it_was_trained(name: str, tmp_path: Path) -> None:
    """One with batch normalization, whose statistics must not move either."""
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


def test_full_finetuning_changes_the_backbone(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy("full_finetuning", budget={"network": "mlp:16n-8"}), tmp_path)
    pretrained = torch.load(next((tmp_path / "auxiliary").glob("*.pt")), weights_only=True)["result"]
    found = recorder._final["weights"]
    own = next(each for key, each in found.items() if key.endswith("hidden1.weight"))
    assert not torch.equal(own, pretrained["hidden1.weight"])


def test_frozen_features_that_are_known_give_what_images_give(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy("linear_probe"), tmp_path)
    network = with_frozen_backbone(build_network("small_cnn", 10, 1), lambda width: nn.Identity())
    network.load_state_dict({k.removeprefix("0."): v for k, v in recorder._final["weights"].items()})
    images = toy_dataset().train.inputs
    mean, deviation = images.mean(), images.astype(np.float64).std()
    normalized = torch.from_numpy(((images - mean) / deviation).astype(np.float32))
    with torch.no_grad():
        scores = network.eval()(normalized).softmax(1)
    assert (scores.argmax(1).numpy() == recorder.evaluator.samples().prediction).all()
    features = network.backbone(normalized)
    assert torch.equal(network.backbone(features), features)


def test_heads_serve_losses_against_downstream_noise(tmp_path: Path) -> None:
    recorder = train_toy(prepared_toy(["elr", "nmtune"], task=TRANSFER), tmp_path)
    assert recorder.complete
    assert recorder.rows[-1].memorized_fraction is not None


def test_each_of_several_networks_is_regularized(tmp_path: Path) -> None:
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
        UserError, match="simclr: it sets the initial weights of the networks, but the task sets those of the backbone"
    ):
        prepared_toy(["simclr", "linear_probe"], task=TRANSFER)


def test_scores_of_examples_come_from_networks_with_the_same_head(tmp_path: Path) -> None:
    stack = [{"name": "el2n", "num_networks": 2, "epochs": 1, "keep_fraction": 0.8, "per_class": True}, "linear_probe"]
    recorder = train_toy(prepared_toy(stack, task=TRANSFER), tmp_path)
    assert recorder.rows[0].diagnostics["kept_fraction"] == 0.75  # 9 of the 12 of each class
    titles = [charge.title.split(" · ")[0] for charge in recorder.auxiliary_costs]
    assert titles == ["pre-training", "early scores"]


@pytest.mark.parametrize("name", ["small_cnn", "features", "resnet8_cifar_stem", "mlp:16n-8", "timm:resnet10t"])
def test_a_network_splits_into_backbone_and_classifier(name: str) -> None:
    network = build_network(name, 5, 3).eval()
    backbone, last = split_network(network)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(last(backbone.eval()(images).flatten(1)), network(images))
    assert not any(isinstance(each, nn.Linear) and each.out_features == 5 for each in backbone.modules())
    assert BackboneWithHead(FrozenBackbone(backbone), nn.Identity(), last)(images).shape == (2, 5)


def test_low_rank_changes_start_at_nothing() -> None:
    torch.manual_seed(0)
    network = build_network("small_cnn", 10, 1).eval()
    lora = get_entry("mitigations", "lora").load_class()(rank=2)
    backbone, images = split_network(network)[0].eval(), torch.rand(3, 1, 8, 8)
    adapted = lora.build_model(network)
    torch.testing.assert_close(adapted.backbone(images), backbone(images).flatten(1))
    trained = {key for key, each in adapted.named_parameters() if each.requires_grad}
    assert trained
    assert all("lora_" in key or key.startswith("classifier.") for key in trained)
    assert adaptable_layers(backbone) == ["0", "4"]


# Spectra and shifted tests


def test_flatness_is_recorded_for_every_head(tmp_path: Path) -> None:
    head = train_toy(prepared_toy("mlp_probe"), tmp_path / "head").rows
    whole = train_toy(prepared_toy("full_finetuning"), tmp_path / "whole").rows
    names = ("singular_value_entropy", "largest_singular_value_ratio")
    for name in names:
        assert head[-1].diagnostics[f"classifier_input.{name}"] > 0
        assert head[-1].diagnostics[f"backbone.{name}"] > 0
        assert whole[-1].diagnostics[f"classifier_input.{name}"] > 0
        assert f"backbone.{name}" not in whole[-1].diagnostics
        assert f"backbone.{name}" not in head[0].diagnostics, "only at the end"
    assert 0 < head[-1].diagnostics["pretraining_accuracy"] <= 1


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({}, "give one source of the backbone's weights .* but there is none"),
        ({"checkpoint": "x.pt", "published": True}, "but there are checkpoint, published"),
        ({"checkpoint": "absent.pt"}, "task.checkpoint: the file absent.pt does not exist"),
        (
            {"pretraining": {"noises": "clean"}},
            "task.pretraining.noises: unknown field; available are dataset",
        ),
        ({"pretraining": {"budget": {"network": "mlp:8"}}}, "the network must be that of the run, small_cnn"),
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


def test_unpublished_weights_are_refused() -> None:
    with pytest.raises(UserError, match="`small_cnn` has no published weights"):
        published_weights("small_cnn", {})


@pytest.mark.parametrize("channels", [1, 3])
def test_published_weights_fit_gray_and_color(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As fetched for color images; the repetition of gray ones in front has no weights to fetch."""
    from noisybench.networks import torchvision as family
    from noisybench.nn.features import backbone_weights

    color = build_network("torchvision:resnet18", 1000, 3)
    monkeypatch.setattr(family, "published_weights", lambda name: color.state_dict())
    network = build_network("torchvision:resnet18", 10, channels)
    found = published_weights("torchvision:resnet18", backbone_weights(network))
    network.load_state_dict({**network.state_dict(), **found})
    own = network if channels == 3 else network[1]  # type: ignore[index]
    assert torch.equal(own.layer4[1].conv2.weight, color.layer4[1].conv2.weight)
    assert not any("fc." in name for name in found)
    monkeypatch.setattr(family, "published_weights", lambda name: {})
    with pytest.raises(UserError, match="the weights of `torchvision:resnet18` do not fit images of this kind"):
        published_weights("torchvision:resnet18", backbone_weights(network))


def test_published_weights_that_cannot_be_fetched_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from noisybench.networks import torchvision as family

    def away(name: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(family, "published_weights", away)
    with pytest.raises(UserError, match=r"cannot be downloaded \(no route to host\); set a file with task.checkpoint"):
        published_weights("torchvision:resnet18", {})


def test_two_ways_to_tune_are_refused() -> None:
    with pytest.raises(UserError, match="linear_probe and nmtune both choose which weights are trained"):
        prepared_toy(["linear_probe", "nmtune"], task=TRANSFER)


def test_heads_are_for_transfer_alone() -> None:
    with pytest.raises(
        UserError, match="linear_probe: supports the tasks transfer, step_verification, but the task is classification"
    ):
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
            "train_y has 5 labels, but train_x 6 rows; each row needs one label",
        ),
        (
            {"train_x": np.where(np.eye(6) > 0, np.nan, 1.0)},
            "6 of 6 rows of train_x contain values that are not finite",
        ),
        ({"id_x": np.zeros((3, 4))}, "id_x has 4 features, but train_x has 6"),
        ({"id_x": np.zeros(3)}, r"id_x must be \(N, D\) numbers"),
        (
            {"id_y": np.array([0, 1, 9])},
            r"id_y: the id split has the class `9` \(1 example\), which the training split does not have",
        ),
        (
            {"ood_far_x": np.zeros((2, 6)), "ood_far_y": np.array([0, 7])},
            "ood_far_y: the ood_far split has the class `7`",
        ),
        ({"ood_far_x": np.zeros((2, 6))}, "ood_far_x has no labels; add ood_far_y"),
        ({"id_x": None}, "has no id_x, to which the labels id_y belong"),
        ({"ood_far_y": np.zeros(2)}, "has no ood_far_x, to which the labels ood_far_y belong"),
        ({"train_y": np.zeros(6)}, "train_y has the one class `0`"),
    ],
)
def test_features_that_do_not_fit_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **arrays(**changes))
    with pytest.raises(UserError, match=message):
        get_entry("datasets", "features").load_class()(path=str(tmp_path / "f.npz")).load()


def test_arrays_of_other_names_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", **arrays(id_x=np.eye(6)[:3] + 1, test_x=np.eye(6), test_y=np.arange(6) % 3))
    data = get_entry("datasets", "features").load_class()(path=str(tmp_path / "f.npz")).load()
    assert [(note.kind, note.count, note.names) for note in data.notes] == [("unread_arrays", 2, ("test_x", "test_y"))]


def test_features_from_a_file_and_from_a_folder_are_the_same(tmp_path: Path) -> None:
    cls = get_entry("datasets", "features").load_class()
    parameters = cls.example(tmp_path)
    with np.load(parameters["path"]) as archive:
        (tmp_path / "folder").mkdir()
        for name in archive.files:
            np.save(tmp_path / "folder" / f"{name}.npy", archive[name])
    one, other = cls(**parameters).load(), cls(path=str(tmp_path / "folder")).load()
    assert one.hash == other.hash
    assert list(one.shifted_tests) == ["far"]


def test_features_are_tuned_without_any_backbone(tmp_path: Path) -> None:
    cls = get_entry("datasets", "features").load_class()
    dataset = {"name": "features", **cls.example(tmp_path)}
    fields: dict[str, Any] = {
        "task": "transfer",
        "dataset": dataset,
        "budget": {"network": "features", "batch_size": 8},
    }
    recorder = train_toy(prepare_run(toy_spec("nmtune", **fields)), tmp_path / "run")
    assert recorder.rows[-1].diagnostics["mean_shift_accuracy"] == recorder.rows[-1].diagnostics["shift_accuracy.far"]
    assert json.dumps(recorder.record({}).as_dict())
    assert math.isfinite(recorder.rows[-1].diagnostics["backbone.singular_value_entropy"])
    for change, message in (
        ({"network": "small_cnn"}, "the dataset holds features; set it to `features`, a linear classifier, or"),
        ({"augmentation": "crop"}, "features cannot be augmented"),
    ):
        wrong = {**fields, "budget": {**fields["budget"], **change}}
        with pytest.raises(UserError, match=message):
            prepare_run(toy_spec("nmtune", **wrong))


@pytest.mark.parametrize("stack", ["cross_entropy", "elr+linear_probe", "co_teaching", "mixup", "mahalanobis"])
def test_features_stay_as_they_are_read(stack: str, tmp_path: Path) -> None:
    cls = get_entry("datasets", "features").load_class()
    fields = {"task": "transfer", "dataset": {"name": "features", **cls.example(tmp_path)}}
    prepared = prepare_run(toy_spec(stack, **fields, budget={"network": "features", "batch_size": 8}))
    before = prepared.dataset.train.inputs.copy()
    train_toy(prepared, tmp_path / "run")
    assert np.array_equal(prepared.dataset.train.inputs, before)


def test_each_mitigation_trains_on_features_or_is_refused_with_a_reason(tmp_path: Path) -> None:
    cls = get_entry("datasets", "features").load_class()
    fields = {"task": "transfer", "dataset": {"name": "features", **cls.example(tmp_path)}}
    refused, frozen = {}, {}
    for entry in list_entries("mitigations").values():
        mitigation = entry.load_class()
        if not {"classification", "transfer"} & set(mitigation.tasks):
            continue
        # FAST-MCD warns of the few dimensions of these features, whose covariance is nearly singular.
        cases = [parameters for parameters in mitigation.test_cases() if parameters.get("covariance") != "mcd"]
        stacks = [{"name": entry.name, **parameters} for parameters in cases]
        budget = {"network": "features_mlp:4", "batch_size": 8, "epochs": 3}
        if issubclass(mitigation, ModelBuilder):
            with contextlib.suppress(UserError):
                prepare_run(toy_spec([stacks[0]], **fields, budget=budget))
                frozen[entry.name] = False
            budget["network"] = "features"
        for stack in stacks:
            try:
                prepared = prepare_run(toy_spec([stack], **fields, budget=budget))
            except UserError as error:
                refused[entry.name] = str(error)
                continue
            # One set of parameters that applies to features is enough, such as a rank below their number.
            refused.pop(entry.name, None)
            row = train_toy(prepared, tmp_path / entry.name).rows[-1]
            assert 0 <= row.test_score <= 1, entry.name
            break
    assert set(frozen) == {"full_finetuning"}
    assert all(len(reason) > 40 for reason in refused.values())
    assert set(refused) == {"cores2_star", "disc", "lora", "lsa", "promix", "simclr"}


def test_a_linear_layer_of_features_is_that_of_torch() -> None:
    layer = build_network("features", num_classes=3, channels=40)[2]
    inputs = torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
    outputs, expected = layer(inputs), functional.linear(inputs, layer.weight, layer.bias)
    torch.testing.assert_close(outputs, expected)
    (outputs.square().sum()).backward()
    gradient = 2 * expected.detach().T @ inputs
    torch.testing.assert_close(layer.weight.grad, gradient)
    torch.testing.assert_close(layer.bias.grad, 2 * expected.detach().sum(0))


def test_an_archive_of_features_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = get_entry("datasets", "features").load_class()
    source, reads = cls(**cls.example(tmp_path)), []
    arrays_of = cls._read_arrays
    monkeypatch.setattr(cls, "_read_arrays", lambda self: reads.append(1) or arrays_of(self))
    assert list(source.load().shifted_tests) == ["far"]
    assert len(reads) == 1


def test_views_of_images_are_refused_for_features(tmp_path: Path) -> None:
    cls = get_entry("datasets", "features").load_class()
    fields = {"task": "transfer", "dataset": {"name": "features", **cls.example(tmp_path)}}
    with pytest.raises(UserError, match=r"it trains on views of images \(contrastive\), but the dataset holds"):
        prepare_run(toy_spec("pls", **fields, budget={"network": "features", "batch_size": 8}))


def test_human_labels_belong_to_the_rows_of_features(tmp_path: Path) -> None:
    images = toy_dataset()
    human = get_entry("noise_models", "human").load_class()
    order = np.argsort(np.concatenate([images.train.index, images.validation.index]))
    clean = np.concatenate([images.train.targets, images.validation.targets])[order]
    parameters = human.example(images, tmp_path)
    np.savez(
        tmp_path / "f.npz", train_x=np.eye(len(clean)), train_y=clean, id_x=np.eye(len(clean))[:2] + 1, id_y=clean[:2]
    )
    features = get_entry("datasets", "features").load_class()(path=str(tmp_path / "f.npz")).load()
    rates = []
    for dataset in (images, features):
        labels = human(**parameters).apply(dataset)
        observed = np.concatenate([labels.train, labels.validation])
        targets = np.concatenate([dataset.train.targets, dataset.validation.targets])
        rates.append((observed != targets).mean())
    assert rates[0] == rates[1] > 0.2


def test_features_decide_their_incorrect_labels(tmp_path: Path) -> None:
    # Two groups with opposite features: the one projection of the class sends each to a class of its own.
    group = np.arange(200) % 2
    points = np.where(group[:, None] == np.arange(40) % 2, 1e-3, 0.0)
    labels = np.where(np.arange(200) < 160, 0, 1 + np.arange(200) % 4)
    np.savez(tmp_path / "f.npz", train_x=points, train_y=labels, id_x=points[:2] + 1, id_y=labels[:2])
    cls = get_entry("datasets", "features").load_class()
    dataset = cls(path=str(tmp_path / "f.npz"), validation_fraction=0).load()
    noise = get_entry("noise_models", "instance_dependent").load_class()(rate=0.5)
    observed, split = noise.apply(dataset).train, dataset.train
    wrong = (split.targets == 0) & (observed != 0)
    for number in range(2):
        counts = np.bincount(observed[wrong & (group[split.index] == number)], minlength=5)
        assert counts.max() > 0.7 * counts.sum() > 10


def test_pretraining_is_shared_by_heads_and_charged_to_each(tmp_path: Path) -> None:
    from noisybench.runs.training import train

    charges = []
    for name in ("linear_probe", "nmtune"):
        (tmp_path / name).mkdir()
        run = prepared_toy(name)
        recorder = train(run, tmp_path / name, lambda rows: None, lambda *_: None, lambda: False, tmp_path / "shared")
        charges.append(recorder.auxiliary_costs)
    assert [[each.cached for each in found] for found in charges] == [[False], [True]]
    other = prepared_toy("linear_probe", toy_dataset(), toy_labels(toy_dataset()), seed=1)
    (tmp_path / "other").mkdir()
    recorder = train(other, tmp_path / "other", lambda rows: None, lambda *_: None, lambda: False, tmp_path / "shared")
    assert not recorder.auxiliary_costs[0].cached, "by default another seed pre-trains another backbone"
