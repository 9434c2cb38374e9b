"""The generated pages of the documentation site: every component has one, with what people look for."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import re
import statistics
from pathlib import Path

import pytest

import noisybench
from noisybench.config.registry import KINDS, get_entry, list_entries
from noisybench.evaluation.catalog import METRICS
from noisybench.leaderboard.measurement_tables import builtin_measurements
from tools.docsite import commands, gallery, pictures, schemas, suites
from tools.docsite.pages import reference_pages, site_links

ROOT = Path(__file__).parents[1]
MODULES = [path.stem for path in sorted((ROOT / "tools" / "docsite").glob("[a-z]*.py"))]
NEEDS_GRIFFE = ("griffe_examples",)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_of_the_generators_run(name: str) -> None:
    if name in NEEDS_GRIFFE:
        pytest.importorskip("griffe", reason='install ".[docs]"')
    module = importlib.import_module(f"tools.docsite.{name}")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_the_page_of_a_method_has_formula_card_parameters_settings_and_measurements() -> None:
    page = next(gallery.component_pages(get_entry("mitigations", "elr"))).content
    assert isinstance(page, str)
    assert "reg_weight · log(1 - ⟨p, t⟩)" in page
    assert "[Liu et al. 2020](https://arxiv.org/abs/2007.00151)" in page
    assert "https://github.com/shengliu66/ELR" in page
    assert "| `beta` | `0.7` | `float` | [0, 1) | 0.5 to 0.99 |" in page
    assert "`preset=cifar100`" in page
    assert "`noisybench run paper:elr-cifar10-sym40` | 91.43" in page
    scores = [
        100 * (each.last or 0.0)
        for each in builtin_measurements()
        if (each.entry, each.setting.noise, each.stack) == ("quickstart", "symmetric_exclusive(rate=0.4)", "elr")
    ]
    cell = f"{statistics.fmean(scores):.1f} ± {statistics.stdev(scores):.1f}"
    assert f"`symmetric_exclusive(rate=0.4)` | `elr` | {cell} | 3 | none | `digits` | `small_cnn, 30 epochs` |" in page
    assert "noisybench run digits mitigations=elr" in page


def test_the_page_of_a_noise_model_has_its_convention_and_a_picture() -> None:
    page, picture = gallery.component_pages(get_entry("noise_models", "pair_flip"))
    assert "](pair_flip.png)" in str(page.content)
    assert "| Convention of the rate |" in str(page.content)
    assert bytes(picture.content)[:4] == b"\x89PNG"


def test_names_in_pages_lead_to_the_reference_unless_they_are_ambiguous_or_in_code() -> None:
    assert set(reference_pages()) <= {name for kind in KINDS for name in list_entries(kind)}
    assert "features" not in reference_pages(), "a dataset and a network"
    text = "# `elr`\n\n`elr`, [`gce`](x.md), [the `gce` loss](x.md)\n\n```bash\n`elr`\n```\n"
    linked = site_links(text, "concepts.md")
    assert linked == text.replace("\n\n`elr`,", "\n\n[`elr`](reference/mitigations/elr.md),")


def test_every_command_has_a_section_with_its_options() -> None:
    (page,) = commands.pages()
    text = str(page.content)
    for heading in ("## noisybench run", "### noisybench leaderboard verify", "### noisybench labels create"):
        assert f"\n{heading}\n" in text
    assert "`--time-limit`" in text
    assert "noisybench audit my-images/ dataset.size=32 --output audit" in text


def test_records_and_manifests_are_described_field_by_field() -> None:
    (page,) = schemas.pages()
    described = re.findall(r"^\| `(\w+)` \| (`[^`]+`) \| (.*) \|$", str(page.content), re.M)
    meanings = {name: meaning for name, _, meaning in described}
    assert meanings["weights_sha256"].startswith("SHA-256 of the final weights")
    assert {"transition_counts", "nominal_rate", "mitigations", "epochs"} <= set(meanings)


def test_suites_have_their_command_and_the_number_of_runs() -> None:
    (page,) = suites.pages()
    section = str(page.content).partition("\n### quickstart\n")[2].partition("\n### ")[0]
    assert "```bash\nnoisybench bench quickstart\n```" in section
    assert "72 runs" in section


def test_metrics_have_a_section_each() -> None:
    text = str(gallery.metrics_page().content)
    assert re.findall(r"^## (\w+)", text, re.M) == list(METRICS)


def test_the_tutorial_has_no_outputs_and_parses() -> None:
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    for cell in cells:
        assert not cell["outputs"], "clear all outputs before a commit; the build of the site executes it"
        assert cell["execution_count"] is None
        ast.parse("".join(cell["source"]))
    names = set(re.findall(r"\bnb\.(\w+)", "".join("".join(cell["source"]) for cell in cells)))
    assert names <= set(noisybench.__all__)


def test_the_picture_of_a_loss_lies_beside_cross_entropy() -> None:
    picture = pictures.loss_curve(get_entry("mitigations", "gce"))
    assert picture is not None
    assert picture.png[:4] == b"\x89PNG"
    assert pictures.loss_curve(get_entry("mitigations", "elr")) is None, "its loss depends on earlier epochs"
