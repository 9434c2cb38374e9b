"""Servers of one test: files over HTTP, and a stand-in for the part of the Hugging Face Hub's API that its client uses."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


@contextlib.contextmanager
def _running(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def file_server(folder: Path) -> contextlib.AbstractContextManager[str]:
    """Serve a folder, and yield its address."""
    return _running(partial(_Quiet, directory=str(folder)))


class Hub:
    """Datasets of the stand-in.

    Attributes:
        commits: files by path of each commit of a dataset, the last one last, by name.
        denied: names of datasets that need another login.
    """

    def __init__(self) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.denied: set[str] = set()

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit of a revision and its files; None if there is none."""
        for number, files in reversed(list(enumerate(self.commits.get(name, ())))):
            commit = hashlib.sha1(f"{name} {number}".encode()).hexdigest()
            if revision in ("main", commit):
                return commit, files
        return None

    def serve(self) -> contextlib.AbstractContextManager[str]:
        """Serve the datasets, and yield the address for HF_ENDPOINT."""
        hub = self

        class Handler(_HubHandler):
            datasets = hub

        return _running(Handler)


class _HubHandler(BaseHTTPRequestHandler):
    datasets: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""

    def do_GET(self) -> None:
        """Answer with the description of a dataset, or with one of its files."""
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path):
            self._describe(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)", self.path):
            found = self.datasets.files(match[1], match[2])
            if found is None or match[3] not in found[1]:
                self._fail(404, "EntryNotFound")
            else:
                self._answer(found[1][match[3]], "application/octet-stream", {"X-Repo-Commit": found[0]})
        else:
            self._fail(404, "RepoNotFound")

    def do_POST(self) -> None:
        """Create a dataset, list files with their sizes, or take a commit."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/validate-yaml":
            self._answer_json({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}" if request.get("organization") else request["name"]
            known = name in self.datasets.commits
            self.datasets.commits.setdefault(name, [{".gitattributes": b""}])
            self._answer_json({"url": f"http://{self.headers['Host']}/datasets/{name}"}, 409 if known else 200)
        elif match := re.fullmatch(
            r"/api/datasets/([^/]+/[^/]+)/(preupload|commit|paths-info)/([^?]+)(?:\?.*)?", self.path
        ):
            getattr(self, f"_{match[2].replace('-', '_')}")(match[1], match[3], body)
        else:
            self._fail(404, "RepoNotFound")

    def _describe(self, name: str, revision: str) -> None:
        found = self.datasets.files(name, revision)
        if name in self.datasets.denied:
            self._fail(403, "GatedRepo")
        elif found is None:
            self._fail(404, "RevisionNotFound" if name in self.datasets.commits else "RepoNotFound")
        else:
            siblings = [{"rfilename": path} for path in found[1]]
            self._answer_json({"id": name, "sha": found[0], "siblings": siblings, "private": False, "tags": []})

    def _preupload(self, name: str, revision: str, body: bytes) -> None:
        files = json.loads(body)["files"]
        answers = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
        self._answer_json({"files": answers})

    def _commit(self, name: str, revision: str, body: bytes) -> None:
        files = dict(self.datasets.commits[name][-1])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.datasets.commits[name].append(files)
        found = self.datasets.files(name, "main")
        assert found is not None
        url = f"http://{self.headers['Host']}/datasets/{name}/commit/{found[0]}"
        self._answer_json({"success": True, "commitOid": found[0], "commitUrl": url, "hookOutput": ""})

    def _paths_info(self, name: str, revision: str, body: bytes) -> None:
        found = self.datasets.files(name, revision)
        assert found is not None
        paths = [
            part for part in (json.loads(body)["paths"] if body.startswith(b"{") else _form(body)) if part in found[1]
        ]
        self._answer_json(
            [{"type": "file", "path": path, "size": len(found[1][path]), "oid": "0" * 40} for path in paths]
        )

    def _fail(self, status: int, code: str) -> None:
        self._answer(b"{}", "application/json", {"X-Error-Code": code}, status)

    def _answer_json(self, content: Any, status: int = 200) -> None:
        self._answer(json.dumps(content).encode(), "application/json", {}, status)

    def _answer(self, body: bytes, kind: str, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _form(body: bytes) -> list[str]:
    from urllib.parse import parse_qs

    return parse_qs(body.decode()).get("paths", [])
