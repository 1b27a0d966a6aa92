"""The home page: the chain as one picture, what one may do, what happened lately, and how to check it.

Rooms contribute figures; `LAYERS` and `BACK` say where in the picture each stands, and a figure not named there stands
below it. Every number is a link to what it counts and follows the live stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from gongqi.books.evidence import service as evidence
from gongqi.doors.web import callers, charts, live
from gongqi.doors.web.console import Console
from gongqi.kernel.access import Actor
from gongqi.kernel.room import Figure, House
from gongqi.kernel.verbs import Read

LAYERS = {
    "upstream": ("upstream.figure.donations", "hub.figure.assets"),
    "standards": ("ethics.evaluations", "ethics.open-cases", "hub.figure.releases"),
    "scenarios": ("serving.deployments", "serving.calls", "serving.rows"),
}
BACK = ("scenarios.outcomes", "credits.paid", "ledger.transactions", "evidence.size")  # MAX_BACK of the picture
LATEST = 8  # entries of evidence: what a reader takes in at a glance
RECENT = 40  # entries among which they are found
EVERYDAY = frozenset(  # in the log, not news
    {"members.link-made", "members.token-issued", "members.token-revoked", "ledger.book-anchored"}
)


@dataclass(frozen=True, slots=True)
class Start:
    """A first thing to do: `verb` decides who is shown it, `href` is where it begins (its form, if none is given)."""

    verb: str
    href: str = ""
    is_foundation_wide: bool = False


STARTS = (
    Start("ethics:vote:cast", "/ethics"),
    Start("upstream:donation:accept", "/upstream", is_foundation_wide=True),
    Start("upstream:donation:offer"),
    Start("hub:release:draft", "/hub"),
    Start("serving:deployment:create", is_foundation_wide=True),
    Start("serving:budget:set", "/serving"),
    Start("scenarios:return:start", "/scenarios"),
    Start("ledger:credit:grant", is_foundation_wide=True),
    Start("members:organisation:create", is_foundation_wide=True),
    Start("members:person:create"),
)


def home(console: Console) -> Any:
    kernel = console.kernel
    measured = live.Figures(kernel)

    def show(request: Request) -> Response:
        try:
            actor = callers.cookie(request, kernel)
            figures = measured.latest()
            language = callers.language_of(request)

            def load(ctx: Read) -> Response:
                values = {
                    "chain": chain(kernel.house, figures, language),
                    "rows": [(each.key, each.href, written(figures[each.key])) for each in in_order(kernel.house)],
                    "others": [(each.key, each.href, written(figures[each.key])) for each in elsewhere(kernel.house)],
                    "starts": starts(kernel.house, actor),
                    "latest": latest(ctx),
                }
                return console.render(request, actor, "home.html", values, ctx=ctx)

            return kernel.look(load, callers.caller(request, actor))
        except Exception as error:  # the door
            return console.failed(request, error)

    async def endpoint(request: Request) -> Response:
        return await anyio.to_thread.run_sync(show, request)

    return endpoint


def figures_of(house: House) -> dict[str, Figure]:
    return {figure.key: figure for room in house.rooms for figure in room.figures}


def in_order(house: House) -> list[Figure]:
    """The figures of the picture, as it is read: along the chain, then back."""
    known = figures_of(house)
    return [known[key] for key in (*(key for keys in LAYERS.values() for key in keys), *BACK) if key in known]


def elsewhere(house: House) -> list[Figure]:
    placed = {figure.key for figure in in_order(house)} if has_picture(house) else set()
    return [figure for key, figure in figures_of(house).items() if key not in placed]


def has_picture(house: House) -> bool:
    """A chain needs something that flows back."""
    return not figures_of(house).keys().isdisjoint(BACK)


def written(value: int | str) -> str:
    return charts.grouped(value) if isinstance(value, int) else value


def chain(house: House, figures: Mapping[str, int | str], language: str) -> Markup | None:
    """The picture, in the reader's words; none in a house where nothing that flows back is counted."""
    if not has_picture(house):
        return None
    known = figures_of(house)

    def t(key: str) -> str:
        return house.words.text(key, language)

    def counts(keys: Iterable[str]) -> tuple[charts.Count, ...]:
        return tuple(charts.Count(t(key), written(figures[key]), known[key].href, key) for key in keys if key in known)

    layers = [
        charts.Layer(t(f"web.home.{name}"), t(f"web.home.{name}.purpose"), counts(keys))
        for name, keys in LAYERS.items()
    ]
    forward = [t("web.home.forward.standards"), t("web.home.forward.scenarios")]
    return charts.chain_picture(
        layers, forward, counts(BACK), title=t("web.home.picture"), description=t("web.home.picture.description")
    )


def starts(house: House, actor: Actor) -> list[tuple[str, str]]:
    """(verb, address) of what this reader may begin here."""
    return [
        (start.verb, start.href or f"/do/{start.verb.replace(':', '/')}")
        for start in STARTS
        if start.verb in house.verbs
        and (actor.may(start.verb) if start.is_foundation_wide else actor.may_somewhere(start.verb))
    ]


def latest(ctx: Read) -> list[evidence.EntryOut]:
    if evidence.list_entries.name not in ctx.kernel.house.reads:
        return []
    entries = evidence.list_entries.run(ctx, evidence.Entries(kind=None, subject=None, limit=RECENT, cursor=None)).items
    return [entry for entry in entries if entry.kind not in EVERYDAY][:LATEST]
