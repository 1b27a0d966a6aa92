"""Who may have the bytes of what they can see.

A gated asset shows its card to all who see it and gives its files to those who were let in: at once for whoever asks
(`auto`), or by a decision of its organisation (`manual`). What was asked for is kept with the digest of the card that
was shown, since that card holds the terms. A decision can be taken back.

A release that was published and withdrawn takes its revision's bytes with it, except from its own people: the reason
is told instead. That another release of the same revision stands gives them back. An asset that was withdrawn
(standing.py) takes the bytes of all its revisions.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub import refs
from gongqi.resources.hub.assets import ID, AssetOut, withdrawn_asset
from gongqi.resources.hub.catalogue import refresh
from gongqi.resources.hub.models import AccessRequest, Asset, Release, Revision

Gating = Literal["open", "auto", "manual"]
State = Literal["pending", "granted", "refused"]
REASON = 2000


class GateAsset(Input):
    asset: str = Field(max_length=ID)
    gated: Gating


class RequestAccess(Input):
    asset: str = Field(max_length=ID)


class DecideAccess(Input):
    asset: str = Field(max_length=ID)
    party: str = Field(max_length=ID)


class RefuseAccess(DecideAccess):
    reason: str | None = Field(None, max_length=REASON)


class ListAccess(Paged):
    asset: str | None = Field(None, max_length=ID)
    state: State | None = None


class AccessOut(Output):
    id: str
    asset: str
    party: str
    state: str
    terms: str | None
    reason: str | None
    asked_at: datetime
    decided_at: datetime | None


@verb("hub:asset:gate", evidence="hub.asset-gated")
def gate(ctx: Write, input: GateAsset) -> AssetOut:
    """Set how the files of an asset are given; who has been let in stays so."""
    asset = ctx.find(Asset, input.asset, to="hub:asset:gate")
    asset.gated = input.gated
    ctx.session.flush()
    refresh(ctx, asset)
    ctx.record(asset.id, gated=asset.gated)
    return AssetOut.model_validate(asset)


@verb("hub:access:request", evidence="hub.access-requested")
def request(ctx: Write, input: RequestAccess) -> AccessOut:
    """Ask for the files of a gated asset, for oneself. Asking again changes nothing."""
    ctx.require("hub:access:request", ctx.actor.id)
    asset = ctx.find(Asset, input.asset, to="hub:asset:read")
    row = _asked(ctx, asset, ctx.actor.id)
    if row.state == "pending" and asset.gated == "auto":
        row.state, row.decided_at = "granted", ctx.now
    ctx.session.flush()
    ctx.record(asset.id, withhold=True, private={"access": row.id, "state": row.state})
    return AccessOut.model_validate(row)


@verb("hub:access:grant", evidence="hub.access-granted")
def grant(ctx: Write, input: DecideAccess) -> AccessOut:
    """Let somebody in, whether or not they asked."""
    return _decide(ctx, input, "hub:access:grant", "granted")


@verb("hub:access:refuse", evidence="hub.access-refused")
def refuse(ctx: Write, input: RefuseAccess) -> AccessOut:
    return _decide(ctx, input, "hub:access:refuse", "refused", input.reason)


@verb("hub:access:revoke", evidence="hub.access-revoked")
def revoke(ctx: Write, input: DecideAccess) -> AccessOut:
    """Take a decision back: the request stands as if nobody had decided."""
    return _decide(ctx, input, "hub:access:revoke", "pending")


@read("hub:access:list")
def list_access(ctx: Read, input: ListAccess) -> Page[AccessOut]:
    """One's own requests, and those for the assets of one's organisations."""
    return ctx.listed(AccessRequest, AccessOut, input, to="hub:access:read")


# --- for the doors and for rooms above -------------------------------------------------------------------------------


def check_may_have(ctx: Read, revision: str) -> None:
    """Whether the actor, who sees this revision, gets its bytes.

    Raises Refused: hub.asset-gated, hub.asset-withdrawn, hub.release-withdrawn.
    """
    asset = ctx.session.scalar(select(Asset).join(Revision, Revision.asset == Asset.id).where(Revision.id == revision))
    if asset and asset.standing == "withdrawn" and not ctx.actor.may("hub:revision:read", asset.org):
        raise withdrawn_asset(asset)
    withdrawn = _withdrawn(ctx, revision)
    if withdrawn and not ctx.actor.may("hub:revision:read", withdrawn.org):
        raise Refused("hub.release-withdrawn", release=withdrawn.name, reason=withdrawn.withdrawn_reason)
    query = ctx.visible(Revision, to="hub:revision:have").where(Revision.id == revision)
    if ctx.session.scalar(query.with_only_columns(Revision.id)) is None:
        raise _gated(ctx, revision)


def my_request(ctx: Read, asset: str) -> AccessOut | None:
    """What the actor has asked for, and how that stands."""
    query = select(AccessRequest).where(AccessRequest.asset == asset, AccessRequest.party == ctx.actor.id)
    row = None if ctx.actor.is_anonymous else ctx.session.scalar(query)
    return AccessOut.model_validate(row) if row else None


def asked_by(ctx: Read, asset: str) -> dict[str, str]:
    """Who has asked for this asset: request → party. The caller has authorised."""
    query = select(AccessRequest.id, AccessRequest.party).where(AccessRequest.asset == asset)
    return dict(ctx.session.execute(query).all())


def _withdrawn(ctx: Read, revision: str) -> Release | None:
    """The latest release of a revision that was published, when that was withdrawn and no other stands."""
    rows = select(Release).where(Release.revision == revision, Release.published_at.is_not(None))
    latest = ctx.session.scalars(rows.order_by(Release.state, Release.withdrawn_at.desc())).first()
    return latest if latest and latest.state == "withdrawn" else None  # "published" sorts before it


def _gated(ctx: Read, revision: str) -> Refused:
    asset = ctx.session.scalar(select(Revision.asset).where(Revision.id == revision)) or ""
    mine = select(AccessRequest.state).where(AccessRequest.asset == asset, AccessRequest.party == ctx.actor.id)
    if ctx.actor.is_anonymous:
        return Refused("hub.asset-gated-sign-in", asset=asset)
    return Refused("hub.asset-gated", asset=asset, state=ctx.session.scalar(mine) or "none")


def _asked(ctx: Write, asset: Asset, party: str) -> AccessRequest:
    """The request of this party, made now if there was none. Raises Refused hub.asset-not-gated."""
    query = select(AccessRequest).where(AccessRequest.asset == asset.id, AccessRequest.party == party)
    if row := ctx.session.scalar(query):
        return row
    if asset.gated == "open":
        raise Refused("hub.asset-not-gated", asset=asset.id)
    head = refs.head(ctx, asset.id)
    return ctx.add(
        AccessRequest(
            id=ctx.new_id("acc"), asset=asset.id, party=party, state="pending", asked_at=ctx.now,
            terms=head.card_sha256 if head else None,
        )
    )  # fmt: skip


def _decide(ctx: Write, input: DecideAccess, verb: str, state: str, reason: str | None = None) -> AccessOut:
    """Who was decided upon is between them and the organisation; that it decided is public."""
    row = _asked(ctx, ctx.find(Asset, input.asset, to=verb), input.party)
    row.state, row.reason, row.decided_at, row.decided_by = state, reason, ctx.now, ctx.actor.id
    ctx.session.flush()
    ctx.record(row.asset, private={"access": row.id, "party": row.party, "reason": reason})
    return AccessOut.model_validate(row)
