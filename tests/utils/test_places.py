"""Paths that users name."""

from __future__ import annotations

from pathlib import Path

import pytest

from noisybench.errors import UserError
from noisybench.utils.places import expand_user


def test_a_folder_whose_name_starts_with_a_tilde_is_no_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~archive").mkdir()
    assert expand_user(Path("~archive/a")) == Path("~archive/a")
    assert expand_user(Path("~/a")) == Path.home() / "a"
    with pytest.raises(UserError, match="~unknown-user-name: the home folder of this user is unknown"):
        expand_user(Path("~unknown-user-name"))
