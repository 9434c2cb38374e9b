"""A user's LightningModule under a stack reaches the weights of the harness, and resumes with the stack's state."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import noisybench as nb
from noisybench.config.registry import get_entry, list_entries
from noisybench.errors import UserError
from noisybench.integrations.lightning import NOT_IN_LIGHTNING
from noisybench.runs.preparation import training_set_of
from noisybench.training.loop import attach, train_epoch
from noisybench.training.task import Task
from tests.helpers import prepared_toy

EPOCHS = 3
RATE = {"drop_fraction": 0.25, "ramp_epochs": 1}


class UserModule(LightningModule):
    """A module of a user: a network, an optimizer, validation, a hook and hyperparameters."""

    def __init__(self, network: nn.Module, learning_rate: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="network")
        self.network, self.ends = network, 0

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise AssertionError("replaced")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, targets = batch
        self.log("accuracy", (self(inputs).argmax(1) == targets).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.hparams["learning_rate"], momentum=0.9, weight_decay=5e-4)

    def on_train_epoch_end(self) -> None:
        self.ends += 1


def harness_task(stack: Any) -> tuple[Task, Any]:
    budget = {"network": "mlp:8", "epochs": EPOCHS, "lr_schedule": "constant"}
    run = prepared_toy(stack, task="classification", budget=budget)
    task = get_entry("tasks", "classification").load_class()(
        run.spec.budget, seed=0, training_set=training_set_of(run), stack=run.stack
    )
    attach(task, Fabric(accelerator="cpu", devices=1))
    task.on_fit_start()
    return task, run


def users_data(task: Task) -> TensorDataset:
    return TensorDataset(task.normalize(task.training_set.inputs), task.training_set.targets)


def trainer(epochs: int = EPOCHS, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(max_epochs=epochs, accelerator="cpu", **{"enable_checkpointing": False, **quiet, **options})


def fit(engine: Trainer, *arguments: Any, **options: Any) -> None:
    """Fit without Lightning's advice about workers."""
    with warnings.catch_warnings(action="ignore"):
        engine.fit(*arguments, **options)


def assert_equal_weights(first: nn.Module, second: nn.Module) -> None:
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, theirs)


STACKS = [
    "gce",
    "elr",
    "mixup",
    "mixup+bootstrapping",
    "label_smoothing+sce",
    "random_pruning+elr",
    [{"name": "random_pruning", "match": "epochs"}],
    [{"name": "trimmed_loss", **RATE}],
    [{"name": "trimmed_loss", **RATE, "among": "epoch"}, "elr"],
    [{"name": "forward_correction", "warmup_epochs": 1, "implausible": "warn"}],
    [{"name": "backward_correction", "matrix": "oracle"}],
]


@pytest.mark.parametrize("stack", STACKS, ids=str)
@pytest.mark.parametrize("own_loader", [True, False])
def test_training_reaches_the_weights_of_the_harness(stack: Any, own_loader: bool) -> None:
    task, run = harness_task(stack)
    module = UserModule(copy.deepcopy(task.networks[0]))
    options: dict[str, Any] = {"batch_size": task.budget.batch_size}
    if "oracle" in str(stack):
        options["transition"] = run.labels.manifest["transition_matrix"]
    data = users_data(task)
    mitigated = nb.lightning.Mitigated(module, stack, data, **options)
    if own_loader:
        fit(trainer(), mitigated)
    elif "pruning" in str(stack):
        with pytest.raises(
            UserError, match=r"chooses the examples of every batch; call trainer.fit\(mitigated\) without"
        ):
            fit(trainer(), mitigated, DataLoader(nb.lightning.Indexed(data), batch_size=32))
        return
    else:
        # The user's loader, with the batches of the harness.
        own = mitigated.train_dataloader().batch_sampler
        fit(trainer(), mitigated, DataLoader(nb.lightning.Indexed(data), batch_sampler=Batches(own)))
    optimizer = task.configure_optimizers()
    for epoch in range(EPOCHS):
        train_epoch(task, optimizer, epoch)
    assert_equal_weights(module.network, task.networks[0])
    expected = task.stack.label_quality(task, task.training_set)
    torch.testing.assert_close(mitigated.label_quality(), expected)
    assert mitigated.ends == EPOCHS, "the user's hooks run"


class Batches:
    """Batches of another sampler, which no code recognizes as that of `Mitigated`."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


class SaveAfter(Callback):
    """Save a checkpoint after so many epochs, at the earliest point: before the module's own hook."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            trainer.save_checkpoint("last.ckpt")


@pytest.mark.parametrize(
    "stack",
    ["elr", "mixup+gce", "random_pruning", [{"name": "trimmed_loss", **RATE, "among": "epoch"}],
     [{"name": "forward_correction", "warmup_epochs": 1, "implausible": "warn"}]],
    ids=str,
)  # fmt: skip
def test_training_resumes_from_a_checkpoint_with_the_stack_s_state(workspace: Path, stack: Any) -> None:
    task, _ = harness_task("cross_entropy")
    data = users_data(task)
    modules = [UserModule(copy.deepcopy(task.networks[0])) for _ in range(2)]
    fit(trainer(callbacks=[SaveAfter(2)]), nb.lightning.Mitigated(modules[0], stack, data, batch_size=32))
    resumed = nb.lightning.Mitigated(modules[1], stack, data, batch_size=32)
    fit(trainer(), resumed, ckpt_path="last.ckpt", weights_only=False)
    assert_equal_weights(modules[0], modules[1])
    # Weights of the checkpoint are the user's: the user's class loads them, without noisybench.
    loaded = UserModule.load_from_checkpoint("last.ckpt", network=copy.deepcopy(task.networks[0]), weights_only=False)
    assert type(loaded) is UserModule
    other = nb.lightning.Mitigated(UserModule(task.networks[0]), "gce", data)
    with pytest.raises(UserError, match=r"the checkpoint is of the stack .*, but this training has the stack gce"):
        fit(trainer(), other, ckpt_path="last.ckpt", weights_only=False)


def test_validation_logs_and_callbacks_are_the_user_s(workspace: Path) -> None:
    from pytorch_lightning.callbacks import ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger

    task, _ = harness_task("cross_entropy")
    data = users_data(task)
    best = ModelCheckpoint(monitor="accuracy", mode="max", dirpath="best")
    engine = trainer(logger=CSVLogger("logs"), callbacks=[best], enable_checkpointing=True, log_every_n_steps=1)
    mitigated = nb.lightning.Mitigated(UserModule(task.networks[0]), "elr", data, batch_size=32)
    fit(engine, mitigated, val_dataloaders=DataLoader(data, batch_size=32))
    assert {"accuracy", "train_loss"} <= set(engine.callback_metrics)
    assert best.best_model_path
    assert isinstance(mitigated, UserModule)
    assert mitigated.hparams["learning_rate"] == 0.05


def test_a_copy_and_a_pickled_module_train_on_as_the_module_itself() -> None:
    task, _ = harness_task("cross_entropy")
    mitigated: Any = nb.lightning.Mitigated(UserModule(task.networks[0]), "elr", users_data(task), batch_size=32)
    fit(trainer(1), mitigated)
    twins = [copy.deepcopy(mitigated), pickle.loads(pickle.dumps(mitigated))]
    for each in (mitigated, *twins):
        fit(trainer(2), each)
    for twin in twins:
        assert type(twin) is type(mitigated)
        assert twin.network is not mitigated.network
        assert_equal_weights(mitigated.network, twin.network)
        assert torch.equal(mitigated.label_quality(), twin.label_quality())


def test_masks_are_trained_pixel_by_pixel() -> None:
    images, masks = torch.rand(6, 1, 4, 4), torch.randint(0, 3, (6, 4, 4))
    masks[:, 0, 0] = -100
    module = UserModule(nn.Conv2d(1, 3, 1))
    items = [{"image": image, "label": mask} for image, mask in zip(images, masks, strict=True)]
    mitigated = nb.lightning.Mitigated(module, "elr", items, batch_size=3, ignore_index=-100)
    fit(trainer(1), mitigated)
    assert mitigated.label_quality().shape == masks.shape


class Photos(Dataset[Any]):
    """A dataset like those of torchvision, which counts the images that are read."""

    def __init__(self, count: int) -> None:
        self.targets, self.num_read = [number % 3 for number in range(count)], 0

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.num_read += 1
        return torch.zeros(4), self.targets[index]


def test_labels_are_read_without_the_images() -> None:
    photos = Photos(40)
    mitigated = nb.lightning.Mitigated(UserModule(nn.Linear(4, 3)), "gce", Subset(photos, range(4, 40)))
    assert mitigated._noisybench.training_set.targets.tolist() == photos.targets[4:]
    assert photos.num_read < 10


def test_every_mitigation_works_in_lightning_or_has_a_reason() -> None:
    module, data = UserModule(nn.Linear(2, 2)), TensorDataset(torch.rand(8, 2), torch.arange(8) % 2)
    needed = {"trimmed_loss": "trimmed_loss(drop_fraction=0.2)"}
    for name, entry in list_entries("mitigations").items():
        if not entry.module.startswith("noisybench."):
            continue
        if name in NOT_IN_LIGHTNING:
            with pytest.raises(UserError) as refusal:
                nb.lightning.Mitigated(module, name, data)
            assert NOT_IN_LIGHTNING[name] in str(refusal.value)
        else:
            assert isinstance(nb.lightning.Mitigated(module, needed.get(name, name), data), UserModule)


class Manual(UserModule):
    """A module with manual optimization."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 2))
        self.automatic_optimization = False


PAIRS = TensorDataset(torch.rand(8, 2), torch.arange(8) % 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda module: (nn.Linear(2, 2), "elr", PAIRS), r"module must be a LightningModule of yours, but is Linear"),
        (lambda module: (Manual(), "elr", PAIRS), r"optimizes manually"),
        (lambda module: (module, "elrr", PAIRS), r"lightning: unknown mitigation `elrr`; did you mean `elr`"),
        (lambda module: (module, "mixup+mixup", PAIRS), r"`mixup` appears twice in the stack"),
        (lambda module: (module, "trimmed_loss", PAIRS), r"drop_fraction: by default this is the true noise rate"),
        (lambda module: (module, "elr", [(1.0, 0.5)] * 3), r"targets must be class indices, whole numbers, but are"),
        (lambda module: (module, "elr", [(1.0, 1, 2)] * 3), r"must yield pairs \(input, target\), but an item has 3 parts"),
        (lambda module: (module, "elr", [{"x": 1, "y": 1}]), r"one of target, targets, label, labels, but has the keys"),
        (lambda module: (module, "elr", []), r"train_set: has no examples"),
        (lambda module: (module, "elr", iter([])), r"needs a dataset with a length"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(call: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        nb.lightning.Mitigated(*call(UserModule(nn.Linear(2, 2))))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 2.5}, {"num_workers": -1}])
def test_sizes_of_the_loader_are_whole_numbers(options: Any) -> None:
    with pytest.raises(UserError, match=rf"lightning\.{next(iter(options))}: must be a whole number of at least"):
        nb.lightning.Mitigated(UserModule(nn.Linear(2, 2)), "elr", PAIRS, **options)


def test_nothing_is_known_about_labels_before_training() -> None:
    mitigated = nb.lightning.Mitigated(UserModule(nn.Linear(2, 2)), "elr", PAIRS)
    for ask in (mitigated.label_quality, mitigated.corrected_labels):
        with pytest.raises(
            UserError, match=rf"lightning\.{ask.__name__}: nothing is known before training; call trainer"
        ):
            ask()


@pytest.mark.parametrize(
    ("stack", "options", "loader", "message"),
    [
        ("elr", {}, DataLoader(PAIRS, batch_size=4), r"the batches have no positions; build your loader from"),
        ("gce", {"num_classes": 3}, None, r"forward must return \(N, 3\) scores, .* but its output has the shape \(4, 2\)"),
        ("forward_correction(warmup_epochs=9)", {}, None, r"lightning.forward_correction: the warm-up takes 9 of 2 epochs"),
        ("forward_correction(matrix=oracle)", {}, None, r"give yours as transition"),
    ],
)  # fmt: skip
def test_training_that_cannot_be_right_is_refused(stack: str, options: Any, loader: Any, message: str) -> None:
    def train() -> None:
        mitigated = nb.lightning.Mitigated(UserModule(nn.Linear(2, 2)), stack, PAIRS, batch_size=4, **options)
        fit(trainer(2), mitigated, *([loader] if loader else []))

    with pytest.raises(UserError, match=message):
        train()
