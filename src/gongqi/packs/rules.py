"""What rules say of facts. Pure thought: a rule applies, does not, or cannot be told, and then for want of which facts.

Facts of calls: `caller` and `server` are regions (a country by two letters, or EU), `audience` is public or internal. A
fact that nobody has told is "", and any question that needs it is unknown (Kleene's three values): it is not guessed. What
an unknown rule does is written with the rule: `apply` (its duty holds until the fact is told) or `tell` (it is said, and
nothing is done).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

AUTHORITIES = ("statute", "ministerial", "standard", "guideline", "interpretation")  # ministerial: a rule of ministries
FACTS = ("caller", "server", "audience")
PLACES = ("caller", "server")
CAPABILITIES = ("gateway.mask", "gateway.label", "gateway.deny")
DOES = {"mask": "gateway.mask", "label": "gateway.label", "show": "gateway.label", "deny": "gateway.deny", "note": None}
MAX_DEPTH = 8  # of a condition

State = Literal["applies", "not-applicable", "unknown"]
Facts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a rule comes from. `since` is when it began to hold; `instrument` by language."""

    id: str
    instrument: Mapping[str, str]
    article: str
    authority: str
    since: date
    url: str


@dataclass(frozen=True, slots=True)
class Rule:
    """`authority` is that of the rule as it stands here, never higher than that of what it rests on."""

    id: str
    does: str
    when: Mapping[str, Any]
    unknown: Literal["apply", "tell"]
    authority: str
    since: date
    until: date | None
    rests_on: tuple[Source, ...]
    params: Mapping[str, Any]

    def is_in_force(self, as_of: date) -> bool:
        return self.since <= as_of and (self.until is None or as_of < self.until)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says. `missing`: the facts for want of which it cannot be told."""

    rule: Rule
    state: State
    missing: tuple[str, ...] = ()

    @property
    def does(self) -> bool:
        return self.state == "applies" or (self.state == "unknown" and self.rule.unknown == "apply")


def check(condition: Any, depth: int = 0) -> None:
    """Raises ValueError at what is no condition."""
    if not isinstance(condition, dict) or len(condition) != 1 or depth > MAX_DEPTH:
        raise ValueError(f"no condition: {str(condition)[:80]}")
    [(name, given)] = condition.items()
    if name in ("all", "any") and isinstance(given, list) and given:
        for each in given:
            check(each, depth + 1)
        return
    if name == "not":
        check(given, depth + 1)
        return
    is_question = name == "is" and isinstance(given, dict) and len(given) == 1 and next(iter(given)) in FACTS
    if not (is_question or (name == "inside" and given in PLACES) or (name == "always" and given is True)):
        raise ValueError(f"no condition: {str(condition)[:80]}")


def holds(condition: Mapping[str, Any], facts: Facts, regions: frozenset[str]) -> tuple[bool | None, frozenset[str]]:
    """(whether it holds, None when that cannot be told; the facts for want of which)."""
    [(name, given)] = condition.items()
    if name == "always":
        return True, frozenset()
    if name == "not":
        value, missing = holds(given, facts, regions)
        return (None if value is None else not value), missing
    if name in ("all", "any"):
        return _joined([holds(each, facts, regions) for each in given], decisive=name == "any")
    fact = given if name == "inside" else next(iter(given))
    told = facts.get(fact, "")
    if not told:
        return None, frozenset((fact,))
    return (told in regions if name == "inside" else told == given[fact]), frozenset()


def _joined(
    parts: Sequence[tuple[bool | None, frozenset[str]]], *, decisive: bool
) -> tuple[bool | None, frozenset[str]]:
    if any(value is decisive for value, _ in parts):
        return decisive, frozenset()
    missing = frozenset().union(*(facts for value, facts in parts if value is None))
    return (None, missing) if missing else (not decisive, missing)


def find(rules: Sequence[Rule], facts: Facts, as_of: date, regions: frozenset[str]) -> list[Finding]:
    """What the rules in force on a day say of these facts."""
    found = []
    for rule in rules:
        if not rule.is_in_force(as_of):
            continue
        value, missing = holds(rule.when, facts, regions)
        state: State = "unknown" if value is None else "applies" if value else "not-applicable"
        found.append(Finding(rule, state, tuple(sorted(missing))))
    return found
