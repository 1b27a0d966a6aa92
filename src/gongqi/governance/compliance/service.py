"""What compliance answers before a publication, and the verdict that anybody who sees a release may read.

Three answers, kept apart: `compliance.licence` (each component carries a licence that this foundation accepts for it,
and the card promises no more than they grant), `compliance.card` (nothing that the kind of asset asks for is missing)
and `compliance.openness` (the class reached; it denies only when nothing at all is open). The judgement is that of
rules.py and the tables; nothing is stored here, so a verdict is always by the rules in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from gongqi.governance.compliance import rules
from gongqi.governance.compliance.rules import LicenseVerdict
from gongqi.governance.compliance.tables import Tables, load_tables
from gongqi.kernel.gates import Answer, Citation, Verdict, by_policy
from gongqi.kernel.verbs import Input, Output, Read, Write, read
from gongqi.kernel.words import LANGUAGES
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.events import ReleasePublished, ReleaseWithdrawn
from gongqi.resources.hub.gates import RELEASE_PUBLISH, FileFacts, ReleaseQuestion

LICENCE, CARD, OPENNESS = "compliance.licence", "compliance.card", "compliance.openness"
SHOWN_FILES = 500  # rows that a page can carry; the answers are over all files
CARD_PATH = "README.md"
SPDX = Citation("SPDX 3.0.1", "Annex: SPDX License Expressions", "standard", "2024", "https://spdx.org/licenses/")
CARD_POLICY, OPEN_POLICY = by_policy("release", 3), by_policy("release", 4)
# What a file is when its committer did not say: by the kind of asset, and of the type that allows every open licence.
UNSAID = {"dataset": "datasets"}
UNSAID_OTHER = "model-metadata"


class OneVerdict(Input):
    release: str = Field(max_length=64)


class ComponentOut(Output):
    """`claimed` is None where the card's licence applies and the card has none."""

    path: str
    component: str
    claimed: str | None
    from_card: bool
    expression: str | None
    open: bool
    allowed: bool
    zh: str
    en: str


class OpennessOut(Output):
    mof_class: str | None
    percent: dict[str, int]
    included: list[str]
    missing: dict[str, list[str]]
    unfit: list[str]
    reason: str
    cite: str


class VerdictOut(Output):
    """`openness` is None for what has no class. `answers` are ours alone, each in both languages."""

    release: str
    revision: str
    digest: str
    kind: str
    allowed: bool
    answers: list[dict[str, Any]]
    card_license: str | None
    components: list[ComponentOut]
    files: int
    openness: OpennessOut | None


@read("compliance:verdict:show")
def show_verdict(ctx: Read, input: OneVerdict) -> VerdictOut:
    seen = hub.get_release.run(ctx, hub.OneRelease(release=input.release))  # who sees the release sees its verdict
    facts = hub.release_facts(ctx, seen.id)
    asked = hub.ask_gates(ctx, seen.id).answers
    ours = Verdict(RELEASE_PUBLISH.name, {source: asked[source] for source in (LICENCE, CARD, OPENNESS)})
    card = facts.of.card.get("license")
    return VerdictOut(
        release=facts.release,
        revision=facts.revision,
        digest=facts.digest,
        kind=facts.kind,
        allowed=ours.allowed,
        answers=[answer.model_dump() for answer in hub.worded(ctx, ours.as_json())],
        card_license=card,
        components=[_component_out(ctx, file, facts.kind, card) for file in facts.files[:SHOWN_FILES]],
        files=len(facts.files),
        openness=_openness_out(facts.files, card) if facts.kind == "model" else None,
    )


def expression(claimed: str | None) -> str | None:
    """A claimed licence as a normalised SPDX expression; None for one that cannot be read. For writers of documents."""
    return rules.license_verdict(claimed, component_kind=UNSAID_OTHER, tables=load_tables()).expression


# --- answers at the gate ---------------------------------------------------------------------------------------------


def answer_licence(_ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """One answer for each licence on each kind of component, and one on whether the card agrees with them."""
    tables, card = load_tables(), question.card.get("license")
    claims: dict[tuple[str, str | None], list[str]] = {(_component(CARD_PATH, None, question.kind), card): [CARD_PATH]}
    for file in question.files:
        key = (_component(file.path, file.component, question.kind), file.license or card)
        claims.setdefault(key, []).append(file.path)
    answers = []
    for (component, claim), paths in claims.items():
        verdict = rules.license_verdict(claim, component_kind=component, tables=tables)
        params = {**verdict.params, "path": paths[0], "files": len(paths)}
        decision = "allow" if verdict.allowed else "deny"
        answers.append(Answer(decision, verdict.reason, params, (_citation(verdict, component, tables),)))
    return answers + _agreement(question.files, card, tables)


def answer_card(_ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """A card says all that its kind of asset asks for, in both languages where that is asked."""
    if not question.card_missing:
        return [Answer("allow", "compliance.card-complete", cites=(CARD_POLICY,))]
    params = {"percent": question.card_percent, "missing": ", ".join(question.card_missing)}
    return [Answer("deny", "compliance.card-incomplete", params, (CARD_POLICY,))]


def tell_openness(ctx: Write, event: ReleasePublished | ReleaseWithdrawn) -> None:
    """Let an asset be found by the openness of its release published last, as the gate put it then."""
    latest = hub.latest_releases(ctx, {event.asset}).get(event.asset)
    verdict = hub.get_release.run(ctx, hub.OneRelease(release=latest.id)).verdict if latest else None
    said = [each for each in (verdict or {}).get("answers", ()) if each["source"] == OPENNESS]
    reached = said[0]["params"].get("class") if said else None
    label = {None: "open", "-": "partly"}.get(reached, f"class-{reached}".lower())  # only models have classes
    hub.tell_asset(ctx, event.asset, "openness", label if said else None)


def answer_openness(_ctx: Read, question: ReleaseQuestion) -> list[Answer]:
    """How open it is. Only what is not open at all is denied: a class is a fact, not a duty."""
    tables, card = load_tables(), question.card.get("license")
    if question.kind == "model":
        found = rules.openness(_claims(question.files, card, question.kind), tables=tables)
        if not found.included:
            return [Answer("deny", "compliance.openness-nothing", cites=(tables.framework,))]
        params = {"class": found.mof_class or "-", **{f"percent_{step}": part for step, part in found.percent.items()}}
        return [Answer("allow", found.reason, params, (tables.framework,))]
    if question.kind == "dataset":
        has_card = any(_component(f.path, f.component, question.kind) == "data-card" for f in question.files)
        dataset = rules.dataset_openness(card, has_data_card=has_card, tables=tables)
        by = Citation("Open Definition 2.1", dataset.cite, "standard", "2015-11-10", dataset.cite.split(", ")[-1])
        if not dataset.license.open:
            return [Answer("deny", "compliance.openness-nothing", cites=(by,))]
        return [Answer("allow", reason, dict(dataset.license.params), (by,)) for reason in dataset.reasons]
    claims = _claims(question.files, card, question.kind)
    is_open = any(rules.license_verdict(claims[kind], component_kind=kind, tables=tables).open for kind in claims)
    reason = "compliance.openness-open" if is_open else "compliance.openness-nothing"
    return [Answer("allow" if is_open else "deny", reason, cites=(OPEN_POLICY,))]


# --- within ----------------------------------------------------------------------------------------------------------


def _component(path: str, component: str | None, kind: str) -> str:
    """The component that a file is: as its committer said, else the card, else what its kind of asset is made of."""
    if component:
        return component
    if path == CARD_PATH:
        return "data-card" if kind == "dataset" else "model-card"
    return UNSAID.get(kind, UNSAID_OTHER)


def _claims(files: Iterable[FileFacts], card: str | None, kind: str) -> dict[str, str | None]:
    """Component → the expression that covers all its files; None as soon as one of them has no licence."""
    claims: dict[str, dict[str, None]] = {}
    unlicensed = set()
    for file in files:
        component, claim = _component(file.path, file.component, kind), file.license or card
        claims.setdefault(component, {})
        if claim:
            claims[component][claim] = None
        else:
            unlicensed.add(component)
    return {component: None if component in unlicensed else _joined(list(found)) for component, found in claims.items()}


def _joined(claims: Sequence[str]) -> str:
    return claims[0] if len(claims) == 1 else " AND ".join(f"({claim})" for claim in claims)


def _agreement(files: Iterable[FileFacts], card: str | None, tables: Tables) -> list[Answer]:
    if not card:
        return []  # that it is missing has been said
    firsts: dict[str, str] = {}
    for file in files:
        if file.license:
            firsts.setdefault(file.license, file.path)
    found = rules.contradictions(card, {path: claim for claim, path in firsts.items()}, tables=tables)
    if not found:
        readable = rules.license_verdict(card, component_kind="model-card", tables=tables).known
        return [Answer("allow", "compliance.license-agrees", {"card_license": card}, (SPDX,))] if readable else []
    return [
        Answer(
            "deny", each.reason,
            {
                "path": each.component, "component": each.component, "component_license": each.component_license,
                "card_license": each.card_license,
            },
            (SPDX,),
        )
        for each in found
    ]  # fmt: skip


def _citation(verdict: LicenseVerdict, component: str, tables: Tables) -> Citation:
    """The row of the tables that a verdict rests on."""
    by_type = tables.types[tables.components[component].type]
    if verdict.cite == by_type.cite:
        return by_type.citation
    row = tables.licenses.get(str(verdict.params.get("culprit")))
    return row.citation if row and row.cite == verdict.cite else SPDX


def _component_out(ctx: Read, file: FileFacts, kind: str, card: str | None) -> ComponentOut:
    component, claimed = _component(file.path, file.component, kind), file.license or card
    verdict = rules.license_verdict(claimed, component_kind=component, tables=load_tables())
    params: Mapping[str, Any] = {**verdict.params, "path": file.path}
    words = ctx.kernel.house.words
    said = {language: words.text(verdict.reason, language, **params) for language in LANGUAGES}
    return ComponentOut(
        path=file.path, component=component, claimed=claimed, from_card=file.license is None,
        expression=verdict.expression, open=verdict.open, allowed=verdict.allowed, **said,
    )  # fmt: skip


def _openness_out(files: Iterable[FileFacts], card: str | None) -> OpennessOut:
    found = rules.openness(_claims(files, card, "model"), tables=load_tables())
    return OpennessOut(
        mof_class=found.mof_class, percent=dict(found.percent), included=list(found.included),
        missing={step: list(kinds) for step, kinds in found.missing.items()}, unfit=list(found.unfit),
        reason=found.reason, cite=found.cite,
    )  # fmt: skip
