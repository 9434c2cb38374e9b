"""Scores of a setting by rule, stack and seed, as verdicts and stress cards read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from noisybench.config.noise_seeds import FIXED_NOISE
from noisybench.leaderboard.setting_description import without_parameters
from noisybench.leaderboard.table import Setting, seed_scores
from noisybench.records.codes import code_digest

RANKING_RULES = ("last", "last10", "noisy_val", "label_wave")
"""Selection rules by which pages and stress cards rank; the oracle is none of them."""


@dataclass(frozen=True)
class SettingScores:
    """Scores of one setting and one draw of its noise.

    Attributes:
        key: key of its table on the page.
        title: dataset, noise and task.
        group: metric, task, budget and code, which settings of one verdict share.
        group_title: task and budget in a few words.
        dataset: dataset with its parameters.
        setting: identity of the setting without the seed of the noise.
        resolution: step of the scores, see `statistics.rank`.
        is_drawn: whether its labels depend on the seed of the noise.
        scores: score of each run by ranking rule, stack and seed.
        codes: digest of the code by stack, without dataset and noise model.
        privileged: stacks that use privileged information.
        engine: metric and digest of the training engine, which settings of an overall verdict share.
        method_codes: digest of the code of the mitigations by stack.
    """

    key: str
    title: str
    group: str
    group_title: str
    dataset: str
    setting: str
    resolution: float
    is_drawn: bool
    scores: Mapping[str, Mapping[str, Mapping[int, float]]]
    codes: Mapping[str, str]
    privileged: frozenset[str]
    engine: str = ""
    method_codes: Mapping[str, str] = field(default_factory=dict)


def comparable_codes(setting: Setting) -> dict[str, str]:
    """Return the digest of the code by stack, without dataset and noise model, which differ between settings."""
    return {
        row.stack: code_digest(tuple(item for item in row.code if item[0] not in ("dataset", "noise")))
        for row in setting.rows
    }


def setting_scores(setting: Setting, key: str = "") -> SettingScores:
    """Return the scores of a setting that verdicts need.

    Args:
        setting: setting of at least one run.
        key: key of its table on the page.
    """
    description = setting.description
    task = description.task.partition("(")[0]
    budget = (
        description.network, description.epochs, description.batch_size, description.optimizer, description.learning_rate,
        description.lr_schedule, description.augmentation,
    )  # fmt: skip
    code = code_digest(tuple(item for item in setting.code if item[0] not in ("dataset", "noise")))
    noise = without_parameters(description.noise, ["seed"])
    return SettingScores(
        key=key,
        title=setting.title,
        group=json.dumps([description.metric, task, budget, code]),
        group_title=" · ".join(part for part in (task, description.budget_text) if part),
        dataset=description.dataset,
        setting=json.dumps([description.dataset, noise, description.task, description.budget]),
        resolution=1 / description.test_size if description.metric == "accuracy" else 1e-4,
        is_drawn=noise.partition("(")[0] not in FIXED_NOISE,
        scores={
            rule: {stack: scores for stack, scores in seed_scores(setting.rows, rule).items() if scores}
            for rule in RANKING_RULES
        },
        codes=comparable_codes(setting),
        privileged=frozenset(row.stack for row in setting.rows if row.privileged),
        engine=json.dumps([description.metric, [item for item in setting.code if item[0] == "engine"]]),
        method_codes={
            row.stack: code_digest(tuple(item for item in row.code if item[0].startswith("mitigations.")))
            for row in setting.rows
        },
    )
