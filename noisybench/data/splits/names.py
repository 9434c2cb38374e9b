"""Names of splits as people write them: folders, files and columns called `train`, `Validation` or `test2017`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from noisybench.errors import UserError

Role = Literal["train", "validation", "test"]
"""Split that a name stands for."""

ROLES: tuple[Role, ...] = ("train", "validation", "test")

SPELLINGS: Mapping[Role, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval"),
    "validation": ("validation", "valid", "val", "dev", "develop", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
}
"""Words for each split. `trainval` is a training split that contains the validation examples."""

_ROLE_OF: dict[str, Role] = {word: role for role, words in SPELLINGS.items() for word in words}
_WORDS = "|".join(sorted(_ROLE_OF, key=len, reverse=True))
# A year (`train2017`), a generic noun (`Training_Set`) and the number of a shard (`train-00000-of-00004`) may follow.
_NAME = re.compile(
    rf"(?P<stem>(?P<word>{_WORDS})(?:[ _.-]?(?:sets?|data|split|folder|(?:19|20)\d\d))*)(?:[ _.-]\d+(?:-of-\d+)?)?"
)
_WITH_AFFIX = re.compile(rf"(?P<before>(?:.*[ _.-])?)(?P<word>{_WORDS})(?P<after>(?:[ _.-].*)?)")


@dataclass(frozen=True)
class NamedSplits:
    """Names sorted by the split that they stand for.

    Attributes:
        names: names of each split that occurs, in the order train, validation, test; several only for numbered shards.
        others: names that stand for no split.
    """

    names: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names)


def split_role(name: str) -> Role | None:
    """Return the split that a name stands for, whatever its case; None if it stands for none.

    Example:
        >>> [split_role(name) for name in ("Training_Set", "valid", "test2017", "train-00001-of-00004", "trains")]
        ['train', 'validation', 'test', 'train', None]
    """
    match = _NAME.fullmatch(name.strip().lower())
    return _ROLE_OF[match["word"]] if match else None


def find_splits(names: Iterable[str], location: str) -> NamedSplits:
    """Sort the names of folders, or of files without their suffixes, by the split that they stand for.

    A word such as `train` inside of a longer name counts only if another name differs from it in this word alone:
    `seg_train` and `seg_test` are splits, `bullet_train` beside `bus` is not.

    Args:
        names: all names beside each other.
        location: beginning of the error message, such as ``dataset.root: photographs``.

    Raises:
        UserError: two spellings stand for one split, such as `val` and `valid`.

    Example:
        >>> find_splits(["Train", "valid", "extra"], "dataset.root")
        NamedSplits(names={'train': ('Train',), 'validation': ('valid',)}, others=('extra',))
        >>> dict(find_splits(["test-0-of-1", "train-0-of-2", "train-1-of-2"], "dataset.root").names)
        {'train': ('train-0-of-2', 'train-1-of-2'), 'test': ('test-0-of-1',)}
        >>> find_splits(["val", "valid"], "dataset.root")
        Traceback (most recent call last):
        noisybench.errors.UserError: dataset.root: `val` and `valid` both stand for the validation split; rename or ...
    """
    listed = sorted(names)
    roles = {name: role for name in listed if (role := split_role(name))}
    if not roles:
        roles = _roles_with_affix(listed)
    found = {
        role: tuple(name for name in listed if roles.get(name) == role) for role in ROLES if role in roles.values()
    }
    for role, members in found.items():
        spellings = {_stem(name): name for name in reversed(members)}
        if len(spellings) > 1:
            both = " and ".join(f"`{name}`" for name in sorted(spellings.values()))
            raise UserError(f"{location}: {both} both stand for the {role} split; rename or remove all but one")
    return NamedSplits(found, tuple(name for name in listed if name not in roles))


def _roles_with_affix(names: list[str]) -> dict[str, Role]:
    """Return the split of each name that another name differs from in the word for the split alone."""
    by_affix: dict[tuple[str, str], dict[str, Role]] = {}
    for name in names:
        if match := _WITH_AFFIX.fullmatch(name.lower()):
            by_affix.setdefault((match["before"], match["after"]), {})[name] = _ROLE_OF[match["word"]]
    return {
        name: role for members in by_affix.values() if len(set(members.values())) > 1 for name, role in members.items()
    }


def _stem(name: str) -> str:
    """Return a name without the number of its shard."""
    match = _NAME.fullmatch(name.strip().lower())
    # Case counts: `Train` beside `train` are two spellings.
    return name.strip()[: len(match["stem"])] if match else name
