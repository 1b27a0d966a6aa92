"""What everybody may have or see, found by one question.

Most of what is downloaded is public, and most of the cost of finding it was making questions, not asking them. So these
are made once, of the policy itself as it stands for the public: what the public may, everyone may. Where they find
nothing, the long way decides, and says why. They are asked anew each time: what is no longer public is not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, select

from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.questions import Question
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub.assets import AssetOut
from gongqi.resources.hub.browsing import Commit, commit_of
from gongqi.resources.hub.models import Asset, File, Ref, Release, Revision
from gongqi.resources.hub.policy import ASSET_READ, may_have
from gongqi.resources.hub.rules import OID_LENGTH

MAX_HANDLES = 10_000  # organisations that are remembered; a foundation has some hundreds


@dataclass(frozen=True, slots=True)
class PublicFile:
    """A file and the commit that it was asked of, which is this revision of this asset."""

    oid: str
    sha256: str
    size: int
    asset: str
    revision: str


class Handles:
    """Which organisation has which handle: a handle is never changed, nor given to another."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def id_of(self, ctx: Read, handle: str) -> str | None:
        if (known := self._ids.get(handle)) is not None:
            return known
        org = members.organisation_called(ctx, handle)
        if org is not None and len(self._ids) < MAX_HANDLES:
            self._ids[handle] = org.id
        return org.id if org else None


def public_file(ctx: Read, *, handle: str, slug: str, kind: str, name: str, path: str) -> PublicFile | None:
    """The file at `handle/slug` in the revision called `name`, if the public may have it."""
    row = _FILE.first(ctx, handle=handle, slug=slug, kind=kind, name=name, path=path)
    return PublicFile(row.digest[:OID_LENGTH], row.sha256, row.size, row.asset, row.id) if row else None


def public_commit(ctx: Read, *, handle: str, slug: str, kind: str, name: str) -> tuple[AssetOut, Commit] | None:
    """The asset at `handle/slug` and its revision called `name`, if the public sees it."""
    row = _COMMIT.first(ctx, handle=handle, slug=slug, kind=kind, name=name)
    if row is None:
        return None
    asset = AssetOut(**{name: getattr(row, f"asset_{name}") for name in AssetOut.model_fields})
    return asset, commit_of(row)


class _Named:
    """A question about the revision that a branch or tag, or else the beginning of a digest, names."""

    def __init__(self, *columns: Any, where: tuple[ColumnElement[bool], ...], of: Any) -> None:
        question = of(select(*columns).select_from(Asset).join(Revision, Revision.asset == Asset.id))
        here = (Asset.org == bindparam("org"), Asset.slug == bindparam("slug"), Asset.kind == bindparam("kind"))
        question = question.where(*here, *where)
        by_ref = (Ref.asset == Asset.id, Ref.name == bindparam("name"), Ref.revision == Revision.id)
        by_oid = (Revision.digest >= bindparam("name"), Revision.digest < bindparam("end"))
        # A branch comes before a tag of the same name, as refs.resolve has it.
        self._by_ref = Question(question.where(*by_ref).order_by(Ref.kind).limit(1))
        self._by_oid = Question(question.where(*by_oid).limit(1))

    def first(self, ctx: Read, *, handle: str, name: str, **given: str) -> Any | None:
        org = ctx.kernel.parts.setdefault(Handles, Handles()).id_of(ctx, handle)
        if org is None:
            return None
        row = self._by_ref.first(ctx.session, org=org, name=name, **given)
        if row is None and len(name) == OID_LENGTH:
            row = self._by_oid.first(ctx.session, org=org, name=name, end=name + "g", **given)
        return row


_WITHDRAWN = select(Release.id).where(Release.revision == Revision.id, Release.state == "withdrawn").exists()
_FILE = _Named(
    Revision.digest, File.sha256, File.size, Revision.asset, Revision.id,
    of=lambda question: question.join(File, File.revision == Revision.id),
    where=(File.path == bindparam("path"), may_have(ANONYMOUS, "hub:revision:have"), ~_WITHDRAWN),
)  # fmt: skip
_COMMIT = _Named(
    Revision.digest, Revision.id, Revision.message, Revision.author, Revision.created_at, Revision.card,
    *(getattr(Asset, name).label(f"asset_{name}") for name in AssetOut.model_fields),
    of=lambda question: question,
    where=(ASSET_READ(ANONYMOUS, "hub:asset:read"),),
)  # fmt: skip
