"""Compliance rules: what a licence expression means, whether claims agree, and how open a thing is. Pure thought.

Three questions are kept apart, because they have different answers:
- *verdict*: may a component of this kind carry this expression here? (the foundation's allow-list)
- *agreement*: does the card promise more than the components grant? (arithmetic on expressions)
- *openness*: which class of the Model Openness Framework do the components reach? (the framework's own algorithm)

Invariants: a claim is never corrected in silence; what is not known is "unknown", never allowed; adding an open
component never lowers a class; every verdict cites where its rule comes from.

Source: SPDX 3.0.1 Annex "License Expressions"; White et al., "The Model Openness Framework", arXiv:2403.13784, and the
Model Openness Tool (its class algorithm, without its defects: expressions are parsed, not compared as strings); Open
Definition 2.1 for data.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from license_expression import ExpressionError, LicenseSymbol, LicenseWithExceptionSymbol

from gongqi.governance.compliance.tables import CLASSES, OPEN_FAMILIES, Tables

CLAIM_LIMIT = 1000  # characters; the longest honest expression seen (a Linux distribution's kernel) has about 900
SYMBOL_LIMIT = 50  # licences in one expression
CHOICE_LIMIT = 256  # ways to satisfy an expression; (A OR B) AND (C OR D) … doubles with each pair
NESTING_LIMIT = 20  # brackets
SPDX_CITE = "SPDX 3.0.1, Annex: License Expressions; https://spdx.org/licenses/"
CONFLICT_CITE = "SPDX 3.0.1, Annex: License Expressions (AND: all apply; OR: the recipient chooses)"
# What boolean.py 5.0 lets through beside its own error: IndexError for "()", AttributeError and TypeError for others,
# AssertionError for "A AND (AND B)".
_PARSE_FAULTS = (ExpressionError, LookupError, AttributeError, TypeError, AssertionError)
DATA_CITE = "Open Definition 2.1, https://opendefinition.org/od/2.1/en/"


# --- licences ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LicenseVerdict:
    """What one claimed licence comes to. `expression` is normalised SPDX, or None when the claim cannot be read."""

    claimed: str
    expression: str | None
    known: bool
    open: bool
    allowed: bool
    fits: bool
    reason: str
    cite: str
    spdx_list_version: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    suggestions: tuple[str, ...] = ()


def license_verdict(claimed: str | None, *, component_kind: str, tables: Tables) -> LicenseVerdict:
    """Judge the licence claimed for one component. `reason` is a key of this room's words."""
    claim = (claimed or "").strip()

    def verdict(reason: str, cite: str, **more: Any) -> LicenseVerdict:
        base = {"expression": None, "known": False, "open": False, "allowed": False, "fits": False}
        params = {"claimed": claim[:200], "component": component_kind, **more.pop("params", {})}
        return LicenseVerdict(
            claimed=claim, reason=reason, cite=cite, spdx_list_version=tables.spdx_list_version,
            params=params, **{**base, **more},
        )  # fmt: skip

    if not claim:
        return verdict("compliance.license-missing", SPDX_CITE)
    parsed, problem, culprits = _parse(claim, tables)
    if parsed is None:
        offered = _suggest(claim, culprits, tables)
        return verdict(
            problem,
            SPDX_CITE,
            suggestions=offered,
            params={"culprit": ", ".join(culprits)[:200] or claim[:200], "suggestion": ", ".join(offered) or "-"},
        )
    rules = tables.types[tables.components[component_kind].type]
    known = {"expression": str(parsed), "known": True, "open": _holds(parsed, OPEN_FAMILIES, tables)}
    if not _holds(parsed, rules.allow, tables):
        culprit, reason, cite = _objection(parsed, rules.allow, rules.cite, tables)
        return verdict(reason, cite, **known, params={"culprit": culprit})
    fits = _holds(parsed, rules.fits, tables)
    reason = "compliance.license-allowed" if fits else "compliance.license-allowed-unusual"
    return verdict(reason, rules.cite, **known, allowed=True, fits=fits)


def _parse(claim: str, tables: Tables) -> tuple[Any, str, tuple[str, ...]]:
    """(parsed expression, '', ()) or (None, reason, the words that are wrong)."""
    depths = accumulate((char == "(") - (char == ")") for char in claim[:CLAIM_LIMIT])
    if len(claim) > CLAIM_LIMIT or max(depths, default=0) > NESTING_LIMIT:
        return None, "compliance.license-too-complex", ()
    try:
        parsed = tables.licensing.parse(claim)
        if parsed is None:
            return None, "compliance.license-syntax", ()
        unknown = tuple(dict.fromkeys(tables.licensing.unknown_license_keys(parsed)))
        if unknown:
            return None, "compliance.license-unknown", unknown
        # `strict` refuses a licence used as an exception and an exception used as a licence.
        parsed = tables.licensing.parse(claim, strict=True)
    except _PARSE_FAULTS as fault:
        return None, "compliance.license-syntax", (str(getattr(fault, "token_string", "") or ""),)
    if len(tables.licensing.license_symbols(parsed, unique=False)) > SYMBOL_LIMIT or _choices(parsed, tables) is None:
        return None, "compliance.license-too-complex", ()
    return parsed, "", ()


def _suggest(claim: str, culprits: Sequence[str], tables: Tables) -> tuple[str, ...]:
    """Up to three identifiers the author may have meant."""
    for text in (claim, *culprits):
        folded = re.sub(r"\s+", " ", text).strip().casefold()
        if folded in tables.suggestions:
            return tables.suggestions[folded][:3]
    words = {key.casefold(): key for key in tables.licensing.known_symbols}
    close = difflib.get_close_matches((culprits[0] if len(culprits) == 1 else claim).casefold(), words, n=3, cutoff=0.8)
    return tuple(words[word] for word in close)


def _id(symbol: Any) -> str:
    # An exception only adds permissions to the licence it follows, so that licence decides.
    return symbol.license_symbol.key if isinstance(symbol, LicenseWithExceptionSymbol) else symbol.key


def _family(symbol: Any, tables: Tables) -> str | None:
    row = tables.licenses.get(_id(symbol))
    return row.family if row else None


def _holds(node: Any, families: frozenset[str], tables: Tables) -> bool:
    """Whether the recipient can satisfy the expression with licences of these families alone."""
    if isinstance(node, LicenseSymbol | LicenseWithExceptionSymbol):
        return _family(node, tables) in families
    held = [_holds(part, families, tables) for part in node.args]
    return any(held) if isinstance(node, tables.licensing.OR) else all(held)


def _objection(parsed: Any, allow: frozenset[str], type_cite: str, tables: Tables) -> tuple[str, str, str]:
    """(licence, reason, cite) of the first licence in the expression that stands in the way."""
    for symbol in tables.licensing.license_symbols(parsed, unique=True, decompose=False):
        family = _family(symbol, tables)
        if family in allow:
            continue
        if family is None:
            return _id(symbol), "compliance.license-not-listed", SPDX_CITE
        if family in OPEN_FAMILIES:
            return _id(symbol), "compliance.license-wrong-type", type_cite
        return _id(symbol), f"compliance.license-{family}", tables.licenses[_id(symbol)].cite
    raise AssertionError("an expression of allowed licences only is allowed")


# --- agreement -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A component whose licence does not grant what the card promises."""

    component: str
    component_license: str
    card_license: str
    reason: str = "compliance.license-contradiction"
    cite: str = CONFLICT_CITE


def contradictions(card: str, components: Mapping[str, str | None], *, tables: Tables) -> tuple[Contradiction, ...]:
    """Components (name -> expression, None where the card's applies) that the card's expression misrepresents.

    Whoever accepts the card picks one of its choices and believes to have met every licence in it. So each choice of
    the card must contain a choice of each component: card `MIT AND CC-BY-4.0` agrees with components MIT and CC-BY-4.0;
    card `MIT OR Apache-2.0` contradicts a component that is MIT alone. Unreadable expressions contradict nothing here:
    `license_verdict` names them.
    """
    promised, _, _ = _parse(card, tables)
    if promised is None:
        return ()
    found = []
    for name, claim in sorted(components.items()):
        granted = _parse(claim, tables)[0] if claim else None
        if granted is not None and not _covers(promised, granted, tables):
            found.append(Contradiction(name, str(granted), str(promised)))
    return tuple(found)


def _covers(promised: Any, granted: Any, tables: Tables) -> bool:
    wide, narrow = _choices(promised, tables), _choices(granted, tables)
    assert wide is not None and narrow is not None, "_parse refuses expressions with too many choices"
    return all(any(choice <= accepted for choice in narrow) for accepted in wide)


def _choices(node: Any, tables: Tables) -> frozenset[frozenset[str]] | None:
    """The expression as a set of alternatives, each a set of licences that must all be met; None beyond the limit."""
    if isinstance(node, LicenseSymbol | LicenseWithExceptionSymbol):
        return frozenset({frozenset({str(node)})})
    found: set[frozenset[str]] = set() if isinstance(node, tables.licensing.OR) else {frozenset()}
    for part in node.args:
        inner = _choices(part, tables)
        if inner is None:
            return None
        found = found | inner if isinstance(node, tables.licensing.OR) else {a | b for a in found for b in inner}
        if len(found) > CHOICE_LIMIT:
            return None
    return frozenset(found)


# --- openness ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpennessVerdict:
    """A model's class in the Model Openness Framework. All lists are sorted component kinds.

    `percent` is the tool's progress per class: 0 for a class whose predecessor is not complete.
    `unfit` components count, but carry an open licence made for something else.
    """

    mof_class: str | None
    percent: Mapping[str, int]
    included: tuple[str, ...]
    missing: Mapping[str, tuple[str, ...]]
    invalid: tuple[str, ...]
    unlicensed: tuple[str, ...]
    unfit: tuple[str, ...]
    paper_for_report: bool
    reason: str
    cite: str


def openness(components: Mapping[str, str | None], *, tables: Tables) -> OpennessVerdict:
    """Class a model by the components present and their licences (component kind -> expression or None).

    A technical report may be left out when a research paper is there (MOF, class III).
    """
    opened, unlicensed, invalid, unfit = set(), set(), set(), set()
    for kind, claim in components.items():
        verdict = license_verdict(claim, component_kind=kind, tables=tables)
        group = opened if verdict.open else invalid if (claim or "").strip() else unlicensed
        group.add(kind)
        if verdict.open and not verdict.fits:
            unfit.add(kind)
    paper_for_report = "technical-report" not in opened and "research-paper" in components
    percent: dict[str, int] = {}
    missing: dict[str, tuple[str, ...]] = {}
    reached: str | None = None
    needed: set[str] = set()
    for step, name in enumerate(CLASSES):
        needed |= {kind for kind, row in tables.components.items() if row.required and row.mof_class == name}
        if paper_for_report:
            needed = needed - {"technical-report"} | {"research-paper"}
        earlier_complete = step == 0 or reached == CLASSES[step - 1]
        percent[name] = 100 * len(needed & opened) // len(needed) if earlier_complete else 0
        missing[name] = tuple(sorted(needed - set(components)))
        if percent[name] == 100:
            reached = name
    return OpennessVerdict(
        mof_class=reached,
        percent=percent,
        included=tuple(sorted(opened)),
        missing=missing,
        invalid=tuple(sorted(invalid)),
        unlicensed=tuple(sorted(unlicensed)),
        unfit=tuple(sorted(unfit)),
        paper_for_report=paper_for_report and "research-paper" in opened,
        reason=f"compliance.openness-{(reached or 'none').lower()}",
        cite=tables.framework_cite,
    )


@dataclass(frozen=True, slots=True)
class DatasetOpenness:
    """Whether a dataset is open: an open licence, and a card that says what it is. Datasets have no MOF class."""

    open: bool
    reasons: tuple[str, ...]
    license: LicenseVerdict
    cite: str = DATA_CITE


def dataset_openness(claimed: str | None, *, has_data_card: bool, tables: Tables) -> DatasetOpenness:
    """Judge a dataset by its licence and the presence of its data card."""
    verdict = license_verdict(claimed, component_kind="datasets", tables=tables)
    reasons = () if verdict.open else (verdict.reason,)
    reasons = reasons if has_data_card else (*reasons, "compliance.data-card-missing")
    return DatasetOpenness(open=not reasons, reasons=reasons or ("compliance.dataset-open",), license=verdict)
