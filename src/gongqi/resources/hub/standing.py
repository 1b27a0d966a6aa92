"""How an asset stands: open, archived, or withdrawn. Nothing that was proven about it goes with either.

Archived is finished, not wrong: everything can be downloaded as before and nothing changes any more, until somebody
takes it up again. Withdrawn is wrong or not ours to give: whoever asks for the bytes, by whatever door, is told why
instead, and the asset stays as its own tombstone, with its card, its releases' statements and its evidence. What was
withdrawn does not come back, because those who were told would not be told again.

Source: the two ends that PEP 792 gives a project (archived, quarantined) and RFC 9110 §15.5.11 (410 Gone).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Write, verb
from gongqi.resources.hub.access import REASON
from gongqi.resources.hub.assets import ID, AssetOut, check_changeable, withdrawn_asset
from gongqi.resources.hub.models import Asset
from gongqi.resources.hub.releases import withdraw_all


class OneAsset(Input):
    asset: str = Field(max_length=ID)


class ArchiveAsset(OneAsset):
    reason: str = Field(min_length=1, max_length=REASON)


class WithdrawAsset(ArchiveAsset):
    pass


@verb("hub:asset:archive", evidence="hub.asset-archived")
def archive(ctx: Write, input: ArchiveAsset) -> AssetOut:
    """Nothing of it changes any more; all of it can be downloaded as before."""
    asset = ctx.find(Asset, input.asset, to="hub:asset:archive")
    check_changeable(asset)
    return _stand(ctx, asset, "archived", input.reason)


@verb("hub:asset:unarchive", evidence="hub.asset-unarchived")
def unarchive(ctx: Write, input: OneAsset) -> AssetOut:
    asset = ctx.find(Asset, input.asset, to="hub:asset:unarchive")
    if asset.standing == "withdrawn":
        raise withdrawn_asset(asset)
    if asset.standing != "archived":
        raise Refused("hub.asset-not-archived", slug=asset.slug)
    return _stand(ctx, asset, "open", None)


@verb("hub:asset:withdraw", evidence="hub.asset-withdrawn")
def withdraw_asset(ctx: Write, input: WithdrawAsset) -> AssetOut:
    """Give none of its bytes to anybody else any more, and withdraw its releases with it. For good."""
    asset = ctx.find(Asset, input.asset, to="hub:asset:withdraw")
    if asset.standing == "withdrawn":
        raise withdrawn_asset(asset)
    releases = withdraw_all(ctx, asset.id, input.reason)
    return _stand(ctx, asset, "withdrawn", input.reason, releases=releases)


def _stand(ctx: Write, asset: Asset, standing: str, reason: str | None, **facts: Any) -> AssetOut:
    was, asset.standing = asset.standing, standing
    asset.standing_reason, asset.standing_since = reason, ctx.now
    ctx.session.flush()
    ctx.record(asset.id, was=was, **facts, private={"reason": reason} if reason else None)
    return AssetOut.model_validate(asset)
