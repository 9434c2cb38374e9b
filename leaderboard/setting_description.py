"""Settings of runs: what is held equal when stacks are compared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisybench.config.registry import list_entries
from noisybench.config.static_class import class_constant
from noisybench.data.splits.names import SPELLINGS
from noisybench.leaderboard.display_names import short_title
from noisybench.leaderboard.published import LiteratureSetting, benchmark, literature_settings
from noisybench.records.schema import RunRecord
from noisybench.utils.text import counted


@dataclass(frozen=True)
class SettingDescription:
    """The setting of a run: dataset, label set and budget, which are held equal when stacks are compared.

    Attributes:
        dataset: dataset with its parameters.
        noise: noise model with its parameters.
        task: task with its parameters; empty for plain classification.
        label_set: SHA-256 of the label set.
        budget: hash of task and budget.
        metric: name of the score.
        convention: convention of the noise model, in words.
        actual_noise_rate: fraction of mislabeled training examples; None if unknown.
        num_classes: number of classes.
        train_size: number of training examples.
        test_size: number of test examples.
        network: name of the network.
        epochs: number of training epochs.
        batch_size: examples per batch.
        optimizer: name of the optimizer.
        learning_rate: initial learning rate.
        lr_schedule: learning-rate schedule.
        augmentation: name of the augmentation.
        literature: settings of `published.csv` that it is.
    """

    dataset: str
    noise: str
    task: str
    label_set: str
    budget: str
    metric: str
    convention: str
    actual_noise_rate: float | None
    num_classes: int
    train_size: int
    test_size: int
    network: str
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    lr_schedule: str
    augmentation: str
    literature: tuple[LiteratureSetting, ...] = ()

    @property
    def title(self) -> str:
        """Dataset, noise and task in one line."""
        return " · ".join(part for part in (self.dataset, self.noise, self.task) if part)

    @property
    def sort_key(self) -> tuple[str, str, int, str]:
        """Order of tables: draws of one noise model stand side by side, in the order of their seeds."""
        seed = re.search(r"\bseed=(\d+)", self.noise)
        title = self.title.replace(self.noise, without_parameters(self.noise, ["seed"]))
        return title, self.budget, int(seed[1]) if seed else 0, self.label_set

    @property
    def budget_text(self) -> str:
        """Network and epochs in a few words."""
        return f"{self.network}, {counted(self.epochs, 'epoch')}"


GENERIC = frozenset({"data", "images", "labels", *(word for words in SPELLINGS.values() for word in words)})
"""Names of files and folders that say nothing about the data in them."""

NEWSGROUPS = {"alt.atheism", "sci.space", "talk.religion.misc"}
"""Some classes of 20 Newsgroups."""

BUDGET_FIELDS = ("network", "epochs", "batch_size", "optimizer", "learning_rate", "lr_schedule", "augmentation")
"""Fields of a budget by which settings of the same title are distinguished."""


def distinct_titles(settings: Sequence[SettingDescription]) -> list[str]:
    """Return the titles of settings, those that several of them share with what distinguishes them.

    Example:
        >>> from dataclasses import replace
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> setting = builtin_measurements()[0].setting
        >>> longer, other = replace(setting, epochs=99, budget="b"), replace(setting, task="t")
        >>> distinct_titles([setting, longer, other])[1] == f"{setting.title} · epochs=99"
        True
    """
    titles = []
    for setting in settings:
        same = [other for other in settings if other.title == setting.title]
        differing = [name for name in BUDGET_FIELDS if len({getattr(other, name) for other in same}) > 1]
        parts = [f"{name}={getattr(setting, name)}" for name in differing]
        for name, attribute in (("budget", "budget"), ("label set", "label_set")):
            # Fields that are not listed here may differ as well.
            alike = [
                other for other in same if all(getattr(other, each) == getattr(setting, each) for each in differing)
            ]
            if len({getattr(other, attribute) for other in alike}) > 1:
                parts.append(f"{name} {getattr(setting, attribute)[:8]}")
        titles.append(" · ".join([setting.title, *([", ".join(parts)] if parts else [])]))
    return titles


def short_titles(settings: Sequence[SettingDescription]) -> list[str]:
    """Return the short titles of settings, which are as distinct as `distinct_titles`.

    Example:
        >>> from noisybench.leaderboard.measurement_tables import builtin_measurements
        >>> short_titles([next(each.setting for each in builtin_measurements() if each.entry == "quickstart")])
        ['digits · instance_dependent 40 %']
    """
    titles = distinct_titles(settings)
    short = [
        short_title([setting.dataset, setting.noise, setting.task]) + title.removeprefix(setting.title)
        for setting, title in zip(settings, titles, strict=True)
    ]
    counts = Counter(short)
    return [name if counts[name] == 1 else title for name, title in zip(short, titles, strict=True)]


def without_parameters(component: str, names: Iterable[str]) -> str:
    """Return the display name of a component without some of its parameters.

    Example:
        >>> without_parameters("pair_flip(rate=0.4, seed=1)", ["seed"]), without_parameters("web(seed=1)", ["seed"])
        ('pair_flip(rate=0.4)', 'web')
    """
    text = re.sub(rf"\b({'|'.join(names)})=[^,)]+(, )?", "", component)
    return text.replace(", )", ")").replace("()", "")


def dataset_name(record: RunRecord) -> str:
    """Return the dataset of a run with its parameters; a reader of the user's files has the name of the data.

    This is the benchmark that the files hold, or the name of their folder or file. Without either, as in a submission, which has
    no paths, it is the name of the reader. Features are other data than the images or texts of the benchmark.
    """
    reader, bracket, parameters = record.dataset.partition("(")
    entry = list_entries("datasets").get(reader)
    if entry is None or not class_constant(entry, "own_files", False):
        return record.dataset
    name = benchmark(record)
    if reader == "features":
        is_newsgroups = set(record.manifest["dataset"]["classes"]) >= NEWSGROUPS
        name = f"{name or 'newsgroups20'}-features" if name or is_newsgroups else None
    return f"{name or _name_of_files(record.spec['dataset']) or reader}{bracket}{parameters}"


def _name_of_files(dataset: Mapping[str, Any]) -> str:
    """Return the name of the nearest folder or file of a dataset that is not the name of a split; empty without one."""
    paths = [value for key in ("root", "path", "train") if isinstance(value := dataset.get(key), str)]
    parts = [part for path in map(Path, paths) for part in (path.stem, *reversed(path.parent.parts))]
    names = (part for part in parts if re.fullmatch(r"[^\W\d][\w.-]*", part) and part.lower() not in GENERIC)
    return next(names, "")


def describe_setting(record: RunRecord) -> SettingDescription:
    """Return the description of a run's setting."""
    manifest, budget = record.manifest, record.spec["budget"]
    sizes = manifest["dataset"]["sizes"]
    return SettingDescription(
        dataset=dataset_name(record),
        noise=record.noise,
        task=record.task,
        label_set=record.label_set,
        budget=record.budget,
        metric=record.metric,
        convention=manifest["noise"]["convention"],
        actual_noise_rate=manifest["actual_noise_rate"],
        num_classes=len(manifest["dataset"]["classes"]),
        train_size=sizes["train"],
        test_size=sizes["test"],
        network=budget["network"],
        epochs=budget["epochs"],
        batch_size=budget["batch_size"],
        optimizer=budget["optimizer"],
        learning_rate=budget["learning_rate"],
        lr_schedule=budget["lr_schedule"],
        augmentation=budget["augmentation"],
        literature=tuple(literature_settings(record)),
    )
