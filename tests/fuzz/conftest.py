"""Fixtures: one template of valid files for all fuzz tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.template import Template, build_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, cache: Path) -> Template:
    """Valid files that inputs start from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISYBENCH_CACHE", str(cache))
        return build_template(tmp_path_factory.mktemp("template"), empty_database)
