"""The pictures that show values: gates, balances, the fall of a fee, calibration, subgroups.

Numbers are written by the function given, because only the page knows their unit. A picture of money may not round: the
parts of a fee sum to it exactly or the picture is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from markupsafe import Markup

from gongqi.doors.web.charts.drawing import (
    BODY,
    BOLD,
    LEADING,
    NARROW,
    SMALL,
    WIDE,
    box,
    element,
    height,
    join,
    line,
    link,
    measure,
    picture,
    seal,
    shorten,
    text,
    wrap,
)

GAP = 8
MAX_GATES_ABREAST = 6  # more columns than this leave no room for a reason


def grouped(value: int) -> str:
    return f"{value:,}".replace("-", "−")


def percent(value: float) -> str:
    return f"{value * 100:.1f}%"


# ---- gates ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GateSeal:
    """One gate: its state ("proven" | "claimed" | "broken"), the state in words, and the reason in one sentence."""

    name: str
    state: str
    word: str
    reason: str = ""
    href: str | None = None


def gate_row(seals: Sequence[GateSeal], *, title: str, description: str) -> Markup:
    """The gates of a release in order: a row of seals on one thread, reasons beneath; a column when narrow."""

    def draw(width: float) -> tuple[Markup, float]:
        return (
            _gates_down(seals, width) if width < WIDE or len(seals) > MAX_GATES_ABREAST else _gates_across(seals, width)
        )

    return picture(draw, title=title, description=description)


def _gates_across(seals: Sequence[GateSeal], width: float) -> tuple[Markup, float]:
    side, room = 44, width / len(seals)
    parts = [line((room / 2, side / 2), (width - room / 2, side / 2), look="fine")] if len(seals) > 1 else []
    lowest = float(side)
    for number, gate in enumerate(seals):
        centre = (number + 0.5) * room
        name = wrap(gate.name, room - 2 * GAP, BODY * BOLD)
        reason = wrap(gate.reason, room - 3 * GAP, lines=4)
        under = side + GAP * 1.5
        after_name = under + height(name, BODY)
        after_word = after_name + SMALL * LEADING + GAP / 2
        parts += [
            box(centre - side / 2 - GAP, 0, side + 2 * GAP, side, "paper"),
            link(
                gate.href,
                seal(gate.state, centre - side / 2, 0, side),
                text(name, centre, under, size=BODY, look="ink bold go", anchor="middle", whole=gate.name),
            ),
            text([shorten(gate.word, room - 2 * GAP)], centre, after_name, anchor="middle"),
            text(reason, centre, after_word, look="soft", anchor="middle", whole=gate.reason),
        ]
        lowest = max(lowest, after_word + height(reason))
    return join(*parts), lowest + GAP


def _gates_down(seals: Sequence[GateSeal], width: float) -> tuple[Markup, float]:
    side, top, left = 28, 0.0, 44
    parts: list[Markup] = []
    for number, gate in enumerate(seals):
        word = shorten(gate.word, 96)
        name = wrap(gate.name, width - left - measure(word, SMALL) - 2 * GAP, BODY * BOLD)
        reason = wrap(gate.reason, width - left, lines=3)
        tall = max(height(name, BODY) + height(reason), side) + 2 * GAP
        if number < len(seals) - 1:
            parts.append(line((side / 2, top + side), (side / 2, top + tall), look="fine"))
        parts += [
            link(
                gate.href,
                seal(gate.state, 0, top, side),
                text(name, left, top + 1, size=BODY, look="ink bold go", whole=gate.name),
            ),
            text([word], width, top + 3, anchor="end"),
            text(reason, left, top + 1 + height(name, BODY), look="soft", whole=gate.reason),
        ]
        top += tall
    return join(*parts), top


# ---- money ---------------------------------------------------------------------------------------


def balance_over_time(
    points: Sequence[tuple[datetime, int]],
    unit: str,
    *,
    title: str,
    description: str,
    write: Callable[[int], str] = grouped,
) -> Markup:
    """A balance as the steps it is. Each point is the time of a posting (UTC, in order) and the balance after it.

    `unit` is shown above the axis; `write` puts a booked integer in words. Raises ValueError without points.
    """
    if not points:
        raise ValueError("a balance over time needs at least one point; show the empty state instead")
    amounts = [amount for _, amount in points]
    ticks = _nice_ticks(min(0, *amounts), max(0, *amounts))
    start, end = points[0][0], max(points[-1][0], points[0][0] + timedelta(seconds=1))
    last_word = write(amounts[-1])

    def draw(width: float) -> tuple[Markup, float]:
        left = max(measure(write(tick), SMALL) for tick in ticks) + GAP
        last_room = measure(last_word, SMALL * BOLD) + 2 * GAP
        beside = width - left - last_room > width / 2  # otherwise the last value stands above the line, not after it
        right = width - last_room if beside else width - GAP
        top, bottom = SMALL * LEADING + 2 * GAP, 260.0 if width >= WIDE else 220.0
        span = end - start

        def across(moment: datetime) -> float:
            return left + (right - left) * ((moment - start) / span)

        def up(amount: float) -> float:
            return bottom - (bottom - top) * (amount - ticks[0]) / (ticks[-1] - ticks[0])

        corners = [(left, up(amounts[0]))]
        for (_, before), (moment, after) in pairwise(points):
            corners += [(across(moment), up(before)), (across(moment), up(after))]
        corners.append((right, up(amounts[-1])))
        area = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in [(left, up(0)), *corners, (right, up(0))]) + "Z"
        parts = [
            text([shorten(unit, width - last_room)], 0, 0, look="soft", whole=unit),
            element("path", d=area, class_="wash"),
        ]
        for tick in ticks:
            parts.append(line((left, up(tick)), (right, up(tick)), look="fine" if tick == 0 else "hair"))
            parts.append(text([write(tick)], left - GAP, up(tick) - SMALL * 0.68, look="soft", anchor="end"))
        last_x, last_top, last_anchor = (
            (right + GAP, up(amounts[-1]) - SMALL * 0.68, None) if beside else (width, 0, "end")
        )
        parts += [
            line(*corners),
            element("circle", cx=right, cy=up(amounts[-1]), r=4, class_="ink"),
            text([last_word], last_x, last_top, look="ink bold", anchor=last_anchor),
            *_dates(start, end, left, right, bottom + GAP, across),
        ]
        return join(*parts), bottom + GAP + SMALL * LEADING + 4

    return picture(draw, title=title, description=description)


def _dates(
    start: datetime, end: datetime, left: float, right: float, top: float, across: Callable[[datetime], float]
) -> list[Markup]:
    """As many dates as fit between the ends, as fine as tells them apart; UTC, as booked."""
    span = end - start
    form = "%H:%M:%S" if span < timedelta(minutes=10) else "%m-%d %H:%M" if span < timedelta(days=2) else "%Y-%m-%d"
    word = measure(start.strftime(form), SMALL)
    count = max(2, min(6, int((right - left) / (1.5 * word + 2 * GAP)) + 1))
    if right - left < 2 * word + 2 * GAP:
        return [text([start.strftime(form)], left, top, look="soft")]
    count = min(count, max(2, int(span.total_seconds()) + 1))
    moments = [start + span * number / (count - 1) for number in range(count)]
    anchors = ["start", *["middle"] * (count - 2), "end"]
    return [
        text([moment.strftime(form)], across(moment), top, look="soft", anchor=anchor)
        for moment, anchor in zip(moments, anchors, strict=True)
    ]


def _nice_ticks(low: int, high: int) -> list[int]:
    """Four to six round integers from at or below `low` to at or above `high`; always two different ones at least."""
    rough = max(high - low, 1) / 4
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next(int(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
    return list(range(math.floor(low / step) * step, math.ceil(max(high, low + 1) / step) * step + 1, step))


def waterfall(
    total: tuple[str, int],
    parts: Sequence[tuple[str, int]],
    unit: str,
    *,
    title: str,
    description: str,
    write: Callable[[int], str] = grouped,
) -> Markup:
    """One charge falling to its receivers: a whole bar, then one bar a receiver, each beginning where the last ended.

    The parts must sum to the total, to the unit: a picture of money may not round.
    """
    whole = total[1]
    if whole <= 0 or any(amount < 0 for _, amount in parts) or sum(amount for _, amount in parts) != whole:
        raise ValueError(f"the parts of {whole} sum to {sum(amount for _, amount in parts)}")

    def draw(width: float) -> tuple[Markup, float]:
        beside = width >= WIDE  # names stand beside their bars; on a telephone above them, whole
        room = width * 0.28 if beside else width
        amount_room = max(measure(write(amount), SMALL * BOLD) for _, amount in [total, *parts])
        left, right = room + GAP if beside else 0.0, width - amount_room - GAP
        top, fallen, bar, above = SMALL * LEADING + GAP, 0, 18, 0.0
        drawn = [text([shorten(unit, width)], width, 0, look="soft", anchor="end", whole=unit)]
        for number, (label, amount) in enumerate([total, *parts]):
            name = wrap(label, room - GAP, SMALL if number else SMALL * BOLD)
            tall = max(height(name), bar) + 10 if beside else height(name) + bar + 14
            begin = left + (right - left) * fallen / whole
            size = (right - left) * amount / whole
            middle = top + tall / 2 if beside else top + height(name) + bar / 2
            name_top = middle - height(name) / 2 if beside else top
            drawn += [
                text(name, 0, name_top, look="ink bold" if number == 0 else "ink", whole=label),
                box(begin, middle - bar / 2, max(size, 1.0), bar, "ink" if number == 0 else "bar"),
                text(
                    [write(amount)],
                    width,
                    middle - SMALL * LEADING / 2,
                    look="ink bold" if number == 0 else "ink",
                    anchor="end",
                ),
            ]
            if number > 1:
                drawn.append(line((begin, above), (begin, middle - bar / 2 if beside else top), look="fine dash"))
            fallen += amount if number else 0
            above = middle + bar / 2
            top += tall
        return join(*drawn), top

    return picture(draw, title=title, description=description)


# ---- evaluation ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """`count` cases given the mean probability `predicted`; `observed` is how often it was so, within [low, high]."""

    predicted: float
    observed: float
    low: float
    high: float
    count: int


def calibration_plot(
    bins: Sequence[CalibrationBin], *, predicted: str, observed: str, title: str, description: str
) -> Markup:
    """What the model said against what came to be; on the diagonal the two agree.

    Bars beneath say how many cases each dot stands for. `predicted` and `observed` name the axes.
    """
    most = max((one.count for one in bins), default=1) or 1

    def draw(width: float) -> tuple[Markup, float]:
        left = measure("100%", SMALL) + GAP
        side = min(width - left - measure("100%", SMALL) / 2, 400.0)
        top = SMALL * LEADING + GAP
        bottom, bars = top + side, 44.0

        def x(share: float) -> float:
            return left + side * share

        def y(share: float) -> float:
            return bottom - side * share

        drawn = [text([shorten(observed, width)], 0, 0, look="soft", whole=observed)]
        for tick in (0, 0.25, 0.5, 0.75, 1):
            drawn += [
                line((x(0), y(tick)), (x(1), y(tick)), look="hair"),
                text([f"{tick:.0%}"], left - GAP, y(tick) - SMALL * 0.68, look="soft", anchor="end"),
                text([f"{tick:.0%}"], x(tick), bottom + bars + GAP, look="soft", anchor="middle"),
            ]
        drawn.append(line((x(0), y(0)), (x(1), y(1)), look="fine dash"))
        free_from = 0.0
        for one in sorted(bins, key=lambda each: each.predicted):
            tall = (bars - SMALL * LEADING - 4) * one.count / most
            drawn.append(line((x(one.predicted), y(one.low)), (x(one.predicted), y(one.high)), look="line"))
            drawn.append(element("circle", cx=x(one.predicted), cy=y(one.observed), r=4.5, class_="ink"))
            drawn.append(box(x(one.predicted) - 4, bottom + bars - tall, 8, tall, "bar"))
            half = measure(grouped(one.count), SMALL) / 2
            if x(one.predicted) - half >= free_from:  # a count without room is in the table
                drawn.append(
                    text(
                        [grouped(one.count)],
                        x(one.predicted),
                        bottom + bars - tall - SMALL * LEADING,
                        look="soft",
                        anchor="middle",
                    )
                )
                free_from = x(one.predicted) + half + 4
        below = bottom + bars + GAP + SMALL * LEADING + 4
        drawn.append(text([shorten(predicted, side)], x(0.5), below, look="soft", anchor="middle", whole=predicted))
        return join(*drawn), below + SMALL * LEADING + 4

    return picture(draw, title=title, description=description, widths=(480, NARROW))


@dataclass(frozen=True, slots=True)
class Group:
    """One subgroup's measure with its interval, all shares of one; `count` is how many cases it rests on."""

    label: str
    value: float
    low: float
    high: float
    count: int


def subgroup_bars(
    groups: Sequence[Group], *, gap: str, title: str, description: str, write: Callable[[float], str] = percent
) -> Markup:
    """Each subgroup's measure as a dot on its interval, on one scale: the gap is a distance one can see.

    `gap` says the gap in words; `write` puts a share in words. Raises ValueError without groups.
    """
    if not groups:
        raise ValueError("subgroup bars need at least one group")
    floor = math.floor(min(group.low for group in groups) * 20) / 20
    ceiling = max(math.ceil(max(group.high for group in groups) * 20) / 20, floor + 0.05)

    def draw(width: float) -> tuple[Markup, float]:
        room = width * (0.28 if width >= WIDE else 0.34)
        value_room = max(measure(write(group.value), SMALL * BOLD) for group in groups)
        left, right = room + 2 * GAP, width - value_room - 2 * GAP

        def x(share: float) -> float:
            return left + (right - left) * (share - floor) / (ceiling - floor)

        worst, best = min(group.value for group in groups), max(group.value for group in groups)
        drawn, top = [], 0.0
        rows = Markup("")
        for group in groups:
            name = wrap(group.label, room - GAP)
            count = shorten(f"n = {grouped(group.count)}", room - GAP)
            tall = height(name) + SMALL * LEADING + 14
            middle = top + tall / 2
            start = middle - (height(name) + SMALL * LEADING) / 2
            rows += join(
                text(name, 0, start, whole=group.label),
                text([count], 0, start + height(name), look="soft"),
                line((left, middle), (right, middle), look="hair"),
                line((x(group.low), middle), (x(group.high), middle)),
                *(line((x(end), middle - 5), (x(end), middle + 5)) for end in (group.low, group.high)),
                element("circle", cx=x(group.value), cy=middle, r=5, class_="ink"),
                text([write(group.value)], width, middle - SMALL * LEADING / 2, look="ink bold", anchor="end"),
            )
            top += tall
        for end in (worst, best):
            drawn.append(line((x(end), 0), (x(end), top + GAP), look="fine dash"))
        ends = [(left, "start", floor), (right, "end", ceiling)]
        drawn += [text([write(share)], at, top + GAP, look="soft", anchor=anchor) for at, anchor, share in ends]
        drawn.append(text(wrap(gap, width), width, top + 2 * GAP + SMALL * LEADING, anchor="end", whole=gap))
        return join(*drawn, rows), top + 2 * GAP + SMALL * LEADING + height(wrap(gap, width)) + 4

    return picture(draw, title=title, description=description)
