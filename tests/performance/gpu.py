"""Speed on a GPU: ratios to loops written by hand, measured in turn in one process, and absolute numbers.

    python -m tests.performance.gpu [steps] [compiled] [methods] [evaluation] [scoring] [processes]
        [--cases NAME ...] [--output FILE] [--trial]

Without names, all groups are measured, which takes about four minutes on an H100. `--trial` runs the same code in tiny sizes on a
CPU, so that nothing but the numbers is left for a GPU. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from noisybench.config.budget import Budget
from noisybench.config.registry import get_entry
from noisybench.networks import build_network
from noisybench.tasks.classification import Classification
from noisybench.training.augmentation import crop_and_flip
from noisybench.training.loop import attach, train_epoch
from noisybench.training.stack import Stack
from noisybench.training.training_set import TrainingSet
from noisybench.utils.seeds import use_deterministic_kernels

METHODS = ("elr", "mixup", "co_teaching", "dividemix", "pls", "lsa")
SHAPES = {"small_cnn": (64, 8, 1), "resnet8": (128, 32, 3)}
"""Batch size, height and channels of the networks that several processes train."""


@dataclass(frozen=True)
class Sizes:
    """What is measured; by default on a GPU.

    Attributes:
        device: where it is measured.
        rounds: measurements of each contestant, in turn.
        networks: networks by their short names.
        steps: network, batch size and steps of an epoch.
        epoch: batch size and steps of an epoch of the methods.
        evaluated: images of an evaluation.
        scored: batch size and steps of the scoring networks.
        processes: greatest number of processes, and the seconds of the measurement.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cuda"))
    rounds: int = 5
    networks: dict[str, str] = field(
        default_factory=lambda: {
            "resnet8": "resnet8_cifar_stem", "resnet18": "resnet18_cifar_stem", "resnet34": "resnet34_cifar_stem",
            "small_cnn": "small_cnn",
        }
    )  # fmt: skip
    steps: tuple[tuple[str, int, int], ...] = (
        ("resnet18", 256, 100), ("resnet34", 256, 60), ("resnet8", 256, 100), ("resnet34", 128, 100), ("resnet8", 128, 100),
        ("resnet18", 512, 60),
    )  # fmt: skip
    epoch: tuple[int, int] = (256, 40)
    evaluated: int = 50_000
    scored: tuple[int, int] = (128, 30)
    processes: tuple[int, float] = (8, 2.0)


TRIAL = Sizes(
    device=torch.device("cpu"), rounds=1, networks=dict.fromkeys(("resnet8", "resnet18", "resnet34", "small_cnn"), "small_cnn"),
    steps=(("resnet18", 256, 1),), epoch=(32, 2), evaluated=32, scored=(8, 2), processes=(2, 0.1),
)  # fmt: skip
"""Sizes in which nothing is worth measuring, to try the code."""

Step = Callable[[int], None]
"""Trains a number of steps; called with a multiple of its period."""


def images(count: int, shape: tuple[int, ...] = (3, 32, 32)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8),
        torch.randint(0, 10, (count,), generator=generator),
    )


def budget_of(network: str, batch: int, **changes: Any) -> Budget:
    settings = {"augmentation": "crop_flip", "precision": "bfloat16", "channels_last": True, "learning_rate": 0.02}
    return Budget(network=network, epochs=1000, batch_size=batch, **(settings | changes))


def own_steps(
    sizes: Sizes, budget: Budget, steps: int, *names: str, shape: tuple[int, ...] = (3, 32, 32), epoch: int = 0
) -> Step:
    """Training through noisybench: the task, a stack, and its loop, in epochs of some steps."""
    parameters = {"co_teaching": {"forget_rate": 0.2}, "dividemix": {"warmup_epochs": 1}, "forward_correction": {}}
    warmup = {"lsa": {"warmup_epochs": 1, "warmup_steps": 1}, "pls": {"warmup_epochs": 1, "warmup_steps": 1}}
    classes: list[Any] = [get_entry("mitigations", name).load_class() for name in names or ("cross_entropy",)]
    mitigations = [kind(**(parameters | warmup).get(name, {})) for kind, name in zip(classes, names, strict=False)]
    inputs, targets = images(steps * budget.batch_size, shape)
    task = Classification(budget, 0, TrainingSet(inputs, targets, 10), Stack(mitigations or [classes[0]()]))
    task.captured.enabled = True
    attach(task, Fabric(accelerator=sizes.device.type, devices=1))
    optimizer = task.configure_optimizers()
    task.on_fit_start()
    epochs = iter(range(epoch, 10**6))

    def train(count: int) -> None:
        for _ in range(max(1, count // steps)):
            train_epoch(task, optimizer, next(epochs))

    train.task = task  # type: ignore[attr-defined]
    return train


class HandWritten:
    """A loop of some lines with the same network, optimizer, batch and augmentation."""

    def __init__(self, sizes: Sizes, budget: Budget, steps: int, *, compiled: bool = False) -> None:
        self.device = sizes.device
        inputs, targets = images(steps * budget.batch_size)
        self.inputs, self.targets = inputs.to(self.device), targets.to(self.device)
        torch.manual_seed(0)
        self.network = build_network(budget.network, 10, 3).to(self.device, memory_format=torch.channels_last).train()
        self.forward: Any = torch.compile(self.network, dynamic=False) if compiled else self.network
        self.generator, self.size, self.steps = torch.Generator(self.device).manual_seed(0), budget.batch_size, steps
        self.order = torch.randperm(len(targets)).to(self.device)
        self.total = torch.zeros((), device=self.device)
        self.rate = torch.tensor(budget.learning_rate, device=self.device)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=self.rate, momentum=budget.momentum, weight_decay=budget.weight_decay,
            fused=sizes.device.type == "cuda",
        )  # fmt: skip

    def step(self, index: Tensor, cache: bool = True) -> None:
        batch = crop_and_flip(self.inputs[index], self.generator, flip=True).float().sub_(125.0).mul_(1 / 63.0)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=cache):
            loss = functional.cross_entropy(self.forward(batch), self.targets[index])
        self.total += loss.detach()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def batch(self, number: int) -> Tensor:
        start = number % self.steps * self.size
        return self.order[start : start + self.size]

    def eager(self) -> Step:
        def train(count: int) -> None:
            for number in range(count):
                self.step(self.batch(number))

        return train

    def captured(self) -> Step:
        """The whole step as one CUDA graph."""
        index, stream = self.batch(0).clone(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step(index, cache=False)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self.step(index, cache=False)

        def train(count: int) -> None:
            for number in range(count):
                index.copy_(self.batch(number))
                graph.replay()

        return train


def wait() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(train: Step, steps: int) -> float:
    wait()
    start = time.perf_counter()
    train(steps)
    wait()
    return (time.perf_counter() - start) / steps * 1e3


def in_turn(sizes: Sizes, contestants: dict[str, Step], steps: int) -> dict[str, float]:
    """Median milliseconds per step of each contestant, measured in turn."""
    for train in contestants.values():
        train(steps)
        train(steps)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(sizes.rounds):
        for name, train in contestants.items():
            times[name].append(milliseconds(train, steps))
    return {name: statistics.median(values) for name, values in times.items()}


def chosen(names: Collection[str], cases: Collection[str]) -> list[str]:
    """Return the names of a group that are among the cases; all of them if there are no cases."""
    return [name for name in names if not cases or name in cases]


def measure_compiled_steps(sizes: Sizes, cases: Collection[str]) -> list[dict[str, Any]]:
    """The same with compiled networks, which takes about half a minute for each network."""
    return measure_steps(sizes, cases, compiled=True)


def measure_steps(sizes: Sizes, cases: Collection[str], *, compiled: bool = False) -> list[dict[str, Any]]:
    """A training step through noisybench against the best loop written by hand."""
    rows = []
    # Only a GPU captures steps.
    captures = sizes.device.type == "cuda"
    for name, batch, steps in sizes.steps:
        if not chosen([f"{name}/{batch}"], cases):
            continue
        budget = budget_of(sizes.networks[name], batch)
        own, eager = own_steps(sizes, budget, steps), HandWritten(sizes, budget, steps).eager()
        contestants = {"noisybench": own, "eager": eager}
        if captures:
            contestants["captured"] = HandWritten(sizes, budget, steps).captured()
        if compiled:
            compiling = budget.model_copy(update={"compile": True})
            contestants["noisybench, compiled"] = own_steps(sizes, compiling, steps)
            by_hand = HandWritten(sizes, budget, steps, compiled=True)
            contestants["compiled by hand"] = by_hand.captured() if captures else by_hand.eager()
        times = in_turn(sizes, contestants, steps)
        ordinary = own_steps(sizes, budget, steps)
        ordinary.task.captured.enabled = False  # type: ignore[attr-defined]
        times |= in_turn(sizes, {"noisybench, without graphs": ordinary}, steps)
        rows.append(
            {
                "measure": f"{name}, batch {batch}",
                "milliseconds": times,
                "images per second": batch / times["noisybench"] * 1e3,
                "ratio to the best loop by hand": times["noisybench"]
                / min(times[each] for each in ("eager", "captured") if each in times),
            }
        )
        if compiled:
            rows[-1]["ratio, both compiled"] = times["noisybench, compiled"] / times["compiled by hand"]
        report(rows[-1])
    return rows


def operations(train: Step, steps: int) -> float:
    """Floating-point operations of a step, counted while nothing is replayed."""
    task = train.task  # type: ignore[attr-defined]
    task.captured.enabled = False
    with FlopCounterMode(display=False) as counter:
        train(steps)
    task.captured.enabled = True
    return counter.get_total_flops() / steps


def measure_methods(sizes: Sizes, cases: Collection[str]) -> list[dict[str, Any]]:
    """Training steps of methods against those of cross-entropy, beside the ratio of their counted operations."""
    batch, steps = sizes.epoch
    budget = budget_of(sizes.networks["resnet18"], batch)
    reference = own_steps(sizes, budget, steps)
    flops = operations(reference, steps)
    rows = []
    for name in chosen(METHODS, cases):
        train = own_steps(sizes, budget, steps, name, epoch=2)
        task = train.task  # type: ignore[attr-defined]
        train(steps)
        counted = operations(train, steps) / flops
        ratios = []
        for _ in range(sizes.rounds):
            values = []
            for contestant in (train, reference):
                contestant(steps)
                owner = contestant.task  # type: ignore[attr-defined]
                values.append(owner.train_seconds)
                owner.train_seconds = 0.0
                contestant(steps)
                values[-1] = owner.train_seconds
                owner.train_seconds = 0.0
            ratios.append(values[0] / values[1])
        row = {"measure": f"{name} against cross-entropy", "ratio": statistics.median(ratios), "operations": counted}
        row["ratio to operations"] = row["ratio"] / counted
        row["graphs"] = task.captured.num_graphs
        rows.append(row)
        report(row)
        del train, task
        torch.cuda.empty_cache()
    return rows


def measure_evaluation(sizes: Sizes, cases: Collection[str]) -> list[dict[str, Any]]:
    """Images per second of an evaluation of 50,000 images, beside those of training."""
    rows = []
    inputs = images(sizes.evaluated)[0].to(sizes.device)
    for name in chosen(("resnet18", "resnet34"), cases):
        for compiled in (False, True):
            task = own_steps(sizes, budget_of(sizes.networks[name], sizes.epoch[0], compile=compiled), 2).task  # type: ignore[attr-defined]
            task.start_epoch()
            task.evaluate(inputs, 0)
            wait()
            start = time.perf_counter()
            for _ in range(3):
                task.evaluate(inputs, 0)
            wait()
            rows.append(
                {
                    "measure": f"evaluation of {name}" + (", compiled" if compiled else ""),
                    "images per second": 3 * len(inputs) / (time.perf_counter() - start),
                }
            )
            report(rows[-1])
    return rows


def stacked_steps(sizes: Sizes, budget: Budget, count: int) -> Step:
    """Several networks that are trained as one, with `torch.func`."""
    inputs, targets = (tensor.to(sizes.device) for tensor in images(budget.batch_size))
    batch = inputs.float().sub_(125.0).mul_(1 / 63.0).bfloat16()
    networks = [build_network(budget.network, 10, 3).to(sizes.device).train() for _ in range(count)]
    weights, buffers = torch.func.stack_module_state(networks)
    buffers = {name: each.bfloat16() if each.is_floating_point() else each for name, each in buffers.items()}
    skeleton = build_network(budget.network, 10, 3).to("meta").train()

    def loss_of(weights: Any, buffers: Any) -> Tensor:
        # By hand, because differentiation by `torch.func` does not know the types that autocast has converted.
        lower = {name: value.bfloat16() for name, value in weights.items()}
        scores = torch.func.functional_call(skeleton, (lower, buffers), (batch,))
        return functional.cross_entropy(scores.float(), targets)

    gradient = torch.func.vmap(torch.func.grad(loss_of), randomness="different")
    values, moments = list(weights.values()), [torch.zeros_like(value) for value in weights.values()]

    def train(steps: int) -> None:
        for _ in range(steps):
            gradients = gradient(weights, buffers)
            with torch.no_grad():
                torch._foreach_mul_(moments, budget.momentum)
                torch._foreach_add_(moments, [gradients[name] for name in weights])
                torch._foreach_add_(values, moments, alpha=-budget.learning_rate)

    return train


def measure_scoring(sizes: Sizes, cases: Collection[str]) -> list[dict[str, Any]]:
    """Ten scoring networks: stacked with `torch.func` against one after the other."""
    batch, steps = sizes.scored
    rows = []
    for name in chosen(("resnet8",), cases):
        budget = budget_of(sizes.networks[name], batch)
        contestants = {
            "one of ten in turn": own_steps(sizes, budget, steps),
            "ten stacked": stacked_steps(sizes, budget, 10),
        }
        times = in_turn(sizes, contestants, steps)
        rows.append(
            {
                "measure": f"ten scoring networks, {name}, batch {batch}",
                "milliseconds": times,
                "stacked against in turn": times["ten stacked"] / (10 * times["one of ten in turn"]),
            }
        )
        report(rows[-1])
    return rows


def worker(sizes: Sizes, name: str) -> None:
    """Train in this process when standard input says so, and print the steps per second."""
    (batch, height, channels), seconds = SHAPES[name], sizes.processes[-1]
    budget, steps = budget_of(sizes.networks[name], batch, channels_last=channels == 3), sizes.epoch[1]
    train = own_steps(sizes, budget, steps, shape=(channels, height, height))
    train(2 * steps)
    wait()
    print("ready", flush=True)
    sys.stdin.readline()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        train(steps)
        count += steps
    wait()
    print(count / (time.perf_counter() - begin))


def start_together(command: list[str], count: int) -> float:
    """Return the sum of the steps per second of several workers, which start when all of them are ready."""
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        if "ready\n" not in process.stdout:
            raise RuntimeError(f"a process of {count} ended with status {process.wait()} before it was ready")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0].splitlines()[-1]) for process in processes)


def measure_processes(sizes: Sizes, cases: Collection[str]) -> list[dict[str, Any]]:
    """Small networks: several processes on one GPU against one."""
    rows = []
    most = sizes.processes[0]
    for name in chosen(SHAPES, cases):
        command = [sys.executable, "-m", "tests.performance.gpu", "--worker", name]
        command += ["--trial"] if sizes is TRIAL else []
        rates = {count: start_together(command, count) for count in (1, most)}
        rows.append(
            {
                "measure": f"processes, {name}, batch {SHAPES[name][0]}",
                "steps per second": rates,
                f"{most} against one": rates[most] / rates[1],
            }
        )
        report(rows[-1])
    return rows


def report(row: dict[str, Any]) -> None:
    def shown(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shown(each) for name, each in value.items()}
        return float(f"{value:.4g}") if isinstance(value, float) else value

    print(" | ".join(f"{name}: {shown(value)}" for name, value in row.items()), flush=True)


GROUPS = {
    "steps": measure_steps,
    "compiled": measure_compiled_steps,
    "methods": measure_methods,
    "evaluation": measure_evaluation,
    "scoring": measure_scoring,
    "processes": measure_processes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the speed on a GPU.")
    parser.add_argument("groups", nargs="*", default=list(GROUPS))
    parser.add_argument("--cases", nargs="+", default=[], help="Cases of the groups, such as resnet18/256 or elr")
    parser.add_argument("--output", type=Path, help="JSON file for all numbers")
    parser.add_argument("--trial", action="store_true", help="Tiny sizes on a CPU, to try the code")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = TRIAL if arguments.trial else Sizes()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; choose from {', '.join(GROUPS)}")
    known = {*METHODS, *SHAPES, "resnet18", "resnet34", *(f"{name}/{batch}" for name, batch, _ in sizes.steps)}
    if unknown := set(arguments.cases) - known:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; choose from {', '.join(sorted(known))}")
    if sizes.device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU is available; these measurements need one (--trial tries them on a CPU)")
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "noisybench_inductor"))
    use_deterministic_kernels(sizes.device)
    if arguments.worker:
        worker(sizes, arguments.worker)
        return
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", "torch", torch.__version__)
    rows: list[dict[str, Any]] = []
    for name in arguments.groups:
        start = time.perf_counter()
        try:
            rows += GROUPS[name](sizes, arguments.cases)
        except Exception as error:
            rows.append({"measure": name, "failed": f"{type(error).__name__}: {error}"[:500]})
            report(rows[-1])
        print(f"-- {name}: {time.perf_counter() - start:.0f} s", flush=True)
        if arguments.output:
            arguments.output.write_text(json.dumps(rows, indent=1))
    # The numbers of the other groups are kept, but a failure must not pass for success.
    if any("failed" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
