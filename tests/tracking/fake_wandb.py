"""A W&B server of a few lines on this machine: takes runs, remembers them, and can fall silent."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeRun:
    """What the server knows of a run."""

    settings: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def state(self) -> str:
        if self.exit_code is None:
            return "running"
        return "failed" if self.exit_code else "finished"


class FakeWandb:
    """The server; `silent` makes it accept connections and answer none."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runs: dict[str, FakeRun] = {}
        self.asked: list[str] = []
        self.silent = threading.Event()
        self.over = threading.Event()
        self.artifacts: list[dict[str, Any]] = []

    def query(self, name: str, given: Any) -> dict[str, Any]:
        self.asked.append(name)
        if name == "Viewer":
            names = {"id": "u", "entity": "me", "username": "me", "email": "", "flags": "{}"}
            return {"viewer": names | {"teams": {"edges": []}}}
        if name == "RunResumeStatus":
            return self._resumed(given["name"])
        if name == "UpsertBucket":
            return self._upserted(given)
        if name == "CreateRunFiles":
            files = [{"name": n, "uploadUrl": f"{self.url}/put"} for n in given["files"]]
            made = {"runID": given["run"], "uploadHeaders": [], "files": files}
            return {"createRunFiles": made}
        if name == "ArtifactType":
            return {"project": {"artifact": None}}
        if name == "CreateArtifact":
            self.artifacts.append(given)
            made = {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s"}}
            return {"createArtifact": {"artifact": made}}
        return {}

    def _resumed(self, name: str) -> dict[str, Any]:
        run, entity = self.runs.get(name), {"id": "e", "name": "me"}
        if run is None:
            return {"model": {"id": "p", "name": "heed", "entity": entity, "bucket": None}}
        tail = [json.dumps(run.history[-1])] if run.history else []
        bucket = {
            "id": name,
            "name": name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.settings.get("displayName"),
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "config": run.settings.get("config") or "{}",
            "tags": run.settings.get("tags") or [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {"id": "p", "name": "heed", "entity": entity, "bucket": bucket}}

    def _upserted(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["name"]
        known = name in self.runs
        run = self.runs.setdefault(name, FakeRun())
        run.settings |= {key: value for key, value in given.items() if value is not None}
        project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
        bucket = {"id": name, "name": name, "displayName": given.get("displayName")}
        bucket |= {"project": project, "config": "{}", "historyLineCount": len(run.history)}
        return {"upsertBucket": {"bucket": bucket, "inserted": not known}}

    def stream(self, name: str, given: dict[str, Any]) -> None:
        run = self.runs[name]
        for file, part in (given.get("files") or {}).items():
            rows = [json.loads(line) for line in part["content"]]
            if "history" in file:
                run.history[part["offset"] :] = rows
            elif "summary" in file:
                run.summary |= rows[-1]
        if given.get("complete"):
            run.exit_code = given["exitcode"]


class Handler(BaseHTTPRequestHandler):
    """Answers as W&B does, as far as the library asks."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        return

    def _answer(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        body, state = (
            self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            self.server.state,
        )
        if state.silent.is_set():
            state.over.wait()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") else body

    def do_POST(self) -> None:
        body, state = self._body(), self.server.state
        if self.path == "/graphql":
            asked = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._answer({"data": state.query(found[1] if found else "", asked.get("variables"))})
        elif self.path.endswith("file_stream"):
            state.stream(self.path.split("/")[-2], json.loads(body))
            self._answer({})
        else:
            self._answer({})

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_GET(self) -> None:
        self.do_PUT()


class Server(ThreadingHTTPServer):
    """On a port of its own."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = FakeWandb(f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, *_: Any) -> None:
        """A client may leave in the middle."""


@contextmanager
def fake_wandb() -> Iterator[FakeWandb]:
    """The server at work."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.state
    finally:
        server.state.over.set()
        server.shutdown()
        server.server_close()
