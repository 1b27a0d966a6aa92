"""The name to show for an id, whatever room it belongs to.

A room low in the house (the evidence log, the ledger) keeps ids and cannot ask who they are; the door stands above all
rooms and can. A name is asked for as the reader, so that an id whose bearer they may not see stays an id.

A page of rows asks for one name after the other. The first of a kind looks up all ids of that kind which the page's rows
hold, so a page costs as many queries as it shows kinds, not as many as it shows names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from gongqi.chain.upstream import service as upstream
from gongqi.governance.ethics import service as ethics
from gongqi.kernel.verbs import Output, Read
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import service as serving

Names = Mapping[str, str]

SHORT_ID = 24  # characters; a longer id is shown by its kind and its end
NOBODY = ("system", "anonymous", "withheld")  # actors that are no party


class Naming:
    """`naming(id)` for one reader at one moment. `kinds` are the id prefixes of the house, `values` what the page shows."""

    def __init__(
        self, look: Callable[[Callable[[Read], Names]], Names], kinds: Collection[str], values: Mapping[str, Any]
    ) -> None:
        self._look = look
        self._kinds = kinds
        self._values = values
        self._known: dict[str, str] = {}

    def __call__(self, id: str) -> str:
        if id not in self._known:
            self._learn(id)
        return self._known[id]

    def _learn(self, id: str) -> None:
        kind = id.partition("_")[0]
        if id in NOBODY:
            self._known |= self._look(lambda ctx: {id: ctx.text(f"web.actor.{id}")})
        elif kind in NAMERS and kind in self._kinds:
            ids = {id} | {each for each in ids_in(self._values) if each.startswith(kind + "_")}
            names = self._look(lambda ctx: NAMERS[kind](ctx, ids))
            self._known |= {each: names.get(each) or shortened(each) for each in ids}
        else:
            self._known[id] = shortened(id)


def ids_in(value: Any) -> Iterator[str]:
    """Whatever may be an id in what a page shows, as its view gave it; of a ledger account (`owner:unit:code`) the owner."""
    if isinstance(value, str):
        yield value.partition(":")[0]
    elif isinstance(value, Output):
        yield from ids_in(value.__dict__)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from ids_in(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from ids_in(part)


def shortened(id: str) -> str:
    kind, mark, rest = id.partition("_")
    return f"{kind}_…{rest[-6:]}" if mark and len(id) > SHORT_ID else id


def _parties(ctx: Read, ids: Collection[str]) -> Names:
    return {id: name for id, name in members.names(ctx, ids).items() if name != id}


def _assets(ctx: Read, ids: Collection[str]) -> Names:
    seen = hub.visible_assets(ctx, ids)
    return {id: asset.title_zh if ctx.language == "zh" else asset.title_en for id, asset in seen.items()}


def _releases(ctx: Read, ids: Collection[str]) -> Names:
    seen = hub.visible_releases(ctx, ids)
    assets = _assets(ctx, {release.asset for release in seen.values()})
    return {id: f"{assets.get(release.asset) or release.asset} {release.name}" for id, release in seen.items()}


def _revisions(ctx: Read, ids: Collection[str]) -> Names:
    seen = hub.visible_revisions(ctx, ids)
    assets = _assets(ctx, {revision.asset for revision in seen.values()})
    return {id: f"{assets.get(revision.asset) or revision.asset} #{revision.number}" for id, revision in seen.items()}


def _cases(ctx: Read, ids: Collection[str]) -> Names:
    seen = ethics.visible_cases(ctx, ids)
    releases = _releases(ctx, {case.release for case in seen.values()})
    return {id: releases[case.release] for id, case in seen.items() if case.release in releases}


def _donations(ctx: Read, ids: Collection[str]) -> Names:
    seen = upstream.visible_donations(ctx, ids)
    assets = _assets(ctx, {donation.asset for donation in seen.values()})
    return {id: assets[donation.asset] for id, donation in seen.items() if donation.asset in assets}


def _deployments(ctx: Read, ids: Collection[str]) -> Names:
    return {id: deployment.name for id, deployment in serving.visible_deployments(ctx, ids).items()}


NAMERS: Mapping[str, Callable[[Read, Collection[str]], Names]] = {
    **dict.fromkeys(("org", "per", "agt", "site"), _parties),
    "ast": _assets,
    "rel": _releases,
    "rev": _revisions,
    "dep": _deployments,
    "case": _cases,
    "don": _donations,
}
