"""Pages of mitigations, noise models, datasets, tasks, networks, backbones and metrics, generated from the registry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from noisybench.cli.fidelity_text import DIRECTIONS
from noisybench.config.component_card import CARD_KINDS, component_card, type_name
from noisybench.config.fidelity import Fidelity
from noisybench.config.papers import with_titles
from noisybench.config.preset_conditions import describe_condition
from noisybench.config.presets import format_settings, load_presets
from noisybench.config.published_recipes import published_recipes
from noisybench.config.registry import KINDS, Entry, list_entries
from noisybench.evaluation.catalog import METRICS
from noisybench.leaderboard.measurement_tables import builtin_measurements

from .examples import example_command, roles_and_information, tasks_of
from .measured import measured_with
from .pages import Page
from .pictures import loss_curve, noise_picture
from .text import code, command, docstring, prose, table

INTRODUCTIONS = {
    "mitigations": (
        "Mitigations",
        "For everyone who trains on noisy labels: all methods that can be combined into a stack, such as `mixup+gce`. "
        "[Which method should I use?](../../which-method.md) helps to choose, and [own mitigation](../../own-mitigation.md) "
        "shows how to add one.",
        "noisybench list mitigations",
    ),
    "noise_models": (
        "Noise models",
        "For everyone who needs labels with known errors: all models that corrupt classes, masks or traces. "
        "[Own noise model](../../own-noise-model.md) shows how to add one.",
        "noisybench inspect digits noise=instance_dependent",
    ),
    "datasets": (
        "Datasets",
        "For everyone who chooses data: the built-in datasets, and the readers of your own files. "
        "[Check your data](../../data-check.md) lists the layouts that are recognized.",
        "noisybench list datasets",
    ),
    "tasks": ("Tasks", "For readers of recipes: the kinds of prediction problems.", "noisybench list tasks"),
    "networks": (
        "Networks",
        "For everyone who sets `budget.network`: the networks, most of which are families such as `mlp:512-512`. "
        "[Own network](../../own-network.md) shows how to add one.",
        "noisybench run digits budget.network=mlp:256n-64",
    ),
    "backbones": (
        "Backbones",
        "For everyone who trains on features: the pre-trained networks that compute them.",
        "noisybench embed my-images/ --backbone efficientnet_lite0 -o features.npz",
    ),
}
"""Title, first paragraph and command of each kind."""


def pages() -> Iterator[Page]:
    """Yield an overview and one page per component of each kind, with pictures, and the page of metrics."""
    for kind in KINDS:
        # Plug-ins that happen to be installed are no part of the documentation.
        entries = [entry for entry in list_entries(kind).values() if entry.module.startswith("noisybench.")]
        yield _overview(kind, entries)
        for entry in entries:
            yield from component_pages(entry)
    yield metrics_page()


def _overview(kind: str, entries: list[Entry]) -> Page:
    title, introduction, line = INTRODUCTIONS[kind]
    rows = []
    for entry in entries:
        row = [f"[`{entry.name}`]({entry.name}.md)", prose(entry.summary)]
        if kind == "mitigations":
            row.append(", ".join(map(code, roles_and_information(entry)[1])) or "none")
        if kind in ("mitigations", "noise_models", "datasets"):
            row.append(", ".join(tasks_of(entry)))
        rows.append(row)
    columns = ["Name", "Summary"]
    if kind == "mitigations":
        columns.append("Privileged information")
    if kind in ("mitigations", "noise_models", "datasets"):
        columns.append("Tasks")
    content = f"# {title}\n\n{introduction}\n\n{command(line)}\n\n{table(columns, rows)}\n"
    return Page(f"reference/{kind}/index.md", title, content)


def component_pages(entry: Entry) -> Iterator[Page]:
    """Yield the page of one component, and its picture if it has one.

    >>> from noisybench.config.registry import get_entry
    >>> page, *pictures = component_pages(get_entry("mitigations", "elr"))
    >>> page.path, page.content.splitlines()[0]
    ('reference/mitigations/elr.md', '# elr')
    """
    folder = f"reference/{entry.kind}"
    parts = [f"# {entry.name}", docstring(entry.documentation)]
    picture = {"noise_models": noise_picture, "mitigations": loss_curve}.get(entry.kind, lambda _: None)(entry)
    if picture is not None:
        parts.append(f"![{picture.description}]({entry.name}.png)\n\n*{picture.description}.*")
    parts += ["## Use", command(example_command(entry))]
    parts += list(_facts(entry))
    if entry.schema.fields:
        parts += ["## Parameters", _parameters(entry)]
    if entry.fidelity:
        parts += ["## Fidelity", fidelity_text(entry.fidelity)]
    if entry.kind == "mitigations":
        parts += _published(entry.name)
    if entry.kind in ("mitigations", "noise_models"):
        parts += _measured(entry)
    yield Page(f"{folder}/{entry.name}.md", entry.name, "\n\n".join(part for part in parts if part) + "\n")
    if picture is not None:
        yield Page(f"{folder}/{entry.name}.png", entry.name, picture.png)


def _facts(entry: Entry) -> Iterator[str]:
    facts = []
    if entry.kind in CARD_KINDS:
        card = component_card(entry)
        facts += [("Formula", code(card.formula))] if card.formula else []
        facts += [("Paper", f"[{paper.citation}]({paper.url}), {prose(paper.title)}") for paper in card.papers]
    if tasks := tasks_of(entry):
        facts.append(("Tasks", ", ".join(f"[`{task}`](../tasks/{task}.md)" for task in tasks)))
    if entry.kind == "mitigations":
        roles, information = roles_and_information(entry)
        facts += [
            ("Roles", ", ".join(roles)),
            ("Privileged information", ", ".join(map(code, information)) or "none"),
        ]
    if entry.kind == "noise_models" and (convention := getattr(entry.load_class(), "convention", "")):
        facts.append(("Convention of the rate", prose(convention)))
    if entry.license:
        facts += [("License of the data", prose(entry.license.text)), ("Access", prose(entry.license.access))]
    if entry.kind == "networks":
        facts.append(("Setting", "`budget.network`"))
    facts.append(("Source", code(re.sub(r"^.*?/(?=(noisybench|tasks|noise_models)/)", "", str(entry.source)))))
    yield table(["Fact", "Value"], facts)


def _parameters(entry: Entry) -> str:
    rows = []
    for name, (annotation, declared) in entry.schema.fields.items():
        search = ""
        if declared.low is not None and declared.high is not None:
            search = f"{declared.low:g} to {declared.high:g}{' (log)' if declared.log else ''}"
        kind, allowed = _type_and_choices(annotation)
        rows.append(
            (code(name), code(repr(declared.default)), code(kind), declared.describe_range() or allowed, search,
             prose(declared.help))
        )  # fmt: skip
    return table(["Name", "Default", "Type", "Allowed", "Search range", "Meaning"], rows)


def _type_and_choices(annotation: object) -> tuple[str, str]:
    """Return the type of a parameter, and the values of a choice as Markdown.

    >>> _type_and_choices(Literal["mean", "location"] | None)
    ('str | None', '`mean`, `location`')
    >>> import pathlib
    >>> _type_and_choices(pathlib.Path | None)
    ('Path | None', '')
    """
    members = (
        get_args(annotation) if isinstance(annotation, UnionType) or get_origin(annotation) is Union else (annotation,)
    )
    names, choices = [], []
    for member in members:
        if get_origin(member) is Literal:
            choices += [code(value) for value in get_args(member)]
            names += [type(value).__name__ for value in get_args(member)]
        else:
            names.append("None" if member is type(None) else type_name(member).removeprefix("pathlib."))
    return " | ".join(dict.fromkeys(names)), ", ".join(choices)


def fidelity_text(card: Fidelity) -> str:
    """Return a fidelity card as Markdown.

    >>> print(fidelity_text(Fidelity("https://github.com/shengliu66/ELR", "934af53", "loss", "7.6e-6")).splitlines()[0])
    - **Code**: [github.com/shengliu66/ELR](https://github.com/shengliu66/ELR), version 934af53
    """
    lines = ["- **Code**: none that is public"]
    if card.reference:
        version = f"commit `{card.commit[:12]}`" if len(card.commit) == 40 else f"version {card.commit}"
        lines = [f"- **Code**: [{card.reference.removeprefix('https://')}]({card.reference}), {version}"]
        lines[0] += f", license {card.license}" if card.license else ""
    lines.append(f"- **{'Compared' if card.reference else 'Tested'}**: {prose(card.compared)}")
    if card.difference:
        lines.append(f"- **Largest difference**: {prose(card.difference)}")
    if not card.deviations:
        lines.append("- **Deviations**: none known")
        return "\n".join(lines)
    rows = [(prose(each.what), prose(each.why), prose(each.size)) for each in card.deviations]
    return "\n".join(lines) + "\n\n" + table(["Deviation", "Reason", "Effect"], rows)


def _published(name: str) -> list[str]:
    presets = load_presets(name)
    if presets is None:
        return []
    rows = [
        (code(f"preset={preset}"), describe_condition(row), code(format_settings(row.settings)) or "none",
         prose(row.source), "; ".join(map(prose, row.deviations)) or "none known")
        for preset, row in presets.rows.items()
    ]  # fmt: skip
    recipes = [
        (code(f"noisybench run {recipe.name}"), prose(recipe.result))
        for recipe in published_recipes().values()
        if recipe.mitigation == name
    ]
    return [
        "## Published settings",
        f"Paper: {prose(with_titles(presets.paper))}. The defaults are those of "
        f"{code(presets.defaults) if presets.defaults else 'no row'}.",
        table(["Preset", "For", "Settings", "Source", "Deviations"], rows),
        table(["Recipe", "Published result"], recipes),
    ]


def _measured(entry: Entry) -> list[str]:
    rows = measured_with(entry.kind, entry.name)
    if not rows:
        return ["## Measured", "Not in the measurements that ship with noisybench."]
    versions = ", ".join(sorted({each.version for each in builtin_measurements()}))
    text = (
        "Final test scores in percent, mean ± standard deviation over seeds, of the measurements that ship with noisybench, "
        f"made with version {versions}."
    )
    if entry.kind == "noise_models":
        text += " Cross-entropy, and the best stack without privileged information in each setting."
    columns = ["Suite", "Noise", "Stack", "Score", "Seeds", "Privileged information", "Dataset", "Network"]
    shown = [
        (f"[`{row.suite}`](../suites.md#{row.suite})", code(row.noise), code(row.stack), row.score, row.seeds,
         ", ".join(map(code, row.privileged)) or "none", code(row.dataset), code(row.network))
        for row in rows
    ]  # fmt: skip
    return ["## Measured", text, table(columns, shown)]


def metrics_page() -> Page:
    """Return the page of all metrics."""
    parts = [
        "# Metrics",
        "For readers of tables and records: the meaning of every number. `noisybench describe NAME` shows the same.",
        command("noisybench list metrics"),
    ]
    for name, metric in METRICS.items():
        parts += [
            f"## {name}",
            f"{prose(metric.summary)}; {DIRECTIONS[metric.direction]}.",
            f"- **Function**: `{metric.formula}`\n- **In records**: {', '.join(map(code, metric.fields)) or 'none'}\n"
            + fidelity_text(metric.fidelity),
        ]
    return Page("reference/metrics.md", "Metrics", "\n\n".join(parts) + "\n")
