"""Forged manifests of label sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from noisybench.data.label_sets.manifest import DIGEST, manifest_digest

Change = Callable[[dict[str, Any]], Any]


def change_manifest(folder: Path, change: Change) -> None:
    """Change the manifest of a label set as with an editor."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def sign_manifest(folder: Path, change: Change) -> None:
    """Change the manifest of a label set, and its digest as well."""

    def sign(manifest: dict[str, Any]) -> None:
        change(manifest)
        manifest[DIGEST] = manifest_digest(manifest)

    change_manifest(folder, sign)
