"""A label set keeps the license of the labels that it is made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import noisybench as nb
from noisybench.config.licenses import COMMON, License, license_name, lost_conditions, restrictions
from noisybench.config.registry import get_entry
from noisybench.data.dataset import Dataset
from noisybench.data.label_sets import label_files
from noisybench.errors import UserError
from noisybench.sharing.licensing import Source, check_license, sources_of
from noisybench.sharing.transfer import read_published_card
from tests.helpers import toy_dataset


@pytest.mark.parametrize("text", ["cc-by-4.0", "CC-BY-4.0", " Cc-By-4.0 "])
def test_licenses_are_found_in_any_case(text: str) -> None:
    assert license_name(text) == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("cc-by-40", "did you mean `CC-BY-4.0`"), ("CC BY NC 4.0", "did you mean `CC-BY-NC-4.0`"), ("mitt", "did you mean `MIT`"),
        ("apache2", "did you mean `Apache-2.0`"), ("LicenseRef-mine", "or `other` or `unknown`"), ("my own", "for example"),
        ("unknow", "did you mean `unknown`"),
    ],
)  # fmt: skip
def test_an_unknown_license_gets_the_nearest_names(text: str, hint: str) -> None:
    with pytest.raises(UserError, match=r"^--license: unknown license") as error:
        license_name(text)
    assert hint in str(error.value)


def test_the_conditions_of_all_suggested_licenses_are_known() -> None:
    assert [name for name in COMMON if license_name(name) != name or restrictions(name) is None] == []


@pytest.mark.parametrize(
    ("chosen", "source", "lost"),
    [
        ("CC-BY-NC-4.0", "CC-BY-NC-4.0", ()),
        ("CC-BY-4.0", "CC-BY-NC-4.0", ("no commercial use",)),
        ("CC0-1.0", "CC-BY-NC-ND-4.0", ("attribution", "no changed copies", "no commercial use")),
        ("CC-BY-NC-4.0", "CC-BY-4.0", ()),
        ("CC-BY-4.0", "CC0-1.0", ()),
        ("CC0-1.0", "MIT", ("attribution",)),
        ("CC-BY-4.0", "MIT", ()),
        # Of those licenses that demand the same license, nothing else will do.
        ("CC-BY-4.0", "CC-BY-SA-4.0", ("the same license for changed copies",)),
        ("CC-BY-SA-3.0", "CC-BY-SA-4.0", ("the same license for changed copies",)),
        ("CC-BY-NC-SA-4.0", "CC-BY-SA-4.0", ("the same license for changed copies",)),
        ("unknown", "CC-BY-4.0", None),
        ("other", "CC-BY-4.0", None),
        ("Elastic-2.0", "CC-BY-4.0", None),
    ],
)
def test_conditions_that_a_license_drops(chosen: str, source: str, lost: tuple[str, ...] | None) -> None:
    assert lost_conditions(chosen, source) == lost


def _human(folder: Path) -> tuple[Path, Dataset]:
    """Return a label set of human annotations of CIFAR-10, in miniature."""
    dataset = replace(toy_dataset(), name="cifar10")
    model = get_entry("noise_models", "human").load_class()
    labels = model(**model.example(dataset, folder)).apply(dataset)
    return label_files.save(labels, dataset, folder / "labels"), dataset


def test_human_annotations_are_published_only_under_their_own_license(tmp_path: Path) -> None:
    folder, _ = _human(tmp_path)
    for license, message in (
        ("cc-by-4.0", "CC-BY-4.0 is more permissive than CC-BY-NC-4.0 of the labels of `human`"),
        ("mit", "drops no commercial use"),
        ("unknown", "cannot be compared with CC-BY-NC-4.0"),
        ("", "is missing; .*such as --license cc-by-nc-4.0"),
    ):
        with pytest.raises(UserError, match=message):
            nb.push_label_set(folder, "shared", license=license)
    assert not Path("shared").exists()
    nb.push_label_set(folder, "shared", license="cc-by-nc-4.0")
    card = read_published_card(nb.pull_label_set("shared", "copy"))
    assert card is not None
    assert card.license == "CC-BY-NC-4.0"
    assert "CC-BY-NC-4.0, https://github.com/UCSC-REAL/cifar-10-100n" in card.sources["labels of `human`"]
    assert "not stated" in card.sources["labels of `cifar10`"]


def test_a_published_license_stays_with_the_copies(tmp_path: Path) -> None:
    dataset = toy_dataset()
    labels = get_entry("noise_models", "pair_flip").load_class()().apply(dataset)
    label_files.save(labels, dataset, tmp_path / "labels")
    nb.push_label_set(tmp_path / "labels", "shared", license="cc-by-sa-4.0", source="crowd", citation="Ann 2026")
    copy = nb.pull_label_set("shared", "copy")
    with pytest.raises(
        UserError, match=r"CC-BY-4.0 is more permissive than CC-BY-SA-4.0 of the labels as they were published"
    ):
        nb.push_label_set(copy, "again", license="cc-by-4.0")
    nb.push_label_set(copy, "again", license="cc-by-sa-4.0")
    card = read_published_card(Path("again"))
    assert card is not None
    assert (card.source, card.citation) == ("crowd", "Ann 2026")
    nb.push_label_set(tmp_path / "labels", "nameless", license="unknown")
    with pytest.raises(UserError, match=r"MIT cannot be compared with unknown .* use --license unknown"):
        nb.push_label_set(nb.pull_label_set("nameless", "taken"), "again", license="mit", replace=True)


def test_custom_terms_have_no_other_name() -> None:
    sources = sources_of({"dataset": {"name": "svhn"}, "noise": {"name": "symmetric_inclusive"}})
    with pytest.raises(
        UserError, match=r"have terms of their own \(no commercial use; http://ufldl.*use --license other"
    ):
        check_license("cc-by-4.0", sources)
    assert check_license("other", sources) == "other"


def test_data_of_the_user_and_data_without_a_license_bind_nothing() -> None:
    for dataset in ("image_folder", "traced_integers", "cifar10", "of a plug-in"):
        sources = sources_of({"dataset": {"name": dataset}, "noise": {"name": "pair_flip"}})
        assert check_license("cc0-1.0", sources) == "CC0-1.0"
        assert check_license("unknown", sources) == "unknown"


def test_every_source_is_checked() -> None:
    sources = [Source("labels of `a`", License("MIT")), Source("labels of `b`", License("CC-BY-NC-4.0"))]
    with pytest.raises(UserError, match="of the labels of `b`"):
        check_license("mit", sources)
