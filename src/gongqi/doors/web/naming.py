"""The name to show for an id, whatever room it belongs to.

A room low in the house (the evidence log, the ledger) keeps ids and cannot ask who they are; the door stands above all
rooms and can. A name is asked for as the reader, so that an id whose bearer they may not see stays an id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from gongqi.chain.upstream import service as upstream
from gongqi.governance.ethics import service as ethics
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import service as serving

SHORT_ID = 24  # characters; a longer id is shown by its kind and its end
NOBODY = ("system", "anonymous")  # actors that are no party


class Naming:
    """`naming(id)` for one reader at one moment, each id looked up once. `kinds` are the id prefixes of the house."""

    def __init__(self, look: Callable[[Callable[[Read], str | None]], str | None], kinds: Collection[str]) -> None:
        self._look = look
        self._kinds = kinds
        self._known: dict[str, str] = {}

    def __call__(self, id: str) -> str:
        if id not in self._known:
            self._known[id] = self._name(id) or shortened(id)
        return self._known[id]

    def _name(self, id: str) -> str | None:
        kind = id.partition("_")[0]
        if id in NOBODY:
            return self._look(lambda ctx: ctx.text(f"web.actor.{id}"))
        if kind in NAMERS and kind in self._kinds:
            return self._look(lambda ctx: _named(ctx, kind, id))
        return None


def shortened(id: str) -> str:
    kind, mark, rest = id.partition("_")
    return f"{kind}_…{rest[-6:]}" if mark and len(id) > SHORT_ID else id


def _named(ctx: Read, kind: str, id: str) -> str | None:
    try:
        return NAMERS[kind](ctx, id)
    except Refused:  # not to be seen by this reader, or gone: the id stands for itself
        return None


def _party(ctx: Read, id: str) -> str | None:
    name = members.names(ctx, {id})[id]
    return None if name == id else name


def _asset(ctx: Read, id: str) -> str | None:
    asset = hub.visible_assets(ctx, {id}).get(id)
    return asset and (asset.title_zh if ctx.language == "zh" else asset.title_en)


def _release(ctx: Read, id: str) -> str | None:
    release = hub.get_release.run(ctx, hub.OneRelease(release=id))
    return f"{_asset(ctx, release.asset) or release.asset} {release.name}"


def _revision(ctx: Read, id: str) -> str | None:
    revision = hub.get_revision.run(ctx, hub.GetRevision(revision=id))
    return f"{_asset(ctx, revision.asset) or revision.asset} #{revision.number}"


def _case(ctx: Read, id: str) -> str | None:
    return _release(ctx, ethics.get_case.run(ctx, ethics.OneCase(case=id)).release)


def _donation(ctx: Read, id: str) -> str | None:
    return _asset(ctx, upstream.get_donation.run(ctx, upstream.OneDonation(donation=id)).asset)


def _deployment(ctx: Read, id: str) -> str | None:
    return serving.deployment_facts(ctx, id).name


NAMERS: Mapping[str, Callable[[Read, str], str | None]] = {
    **dict.fromkeys(("org", "per", "agt", "site"), _party),
    "ast": _asset,
    "rel": _release,
    "rev": _revision,
    "dep": _deployment,
    "case": _case,
    "don": _donation,
}
