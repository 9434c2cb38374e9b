"""Budgets, which must be equal for a fair comparison, and settings of where and how to run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from noisybench.config.budget_checks import find_conflicts
from noisybench.config.validation import strict_config


class Budget(pydantic.BaseModel):
    """Training settings that must be equal for a fair comparison.

    Example:
        >>> Budget(epochs=100, lr_schedule="multistep", lr_milestones=(50, 75)).lr_gamma
        0.1
    """

    model_config = strict_config()

    network: str = "small_cnn"
    """Name of a network; a member of a family is named after a colon, such as `torchvision:resnet50`."""
    epochs: int = pydantic.Field(30, ge=1, le=10**6)
    """Number of training epochs."""
    batch_size: int = pydantic.Field(128, ge=2, le=2**31)
    """Number of examples in a batch, over all devices."""
    batching: Literal["bucketed", "packed"] | None = None
    """Batches of texts: `bucketed` has texts of similar length in a batch, `packed` several texts in a row of the network;
    by default, random texts are padded to the longest of their batch."""
    gradient_accumulation: int | None = pydantic.Field(None, ge=1, le=2**31)
    """Number of parts of a batch that are trained on one after the other, in less memory, before one optimizer step; 1 by
    default."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimizer."""
    learning_rate: float = pydantic.Field(0.1, ge=1e-12)
    """Initial learning rate, after the warm-up."""
    momentum: float = pydantic.Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    nesterov: bool = False
    """Use Nesterov momentum."""
    adam_beta1: float | None = pydantic.Field(None, ge=0, lt=1)
    """Momentum of Adam and AdamW (beta1); 0.9 by default."""
    adam_beta1_in_decay: float | None = pydantic.Field(None, ge=0, lt=1)
    """Momentum of Adam and AdamW from `lr_constant_epochs` on; by default it stays."""
    weight_decay: float = pydantic.Field(5e-4, ge=0)
    """Weight decay."""
    gradient_clipping: float | None = pydantic.Field(None, ge=1e-6)
    """Largest L2 norm of the gradient of each network; by default gradients are not clipped."""
    lr_schedule: Literal[
        "constant",
        "cosine",
        "cosine_warm_restarts",
        "constant_then_cosine",
        "constant_then_linear",
        "multistep",
        "polynomial",
    ] = "cosine"
    """Learning-rate schedule. `polynomial` decays as (1 - epoch / epochs)**0.9, as is usual for segmentation."""
    lr_milestones: tuple[Annotated[int, pydantic.Field(ge=1)], ...] = pydantic.Field((), strict=False)
    """Epochs at which `multistep` multiplies the learning rate by `lr_gamma`."""
    lr_gamma: float = pydantic.Field(0.1, gt=0, le=1)
    """Factor of the learning rate at each milestone."""
    lr_restart_period: int | None = pydantic.Field(None, ge=1, le=10**6)
    """Epochs of the first cycle of `cosine_warm_restarts`."""
    lr_restart_factor: int | None = pydantic.Field(None, ge=1, le=10**6)
    """Factor by which each cycle of `cosine_warm_restarts` is longer than the one before; 1 by default."""
    lr_constant_epochs: int | None = pydantic.Field(None, ge=1, le=10**6)
    """Epochs before the decay of `constant_then_cosine` and `constant_then_linear`, with the warm-up."""
    lr_min: float | None = pydantic.Field(None, ge=0)
    """Learning rate at the end of a decay by `cosine...` or `constant_then_...`; 0 by default."""
    lr_interval: Literal["step", "epoch"] | None = None
    """Change the learning rate with every step, which is the default, or once per epoch."""
    warmup_epochs: int = pydantic.Field(0, ge=0, le=10**6)
    """Epochs of linear increase of the learning rate from zero."""
    augmentation: Literal["none", "crop", "crop_flip", "affine", "scale_crop"] = "none"
    """Augmentation of training images; `affine` and `scale_crop` are for images with masks."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Floating-point type of the forward pass."""
    channels_last: bool = True
    """Store the weights and outputs of convolutions with channels last, which is faster on all devices measured."""
    compile: bool = False
    """Compile the network with `torch.compile`."""
    train_eval_size: int | None = pydantic.Field(None, ge=1)
    """Number of training examples on which the training scores of all epochs but the last are measured: a stratified sample
    of a larger training set; by default all. The selection rule `label_wave` needs all, and is empty otherwise."""
    devices: int = pydantic.Field(1, ge=1, le=4096)
    """Number of GPUs (or of CPU processes) that share every batch."""
    strategy: Literal["ddp"] = "ddp"
    """Parallelism of several devices: `ddp` is data parallel, each with the whole network."""

    @pydantic.model_validator(mode="after")
    def _check_consistency(self) -> Budget:
        problems = find_conflicts(self)
        if problems:
            raise ValueError("; and ".join(problems))
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings as JSON-like data, without those that are None: a new optional one changes no identity."""
        return self.model_dump(mode="json", exclude_none=True)


class Execution(pydantic.BaseModel):
    """Settings of where and how to run; not part of a run's identity."""

    model_config = strict_config()

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on."""
    num_threads: Literal["auto"] | Annotated[int, pydantic.Field(ge=1, le=4096)] = "auto"
    """Number of CPU threads of one run; auto divides the cores among the runs of a command. With another number, sums may
    differ in their last bits."""
    cuda_graphs: bool = True
    """Replay the repeated calls of networks as CUDA graphs on a GPU, in less time. The numbers are the same, except for a
    network that changes its own attributes in every call."""
    gpu_fraction: float = pydantic.Field(1.0, gt=0, le=1)
    """Fraction of a GPU that one run needs; 0.25 trains four small runs on it in parallel."""
    num_workers: int = pydantic.Field(0, ge=0, le=4096)
    """Number of processes that augment images with masks; 0 augments in the training process."""
    system_metrics: bool = True
    """Sample CPU, memory and GPU every ten seconds."""
    save_model: bool | None = None
    """Save the trained model with the run; by default if its weights take at most 2 MiB."""
    save_corrected_masks: bool = False
    """Save corrected masks as PNG files with the names of their images, which noise=from_folder can read."""
