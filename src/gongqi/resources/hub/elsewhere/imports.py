"""Bringing a repository of another hub in, as the next revision of an asset here.

What happens is written down as it happens: which commit, which files with which digests claimed there, which of them are
here. So an import that was cut goes on, and says at any moment how far it is. Nothing of it can be seen in the asset
before all of it is here; then one revision is made of all files, whole. A file whose bytes the organisation holds is not
fetched again, and an import that finds nothing new makes no revision.

Where a revision came from (endpoint, repository, commit, each file's claimed digest, the licence claimed there) stays
with it: on its page, in the log by digest, and in the statement of a release.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

import rfc8785
from pydantic import Field
from sqlalchemy import func, select

from gongqi.kernel.errors import GongqiError, Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub import refs
from gongqi.resources.hub.assets import check_changeable
from gongqi.resources.hub.contents import FileInput
from gongqi.resources.hub.elsewhere.sources import ID, open_source
from gongqi.resources.hub.elsewhere.upstream import API, Claimed, Repository, check_repo
from gongqi.resources.hub.foreign import Import, ImportedFile, Source
from gongqi.resources.hub.models import Asset, BlobOwner, Inspection
from gongqi.resources.hub.quotas import exceeded, quota_of
from gongqi.resources.hub.revisions import commit_revision, files_of
from gongqi.resources.hub.rules import MAIN

FLOW = "hub.import"
OPEN = ("listing", "fetching", "committing")
AT_ONCE = 8  # imports under way for one organisation; they are fetched one after the other anyway
State = Literal["listing", "fetching", "committing", "done", "failed", "cancelled"]


class BeginImport(Input):
    """`repo` as it is called there, `at` a branch, tag or commit there; it becomes a revision on `branch` here."""

    asset: str = Field(max_length=ID)
    source: str = Field(max_length=ID)
    repo: str = Field(max_length=200)
    at: str = Field(MAIN, min_length=1, max_length=250)
    branch: str = Field(MAIN, max_length=250)


class OneImport(Input):
    import_id: str = Field(max_length=ID)


class ListImports(Paged):
    asset: str | None = Field(None, max_length=ID)
    state: State | None = None


class ImportOut(Output):
    """`bytes_done` counts whole files, fetched or here already; `bytes_fetched` what has travelled so far."""

    id: str
    asset: str
    org: str
    source: str
    repo: str
    at: str
    branch: str
    state: str
    commit: str | None
    license: str | None
    files: int
    files_done: int
    size_bytes: int
    bytes_done: int
    bytes_fetched: int
    error: dict[str, Any] | None
    revision: str | None
    begun_at: datetime
    begun_by: str
    finished_at: datetime | None


class Origin(Output):
    """Where a revision came from. `claims` is the digest of the list of (path, size, digest claimed there)."""

    import_id: str
    endpoint: str
    repo: str
    commit: str
    license: str | None
    claims: str
    at: datetime


@verb("hub:import:begin", evidence="hub.import-begun")
def begin_import(ctx: Write, input: BeginImport) -> ImportOut:
    asset = ctx.find(Asset, input.asset, to="hub:import:begin")
    check_changeable(asset)
    if asset.kind not in API:
        raise Refused("hub.import-kind", kind=asset.kind)
    source = open_source(ctx, input.source)
    if source.org not in (None, asset.org):
        raise Refused("hub.source-of-another", name=source.name)
    under_way = select(func.count()).where(Import.org == asset.org, Import.state.in_(OPEN))
    if (ctx.session.scalar(under_way) or 0) >= AT_ONCE:
        raise Refused("hub.imports-too-many", limit=AT_ONCE)
    refs.head(ctx, asset.id, input.branch)
    row = ctx.add(
        Import(
            id=ctx.new_id("imp"), asset=asset.id, org=asset.org, source=source.id, repo=check_repo(input.repo),
            at=input.at, branch=input.branch, state="listing", files=0, files_done=0, size_bytes=0, bytes_done=0,
            bytes_fetched=0, rounds=1, tries=0, begun_at=ctx.now, begun_by=ctx.actor.id,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(asset.id, import_id=row.id, private={"source": source.id, "repo": row.repo, "at": row.at})
    ctx.start_flow(FLOW, key=f"{row.id}.{row.rounds}", import_id=row.id)
    return ImportOut.model_validate(row)


@verb("hub:import:cancel", evidence="hub.import-cancelled")
def cancel_import(ctx: Write, input: OneImport) -> ImportOut:
    """Stop; nothing of it was ever in the asset, and what has come in is let go as any unused bytes are."""
    row = ctx.find(Import, input.import_id, to="hub:import:cancel")
    if row.state not in OPEN:
        raise Refused("hub.import-over", state=row.state)
    _end(ctx, row, "cancelled")
    ctx.record(row.asset, import_id=row.id)
    return ImportOut.model_validate(row)


@verb("hub:import:retry", evidence="hub.import-begun")
def retry_import(ctx: Write, input: OneImport) -> ImportOut:
    """Go on with one that failed or was cancelled, from where it was and at the same commit."""
    row = ctx.find(Import, input.import_id, to="hub:import:retry")
    if row.state not in ("failed", "cancelled"):
        raise Refused("hub.import-not-over", state=row.state)
    open_source(ctx, row.source)
    row.state, row.error, row.finished_at = "fetching" if row.commit else "listing", None, None
    row.rounds, row.tries = row.rounds + 1, 0
    ctx.session.flush()
    ctx.record(row.asset, import_id=row.id)
    ctx.start_flow(FLOW, key=f"{row.id}.{row.rounds}", import_id=row.id)
    return ImportOut.model_validate(row)


@read("hub:import:list")
def list_imports(ctx: Read, input: ListImports) -> Page[ImportOut]:
    return ctx.listed(Import, ImportOut, input, to="hub:import:read")


@read("hub:import:get")
def get_import(ctx: Read, input: OneImport) -> ImportOut:
    return ImportOut.model_validate(ctx.find(Import, input.import_id, to="hub:import:read"))


# --- for pages and rooms above: the caller has authorised ------------------------------------------------------------


def origin_of(ctx: Read, revision: str) -> Origin | None:
    """Where a revision was imported from; None when it was made here."""
    query = select(Import, Source).join(Source, Source.id == Import.source).where(Import.revision == revision)
    found = ctx.session.execute(query.order_by(Import.id).limit(1)).first()
    return _origin(ctx, *found) if found else None


def latest_origin(ctx: Read, asset: str) -> Origin | None:
    """Where the last thing that was imported into an asset came from."""
    query = select(Import, Source).join(Source, Source.id == Import.source)
    query = query.where(Import.asset == asset, Import.state == "done").order_by(Import.id.desc()).limit(1)
    found = ctx.session.execute(query).first()
    return _origin(ctx, *found) if found else None


def imports_of(ctx: Read, asset: str, limit: int) -> list[ImportOut]:
    """The imports into an asset that the reader may see, newest first."""
    query = ctx.visible(Import, to="hub:import:read").where(Import.asset == asset)
    return [ImportOut.model_validate(row) for row in ctx.session.scalars(query.order_by(Import.id.desc()).limit(limit))]


def _origin(ctx: Read, row: Import, source: Source) -> Origin:
    assert row.commit is not None and row.finished_at is not None
    return Origin(
        import_id=row.id, endpoint=source.endpoint, repo=row.repo, commit=row.commit, license=row.license,
        claims=claims_digest(ctx, row.id), at=row.finished_at,
    )  # fmt: skip


def claims_digest(ctx: Read, import_id: str) -> str:
    columns = ImportedFile.path, ImportedFile.size, ImportedFile.claim
    rows = ctx.session.execute(
        select(*columns).where(ImportedFile.import_id == import_id).order_by(ImportedFile.number)
    )
    return sha256(rfc8785.dumps([list(row) for row in rows])).hexdigest()


# --- for the flow ----------------------------------------------------------------------------------------------------


def plan(ctx: Write, import_id: str, there: Repository, files: list[Claimed]) -> None:
    """Note what is to be fetched. Raises Refused hub.quota-exceeded, hub.import-empty, hub.import-closed."""
    row = ctx.session.get_one(Import, import_id)
    if row.state != "listing":
        return
    source = ctx.session.get_one(Source, row.source)
    if not there.is_open and source.org != row.org:
        raise Refused("hub.import-closed", repo=row.repo)
    if not files:
        raise Refused("hub.import-empty", repo=row.repo)
    ctx.session.add_all(
        ImportedFile(import_id=row.id, number=number, path=each.path, size=each.size, claim=each.digest)
        for number, each in enumerate(sorted(files, key=lambda each: each.path))
    )
    row.commit, row.license, row.state, row.tries = there.commit, there.license, "fetching", 0
    row.files, row.size_bytes = len(files), sum(each.size for each in files)
    ctx.session.flush()


def known(ctx: Read, row: Import, file: ImportedFile) -> str | None:
    """The digest of bytes that the organisation holds and that are what was claimed; None when they must be fetched.

    Only what it holds itself: that bytes are in the store is not for others to find out by claiming them.
    """
    name, _, digest = file.claim.partition(":")
    if name != "sha256":
        before = select(ImportedFile.sha256).join(Import, Import.id == ImportedFile.import_id)
        before = before.where(Import.asset == row.asset, Import.source == row.source)
        same = ImportedFile.claim == file.claim, ImportedFile.size == file.size, ImportedFile.sha256.is_not(None)
        digest = ctx.session.scalar(before.where(*same).limit(1)) or ""
    return digest if ctx.session.get(BlobOwner, (digest, row.org)) else None


def is_inspected(ctx: Read, digest: str, name: str) -> bool:
    return ctx.session.get(Inspection, (digest, name)) is not None


def pending(ctx: Read, import_id: str) -> ImportedFile | None:
    """The next file that is not here yet."""
    query = select(ImportedFile).where(ImportedFile.import_id == import_id, ImportedFile.sha256.is_(None))
    return ctx.session.scalar(query.order_by(ImportedFile.number).limit(1))


def check_room(ctx: Read, row: Import, size: int) -> None:
    """Raises Refused hub.quota-exceeded before bytes travel that would not fit; when they are taken in it is asked again."""
    quota = quota_of(ctx, row.org)
    if size > quota.limit_bytes - quota.used_bytes:
        raise exceeded(quota.limit_bytes - quota.used_bytes, size)


def came(ctx: Write, import_id: str, count: int) -> bool:
    """Count bytes that have travelled, whole files or not; returns whether to go on."""
    row = ctx.session.get_one(Import, import_id)
    if count:
        row.bytes_fetched, row.tries = row.bytes_fetched + count, 0
        ctx.session.flush()
    return row.state in OPEN


def arrived(ctx: Write, import_id: str, number: int, digest: str) -> None:
    """Note that a file is here and holds."""
    file = ctx.session.get_one(ImportedFile, (import_id, number))
    row = ctx.session.get_one(Import, import_id)
    if file.sha256 is None:
        file.sha256, file.upload = digest, None
        row.files_done, row.bytes_done = row.files_done + 1, row.bytes_done + file.size
        row.tries = 0
        ctx.session.flush()


def conclude(ctx: Write, import_id: str) -> None:
    """Make one revision of all files, or none when the branch already says the same."""
    row = ctx.session.get_one(Import, import_id)
    if row.state not in ("fetching", "committing"):
        return
    head = refs.head(ctx, row.asset, row.branch)
    before = {file.path: file for file in files_of(ctx, head.id)} if head else {}
    query = select(ImportedFile.path, ImportedFile.sha256).where(ImportedFile.import_id == row.id)
    files = {path: digest for path, digest in ctx.session.execute(query) if digest}
    assert len(files) == row.files
    if head and files == {path: file.sha256 for path, file in before.items()}:
        revision = head.id
    else:
        same = {path: file for path, file in before.items() if path in files}
        revision = commit_revision(
            ctx, asset=row.asset, branch=row.branch, message=f"Imported {row.repo} at {row.commit}",
            files=[
                FileInput(
                    path=path, sha256=digest, component=same[path].component if path in same else None,
                    license=same[path].license if path in same else None,
                )
                for path, digest in files.items()
            ],
        ).id  # fmt: skip
    row.revision = revision
    _end(ctx, row, "done")
    source = ctx.session.get_one(Source, row.source)
    ctx.record(
        revision, kind="hub.revision-imported", import_id=row.id, claims=claims_digest(ctx, row.id), files=row.files,
        private={
            "endpoint": source.endpoint, "repo": row.repo, "commit": row.commit, "license": row.license,
            "begun_by": row.begun_by,
        },
    )  # fmt: skip


def fail(ctx: Write, import_id: str, error: GongqiError) -> None:
    row = ctx.session.get_one(Import, import_id)
    if row.state in OPEN:
        row.error = {"code": error.code, "params": dict(error.params)}
        _end(ctx, row, "failed")
        ctx.record(row.asset, kind="hub.import-failed", import_id=row.id, code=error.code)


def try_later(ctx: Write, import_id: str) -> int:
    """Count one more failure of the moment; returns how many there were since the last progress."""
    row = ctx.session.get_one(Import, import_id)
    row.tries += 1
    ctx.session.flush()
    return row.tries


def _end(ctx: Write, row: Import, state: str) -> None:
    row.state, row.finished_at = state, ctx.now
    ctx.session.flush()
