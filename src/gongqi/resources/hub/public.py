"""A file that everybody may have, found by one question.

Most of what is downloaded is public, and most of the cost of finding it was making questions, not asking them. So this
one is made once, of the policy itself as it stands for the public: what the public may have, everyone may. Where it
finds nothing, the long way decides, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, select

from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub.models import Asset, File, Ref, Release, Revision
from gongqi.resources.hub.policy import may_have
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
    org = ctx.kernel.parts.setdefault(Handles, Handles()).id_of(ctx, handle)
    if org is None:
        return None
    known = {"org": org, "slug": slug, "kind": kind, "path": path, "name": name, "end": name + "g"}
    connection = ctx.session.connection()
    row: Any = connection.execute(_BY_REF, known).first()
    if row is None and len(name) == OID_LENGTH:
        row = connection.execute(_BY_OID, known).first()
    return PublicFile(row.digest[:OID_LENGTH], row.sha256, row.size, row.asset, row.id) if row else None


def _question(*named: ColumnElement[bool]) -> Any:
    withdrawn = select(Release.id).where(Release.revision == Revision.id, Release.state == "withdrawn").exists()
    return (
        select(Revision.digest, File.sha256, File.size, Revision.asset, Revision.id)
        .select_from(Asset)
        .join(Revision, Revision.asset == Asset.id)
        .join(File, File.revision == Revision.id)
        .where(Asset.org == bindparam("org"), Asset.slug == bindparam("slug"), Asset.kind == bindparam("kind"))
        .where(File.path == bindparam("path"), *named)
        .where(may_have(ANONYMOUS, "hub:revision:have"), ~withdrawn)
    )


_BY_REF = (
    _question(Ref.asset == Asset.id, Ref.name == bindparam("name"), Ref.revision == Revision.id)
    .order_by(Ref.kind)  # a branch before a tag of the same name, as refs.resolve has it
    .limit(1)
)
_BY_OID = _question(Revision.digest >= bindparam("name"), Revision.digest < bindparam("end")).limit(1)
