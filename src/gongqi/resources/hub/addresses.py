"""Where an asset is found: `organisation/slug`, as git and its like say it. It may move, and it may go.

An address that an asset has left leads on to where it is now, or says that it was deleted, until a new asset takes the
place over. Only who may see the asset learns either. What was ever submitted or published stays where others rely on
it: it is withdrawn, not deleted, and it does not change hands.

A deletion keeps the asset's row and its revisions' digests, so that lineage to them stays true; the files go, and their
bytes with the next sweep.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field
from sqlalchemy import delete as sql_delete
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Read, Write, verb
from gongqi.members import service as members
from gongqi.resources.hub.assets import ID, AssetOut, check_changeable
from gongqi.resources.hub.catalogue import refresh
from gongqi.resources.hub.models import AccessRequest, Asset, Blob, File, FormerAddress, Ref, Release, Revision, Shelved
from gongqi.resources.hub.quotas import own
from gongqi.resources.hub.rules import check_slug


class MoveAsset(Input):
    """To another name, or to another organisation (its id), or both."""

    asset: str = Field(max_length=ID)
    org: str | None = Field(None, max_length=ID)
    slug: str | None = Field(None, max_length=63)


class DeleteAsset(Input):
    asset: str = Field(max_length=ID)


class DeletedOut(Output):
    asset: str
    deleted_at: datetime


@verb("hub:asset:move", evidence="hub.asset-moved")
def move(ctx: Write, input: MoveAsset) -> AssetOut:
    asset = ctx.find(Asset, input.asset, to="hub:asset:move")
    check_changeable(asset)
    org, slug = input.org or asset.org, check_slug(input.slug or asset.slug)
    if (org, slug) == (asset.org, asset.slug):
        raise Refused("hub.nothing-moved", asset=asset.id)
    if ctx.session.scalar(select(Asset.id).where(Asset.org == org, Asset.slug == slug)):
        raise Refused("hub.slug-taken", slug=slug)
    if org != asset.org:
        _change_hands(ctx, asset, org)
    _leave(ctx, asset)
    asset.org, asset.slug = org, slug
    ctx.session.flush()
    refresh(ctx, asset)
    ctx.record(asset.id, org=org)
    return AssetOut.model_validate(asset)


@verb("hub:asset:delete", evidence="hub.asset-deleted")
def delete(ctx: Write, input: DeleteAsset) -> DeletedOut:
    asset = ctx.find(Asset, input.asset, to="hub:asset:delete")
    check_changeable(asset)
    _check_unreleased(ctx, asset)
    revisions = select(Revision.id).where(Revision.asset == asset.id)
    for table, condition in (
        (Release, Release.asset == asset.id),  # drafts
        (Ref, Ref.asset == asset.id),
        (AccessRequest, AccessRequest.asset == asset.id),
        (File, File.revision.in_(revisions)),
        (Shelved, Shelved.asset == asset.id),
    ):
        ctx.session.execute(sql_delete(table).where(condition))
    _leave(ctx, asset)
    asset.slug, asset.deleted_at = asset.id, ctx.now
    ctx.session.flush()
    refresh(ctx, asset)
    ctx.record(asset.id)
    return DeletedOut(asset=asset.id, deleted_at=ctx.now)


# --- for the doors and for rooms above -------------------------------------------------------------------------------


def asset_at(ctx: Read, handle: str, slug: str) -> AssetOut:
    """The asset now at `handle/slug`, if the actor may see it.

    Raises Refused: hub.asset-moved, hub.asset-deleted to who could see the asset; else hub.address-unknown.
    """
    place = f"{handle[:64]}/{slug[:64]}"
    org = members.organisation_called(ctx, handle)
    if org is None:
        raise Refused("hub.address-unknown", address=place)
    here = ctx.visible(Asset, to="hub:asset:read").where(Asset.org == org.id, Asset.slug == slug)
    if row := ctx.session.scalar(here):
        return AssetOut.model_validate(row)
    former = ctx.session.get(FormerAddress, (org.id, slug))
    row = ctx.session.get(Asset, former.asset) if former else None
    if row is not None and row.deleted_at and _could_see(ctx, row):
        raise Refused("hub.asset-deleted", address=place, at=row.deleted_at.isoformat(timespec="seconds"))
    if row is not None and ctx.session.scalar(ctx.visible(Asset, to="hub:asset:read").where(Asset.id == row.id)):
        raise Refused("hub.asset-moved", address=place, to=address_of(ctx, AssetOut.model_validate(row)))
    raise Refused("hub.address-unknown", address=place)


def address_of(ctx: Read, asset: AssetOut) -> str:
    return f"{members.parties_of(ctx, [asset.org])[asset.org].handle}/{asset.slug}"


# --- within ----------------------------------------------------------------------------------------------------------


def _could_see(ctx: Read, gone: Asset) -> bool:
    """Whether the actor would see this deleted asset if it were still there."""
    as_member = gone.visibility == "members" and ctx.actor.may_somewhere("hub:asset:read")
    return gone.visibility == "public" or as_member or ctx.actor.may("hub:asset:read", gone.org)


def _leave(ctx: Write, asset: Asset) -> None:
    former = ctx.session.get(FormerAddress, (asset.org, asset.slug))
    if former is None:
        ctx.add(FormerAddress(org=asset.org, slug=asset.slug, asset=asset.id, at=ctx.now))
    else:
        former.asset, former.at = asset.id, ctx.now


def _check_unreleased(ctx: Write, asset: Asset) -> None:
    """Raises Refused hub.asset-released when anything of it is under review or was ever published."""
    public = select(Release.id).where(Release.asset == asset.id, Release.state != "draft").limit(1)
    if ctx.session.scalar(public):
        raise Refused("hub.asset-released", asset=asset.id)


def _change_hands(ctx: Write, asset: Asset, org: str) -> None:
    """Give an asset to another organisation, with its bytes, which count for the new one from now on.

    Raises Refused hub.asset-released, hub.quota-exceeded.
    """
    members.require_organisation(ctx, org)
    ctx.require("hub:asset:create", org)
    _check_unreleased(ctx, asset)
    held = select(Blob.sha256, Blob.size).join(File, File.sha256 == Blob.sha256)
    held = held.join(Revision, Revision.id == File.revision).where(Revision.asset == asset.id).distinct()
    for sha256, size in ctx.session.execute(held).all():
        own(ctx, org=org, sha256=sha256, size=size)
    for draft in ctx.session.scalars(select(Release).where(Release.asset == asset.id)):
        draft.org = org
