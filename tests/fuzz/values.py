"""Values that overrides, configurations and options may stumble on."""

from __future__ import annotations

from typing import Any

from tests.fuzz.files import LONG_NAME

TEXTS = (
    "", " ", "é", "\x1b[31mred", "a\nb", "=1+1", LONG_NAME, "p/" * 2500, "9" * 5000, "-1", "0", "1e400", "nan",
    "null", "[", "{a: 1}",
    "~nosuchuser/x", "%s", "{}", "unknown", "None", "&a [*a]", "!!python/object:os.system", "a,b", "a=b", "#", "\udcff",
)  # fmt: skip
"""Texts that parsers of values, names and paths may stumble on. The null character cannot be an argument."""

NUMBERS = ("0", "1", "2", "3", "-1", "9" * 5000, "1.5", "nan", "inf", "", "é", "1e3", "0x10", "99999999999")

OVERRIDES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("dataset", ("digits", "npz", "scenes", "traced_integers", "mnist", "{name: digits}", "[digits]", "nosuch")),
    ("dataset.train_size", ("100", "0", "-1", "99999999", "1", "2", "10", "1.5", "null")),
    ("dataset.test_size", ("40", "1", "0", "9999999")),
    ("dataset.test_fraction", ("0.25", "0.0001", "0.9999", "1e-300", "0", "1")),
    ("dataset.validation_fraction", ("0.1", "0", "0.99", "0.0001")),
    ("dataset.ood_classes", ("[0]", "[0,1,2,3,4,5,6,7]", "[0,0]", "[-1]", "[99]", "[]", "[a]", "5")),
    ("dataset.subset_range", ("[0,0.5]", "[0.5,0.5001]", "[0]", "[0.2,.nan]", "[1,0]")),
    ("dataset.test_shifts", ("[rotation:15]", "[noise:nan]", "[translation:99999]", "[nosuch]", "[noise:]",
        "[rotation:1e400]")),
    ("noise", ("clean", "symmetric_exclusive", "pair_flip", "instance_dependent", "human", "web", "nosuch",
        "[clean]", "5")),
    ("noise.rate", ("0.3", "0", "1", "0.2,0.4", "-0.1", ".nan", "abc", "0.2,nan")),
    ("noise.seed", ("0", "-1", "99999999999999999999999999")),
    ("mitigations", ("elr", "gce", "mixup+elr", "co_teaching", "[elr,gce]", "{name: elr, beta: 0.5}", "elr+elr", "+",
        "nosuch", "5", "[]")),
    ("mitigations.elr.beta", ("0.7", "1", "[0.7]", "x")),
    ("mitigations.beta", ("0.7",)),
    ("budget", ("5", "{epochs: 1}", "null", "[1]")),
    ("budget.epochs", ("1", "0", "-1", "true", "1.0", "99999999999999999999")),
    ("budget.batch_size", ("16", "1", "0", "10000000000")),
    ("budget.learning_rate", ("0.1", "0", ".inf", "1e400", "-1")),
    ("budget.network", ("mlp:4", "small_cnn", "resnet18", "unet:4", "timm:nosuch", "mlp:0", "mlp:-1",
        "mlp:99999999999", "mlp:", ":")),
    ("budget.augmentation", ("none", "crop_flip", "nosuch", "randaugment")),
    ("budget.lr_schedule", ("cosine", "constant", "multistep", "nosuch")),
    ("budget.milestones", ("[1]", "[-1]", "[a]", "5")),
    ("budget.weight_decay", ("0", "-1", "1e400")),
    ("seed", ("0", "0,1", "-1", "1.5", "abc", "[0,1]", "010", "1:30", "99999999999999999999")),
    ("seed.x", ("1",)),
    ("task", ("classification", "transfer", "segmentation", "chain_of_thought", "nosuch", "{name: transfer}", "[a]")),
    ("execution.device", ("cpu", "cuda", "tpu", "5")),
    ("execution.num_threads", ("1", "0", "999999999999")),
    ("execution", ("5", "{device: cpu}")),
    ("seeds", ("[0]", "0", "[]", "[a]", "[0,0]")),
    ("stacks", ("[elr]", "elr", "[]", "[5]", "[[elr]]", "[{name: elr}]")),
    ("trials", ("3", "0", "true", "99999999999", "abc")),
    ("space.elr.beta", ("[0.5,0.9]", "[0.5,7]", "[.nan,0.5]", "[1,0]", "{low: 0.1, high: .inf}", "5", "[a,b]")),
    ("sampler", ("tpe", "random", "[tpe]", "nosuch")),
    ("objective", ("noisy_val", "[noisy_val,cost]", "{a: 1}", "nosuch")),
    ("description", ("text", "5", "[a]")),
    ("nosuch", ("1",)), ("", ("1",)), (".", ("1",)), ("dataset..x", ("1",)), ("a" * 5000, ("1",)), ("é", ("1",)),
)  # fmt: skip
"""Keys of overrides with allowed and other values."""

YAML_VALUES: tuple[Any, ...] = (
    None, 5, -1, True, 1.5, float("nan"), float("inf"), "", "text", "nosuch", [], {}, ["a"], {"a": 1}, [None],
    {1: 2}, "9" * 5000, 10**40,
    "é", LONG_NAME,
)  # fmt: skip

YAML_TEXTS = (
    "", "a", "[", "{", "- a", "a: &x [*x]", "a: *x", "\ta: 1", "a: 1\na: 2", "!!python/object/apply:os.system [id]",
    "a: !!binary x",
    "&a {<<: *a}", "%TAG ! x", "---\na: 1\n---\nb: 2", "{" * 5000, "[" * 20_000, "a: 2020-99-99", "? [a]\n: b",
    "1: 2", "null: 1",
    "mitigations: &m [*m]", "dataset: &d {name: *d}", "seed: " + "9" * 5000, "seed: 010", "seed: 1:30", "a: \x07",
    "\ufeffdataset: digits",
)  # fmt: skip

OUTPUTS = (
    "out", "new/folder/out", "existing", "existing-file", "existing-file/out", "full", "/proc/x", "/proc/self/x",
    "fifo",
    LONG_NAME, "p/" * 2500, "", ".", "broken-link", "dangling-link", "é", "\udcff", "a\nb", "~nosuchuser/x", "-", " ",
)  # fmt: skip
"""Places to write to, in the working folder or where writing fails."""
SUFFIXES = ("", "", ".png", ".csv", ".parquet", ".html", ".md", ".jsonl", ".txt", ".svg", ".PNG")

ADDRESSES = (
    "nothing", "memory://x", "http://127.0.0.1:9/x", "https://127.0.0.1:9", "s4://x/y", "hf://datasets/x", "hf://x/y/z", "zip::x",
    "file://", "file:///proc/x", "memory://", "://", "::", "..", "ftp://127.0.0.1:9/x", "http://[x", "memory://\x00",
)  # fmt: skip
"""Addresses of published label sets. None of them leaves this machine."""
