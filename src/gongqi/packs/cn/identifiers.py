"""Numbers that name a person in China, as they stand in text.

Resident identity numbers (GB 11643-1999): six digits of a region, the day of birth, three of a sequence, and a check
character by ISO 7064 MOD 11-2. Region, day and check must hold, or one number in eleven would be taken for one. Of the
region the province alone is asked: counties come and go, and whoever was born in one that a table has dropped would not
be masked (`stdnum.cn.ric` asks the county; what it takes for valid is found here, and more). People group the digits as they
like (6-8-4, 6-4-4-4, by fours), so a space or a dash may stand between any two. The fifteen digits of before 1999 have no
check character and are not looked for.

Mobile numbers: eleven digits from 13 to 19, in one piece or as 3-4-4, with +86, 0086, 86 or nothing before.

Full-width and other digits, dashes and spaces are read as the plain ones they stand for, at the same offsets. Between Han
characters there is no word boundary, so the edges of a number are told by the digits beside it.

A text is looked at by windows that overlap by more than the longest number: time and memory grow with the text alone, and
no step keeps other threads waiting for long, whatever somebody writes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import date
from operator import mul

from gongqi.resources.serving.plane.duties import Detector

Span = tuple[int, int]

WINDOW = 8192  # letters
BEFORE = 3  # letters that are seen with a window: a digit, a point and a sign
BEHIND = 40  # eighteen digits with what is between them, and the next
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_OF_ZEROS = ord("0") * sum(_WEIGHTS)
_CHECKS = "10X98765432"
_PROVINCES = frozenset(  # and of Hong Kong, Macao and Taiwan, whose people may have such a number
    str(code)
    for first, last in ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 71), (81, 83))
    for code in range(first, last + 1)
)
_GROUPED = re.compile(r"\d(?:[ -]?\d){16,}(?:[ -]?[Xx])?", re.ASCII)  # where a resident number may stand
# Each may begin within what another candidate holds, so they are looked for at every place. A day of birth is asked here,
# or a long row of digits would be reckoned through at each of them.
_RESIDENT = re.compile(
    r"(?=[1-8]\d{5}(?:18|19|20|21)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx])", re.ASCII
)
_MOBILE = re.compile(
    r"(?<!\d)(?<!\d\.)(?=((?:(?:\+|00)?86[ -]?)?1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]?\d{4}|\d{4}[ -]\d{4}))(?!\d))", re.ASCII
)
_LONG = re.compile(r"\d(?:\D?\d){10,}")  # where digits are close enough for either; a sign before, an X behind
_NOT_DIGITS = re.compile(r"[ -]")
_DASHES = "‐‑‒–—―−－﹣"
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\t"
_PLAIN = (
    {code: str(digit) for code in range(128, 0x1FC00) if (digit := unicodedata.decimal(chr(code), None)) is not None}
    | dict.fromkeys(map(ord, _DASHES), "-")
    | dict.fromkeys(map(ord, _SPACES), " ")
    | {ord("Ｘ"): "X", ord("ｘ"): "x", ord("＋"): "+"}
)


def find_resident(text: str) -> Iterator[Span]:
    return _by_windows(_residents, text)


def find_mobile(text: str) -> Iterator[Span]:
    return _by_windows(_mobiles, text)


def _by_windows(find: Callable[[str], Iterator[Span]], text: str) -> Iterator[Span]:
    """What `find` finds in the whole, each in the window that it begins in."""
    for at in range(0, len(text), WINDOW):
        first = max(0, at - BEFORE)
        for start, end in find(text[first : at + WINDOW + BEHIND]):
            if at <= first + start < at + WINDOW:
                yield first + start, first + end


def _residents(text: str) -> Iterator[Span]:
    for start, plain in _runs(text):
        for grouped in _GROUPED.finditer(plain):
            number = _NOT_DIGITS.sub("", grouped[0])
            places: list[int] = []  # of its digits
            for found in _RESIDENT.finditer(number):
                places = places or [at for at, each in enumerate(grouped[0], grouped.start()) if each not in " -"]
                at = found.start()
                first, last = places[at], places[at + 17] + 1
                is_part = plain[first - 1 : first].isdecimal() or plain[last : last + 1].isdecimal()
                if not is_part and is_resident(number[at : at + 18]):
                    yield start + first, start + last


def _mobiles(text: str) -> Iterator[Span]:
    for start, plain in _runs(text):
        for match in _MOBILE.finditer(plain):
            first, last = match.span(1)
            yield start + first, start + last


def is_resident(number: str) -> bool:
    """Whether the digits, and perhaps an X, are a resident identity number."""
    number = _NOT_DIGITS.sub("", number).upper()
    total = sum(map(mul, _WEIGHTS, number[:17].encode())) - _OF_ZEROS
    if _CHECKS[total % 11] != number[17]:
        return False
    if number[:2] not in _PROVINCES or not "1800" <= number[6:10] < "2200":
        return False
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return True


def _runs(text: str) -> Iterator[tuple[int, str]]:
    """Where digits are close: (where that begins, what it says in plain digits)."""
    for run in _LONG.finditer(text):
        start = max(run.start() - 1, 0)
        yield start, _plain(text[start : run.end() + 2])


def _plain(text: str) -> str:
    return text if text.isascii() else text.translate(_PLAIN)


RESIDENT = Detector("cn.resident-number", "cnid", find_resident)
MOBILE = Detector("cn.mobile-number", "cntel", find_mobile)
