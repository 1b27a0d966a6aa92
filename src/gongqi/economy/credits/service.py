"""Dividing what calls earn among those who made the answer possible.

A settled call puts its fee on the deployment's clearing account; its event brings us here, at least once. The split is
made once: one row and one ledger transaction a call, both keyed by the call. What does not divide is carried to the
next fee by the tally, which is read and written in that same transaction. A fee that was settled before any policy was
published waits, and is divided when the first policy comes.

The log says of a split only that it was made, on which deployment and by which policy. Who paid, how much and who got
it is sealed: payer and receivers read it here, and can check that it is what the log holds the digest of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction

from pydantic import Field
from sqlalchemy import func, select

from gongqi.books.evidence import service as evidence
from gongqi.books.ledger import service as ledger
from gongqi.economy.credits import rules
from gongqi.economy.credits.events import FeeSplit
from gongqi.economy.credits.models import Split, SplitLine, SplitPolicy, Tally
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.serving import service as serving
from gongqi.resources.serving.events import CallSettled

ID = 64
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
    """`amount` of this fee. Of all fees of the tally so far it is a claim to `weight` / `whole`, and has got `total`."""

    share: str
    owner: str
    asset: str | None
    amount: int
    weight: int | None
    whole: int | None
    total: int | None


class SplitOut(Output):
    """`fee` and the amounts in booked units; `policy` is the number of the policy that divided it.

    `fees`: all that was divided on this deployment by the same claims, this fee included.
    """

    id: str
    call: str
    deployment: str
    release: str
    payer: str
    unit: str
    fee: int
    fees: int | None
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
    return ctx.listed(SplitPolicy, PolicyOut, input, to="credits:policy:read")


@read("credits:policy:get")
def get_policy(ctx: Read, input: OnePolicy) -> PolicyOut:
    return PolicyOut.model_validate(ctx.find(SplitPolicy, input.policy, to="credits:policy:read"))


@read("credits:split:list")
def list_splits(ctx: Read, input: ListSplits) -> Page[SplitOut]:
    return ctx.listed(Split, SplitOut, input, to="credits:split:read")


@read("credits:split:get")
def get_split(ctx: Read, input: OneSplit) -> SplitOut:
    return SplitOut.model_validate(ctx.find(Split, input.split, to="credits:split:read"))


@read("credits:split:receipt")
def get_split_receipt(ctx: Read, input: OneSplit) -> evidence.PrivateOut:
    """What the evidence of a split holds sealed, for those who see the split."""
    split = ctx.find(Split, input.split, to="credits:split:read")
    if split.evidence is None:
        raise Refused("credits.split-waiting", split=split.id)
    return evidence.private_side(ctx, split.evidence)


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


def claims_on(ctx: Read, deployment: str) -> list[rules.Claim]:
    """Who has a claim to how much of a deployment's next fee; none without a policy, or where the reader may not see the
    whole lineage: a source that is left out would make all other shares false."""
    policy = _in_force(ctx)
    release = hub.release_facts(ctx, serving.deployment_facts(ctx, deployment).release)
    lineage = hub.lineage_of_revision(ctx, release.revision)
    if policy is None or any(node.hidden for node in lineage.nodes):
        return []
    weights = {share: getattr(policy, share) for share in rules.SHARES}
    return rules.claims(weights, _standing(ctx, release, lineage, deployment)[0])


def shares_on(ctx: Read, lineage: hub.LineageOut) -> tuple[dict[rules.Edge, Fraction], Fraction]:
    """What the sources of a model earn of each fee, on the edges of its lineage, and what is the model's own. Nothing
    without a policy, or where the reader may not see the whole lineage."""
    policy = _in_force(ctx)
    nodes = {node.revision: node for node in lineage.nodes}
    if policy is None or any(node.hidden for node in lineage.nodes) or nodes[lineage.revision].kind != "model":
        return {}, Fraction(0)
    ways = rules.ways(lineage.revision, [(edge.derived, edge.source, edge.relation) for edge in lineage.edges])
    nearest: dict[str, str] = {}  # of each dataset, the revision that stands nearest
    for key in ways:
        node = nodes[key]
        if node.kind == "dataset" and node.asset and node.org:
            nearest.setdefault(node.asset, key)
    datasets = {asset: str(nodes[key].org) for asset, key in nearest.items()}
    nobody = rules.Receivers(service="", model="", datasets=datasets, compute="", foundation="")
    claims = rules.claims({share: getattr(policy, share) for share in rules.SHARES}, nobody)
    weights = {nearest[claim.asset]: claim.weight for claim in claims if claim.asset}
    own = sum((claim.weight for claim in claims if claim.share == "model"), Fraction(0))
    return rules.along(ways, weights), own


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
    claims = rules.claims(weights, receivers)
    tally = _tally(ctx, split.deployment, claims)
    amounts = rules.divide(split.fee, claims, tally.paid)
    tally.fees += split.fee
    tally.paid = [before + amount for before, amount in zip(tally.paid, amounts, strict=True)]
    split.state, split.policy, split.weights, split.split_at = "done", policy.number, weights, ctx.now
    split.fees = tally.fees
    split.lines = [
        SplitLine(
            position=position, share=claim.share, owner=claim.owner, asset=claim.asset, amount=amount,
            weight=claim.weight.numerator, whole=claim.weight.denominator, total=tally.paid[position],
        )
        for position, (claim, amount) in enumerate(zip(claims, amounts, strict=True))
    ]  # fmt: skip
    sealed = {
        "call": split.call, "payer": split.payer, "unit": split.unit, "fee": split.fee, "fees": split.fees,
        "lines": [LineOut.model_validate(line).model_dump() for line in split.lines],
    }  # fmt: skip
    split.evidence = ctx.record(
        split.id, kind="credits.fee-split", private=sealed, deployment=split.deployment, policy=policy.number
    )
    split.transaction = ledger.post(
        ctx, key=f"split:{split.call}", kind="credits.split", subject=split.call, postings=_postings(ctx, split, claims),
        facts={"split": split.id, "policy": policy.number}, evidence=split.evidence,
    ).id  # fmt: skip
    ctx.session.flush()
    ctx.emit(FeeSplit(split=split.id, call=split.call, unit=split.unit, fee=split.fee))


def _receivers(ctx: Write, split: Split) -> rules.Receivers:
    """Who stands behind the answer, found along the lineage of the release that gave it; notes the path in `split`."""
    release = hub.release_facts(ctx, split.release)
    lineage = hub.lineage_of_revision(ctx, release.revision)
    receivers, reached = _standing(ctx, release, lineage, split.deployment)
    split.revisions, split.whole = [release.revision, *sorted(reached)], not lineage.truncated
    return receivers


def _standing(
    ctx: Read, release: hub.ReleaseFacts, lineage: hub.LineageOut, deployment: str
) -> tuple[rules.Receivers, set[str]]:
    """Who stands behind the answers of a release, and the revisions that it was made from."""
    edges = [(edge.derived, edge.source, edge.relation) for edge in lineage.edges]
    reached = set(rules.sources(release.revision, edges))
    datasets = {
        node.asset: node.org
        for node in lineage.nodes
        if node.revision in reached and node.kind == "dataset" and node.asset and node.org
    }
    host = serving.deployment_facts(ctx, deployment).org
    receivers = rules.Receivers(
        service=host, model=release.org, datasets=datasets, compute=host, foundation=members.foundation(ctx)
    )
    return receivers, reached


def _tally(ctx: Write, deployment: str, claims: Sequence[rules.Claim]) -> Tally:
    """The tally that these claims continue, held until the commit so that fees are divided one after the other."""
    key = (deployment, rules.digest(claims))
    found = ctx.session.get(Tally, key, with_for_update=True)
    return found or ctx.add(Tally(deployment=deployment, claims=key[1], fees=0, paid=[0] * len(claims)))


def _postings(ctx: Write, split: Split, claims: Sequence[rules.Claim]) -> list[ledger.Line]:
    """One line for each account that gets something, however many claims are paid to it."""
    gains: Counter[rules.Key] = Counter()
    for claim, line in zip(claims, split.lines, strict=True):
        gains[claim.account] += line.amount
    clearing = ledger.account(ctx, split.deployment, split.unit, serving.CLEARING)
    paid = [
        ledger.Line(ledger.account(ctx, owner, split.unit, code), amount)
        for (owner, code), amount in gains.items()
        if amount
    ]
    return [ledger.Line(clearing, -split.fee), *paid]
