"""The picture of the home page: three layers, and what flows back underneath.

Upstream, standards and scenarios stand from left to right on a desktop and from top to bottom on a telephone; the loop
returns from the last to the first. Every number is a link to what it counts, and may follow the stream of live numbers.

Invariant: two texts never overlap, however long the names; a number is set smaller before it is shortened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gongqi.doors.web.charts.drawing import (
    BOLD,
    HUGE,
    LARGE,
    LEADING,
    SMALL,
    WIDE,
    arrow_head,
    box,
    fitting_size,
    height,
    join,
    line,
    link,
    measure,
    path,
    picture,
    shorten,
    text,
    wrap,
)

PAD = 16
MAX_BACK = 4  # more numbers on the loop than this leave each no room


@dataclass(frozen=True, slots=True)
class Count:
    """A number with its name, a link to what it counts, and the key under which the SSE stream renews it."""

    label: str
    value: str
    href: str | None = None
    live_key: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    name: str
    purpose: str
    counts: tuple[Count, ...]


def chain_picture(
    layers: Sequence[Layer], forward: Sequence[str], back: Sequence[Count], *, title: str, description: str
) -> Markup:
    """Upstream, standards, scenarios from left to right (top to bottom when narrow), and what flows back underneath.

    `forward` labels the arrow after each layer but the last; `back` is the counts on the loop, MAX_BACK at most.
    """
    if len(forward) != len(layers) - 1 or not 1 <= len(back) <= MAX_BACK:
        raise ValueError(
            f"a chain needs one forward label between each two layers and 1 to {MAX_BACK} counts on the loop"
        )

    def draw(width: float) -> tuple[Markup, float]:
        return (
            _chain_across(layers, forward, back, width) if width >= WIDE else _chain_down(layers, forward, back, width)
        )

    return picture(draw, title=title, description=description)


def _count(
    count: Count, x: float, top: float, room: float, *, largest: int, anchor: str | None = None, under: float = -2.0
) -> tuple[Markup, float]:
    """A number above its name, as large as the room allows, and the height of both; `under` is the space between."""
    label, size = wrap(count.label, room), fitting_size(count.value, room, largest)
    value = text(
        [shorten(count.value, room, size)],
        x,
        top + (largest - size) * 0.98,
        size=size,
        anchor=anchor,
        live=count.live_key,
        whole=count.value,
    )
    beneath = top + largest * LEADING + under
    words = text(label, x, beneath, look="soft go", anchor=anchor, whole=count.label)
    return link(count.href, value, words), beneath + height(label) - top


def _heading(layer: Layer, room: float) -> tuple[list[str], list[str], float]:
    """The lines of a layer's name and purpose, and the height of both."""
    name, purpose = wrap(layer.name, room, LARGE * BOLD), wrap(layer.purpose, room, lines=3)
    return name, purpose, height(name, LARGE) + height(purpose)


def _layer(
    layer: Layer, x: float, top: float, room: float, *, abreast: int, heading: float = 0.0
) -> tuple[Markup, float]:
    """The inside of one layer's box: name, purpose, a hairline not above `heading`, and its counts, `abreast` a row."""
    name, purpose, own_heading = _heading(layer, room)
    y = top + height(name, LARGE)
    parts = [
        text(name, x, top, size=LARGE, look="ink bold", whole=layer.name),
        text(purpose, x, y, look="soft", whole=layer.purpose),
    ]
    y = top + max(heading, own_heading) + 10
    parts.append(line((x, y), (x + room, y), look="hair"))
    cell = room / abreast
    for first in range(0, len(layer.counts), abreast):
        tallest = 0.0
        for number, count in enumerate(layer.counts[first : first + abreast]):
            drawn, tall = _count(count, x + number * cell, y + 10, cell - 8, largest=HUGE)
            parts.append(drawn)
            tallest = max(tallest, tall)
        y += tallest + 10
    return join(*parts), y - top


def _chain_across(
    layers: Sequence[Layer], forward: Sequence[str], back: Sequence[Count], width: float
) -> tuple[Markup, float]:
    gap = 124.0
    column = (width - gap * (len(layers) - 1)) / len(layers)
    heading = max(_heading(layer, column - 2 * PAD)[2] for layer in layers)
    drawn = [
        _layer(layer, number * (column + gap) + PAD, PAD, column - 2 * PAD, abreast=1, heading=heading)
        for number, layer in enumerate(layers)
    ]
    floor = max(tall for _, tall in drawn) + PAD * 1.5
    parts: list[Markup] = []
    for number, (inside, _) in enumerate(drawn):
        parts += [box(number * (column + gap), 0, column, floor), inside]
    for number, label in enumerate(forward):
        x, y = (number + 1) * column + number * gap, floor / 2
        lines = wrap(label, gap - 28, lines=4)
        parts += [
            text(lines, x + gap / 2, y - height(lines) - 6, anchor="middle", whole=label),
            line((x + 6, y), (x + gap - 8, y)),
            arrow_head(x + gap - 4, y, "right"),
        ]
    home, far, low, bend = column / 2, width - column / 2, floor + 68, 14
    parts.append(
        path(
            f"M{far:.1f} {floor + 6:.1f}V{low - bend:.1f}Q{far:.1f} {low:.1f} {far - bend:.1f} {low:.1f}"
            f"H{home + bend:.1f}Q{home:.1f} {low:.1f} {home:.1f} {low - bend:.1f}V{floor + 10:.1f}"
        )
    )
    parts.append(arrow_head(home, floor + 4, "up"))
    room, lowest = (far - home - 2 * PAD) / len(back), 0.0
    for number, count in enumerate(back):
        middle = home + PAD + (number + 0.5) * room
        top = low - LARGE * LEADING - 4
        drawn_count, tall = _count(count, middle, top, room - PAD, largest=LARGE, anchor="middle", under=12.0)
        parts.append(drawn_count)
        lowest = max(lowest, top + tall)
    return join(*parts), lowest + 4


def _chain_down(
    layers: Sequence[Layer], forward: Sequence[str], back: Sequence[Count], width: float
) -> tuple[Markup, float]:
    lane = 30.0
    column, y = width - lane, 0.0
    parts: list[Markup] = []
    for number, layer in enumerate(layers):
        inside, tall = _layer(layer, PAD, y + PAD, column - 2 * PAD, abreast=2)
        parts += [box(0, y, column, tall + PAD * 1.5), inside]
        y += tall + PAD * 1.5
        if number < len(forward):
            lines = wrap(forward[number], column - 3 * PAD)
            room = max(44.0, height(lines) + 16)
            parts += [
                line((PAD + 8, y + 6), (PAD + 8, y + room - 8)),
                arrow_head(PAD + 8, y + room - 4, "down"),
                text(lines, PAD * 2.5, y + (room - height(lines)) / 2, whole=forward[number]),
            ]
            y += room
    start, edge, bend, home = y, width - 1.5, 14, 40.0
    left, low, half = 2.5 * PAD, y + PAD, (column - 2.5 * PAD) / 2
    value_room = min(max(measure(count.value, LARGE) for count in back), half)
    for count in back:
        size, label = fitting_size(count.value, half, LARGE), wrap(count.label, column - left - value_room - PAD)
        tall = max(height(label), LARGE * LEADING)
        value_top, label_top = low + (LARGE - size) * 0.98, low + (LARGE - SMALL) * 0.98
        parts.append(
            link(
                count.href,
                text(
                    [shorten(count.value, half, size)],
                    left,
                    value_top,
                    size=size,
                    live=count.live_key,
                    whole=count.value,
                ),
                text(label, left + value_room + PAD, label_top, look="soft go", whole=count.label),
            )
        )
        low += tall + 10
    low += PAD - 4
    parts.append(
        path(
            f"M{PAD + 8:.1f} {start + 6:.1f}V{low - bend:.1f}Q{PAD + 8:.1f} {low:.1f} {PAD + 8 + bend:.1f} {low:.1f}"
            f"H{edge - bend:.1f}Q{edge:.1f} {low:.1f} {edge:.1f} {low - bend:.1f}"
            f"V{home + bend:.1f}Q{edge:.1f} {home:.1f} {edge - bend:.1f} {home:.1f}H{column + 10:.1f}"
        )
    )
    parts.append(arrow_head(column + 4, home, "left"))
    return join(*parts), low + 4
