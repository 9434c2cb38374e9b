"""The judge of tasks that write traces."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisybench import metrics
from noisybench.dataset import IGNORED, known
from noisybench.judge import Judge, Prepared
from noisybench.labels import IN_DISTRIBUTION, UNKNOWN_STATE
from noisybench.records import Detection, RunRecord, Samples
from noisybench.task import Task
from noisybench.traces import VOCABULARY, Score, decode, score

SHOWN = 40


class TraceJudge(Judge):
    """Scores traces: answers, steps, length, losses on right and wrong tokens, and detection of wrong tokens and traces."""

    metric = "exact_match"

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared)
        self._final: dict[str, Any] = {}
        self._labelled = self.states != UNKNOWN_STATE
        self._contaminated = (self.dataset.train.targets != self.labels.train).any(1)

    def place(self, device: torch.device) -> None:
        """Prompts stay on the host; they are small."""
        self.test, self.validation = (
            torch.from_numpy(np.asarray(each.inputs[:])) for each in (self.dataset.test, self.dataset.validation)
        )

    @property
    def test_prompts(self) -> NDArray[np.uint8]:
        """(M, 1, 1, P) tokens of the test problems."""
        return np.asarray(self.dataset.test.inputs[:])

    def row(self, task: Task, stage: str) -> dict[str, Any]:
        """Answers on the test and validation split, what became of wrong tokens, and detection."""
        written = self._written(task, self.test_prompts, self.dataset.test.targets)
        scores = [score(prompt, text) for prompt, text in zip(self.test_prompts[:, 0, 0], written, strict=True)]
        observed, clean = self.labels.train, self.dataset.train.targets
        predicted = task.training_predictions().cpu().numpy()
        belief = self.prepared.stack.belief(task, task.training_set).float().cpu().numpy()
        wrong = self.states == IN_DISTRIBUTION
        detection, by_trace = self._detection(belief)
        losses = -np.log(np.clip(belief, 1e-6, 1))
        facts = self._told(scores, written)
        for name, chosen in (("loss_right_tokens", self._labelled & ~wrong), ("loss_wrong_tokens", wrong)):
            if chosen.any():
                facts[name] = float(losses[chosen].mean())
        if by_trace is not None:
            facts["trace_detection_auroc"] = by_trace
        weights = task.weights
        if weights is not None:
            kept = (weights > 0).cpu().numpy()
            facts |= {"kept": float(kept.mean()), "wrong_among_kept": float(self._contaminated[kept].mean())}
        return {
            "train_score": float(((predicted == observed) | ~known(observed)).all(1).mean()),
            "noisy_val_score": self._validated(task),
            "noisy_val_loss": self._loss(task, self.validation, self.labels.validation)
            if len(self.validation)
            else None,
            "test_score": float(np.mean([each.right for each in scores])),
            "test_loss": self._loss(task, self.test, self.dataset.test.targets),
            "memorised": metrics.share((predicted == observed)[wrong]),
            "recovered": metrics.share((predicted == clean)[wrong]),
            "detection_auroc": detection.auroc,
            "detectors": {},
            "facts": facts,
        }

    def finish(self, task: Task) -> None:
        """What is written at the end, greedily and sampled, and the belief in every token."""
        targets = self.dataset.test.targets
        sampled = self._written(task, self.test_prompts, targets, temperature=1.0)
        self._final = {
            "belief": self.prepared.stack.belief(task, task.training_set).half().cpu().numpy(),
            "prediction": task.training_predictions().cpu().numpy(),
            "correction": self.prepared.stack.correction(task, task.training_set).to(torch.uint8).cpu().numpy(),
            "written": self._written(task, self.test_prompts, targets),
            "sampled": sampled,
        }

    def summary(self) -> dict[str, Any]:
        """Detection of wrong tokens; a written trace has no single confidence to calibrate."""
        detection, _ = self._detection(self._final["belief"].astype(np.float32))
        return {"calibration_error": None, "correction_accuracy": None, "detection": detection}

    def samples(self) -> Samples:
        """One record per token."""
        train, final = self.dataset.train, self._final
        return Samples(
            train.index, self.labels.train, train.targets, final["belief"], final["prediction"], final["correction"]
        )

    def write(self, record: RunRecord, folder: Path) -> None:
        """Tokens and beliefs, what was written for each test problem, and a page of training traces."""
        import pandas

        samples = {name: values for name, values in vars(self.samples()).items() if name != "detectors"}
        np.savez_compressed(folder / "samples.npz", **samples)
        prompts = [decode(each) for each in self.test_prompts[:, 0, 0]]
        wanted = [decode(each) for each in self.dataset.test.targets]
        columns = {
            "prompt": prompts,
            "target": wanted,
            "written": self._final["written"],
            "sampled": self._final["sampled"],
        }
        pandas.DataFrame(columns).to_parquet(folder / "predictions.parquet", index=False)
        (folder / "traces.html").write_text(self._page(record.title), encoding="utf-8")

    def _written(
        self, task: Any, prompts: NDArray[np.uint8], targets: NDArray[np.uint8], temperature: float = 0.0
    ) -> list[str]:
        return [decode(each) for each in task.generate(prompts, targets.shape[1], temperature).numpy()]

    def _told(self, scores: list[Score], written: list[str]) -> dict[str, float]:
        steps = sum(each.steps for each in scores)
        return {
            "unreadable": float(np.mean([not each.readable for each in scores])),
            "right_steps": sum(each.right_steps for each in scores) / max(steps, 1),
            "length": float(np.mean([len(each) for each in written])),
        }

    def _validated(self, task: Task) -> float | None:
        """Share of validation problems whose written answer is the observed one."""
        observed = self.labels.validation
        if not len(observed):
            return None
        written = self._written(task, np.asarray(self.dataset.validation.inputs[:]), observed)
        answers = [decode(each).partition("#")[2] for each in observed]
        return float(np.mean([text.partition("#")[2] == answer for text, answer in zip(written, answers, strict=True)]))

    def _loss(self, task: Any, prompts: torch.Tensor, responses: NDArray[np.uint8]) -> float:
        """Nats per token of some responses."""
        total, count = 0.0, 0
        targets = torch.from_numpy(responses)
        for place, found in task.token_probabilities(prompts, targets):
            labels = targets[place, : found.shape[1]].long().to(found.device)
            valid = labels != IGNORED
            chosen = found.gather(2, labels.masked_fill(~valid, 0)[..., None]).squeeze(2)[valid]
            total, count = total - float(chosen.clamp_min(1e-12).log().sum()), count + len(chosen)
        return total / max(count, 1)

    def _detection(self, belief: NDArray[np.float32]) -> tuple[Detection, float | None]:
        """Of wrong tokens by belief in them, and of contaminated traces by their mean loss."""
        states = self.states[self._labelled]
        tokens = metrics.detect(belief[self._labelled], states)
        losses = np.where(self._labelled, -np.log(np.clip(belief, 1e-6, 1)), 0).sum(1) / self._labelled.sum(1).clip(1)
        return tokens, metrics.detection_auroc(-losses, self._contaminated)

    def _page(self, title: str) -> str:
        """Some training traces, the clean and the observed one, with tokens that differ marked."""
        rows = []
        for row in np.flatnonzero(self._contaminated)[:SHOWN]:
            prompt = decode(self.dataset.train.inputs[row : row + 1][0, 0, 0])
            clean, observed = self.dataset.train.targets[row], self.labels.train[row]
            marked = "".join(
                f"<mark>{html.escape(VOCABULARY[token])}</mark>" if token != other else html.escape(VOCABULARY[token])
                for token, other in zip(observed, clean, strict=True)
                if token != IGNORED
            )
            rows.append(f"<tr><td>{html.escape(prompt)}<td>{html.escape(decode(clean))}<td>{marked}</tr>")
        style = (
            "body{font:14px monospace;margin:2em}td{padding:.3em 1em;border-top:1px solid #ccc}mark{background:#f88}"
        )
        return (
            f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
            f"<h1>{html.escape(title)}</h1><table><tr><th>prompt<th>clean<th>observed</tr>{''.join(rows)}</table>\n"
        )
