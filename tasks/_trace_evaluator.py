"""The evaluator of tasks that write reasoning traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.data.dataset import Split
from noisybench.data.targets import CLEAN, IN_DISTRIBUTION, UNKNOWN_STATUS, Tokens
from noisybench.data.traces.formats import TraceCheck
from noisybench.evaluation import metrics
from noisybench.evaluation import traces as scores
from noisybench.evaluation.detectors import score_detection, score_detector
from noisybench.plots.traces import render_trace_page
from noisybench.records.evidence import Samples
from noisybench.records.schema import Detection, RunRecord
from noisybench.training.evaluator import Evaluator
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun

MIN_LABEL_QUALITY = 1e-6
"""Lower bound of the label quality in losses, which is stored in half precision."""


class TraceEvaluator(Evaluator):
    """Evaluator of traces: answers, steps, losses by token status, and detection of characters, steps and traces."""

    metric = "exact_match"

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        assert self.dataset.trace_format is not None
        self._format, train = self.dataset.trace_format, self.dataset.train
        self._final: dict[str, Any] = {}
        self._has_status = self.label_status != UNKNOWN_STATUS
        self._labeled = self.labels.target_kind.is_labeled(self.labels.train)
        self._corrupted = (train.targets != self.labels.train).any(1)
        self._error_spans = self.labels.error_spans.get("train")
        self._token_status = (
            scores.token_status_from_labels(self.label_status) if self._error_spans is None else self._error_spans
        )
        # Observed traces stay the same, so that one re-execution before training serves all epochs.
        checks = scores.check_responses(self._format, self._prompts(train), self._format.decode(self.labels.train))
        self._incorrect_step_fraction = np.array([1 - check.num_correct_steps / len(check.steps) for check in checks])
        spans = [(row, step.start, step.stop) for row, check in enumerate(checks) for step in check.steps]
        # Empty steps have no mean loss.
        self._spans = np.array([span for span in spans if span[2] > span[1]], dtype=np.int64).reshape(-1, 3)
        self._step_status = scores.step_status(self._token_status, self._spans)
        self._answers = {
            name: self._reference_answers(split)
            for name, split in {"test": self.dataset.test, **self.dataset.shifted_tests}.items()
        }

    def _prompts(self, split: Split) -> list[str]:
        return self._format.decode(np.asarray(split.inputs[:][:, 0, 0]))

    def _reference_answers(self, split: Split) -> list[str | None]:
        pairs = zip(self._prompts(split), self._format.decode(split.targets), strict=True)
        return [self._format.reference_answer(prompt, response) for prompt, response in pairs]

    def _extract_answers(self, responses: list[str]) -> list[str | None]:
        return [self._format.extract_answer(response) for response in responses]

    def move_to(self, device: torch.device) -> None:
        """Keep the prompts on the host; they are small."""
        self.test, self.validation = (
            torch.from_numpy(np.asarray(split.inputs[:])) for split in (self.dataset.test, self.dataset.validation)
        )

    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Return scores of answers and characters, and detection of the current epoch."""
        dataset, observed = self.dataset, self.labels.train
        responses = self._respond(task, dataset.test)
        checks, is_correct = self._check("test", dataset.test, responses)
        prediction = task.training_predictions().cpu().numpy()
        label_quality = self.prepared.stack.label_quality(task, task.training_set).float().cpu().numpy()
        losses = -np.log(np.clip(label_quality, MIN_LABEL_QUALITY, 1))
        trace_losses = scores.mean_trace_losses(losses, self._labeled)
        diagnostics = scores.response_diagnostics(checks, responses)
        diagnostics |= scores.losses_by_status(losses, self._token_status, self._labeled)
        # A second generation of all test responses, so only after the last epoch.
        if task.current_epoch + 1 == task.budget.epochs:
            _, sampled_correct = self._check("test", dataset.test, self._sample(task))
            diagnostics["exact_match_sampled"] = float(np.mean(sampled_correct))
        diagnostics |= self._shift_accuracy(task) | self._selection(task)
        diagnostics |= scores.score_execution(trace_losses, self._incorrect_step_fraction, self._corrupted)
        has_validation = len(self.validation) > 0
        return {
            **scores.score_token_predictions(
                prediction, dataset.train.targets, observed, self.label_status, self._labeled
            ),
            **self._validate(task),
            "noisy_val_loss": self._loss(task, self.validation, self.labels.validation) if has_validation else None,
            "test_score": float(np.mean(is_correct)),
            "test_loss": self._loss(task, self.test, dataset.test.targets),
            "noise_auroc": self._detection(label_quality).auroc,
            "detectors": self._score_detectors(task, losses, trace_losses),
            "diagnostics": diagnostics,
        }

    def finalize(self, task: Learner) -> None:
        """Keep the final responses, greedy and sampled, and the label quality of every character."""
        corrected = self.prepared.stack.corrected_labels(task, task.training_set)
        labels = task.training_set.targets if corrected is None else corrected
        self._final = {
            "label_quality": self.prepared.stack.label_quality(task, task.training_set).half().cpu().numpy(),
            "prediction": task.training_predictions().cpu().numpy(),
            "corrected_labels": labels.to(task.training_set.targets.dtype).cpu().numpy(),
            "written": self._respond(task, self.dataset.test),
            "sampled": self._sample(task),
        }

    def summary(self) -> dict[str, Any]:
        """Return the detection of incorrect characters; a written trace has no single confidence to calibrate."""
        detection = self._detection(self._final["label_quality"].astype(np.float32))
        return {"calibration_error": None, "correction_accuracy": None, "detection": detection}

    def samples(self) -> Samples:
        """Return one record per character."""
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
        """Write characters with their label quality, the response to each test problem, and a page of training traces."""
        import pandas

        samples: dict[str, Any] = {name: values for name, values in vars(self.samples()).items() if name != "detectors"}
        if self._error_spans is not None:
            samples["error_spans"] = self._error_spans
        np.savez_compressed(folder / "samples.npz", **samples)
        checks, is_correct = self._check("test", self.dataset.test, self._final["written"])
        columns = {
            "prompt": self._prompts(self.dataset.test),
            "target": self._format.decode(self.dataset.test.targets),
            "written": self._final["written"],
            "is_correct": is_correct,
            "first_error_step": [check.first_error for check in checks],
            "sampled": self._final["sampled"],
        }
        pandas.DataFrame(columns).to_parquet(folder / "predictions.parquet", index=False)
        page = render_trace_page(self.dataset, self.labels, record.title)
        (folder / "traces.html").write_text(page, encoding="utf-8")

    def _sample(self, task: Any) -> list[str]:
        """Return responses to the test prompts, sampled at temperature 1."""
        test = self.dataset.test
        responses: list[str] = task.write(test.inputs[:], test.targets.shape[1], temperature=1.0)
        return responses

    def _respond(self, task: Any, split: Split) -> list[str]:
        """Return responses to the prompts of a split as the stack decodes them, greedily by default."""
        responses: list[str] = task.respond(split.inputs[:], split.targets.shape[1])
        return responses

    def _check(self, name: str, split: Split, responses: list[str]) -> tuple[list[TraceCheck], list[bool]]:
        """Re-execute responses, and return which answers are correct."""
        checks = scores.check_responses(self._format, self._prompts(split), responses)
        answers = [check.answer for check in checks]
        return checks, scores.match_answers(self._format, answers, self._answers[name])

    def _shift_accuracy(self, task: Learner) -> dict[str, float]:
        """Return the exact match on each test set under distribution shift, and the mean."""
        accuracies = {
            f"shift_accuracy.{name}": float(np.mean(self._check(name, split, self._respond(task, split))[1]))
            for name, split in self.dataset.shifted_tests.items()
        }
        return accuracies | ({"mean_shift_accuracy": float(np.mean(list(accuracies.values())))} if accuracies else {})

    def _selection(self, task: Learner) -> dict[str, float]:
        """Return fraction and noise rate of the traces that are trained on, if the stack selects traces."""
        weights = task.sampler.weights
        if weights is None:
            return {}
        kept = (weights > 0).cpu().numpy()
        return {"kept_fraction": float(kept.mean()), "kept_noise_rate": float(self._corrupted[kept].mean())}

    def _validate(self, task: Learner) -> dict[str, float | None]:
        """Return the fraction of validation answers that match the observed ones, and the clean ones."""
        observed, validation = self.labels.validation, self.dataset.validation
        if not len(observed):
            return {"noisy_val_score": None, "clean_val_score": None}
        # Written once for both comparisons, because generation costs far more than matching.
        answers = self._extract_answers(self._respond(task, validation))
        accuracies: dict[str, float | None] = {}
        references_by_score = {
            "noisy_val_score": self._extract_answers(self._format.decode(observed)),
            "clean_val_score": self._reference_answers(validation),
        }
        for name, references in references_by_score.items():
            accuracies[name] = float(np.mean(scores.match_answers(self._format, answers, references)))
        return accuracies

    def _loss(self, task: Any, prompts: Any, responses: Tokens) -> float:
        """Return the mean cross-entropy of responses in nats per token."""
        total, count = 0.0, 0
        # The mean is over all tokens rather than over the means of responses, so that each token counts the same.
        for batch in task.token_probabilities(prompts, torch.from_numpy(responses)):
            probabilities = batch.probabilities[batch.labels >= 0]
            total -= float(probabilities.clamp_min(metrics.MIN_PROBABILITY).log().sum())
            count += len(probabilities)
        return total / max(count, 1)

    def _detection(self, label_quality: NDArray[np.float32]) -> Detection:
        """Score the detection of incorrect characters by their label quality."""
        return score_detection(label_quality[self._has_status], self.label_status[self._has_status])

    def _score_detectors(
        self, task: Learner, losses: NDArray[np.float32], trace_losses: NDArray[np.float64]
    ) -> dict[str, dict[str, float | None]]:
        """Score the detection of corrupted traces by loss, by re-execution, and by the stack's detectors."""
        detectors = scores.score_trace_detectors(
            trace_losses,
            scores.mean_step_losses(losses, self._spans),
            self._spans,
            self._incorrect_step_fraction,
            self._corrupted,
            self._step_status,
        )
        # Whole traces are either clean or corrupted: there are no out-of-distribution ones.
        status = np.where(self._corrupted, np.int8(IN_DISTRIBUTION), np.int8(CLEAN))
        for name, detector in self.detectors(task).items():
            detectors[name] = score_detector(detector.score, detector.flagged, status)
        return detectors
