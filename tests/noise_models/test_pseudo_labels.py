"""Pseudo-labels: what each source reads, its auxiliary run, collapse and refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.data.masks.ellipses import EllipseModel
from noisybench.data.targets import IGNORED
from noisybench.errors import Interrupted, UserError
from noisybench.noise_models._adversarial import AdversarialTranslation, Generator, TranslationSettings
from noisybench.noise_models._pseudo_label_runs import WeakNetwork
from noisybench.noise_models._shape_constraints import PatchDiscriminator, ShapeConstraint, VariationalConstraint
from noisybench.noise_models.pseudo_labels import PseudoLabels
from noisybench.runs.preparation import prepare_run
from noisybench.training.auxiliary import AuxiliaryCache
from noisybench.utils.seeds import Stream
from tests.helpers import toy_spec, train_toy

TINY: dict[str, Any] = {"epochs": 1, "width": 2, "auxiliary_masks": 8, "clean_images": 2, "on_collapse": "mean_mask"}
SMALL = {"size": 16, "train_images": 8, "validation_images": 3, "test_images": 3}


def ellipses(**values: int) -> Dataset:
    made: Dataset = get_entry("datasets", "ellipses").load_class()(**{**SMALL, **values}).load()
    return made


def with_masks(dataset: Dataset, masks: np.ndarray[Any, Any]) -> Dataset:
    changed = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, targets=masks))
    vars(changed).pop("hash", None)
    return changed


def dice(found: np.ndarray[Any, Any], true: np.ndarray[Any, Any]) -> float:
    return float(2 * ((found > 0) & (true > 0)).sum() / ((found > 0).sum() + (true > 0).sum()))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_boxes_give_better_masks_than_the_boxes_themselves() -> None:
    dataset = ellipses(size=64, train_images=12)
    filled = np.zeros_like(dataset.train.targets)
    for row, mask in enumerate(dataset.train.targets):
        rows, columns = np.nonzero(mask)
        filled[row, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    found = PseudoLabels(source="boxes").apply(dataset)
    assert dice(found.train, dataset.train.targets) > 0.9 > dice(filled, dataset.train.targets)
    # Nothing but the box is read: an object that fills it gives the same pseudo-label.
    again = PseudoLabels(source="boxes", box_margin=0).apply(with_masks(dataset, filled))
    np.testing.assert_array_equal(again.train, PseudoLabels(source="boxes", box_margin=0).apply(dataset).train)
    assert found.manifest["noise"]["details"]["information"] == "bounding boxes of all objects"


def test_a_weak_network_reads_the_declared_masks_only() -> None:
    dataset = ellipses()
    model = PseudoLabels(source="few_images", **TINY)
    found = model.apply(dataset)
    given = np.sort(Stream("pseudo-labels", "clean images", 0, 8).permutation(8)[:2])
    np.testing.assert_array_equal(found.train[given], dataset.train.targets[given])
    others = np.setdiff1d(np.arange(8), given)
    changed = dataset.train.targets.copy()
    changed[others] = 1 - changed[others]
    np.testing.assert_array_equal(
        PseudoLabels(source="few_images", **TINY).apply(with_masks(dataset, changed)).train, found.train
    )
    assert len(model.auxiliary_cache.costs) == 1
    # Another machine need not train the network again, which would make slightly different labels.
    file = label_files.save(found, dataset, Path("labels"))
    assert label_files.load(file).hash == found.hash
    assert get_entry("noise_models", "from_file").load_class()(path="labels").apply(dataset).hash == found.hash


@pytest.mark.parametrize(
    ("constraint", "calibration"), [("none", False), ("patch_gan", True), ("vae", False), ("vae", True)]
)
def test_a_translation_reads_no_mask_and_is_trained_once(constraint: Any, calibration: bool) -> None:
    dataset, settings = ellipses(), {**TINY, "constraint": constraint, "calibration": calibration}
    first = PseudoLabels(**settings)
    found = first.apply(dataset)
    assert [cost.cached for cost in first.auxiliary_cache.costs] == [False]
    second = PseudoLabels(**settings)
    again = second.apply(with_masks(dataset, dataset.train.targets[::-1].copy()))
    np.testing.assert_array_equal(again.train, found.train)
    assert [cost.cached for cost in second.auxiliary_cache.costs] == [True]
    assert second.auxiliary_cache.costs[0].examples == first.auxiliary_cache.costs[0].examples > 0


@pytest.mark.parametrize("constraint", ["patch_gan", "vae"])
def test_an_interrupted_translation_resumes_to_the_same_weights(constraint: Any, tmp_path: Path) -> None:
    images = torch.from_numpy(ellipses().train.inputs[:])
    masks = torch.from_numpy(np.stack([EllipseModel().draw(Stream("x", number), (16, 16)) for number in range(6)]))

    def run() -> AdversarialTranslation:
        settings = TranslationSettings(constraint, calibration=True, epochs=3, width=2)
        return AdversarialTranslation({"train": images}, masks, settings)

    whole, stopped = run(), run()
    AuxiliaryCache(tmp_path / "whole").get_or_train(whole)
    epochs: list[Any] = []
    halting = AuxiliaryCache(
        tmp_path / "stopped", report=lambda kind, event: epochs.append(event), stop=lambda: len(epochs) == 2
    )
    with pytest.raises(Interrupted):
        halting.get_or_train(stopped)
    resumed = run()
    AuxiliaryCache(tmp_path / "stopped").get_or_train(resumed)
    for name, network in whole._networks().items():
        for key, weights in network.state_dict().items():
            torch.testing.assert_close(resumed._networks()[name].state_dict()[key], weights, rtol=0, atol=0)


@pytest.mark.parametrize("constraint", [PatchDiscriminator(1, 2), VariationalConstraint(2)])
def test_a_constraint_has_gradients_for_masks_and_features(constraint: ShapeConstraint) -> None:
    masks = torch.rand(3, 1, 16, 16, requires_grad=True)
    constraint.generator_loss(masks).backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    assert bool((masks.grad != 0).any())
    assert constraint.features(masks).shape == (3, constraint.num_features)
    assert constraint.own_loss(masks.detach().round(), masks.detach()).ndim == 0


def test_a_fitted_constraint_prefers_masks_of_its_shape() -> None:
    masks = np.stack([EllipseModel().draw(Stream("shape", number), (32, 32)) for number in range(40)])
    auxiliary = torch.from_numpy(masks)[:, None].float()
    torch.manual_seed(0)
    constraint = VariationalConstraint(8)
    optimizer = torch.optim.Adam(constraint.parameters(), lr=5e-3)
    for _ in range(250):
        optimizer.zero_grad()
        constraint.own_loss(auxiliary, auxiliary).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    scattered = auxiliary.flatten(1)[:, torch.randperm(32 * 32)].view_as(auxiliary)
    assert constraint.generator_loss(auxiliary) < 0.5 * constraint.generator_loss(scattered)


def test_calibration_changes_the_lowest_channels_alone() -> None:
    torch.manual_seed(0)
    generator, images = Generator(1, 2, PatchDiscriminator(1, 2)), torch.randn(2, 1, 16, 16)
    excitation = cast(Any, generator.excitation)
    with torch.no_grad():
        excitation[-1].weight.zero_()
        excitation[-1].bias.zero_()
        torch.testing.assert_close(generator(images), generator.network(images), rtol=0, atol=0)
        excitation[-1].bias.fill_(-50)
        assert not torch.equal(generator(images), generator.network(images) * 0)
    generator(images).sum().backward()
    assert excitation[0].weight.grad is not None


@pytest.mark.parametrize("value", [0, 1])
def test_a_collapse_fails_or_falls_back_to_the_mean_mask(value: int) -> None:
    found = {name: np.full((count, 16, 16), value, np.uint8) for name, count in (("train", 4), ("validation", 2))}
    known = np.stack([EllipseModel().draw(Stream("known", number), (16, 16)) for number in range(9)])
    word = "object" if value else "background"
    with pytest.raises(UserError, match=f"collapsed: the pseudo-labels are {word} in 100.0% of all pixels"):
        PseudoLabels()._without_collapse(dict(found), known)
    for source, advice in (("adversarial", "noise.constraint"), ("few_images", "noise.clean_images")):
        with pytest.raises(UserError, match=f"; change {advice}, noise.epochs or"):
            PseudoLabels(source=source)._without_collapse(dict(found), known)
    model = PseudoLabels(on_collapse="mean_mask")
    replaced = model._without_collapse(dict(found), known)
    assert {name: masks.shape for name, masks in replaced.items()} == {
        name: masks.shape for name, masks in found.items()
    }
    assert 0 < replaced["train"].mean() < 1
    assert (replaced["train"][0] == replaced["validation"][1]).all()
    assert "have collapsed" in str(model.notes(ellipses())[0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"constraint": "none", "calibration": True}, "noise.calibration: needs noise.constraint"),
        ({"min_axis": 0.4}, "noise.min_axis: must be at most noise.max_axis"),
        ({"source": "few_images", "clean_images": 9}, r"at most the number of training images \(8\), but got 9"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PseudoLabels(**parameters).apply(ellipses())


def test_several_classes_are_refused_by_the_translation_alone() -> None:
    scenes = get_entry("datasets", "scenes").load_class()(size=16, train_images=4, validation_images=2, test_images=2)
    dataset = scenes.load()
    with pytest.raises(UserError, match="one class besides the background, but scenes has 4"):
        PseudoLabels().apply(dataset)
    found = PseudoLabels(source="few_images", **TINY).apply(dataset)
    assert found.train.max() <= 4


def test_clean_images_without_labels_do_not_spoil_the_weak_network() -> None:
    dataset = ellipses()
    given = Stream("pseudo-labels", "clean images", 0, 8).permutation(8)[:2]
    masks = dataset.train.targets.copy()
    masks[given[0]] = IGNORED
    images = {"train": torch.from_numpy(np.array(dataset.train.inputs[:]))}
    # One image in each step, so that some steps have no pixel with a label.
    run = WeakNetwork(images, torch.from_numpy(given[:1]), torch.from_numpy(masks[given[:1]]), 2, 1, 2, 0)
    assert run.train_epoch(0) == 0
    assert all(torch.isfinite(weights).all() for weights in run.network.parameters())
    masks[given] = IGNORED
    with pytest.raises(UserError, match="clean_images: the 2 training images with clean masks have no pixel"):
        PseudoLabels(source="few_images", **TINY).apply(with_masks(dataset, masks))


def test_every_run_is_charged_the_auxiliary_run(tmp_path: Path) -> None:
    noise = {"name": "pseudo_labels", "source": "few_images", **TINY}
    spec = toy_spec("noise_weighted_dice", dataset={"name": "ellipses", **SMALL}, noise=noise)
    costs = []
    for number in range(2):
        prepared = prepare_run(spec)
        record = train_toy(prepared, tmp_path / str(number)).record({})
        (cost,) = record.auxiliary
        assert "weak network" in cost["title"]
        assert record.cost.wall_seconds > cost["wall_seconds"] > 0
        costs.append(cost)
    assert [cost["cached"] for cost in costs] == [False, True]
    assert costs[0]["wall_seconds"] == costs[1]["wall_seconds"]
    assert record.manifest["noise"]["details"]["information"] == "clean masks of 2 training images"
