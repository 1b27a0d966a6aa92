"""Another hub, as far as an import or a mirror asks it, that can be told to misbehave.

By hand: `python -m tests.sim.upstream`.

`faults` says what is wrong with which path's bytes: `cut` (after so many bytes, so many times), `digest` (others than
were announced), `endless`, `elsewhere` (a redirect there), `busy` (429, so many times), `ranges` (Range is not heard).
`asked` counts what was asked for, `ranges` which ranges.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
LARGE = ".bin"  # files that are told of by their SHA-256, as Git LFS does; others by git's name for them


@dataclass
class Upstream:
    files: dict[str, bytes]
    repo: str = "north/thing"
    license: Any = "cc-by-4.0"
    private: bool = False
    gated: Any = False
    sha: str = COMMIT
    alive: bool = True
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    token: str | None = None
    url: str = ""

    def info(self) -> dict[str, Any]:
        card = {"license": self.license} if self.license else {}
        siblings = [{"rfilename": path} for path in self.files]
        return {
            "id": self.repo, "sha": self.sha, "private": self.private, "gated": self.gated, "cardData": card,
            "siblings": siblings, "tags": [],
        }  # fmt: skip

    def tree(self) -> list[dict[str, Any]]:
        return [self.entry(path, content) for path, content in self.files.items()]

    def entry(self, path: str, content: bytes) -> dict[str, Any]:
        told = {"type": "file", "path": path, "size": len(content), "oid": git_name(content)}
        if path.endswith(LARGE):
            told["lfs"] = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return told


def git_name(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def serving(upstream: Upstream) -> Iterator[Upstream]:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            upstream.asked[path] += 1
            if not upstream.alive:
                return self.say(503, {})
            if upstream.token and self.headers.get("authorization") != f"Bearer {upstream.token}":
                return self.say(401, {})
            for kind in ("models", "datasets"):
                if path.startswith(f"/api/{kind}/{upstream.repo}/tree/"):
                    return self.say(200, upstream.tree())
                if path in (f"/api/{kind}/{upstream.repo}/refs",):
                    ref = {"name": "main", "ref": "refs/heads/main", "targetCommit": upstream.sha}
                    return self.say(200, {"branches": [ref], "tags": [], "converts": []})
                if path == f"/api/{kind}/{upstream.repo}" or path.startswith(f"/api/{kind}/{upstream.repo}/revision/"):
                    return self.say(200, upstream.info())
            mark = f"/{upstream.repo}/resolve/"
            if mark in path:
                name = path.split(mark, 1)[1].partition("/")[2]
                if name in upstream.files:
                    return self.give(name)
            return self.say(404, {"error": "no such thing"})

        do_HEAD = do_GET

        def say(self, status: int, document: Any, **headers: str) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {
                "content-type": "application/json",
                "content-length": str(len(content)),
                **headers,
            }.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def give(self, name: str) -> None:
            content, fault = upstream.files[name], upstream.faults.get(name, {})
            if fault.get("busy", 0) > 0:
                fault["busy"] -= 1
                return self.say(429, {}, retry_after="1")
            if "elsewhere" in fault:
                self.send_response(302)
                self.send_header("location", fault["elsewhere"])
                self.send_header("content-length", "0")
                self.end_headers()
                return None
            if fault.get("digest"):
                content = bytes(byte ^ 1 for byte in content)
            asked, start = self.headers.get("range"), 0
            if asked:
                upstream.ranges.append(f"{name} {asked}")
            if asked and not fault.get("ranges"):
                start = int(asked.removeprefix("bytes=").split("-")[0])
            right = upstream.files[name]
            etag = sha256(right).hexdigest() if name.endswith(LARGE) else git_name(right)
            self.send_response(206 if start else 200)
            self.send_header("etag", f'"{etag}"')
            self.send_header("x-repo-commit", upstream.sha)
            self.send_header("content-type", "application/octet-stream")
            if name.endswith(LARGE):
                self.send_header("x-linked-etag", f'"{etag}"')
                self.send_header("x-linked-size", str(len(right)))
            if start:
                self.send_header("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if fault.get("endless"):
                self.send_header("connection", "close")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while self.command != "HEAD":
                        self.wfile.write(b"x" * 65536)
                self.close_connection = True
                return None
            self.send_header("content-length", str(len(content) - start))
            self.end_headers()
            if self.command == "HEAD":
                return None
            rest = content[start:]
            if fault.get("cut", [0])[0] and len(rest) > fault["cut"][1]:
                fault["cut"][0] -= 1
                self.wfile.write(rest[: fault["cut"][1]])
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True
                return None
            with contextlib.suppress(OSError):
                for at in range(0, len(rest), 65536):
                    if "gate" in fault and at >= fault.get("gate_at", 0):
                        fault["gate"].wait(30)
                    self.wfile.write(rest[at : at + 65536])
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.daemon_threads = True
    upstream.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serving(Upstream({"README.md": b"---\nlicense: cc-by-4.0\n---\n", "a.bin": bytes(1 << 20)})) as made:
        print(made.url)  # noqa: T201
        threading.Event().wait()
