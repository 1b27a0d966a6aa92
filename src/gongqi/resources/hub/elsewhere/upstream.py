"""What a hub that speaks the Hugging Face API says about a repository, read with care: all of it is claims.

A repository is asked for at one commit, which never changes, so a listing that was begun can be gone on with, and a file
that was cut can be gone on with. A digest is what the other claims: `sha256:…` for a large file (and for every file of
another Gongqi), `git:…`, the name git gives a file, for the others. Which is true is found out from the bytes.

Source: docs of the Hub API; Git, "Git Objects" (a blob's name is SHA-1 over "blob SIZE\\0" and its bytes).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote, urljoin

from gongqi.kernel.blobs import CHUNK_BYTES, MAX_BLOB_BYTES
from gongqi.kernel.errors import Refused
from gongqi.resources.hub.elsewhere.outside import Answer, Outside
from gongqi.resources.hub.rules import check_path

API = {"model": "models", "dataset": "datasets"}
PREFIX = {"model": "", "dataset": "datasets/"}
MAX_FILES = 10_000  # of one revision: what a commit takes
MAX_PAGES = 100
LICENCE = 500  # characters of a claim
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "git": re.compile(r"[0-9a-f]{40}")}


@dataclass(frozen=True, slots=True)
class Repository:
    """One commit of a repository there. `license` is what its card claims, None when it claims nothing."""

    commit: str
    license: str | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """A file there: `digest` is `sha256:…` or `git:…`."""

    path: str
    size: int
    digest: str


def check_repo(repo: str) -> str:
    """Raises Refused hub.source-repo-invalid."""
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise Refused("hub.source-repo-invalid", repo=ascii(repo[:100])[1:-1])
    return repo


def look_up(outside: Outside, kind: str, repo: str, at: str) -> Repository:
    """What `at` (a branch, a tag, a commit) means there. Raises as `outside.check` does."""
    _, said = outside.read_json(f"/api/{API[kind]}/{check_repo(repo)}/revision/{quote(at, safe='')}")
    commit = said.get("sha") if isinstance(said, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise Refused("hub.source-answer-odd", what="sha")
    return Repository(commit, _licence(said), said.get("private") is False and not said.get("gated"))


def listing(outside: Outside, kind: str, repo: str, commit: str) -> list[Claimed]:
    """All files of a commit. Raises Refused hub.import-too-many, hub.path-*, hub.source-answer-odd."""
    files: list[Claimed] = []
    path = f"/api/{API[kind]}/{repo}/tree/{commit}?recursive=true"
    for _ in range(MAX_PAGES):
        answer, said = outside.read_json(path)
        if not isinstance(said, list):
            raise Refused("hub.source-answer-odd", what="tree")
        files += (_claimed(each) for each in said if isinstance(each, dict) and each.get("type") == "file")
        if len(files) > MAX_FILES:
            break
        following = re.match(r'<([^<>"\s]+)>;\s*rel="next"', answer.headers.get("link", ""))
        if following is None:
            return files
        path = urljoin(answer.url, following[1])
        if not outside.is_home(path):
            raise Refused("hub.source-redirect-refused", host=path[:200])
    raise Refused("hub.import-too-many", limit=MAX_FILES)


def place_of(kind: str, repo: str, commit: str, path: str) -> str:
    """The address of a file's bytes."""
    return f"/{PREFIX[kind]}{repo}/resolve/{commit}/{quote(path)}"


def holds(claim: str, file: BinaryIO, *, size: int, sha256: str) -> bool:
    """Whether these bytes are what was claimed of them."""
    name, _, digest = claim.partition(":")
    if name == "sha256":
        return digest == sha256
    named = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
        named.update(chunk)
    return digest == named.hexdigest()


def rest_of(answer: Answer, *, start: int, size: int) -> Iterator[bytes]:
    """The bytes from `start` on of a file of this size, also when the other sends all of it. Fewer may come, and no more.

    Raises Refused hub.source-size-differs, hub.source-answer-odd.
    """
    skip, at = (start if answer.status == 200 else 0), start
    if answer.status == 206 and not answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
        raise Refused("hub.source-answer-odd", what="content-range")
    for chunk in answer.chunks:
        passed = min(skip, len(chunk))
        skip, at = skip - passed, at + len(chunk) - passed
        if at > size:
            raise Refused("hub.source-size-differs", size_bytes=size)
        if passed < len(chunk):
            yield chunk[passed:]


def _claimed(said: dict[str, Any]) -> Claimed:
    lfs = said.get("lfs")
    name, digest = ("sha256", lfs.get("oid")) if isinstance(lfs, dict) else ("git", said.get("oid"))
    path, size = said.get("path"), said.get("size")
    if not (
        isinstance(path, str) and isinstance(size, int) and 0 <= size <= MAX_BLOB_BYTES and isinstance(digest, str)
    ):
        raise Refused("hub.source-answer-odd", what="tree")
    if not _HEX[name].fullmatch(digest):
        raise Refused("hub.source-answer-odd", what="oid")
    return Claimed(check_path(path), size, f"{name}:{digest}")


def _licence(said: dict[str, Any]) -> str | None:
    card = said.get("cardData")
    claim = card.get("license") if isinstance(card, dict) else None
    if isinstance(claim, list) and all(isinstance(each, str) for each in claim):
        claim = " AND ".join(claim)  # a repository under several is under all of them, as far as anybody can tell
    return claim[:LICENCE] if isinstance(claim, str) and claim.strip() else None
