"""The mirror at the door for Hugging Face clients: what is not here is asked for at the hub that this one stands in for.

Names of organisations that are at home here are never passed on, whatever is or is not to be seen under them. A
repository is passed on only while the other side shows it to everybody, neither private nor gated nor taken down: that is
asked at most FRESH_SECONDS ago, whatever else of it is kept. The caller's token goes nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.room import Kernel
from gongqi.members import service as members
from gongqi.resources.hub.downloads import BINARY, range_within, send_blob
from gongqi.resources.hub.elsewhere import mirroring
from gongqi.resources.hub.elsewhere.outside import Outside, check
from gongqi.resources.hub.elsewhere.shared import Fetch, Fetches
from gongqi.resources.hub.elsewhere.sources import way_to
from gongqi.resources.hub.elsewhere.upstream import API, PREFIX, place_of
from gongqi.resources.hub.foreign import MirroredAnswer, Source
from gongqi.resources.hub.inspection import Inspected
from gongqi.resources.hub.rules import check_path

MIRROR = "x-gongqi-mirror"  # on every answer that was passed on: from where, and how old when it is stale
ADDRESS = 1000
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_SHOWN = re.compile(r"/api/(models|datasets)/[^/]+/[^/]+(/revision/.+|/tree/.+|/refs|/commits/.+)?")


@dataclass(frozen=True, slots=True)
class Passing:
    """One request for a repository that is not here."""

    request: Request
    kernel: Kernel
    source: Source
    outside: Outside
    kind: str
    repo: str

    @property
    def key(self) -> str:
        """What the repository is called among all kinds."""
        return PREFIX[self.kind] + self.repo

    def answer(self) -> Response | None:
        """The other side's answer, or None where it has none for everybody."""
        shown, age = self._kept(f"/api/{API[self.kind]}/{self.repo}")
        if shown is None or not _is_open(orjson.loads(shown.content)):
            if self.kernel.look(lambda ctx: mirroring.has_anything(ctx, self.source.id, self.key)):
                self.kernel.transact(lambda ctx: mirroring.forget_repo(ctx, self.source, self.key), reason="mirror")
            return None
        path = self.request.scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
        if f"/{self.key}/resolve/" in path:
            name = path.split("/resolve/", 1)[1].partition("/")[0]
            return self._file(name, self.request.path_params["rest"].partition("/")[2], age)
        if not _SHOWN.fullmatch(path):
            return None
        query = self.request.url.query
        found, age = self._kept((path + (f"?{query}" if query else ""))[:ADDRESS])
        if found is None:
            return None
        headers = self._headers(age)
        if found.link:
            headers["link"] = found.link.replace(self.source.endpoint, str(self.request.base_url).rstrip("/"))
        return Response(found.content, headers=headers, media_type="application/json")

    # ---- what is said of a repository

    def _kept(self, address: str) -> tuple[MirroredAnswer | None, float]:
        """An answer, fresh or, while the other side cannot be reached, as it was; and how many seconds old it is then.

        Raises Unavailable hub.source-unreachable when there is none.
        """
        now = self.kernel.clock.now()
        kept = self.kernel.look(lambda ctx: mirroring.answer_kept(ctx, self.source.id, address))
        if kept and mirroring.is_fresh(kept, now):
            return kept, 0
        try:
            answer, content = self.outside.read(address)
            check(answer)
        except Unavailable:
            if kept and mirroring.is_usable(kept, now):
                return kept, (now - kept.at).total_seconds()
            raise
        except Refused:
            return None, 0
        link = answer.headers.get("link")
        given = {"repo": self.key, "content": content, "link": link}
        self.kernel.transact(lambda ctx: mirroring.keep_answer(ctx, self.source.id, address, **given), reason="mirror")
        return MirroredAnswer(source=self.source.id, address=address, at=now, **given), 0

    def _commit(self, name: str) -> str | None:
        if _COMMIT.fullmatch(name):
            return name
        found, _ = self._kept(f"/api/{API[self.kind]}/{self.repo}/revision/{name}")
        said = orjson.loads(found.content).get("sha") if found else None
        return said if isinstance(said, str) and _COMMIT.fullmatch(said) else None

    def _headers(self, age: float) -> dict[str, str]:
        return {MIRROR: f"{self.source.endpoint}; stale={int(age)}" if age else self.source.endpoint}

    # ---- a file

    def _file(self, name: str, path: str, age: float) -> Response | None:
        commit = self._commit(name)
        if commit is None:
            return None
        check_path(path)
        where = (self.source.id, self.key, commit, path)
        kept = self.kernel.look(lambda ctx: mirroring.file_kept(ctx, *where))
        if kept:
            if mirroring.is_used_long_ago(kept, self.kernel.clock.now()):
                self.kernel.transact(lambda ctx: mirroring.note_use(ctx, kept), reason="mirror")
            headers = self._file_headers(commit, kept.claim, kept.size, age)
            return send_blob(self.request, self.kernel, kept.sha256, headers)
        place = place_of(self.kind, self.repo, commit, path)
        with self.outside.ask(place, method="HEAD", follow=False) as answer:
            if answer.status == 404:
                headers = {"x-repo-commit": commit, "x-error-code": "EntryNotFound", **self._headers(age)}
                return Response(b"{}", 404, headers, media_type="application/json")
            if not 300 <= answer.status < 400:
                check(answer)
            claim, size = _announced(answer.headers)
        headers = self._file_headers(commit, claim, size, age)
        if self.request.method == "HEAD" or size == 0:
            return Response(b"", headers={**headers, "content-length": str(size)}, media_type=BINARY)

        def keep(sha256: str, seen: Inspected) -> None:
            self.kernel.transact(
                lambda ctx: mirroring.keep_file(ctx, *where, claim=claim, sha256=sha256, seen=seen), reason="mirror"
            )

        fetch = Fetch(self.kernel, self.outside, place, path, size, claim, keep)
        fetch = self.kernel.parts.setdefault(Fetches, Fetches()).join(fetch)
        start, end = range_within(self.request.headers.get("range"), size) or (0, size)
        if start >= end:
            return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
        status = 200 if (start, end) == (0, size) else 206
        if status == 206:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        headers["content-length"] = str(end - start)
        return StreamingResponse(fetch.chunks(start, end), status, headers, media_type=BINARY)

    def _file_headers(self, commit: str, claim: str, size: int, age: float) -> dict[str, str]:
        etag = f'"{claim.partition(":")[2]}"'
        linked = {"x-linked-etag": etag, "x-linked-size": str(size)} if claim.startswith("sha256:") else {}
        return {"etag": etag, "x-repo-commit": commit, "accept-ranges": "bytes", **linked, **self._headers(age)}


def passed_on(request: Request, kernel: Kernel, kind: str) -> Response | None:
    """The answer of the hub that this one stands in for; None when there is none, or none for everybody."""
    org, slug = request.path_params.get("org"), request.path_params.get("slug")
    if not org or not slug or request.method not in ("GET", "HEAD"):
        return None

    def look(ctx: Any) -> Source | None:
        return None if members.organisation_called(ctx, org) else mirroring.mirrored(ctx)

    source = kernel.look(look)
    if source is None or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", slug, re.ASCII):
        return None
    repo = f"{quote(org)}/{slug}"
    return Passing(request, kernel, source, way_to(kernel, source), kind, repo).answer()


def _is_open(said: Any) -> bool:
    return (
        isinstance(said, dict) and said.get("private") is False and not said.get("gated") and not said.get("disabled")
    )


def _announced(headers: Any) -> tuple[str, int]:
    """(the claim, the size) of a file. Raises Refused hub.source-answer-odd."""
    digest = (headers.get("x-linked-etag") or headers.get("etag") or "").removeprefix("W/").strip('"')
    size = headers.get("x-linked-size") or headers.get("content-length") or ""
    name = {64: "sha256", 40: "git"}.get(len(digest))
    if name is None or not re.fullmatch(r"[0-9a-f]+", digest) or not re.fullmatch(r"[0-9]{1,15}", size):
        raise Refused("hub.source-answer-odd", what="etag")
    return f"{name}:{digest}", int(size)
