"""What clients leaf through: the files of a revision, and the revisions behind it. The caller has found the asset.

Paths are ordered by their bytes on every database, so that a page's last path is where the next one begins and a
folder's files stand together. An asset in which nothing has been committed has an empty revision on `main`, which has a
name of its own, so that clients which pin what they read can pin that too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import bindparam, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.questions import Question
from gongqi.kernel.verbs import Read
from gongqi.resources.hub.assets import AssetOut
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.models import File, Ref, Revision
from gongqi.resources.hub.refs import resolve
from gongqi.resources.hub.rules import MAIN, OID_LENGTH

HISTORY = 100_000  # revisions of one asset; as many rows of two words are read to follow the parents
LOOKED_AT = 1_000  # revisions in which the last change of a file is looked for
FOLDERS_AT = 2_000  # rows that are read at a time to fold them into folders


@dataclass(frozen=True, slots=True)
class Commit:
    """A revision as git would call it; `revision` and `message` are None for the empty one."""

    oid: str
    revision: str | None
    message: str | None
    author: str | None
    at: datetime
    card: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Folder:
    path: str


def commit_at(ctx: Read, asset: AssetOut, name: str = MAIN) -> Commit:
    """What a branch, a tag or a commit's name means. Raises Refused hub.ref-unknown."""
    try:
        return commit_of(resolve(ctx, asset.id, name))
    except Refused:
        if name not in (MAIN, empty_oid(asset.id)) or _has_revisions(ctx, asset.id):
            raise
        return Commit(empty_oid(asset.id), None, None, None, asset.created_at, {})


def empty_oid(asset: str) -> str:
    """The name of an asset's empty revision."""
    return hashlib.sha256(f"gongqi.empty.v1 {asset}".encode()).hexdigest()[:OID_LENGTH]


def heads_of(ctx: Read, assets: Collection[AssetOut]) -> dict[str, Commit]:
    """By asset, what `main` points at; an asset without revisions is left out."""
    query = select(Ref.asset, Revision).join(Revision, Revision.id == Ref.revision)
    query = query.where(Ref.asset.in_([each.id for each in assets]), Ref.kind == "branch", Ref.name == MAIN)
    return {asset: commit_of(revision) for asset, revision in ctx.session.execute(query)}


def history(ctx: Read, asset: str, commit: Commit, *, skip: int, limit: int) -> list[Commit]:
    """`commit` and those before it, newest first."""
    if commit.revision is None:
        return []
    wanted = _ancestors(ctx, asset, commit.revision)[skip : skip + limit]
    rows = {row.id: row for row in ctx.session.scalars(select(Revision).where(Revision.id.in_(wanted)))}
    return [commit_of(rows[each]) for each in wanted]


def files_under(ctx: Read, commit: Commit, folder: str, *, start: str = "", limit: int) -> list[FileFacts]:
    """At most `limit` files whose path begins with `folder` (empty, or with a slash at its end), from `start` on."""
    if commit.revision is None:
        return []
    end = beyond(Folder(folder[:-1])) if folder else ""
    question = _FILES[ctx.kernel.db.is_sqlite, bool(folder)]
    rows = question.all(ctx.session, revision=commit.revision, start=max(start, folder), end=end, count=limit)
    return [_facts(row) for row in rows]


def entries_in(ctx: Read, commit: Commit, folder: str, *, start: str = "", limit: int) -> list[FileFacts | Folder]:
    """At most `limit` files and folders directly in `folder`, from `start` on."""
    found: list[FileFacts | Folder] = []
    while len(found) < limit and (page := files_under(ctx, commit, folder, start=start, limit=FOLDERS_AT)):
        for file in page:
            if file.path < start:
                continue  # in the folder that was just found
            inside, slash, _ = file.path[len(folder) :].partition("/")
            found.append(Folder(folder + inside) if slash else file)
            start = beyond(found[-1])
            if len(found) == limit:
                break
    return found


def beyond(item: FileFacts | Folder) -> str:
    """Where to start after this: no path lies between it, with all that is in it, and there."""
    return item.path + ("0" if isinstance(item, Folder) else "\x01")  # "0" follows "/"; no path has a "\x01" in it


def files_called(ctx: Read, commit: Commit, paths: Collection[str]) -> dict[str, FileFacts]:
    """Of these paths, those that are files."""
    query = select(File).where(File.revision == commit.revision, File.path.in_(paths))
    return {row.path: _facts(row) for row in ctx.session.scalars(query)} if commit.revision and paths else {}


def items_called(ctx: Read, commit: Commit, paths: Collection[str]) -> Iterator[FileFacts | Folder]:
    """Of these paths, those that are files or folders."""
    files = files_called(ctx, commit, paths)
    for path in paths:
        if path in files:
            yield files[path]
        elif path.strip("/") and files_under(ctx, commit, path.rstrip("/") + "/", limit=1):
            yield Folder(path.rstrip("/"))


def last_changes(ctx: Read, asset: str, commit: Commit, paths: Collection[str]) -> dict[str, Commit]:
    """By path, the latest of the last LOOKED_AT commits in which the file became what it is."""
    if commit.revision is None:
        return {}
    chain = _ancestors(ctx, asset, commit.revision)[:LOOKED_AT]
    query = select(File.revision, File.path, File.sha256).where(File.revision.in_(chain), File.path.in_(paths))
    had: dict[str, dict[str, str]] = {}
    for revision, path, sha256 in ctx.session.execute(query):
        had.setdefault(path, {})[revision] = sha256
    since: dict[str, str] = {}
    for path, by_revision in had.items():
        now = by_revision[chain[0]]
        *_, since[path] = takewhile(lambda revision, had=by_revision, now=now: had.get(revision) == now, chain)
    rows = select(Revision).where(Revision.id.in_(set(since.values())))
    commits = {row.id: commit_of(row) for row in ctx.session.scalars(rows)}
    return {path: commits[revision] for path, revision in since.items()}


def _ancestors(ctx: Read, asset: str, revision: str) -> list[str]:
    parents = select(Revision.id, Revision.parent).where(Revision.asset == asset).limit(HISTORY)
    parent_of = {row.id: row.parent for row in ctx.session.execute(parents)}
    chain = [revision]
    while (parent := parent_of.get(chain[-1])) is not None:
        chain.append(parent)
    return chain


def _has_revisions(ctx: Read, asset: str) -> bool:
    return ctx.session.scalar(select(Revision.id).where(Revision.asset == asset).limit(1)) is not None


def commit_of(row: Any) -> Commit:
    return Commit(row.digest[:OID_LENGTH], row.id, row.message, row.author, row.created_at, row.card)


def _facts(row: Any) -> FileFacts:
    return FileFacts(row.path, row.sha256, row.size, row.component, row.license)


def _files(path: Any, *, is_bounded: bool) -> Question:
    query = select(File.path, File.sha256, File.size, File.component, File.license)
    query = query.where(File.revision == bindparam("revision"), path >= bindparam("start"))
    if is_bounded:
        query = query.where(path < bindparam("end"))
    return Question(query.order_by(path).limit(bindparam("count")))


_FILES = {
    (is_sqlite, is_bounded): _files(File.path if is_sqlite else File.path.collate("C"), is_bounded=is_bounded)
    for is_sqlite in (True, False)
    for is_bounded in (True, False)
}
