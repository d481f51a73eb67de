"""A server on the loopback that speaks the Hugging Face hub's protocol, as far as fetching models needs it.

The hub answers /api/models/ORG/REPO/revision/REVISION with the commit and the files, and /ORG/REPO/resolve/COMMIT/PATH
with headers that describe a file and a redirect to its bytes: here /cdn/SHA256, which takes ranges.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from pyinfer.hub import download


@dataclass
class Repo:
    files: dict[str, bytes]
    commit: str = "c0ffee" + 34 * "0"
    in_git: frozenset[str] = frozenset()  # GGUF files that are in git itself, as other files are
    gated: bool = False


@dataclass
class Hub:
    """What the server has and how it behaves; tests change it while it runs."""

    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    cuts: list[int] = field(default_factory=list)  # the next bodies end after so many bytes
    statuses: list[int] = field(default_factory=list)  # the next answers to downloads
    token: str | None = None  # that gated repositories ask for
    ignores_ranges: bool = False
    tampered: bool = False  # the bytes sent are not those described
    pause: threading.Event | None = None  # bodies stop half way until it is set
    half_way: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""

    def downloads(self) -> list[str | None]:
        """The ranges that were asked of files' bytes so far."""
        return [headers.get("range") for method, path, headers in self.requests if path.startswith("/cdn/")]


def description(repo: Repo, name: str) -> dict[str, object]:
    siblings = [
        {
            "rfilename": path,
            "size": len(content),
            "blobId": git_sha1(content),
            **(
                {"lfs": {"sha256": sha256(content), "size": len(content), "pointerSize": 130}}
                if is_lfs(repo, path)
                else {}
            ),
        }
        for path, content in sorted(repo.files.items())
    ]
    return {"id": name, "modelId": name, "sha": repo.commit, "tags": [], "downloads": 0, "siblings": siblings}


def is_lfs(repo: Repo, path: str) -> bool:
    """Whether a file is in large-file storage."""
    return path.endswith(".gguf") and path not in repo.in_git


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, {key.lower(): value for key, value in self.headers.items()}))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            repo = self.hub.repos.get(match[1])
            if repo is None:
                self.error(401, "RepoNotFound", "Invalid username or password.")
            else:
                body = json.dumps(description(repo, match[1])).encode()
                self.reply(200, {"Content-Type": "application/json"}, body)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self.resolve(match[1], match[2])
        elif match := re.fullmatch(r"/cdn/([0-9a-f]+)", path):
            self.send_blob(match[1])
        else:
            self.error(404, "EntryNotFound", "not here")

    def resolve(self, name: str, path: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self.error(401, "RepoNotFound", "Invalid username or password.")
        elif repo.gated and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.error(401, "GatedRepo", f"Access to model {name} is restricted.")
        elif path not in repo.files:
            self.error(404, "EntryNotFound", "Entry not found")
        else:
            content = repo.files[path]
            digest = sha256(content) if is_lfs(repo, path) else git_sha1(content)
            headers = {
                "X-Repo-Commit": repo.commit,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content)),
                "ETag": f'"{digest}"',
                # another host name: what is secret must not follow there
                "Location": f"{self.hub.endpoint.replace('127.0.0.1', 'localhost')}/cdn/{digest}",
            }
            self.reply(302, headers, b"")

    def send_blob(self, digest: str) -> None:
        contents = [content for repo in self.hub.repos.values() for content in repo.files.values()]
        content = next(content for content in contents if digest in (sha256(content), git_sha1(content)))
        if self.hub.statuses:
            self.error(self.hub.statuses.pop(0), "", "try later")
            return
        if self.hub.tampered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers, status, start = {}, 200, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and not self.hub.ignores_ranges:
            start, status = int(wanted[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.reply(status, headers, content[start:])

    def error(self, status: int, code: str, message: str) -> None:
        self.reply(status, {"X-Error-Code": code, "X-Error-Message": message}, json.dumps({"error": message}).encode())

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if status in (200, 206) and "Content-Type" not in headers:  # a file
            if self.hub.cuts:
                self.wfile.write(body[: self.hub.cuts.pop(0)])
                self.close_connection = True
                return
            if self.hub.pause is not None:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.hub.half_way.set()
                self.hub.pause.wait(20)
                body = body[len(body) // 2 :]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent: some tests are about clients that go away."""


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub at `endpoint`, for as long as the context lasts."""
    hub = Hub()
    server = Server(("127.0.0.1", 0), type("HandlerOfThisHub", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        if hub.pause is not None:
            hub.pause.set()
        server.shutdown()
        server.server_close()
        thread.join()


def use(hub: Hub, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make it the hub of this process, as new, with an empty cache in `folder`.

    huggingface_hub reads its variables when it is imported, so what they set is changed instead.
    """
    hub.__init__(endpoint=hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("PYINFER_CACHE", str(folder / "packaged"))


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """The variables of a process that has this hub and a cache in `folder`."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {**others, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder), "NO_PROXY": "*"}
