"""Numbers in README.md, docs and headers of suites are those of the measurements that ship."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.stats
import yaml

from noisybench.leaderboard.measurements import Measurement
from tests.leaderboard.frozen import frozen_measurements

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[1]
BLOCK = "<!-- measured: table quickstart -->\n<!-- end -->\n"


@pytest.fixture
def tool(shipped_tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool on measurements that do not change when boards are measured again."""
    show(frozen_measurements(), monkeypatch)
    return shipped_tool


def show(runs: list[Measurement], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks show other measurements than those that ship."""
    monkeypatch.setattr(importlib.import_module("blocks.entry"), "builtin_measurements", lambda: runs)


@pytest.fixture(scope="module")
def shipped_tool() -> Iterator[ModuleType]:
    # As for the script itself, whose folder Python adds to its path.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield importlib.import_module("measured_blocks")


def test_blocks_are_as_measured(shipped_tool: ModuleType) -> None:
    shipped_tool.main(["--check"])


def test_a_changed_number_is_found_and_mended(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.md"
    file.write_text(BLOCK)
    tool.main([str(file)])
    written = file.read_text()
    assert "| elr | **96.6** | **86.7** | **97.2** | 93.5 | none |" in written
    file.write_text(written.replace("93.5", "95.3"))
    with pytest.raises(SystemExit, match=r"not as measured: .*page.md"):
        tool.main(["--check", str(file)])
    assert "95.3" in file.read_text(), "a check writes nothing"
    tool.main([str(file)])
    assert file.read_text() == written


def test_the_header_of_a_suite_has_the_same_numbers(tool: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text("# expect:  measured: gains quickstart\n#          old\n# tuning:  none\ndescription: x\n")
    tool.main([str(file)])
    lines = file.read_text().splitlines()
    assert lines[0] == "# expect:  measured: gains quickstart"
    assert lines[-2:] == ["# tuning:  none", "description: x"]
    assert any(line.split() == ["#", "elr", "+19.7", "+22.2", "+9.0", "+17.0"] for line in lines), lines


def test_a_header_has_one_block_after_another(tool: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    header = ["# expect:  measured: table quickstart", "#          measured: memorized quickstart", "# paper:   none"]
    file.write_text("\n".join([*header, "description: x", ""]))
    tool.main([str(file)])
    lines = file.read_text().splitlines()
    assert [lines.index(line) for line in header] == [0, 12, len(lines) - 2]
    first = next(line for line in lines if line.split()[1:2] == ["elr"])
    assert first.split()[2:] == ["96.6*", "86.7*", "97.2*", "93.5", "none"]
    assert any(line.split()[1:2] == ["forward_correction"] and "~70.7" in line for line in lines), "unstable"
    tool.main(["--check", str(file)])


def test_wide_tables_of_headers_number_their_titles_or_have_paragraphs(tool: ModuleType) -> None:
    wide = [["stack", "noise " * 12, "elr", "noise " * 10], ["cross_entropy", "**1.0**", "2.0", "3.0"]]
    text = importlib.import_module("blocks.text")
    *legend, titles, row = text.plain_table(wide)
    assert " ".join(legend) == f"[1] {('noise ' * 12).strip()}; [2] {('noise ' * 10).strip()}."
    assert titles.split() == ["stack", "[1]", "elr", "[2]"]
    assert row.split() == ["cross_entropy", "1.0*", "2.0", "3.0"]
    claims = [["claim", "compared", "here"], ["A loss improves on another one. " * 5, "`a` - `b`", "holds"]]
    lines = text.plain_table(claims)
    assert max(map(len, lines)) <= text.HEADER_WIDTH
    assert lines[0].startswith("- A loss improves on another one. A loss")
    assert lines[-1].endswith("compared: `a` - `b`; here: holds.")


def test_an_entry_without_a_number_has_no_table_of_it(tool: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("<!-- measured: ood_detection quickstart -->\n<!-- end -->\n")
    with pytest.raises(SystemExit, match="the runs of quickstart have no ood_auroc"):
        tool.main([str(file)])


def test_claims_of_publications_have_the_outcome_that_was_measured(tool: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(
        "<!-- measured: origin quickstart -->\n<!-- end -->\n<!-- measured: claims quickstart -->\n<!-- end -->\n"
    )
    tool.main([str(file)])
    written = file.read_text()
    assert "72 runs of 8 stacks in 3 settings, 3 seeds, 7 minutes in all, measured with version " in written
    rows = {
        tuple(cells[2].split("`")[1::2]): cells[3:6] for cells in map(cells_of, written.splitlines()) if len(cells) > 5
    }
    assert rows["elr", "cross_entropy"] == ["+17.0 [15.6, 18.4]", "3 of 3 settings", "holds"]
    assert rows["sce", "gce"][1:] == ["0 of 3 settings", "the reverse holds"]
    assert rows["forward_correction", "cross_entropy"][1:] == ["2 of 2 settings", "not settled"], (
        "one of them is unstable"
    )


def test_claims_compare_settings_of_one_stack(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "claims.yaml").write_text(
        "- {claim: A, source: B, stack: elr, match: rate, first: {noise: pair_flip}, second: {noise: symmetric_exclusive}}\n"
        "- {claim: C, source: D, stack: elr, match: epochs, first: {noise: pair_flip}, second: {noise: symmetric_exclusive}}\n"
    )
    monkeypatch.setattr(importlib.import_module("blocks.claims"), "CLAIMS", tmp_path / "claims.yaml")
    entry = tool.Entry("quickstart")
    ((_, (_, row)),) = tool.claims(entry)
    runs = [each for each in frozen_measurements() if each.entry == "quickstart" and each.stack == "elr"]
    scores = {(each.setting.noise, each.seed): each.last or 0.0 for each in runs}
    noises = ("pair_flip(rate=0.4)", "symmetric_exclusive(rate=0.4)")
    gaps = [100 * (scores[noises[0], seed] - scores[noises[1], seed]) for seed in range(3)]
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(gaps), scipy.stats.sem(gaps))
    assert row == [
        "A (B)", "`elr`: pair_flip – symmetric_exclusive", f"{np.mean(gaps):+.1f} [{low:.1f}, {high:.1f}]", "0 of 1 settings",
        "the reverse holds",
    ]  # fmt: skip


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


@pytest.mark.parametrize(
    ("block", "message"),
    [("<!-- measured: table quikstart -->\n<!-- end -->", "no entry quikstart ships"),
     ("<!-- measured: tables quickstart -->\n<!-- end -->", "unknown kind of block tables")],
)  # fmt: skip
def test_a_wrong_block_is_refused(tool: ModuleType, tmp_path: Path, block: str, message: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(block)
    with pytest.raises(SystemExit, match=message):
        tool.main([str(file)])
    assert file.read_text() == block


def test_a_board_that_is_not_measured_yet_says_so(tool: ModuleType, tmp_path: Path) -> None:
    boards = yaml.safe_load((ROOT / "tools" / "boards.yaml").read_text(encoding="utf-8"))
    missing = [name for name in boards if not tool.is_measured(name)]
    file = tmp_path / "page.md"
    for name in missing:
        file.write_text(f"<!-- measured: gains {name} -->\n<!-- end -->\n")
        tool.main([str(file)])
        assert "Not measured yet." in file.read_text()


def test_tuned_stacks_stand_beside_their_defaults(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [each for each in frozen_measurements() if each.entry == "quickstart"]
    name, gains = "elr(beta=0.81234, reg_weight=4.0) (tuned, 5 trials)", (0.01, 0.02, 0.03)
    tuned = [
        dataclasses.replace(each, entry="mine", stack=name, last=each.last + gains[each.seed])
        for each in runs
        if each.stack == "elr" and each.setting.noise.startswith("pair_flip") and each.last is not None
    ]
    show([*runs, *tuned], monkeypatch)
    monkeypatch.setattr(importlib.import_module("blocks.tuned"), "boards", lambda: {"mine": {"suite": "quickstart"}})
    file = tmp_path / "page.md"
    file.write_text("<!-- measured: tuned mine -->\n<!-- end -->\n")
    tool.main([str(file)])
    low, high = (2 + sign * scipy.stats.t.ppf(0.975, 2) / np.sqrt(3) for sign in (-1, 1))
    row = f"| elr | 86.7 | 88.7 | +2.0 [{low:+.1f}, {high:+.1f}] | beta 0.812, reg_weight 4 |"
    assert row in file.read_text()
    assert "mean over 3 seeds that no trial used" in file.read_text()
    show([*runs, *(dataclasses.replace(each, stack=f"mixup+{name}") for each in tuned)], monkeypatch)
    with pytest.raises(SystemExit, match="no single stack was tuned to mixup"):
        tool.main([str(file)])


def test_diagnostics_have_tables_of_their_own(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [each for each in frozen_measurements() if each.entry == "quickstart"]
    with_numbers = [dataclasses.replace(each, diagnostics=(("first_error.f1", 0.25 + each.seed / 4),)) for each in runs]
    show(with_numbers, monkeypatch)
    file = tmp_path / "page.md"
    file.write_text("<!-- measured: first_error quickstart -->\n<!-- end -->\n")
    tool.main([str(file)])
    assert "| elr | 50.0 | 50.0 | 50.0 |" in file.read_text()


def test_a_stack_without_runs_in_a_setting_has_no_mean(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        each
        for each in frozen_measurements()
        if each.entry == "quickstart" and not (each.stack == "elr" and each.setting.noise.startswith("pair_flip"))
    ]
    show(runs, monkeypatch)
    entry = tool.Entry("quickstart")
    rows = [row for ((_, cells),) in (tool.table(entry), tool.gains(entry)) for row in cells if row[0] == "elr"]
    assert rows == [["elr", "**96.6**", "–", "**97.2**", "–", "none"], ["elr", "+19.7", "–", "+9.0", "–"]]


def test_one_seed_has_scores_and_no_best_group(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    show([each for each in frozen_measurements() if each.entry == "quickstart" and each.seed == 0], monkeypatch)
    entry = tool.Entry("quickstart")
    ((text, cells),) = tool.table(entry)
    assert text == "Score after the last epoch in %, one seed, which ranks nothing."
    assert not any("*" in cell for row in cells for cell in row)
    ((text, _),) = tool.origin(entry)
    assert ", 1 seed, " in text
