"""Assets, and the bytes that organisations bring to them.

Bytes come in by `api.upload`, outside any transaction; here they become an organisation's own. Whoever has not uploaded
bytes cannot commit them, however well they know the digest: a digest is a name, not a right.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import func, select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub.catalogue import refresh, tell
from gongqi.resources.hub.events import AssetCreated
from gongqi.resources.hub.gates import ASSET_OPEN, OpeningQuestion
from gongqi.resources.hub.inspection import Inspected
from gongqi.resources.hub.models import Asset, Blob, BlobOwner, Inspection, Release
from gongqi.resources.hub.quotas import own
from gongqi.resources.hub.rules import check_slug

Kind = Literal["model", "dataset", "code", "agent", "tool"]
Visibility = Literal["private", "members", "public"]
OPENNESS = ("private", "members", "public")  # from closed to open

ID = 64  # characters; ours have 30
TITLE = 200  # one line on a page
SUMMARY = 1000  # a paragraph
ACTIONS = (
    "hub:revision:change", "hub:access:grant",
    "hub:release:draft", "hub:asset:edit", "hub:asset:open", "hub:asset:gate", "hub:asset:move", "hub:asset:archive",
    "hub:import:begin", "hub:asset:unarchive", "hub:asset:withdraw", "hub:asset:delete",
)  # fmt: skip
STANDING = {  # what can still be done with an asset as it stands
    "open": frozenset(ACTIONS) - {"hub:asset:unarchive"},
    "archived": frozenset({"hub:asset:open", "hub:asset:gate", "hub:asset:unarchive", "hub:asset:withdraw"}),
    "withdrawn": frozenset[str](),
}


class CreateAsset(Input):
    org: str = Field(max_length=ID)
    slug: str = Field(max_length=63)
    kind: Kind
    title_zh: str = Field(min_length=1, max_length=TITLE)
    title_en: str = Field(min_length=1, max_length=TITLE)
    summary_zh: str = Field("", max_length=SUMMARY)
    summary_en: str = Field("", max_length=SUMMARY)
    visibility: Visibility = "private"


class EditAsset(Input):
    asset: str = Field(max_length=ID)
    title_zh: str | None = Field(None, min_length=1, max_length=TITLE)
    title_en: str | None = Field(None, min_length=1, max_length=TITLE)
    summary_zh: str | None = Field(None, max_length=SUMMARY)
    summary_en: str | None = Field(None, max_length=SUMMARY)


class OpenAsset(Input):
    asset: str = Field(max_length=ID)
    visibility: Visibility


class GetAsset(Input):
    asset: str = Field(max_length=ID)


class ListAssets(Paged):
    kind: Kind | None = None
    org: str | None = Field(None, max_length=ID)


class AssetOut(Output):
    id: str
    org: str
    slug: str
    kind: str
    title_zh: str
    title_en: str
    summary_zh: str
    summary_en: str
    visibility: str
    gated: str
    created_at: datetime
    standing: str
    standing_reason: str | None
    standing_since: datetime | None
    version: int


@verb("hub:asset:create", evidence="hub.asset-created")
def create(ctx: Write, input: CreateAsset) -> AssetOut:
    ctx.require("hub:asset:create", input.org)
    return create_asset(ctx, **input.model_dump())


@verb("hub:asset:edit", evidence="hub.asset-edited")
def edit(ctx: Write, input: EditAsset) -> AssetOut:
    asset = ctx.find(Asset, input.asset, to="hub:asset:edit")
    check_changeable(asset)
    changes = input.model_dump(exclude={"asset"}, exclude_none=True)
    for name, value in changes.items():
        setattr(asset, name, value)
    ctx.session.flush()
    refresh(ctx, asset)
    ctx.record(asset.id, changed=sorted(changes))
    return AssetOut.model_validate(asset)


@verb("hub:asset:open", evidence="hub.asset-opened")
def open_asset(ctx: Write, input: OpenAsset) -> AssetOut:
    asset = ctx.find(Asset, input.asset, to="hub:asset:open")
    _check_opening(ctx, asset, input.visibility)
    asset.visibility = input.visibility
    ctx.session.flush()
    refresh(ctx, asset)
    ctx.record(asset.id, visibility=asset.visibility)
    return AssetOut.model_validate(asset)


@read("hub:asset:list")
def list_assets(ctx: Read, input: ListAssets) -> Page[AssetOut]:
    return ctx.listed(Asset, AssetOut, input, to="hub:asset:read")


@read("hub:asset:get")
def get_asset(ctx: Read, input: GetAsset) -> AssetOut:
    return AssetOut.model_validate(ctx.find(Asset, input.asset, to="hub:asset:read"))


# --- for rooms above: the caller has authorised ----------------------------------------------------------------------


def create_asset(
    ctx: Write, *, org: str, slug: str, kind: str, title_zh: str, title_en: str, summary_zh: str = "",
    summary_en: str = "", visibility: str = "private",
) -> AssetOut:  # fmt: skip
    """A new asset of `org`. Raises Refused hub.slug-invalid, hub.slug-taken."""
    check_slug(slug)
    if ctx.session.scalar(select(Asset.id).where(Asset.org == org, Asset.slug == slug)):
        raise Refused("hub.slug-taken", slug=slug)
    asset = ctx.add(
        Asset(
            id=ctx.new_id("ast"), org=org, slug=slug, kind=kind, title_zh=title_zh, title_en=title_en,
            summary_zh=summary_zh, summary_en=summary_en, visibility=visibility, created_at=ctx.now,
        )
    )  # fmt: skip
    ctx.session.flush()
    refresh(ctx, asset)
    ctx.record(asset.id, kind="hub.asset-created", org=org, asset_kind=kind, visibility=visibility)
    ctx.emit(AssetCreated(asset=asset.id, org=org))
    return AssetOut.model_validate(asset)


def set_visibility(ctx: Write, asset: str, visibility: str) -> bool:
    """Open an asset as far as `visibility`; never closes it. Returns whether anything changed. Raises Refused
    hub.asset-not-to-open."""
    row = asset_row(ctx, asset)
    if OPENNESS.index(visibility) <= OPENNESS.index(row.visibility):
        return False
    _ask_opening(ctx, row, visibility)
    row.visibility = visibility
    ctx.session.flush()
    refresh(ctx, row)
    ctx.record(row.id, kind="hub.asset-opened", visibility=visibility)
    return True


def tell_asset(ctx: Write, asset: str, name: str, value: str | None) -> None:
    """Let an asset be found by what a room above says of it: `name` is that room's word, None takes it back."""
    tell(ctx, asset_row(ctx, asset), name, value)


def asset_out(ctx: Read, asset: str) -> AssetOut:
    """Any asset. Raises Refused access.not-found."""
    return AssetOut.model_validate(asset_row(ctx, asset))


def asset_actions(ctx: Read, asset: str) -> list[str]:
    """The verbs that the actor may use on an asset."""
    row = asset_row(ctx, asset)
    asks = ["hub:access:request"] if row.gated != "open" and ctx.actor.may("hub:access:request", ctx.actor.id) else []
    return asks + [verb for verb in ACTIONS if verb in STANDING[row.standing] and ctx.may(verb, row)]


def visible_assets(ctx: Read, keys: Collection[str]) -> dict[str, AssetOut]:
    """Of these assets, those that the reader may see."""
    query = ctx.visible(Asset, to="hub:asset:read").where(Asset.id.in_(keys))
    return {row.id: AssetOut.model_validate(row) for row in ctx.session.scalars(query)}


def assets_of(ctx: Read, keys: Collection[str]) -> dict[str, AssetOut]:
    """These assets, whoever asks: for rooms whose own rows have been authorised and name them."""
    return {
        row.id: AssetOut.model_validate(row) for row in ctx.session.scalars(select(Asset).where(Asset.id.in_(keys)))
    }


def count_assets(ctx: Read) -> int:
    """How many assets the reader may see: a number of the home page."""
    return ctx.session.scalar(ctx.visible(Asset, to="hub:asset:read").with_only_columns(func.count())) or 0


def require_own(ctx: Write, asset: str, org: str) -> None:
    """Whether an asset is this organisation's, as far as the actor may know. Raises Refused access.not-found."""
    if ctx.find(Asset, asset, to="hub:asset:read").org != org:
        raise Refused("access.not-found", kind="asset", key=asset[:100])


def asset_row(ctx: Read, asset: str) -> Asset:
    row = ctx.session.get(Asset, asset)
    if row is None:
        raise Refused("access.not-found", kind="asset", key=asset[:100])
    return row


def check_changeable(asset: Asset) -> None:
    """What every change of what an asset holds or says asks first. Raises Refused hub.asset-archived, -withdrawn."""
    if asset.standing == "archived":
        raise Refused("hub.asset-archived", slug=asset.slug, reason=asset.standing_reason)
    if asset.standing == "withdrawn":
        raise withdrawn_asset(asset)


def withdrawn_asset(asset: Asset) -> Refused:
    return Refused("hub.asset-withdrawn", slug=asset.slug, reason=asset.standing_reason)


def _check_opening(ctx: Write, asset: Asset, visibility: str) -> None:
    """What has been published stays as open as it was: others rely on it, and the log already speaks of it."""
    published = select(Release.id).where(Release.asset == asset.id, Release.state == "published").limit(1)
    if OPENNESS.index(visibility) < OPENNESS.index(asset.visibility) and ctx.session.scalar(published):
        raise Refused("hub.asset-stays-open", asset=asset.id, visibility=asset.visibility)
    if OPENNESS.index(visibility) > OPENNESS.index(asset.visibility):
        _ask_opening(ctx, asset, visibility)


def _ask_opening(ctx: Write, asset: Asset, visibility: str) -> None:
    """Raises Refused hub.asset-not-to-open, with the first reason of those that were given."""
    question = OpeningQuestion(asset=asset.id, kind=asset.kind, org=asset.org, visibility=visibility)
    for _source, answer in ctx.ask(ASSET_OPEN, question).denials:
        raise Refused("hub.asset-not-to-open", slug=asset.slug, visibility=visibility, reason=answer.reason)


# --- bytes -----------------------------------------------------------------------------------------------------------


class BlobOut(Output):
    sha256: str
    size: int
    findings: list[dict[str, Any]]


class AddBlob(Input):
    org: str = Field(max_length=ID)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str
    size: int
    findings: list[dict[str, Any]]
    external: list[str]


@verb("hub:blob:add", evidence=None)
def add_blob(ctx: Write, input: AddBlob) -> BlobOut:
    """Not among the room's verbs: only the upload endpoint, which has just read the bytes, may say what is in them."""
    ctx.require("hub:blob:add", input.org)
    inspected = Inspected(input.name, input.size, tuple(input.findings), tuple(input.external))
    return receive_blob(ctx, org=input.org, sha256=input.sha256, inspected=inspected)


def receive_blob(ctx: Write, *, org: str, sha256: str, inspected: Inspected) -> BlobOut:
    """Note that `org` holds these bytes and what was found in them. Twice is once. Raises Refused hub.quota-exceeded."""
    if ctx.session.get(Blob, sha256) is None:
        ctx.add(Blob(sha256=sha256, size=inspected.size, at=ctx.now))
        ctx.session.flush()
    own(ctx, org=org, sha256=sha256, size=inspected.size)
    if ctx.session.get(Inspection, (sha256, inspected.name)) is None:
        ctx.add(
            Inspection(
                sha256=sha256, name=inspected.name, findings=list(inspected.findings),
                external=list(inspected.external), at=ctx.now,
            )
        )  # fmt: skip
    return BlobOut(sha256=sha256, size=inspected.size, findings=list(inspected.findings))


def findings_of(ctx: Read, sha256: str, name: str) -> list[dict[str, Any]]:
    """What the inspection of these bytes under this name warns of."""
    row = ctx.session.get(Inspection, (sha256, name))
    return list(row.findings) if row else []


def inspected_names(ctx: Read, org: str, digests: Collection[str]) -> dict[str, set[str]]:
    """Of these blobs, those that `org` holds, with the names under which they were inspected."""
    query = select(BlobOwner.sha256, Inspection.name).outerjoin(Inspection, Inspection.sha256 == BlobOwner.sha256)
    names: dict[str, set[str]] = {}
    for sha256, name in ctx.session.execute(query.where(BlobOwner.org == org, BlobOwner.sha256.in_(digests))):
        names.setdefault(sha256, set()).add(name)
    return names
