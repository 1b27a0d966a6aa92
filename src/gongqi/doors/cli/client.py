"""A small HTTP client of the public API: what the command line, the tour and anyone else may use; no back door."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gongqi.kernel.config import Settings
from gongqi.kernel.errors import GongqiError, Refused, Unavailable

TIMEOUT_SECONDS = 60.0
MAX_TRIES = 6  # of a request that may be repeated safely, while the server says "not now"
FIRST_PAUSE_SECONDS = 0.2  # doubled after each try
CHUNK_BYTES = 1 << 20


class Problem(GongqiError):
    """The server's RFC 9457 document, raised with its own words."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(str(document.get("code", "kernel.broken")), **(document.get("params") or {}))
        self.document = document


class Client:
    """Speaks as one principal. Every write carries an Idempotency-Key, so that a retry never acts twice."""

    def __init__(self, url: str, token: str | None, *, language: str = "en") -> None:
        headers = {"accept-language": language, "accept": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        try:
            self.http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)
        except httpx.InvalidURL as error:
            raise Refused("cli.url-invalid", url=url[:200]) from error
        if self.http.base_url.scheme not in ("http", "https") or not self.http.base_url.host:
            raise Refused("cli.url-invalid", url=url[:200])

    @classmethod
    def from_environment(cls, *, language: str) -> Client:
        """`GONGQI_URL` and `GONGQI_TOKEN`, else the server and the operator of this home."""
        settings = Settings.from_environment()
        token = os.environ.get("GONGQI_TOKEN")
        file = settings.home / "operator.token"
        if not token and file.exists():
            token = file.read_text("ascii").strip()
        return cls(os.environ.get("GONGQI_URL") or settings.origin, token, language=language)

    def verb(
        self, name: str, /, *, key: str | None = None, if_match: str | None = None, **input: Any
    ) -> dict[str, Any]:
        headers = {"idempotency-key": key or secrets.token_urlsafe(18)}
        if if_match:
            headers["if-match"] = if_match
        path = "/api/v1/" + name.replace(":", "/")
        return self._json(lambda: self.http.post(path, json=input, headers=headers))

    def sign_in(self, handle: str, password: str) -> dict[str, Any]:
        """Begin a session by password; its `secret` is a token for another client."""
        sent = {"handle": handle, "password": password}
        return self._json(lambda: self.http.post("/api/v1/members/signin/password", json=sent))

    def read(self, name: str, key: str | None = None, /, **params: Any) -> dict[str, Any]:
        room, noun, word = name.split(":")
        tail = {"list": "", "get": f"/{quote(key or '', safe='')}"}.get(word, f"/{word}")
        params = {name: value for name, value in params.items() if value is not None}
        return self._json(lambda: self.http.get(f"/api/v1/{room}/{noun}{tail}", params=params))

    def every(self, name: str, /, **params: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        cursor = None
        while True:
            page = self.read(name, cursor=cursor, **params)
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def upload(self, file: Path, *, org: str, path: str) -> str:
        """Send one file's bytes; returns their SHA-256. Bytes the server already holds for `org` are not kept twice."""
        digest = hashlib.sha256()
        with file.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
        sha256 = digest.hexdigest()

        def send() -> httpx.Response:
            headers = {"content-length": str(file.stat().st_size)}
            with file.open("rb") as body:
                chunks = iter(lambda: body.read(CHUNK_BYTES), b"")
                params = {"org": org, "path": path}
                return self.http.put(f"/api/v1/hub/blob/{sha256}", params=params, content=chunks, headers=headers)

        self._json(send)
        return sha256

    def download(self, path: str, target: Path) -> None:
        """Fetch `path` into `target`, which appears only when it is whole."""
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        partial = target.with_name(target.name + ".partial")
        try:
            with partial.open("wb") as out, self.http.stream("GET", path) as response:
                if response.status_code >= 400:
                    response.read()
                    self._raise(response)
                for chunk in response.iter_bytes():
                    out.write(chunk)
            partial.replace(target)
        except httpx.TransportError as error:
            raise Unavailable("cli.server-unreachable", url=str(self.http.base_url)) from error
        finally:
            partial.unlink(missing_ok=True)

    def _json(self, send: Any) -> dict[str, Any]:
        for attempt in range(MAX_TRIES):
            try:
                response = send()
            except httpx.TransportError as error:
                if isinstance(error, httpx.ConnectError) or attempt == MAX_TRIES - 1:
                    raise Unavailable("cli.server-unreachable", url=str(self.http.base_url)) from error
                time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
                continue
            if response.status_code == 503 and attempt < MAX_TRIES - 1:
                time.sleep(min(5.0, float(response.headers.get("retry-after", "1"))))
                continue
            if response.status_code >= 400:
                self._raise(response)
            try:
                return response.json()
            except ValueError as error:
                raise Refused("cli.answer-unexpected", status=response.status_code) from error
        raise Unavailable("cli.server-unreachable", url=str(self.http.base_url))

    def _raise(self, response: httpx.Response) -> None:
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            raise Problem(response.json())
        raise Refused("cli.answer-unexpected", status=response.status_code)
