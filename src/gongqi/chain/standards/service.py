"""The rules that the gates apply, in one list: what each asks, what follows otherwise, and where it comes from.

Nothing is decided here. Each row is read from the room that applies it (its tables, its policy), so the list cannot say
one thing and the gate do another; only the sentence for people is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from gongqi.chain.upstream import service as upstream
from gongqi.chain.upstream.imported import CITE as CITE_IMPORT
from gongqi.chain.upstream.pledges import CITE as CITE_PLEDGE
from gongqi.governance.compliance import service as compliance
from gongqi.governance.compliance.tables import CLASSES, load_tables
from gongqi.governance.ethics import service as ethics
from gongqi.kernel.gates import Citation
from gongqi.kernel.verbs import Input, Output, Page, Read, read
from gongqi.kernel.words import LANGUAGES
from gongqi.resources.hub.gates import RELEASE_PUBLISH
from gongqi.resources.hub.lineage import CITE_ARTEFACT, CITE_LINEAGE, CITE_PRESIGNED


class ListRules(Input):
    """`source` narrows the list to one answerer, such as `compliance.licence`."""

    source: str | None = Field(None, max_length=80)


class RuleOut(Output):
    """`otherwise`: what a rule that is not met does, `deny` or `require` (a duty). `zh` and `en` say what it asks."""

    id: str
    gate: str
    source: str
    otherwise: str
    zh: str
    en: str
    cited: str
    article: str
    authority: str
    date: str
    url: str


@read("standards:rule:list")
def list_rules(ctx: Read, input: ListRules) -> Page[RuleOut]:
    """Every rule, in the order in which the gates are shown. Public, as law is."""
    return Page(items=[rule for rule in rules(ctx) if input.source in (None, rule.source)])


def rules(ctx: Read) -> list[RuleOut]:
    return [*_upstream(ctx), *_hub(ctx), *_compliance(ctx), *_ethics(ctx)]


def rule_count(ctx: Read) -> int:
    return len(rules(ctx))


def _upstream(ctx: Read) -> Iterator[RuleOut]:
    yield _rule(ctx, "upstream.donation", "donation-accepted", upstream.CITE_ACCEPTED)
    yield _rule(ctx, "upstream.donation", "donation-licence", upstream.CITE_LICENCE)
    yield _rule(ctx, "upstream.import", "import-licence", CITE_IMPORT)
    yield _rule(ctx, "upstream.pledge", "pledges-named", CITE_PLEDGE)


def _hub(ctx: Read) -> Iterator[RuleOut]:
    yield _rule(ctx, "hub.artefact", "artefact", CITE_ARTEFACT)
    yield _rule(ctx, "hub.lineage", "lineage", CITE_LINEAGE)
    yield _rule(ctx, "hub.lineage", "lineage-open", CITE_LINEAGE, otherwise="require")
    yield _rule(ctx, "hub.presigned", "presigned", CITE_PRESIGNED, otherwise="require")


def _compliance(ctx: Read) -> Iterator[RuleOut]:
    tables = load_tables()
    yield _rule(ctx, compliance.LICENCE, "licence-known", compliance.SPDX)
    yield _rule(ctx, compliance.LICENCE, "licence-agrees", compliance.SPDX)
    for kind, row in tables.types.items():
        count = sum(each.family in row.allow for each in tables.licenses.values())
        yield _rule(ctx, compliance.LICENCE, f"licence-{kind}", row.citation, count=count)
    yield _rule(ctx, compliance.CARD, "card", compliance.CARD_POLICY)
    needed = [row.mof_class for row in tables.components.values() if row.required]
    parts = {step: needed.count(step) for step in CLASSES}
    yield _rule(
        ctx, compliance.OPENNESS, "openness", tables.framework, one=parts["I"], two=parts["II"], three=parts["III"]
    )


def _ethics(ctx: Read) -> Iterator[RuleOut]:
    policy = ethics.policy()
    for row in policy.thresholds:
        words = "at-least" if row.is_minimum else "at-most"
        yield _rule(
            ctx, ethics.EVALUATION, row.id, row.cite, otherwise=row.otherwise, words=words, bound=f"{row.bound:g}",
            metric=f"ethics.metric.{row.metric}", tasks=row.tasks if row.tasks != ethics.TASKS else (),
        )  # fmt: skip
    board = policy.board
    yield _rule(
        ctx, ethics.BOARD, "board", board.cite, quorum=board.quorum, voting=board.voting_days, valid=board.validity_days
    )


def _rule(
    ctx: Read, source: str, id: str, cite: Citation, *, otherwise: str = "deny", words: str | None = None,
    metric: str | None = None, tasks: Sequence[str] = (), **params: Any,
) -> RuleOut:  # fmt: skip
    texts = ctx.kernel.house.words

    def said(language: str) -> str:
        named = {"metric": texts.text(metric, language)} if metric else {}
        text = texts.text(f"standards.rule.{words or id}", language, **named, **params)
        if not tasks:
            return text
        of = ("、" if language == "zh" else ", ").join(texts.text(f"ethics.task.{task}", language) for task in tasks)
        return texts.text("standards.rule.of-tasks", language, tasks=of, rule=text)

    return RuleOut(
        id=f"{source}/{id}", gate=RELEASE_PUBLISH.name, source=source, otherwise=otherwise, cited=cite.source,
        article=cite.article, authority=cite.authority, date=cite.date, url=cite.url,
        **{language: said(language) for language in LANGUAGES},
    )  # fmt: skip
