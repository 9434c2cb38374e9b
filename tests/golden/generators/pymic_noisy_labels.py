"""Parts of PyMIC's methods for noisy masks: smoothed labels, a step of the tri-network, and consistency with a mean teacher."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

REFERENCE = "https://github.com/HiLab-git/PyMIC"
COMMIT = "8bcebd62ad4360d7dc5143907f56dd793dd5e304"
COMPUTED = (
    "loss/seg/slsr.py: SLSRLoss; net_run/noisy_label/nll_trinet.py: one step of NLLTriNet.training; "
    "net_run/semi_sup/ssl_mt.py: one step of SSLMeanTeacher.training, whose supervised loss is zero, and its decays"
)
RATIOS = {"90": 0.9, "60": 0.6}


def generate(folder: Path | None) -> dict[str, Any]:
    """Return inputs, losses and gradients of the three methods."""
    assert folder is not None
    # Empty packages in place of those whose imports need the rest of the library.
    for name in ("pymic", "pymic.loss", "pymic.loss.seg", "pymic.util", "pymic.net", "pymic.net_run",
                 "pymic.net_run.noisy_label", "pymic.net_run.semi_sup"):  # fmt: skip
        package = types.ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    stubs: dict[str, dict[str, Any]] = {
        "pymic.net_run.agent_seg": {"SegmentationAgent": object},
        "pymic.net.net_dict_seg": {"SegNetDict": {}},
        "pymic.util.parse_config": {},
        "pymic.net_run.semi_sup.ssl_abstract": {"SSLSegAgent": object},
        "pymic.net_run.semi_sup": {"SSLSegAgent": object},
        "pymic.io.nifty_dataset": {"NiftyDataset": object},
        "pymic.transform.trans_dict": {"TransformDict": {}},
    }
    for name, attributes in stubs.items():
        module = sys.modules.get(name) or types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module
    return {**_smoothing(), **_tri_network(), **_mean_teacher()}


def _one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2).float()


def _smoothing() -> dict[str, Any]:
    loss = importlib.import_module("pymic.loss.seg.slsr").SLSRLoss()
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 2, (2, 2, 6, 6)).astype(np.float32)).requires_grad_()
    labels, flagged = rng.integers(0, 2, (2, 6, 6)), rng.integers(0, 2, (2, 6, 6))
    weight = torch.from_numpy(flagged)[:, None].float()
    value = loss({"prediction": logits, "ground_truth": _one_hot(torch.from_numpy(labels), 2), "pixel_weight": weight})
    value.backward()
    return {
        "smoothing_logits": logits.detach().numpy(), "smoothing_labels": labels.astype(np.uint8),
        "smoothing_flagged": flagged.astype(bool), "smoothing_loss": value.detach().numpy(),
        "smoothing_gradient": np.array(logits.grad),
    }  # fmt: skip


class _Agent(types.SimpleNamespace):
    """Attributes that a training step of an agent reads, with fixed scores in place of networks."""

    def convert_tensor_type(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor."""
        return tensor

    def get_loss_value(self, *_: Any) -> torch.Tensor:
        """Return no supervised loss."""
        return torch.zeros(())


class _Net:
    """A network with given outputs, which are its parameters."""

    def __init__(self, outputs: Any, weights: list[Any]) -> None:
        self.outputs, self.weights = outputs, weights

    def __call__(self, _: torch.Tensor) -> Any:
        return self.outputs

    def train(self) -> None:
        """Do nothing."""

    def to(self, _: Any) -> None:
        """Do nothing."""

    def parameters(self) -> list[Any]:
        """Return the weights."""
        return self.weights


def _agent(section: str, settings: dict[str, Any], **values: Any) -> _Agent:
    config = {
        "network": {"class_num": 3}, "training": {"iter_valid": 1, "iter_max": 100}, section: settings,
    }  # fmt: skip
    optimizer = types.SimpleNamespace(zero_grad=lambda: None, step=lambda: None)
    return _Agent(config=config, device="cpu", tensor_type="float", optimizer=optimizer, **values)


def _tri_network() -> dict[str, Any]:
    cls = importlib.import_module("pymic.net_run.noisy_label.nll_trinet").NLLTriNet
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 1.5, (3, 2, 3, 6, 6)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 6, 6))
    arrays: dict[str, Any] = {"tri_logits": scores, "tri_labels": labels.astype(np.uint8)}
    for name, ratio in RATIOS.items():
        outputs = [torch.from_numpy(each.copy()).requires_grad_() for each in scores]
        data = {"image": torch.zeros(1), "label_prob": _one_hot(torch.from_numpy(labels), 3)}
        settings = {"trinet_select_ratio": ratio, "rampup_start": 0, "rampup_end": 1}
        agent = _agent("noisy_label_learning", settings, glob_it=1, net=_Net(outputs, []), trainIter=iter([data]))
        # `get_loss_and_confident_mask` is the class's own.
        agent.get_loss_and_confident_mask = lambda *given: cls.get_loss_and_confident_mask(None, *given)
        found = cls.training(agent)
        arrays[f"tri_losses_{name}"] = np.array([found["loss1"], found["loss2"]])
        arrays[f"tri_gradient_{name}"] = np.stack([np.array(each.grad) for each in outputs])
        masks = [agent.get_loss_and_confident_mask(each.detach(), data["label_prob"], ratio)[1] for each in outputs]
        arrays[f"tri_kept_{name}"] = torch.stack(masks).numpy()
    return arrays


def _mean_teacher() -> dict[str, Any]:
    cls = importlib.import_module("pymic.net_run.semi_sup.ssl_mt").SSLMeanTeacher
    rng = np.random.default_rng(2)
    student = rng.normal(0, 1.5, (2, 3, 6, 6)).astype(np.float32)
    teacher = rng.normal(0, 1.5, (1, 3, 6, 6)).astype(np.float32)
    arrays: dict[str, Any] = {"teacher_student": student[1:], "teacher_teacher": teacher}
    weights, decays = [], []
    # The code multiplies the average by its decay, but discards the sum with the student's weight.
    for step in (0, 1, 2, 50, 100):
        outputs = torch.from_numpy(student.copy()).requires_grad_()
        labeled = {"image": torch.zeros(1, 3, 6, 6), "label_prob": torch.zeros(1, 3, 6, 6)}
        weight, average = torch.zeros(1), torch.ones(1)
        agent = _agent(
            "semi_supervised_learning", {"regularize_w": 0.1, "rampup_start": 0, "rampup_end": 100, "ema_decay": 0.99},
            glob_it=step, net=_Net(outputs, [weight]), net_ema=_Net(torch.from_numpy(teacher), [average]),
            trainIter=iter([labeled]), trainIter_unlab=iter([{"image": torch.zeros(1, 3, 6, 6)}]),
        )  # fmt: skip
        found = cls.training(agent)
        weights.append(found["regular_w"])
        decays.append(average.item())
        arrays["teacher_consistency"] = np.array(found["loss_reg"])
    arrays["teacher_gradient"] = np.array(outputs.grad)[1:] / weights[-1]
    return {**arrays, "teacher_weights": np.array(weights), "teacher_decays": np.array(decays)}
