"""A small stand-in for the Hugging Face hub on 127.0.0.1: what huggingface_hub asks for, and every way in which it can fail.

It answers lists of files, and files with `HEAD`, ranges and the hub's own headers: small ones by a redirect to another path,
large ones by a redirect to a content store, as the hub does.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".ckpt", ".model")
"""Kept in the content store."""


@dataclass
class Answer:
    """What a request is answered with instead of what it asks for."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Request:
    """One that was made."""

    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


def error(status: int, code: str | None = None, message: str | None = None, **headers: str) -> Answer:
    """An answer as the hub gives it when it refuses."""
    named = {"X-Error-Code": code, "X-Error-Message": message} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    body = json.dumps({"error": message}).encode() if message else b""
    return Answer(status, {name: text for name, text in named.items() if text} | {"Content-Type": "application/json"}, body)


class StandIn:
    """The hub.

    Attributes:
        url: Its address, for `HF_ENDPOINT`.
        store: Address of the content store.
        requests: Everything that was asked.
        intercept: Called with each request; its answer, if it gives one, is sent instead.
        cut: Called with each request for a file's content; after so many bytes the connection breaks off. None: whole.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.renamed: dict[str, str] = {}
        self.revisions: dict[str, set[str]] = {}
        self.requests: list[Request] = []
        self.intercept: Callable[[Request], Answer | None] = lambda request: None
        self.cut: Callable[[Request], int | None] = lambda request: None
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments) -> None:
                pass

            def do_GET(self) -> None:
                stand_in._answer(self)

            def do_HEAD(self) -> None:
                stand_in._answer(self)

        # Two, because large files come from another host, which must not get the token.
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
        hosts = ("127.0.0.1", "localhost")
        self.url, self.store = (
            f"http://{host}:{server.server_address[1]}" for host, server in zip(hosts, self._servers, strict=True)
        )
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def add(self, repository: str, source: Path | dict[str, bytes], revisions: tuple[str, ...] = ("main",)) -> str:
        """Put a folder's files, or files as they are, into a repository; the commit that they get."""
        if isinstance(source, Path):
            source = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
        self.repositories[repository] = source
        self.revisions[repository] = {*revisions, self.commit(repository)}
        return self.commit(repository)

    def commit(self, repository: str) -> str:
        digest = hashlib.sha1(repository.encode())
        for name, content in sorted(self.repositories[repository].items()):
            digest.update(name.encode() + hashlib.sha1(content).digest())
        return digest.hexdigest()

    def close(self) -> None:
        """Stop listening: the connection is refused from here on."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def asked(self, part: str, method: str | None = None) -> list[Request]:
        """Requests whose path holds a text."""
        return [request for request in self.requests if part in request.path and method in (None, request.method)]

    def bytes_of(self, part: str) -> int:
        """How much was sent in answer to them."""
        return sum(request.sent for request in self.asked(part))

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        request = Request(handler.command, handler.path, {name.lower(): text for name, text in handler.headers.items()})
        self.requests.append(request)
        answer = self.intercept(request) or self._found(request)
        body = answer.body
        handler.send_response(answer.status)
        headers = {"Content-Length": str(len(body)), "Connection": "close"} | answer.headers
        for name, text in headers.items():
            handler.send_header(name, text)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        cut = self.cut(request) if "/content/" in request.path or "/resolve-cache/" in request.path else None
        body = body if cut is None else body[:cut]
        try:
            handler.wfile.write(body)
            handler.wfile.flush()
            request.sent = len(body)
        except OSError:
            pass
        handler.close_connection = True

    def _found(self, request: Request) -> Answer:
        parts = urlsplit(request.path)
        path = unquote(parts.path).strip("/")
        if path.startswith("content/"):
            return self._content(path.removeprefix("content/"), request)
        if path.startswith("api/resolve-cache/models/"):
            owner, name, commit, file = path.removeprefix("api/resolve-cache/models/").split("/", 3)
            return self._small(f"{owner}/{name}", commit, file, request)
        if path.startswith("api/models/"):
            repository, _, revision = path.removeprefix("api/models/").partition("/revision/")
            if repository in self.renamed:
                return Answer(307, {"Location": f"/api/models/{self.renamed[repository]}?{parts.query}"})
            return self._list(repository, revision or "main", "blobs" in parse_qs(parts.query))
        repository, _, rest = path.partition("/resolve/")
        if repository in self.renamed:
            return Answer(307, {"Location": f"/{self.renamed[repository]}/resolve/{rest}"})
        return self._resolve(repository, rest)

    def _missing(self, repository: str, revision: str) -> Answer | None:
        if repository not in self.repositories:
            return error(404, "RepoNotFound", "Repository not found")
        if revision not in self.revisions[repository]:
            return error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _list(self, repository: str, revision: str, described: bool) -> Answer:
        if missing := self._missing(repository, revision):
            return missing
        siblings = []
        for name, content in self.repositories[repository].items():
            entry: dict[str, object] = {"rfilename": name}
            if described:
                entry |= {"size": len(content), "blobId": _git(content)}
                if name.endswith(LARGE):
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        data = {
            "_id": "1",
            "id": repository,
            "modelId": repository,
            "sha": self.commit(repository),
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": siblings,
        }
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(data).encode())

    def _resolve(self, repository: str, rest: str) -> Answer:
        revisions = sorted((r for r in self.revisions.get(repository, ()) if rest.startswith(f"{r}/")), key=len)
        revision, name = (revisions[-1], rest.removeprefix(f"{revisions[-1]}/")) if revisions else rest.split("/", 1)
        if missing := self._missing(repository, revision):
            return missing
        commit = self.commit(repository)
        if name not in self.repositories[repository]:
            return error(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        content = self.repositories[repository][name]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes", "X-Linked-Size": str(len(content))}
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            location = f"{self.store}/content/{digest}"
            return Answer(302, headers | {"X-Linked-ETag": f'"{digest}"', "Location": location})
        location = f"/api/resolve-cache/models/{repository}/{commit}/{name}"
        return Answer(307, headers | {"X-Linked-ETag": f'"{_git(content)}"', "Location": location})

    def _small(self, repository: str, commit: str, name: str, request: Request) -> Answer:
        content = self.repositories[repository][name]
        return _part(content, request, {"X-Repo-Commit": commit, "ETag": f'"{_git(content)}"'})

    def _content(self, digest: str, request: Request) -> Answer:
        for files in self.repositories.values():
            for content in files.values():
                if hashlib.sha256(content).hexdigest() == digest:
                    return _part(content, request, {"ETag": f'"{digest}"'})
        return error(404)


def _part(content: bytes, request: Request, headers: dict[str, str]) -> Answer:
    headers = headers | {"Accept-Ranges": "bytes"}
    wanted = request.headers.get("range")
    if request.method == "HEAD":
        return Answer(200, headers | {"Content-Length": str(len(content))})
    if wanted is None:
        return Answer(200, headers, content)
    start = int(wanted.removeprefix("bytes=").split("-")[0])
    if start >= len(content):
        return Answer(416, headers | {"Content-Range": f"bytes */{len(content)}"})
    return Answer(206, headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}, content[start:])


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def running() -> Iterator[StandIn]:
    stand_in = StandIn()
    try:
        yield stand_in
    finally:
        stand_in.close()
