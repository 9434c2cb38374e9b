"""The evaluator of tasks that write reasoning traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench.data.dataset import Split
from noisybench.data.targets import CLEAN, IN_DISTRIBUTION, Tokens
from noisybench.data.traces.packed_texts import pack_texts
from noisybench.evaluation import metrics
from noisybench.evaluation import traces as scores
from noisybench.evaluation.detectors import score_detector
from noisybench.evaluation.trace_references import ObservedTraces, ReferenceAnswers, score_validation
from noisybench.plots.traces import render_trace_page
from noisybench.records.evidence import EVIDENCE_FILE, Samples, TraceEvidence
from noisybench.records.schema import RunRecord
from noisybench.training.evaluator import Evaluator
from noisybench.training.learner import Learner
from noisybench.training.prepared import PreparedRun


class TraceEvaluator(Evaluator):
    """Evaluator of traces: answers, steps, losses by token status, and detection of characters, steps and traces.

    Attributes:
        test_by_epoch: responses to the test prompts at each row.
        validation_by_epoch: responses to the validation prompts at each row.
    """

    metric = "exact_match"

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__(prepared)
        assert self.dataset.trace_format is not None
        self._format = self.dataset.trace_format
        self.test_by_epoch: list[list[str]] = []
        self.validation_by_epoch: list[list[str]] = []
        self._sampled: list[str] | None = None  # of the latest row of this process that was sampled
        self._final: dict[str, Any] = {}
        # Observed traces stay the same, so that one re-execution before training serves all epochs.
        self._observed = ObservedTraces(self.dataset, self.labels)
        self._references = {
            name: ReferenceAnswers(self._format, split)
            for name, split in {"test": self.dataset.test, **self.dataset.shifted_tests}.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the responses collected so far."""
        by_epoch = {"test_by_epoch": self.test_by_epoch, "validation_by_epoch": self.validation_by_epoch}
        return {**super().state_dict(), **by_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the responses that an interrupted run has collected."""
        super().load_state_dict(state)
        self.test_by_epoch, self.validation_by_epoch = state["test_by_epoch"], state["validation_by_epoch"]

    def move_to(self, device: torch.device) -> None:
        """Keep the prompts on the host; they are small."""
        self.test, self.validation = (
            torch.from_numpy(np.asarray(split.inputs[:])) for split in (self.dataset.test, self.dataset.validation)
        )

    def evaluate_epoch(self, task: Learner, stage: str) -> dict[str, Any]:
        """Return scores of answers and characters, and detection of the current epoch."""
        dataset, observed = self.dataset, self._observed
        responses = self._respond(task, dataset.test)
        self.test_by_epoch.append(responses)
        checks, is_correct = self._references["test"].check(responses)
        prediction, label_quality = task.training_predictions().cpu().numpy(), self._label_quality(task)
        # As it is stored, so that the scores follow from the evidence.
        stored_quality = label_quality.astype(np.float32)
        diagnostics = scores.response_diagnostics(checks, responses)
        # A second generation of all test responses, so only after the last epoch.
        if task.current_epoch + 1 == task.budget.epochs:
            self._sampled = self._sample(task)
            sampled_correct = self._references["test"].check(self._sampled)[1]
            diagnostics["exact_match_sampled"] = float(np.mean(sampled_correct))
        diagnostics |= self._shift_accuracy(task) | self._selection(task) | observed.diagnostics(stored_quality)
        has_validation = len(self.validation) > 0
        self.validation_by_epoch.append(self._respond(task, dataset.validation) if has_validation else [])
        return {
            **scores.score_token_predictions(
                prediction, dataset.train.targets, self.labels.train, self.label_status, observed.labeled
            ),
            **score_validation(self._format, self.validation_by_epoch[-1], dataset.validation, self.labels),
            "noisy_val_loss": self._loss(task, self.validation, self.labels.validation) if has_validation else None,
            "test_score": float(np.mean(is_correct)),
            "test_loss": self._loss(task, self.test, dataset.test.targets),
            "noise_auroc": observed.detection(stored_quality).auroc,
            "detectors": self._score_detectors(task, stored_quality),
            "diagnostics": diagnostics,
        }

    def finalize(self, task: Learner) -> None:
        """Keep the final responses, greedy and sampled, and the label quality of every character."""
        corrected = self.prepared.stack.corrected_labels(task, task.training_set)
        labels = task.training_set.targets if corrected is None else corrected
        self._final = {
            "label_quality": self._label_quality(task),
            "prediction": task.training_predictions().cpu().numpy(),
            "corrected_labels": labels.to(task.training_set.targets.dtype).cpu().numpy(),
            # The weights are those of the latest row, unless a resumed run had trained all epochs before.
            "sampled": self._sample(task) if self._sampled is None else self._sampled,
        }

    def summary(self) -> dict[str, Any]:
        """Return the detection of incorrect characters; a written trace has no single confidence to calibrate."""
        detection = self._observed.detection(self._final["label_quality"].astype(np.float32))
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

    def evidence(self) -> TraceEvidence:
        """Return the responses and predictions from which the scores of the run follow."""
        dataset, final = self.dataset, self._final
        tests, validations = pack_texts(self.test_by_epoch), pack_texts(self.validation_by_epoch)
        sampled = pack_texts([final["sampled"]])
        return TraceEvidence(
            test_index=dataset.test.index,
            test_responses=tests[0],
            test_lengths=tests[1],
            validation_index=dataset.validation.index,
            validation_responses=validations[0],
            validation_lengths=validations[1],
            sampled_responses=sampled[0],
            sampled_lengths=sampled[1],
            train_index=dataset.train.index,
            label_quality=final["label_quality"],
            prediction=final["prediction"].astype(np.int32),
        )

    def save(self, record: RunRecord, folder: Path) -> None:
        """Write characters with their label quality, the response to each test problem, and a page of training traces."""
        import pandas

        samples: dict[str, Any] = {name: values for name, values in vars(self.samples()).items() if name != "detectors"}
        error_spans = self.labels.error_spans.get("train")
        if error_spans is not None:
            samples["error_spans"] = error_spans
        np.savez_compressed(folder / "samples.npz", **samples)
        np.savez_compressed(folder / EVIDENCE_FILE, **vars(self.evidence()))
        references, written = self._references["test"], self.test_by_epoch[-1]
        checks, is_correct = references.check(written)
        columns = {
            "prompt": references.prompts,
            "target": self._format.decode(self.dataset.test.targets),
            "written": written,
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

    def _label_quality(self, task: Learner) -> NDArray[np.float16]:
        """Return the (N, T) label quality in half precision, because there is one value for every character."""
        quality: NDArray[np.float16] = self.prepared.stack.label_quality(task, task.training_set).half().cpu().numpy()
        return quality

    def _shift_accuracy(self, task: Learner) -> dict[str, float]:
        """Return the exact match on each test set under distribution shift, and the mean."""
        accuracies = {
            f"shift_accuracy.{name}": float(np.mean(self._references[name].check(self._respond(task, split))[1]))
            for name, split in self.dataset.shifted_tests.items()
        }
        return accuracies | ({"mean_shift_accuracy": float(np.mean(list(accuracies.values())))} if accuracies else {})

    def _selection(self, task: Learner) -> dict[str, float]:
        """Return fraction and noise rate of the traces that are trained on, if the stack selects traces."""
        weights = task.sampler.weights
        if weights is None:
            return {}
        kept = (weights > 0).cpu().numpy()
        return {"kept_fraction": float(kept.mean()), "kept_noise_rate": float(self._observed.corrupted[kept].mean())}

    def _loss(self, task: Any, prompts: Any, responses: Tokens) -> float:
        """Return the mean cross-entropy of responses in nats per token."""
        total, count = 0.0, 0
        # The mean is over all tokens rather than over the means of responses, so that each token counts the same.
        for batch in task.token_probabilities(prompts, torch.from_numpy(responses)):
            probabilities = batch.probabilities[batch.labels >= 0]
            total -= float(probabilities.clamp_min(metrics.MIN_PROBABILITY).log().sum())
            count += len(probabilities)
        return total / max(count, 1)

    def _score_detectors(self, task: Learner, label_quality: NDArray[np.float32]) -> dict[str, dict[str, float | None]]:
        """Score the detection of corrupted traces by loss, by re-execution, and by the stack's detectors."""
        detectors = self._observed.detectors(label_quality)
        # Whole traces are either clean or corrupted: there are no out-of-distribution ones.
        status = np.where(self._observed.corrupted, np.int8(IN_DISTRIBUTION), np.int8(CLEAN))
        for name, detector in self.detectors(task).items():
            detectors[name] = score_detector(detector.score, detector.flagged, status)
        return detectors
