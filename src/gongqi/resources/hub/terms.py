"""Terms: what a text is found by, the same for every database and for both languages. Pure thought.

- Han, kana and Hangul are written without spaces, or in compounds. Each pair of neighbours in a run is a term, and so
  is the run's last character; then any part of the run is found, as a phrase of pairs or as the beginning of one:
  乳腺癌诊断 by 乳腺癌, by 诊断 and by 癌. No dictionary is asked, so no new word is unknown to it.
- In other scripts a run of letters and digits is a term, found by its beginning from three characters on.
- A term bears the mark of its place: in the names, or in what is said about them in a line or a word (which holds the
  names too), or, without a mark, anywhere, the card included. In cards, where nearly everything begins some word, only
  whole words and pairs are looked for.
- A label is one term for one exact fact, such as `kind=model`, so that a filter is a term like any other.

Source: CJK bigrams as in Lucene's CJKBigramFilter; UAX #15 (compatibility forms are one character).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

NAMES, ABOUT, CARD = PLACES = ("n.", "a.", "")
TERMS = {NAMES: 1_000, ABOUT: 4_000, CARD: 8_000}  # some twenty pages of a card; PostgreSQL counts positions to 16,383
WORD = 64  # characters of a word that count; longer ones are hashes and encoded bytes
SHORTEST_BEGINNING = 3  # characters; the beginning "a" would find everything

_DENSE = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"(?P<dense>[{_DENSE}]+)|(?:(?![{_DENSE}])[^\\W_])+")
_OUTSIDE_A_LABEL = re.compile(r"[^\w.+:/-]+")


@dataclass(frozen=True, slots=True)
class Phrase:
    """These terms one after the other, the last of them perhaps only begun."""

    terms: tuple[str, ...]
    is_begun: bool = False


@dataclass(frozen=True, slots=True)
class Needle:
    """A run of what somebody typed; `phrase` is how it stands in a text, without the mark of a place."""

    phrase: Phrase

    def at(self, place: str) -> tuple[Phrase, ...]:
        """What must be among the terms of a text, one of these, for the needle to be at this place."""
        if place == CARD and self.phrase.is_begun:
            whole = (Phrase(self.phrase.terms),) if len(self.phrase.terms[0]) > 1 else ()
            return (*whole, *self.at(ABOUT))
        return (Phrase(tuple(place + term for term in self.phrase.terms), self.phrase.is_begun),)


def terms_of(place: str, *texts: str) -> tuple[str, ...]:
    """The terms of these texts in their order, as many as count, with the mark of their place."""
    terms = chain.from_iterable(_terms(text) for text in texts)
    return tuple(place + term for term in islice(terms, TERMS[place]))


def needles_of(asked: str) -> tuple[Needle, ...]:
    """What a text must hold to be found by what somebody typed; nothing for what has no letter and no digit."""
    needles = {}
    for run, is_dense in _runs(asked):
        if is_dense and len(run) > 1:
            phrase = Phrase(tuple(_pairs(run))[:-1])
        else:
            phrase = Phrase((run[:WORD],), is_begun=is_dense or len(run) >= SHORTEST_BEGINNING)
        needles[Needle(phrase)] = None
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
