"""SVG written by the server: elements that escape, and text that knows how much room it takes.

A server cannot ask a browser how wide a word is, so widths are estimated from above: an East Asian wide character is
one em (UAX #11), Latin letters have about the advance widths of DejaVu Sans, wider than Inter or any face named in
console.css. What is measured to fit therefore fits; the monospace face is for hexadecimal alone, whose letters are as
wide in both. Line breaking follows the rules of UAX #14 that matter for labels: break after spaces and hyphens and
between Han characters, and never begin a line with closing punctuation.

Invariants: every string becomes text by escaping, never markup; colour only by class, so dark mode and print work; no
ids, so a page may hold the same picture twice; no style attribute, so a strict content policy holds.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from markupsafe import Markup, escape

SMALL, BODY, LARGE, HUGE = 13, 16, 20, 25  # the type scale of console.css
BOLD = 1.12  # a semibold face is about this much wider than the regular one
LEADING = 1.4  # of the size: enough for Han, which fills its box
WIDE, NARROW = 960, 358  # drawing widths: a desktop column; a 390 px telephone less its margins
BALANCE_STEPS = 12  # how finely equal lines are sought, down to half the room

_NARROW_LETTERS = dict.fromkeys("ijlI|.,:;'!·", 0.35) | dict.fromkeys('frt()[]-/ "', 0.42)
_WIDE_LETTERS = dict.fromkeys("mwMW@%…—", 1.0) | dict.fromkeys("+=<>#&~", 0.85)
_BREAK_AFTER = frozenset(" -/_")
_CLOSING = frozenset("，。、；：？！）》」』】”’…—,.;:?!)]}%")


def measure(text: str, size: float) -> float:
    """The width of one line in drawing units, not less than any of our typefaces will use."""
    return size * sum(_advance(letter) for letter in text)


@lru_cache(maxsize=8192)  # a page writes some thousand letters, of few kinds
def _advance(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    if letter in _NARROW_LETTERS:
        return _NARROW_LETTERS[letter]
    if letter in _WIDE_LETTERS or ord(letter) > 0x24F:
        return 1.0
    return 0.78 if letter.isupper() else 0.65


def wrap(text: str, width: float, size: float = SMALL, *, lines: int = 2) -> list[str]:
    """Break `text` into at most `lines` lines within `width`, of about equal length; a rest ends in an ellipsis."""
    return list(_wrapped(text, width, size, lines))


@lru_cache(maxsize=4096)  # the words of the product stand in every picture
def _wrapped(text: str, width: float, size: float, lines: int) -> tuple[str, ...]:
    done = _fill(text, width, size)
    if len(done) > lines:
        return (*done[: lines - 1], shorten(done[lines - 1] + "…", width, size))
    longest = max((measure(piece.rstrip(), size) for piece in _pieces(text)), default=0.0)
    for step in range(1, BALANCE_STEPS):  # the narrowest room that needs no further line leaves no orphan
        room = width * (1 - step / (2 * BALANCE_STEPS))
        tighter = _fill(text, room, size)
        if len(done) < 2 or len(tighter) > len(done) or longest > room:
            break
        done = tighter
    return tuple(done)


def _fill(text: str, width: float, size: float) -> list[str]:
    """Greedy lines no wider than `width`; one unbreakable word wider than that is cut."""
    done: list[str] = []
    line = ""
    for piece in _pieces(text):
        while piece:
            if measure((line + piece).rstrip(), size) <= width:
                line, piece = line + piece, ""
            elif line.strip():
                done.append(line.rstrip())
                line, piece = "", piece.lstrip()
            else:
                fit = _longest_fit(piece, width, size)
                done.append(piece[:fit])
                line, piece = "", piece[fit:]
    return [*done, line.rstrip()] if line.strip() else done


def fitting_size(text: str, width: float, largest: int) -> int:
    """The largest step of the type scale, from `largest` down, at which `text` fits; the smallest if none does."""
    return next((size for size in (HUGE, LARGE, BODY) if size <= largest and measure(text, size) <= width), SMALL)


def shorten(text: str, width: float, size: float = SMALL) -> str:
    """`text`, or as much of it as fits with an ellipsis."""
    if measure(text, size) <= width:
        return text
    return text.rstrip("…")[: _longest_fit(text, width - size, size)].rstrip() + "…"


def _longest_fit(text: str, width: float, size: float) -> int:
    """How many leading characters fit; at least one, so that wrapping always moves on."""
    used = 0.0
    for count, letter in enumerate(text):
        used += size * _advance(letter)
        if used > width:
            return max(count, 1)
    return len(text)


def _pieces(text: str) -> list[str]:
    """The unbreakable pieces: a Latin word with the space or hyphen after it; a Han character and its closing marks."""
    pieces: list[str] = []
    fresh = True
    for letter in " ".join(text.split()):
        wide = unicodedata.east_asian_width(letter) in "WF"
        if pieces and (letter in _CLOSING or letter == " " or (not wide and not fresh)):
            pieces[-1] += letter
        else:
            pieces.append(letter)
        fresh = wide or letter in _BREAK_AFTER
    return pieces


def element(name: str, *children: str | Markup, **attributes: object) -> Markup:
    """One SVG element. `class_` is class, `_` is `-`; an attribute that is None is left out; text is escaped."""
    # Names are ours and values are escaped here; `Markup.format` would look at each of them again.
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(*children)}</{name}>" if children else f"<{name}{written}/>")


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def join(*parts: str | Markup) -> Markup:
    return Markup("").join(escape(part) for part in parts)


def text(
    lines: Sequence[str],
    x: float,
    top: float,
    *,
    size: int = SMALL,
    look: str = "ink",
    anchor: str | None = None,
    live: str | None = None,
    whole: str | None = None,
) -> Markup:
    """Lines below `top`, one element a line. `whole` is the unshortened text, shown on hover; `live` its SSE key."""
    return join(
        *(
            element(
                "text",
                *([element("title", whole)] if whole and whole != " ".join(lines) and number == 0 else []),
                line,
                x=float(x),
                y=float(top + size * (0.98 + LEADING * number)),
                font_size=size,
                class_=look,
                text_anchor=anchor,
                data_live=live,
            )
            for number, line in enumerate(lines)
        )
    )


def height(lines: Sequence[str], size: int = SMALL) -> float:
    return len(lines) * size * LEADING


def line(*points: tuple[float, float], look: str = "line") -> Markup:
    return element("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_=look)


def path(commands: str, look: str = "line") -> Markup:
    return element("path", d=commands, class_=look)


def arrow_head(x: float, y: float, direction: str) -> Markup:
    """A solid point at (x, y); no marker, because a marker needs an id."""
    across, along = 4.5, 9.0
    corners = {
        "right": ((-along, -across), (-along, across)),
        "left": ((along, -across), (along, across)),
        "up": ((-across, along), (across, along)),
        "down": ((-across, -along), (across, -along)),
    }[direction]
    return element(
        "path", d=f"M{x:.1f} {y:.1f}" + "".join(f"L{x + dx:.1f} {y + dy:.1f}" for dx, dy in corners) + "Z", class_="ink"
    )


def box(x: float, y: float, width: float, tall: float, look: str = "box") -> Markup:
    return element("rect", x=float(x), y=float(y), width=float(width), height=float(tall), class_=look)


def seal(state: str, x: float, y: float, size: float) -> Markup:
    """The seal of base.html at (x, y): proven, claimed or broken."""
    return element(
        "use", href=f"#seal-{state}", x=float(x), y=float(y), width=float(size), height=float(size), class_="proof"
    )


def link(href: str | None, *children: Markup) -> Markup:
    return element("a", *children, href=href) if href else join(*children)


def picture(
    draw: Callable[[float], tuple[Markup, float]],
    *,
    title: str,
    description: str,
    widths: tuple[float, float] = (WIDE, NARROW),
) -> Markup:
    """Draw twice, for a desktop column and for a telephone; console.css shows the one that fits its container.

    A picture that holds links is a group, because role img would hide them from a screen reader.
    """
    drawn = Markup("")
    for look, width in zip(("wide", "narrow"), widths, strict=True):
        body, tall = draw(width)
        drawn += element(
            "svg",
            element("title", title),
            element("desc", description),
            body,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width:g} {math.ceil(tall)}",
            width=f"{width:g}",
            height=math.ceil(tall),
            role="group" if "<a " in body else "img",
            class_=look,
        )
    return drawn
