"""Terms: what a text is found by, the same for every database and for both languages. Pure thought.

- Han, kana and Hangul are written without spaces, or in compounds. Each pair of neighbours in a run is a term, and so
  is the run's last character; then any part of the run is found, as a phrase of pairs or as the beginning of one:
  乳腺癌诊断 by 乳腺癌, by 诊断 and by 癌. No dictionary is asked, so no new word is unknown to it.
- In other scripts a run of letters and digits is a term, found by its beginning from three characters on.
- A label is one term for one exact fact, such as `kind=model`, so that a filter is a term like any other.

Source: CJK bigrams as in Lucene's CJKBigramFilter; UAX #15 (compatibility forms are one character).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

TERMS = 8_000  # of one asset: some twenty printed pages of its card; PostgreSQL counts positions up to 16,383
WORD = 64  # characters of a word that count; longer ones are hashes and encoded bytes
SHORTEST_BEGINNING = 3  # characters; the beginning "a" would find everything

_DENSE = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"(?P<dense>[{_DENSE}]+)|(?:(?![{_DENSE}])[^\\W_])+")
_OUTSIDE_A_LABEL = re.compile(r"[^\w.+:/-]+")


@dataclass(frozen=True, slots=True)
class Needle:
    """What must be somewhere in a text: these terms one after the other, the last of them perhaps only begun."""

    terms: tuple[str, ...]
    is_begun: bool


def terms_of(*texts: str) -> tuple[str, ...]:
    """The terms of these texts in their order, at most TERMS of them."""
    return tuple(islice(chain.from_iterable(_terms(text) for text in texts), TERMS))


def needles_of(asked: str) -> tuple[Needle, ...]:
    """What a text must hold to be found by what somebody typed; nothing for what has no letter and no digit."""
    needles = {}
    for run, is_dense in _runs(asked):
        if is_dense and len(run) > 1:
            needle = Needle(tuple(_pairs(run))[:-1], is_begun=False)
        else:
            needle = Needle((run[:WORD],), is_begun=is_dense or len(run) >= SHORTEST_BEGINNING)
        needles[needle] = None
    return tuple(needles)


def label(name: str, value: str) -> str:
    """One exact fact as a term; what no term can hold becomes a hyphen."""
    return f"{name}={_OUTSIDE_A_LABEL.sub('-', _folded(value))[:WORD]}"


def _terms(text: str) -> Iterable[str]:
    for run, is_dense in _runs(text):
        if is_dense:
            yield from _pairs(run)
        else:
            yield run[:WORD]


def _runs(text: str) -> Iterable[tuple[str, bool]]:
    for found in _RUN.finditer(_folded(text)):
        yield found.group(), found["dense"] is not None


def _pairs(run: str) -> Iterable[str]:
    return (run[at : at + 2] for at in range(len(run)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
