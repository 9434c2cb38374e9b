"""Exports of runs that are changed in ways which their digests do not reveal, or that hold hostile members."""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Mutate = Callable[[Any], Any]
"""Returns a changed tree of mappings and lists."""


def mutate_export(path: Path, rng: random.Random, mutate: Mutate) -> None:
    """Change the manifest of an export, the content of a JSON file together with its digest, or the name of a member."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    kind = rng.choice(["manifest", "content", "content", "name"])
    if kind == "manifest":
        manifest = mutate(manifest)
    elif kind == "content":
        name = rng.choice([name for name in members if name.endswith(("/run.json", "/record.json"))])
        replace_content(manifest, members, name, json.dumps(mutate(json.loads(members[name]))).encode())
    else:
        name = rng.choice(sorted(members))
        renamed = rng.choice(["../../x", "/x", "x/../y", "C:\\x", "manifest.json", "x\x00y", "é", "n" * 300])
        members[renamed] = members.pop(name)
        manifest = json.loads(json.dumps(manifest).replace(json.dumps(name), json.dumps(renamed)))
    if kind != "name" or "manifest.json" in members:
        members["manifest.json"] = json.dumps(manifest).encode()
    write_archive(path, members)


def replace_content(manifest: dict[str, Any], members: dict[str, bytes], name: str, data: bytes) -> None:
    """Replace a whole member of an export, with a manifest that agrees."""
    (member,) = (member for member in manifest["members"] if member["name"] == name)
    old, new = member["sha256"], hashlib.sha256(data).hexdigest()
    members[name] = data
    member.update(sha256=new, size=len(data))
    manifest["sizes"][new] = len(data)
    if all(other["sha256"] != old for other in manifest["members"]):
        del manifest["sizes"][old]
    for item in manifest["items"]:
        item["files"] = {path: new if digest == old else digest for path, digest in item["files"].items()}


def write_archive(path: Path, members: dict[str, bytes]) -> None:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
