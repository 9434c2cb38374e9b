"""Cards, entries and published results of the page: what they say is what was declared and measured."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from noisybench.cli.card_text import describe_card
from noisybench.config.component_card import CARD_KINDS, component_card
from noisybench.config.registry import get_entry
from noisybench.leaderboard import submission
from noisybench.leaderboard.board import build_board
from noisybench.leaderboard.cards import card_section, measured_facts
from noisybench.leaderboard.entries import builtin_entries, describe_submission, from_csv, to_csv
from noisybench.leaderboard.measurement_tables import builtin_measurements
from noisybench.leaderboard.payload import SettingPayload, setting_payload
from noisybench.leaderboard.published import PUBLICATIONS, SINGLE_REPORTS
from noisybench.leaderboard.reproduction import reproduce
from tests.leaderboard.test_leaderboard import board_of, record, settings_of

MAX_CARD_BYTES = 300 * 1024


def payloads(levels: dict[str, float], **fields: Any) -> list[SettingPayload]:
    records = [record(stack, seed, level, **fields) for stack, level in levels.items() for seed in range(3)]
    return [setting_payload(setting) for setting in settings_of(records)]


def card_of(kind: str, name: str, settings: list[SettingPayload]) -> dict[str, Any]:
    section = card_section(settings)
    (card,) = [card for card in section[kind] if card["name"] == name]
    return card | {"papers": with_texts(card["papers"], section)} if card.get("papers") else card


def with_texts(rows: list[list[Any]], section: dict[str, Any]) -> list[list[Any]]:
    """Return rows of a table of the page with the texts that several of its cells share."""
    return [[section["texts"][cell] if isinstance(cell, int) else cell for cell in row] for row in rows]


def test_cards_are_small_and_their_names_are_unique() -> None:
    section = build_board(builtin_measurements()).sections["cards"]
    assert len(json.dumps(section, separators=(",", ":")).encode()) < MAX_CARD_BYTES
    names = Counter(card["name"] for kind in CARD_KINDS for card in section[kind])
    assert names.most_common(1)[0][1] == 1, "the address of a card is its name"


def test_a_card_says_where_a_method_won_and_lost_and_at_which_cost() -> None:
    found = payloads({"gce": 0.9, "elr": 0.6, "cross_entropy": 0.8})
    gce, elr = (measured_facts(name, found) for name in ("gce", "elr"))
    assert gce is not None
    assert elr is not None
    assert gce["rules"]["last"] == {"best": {gce["stacks"].index("gce"): [0]}, "worse": {}, "compared": 1}
    assert elr["rules"]["last"]["best"] == {}
    ((stack, ((position, loss),)),) = elr["rules"]["last"]["worse"].items()
    assert (position, elr["stacks"][stack]) == (0, "elr")
    # Against the mean of the last epochs, which is computed here by other means.
    last = {name: sum(record(name, seed, level).rows[-1].test_score for seed in range(3)) / 3
            for name, level in (("elr", 0.6), ("cross_entropy", 0.8))}  # fmt: skip
    assert loss == pytest.approx(10_000 * (last["elr"] - last["cross_entropy"]), abs=1)
    assert gce["cost"] == [1, 1, 1]
    assert measured_facts("mixup", found) is None
    assert measured_facts("gce", payloads({"gce": 0.9, "elr": 0.6}))["cost"] is None  # type: ignore[index]


def test_a_stack_with_privileged_information_takes_no_win_from_others() -> None:
    runs = [record(stack, seed, level) for stack, level in (("gce", 0.9), ("elr", 0.7)) for seed in range(3)]
    runs += [dataclasses.replace(record("co_teaching", seed, 0.97), privileged=["noise_rate"]) for seed in range(3)]
    (setting,) = settings_of(runs)
    assert setting.ranking.ranks == {"co_teaching": 1, "gce": 2, "elr": 3}
    facts = [measured_facts(name, [setting_payload(setting)]) for name in ("gce", "elr", "co_teaching")]
    assert [len(each["rules"]["last"]["best"]) for each in facts if each] == [1, 0, 1]


def test_a_card_counts_the_stacks_of_its_method_and_names_tuned_ones() -> None:
    found = payloads({"mixup+gce(q=0.5)": 0.9, "gce (tuned, 20 trials)": 0.9, "cross_entropy": 0.5})
    facts = measured_facts("gce", found)
    assert facts is not None
    assert facts["tuned"] == [["gce (tuned, 20 trials)", 0]]
    assert sorted(facts["stacks"][stack] for stack in facts["rules"]["last"]["best"]) == [
        "gce (tuned, 20 trials)",
        "mixup+gce(q=0.5)",
    ]
    mixed = measured_facts("mixup", found)
    assert mixed is not None
    assert not mixed["is_alone"]


def test_cards_of_noise_models_and_datasets_list_their_settings() -> None:
    found = payloads({"gce": 0.9, "elr": 0.6})
    assert card_of("noise_models", "pair_flip", found)["settings"] == [0]
    assert card_of("noise_models", "clean", found)["settings"] == []
    assert card_of("datasets", "digits", found)["settings"] == [0]


def test_the_terminal_and_the_page_show_the_same_card() -> None:
    card = component_card(get_entry("mitigations", "co_teaching"))
    text, shown = describe_card(card), card_of("mitigations", "co_teaching", [])
    for fact in (
        shown["command"],
        shown["formula"],
        shown["fidelity"][3],
        *shown["papers"][0],
    ):
        assert fact in text
    # The page writes values as configurations do.
    assert shown["privileged"] == ["noise_rate (by default: if forget_rate is none)"]
    assert "noise_rate (by default: if forget_rate is None)" in text
    section = card_section([])
    rows = with_texts(section["parameters"], section)
    assert ("forget_rate", "none", "float | none", "[0, 1)", "0.05 to 0.6") in {
        tuple(rows[position][:5]) for position in shown["parameters"]
    }


# ---- entries


def test_every_shipped_measurement_has_a_claim() -> None:
    known = {entry.name: entry for entry in builtin_entries()}
    measured = {run.entry: run for run in builtin_measurements()}
    assert measured.keys() == known.keys(), "`noisybench leaderboard summarize` writes entries.csv beside the tables"
    for name, entry in known.items():
        assert entry.claim
        assert entry.status == measured[name].status
        assert len(entry.digest) == 64
        assert datetime.date.fromisoformat(entry.date)


def test_claims_of_any_beginning_are_read_as_they_were_written() -> None:
    claims = ("=1+1", "'best' by far", "-1 point", "plain", "'", "")
    entries = [dataclasses.replace(builtin_entries()[0], claim=claim) for claim in claims]
    assert from_csv(to_csv(entries)) == entries


def test_the_section_of_entries_counts_their_runs() -> None:
    section = build_board(builtin_measurements()).sections["entries"]
    # A run that two suites have in common is shown once, as that of the later entry.
    latest = {
        (run.setting, run.stack, run.seed): run.entry
        for run in sorted(builtin_measurements(), key=lambda run: run.finished)
    }
    assert {row["name"]: row["runs"] for row in section} == Counter(latest.values())
    assert [row["date"] for row in section] == sorted((row["date"] for row in section), reverse=True)
    assert board_of([record("gce")]).sections["entries"] == []


def test_an_unknown_entry_shows_what_its_runs_say() -> None:
    run = dataclasses.replace(builtin_measurements()[0], entry="other", status="claimed")
    (row,) = build_board([run]).sections["entries"]
    assert (row["name"], row["status"], row["claim"], row["runs"]) == ("other", "claimed", "", 1)


def test_a_submission_states_author_and_date(entry: Path) -> None:
    info = describe_submission(submission.read(entry), "https://example.org/submissions/")
    assert (info.author, info.claim, info.version) == ("", "short runs", "0")
    assert info.date == datetime.datetime.now(datetime.UTC).date().isoformat()
    assert info.evidence == "https://example.org/submissions/entry"
    assert from_csv(to_csv([info])) == [info]
    manifest = json.loads((entry / "submission.json").read_text())
    manifest["author"] = "Ada <ada@example.org>"
    (entry / "submission.json").write_text(json.dumps(manifest))
    assert describe_submission(submission.read(entry)).author == "Ada <ada@example.org>"


# ---- published results


def test_published_results_are_grouped_by_publication() -> None:
    section = board_of([]).sections["reproduction"]
    counts = sum((Counter(group["counts"]) for group in section["groups"]), Counter())
    assert counts == Counter(each.status for each in reproduce([]))
    titles = [group["title"] for group in section["groups"]]
    assert {*titles} == {*PUBLICATIONS.values(), SINGLE_REPORTS}
    assert all(group["url"] for group in section["groups"] if group["title"] != SINGLE_REPORTS)
    for group in section["groups"]:
        assert sum(group["counts"].values()) == len(group["measured"]) + len(group["not_run"])


def test_publications_with_measured_results_come_first() -> None:
    groups = build_board(builtin_measurements()).sections["reproduction"]["groups"]
    sizes = [len(group["measured"]) for group in groups]
    assert sizes[0] > 0
    assert sizes == sorted(sizes, reverse=True)
