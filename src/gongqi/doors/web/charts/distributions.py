"""How the values of one column are spread: a small picture, made to stand among many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from gongqi.doors.web.charts.drawing import LEADING, NARROW, SMALL, box, join, line, measure, picture, shorten, text
from gongqi.doors.web.charts.values import grouped

GAP = 6
TALL = 84.0
SMALL_WIDE = 420


def histogram(
    bins: Sequence[tuple[float, float, int]],
    *,
    unit: str,
    title: str,
    description: str,
    write: Callable[[float], str],
) -> Markup:
    """Bars over the range of a column, as high as there are rows in each step; the highest is written beside the axis.

    Each bin is (from, to, how many), in order; `unit` says what is counted. Raises ValueError without bins.
    """
    if not bins:
        raise ValueError("a histogram needs at least one bin")
    most = max(count for _, _, count in bins) or 1
    low, high = write(bins[0][0]), write(bins[-1][1])

    def draw(width: float) -> tuple[Markup, float]:
        left = measure(grouped(most), SMALL) + GAP
        top = SMALL * LEADING + GAP
        bottom, step = top + TALL, (width - left) / len(bins)
        parts = [
            text([shorten(unit, width)], 0, 0, look="soft", whole=unit),
            text([grouped(most)], left - GAP, top - SMALL * 0.68, look="soft", anchor="end"),
            line((left, top), (width, top), look="hair"),
        ]
        for number, (_, _, count) in enumerate(bins):
            tall = TALL * count / most
            if count:  # one row among a million is still seen
                parts.append(box(left + step * number + 0.5, bottom - max(tall, 1.0), step - 1, max(tall, 1.0), "bar"))
        half = (width - left) / 2 - GAP
        parts += [
            line((left, bottom), (width, bottom), look="fine"),
            text([shorten(low, half)], left, bottom + GAP, look="soft", whole=low),
            text([shorten(high, half)], width, bottom + GAP, look="soft", anchor="end", whole=high),
        ]
        return join(*parts), bottom + GAP + SMALL * LEADING + 2

    return picture(draw, title=title, description=description, widths=(SMALL_WIDE, NARROW))
