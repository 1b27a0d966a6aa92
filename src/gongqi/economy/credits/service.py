"""Dividing what calls earn among those who made the answer possible.

A settled call puts its fee on the deployment's clearing account; its event brings us here, at least once. The split is
made once: one row and one ledger transaction a call, both keyed by the call. A fee that was settled before any policy
was published waits, and is divided when the first policy comes.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field
from sqlalchemy import func, select

from gongqi.books.ledger import service as ledger
from gongqi.economy.credits import rules
from gongqi.economy.credits.events import FeeSplit
from gongqi.economy.credits.models import Split, SplitLine, SplitPolicy
from gongqi.kernel.errors import Broken
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import service as serving
from gongqi.resources.serving.events import CallSettled

ID = 64
FOUNDATION_HANDLE = "foundation"
COMPUTE = "compute"  # the account that compute is paid to, apart from what its owner may spend at will
MONEY = "CNY-fen"  # the unit in which the home page says what went back
MAX_WAITING = 100  # fees divided in one commit


class Weights(Input):
    """Basis points: 10,000 is the whole."""

    service: int = Field(ge=0, le=rules.WHOLE)
    model: int = Field(ge=0, le=rules.WHOLE)
    datasets: int = Field(ge=0, le=rules.WHOLE)
    compute: int = Field(ge=0, le=rules.WHOLE)
    foundation: int = Field(ge=0, le=rules.WHOLE)


class OnePolicy(Input):
    policy: str = Field(max_length=ID)


class OneSplit(Input):
    split: str = Field(max_length=ID)


class ListSplits(Paged):
    call: str | None = Field(None, max_length=ID)
    deployment: str | None = Field(None, max_length=ID)


class PolicyOut(Output):
    id: str
    number: int
    service: int
    model: int
    datasets: int
    compute: int
    foundation: int
    published_at: datetime
    published_by: str


class LineOut(Output):
    share: str
    owner: str
    asset: str | None
    amount: int


class SplitOut(Output):
    """`fee` and the amounts in booked units; `policy` is the number of the policy that divided it."""

    id: str
    call: str
    deployment: str
    release: str
    payer: str
    unit: str
    fee: int
    state: str
    policy: int | None
    weights: dict[str, int] | None
    revisions: list[str]
    whole: bool
    transaction: str | None
    evidence: str | None
    settled_at: datetime
    split_at: datetime | None
    lines: list[LineOut]


@verb("credits:policy:publish", evidence="credits.policy-published")
def publish_policy(ctx: Write, input: Weights) -> PolicyOut:
    """Say how fees settled from now on are divided; fees that were waiting for the first policy are divided too."""
    ctx.require("credits:policy:publish")
    weights = input.model_dump()
    rules.check_weights(weights)
    number = (ctx.session.scalar(select(func.max(SplitPolicy.number))) or 0) + 1
    policy = ctx.add(
        SplitPolicy(id=ctx.new_id("spp"), number=number, published_at=ctx.now, published_by=ctx.actor.id, **weights)
    )
    ctx.session.flush()
    ctx.record(policy.id, number=number, **weights)
    ctx.start_flow("credits.split-waiting", key=policy.id)
    return PolicyOut.model_validate(policy)


@read("credits:policy:list")
def list_policies(ctx: Read, input: Paged) -> Page[PolicyOut]:
    return ctx.page(ctx.visible(SplitPolicy, to="credits:policy:read"), SplitPolicy.id, input, to=PolicyOut)


@read("credits:policy:get")
def get_policy(ctx: Read, input: OnePolicy) -> PolicyOut:
    return PolicyOut.model_validate(ctx.find(SplitPolicy, input.policy, to="credits:policy:read"))


@read("credits:split:list")
def list_splits(ctx: Read, input: ListSplits) -> Page[SplitOut]:
    query = ctx.visible(Split, to="credits:split:read")
    if input.call:
        query = query.where(Split.call == input.call)
    if input.deployment:
        query = query.where(Split.deployment == input.deployment)
    return ctx.page(query, Split.id, input, to=SplitOut)


@read("credits:split:get")
def get_split(ctx: Read, input: OneSplit) -> SplitOut:
    return SplitOut.model_validate(ctx.find(Split, input.split, to="credits:split:read"))


# --- for our handler, flow and pages ---------------------------------------------------------------------------------


def split_fee(ctx: Write, event: CallSettled) -> None:
    """Divide the fee of a settled call, or note that it waits for a policy. Twice is once."""
    if ctx.session.scalar(select(Split.id).where(Split.call == event.call)):
        return
    split = ctx.add(
        Split(
            id=ctx.new_id("spl"), call=event.call, deployment=event.deployment, release=event.release,
            payer=event.org, unit=event.unit, fee=event.fee, state="waiting", revisions=[], whole=True,
            settled_at=ctx.now, lines=[],
        )
    )  # fmt: skip
    ctx.session.flush()
    if policy := _in_force(ctx):
        _divide(ctx, split, policy)


def split_waiting(ctx: Write) -> int:
    """Divide up to MAX_WAITING fees that were settled before there was a policy; returns how many there were."""
    policy = _in_force(ctx)
    assert policy is not None, "the flow is started by the publication of a policy"
    waiting = select(Split).where(Split.state == "waiting").order_by(Split.id).limit(MAX_WAITING)
    splits = list(ctx.session.scalars(waiting))
    for split in splits:
        _divide(ctx, split, policy)
    return len(splits)


def releases_on_path(ctx: Read, split: SplitOut) -> list[tuple[str, str | None]]:
    """Each revision that the split followed, with its newest published release."""
    return [(revision, next(iter(hub.releases_of(ctx, revision)), None)) for revision in split.revisions]


def splits_done(ctx: Read) -> int:
    """How many fees have been divided: a public figure, without whose."""
    return ctx.session.scalar(select(func.count()).select_from(Split).where(Split.state == "done")) or 0


def money_divided(ctx: Read) -> str:
    """The money that went back to those who made the answers possible, in words of its unit: a public figure."""
    done = select(func.sum(Split.fee)).where(Split.state == "done", Split.unit == MONEY)
    return ledger.written(int(ctx.session.scalar(done) or 0), MONEY)


# --- within ----------------------------------------------------------------------------------------------------------


def _in_force(ctx: Read) -> SplitPolicy | None:
    return ctx.session.scalar(select(SplitPolicy).order_by(SplitPolicy.number.desc()).limit(1))


def _divide(ctx: Write, split: Split, policy: SplitPolicy) -> None:
    weights = {share: getattr(policy, share) for share in rules.SHARES}
    receivers = _receivers(ctx, split)
    parts = rules.divide(split.fee, weights, receivers)
    totals = {share: sum(part.amount for part in parts if part.share == share) for share in rules.SHARES}
    split.state, split.policy, split.weights, split.split_at = "done", policy.number, weights, ctx.now
    split.lines = [
        SplitLine(position=position, share=part.share, owner=part.owner, asset=part.asset, amount=part.amount)
        for position, part in enumerate(parts)
    ]
    split.evidence = ctx.record(
        split.id, kind="credits.fee-split", call=split.call, policy=policy.number, unit=split.unit, fee=split.fee,
        parts=len(parts), datasets=len(receivers.datasets), totals=totals,
    )  # fmt: skip
    split.transaction = ledger.post(
        ctx, key=f"split:{split.call}", kind="credits.split", subject=split.call, postings=_postings(ctx, split, parts),
        facts={"split": split.id, "policy": policy.number}, evidence=split.evidence,
    ).id  # fmt: skip
    ctx.session.flush()
    ctx.emit(FeeSplit(split=split.id, call=split.call, unit=split.unit, fee=split.fee))


def _receivers(ctx: Write, split: Split) -> rules.Receivers:
    """Who stands behind the answer, found along the lineage of the release that gave it; notes the path in `split`."""
    release = hub.release_facts(ctx, split.release)
    lineage = hub.lineage_of_revision(ctx, release.revision)
    edges = [(edge.derived, edge.source, edge.relation) for edge in lineage.edges]
    reached = set(rules.sources(release.revision, edges))
    split.revisions, split.whole = [release.revision, *sorted(reached)], not lineage.truncated
    datasets = {
        node.asset: node.org
        for node in lineage.nodes
        if node.revision in reached and node.kind == "dataset" and node.asset and node.org
    }
    host = serving.deployment_facts(ctx, split.deployment).org
    return rules.Receivers(
        service=host, model=release.org, datasets=datasets, compute=host, foundation=_foundation(ctx)
    )


def _postings(ctx: Write, split: Split, parts: list[rules.Part]) -> list[ledger.Line]:
    """One line for each account, however many parts go to it."""
    gains: dict[str, int] = {}
    for part in parts:
        code = COMPUTE if part.share == "compute" else "available"
        account = ledger.account(ctx, part.owner, split.unit, code)
        gains[account] = gains.get(account, 0) + part.amount
    clearing = ledger.account(ctx, split.deployment, split.unit, serving.CLEARING)
    return [ledger.Line(clearing, -split.fee), *(ledger.Line(account, amount) for account, amount in gains.items())]


def _foundation(ctx: Read) -> str:
    found = members.list_parties.run(ctx, members.ListParties.model_validate({"handle": FOUNDATION_HANDLE})).items
    if not found:
        raise Broken("credits.foundation-missing", handle=FOUNDATION_HANDLE)
    return found[0].id
