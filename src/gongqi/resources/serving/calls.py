"""One call, from reservation to settlement.

Reserve the fee, run the model, settle: two transactions, and between them a run that is in none. The process may die
at any line. Then nothing was paid, and either the same request comes again with its Idempotency-Key and is settled, or
the sweep gives the reserved fee back. A retry is never charged twice: it runs the same release again, which is harmless
because a model only answers, and finds the call settled.

The log says of a settled call only that there was one, on which deployment and at which version of its price. Who
called, for which organisation, how many rows and for what fee is sealed; the organisation reads its receipt here, and
can check that it is what the log holds the digest of.

`RESERVE`, `SETTLE` and `FAIL` are verbs so that authorisation, idempotency and the transaction are the kernel's, as
everywhere; they have no door of their own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import Field
from sqlalchemy import func, select

from gongqi.books.evidence import service as evidence
from gongqi.books.ledger import service as ledger
from gongqi.kernel.access import Actor
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, Input, Output, Page, Paged, Read, Write, execute, read, verb
from gongqi.resources.serving import rules
from gongqi.resources.serving.deployments import ID, deployment_named
from gongqi.resources.serving.engine import Engine
from gongqi.resources.serving.events import CallSettled
from gongqi.resources.serving.models import Budget, Call, Deployment

INFER = "serving:model:infer"
HOLD_SECONDS = 60  # three times the longest run; a fee set aside longer belongs to a process that died
CLEARING = "clearing"  # where a deployment's fees wait to be divided
MAX_SWEEP = 500  # calls ended in one commit
SHA256 = r"^[0-9a-f]{64}$"


class CallOut(Output):
    """`request_sha256` and `result_sha256` are digests of what was asked and answered, which are not kept."""

    id: str
    deployment: str
    release: str
    release_name: str
    blob: str
    caller: str
    org: str
    rows: int
    unit: str
    fee: int
    price_version: int
    state: str
    at: datetime
    ended_at: datetime | None
    latency_us: int | None
    request_sha256: str
    result_sha256: str | None
    evidence: str | None


class OneCall(Input):
    call: str = Field(max_length=ID)


class ListCalls(Paged):
    deployment: str | None = Field(None, max_length=ID)
    org: str | None = Field(None, max_length=ID)
    state: str | None = Field(None, pattern="^(reserved|settled|released|failed)$")


class ReserveCall(Input):
    deployment: str = Field(max_length=ID)
    org: str = Field(max_length=ID)
    rows: int = Field(ge=1, le=rules.MAX_ROWS)
    request_sha256: str = Field(pattern=SHA256)


class SettleCall(OneCall):
    latency_us: int = Field(ge=0)
    result_sha256: str = Field(pattern=SHA256)


@verb(INFER, evidence=None)
def RESERVE(ctx: Write, input: ReserveCall) -> CallOut:
    """Note the call and set its fee aside, if the budget and the funds allow it."""
    ctx.require(INFER, input.org)
    deployment = ctx.find(Deployment, input.deployment, to="serving:deployment:read")
    if deployment.state != "ready":
        raise Refused("serving.deployment-retired", name=deployment.name)
    call = Call(
        id=ctx.new_id("call"), deployment=deployment.id, release=deployment.release,
        release_name=deployment.release_name, blob=deployment.blob, caller=ctx.actor.id, org=input.org,
        rows=input.rows, unit=deployment.unit, fee=input.rows * deployment.price_per_row,
        price_version=deployment.price_version, request_sha256=input.request_sha256, attempt=0, state="reserved",
        at=ctx.now,
    )  # fmt: skip
    _set_aside(ctx, call)
    return CallOut.model_validate(ctx.add(call))


@verb(INFER, evidence=None)
def SETTLE(ctx: Write, input: SettleCall) -> CallOut:
    """Pay for an answer that is there. Settled before: nothing happens. Given back before: it is set aside again."""
    call = ctx.find(Call, input.call, to=INFER)
    if call.state == "settled":
        return CallOut.model_validate(call)
    if call.state == "reserved" and call.expires_at <= ctx.now:
        _give_back(ctx, call, "expired", state="released")
    if call.state != "reserved":
        _set_aside(ctx, call)
    budget = _budget(ctx, call)
    budget.spent += call.fee
    call.state, call.ended_at = "settled", ctx.now
    call.latency_us, call.result_sha256 = input.latency_us, input.result_sha256
    sealed = {
        "org": call.org, "rows": call.rows, "fee": call.fee, "unit": call.unit, "request_sha256": call.request_sha256,
        "result_sha256": call.result_sha256,
    }  # fmt: skip
    call.evidence = ctx.record(
        call.id, kind="serving.call-settled", withhold=True, private=sealed, deployment=call.deployment,
        release=call.release, price_version=call.price_version,
    )  # fmt: skip
    clearing = ledger.account(ctx, call.deployment, call.unit, CLEARING)
    ledger.settle(ctx, hold=call.hold, lines=[ledger.Line(clearing, call.fee)], evidence=call.evidence)
    ctx.session.flush()
    ctx.emit(
        CallSettled(
            call=call.id, deployment=call.deployment, release=call.release, org=call.org, unit=call.unit, fee=call.fee,
            rows=call.rows,
        )
    )  # fmt: skip
    return CallOut.model_validate(call)


@verb(INFER, evidence=None)
def FAIL(ctx: Write, input: OneCall) -> CallOut:
    """Give the fee back: there is no answer to pay for."""
    call = ctx.find(Call, input.call, to=INFER)
    if call.state == "reserved":
        _give_back(ctx, call, "failed", state="failed")
        ctx.session.flush()
    return CallOut.model_validate(call)


@read("serving:call:list")
def list_calls(ctx: Read, input: ListCalls) -> Page[CallOut]:
    return ctx.listed(Call, CallOut, input, to="serving:usage:read")


@read("serving:call:get")
def get_call(ctx: Read, input: OneCall) -> CallOut:
    return CallOut.model_validate(ctx.find(Call, input.call, to="serving:usage:read"))


@read("serving:call:receipt")
def get_receipt(ctx: Read, input: OneCall) -> evidence.PrivateOut:
    """What the evidence of a settled call holds sealed, for those who see the call."""
    call = ctx.find(Call, input.call, to="serving:usage:read")
    if call.evidence is None:
        raise Refused("serving.call-not-settled", call=call.id, state=call.state)
    return evidence.private_side(ctx, call.evidence)


def infer(kernel: Kernel, caller: Caller, *, name: str, version: str | None, body: bytes) -> dict[str, Any]:
    """Answer an inference request in the protocol's form, and charge for it. Blocks; not within a transaction.

    Raises what parsing, fitting, reserving and running raise; the caller pays only when this returns.
    """
    request = rules.parse_request(body)
    engine: Engine = kernel.part(Engine)
    deployment = kernel.look(lambda ctx: deployment_named(ctx, name, version), caller)
    rows = rules.fit(request, engine.ports(deployment.blob))
    digest = hashlib.sha256(body).hexdigest()
    org = org_for(caller.actor, request.org)
    given = ReserveCall(deployment=deployment.id, org=org, rows=rows, request_sha256=digest)
    caller = replace(caller, if_match=None)
    call: CallOut = execute(kernel, RESERVE, caller, given)  # replayed by the kernel when the key comes again
    keyless = replace(caller, idempotency_key=None)
    began = time.perf_counter()
    try:
        outputs = [tensor.as_json() for tensor in engine.run(call.blob, request.inputs, request.outputs)]
    except Exception:
        execute(kernel, FAIL, keyless, OneCall(call=call.id))
        raise
    latency_us = round((time.perf_counter() - began) * 1e6)
    result = hashlib.sha256(orjson.dumps(outputs)).hexdigest()
    settle = SettleCall(call=call.id, latency_us=latency_us, result_sha256=result)
    return _answer(name, request.id, execute(kernel, SETTLE, keyless, settle), outputs)


def require_caller(actor: Actor) -> frozenset[str]:
    """The organisations that the actor may call for. Raises Refused access.sign-in-needed, access.forbidden."""
    orgs = actor.orgs_with(INFER)
    if not orgs:
        raise Refused("access.sign-in-needed" if actor.is_anonymous else "access.forbidden", permission=INFER)
    return orgs


def org_for(actor: Actor, wanted: str | None) -> str:
    """In whose name the actor calls: the organisation it names, else the only one it may call for.

    Raises Refused: access.sign-in-needed, access.forbidden, serving.org-needed.
    """
    orgs = require_caller(actor)
    if wanted is not None and wanted not in orgs:
        raise Refused("access.forbidden", permission=INFER)
    if wanted is None and len(orgs) > 1:
        raise Refused("serving.org-needed", orgs=", ".join(sorted(orgs)[:10]))
    return wanted or next(iter(orgs))


# --- for rooms above and our own flow --------------------------------------------------------------------------------


def settled_call(ctx: Read, call: str) -> CallOut | None:
    """A settled call whoever made it, or None. The caller has authorised."""
    row = ctx.session.get(Call, call)
    return CallOut.model_validate(row) if row is not None and row.state == "settled" else None


def sweep(ctx: Write) -> int:
    """End up to MAX_SWEEP reservations whose time is over; returns how many there were."""
    overdue = select(Call).where(Call.state == "reserved", Call.expires_at <= ctx.now)
    rows = list(ctx.session.scalars(overdue.order_by(Call.expires_at, Call.id).limit(MAX_SWEEP).with_for_update()))
    for call in rows:
        _give_back(ctx, call, "expired", state="released")
    return len(rows)


def totals(ctx: Read, deployment: str | None = None) -> Mapping[str, int]:
    """How many calls were settled, and how many rows they had: public figures, without who and how much."""
    query = select(func.count(), func.coalesce(func.sum(Call.rows), 0)).where(Call.state == "settled")
    if deployment:
        query = query.where(Call.deployment == deployment)
    calls, rows = ctx.session.execute(query).one()
    return {"calls": int(calls), "rows": int(rows)}


# --- within ----------------------------------------------------------------------------------------------------------


def _set_aside(ctx: Write, call: Call) -> None:
    """A new attempt: its fee within the budget, and held."""
    budget = _budget(ctx, call)
    open_calls = select(func.coalesce(func.sum(Call.fee), 0)).where(
        Call.deployment == call.deployment, Call.org == call.org, Call.state == "reserved", Call.id != call.id
    )
    reserved = int(ctx.session.scalar(open_calls) or 0)
    rules.check_budget(limit=budget.limit_amount, spent=budget.spent, reserved=reserved, fee=call.fee)
    call.attempt += 1
    call.state, call.ended_at, call.expires_at = "reserved", None, ctx.now + timedelta(seconds=HOLD_SECONDS)
    call.hold = ledger.reserve(
        ctx, key=f"serving:{call.id}:{call.attempt}", payer=ledger.account(ctx, call.org, call.unit), amount=call.fee,
        subject=call.id, expires_at=call.expires_at,
    ).id  # fmt: skip


def _give_back(ctx: Write, call: Call, reason: str, *, state: str) -> None:
    if ledger.hold(ctx, call.hold).state == "open":  # the ledger's own sweep may have come first
        ledger.release(ctx, hold=call.hold, reason=reason)
    call.state, call.ended_at = state, ctx.now


def _budget(ctx: Write, call: Call) -> Budget:
    budget = ctx.session.scalar(select(Budget).where(Budget.deployment == call.deployment, Budget.org == call.org))
    if budget is None:
        raise Refused("serving.budget-missing", org=call.org)
    return budget


def _answer(name: str, id: str | None, call: CallOut, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    parameters = {
        "call": call.id, "fee": call.fee, "unit": call.unit, "price_version": call.price_version,
        "release": call.release, "latency_us": call.latency_us,
    }  # fmt: skip
    answer = {"model_name": name, "model_version": call.release_name, "parameters": parameters, "outputs": outputs}
    return answer if id is None else {"id": id, **answer}
