"""The home page: the chain as one picture, with the figures that rooms contribute.

A figure stands in the layer of its room. Every number is a link to what it counts and follows the live stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from gongqi.doors.web import callers, charts, live
from gongqi.doors.web.charts.chain import MAX_BACK
from gongqi.doors.web.console import Console
from gongqi.kernel.room import House

LAYERS = {
    "upstream": ("hub", "upstream"),
    "standards": ("compliance", "ethics", "standards"),
    "scenarios": ("serving",),
}
BACK = ("scenarios", "credits", "ledger", "evidence")


def home(console: Console) -> Any:
    kernel = console.kernel

    def show(request: Request) -> Response:
        try:
            actor = callers.cookie(request, kernel)
            figures = live.measure(kernel)
            picture = chain(kernel.house, figures, callers.language_of(request))
            rows = [(figure.key, figure.href, written(figures[figure.key])) for figure in figures_of(kernel.house)]
            return console.render(request, actor, "home.html", {"picture_of_chain": picture, "rows": rows})
        except Exception as error:  # the door
            return console.failed(request, error)

    async def endpoint(request: Request) -> Response:
        return await anyio.to_thread.run_sync(show, request)

    return endpoint


def figures_of(house: House, rooms: tuple[str, ...] | None = None) -> list[Any]:
    return [figure for room in house.rooms if rooms is None or room.name in rooms for figure in room.figures]


def written(value: int | str) -> str:
    return charts.grouped(value) if isinstance(value, int) else value


def chain(house: House, figures: Mapping[str, int | str], language: str) -> Markup | None:
    """The picture, in the reader's words; none while nothing counts what flows back."""

    def t(key: str) -> str:
        return house.words.text(key, language)

    def counts(rooms: tuple[str, ...]) -> tuple[charts.Count, ...]:
        return tuple(
            charts.Count(t(figure.key), written(figures[figure.key]), figure.href, figure.key)
            for figure in figures_of(house, rooms)
        )

    back = counts(BACK)[:MAX_BACK]
    if not back:
        return None
    layers = [
        charts.Layer(t(f"web.home.{name}"), t(f"web.home.{name}.purpose"), counts(rooms)) for name, rooms in LAYERS.items()
    ]
    forward = [t("web.home.forward.standards"), t("web.home.forward.scenarios")]
    return charts.chain_picture(
        layers, forward, back, title=t("web.home.picture"), description=t("web.home.picture.description")
    )
