"""The judge of tasks that write traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.data.dataset import Split
from noisybench.data.targets import (
    CLEAN,
    IN_DISTRIBUTION,
    TOKEN_CORRECT,
    TOKEN_CORRUPTED,
    TOKEN_PROPAGATED,
    TOKEN_STATUS,
    TOKEN_UNKNOWN,
    UNKNOWN_STATUS,
)
from noisybench.data.traces.formats import TraceCheck
from noisybench.evaluation import metrics
from noisybench.plots.traces import render_trace_page
from noisybench.records.evidence import Samples
from noisybench.records.schema import Detection, RunRecord
from noisybench.training.evaluator import Evaluator
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun
from noisybench.training.roles import Decoder

LEAST = 1e-6
"""Probability below which losses are not told apart."""


class TraceEvaluator(Evaluator):
    """Scores traces: answers, steps, length, losses on right and wrong characters, detection of characters, steps, traces."""

    metric = "exact_match"

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        assert self.dataset.trace_format is not None
        self.form, train = self.dataset.trace_format, self.dataset.train
        self._final: dict[str, Any] = {}
        self._labelled = self.label_status != UNKNOWN_STATUS
        self._contaminated = (train.targets != self.labels.train).any(1)
        self._events = self.labels.error_spans.get("train")
        responses = self.form.decode(self.labels.train)
        judged = [self.form.check(*pair) for pair in zip(self._prompts(train), responses, strict=True)]
        self._wrong_steps = np.array([1 - each.num_correct_steps / len(each.steps) for each in judged])
        spans = [(row, step.start, step.stop) for row, each in enumerate(judged) for step in each.steps]
        self._spans = np.array([each for each in spans if each[2] > each[1]], dtype=np.int64).reshape(-1, 3)
        self._step_states = self._of_steps()
        self._answers = {
            name: [self.form.extract_answer(text) or "" for text in self.form.decode(split.targets)]
            for name, split in {"test": self.dataset.test, **self.dataset.shifted_tests}.items()
        }

    def _prompts(self, split: Split) -> list[str]:
        return self.form.decode(np.asarray(split.inputs[:][:, 0, 0]))

    def _of_steps(self) -> NDArray[np.int8]:
        """State of every step of the observed training traces: wrong where it has a wrong character."""
        rows, starts, stops = self._spans.T
        events = self._events
        if events is None:
            # Without a noise model's word a step is wrong where its characters are.
            events = np.select(
                [self.label_status == IN_DISTRIBUTION, self.label_status == CLEAN],
                [TOKEN_CORRUPTED, TOKEN_CORRECT],
                TOKEN_UNKNOWN,
            )
        wrong, untold = (
            np.cumsum(np.pad(events == each, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
            for each in (TOKEN_CORRUPTED, TOKEN_UNKNOWN)
        )
        found = np.where(wrong[rows, stops] > wrong[rows, starts], np.int8(IN_DISTRIBUTION), np.int8(CLEAN))
        found[untold[rows, stops] > untold[rows, starts]] = UNKNOWN_STATUS
        return found

    def move_to(self, device: torch.device) -> None:
        """Prompts stay on the host; they are small."""
        self.test, self.validation = (
            torch.from_numpy(np.asarray(each.inputs[:])) for each in (self.dataset.test, self.dataset.validation)
        )

    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Answers on the test and validation split, what became of wrong characters, and detection."""
        dataset, observed, clean = self.dataset, self.labels.train, self.dataset.train.targets
        written = self._written(task, dataset.test)
        judged, right = self._judged("test", dataset.test, written)
        predicted = task.training_predictions().cpu().numpy()
        label_quality = self.prepared.stack.label_quality(task, task.training_set).float().cpu().numpy()
        wrong = self.label_status == IN_DISTRIBUTION
        losses = -np.log(np.clip(label_quality, LEAST, 1))
        detectors = self._trace_detectors(task, losses)
        facts = self._told(judged, written) | self._losses(losses)
        if task.current_epoch + 1 == task.budget.epochs:
            facts["exact_match_sampled"] = float(np.mean(self._judged("test", dataset.test, self._sampled(task))[1]))
        for name, split in dataset.shifted_tests.items():
            facts[f"shift_accuracy.{name}"] = float(np.mean(self._judged(name, split, self._written(task, split))[1]))
        if dataset.shifted_tests:
            facts["mean_shift_accuracy"] = float(
                np.mean([facts[f"shift_accuracy.{name}"] for name in dataset.shifted_tests])
            )
        weights = task.sampler.weights
        if weights is not None:
            kept = (weights > 0).cpu().numpy()
            facts |= {"kept_fraction": float(kept.mean()), "kept_noise_rate": float(self._contaminated[kept].mean())}
        return {
            "train_score": float(((predicted == observed) | ~dataset.target_kind.is_labeled(observed)).all(1).mean()),
            **self._validated(task),
            "noisy_val_loss": self._loss(task, self.validation, self.labels.validation)
            if len(self.validation)
            else None,
            "test_score": float(np.mean(right)),
            "test_loss": self._loss(task, self.test, dataset.test.targets),
            "memorized_fraction": metrics.fraction((predicted == observed)[wrong]),
            "recovered_fraction": metrics.fraction((predicted == clean)[wrong]),
            "noise_auroc": self._detection(label_quality).auroc,
            "detectors": detectors,
            "diagnostics": facts | self._by_execution(losses),
        }

    def finalize(self, task: Learner) -> None:
        """Store the final responses, greedy and sampled, and the label quality of every character."""
        corrected = self.prepared.stack.corrected_labels(task, task.training_set)
        self._final = {
            "label_quality": self.prepared.stack.label_quality(task, task.training_set).half().cpu().numpy(),
            "prediction": task.training_predictions().cpu().numpy(),
            "corrected_labels": (task.training_set.targets if corrected is None else corrected)
            .to(torch.uint8)
            .cpu()
            .numpy(),
            "written": self._written(task, self.dataset.test),
            "sampled": self._sampled(task),
        }

    def summary(self) -> dict[str, Any]:
        """Detection of wrong characters; a written trace has no single confidence to calibrate."""
        detection = self._detection(self._final["label_quality"].astype(np.float32))
        return {"calibration_error": None, "correction_accuracy": None, "detection": detection}

    def samples(self) -> Samples:
        """One record per character."""
        train, final = self.dataset.train, self._final
        return Samples(
            train.index,
            self.labels.train,
            train.targets,
            final["label_quality"],
            final["prediction"],
            final["corrected_labels"],
        )

    def save(self, record: RunRecord, folder: Path) -> None:
        """Characters and label quality, what was written for each test problem, and a page of training traces."""
        import pandas

        samples: dict[str, Any] = {name: values for name, values in vars(self.samples()).items() if name != "detectors"}
        if self._events is not None:
            samples["events"] = self._events
        np.savez_compressed(folder / "samples.npz", **samples)
        judged, right = self._judged("test", self.dataset.test, self._final["written"])
        columns = {
            "prompt": self._prompts(self.dataset.test),
            "target": self.form.decode(self.dataset.test.targets),
            "written": self._final["written"],
            "right": right,
            "first_error_step": [each.first_error for each in judged],
            "sampled": self._final["sampled"],
        }
        pandas.DataFrame(columns).to_parquet(folder / "predictions.parquet", index=False)
        page = render_trace_page(self.dataset, self.labels, record.title)
        (folder / "traces.html").write_text(page, encoding="utf-8")

    def _sampled(self, task: Any) -> list[str]:
        """Responses for test prompts, drawn at temperature 1."""
        test = self.dataset.test
        responses: list[str] = task.write(test.inputs[:], test.targets.shape[1], temperature=1.0)
        return responses

    def _written(self, task: Any, split: Split) -> list[str]:
        """Responses for a split's prompts, as the stack decodes."""
        inputs, length = split.inputs[:], split.targets.shape[1]
        for decoder in self.prepared.stack.with_role(Decoder):
            return decoder.decode(task, inputs, length)
        responses: list[str] = task.write(inputs, length)
        return responses

    def _judged(self, name: str, split: Split, written: list[str]) -> tuple[list[TraceCheck], list[bool]]:
        """What executing written responses shows, and whether their answers are right."""
        judged = [self.form.check(*pair) for pair in zip(self._prompts(split), written, strict=True)]
        pairs = zip(judged, self._answers[name], strict=True)
        return judged, [self.form.answers_match(each.answer, answer) for each, answer in pairs]

    def _told(self, judged: list[TraceCheck], written: list[str]) -> dict[str, float]:
        steps = sum(len(each.steps) for each in judged)
        wrong = [each.first_error for each in judged if each.first_error is not None]
        found = {
            "unparsable": float(np.mean([each.answer is None for each in judged])),
            "step_accuracy": sum(each.num_correct_steps for each in judged) / max(steps, 1),
            "valid_traces": float(np.mean([each.is_valid for each in judged])),
            "length": float(np.mean([len(each) for each in written])),
        }
        return found | ({"first_error_step": float(np.mean(wrong))} if wrong else {})

    def _losses(self, losses: NDArray[np.float32]) -> dict[str, float]:
        """Mean nats of characters that fit, are wrong, and follow from wrong ones."""
        shown, found = self.labels.target_kind.is_labeled(self.labels.train), {}
        if self._events is not None:
            kinds = {name: self._events == number for number, name in enumerate(TOKEN_STATUS)}
        else:
            kinds = {
                TOKEN_STATUS[TOKEN_CORRECT]: self.label_status == CLEAN,
                TOKEN_STATUS[TOKEN_CORRUPTED]: self.label_status == IN_DISTRIBUTION,
            }
        names = {
            TOKEN_STATUS[TOKEN_CORRECT]: "loss_correct",
            TOKEN_STATUS[TOKEN_CORRUPTED]: "loss_corrupted",
            TOKEN_STATUS[TOKEN_PROPAGATED]: "loss_propagated",
        }
        for kind, chosen in kinds.items():
            if (chosen & shown).any():
                found[names[kind]] = float(losses[chosen & shown].mean())
        return found

    def _validated(self, task: Learner) -> dict[str, float | None]:
        """Share of validation problems whose written answer is the observed one, and the clean one."""
        observed, validation = self.labels.validation, self.dataset.validation
        if not len(observed):
            return {"noisy_val_score": None, "clean_val_score": None}
        written = [self.form.extract_answer(each) for each in self._written(task, validation)]
        found: dict[str, float | None] = {}
        for name, targets in (("noisy_val_score", observed), ("clean_val_score", validation.targets)):
            pairs = zip(written, self.form.decode(targets), strict=True)
            found[name] = float(
                np.mean([self.form.answers_match(own, self.form.extract_answer(other) or "") for own, other in pairs])
            )
        return found

    def _loss(self, task: Any, prompts: Any, responses: NDArray[np.uint8]) -> float:
        """Nats per token of some responses."""
        total, count = 0.0, 0
        for said in task.token_probabilities(prompts, torch.from_numpy(responses)):
            chosen = said.probabilities[said.labels >= 0]
            total, count = total - float(chosen.clamp_min(1e-12).log().sum()), count + len(chosen)
        return total / max(count, 1)

    def _detection(self, label_quality: NDArray[np.float32]) -> Detection:
        """Of wrong characters by their label quality."""
        return metrics.score_detection(label_quality[self._labelled], self.label_status[self._labelled])

    def _mean_losses(self, losses: NDArray[np.float32]) -> NDArray[np.float64]:
        shown = self.labels.target_kind.is_labeled(self.labels.train)
        means: NDArray[np.float64] = np.where(shown, losses, 0).sum(1, dtype=np.float64) / shown.sum(1).clip(1)
        return means

    def _trace_detectors(self, task: Learner, losses: NDArray[np.float32]) -> dict[str, dict[str, float | None]]:
        """Of noised traces: by mean loss, the worst step's, re-execution, the stack; of wrong steps by their mean loss."""
        states = np.where(self._contaminated, np.int8(IN_DISTRIBUTION), np.int8(CLEAN))
        rows, starts, stops = self._spans.T
        sums = np.cumsum(np.pad(losses, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        steps = (sums[rows, stops] - sums[rows, starts]) / (stops - starts)
        worst = np.zeros(len(losses))
        np.maximum.at(worst, rows, steps)
        mean = self._mean_losses(losses)
        found = {
            "trace_loss": metrics.score_detector(mean, metrics.flag_labels(np.exp(-mean)), states),
            "trace_worst_step": metrics.score_detector(worst, metrics.flag_labels(np.exp(-worst)), states),
            "trace_execution": metrics.score_detector(self._wrong_steps, self._wrong_steps > 0, states),
        }
        told = self._step_states != UNKNOWN_STATUS
        if (self._step_states == IN_DISTRIBUTION).any():
            found["step_loss"] = metrics.score_detector(
                steps[told], metrics.flag_labels(np.exp(-steps[told])), self._step_states[told]
            )
        for name, each in self.detectors(task).items():
            found[name] = metrics.score_detector(each.score, each.flagged, states)
        return found

    def _by_execution(self, losses: NDArray[np.float32]) -> dict[str, float]:
        """How many noised traces re-execution sees, and how well loss finds those that it sees, and those that it does not."""
        if not self._contaminated.any() or self._contaminated.all():
            return {}
        mean, found = self._mean_losses(losses), {}
        seen = self._contaminated & (self._wrong_steps > 0)
        found["detectable_by_execution"] = float(seen.sum() / self._contaminated.sum())
        for name, chosen in (("detectable", seen), ("undetectable", self._contaminated & ~seen)):
            counted = chosen | ~self._contaminated
            auroc = metrics.noise_auroc(-mean[counted], chosen[counted])
            if auroc is not None:
                found[f"trace_loss_auroc_{name}"] = auroc
        return found
