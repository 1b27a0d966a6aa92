"""What one can do with the ledger: other rooms post, reserve and settle; people read, grant and reverse.

The plain functions are for rooms: they take part in the caller's verb and its transaction, and authorise nothing, since
what a movement means is the caller's to decide. Everything is idempotent by key, for ever: the same key with the same
payload gives back the transaction that exists, with another payload it is refused and nothing is posted. A key names
the operation (`serving:call:…`), so the room that knows the operation makes it, never the client.

A hold ends exactly once because its end is a transaction whose key is the hold's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import Field
from sqlalchemy import select, tuple_

from gongqi.books.ledger import journal, replay, rules
from gongqi.books.ledger.journal import Posted
from gongqi.books.ledger.models import Account, Balance, Hold, Posting, Transaction
from gongqi.books.ledger.rules import AVAILABLE, FOUNDATION, HELD, ISSUED, Draft, Fact, Line, account_id, written
from gongqi.kernel.errors import Refused
from gongqi.kernel.money import MAX_AMOUNT
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb

__all__ = [  # what other rooms use
    "HELD",
    "Draft",
    "HoldOut",
    "Line",
    "Posted",
    "TransactionOut",
    "account",
    "account_id",
    "balance",
    "hold",
    "post",
    "post_many",
    "release",
    "reserve",
    "reverse",
    "settle",
    "statement",
    "written",
]

CURSOR_DIGITS = 18  # what always fits a BIGINT column
MAX_EXPIRING = 500  # holds ended in one commit by the sweep


class LineOut(Output):
    account: str
    amount: int


class TransactionOut(Output):
    id: str
    sequence: int
    key: str
    kind: str
    subject: str
    at: datetime
    lines: list[LineOut]
    facts: dict[str, Fact]
    evidence: str | None
    reverses: str | None


class HoldOut(Output):
    id: str
    payer: str
    amount: int
    charged: int
    subject: str
    state: str
    placed_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    placed_by: str
    ended_by: str | None


# For other rooms


def account(ctx: Write, owner: str, unit: str, code: str = AVAILABLE, floor: int | None = 0) -> str:
    """The account of (owner, unit, code), opened if it does not exist. `floor` None: without limit, as issuers are.

    Raises: Refused("ledger.floor-differs") when it exists with another floor.
    """
    return journal.open_account(ctx, owner, unit, code, floor)


def balance(ctx: Read, account: str) -> int:
    """Booked units now; zero for an account not opened yet."""
    return ctx.session.scalar(select(Balance.amount).where(Balance.account_id == account)) or 0


def post(
    ctx: Write,
    *,
    key: str,
    kind: str,
    subject: str,
    postings: Sequence[Line],
    facts: Mapping[str, Fact] | None = None,
    evidence: str | None = None,
) -> TransactionOut:
    """Post one transaction. Raises as `journal.append`, and as `post_many`."""
    return _shown(post_many(ctx, [Draft(key, kind, subject, tuple(postings), facts or {}, evidence)])[0])


def post_many(ctx: Write, drafts: Sequence[Draft]) -> list[Posted]:
    """Post up to 10,000 transactions, all or none, in order; those already posted come back as they were.

    Raises: Refused("ledger.held-account") for a line on held units, which only their hold may move.
    """
    for draft in drafts:
        for account, _ in draft.lines:
            if rules.is_held(account):
                raise Refused("ledger.held-account", account=account)
    return journal.append(ctx, drafts)


def reserve(ctx: Write, *, key: str, payer: str, amount: int, subject: str, expires_at: datetime) -> HoldOut:
    """Set `amount` of `payer` aside until it is settled, released or `expires_at` has come.

    Asked again with the same key it returns the hold as it now is; `expires_at` then changes nothing.
    """
    rules.require_amount(amount, at_least=1)
    if rules.is_held(payer):
        raise Refused("ledger.held-account", account=payer)
    owner, unit, _ = rules.parts_of(payer)
    id = rules.hold_id(key)
    existing = ctx.session.get(Hold, id)
    if existing is None and expires_at <= ctx.now:
        raise Refused("ledger.hold-expiry-past", expires_at=expires_at.isoformat())
    held = account(ctx, owner, unit, HELD)
    lines = (Line(payer, -amount), Line(held, amount))
    placed = journal.append(ctx, [Draft(key, "ledger.reserve", subject, lines, {"hold": id})])[0]
    if existing is None:
        existing = ctx.add(
            Hold(
                id=id,
                payer=payer,
                held=held,
                amount=amount,
                charged=0,
                subject=subject,
                state="open",
                placed_at=ctx.now,
                expires_at=expires_at,
                placed_by=placed.id,
            )
        )
        ctx.session.flush()
    return HoldOut.model_validate(existing)


def hold(ctx: Read, id: str) -> HoldOut:
    return HoldOut.model_validate(_hold(ctx, id))


def settle(
    ctx: Write,
    *,
    hold: str,
    lines: Sequence[Line],
    facts: Mapping[str, Fact] | None = None,
    evidence: str | None = None,
) -> HoldOut:
    """End `hold` by paying `lines` (gains of receivers, together at most what was reserved); the rest goes back.

    Raises: Refused("ledger.hold-ended") when it ended otherwise, or its time is over whether or not it was swept yet.
    """
    row = _hold(ctx, hold, lock=True)
    if row.state == "open" and row.expires_at <= ctx.now:
        raise Refused("ledger.hold-ended", hold=row.id, state="expired")
    final = rules.settlement(row.held, row.payer, row.amount, lines)
    return _end(ctx, [(row, _ending(row, "settle", final, facts or {}, evidence))], "settled")[0]


def release(ctx: Write, *, hold: str, reason: str) -> HoldOut:
    """End `hold` and give everything back. `reason` is a short lower-case word, such as `cancelled`."""
    row = _hold(ctx, hold, lock=True)
    facts = {"reason": rules.word(reason, field="reason")}
    return _end(ctx, [(row, _ending(row, "release", _back(row), facts))], "released")[0]


def expire_holds(ctx: Write, *, limit: int = MAX_EXPIRING) -> int:
    """End up to `limit` holds whose time is over; returns how many there were."""
    overdue = select(Hold).where(Hold.state == "open", Hold.expires_at <= ctx.now).order_by(Hold.expires_at, Hold.id)
    rows = list(ctx.session.scalars(overdue.limit(limit).with_for_update()))
    _end(ctx, [(row, _ending(row, "expire", _back(row), {})) for row in rows], "expired")
    return len(rows)


def reverse(ctx: Write, transaction: str, *, key: str, reason: str, evidence: str | None = None) -> TransactionOut:
    """Undo a transaction by its opposite: every balance is as if it had not been, fees included.

    The reversal of a settlement pays the whole charge back to who paid it.

    Raises: Refused("ledger.already-reversed"); Refused("ledger.hold-not-reversible") for what else happens to a hold;
    Refused("ledger.balance-too-low") when a receiver has spent it: nobody is put under their floor, the operator grants
    what is missing first.
    """
    row = ctx.session.get(Transaction, transaction)
    if row is None:
        raise Refused("ledger.transaction-unknown", transaction=transaction[: rules.MAX_KEY])
    before = ctx.session.scalar(select(Transaction.key).where(Transaction.reverses == row.id))
    if before is not None and before != key:
        raise Refused("ledger.already-reversed", transaction=row.id)
    lines = journal.lines_of(ctx.session.connection(), row.sequence)
    payer = None
    if any(rules.is_held(account) for account, _ in lines):
        ended = _hold(ctx, str(row.facts["hold"]))
        if (ended.state, ended.ended_by) != ("settled", row.id) or not ended.charged:
            raise Refused("ledger.hold-not-reversible", transaction=row.id)
        payer = ended.payer
    facts = {"reason": rules.word(reason, field="reason")}
    undo = rules.reversal(lines, payer)
    return _shown(journal.append(ctx, [Draft(key, "ledger.reverse", row.subject, undo, facts, evidence, row.id)])[0])


def _shown(posted: Posted) -> TransactionOut:
    draft = posted.draft
    return TransactionOut(
        id=posted.id,
        sequence=posted.sequence,
        key=draft.key,
        kind=draft.kind,
        subject=draft.subject,
        at=posted.at,
        lines=_lines_out(draft.lines),
        facts=dict(draft.facts),
        evidence=posted.evidence,
        reverses=draft.reverses,
    )


def _lines_out(lines: Sequence[Line]) -> list[LineOut]:
    return [LineOut(account=account, amount=amount) for account, amount in lines]


def _hold(ctx: Read, id: str, *, lock: bool = False) -> Hold:
    row = ctx.session.get(Hold, id, with_for_update=lock or None)
    if row is None:
        raise Refused("ledger.hold-unknown", hold=id[: rules.MAX_KEY])
    return row


def _back(row: Hold) -> tuple[Line, ...]:
    return rules.settlement(row.held, row.payer, row.amount, ())


def _ending(
    row: Hold, kind: str, lines: Sequence[Line], facts: Mapping[str, Fact], evidence: str | None = None
) -> Draft:
    return Draft(f"{row.id}:end", f"ledger.{kind}", row.subject, lines, {**facts, "hold": row.id}, evidence)


def _end(ctx: Write, endings: Sequence[tuple[Hold, Draft]], state: str) -> list[HoldOut]:
    for row, draft in endings:
        ended = row.ended_by and ctx.session.scalar(
            select(Transaction.payload_digest).where(Transaction.id == row.ended_by)
        )
        if ended and ended != rules.digest_of(draft):
            raise Refused("ledger.hold-ended", hold=row.id, state=row.state)
    for (row, _), posted in zip(endings, journal.append(ctx, [draft for _, draft in endings]), strict=True):
        if row.ended_by is None:
            back = sum(amount for account, amount in posted.draft.lines if account == row.payer)
            row.state, row.ended_at, row.ended_by = state, ctx.now, posted.id
            row.charged = row.amount - back
    ctx.session.flush()
    return [HoldOut.model_validate(row) for row, _ in endings]


# For people


class AccountOut(Output):
    id: str
    owner: str
    unit: str
    code: str
    floor: int | None
    balance: int
    opened_at: datetime


class GetAccount(Input):
    account: str = Field(max_length=rules.MAX_KEY)


class ListAccounts(Paged):
    owner: str | None = Field(None, max_length=80)
    unit: str | None = Field(None, max_length=40)


class Statement(Paged):
    account: str = Field(max_length=rules.MAX_KEY)


class StatementRow(Output):
    """One posting of the account: `balance` is what it held afterwards, `counterparts` the other lines."""

    transaction: str
    sequence: int
    kind: str
    subject: str
    at: datetime
    amount: int
    balance: int
    counterparts: list[LineOut]
    facts: dict[str, Fact]
    evidence: str | None
    reverses: str | None


class GetTransaction(Input):
    transaction: str = Field(max_length=rules.MAX_KEY)


class Grant(Input):
    owner: str = Field(max_length=80)
    unit: str = Field(max_length=40)
    amount: int = Field(ge=1, le=MAX_AMOUNT)
    purpose: str = Field("subsidy", max_length=40)


class Reverse(Input):
    transaction: str = Field(max_length=rules.MAX_KEY)
    reason: str = Field(max_length=40)


class CheckBook(Input):
    pass


@read("ledger:account:get")
def get_account(ctx: Read, input: GetAccount) -> AccountOut:
    return AccountOut.model_validate(ctx.find(Account, input.account, to="ledger:account:read"))


@read("ledger:account:list")
def list_accounts(ctx: Read, input: ListAccounts) -> Page[AccountOut]:
    return ctx.listed(Account, AccountOut, input, to="ledger:account:read")


@read("ledger:account:statement")
def account_statement(ctx: Read, input: Statement) -> Page[StatementRow]:
    ctx.find(Account, input.account, to="ledger:account:read")
    return statement(ctx, input.account, limit=input.limit, cursor=input.cursor)


def statement(ctx: Read, account: str, *, limit: int = 50, cursor: str | None = None) -> Page[StatementRow]:
    """The postings of `account`, newest first, with the balance after each. For rooms that have authorised already."""
    query = (
        select(Posting, Transaction)
        .join(Transaction, Transaction.sequence == Posting.sequence)
        .where(Posting.account_id == account)
        .order_by(Posting.sequence.desc(), Posting.position.desc())
    )
    if cursor:
        sequence, _, position = cursor.partition(".")
        if not (sequence.isdecimal() and position.isdecimal() and max(len(sequence), len(position)) <= CURSOR_DIGITS):
            raise Refused("kernel.cursor-invalid")
        query = query.where(tuple_(Posting.sequence, Posting.position) < (int(sequence), int(position)))
    rows = ctx.session.execute(query.limit(limit + 1)).all()
    shown = rows[:limit]
    counterparts: dict[int, list[Posting]] = {}
    within = select(Posting).where(Posting.sequence.in_([posting.sequence for posting, _ in shown]))
    for other in ctx.session.scalars(within.order_by(Posting.sequence, Posting.position)):
        counterparts.setdefault(other.sequence, []).append(other)
    items = [
        StatementRow(
            transaction=t.id,
            sequence=t.sequence,
            kind=t.kind,
            subject=t.subject,
            at=t.at,
            amount=p.amount,
            balance=p.balance,
            facts=t.facts,
            evidence=t.evidence,
            reverses=t.reverses,
            counterparts=[
                LineOut(account=o.account_id, amount=o.amount)
                for o in counterparts[p.sequence]
                if o.position != p.position
            ],
        )
        for p, t in shown
    ]
    more = len(rows) > limit
    return Page(items=items, next=f"{shown[-1][0].sequence}.{shown[-1][0].position}" if more else None)


@read("ledger:transaction:get")
def get_transaction(ctx: Read, input: GetTransaction) -> TransactionOut:
    row = ctx.find(Transaction, input.transaction, to="ledger:transaction:read")
    lines = journal.lines_of(ctx.session.connection(), row.sequence)
    return TransactionOut(
        id=row.id,
        sequence=row.sequence,
        key=row.key,
        kind=row.kind,
        subject=row.subject,
        at=row.at,
        facts=row.facts,
        lines=_lines_out(lines),
        evidence=row.evidence,
        reverses=row.reverses,
    )


@verb("ledger:credit:grant", evidence="ledger.credit-granted")
def grant(ctx: Write, input: Grant) -> TransactionOut:
    """Issue units to an owner. Whether the owner exists is for the rooms above; an account may wait for them."""
    ctx.require("ledger:credit:grant")
    issuer = account(ctx, FOUNDATION, input.unit, ISSUED, floor=None)
    receiver = account(ctx, input.owner, input.unit)
    purpose = rules.word(input.purpose, field="purpose")
    key = ctx.new_id("grant")
    evidence = ctx.record(rules.transaction_id(key), account=receiver, amount=input.amount, purpose=purpose)
    lines = (Line(issuer, -input.amount), Line(receiver, input.amount))
    facts = {"purpose": purpose}
    return post(ctx, key=key, kind="ledger.grant", subject=input.owner, postings=lines, facts=facts, evidence=evidence)


@verb("ledger:transaction:reverse", evidence="ledger.transaction-reversed")
def reverse_transaction(ctx: Write, input: Reverse) -> TransactionOut:
    row = ctx.find(Transaction, input.transaction, to="ledger:transaction:reverse")
    key = ctx.new_id("reversal")
    evidence = ctx.record(row.id, by=rules.transaction_id(key), reason=input.reason)
    return reverse(ctx, row.id, key=key, reason=input.reason, evidence=evidence)


@read("ledger:book:check")
def check_book(ctx: Read, input: CheckBook) -> replay.CheckOut:
    """Replay the whole book; `findings` is empty when every row is true."""
    ctx.require("ledger:book:check")
    return replay.report(ctx.session)
