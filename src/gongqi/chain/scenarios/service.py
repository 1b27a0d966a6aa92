"""The loop back: agreements, outcomes, and the return of outcomes to the dataset a model learned from.

An application that calls a model may later know what was true. Under the deployment's agreement it reports that, row by
row of a call it has paid for; a steward of a dataset in the model's lineage takes it back, and it becomes that dataset's
next revision.

An outcome is known by its record's name within (deployment, organisation), and by the row of the call it is about.
Reported again unchanged it is ignored, so a retry is harmless; reported again with other values it is refused, since one
of the two would be false. What was asked is not kept, so that the features are those of the call is the reporter's word.

Who signed and who reported is sealed in the evidence: it would say who uses which model, and how much.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field
from sqlalchemy import func, select, update

from gongqi.chain.scenarios.models import Outcome, Return, Signature
from gongqi.chain.scenarios.rules import MAX_COLUMNS, RECORD_PATTERN
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.serving import service as serving

ID = 64
MAX_RECORDS = 1_000  # in one report
MAX_RETURNED = 50_000  # outcomes in one return; what is left is for the next
REPORT = "scenarios:outcome:report"
START = "scenarios:return:start"
TABLE_COMPONENT, TABLE_SUFFIX = "datasets", ".csv"

Truth = tuple[dict[str, float], int]  # features and label


class Sign(Input):
    """`version` of the agreement that was read, if the signer wants to be sure that it is still the present one."""

    deployment: str = Field(max_length=ID)
    org: str = Field(max_length=ID)
    version: int | None = Field(None, ge=1, le=2**31)


class RecordInput(Input):
    """`row`: which of the call's rows it was, from 0; each has at most one outcome."""

    row: int = Field(ge=0, lt=serving.MAX_ROWS)
    record: str = Field(pattern=RECORD_PATTERN)
    features: dict[str, float] = Field(min_length=1, max_length=MAX_COLUMNS)
    label: int = Field(ge=0, le=1)


class Report(Input):
    """`call`: the settled call in which the model was asked about these records."""

    deployment: str = Field(max_length=ID)
    call: str = Field(max_length=ID)
    records: list[RecordInput] = Field(min_length=1, max_length=MAX_RECORDS)


class StartReturn(Input):
    """`asset` is the dataset that the outcomes are to join."""

    deployment: str = Field(max_length=ID)
    asset: str = Field(max_length=ID)


class OneReturn(Input):
    back: str = Field(max_length=ID)


class ListSignatures(Paged):
    deployment: str | None = Field(None, max_length=ID)


class ListOutcomes(Paged):
    deployment: str | None = Field(None, max_length=ID)
    returned_in: str | None = Field(None, max_length=ID)


class ListReturns(Paged):
    deployment: str | None = Field(None, max_length=ID)
    asset: str | None = Field(None, max_length=ID)


class SignatureOut(Output):
    id: str
    deployment: str
    org: str
    agreement_version: int
    text_sha256: str
    signed_by: str
    signed_at: datetime


class ReportOut(Output):
    """`new` were taken; `known` had been reported before, the same."""

    deployment: str
    org: str
    new: int
    known: int


class OutcomeOut(Output):
    id: str
    deployment: str
    release: str
    org: str
    call: str | None
    row: int | None
    record: str
    features: dict[str, float]
    label: int
    reported_by: str
    reported_at: datetime
    returned_in: str | None
    set_aside: str | None


class ReturnOut(Output):
    """Of `claimed` outcomes, `count` joined the dataset as `revision` and `set_aside` did not fit it."""

    id: str
    deployment: str
    asset: str
    org: str
    state: str
    claimed: int
    count: int
    set_aside: int
    revision: str | None
    reason: str | None
    started_by: str
    started_at: datetime
    finished_at: datetime | None


@verb("scenarios:agreement:sign", evidence="scenarios.agreement-signed")
def sign(ctx: Write, input: Sign) -> SignatureOut:
    ctx.require("scenarios:agreement:sign", input.org)
    members.require_organisation(ctx, input.org)
    deployment = _agreeable(ctx, input.deployment)
    terms = deployment.agreement
    if input.version is not None and input.version != terms.version:
        raise Refused("scenarios.agreement-moved", version=input.version, current=terms.version)
    if _signature(ctx, deployment.id, input.org, terms.version):
        raise Refused("scenarios.agreement-already-signed", org=input.org, version=terms.version)
    row = ctx.add(
        Signature(
            id=ctx.new_id("sig"), deployment=deployment.id, org=input.org, agreement_version=terms.version,
            text_sha256=terms.sha256, signed_by=ctx.actor.id, signed_at=ctx.now,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(
        row.id, withhold=True, private={"org": input.org}, deployment=deployment.id, version=terms.version,
        text_sha256=terms.sha256,
    )  # fmt: skip
    return SignatureOut.model_validate(row)


@verb(REPORT, evidence="scenarios.outcomes-reported")
def report(ctx: Write, input: Report) -> ReportOut:
    """Send back what turned out to be true."""
    call = _own_call(ctx, input)
    ctx.require(REPORT, call.org)
    deployment = _agreeable(ctx, input.deployment)
    if not _signature(ctx, deployment.id, call.org, deployment.agreement.version):
        raise Refused("scenarios.agreement-unsigned", org=call.org, version=deployment.agreement.version)
    fresh = _fresh(ctx, call, input.records)
    ctx.session.add_all(
        Outcome(
            id=ctx.new_id("out"), deployment=deployment.id, release=call.release, org=call.org, call=call.id,
            row=each.row, record=each.record, features=each.features, label=each.label, reported_by=ctx.actor.id,
            reported_at=ctx.now,
        )
        for each in fresh
    )  # fmt: skip
    known = len(input.records) - len(fresh)
    sealed = {"org": call.org, "call": call.id, "new": len(fresh), "known": known}
    ctx.record(deployment.id, withhold=True, private=sealed)
    return ReportOut(deployment=deployment.id, org=call.org, new=len(fresh), known=known)


@verb(START, evidence="scenarios.return-started")
def start_return(ctx: Write, input: StartReturn) -> ReturnOut:
    """Take the outcomes that are waiting into the next revision of a dataset the model learned from."""
    asset = hub.get_asset.run(ctx, hub.GetAsset(asset=input.asset))
    ctx.require(START, asset.org)
    deployment = serving.deployment_facts(ctx, input.deployment)
    release = hub.release_facts(ctx, deployment.release)
    learned_from = {each.asset for each in hub.sources(ctx, release.revision) if each.is_learned_from}
    if asset.kind != "dataset" or asset.id not in learned_from:
        raise Refused("scenarios.dataset-unrelated", asset=asset.id, deployment=deployment.name)
    running = select(Return.id).where(Return.asset == asset.id, Return.state == "running")
    if before := ctx.session.scalar(running):
        raise Refused("scenarios.return-running", back=before)
    latest = hub.latest_revision(ctx, asset.id)
    assert latest is not None, "a dataset in a lineage has a revision"
    table_file(hub.revision_facts(ctx, latest.id))
    row = Return(
        id=ctx.new_id("ret"), deployment=deployment.id, asset=asset.id, org=asset.org, state="running", claimed=0,
        count=0, set_aside=0, started_by=ctx.actor.id, started_at=ctx.now,
    )  # fmt: skip
    row.claimed = _claim(ctx, row)
    ctx.add(row)
    ctx.session.flush()
    ctx.record(row.id, deployment=deployment.id, asset=asset.id, claimed=row.claimed)
    ctx.start_flow("scenarios.return", key=row.id, back=row.id)
    return ReturnOut.model_validate(row)


@read("scenarios:agreement:list")
def list_signatures(ctx: Read, input: ListSignatures) -> Page[SignatureOut]:
    return ctx.listed(Signature, SignatureOut, input, to="scenarios:agreement:read")


@read("scenarios:outcome:list")
def list_outcomes(ctx: Read, input: ListOutcomes) -> Page[OutcomeOut]:
    return ctx.listed(Outcome, OutcomeOut, input, to="scenarios:outcome:read")


@read("scenarios:return:list")
def list_returns(ctx: Read, input: ListReturns) -> Page[ReturnOut]:
    return ctx.listed(Return, ReturnOut, input, to="scenarios:return:read")


@read("scenarios:return:get")
def get_return(ctx: Read, input: OneReturn) -> ReturnOut:
    return ReturnOut.model_validate(ctx.find(Return, input.back, to="scenarios:return:read"))


# --- for our flow and pages ------------------------------------------------------------------------------------------


def table_file(revision: hub.RevisionFacts) -> FileFacts:
    """The one table of a dataset. Raises Refused scenarios.dataset-without-table."""
    tables = [f for f in revision.files if f.component == TABLE_COMPONENT and f.path.endswith(TABLE_SUFFIX)]
    if len(tables) != 1:
        raise Refused("scenarios.dataset-without-table", revision=revision.revision, count=len(tables))
    return tables[0]


def outcome_totals(ctx: Read, deployment: str | None = None) -> dict[str, int]:
    """How many outcomes were reported, and how many of them are part of a dataset: public figures."""
    columns = (func.count(), func.count(Outcome.returned_in), func.count(Outcome.set_aside))
    query = select(*columns).select_from(Outcome)
    if deployment:
        query = query.where(Outcome.deployment == deployment)
    reported, claimed, aside = ctx.session.execute(query).one()
    return {"reported": int(reported), "returned": int(claimed) - int(aside)}


# --- within ----------------------------------------------------------------------------------------------------------


def _signature(ctx: Read, deployment: str, org: str, version: int) -> str | None:
    query = select(Signature.id).where(Signature.deployment == deployment, Signature.org == org)
    return ctx.session.scalar(query.where(Signature.agreement_version == version))


def _agreeable(ctx: Read, key: str) -> serving.DeploymentOut:
    """A deployment whose agreement is in force: it ends with the deployment. Raises Refused scenarios.agreement-ended."""
    deployment = serving.deployment_facts(ctx, key)
    if deployment.state != "ready":
        raise Refused("scenarios.agreement-ended", name=deployment.name)
    return deployment


def _own_call(ctx: Write, input: Report) -> serving.CallOut:
    """The settled call that is reported about. One's own only: others' are not even admitted to be."""
    call = serving.settled_call(ctx, input.call)
    if call is None or call.deployment != input.deployment or call.org not in ctx.actor.orgs_with(REPORT):
        raise Refused("scenarios.call-unknown", call=input.call)
    return call


def _fresh(ctx: Write, call: serving.CallOut, records: list[RecordInput]) -> list[RecordInput]:
    """Those not reported before.

    Raises Refused: scenarios.row-out-of-range; scenarios.outcome-contradicts for another truth about one record;
    scenarios.row-told for another record in a row that has its outcome.
    """
    names, rows = {each.record for each in records}, {each.row for each in records}
    if max(rows) >= call.rows:
        raise Refused("scenarios.row-out-of-range", row=max(rows), rows=call.rows)
    named = select(Outcome).where(
        Outcome.deployment == call.deployment, Outcome.org == call.org, Outcome.record.in_(names)
    )
    told: dict[str, Truth] = {row.record: _truth(row) for row in ctx.session.scalars(named)}
    in_rows = select(Outcome.row, Outcome.record).where(Outcome.call == call.id, Outcome.row.in_(rows))
    taken = dict(ctx.session.execute(in_rows).all())
    fresh = []
    for each in records:
        if taken.get(each.row, each.record) != each.record:
            raise Refused("scenarios.row-told", row=each.row, call=call.id)
        if each.record not in told:
            told[each.record], taken[each.row] = _truth(each), each.record
            fresh.append(each)
        elif told[each.record] != _truth(each):
            raise Refused("scenarios.outcome-contradicts", record=each.record)
    return fresh


def _truth(each: RecordInput | Outcome) -> Truth:
    return dict(each.features), each.label


def _claim(ctx: Write, row: Return) -> int:
    """Take the waiting outcomes for this return. Raises Refused scenarios.nothing-to-return."""
    waiting = select(Outcome.id).where(Outcome.deployment == row.deployment, Outcome.returned_in.is_(None))
    chosen = waiting.order_by(Outcome.id).limit(MAX_RETURNED)
    claimed = ctx.session.execute(
        update(Outcome)
        .where(Outcome.id.in_(chosen))
        .values(returned_in=row.id)
        .execution_options(synchronize_session=False)
    ).rowcount  # type: ignore[attr-defined]
    if not claimed:
        raise Refused("scenarios.nothing-to-return", deployment=row.deployment)
    return claimed
