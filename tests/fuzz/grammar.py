"""Generate the arguments of commands, and the files that they name."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from noisybench.sharing import transfer
from tests.conftest import copy_database
from tests.fuzz.commands import settable_parameters
from tests.fuzz.files import mutate_file, mutate_tree
from tests.fuzz.isolation import make_full
from tests.fuzz.template import CONFIGS, LABELS, Template
from tests.fuzz.values import ADDRESSES, NUMBERS, OUTPUTS, OVERRIDES, SUFFIXES, TEXTS, YAML_TEXTS, YAML_VALUES


class ArgumentGenerator:
    """Generate the arguments of one case, and write the files that they name into a folder.

    Args:
        template: valid files to copy and damage.
        folder: working folder of the case.
        rng: source of all random decisions.
    """

    def __init__(self, template: Template, folder: Path, rng: random.Random) -> None:
        self._template, self._folder, self._rng = template, folder, rng
        # In a third of the cases nothing is damaged on purpose, so that deeper code is reached as well.
        self._damage = rng.choice([0.0, 0.15, 0.4])

    def arguments(self, words: tuple[str, ...], command: Any) -> list[str]:
        """Return the words and arguments of a call of a command."""
        arguments = list(words)
        for parameter in settable_parameters(command):
            if parameter.param_type_name == "argument":
                if parameter.required or self._rng.random() < 0.7:
                    arguments += self._values(words, parameter)
            elif parameter.required or self._rng.random() < self._frequency(parameter):
                arguments += self._option(words, parameter)
        if self._damaged(0.2):
            arguments += [self._rng.choice(["--nosuch", "-x", "extra", "--", "--help", "--debug", *TEXTS])]
        return arguments

    def _frequency(self, parameter: Any) -> float:
        return 0.6 if parameter.name in ("output", "format", "html", "license") else 0.25

    def _damaged(self, scale: float = 1.0) -> bool:
        return self._rng.random() < self._damage * scale

    def _option(self, words: tuple[str, ...], parameter: Any) -> list[str]:
        option = self._rng.choice(parameter.opts)
        if parameter.is_flag:
            return [option]
        return [option, *self._values(words, parameter)[:1]]

    def _values(self, words: tuple[str, ...], parameter: Any) -> list[str]:
        generate = getattr(self, f"make_{parameter.name}", None)
        if generate is not None:
            value = generate(words)
            return value if isinstance(value, list) else [value]
        kind = parameter.type_descriptor.annotation
        if kind in (int, float):
            return [self._rng.choice(NUMBERS) if self._damaged() else self._rng.choice(NUMBERS[1:4])]
        if kind in (Path, list[Path]):
            return [self.make_output(words)]
        return [self._text()]

    def _text(self, *valid: str) -> str:
        return self._rng.choice(TEXTS) if not valid or self._damaged() else self._rng.choice(valid)

    # Names

    def make_kind(self, words: tuple[str, ...]) -> str:
        return self._text(
            "noise_models", "mitigations", "datasets", "tasks", "networks", "recipes", "suites", "searches"
        )

    def make_name(self, words: tuple[str, ...]) -> str:
        if words == ("describe",):
            return self._text(
                "elr", "digits", "npz", "quickstart", "pair_flip", "classification", "resnet", "digits-elr"
            )
        return self._configuration("search" if words == ("search",) else self._rng.choice(["recipe", "suite"]))

    def make_recipe(self, words: tuple[str, ...]) -> str:
        return self._configuration("recipe")

    def make_suite(self, words: tuple[str, ...]) -> str:
        return self._configuration("suite")

    def make_format(self, words: tuple[str, ...]) -> str:
        return self._text(
            *(["csv", "parquet"] if words[0] == "labels" else ["terminal", "csv", "markdown", "latex", "html"])
        )

    def make_rule(self, words: tuple[str, ...]) -> str:
        return self._text("last", "last10", "noisy_val", "oracle")

    def make_test(self, words: tuple[str, ...]) -> str:
        return self._text("moderated_t", "anova", "paired_t")

    def make_shard(self, words: tuple[str, ...]) -> str:
        return self._rng.choice(
            ["1/2", "3/3", "0/2", "3/2", "1/0", "a/b", "1", "/", "1/" + "9" * 5000, "-1/2", "1.5/2", "9" * 5000 + "/1"]
        )

    def make_storage(self, words: tuple[str, ...]) -> str:
        return self._rng.choice([
            "sqlite:///studies.db", "sqlite:////proc/x/y.db", "nonsense", "postgresql://u:secret@127.0.0.1:9/x",
            "sqlite:///", "http://x",
            "sqlite:///existing-file", "mysql://x", "", "é", "sqlite:////proc/x.db", "redis://127.0.0.1:9",
        ])  # fmt: skip

    def make_mlflow(self, words: tuple[str, ...]) -> str:
        return self._text("http://localhost:5000", "https://example.org/")

    def make_ray(self, words: tuple[str, ...]) -> str:
        return self._text("127.0.0.1:9", "nonsense")

    def make_backbone(self, words: tuple[str, ...]) -> str:
        return self._text("efficientnet_lite0", "timm", "timm:nonsense", "torchvision:", "efficientnet_lite0:x")

    def make_device(self, words: tuple[str, ...]) -> str:
        return self._text("auto", "cpu")

    def make_host(self, words: tuple[str, ...]) -> str:
        return self._text("127.0.0.1", "::1", "localhost")

    # Configurations

    def _configuration(self, kind: str) -> str:
        builtin = {
            "recipe": ["digits", "scenes", "traced_addition"],
            "suite": ["quickstart"],
            "search": ["digits-elr", "digits"],
        }
        if self._rng.random() < 0.55:
            return self._text(*builtin[kind])
        path = self._folder / f"{kind}.yaml"
        if self._damaged(0.4):
            path.write_text(
                self._rng.choice(YAML_TEXTS),
                encoding=self._rng.choice(["utf-8", "utf-8", "utf-16", "latin1"]),
                errors="replace",
            )
        else:
            tree = CONFIGS[kind]
            for _ in range(self._rng.choice([1, 1, 2]) if self._damaged(2) else 0):
                tree = mutate_tree(tree, self._rng, YAML_VALUES)
            path.write_text(yaml.safe_dump(tree, allow_unicode=True))
        if self._damaged(0.2):
            mutate_file(path, self._rng)
        return path.name

    def make_overrides(self, words: tuple[str, ...]) -> list[str]:
        kind = self._rng.random()
        if words == ("relabel-curve",):
            return ["noise=symmetric_exclusive", f"noise.rate={self._text('0.2', '0.4')}"]
        if words[0] == "traces":
            return ["budget.epochs=1", "budget.network=decoder:4x1", *([self._override()] if self._damaged() else [])]
        if words[0] == "audit":
            return [*self._small_audit(), *(self._override() for _ in range(self._rng.choice([0, 0, 1])))]
        overrides = ["dataset.train_size=100", "dataset.test_size=40"] if kind < 0.2 else []
        if kind > 0.55 and words[-1] not in ("bench", "search"):
            overrides = self._component("datasets") if kind > 0.7 else self._component("noise_models")
        return overrides + [self._override() for _ in range(self._rng.choice([0, 0, 1, 1, 2, 3]))]

    def _small_audit(self) -> list[str]:
        return ["budget.epochs=1", "budget.network=mlp:4", "dataset.size=8"][: self._rng.choice([2, 2, 3])]

    def _override(self) -> str:
        if self._damaged(0.1):
            return self._text()
        key, values = self._rng.choice(OVERRIDES)
        value = self._rng.choice(TEXTS) if self._damaged() else self._rng.choice(values)
        return f"{key}={value}"

    def _component(self, kind: str) -> list[str]:
        """Return overrides that read a dataset or noise model from files, some of them damaged."""
        known = self._template.datasets if kind == "datasets" else self._template.noise
        # Formats that users write themselves are tried more often than those of published datasets.
        own = [
            n
            for n in known
            if n in ("npz", "features", "image_folder", "parquet", "trace_file", "image_mask_folder", "from_file")
        ]
        name = self._rng.choice(own if self._rng.random() < 0.6 else sorted(known))
        task, _ = known[name]
        folder = "datasets" if kind == "datasets" else "noise"
        self._template.copy(f"{folder}/{name}", self._folder)
        if self._rng.random() < 0.7:
            for _ in range(self._rng.choice([1, 1, 2])):
                files = self._folder / folder / name
                if files.exists() and any(files.iterdir()):
                    mutate_file(files, self._rng)
        parameters = self._template.parameters(kind, name, self._folder)
        prefix = "dataset" if kind == "datasets" else "noise"
        result = [f"{prefix}={name}", *(f"{prefix}.{key}={json.dumps(value)}" for key, value in parameters.items())]
        if kind == "datasets" and task == "transfer":
            result += ["task=transfer", "budget.network=features"]
        elif task in LABELS_TASK:
            fields = LABELS[LABELS_TASK[task]]
            result += [f"task={task}", f"budget={json.dumps(fields['budget'])}"]
            if kind != "datasets":
                result.append(f"dataset={json.dumps(fields['dataset'])}")
        elif kind != "datasets":
            result += ["dataset.train_size=100", "dataset.test_size=40"]
        if self._damaged(0.3):
            result.append("dataset.on_error=skip")
        return result

    # Files

    def make_files(self, words: tuple[str, ...]) -> list[str]:
        """Return exports of runs, of which the store has none in most cases."""
        if self._rng.random() < 0.7:
            (self._folder / "mlflow.db").unlink()
            shutil.rmtree(self._folder / "mlartifacts")
            copy_database(self._template.folder / "empty.db", self._folder / "mlflow.db")
        files = []
        for name in self._rng.choice([["records.zip"], ["records.zip", "records.zip"]]):
            copied = self._template.copy(name, self._folder)
            if self._damaged(2):
                mutate_file(copied, self._rng)
            files.append(self.make_output(words) if self._damaged(0.3) else name)
        return files

    def make_max_size(self, words: tuple[str, ...]) -> str:
        return self._text("64K", "15M", "1G", "0", "15", "64KiB", "99999999999T")

    def make_labels(self, words: tuple[str, ...]) -> str:
        """Return the data of an audit: a folder or file."""
        if self._damaged(0.3):
            return self._text("digits")
        name = "features" if words == ("relabel-curve",) else self._rng.choice(["image_folder", "npz", "parquet"])
        copied = self._template.copy(f"datasets/{name}", self._folder)
        if self._damaged(2):
            mutate_file(copied, self._rng)
        return {
            "image_folder": str(copied),
            "npz": f"{copied}/images.npz",
            "parquet": f"{copied}/train.parquet",
            "features": f"{copied}/features.npz",
        }[name]

    def make_decisions(self, words: tuple[str, ...]) -> str:
        """Return a table of decisions about the first examples of any dataset."""
        path = self._folder / "decisions.csv"
        rows = [f"{row},{self._text('keep', 'exclude', 'unsure', '')}" for row in range(self._rng.choice([1, 3]))]
        path.write_text("\n".join(["index,decision", *rows]), encoding="utf-8", errors="replace")
        if self._damaged():
            mutate_file(path, self._rng)
        return path.name

    def make_evaluate(self, words: tuple[str, ...]) -> str:
        return self._text("shipped", "quickstart")

    def make_budgets(self, words: tuple[str, ...]) -> str:
        return self._text("0.1", "0.2,0.5", "0.5,0.2", "0,2")

    def make_data(self, words: tuple[str, ...]) -> str:
        """Return the data of a check: a recipe, or the folder or file of any dataset."""
        if self._rng.random() < 0.3:
            return self._configuration("recipe")
        copied = self._template.copy(f"datasets/{self._rng.choice(sorted(self._template.datasets))}", self._folder)
        if self._damaged(2):
            mutate_file(copied, self._rng)
        files = [path for path in copied.iterdir() if path.is_file()] if copied.is_dir() else []
        return str(files[0] if len(files) == 1 else copied)

    def make_folder(self, words: tuple[str, ...]) -> str:
        if words == ("leaderboard", "package") or words == ("leaderboard", "export"):
            return self.make_output(words)
        if self._damaged(0.3):
            return self.make_output(words)
        name = "entry" if words[0] == "leaderboard" else f"labels/{self._rng.choice(sorted(LABELS))}"
        copied = self._template.copy(name, self._folder)
        if self._damaged(2):
            mutate_file(copied, self._rng)
        return name

    def make_license(self, words: tuple[str, ...]) -> str:
        return self._text("cc-by-4.0", "mit", "unknown", "other", "cc by 4.0")

    def make_sha256(self, words: tuple[str, ...]) -> str:
        return self._text("00000000", "abc", "G" * 64)

    def make_destination(self, words: tuple[str, ...]) -> str:
        if self._damaged(2):
            return self._text(*ADDRESSES)
        return self.make_output(words) if self._damaged() else "published"

    def make_source(self, words: tuple[str, ...]) -> str:
        """Return the address of a published label set, for a push the origin of its labels, or a file of traces."""
        if words[0] == "traces":
            return self._traces()
        if words == ("labels", "push") or self._damaged(0.5):
            return self._text(*ADDRESSES)
        copied = self._template.copy(f"labels/{self._rng.choice(sorted(LABELS))}", self._folder)
        transfer.push(copied, str(self._folder / "published"), "cc-by-4.0")
        if self._damaged(2):
            mutate_file(self._folder / "published", self._rng)
        return "published"

    def _traces(self) -> str:
        copied = self._template.copy("datasets/trace_file/traces.jsonl", self._folder)
        if self._damaged(2):
            mutate_file(copied, self._rng)
        return self._text("0123abcd", "digits") if self._damaged() else str(copied)

    def make_dropped(self, words: tuple[str, ...]) -> str:
        return self._text("dropped.jsonl")

    def make_fraction(self, words: tuple[str, ...]) -> str:
        return self._text("0.1", "0.5")

    def make_detector(self, words: tuple[str, ...]) -> str:
        return self._text("trace_loss", "trace_execution")

    def make_run(self, words: tuple[str, ...]) -> str:
        """Return the folder of a saved model."""
        if self._damaged(0.5):
            return self._text()
        copied = self._template.copy("model/saved", self._folder)
        if self._damaged(2):
            mutate_file(copied, self._rng)
        return str(copied)

    def make_path(self, words: tuple[str, ...]) -> str:
        """Return the file with the images of a prediction."""
        if words != ("predict",) or self._damaged(0.5):
            return self.make_output(words)
        copied = self._template.copy("model/images.npy", self._folder)
        if self._damaged(2):
            mutate_file(copied, self._rng)
        return str(copied)

    def make_folders(self, words: tuple[str, ...]) -> list[str]:
        return [self.make_folder(words) for _ in range(self._rng.choice([1, 1, 2]))]

    def make_file(self, words: tuple[str, ...]) -> str:
        if words == ("labels", "export"):
            return self.make_output(words)
        if self._damaged(0.3):
            return self.make_output(words)
        copied = self._template.copy("noise/from_file/labels.csv", self._folder)
        if self._rng.random() < 0.3:
            import pandas

            pandas.read_csv(copied).to_parquet(copied := copied.with_suffix(".parquet"))
        if self._damaged(2):
            mutate_file(copied, self._rng)
        return str(copied.relative_to(self._folder))

    def make_output(self, words: tuple[str, ...]) -> str:
        """Return a place to write to."""
        valid = {
            ("runs", "export"): (".zip",),
            ("data", "check"): (".html",),
            ("embed",): (".npz",),
            ("traces", "clean"): (".jsonl",),
        }
        suffixes = SUFFIXES if self._damaged() else valid.get(words, SUFFIXES)
        if not self._damaged(2):
            return f"result{self._rng.choice(suffixes)}"
        for name, prepare in PLACES.items():
            if not os.path.lexists(self._folder / name):
                prepare(self._folder / name)
        return self._rng.choice(OUTPUTS) + self._rng.choice(suffixes)

    def make_html(self, words: tuple[str, ...]) -> str:
        return self.make_output(words)


LABELS_TASK = {"segmentation": "masks", "chain_of_thought": "traces"}
PLACES: dict[str, Callable[[Path], Any]] = {
    "existing": Path.mkdir,
    "existing-file": Path.touch,
    "fifo": lambda path: os.mkfifo(path),
    "broken-link": lambda path: path.symlink_to("/proc/nosuch/x"),
    "dangling-link": lambda path: path.symlink_to("elsewhere"),
    "full": make_full,
}
"""Files and folders that outputs may collide with."""
