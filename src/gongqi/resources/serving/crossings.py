"""Between which places calls go, and what those who know the law there ask of them.

The answers to `gates.CALL_FORWARD` become duties that the data plane goes by. An answer's `params` say what is to be done:
`mask` names detectors, and `media` what becomes of what they cannot read; `label` is a mark for machines, `show` one for
people. Answers join: what any of them asks is done, and of two that differ the stricter holds. Detectors are code that
the rooms above bring (`Detectors`, a part of the kernel).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gongqi.kernel.gates import Answer, Verdict
from gongqi.kernel.verbs import Read, Write
from gongqi.kernel.words import LANGUAGES
from gongqi.resources.serving.endpoints import raise_version
from gongqi.resources.serving.gates import CALL_FORWARD, Crossing
from gongqi.resources.serving.plane.duties import Cited, Detector, Duty, Label, Recipe

_COUNTRY = re.compile(r"([A-Za-z]{2})(?:[-_](.*))?")
_APART = {  # regions that clouds file under CN, and ISO 3166-2 too, of countries whose letters are others
    "HK": re.compile(r"(hong-?kong|hk)\b"), "MO": re.compile(r"(maca[ou]|mo)\b"), "TW": re.compile(r"(taiwan|taipei|tw)\b"),
}  # fmt: skip

Place = tuple[str, str]


class Detectors:
    """Those that may be asked for by name. Raises KeyError for one that nobody has brought."""

    def __init__(self, named: Callable[[str], Detector]) -> None:
        self.named = named


def country_of(region: str) -> str:
    """The country of a region as clouds and people write it (`cn-north-1`, `US`, `eu-west`), empty where none is told.
    `cn-hongkong` is in HK: what leaves the mainland for there leaves it."""
    found = _COUNTRY.fullmatch(region)
    if found is None:
        return ""
    within = (found[2] or "").lower()
    return next((country for country, named in _APART.items() if named.match(within)), found[1].upper())


def duties_of(ctx: Read, places: Iterable[Place], regions: Iterable[str]) -> dict[Place, dict[str, Duty]]:
    """The duties of calls from each place to each region; nothing where there are none."""
    if not ctx.kernel.house.answerers.get(CALL_FORWARD.name):
        return {}
    duties: dict[Place, dict[str, Duty]] = {}
    regions = sorted(set(regions))
    for place in sorted(set(places)):
        for region in regions:
            duty = duty_of(ctx, ask(ctx, place, region))
            if duty is not None:
                duties.setdefault(place, {})[region] = duty
    return duties


def ask(ctx: Read, place: Place, region: str) -> Verdict:
    caller, audience = place
    return ctx.ask(CALL_FORWARD, Crossing(caller, region, audience, ctx.now.date()))


def changed(ctx: Write) -> None:
    """Those who answer would answer otherwise now: the data planes are told."""
    raise_version(ctx)


def duty_of(ctx: Read, verdict: Verdict) -> Duty | None:
    answers = [answer for given in verdict.answers.values() for answer in given]
    if not answers:
        return None
    denied = [_cited(answer) for answer in answers if answer.decision == "deny"]
    asked = [answer for answer in answers if answer.decision == "require"]
    return Duty(
        tuple(_told(ctx, answer) for answer in answers), denied[0] if denied else None, _recipe(ctx, asked),
        _labels(asked),
    )  # fmt: skip


def _recipe(ctx: Read, answers: Sequence[Answer]) -> Recipe | None:
    masking = [answer for answer in answers if answer.params.get("mask")]
    if not masking:
        return None
    names = dict.fromkeys(name for answer in masking for name in answer.params["mask"])
    named = ctx.kernel.part(Detectors).named
    media = "pass" if all(answer.params["media"] == "pass" for answer in masking) else "refuse"
    return Recipe(tuple(named(name) for name in names), media, _cited(masking[0]))


def _labels(answers: Sequence[Answer]) -> tuple[Label, ...]:
    texts = {answer.params["show"]: answer for answer in answers if answer.params.get("show")}
    labels = []
    for answer in answers:
        if mark := answer.params.get("label"):
            fields = mark["fields"]
            labels.append(Label(mark["member"], fields if isinstance(fields, bool) else dict(fields), _cited(answer)))
    return tuple(labels) + tuple(Label("", True, _cited(answer), text) for text, answer in texts.items())


def _cited(answer: Answer) -> Cited:
    cite = answer.cites[0]
    return Cited(answer.params["rule"], cite.source, cite.article, cite.authority, cite.date, cite.url)


def _told(ctx: Read, answer: Answer) -> Mapping[str, Any]:
    """A rule as the list of models tells it."""
    text = ctx.kernel.house.words.text
    return {
        "id": answer.params["rule"],
        "decision": answer.decision,
        "does": answer.params["does"],
        "is_certain": answer.params["is_certain"],
        **{language: text(answer.reason, language, **answer.params) for language in LANGUAGES},
        "cites": [
            {
                "source": cite.source,
                "article": cite.article,
                "authority": cite.authority,
                "date": cite.date,
                "url": cite.url,
            }
            for cite in answer.cites
        ],
    }
