"""The card of a published label set: `README.md` with a head in YAML, as dataset cards of the Hugging Face Hub have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
import yaml

from noisybench.config.licenses import COMMON, OTHER, UNKNOWN
from noisybench.data.label_sets.label_files import TABLES
from noisybench.data.label_sets.manifest import Sha256
from noisybench.errors import UserError
from noisybench.sharing.index import CARD
from noisybench.sharing.licensing import Source
from noisybench.utils.text import printable

MAX_CLASSES = 100
"""Largest number of class names that a card lists."""

MAX_TEXT = 10_000
"""Largest number of characters of a citation, and of other texts of the user."""

HUB_NAMES = {"gpl-3.0-only": "gpl-3.0", "odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl"}
"""Licenses that the Hugging Face Hub calls otherwise than SPDX."""

Text = Annotated[str, pydantic.StringConstraints(max_length=MAX_TEXT)]


class CardEntry(pydantic.BaseModel):
    """Fields of the label set in the head of a card.

    Attributes:
        label_set: hash of the label set.
        license: license of the labels by its name in SPDX, or `other` or `unknown`.
        sources: license of each thing that the label set is made from.
        source: where the labels come from, in the words of their author.
        citation: publication to cite, in the words of their author.
        dataset: name of the dataset.
        noise_model: name of the noise model.
        nominal_rate: requested noise rate.
        actual_rate: measured noise rate of the training split.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    label_set: Sha256
    license: Text
    sources: dict[Text, Text]
    source: Text
    citation: Text
    dataset: Text
    noise_model: Text
    nominal_rate: float | None
    actual_rate: float | None


@dataclass(frozen=True)
class Statement:
    """Statements of the author of a label set about it.

    Attributes:
        license: license in the spelling of SPDX, or `other` or `unknown`.
        source: where the labels come from; empty for the noise model and the dataset.
        citation: publication to cite; empty for none.
    """

    license: str
    source: str = ""
    citation: str = ""


def card_entry(manifest: Mapping[str, Any], statement: Statement, sources: Sequence[Source]) -> CardEntry:
    """Return what the card of a label set says about it.

    Raises:
        UserError: a text is too long.
    """
    for name, text in (("--source", statement.source), ("--citation", statement.citation)):
        if len(text) > MAX_TEXT:
            raise UserError(f"{name}: has {len(text)} characters, but at most {MAX_TEXT} are allowed")
    noise, dataset = manifest["noise"], manifest["dataset"]
    return CardEntry(
        label_set=manifest["sha256"],
        license=statement.license,
        sources={source.what: source.terms.text for source in sources},
        source=statement.source.strip() or f"noise model {noise['name']} on {dataset['name']}",
        citation=statement.citation.strip(),
        dataset=dataset["name"],
        noise_model=noise["name"],
        nominal_rate=noise["nominal_rate"],
        actual_rate=manifest["actual_noise_rate"],
    )


def render_card(entry: CardEntry, manifest: Mapping[str, Any], files: Sequence[str], address: str) -> str:
    """Return the text of a card.

    Args:
        entry: what it says.
        manifest: manifest of the label set.
        files: names of the files beside the card.
        address: address from which the label set can be pulled.
    """
    head: dict[str, Any] = _hub_license(entry)
    head |= {"pretty_name": f"{entry.noise_model} labels of {entry.dataset}", "tags": ["label-noise", "noisybench"]}
    if TABLES[0] in files:
        # Other tables of the folder have other columns, which the viewer of the Hub would refuse to join.
        head["configs"] = [{"config_name": "labels", "data_files": TABLES[0]}]
    head["noisybench"] = entry.model_dump()
    dataset, noise = manifest["dataset"], manifest["noise"]
    sizes = dataset["sizes"]
    rows = [
        ("label set (SHA-256)", manifest["sha256"]),
        ("dataset", f"{dataset['name']}, {sizes['train']} training and {sizes['validation']} validation examples"),
        ("dataset (SHA-256)", dataset["sha256"]),
        ("noise model", f"{noise['name']}, seed {noise['seed']}"),
        ("meaning of the rate", noise["convention"]),
        ("nominal rate", _rate(entry.nominal_rate)),
        ("actual rate", _rate(entry.actual_rate)),
        ("source", entry.source),
        ("license", entry.license),
        *((f"license of the {what}", terms) for what, terms in entry.sources.items()),
    ]
    names = [_inline(name) for name in dataset["classes"][:MAX_CLASSES]]
    more = f" and {len(dataset['classes']) - MAX_CLASSES} more" if len(dataset["classes"]) > MAX_CLASSES else ""
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10**9)}---\n",
        f"# {_inline(head['pretty_name'])}\n",
        "Observed labels of the training and validation examples of a dataset, frozen with their clean labels, as "
        "noisybench writes them. The inputs of the dataset are not part of it.\n",
        "| | |\n| --- | --- |",
        *(f"| {_cell(title)} | {_cell(text)} |" for title, text in rows),
        f"\n## Classes\n\n{len(dataset['classes'])}: {', '.join(names)}{more}\n",
        "## Use\n",
        "```bash\n"
        f"noisybench labels pull {address} --output labels --sha256 {manifest['sha256'][:16]}\n"
        "noisybench run RECIPE noise=from_file noise.path=labels\n```\n",
        f"RECIPE is one whose dataset is {_inline(dataset['name'])} with the same splits; another one is refused. `pull` "
        "compares every file with its digest and the labels with their hash.\n",
        f"## Files\n\n{', '.join(f'`{name}`' for name in files)}\n",
    ]
    if entry.citation:
        # Indented, because a fence could be closed by the text itself.
        parts.append(
            "## Citation\n\n" + "\n".join(f"    {line}" for line in map(printable, entry.citation.split("\n")))
        )
    return "\n".join(parts) + "\n"


def read_card(text: str, location: str) -> CardEntry:
    """Read the head of a card.

    Args:
        text: content of `README.md`.
        location: address of the label set, for the message.

    Raises:
        UserError: there is no head, or it is not that of a label set.

    Example:
        >>> read_card("# Labels", "labels")
        Traceback (most recent call last):
        noisybench.errors.UserError: labels: README.md is no card of a label set (it has no head in YAML); ...
    """
    match = re.match(r"---\r?\n(.*?\n)---\r?\n", text, re.DOTALL)
    reason = "it has no head in YAML"
    if match:
        try:
            head = yaml.load(match[1], _Loader)
            return CardEntry.model_validate(head.get("noisybench") if isinstance(head, dict) else None)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, ("noisybench", *first["loc"])))
            reason = printable(f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}")[:160]
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            reason = printable(str(error).split("\n")[0])[:120] or type(error).__name__
    raise UserError(
        f"{location}: {CARD} is no card of a label set ({reason}); it must be published with `noisybench labels push`"
    )


def describe_card(entry: CardEntry) -> list[tuple[str, str]]:
    """Return the fields of a card that a manifest does not have, as titles and texts."""
    lines = [("license", entry.license)]
    lines += [(f"  {what}", terms) for what, terms in entry.sources.items()]
    lines.append(("source", entry.source))
    return lines + ([("citation", " ".join(entry.citation.split()))] if entry.citation else [])


class _Loader(yaml.SafeLoader):
    """Parser of plain values. Aliases are refused: nested ones of a few bytes can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def _hub_license(entry: CardEntry) -> dict[str, Any]:
    """Return the license in the words of the Hub, which knows common ones and `other` with a name and a link."""
    name = HUB_NAMES.get(entry.license.lower(), entry.license.lower())
    if name in {common.lower() for common in COMMON} | set(HUB_NAMES.values()) | {UNKNOWN}:
        return {"license": name}
    link = "https://spdx.org/licenses/" if entry.license != OTHER else CARD
    named = re.sub(r"[^a-z0-9.]+", "-", name) if entry.license != OTHER else "terms-of-the-sources"
    return {"license": OTHER, "license_name": named, "license_link": link}


def _rate(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _inline(text: str) -> str:
    """Return text of others as plain text in Markdown: it forms no link, image, tag or table."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$&])", r"\\\1", printable(text))


def _cell(text: str) -> str:
    # Addresses stay as they are, so that they can be copied.
    return printable(text).replace("|", "\\|").replace("<", "&lt;") if "://" in text else _inline(text)
