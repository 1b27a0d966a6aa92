"""Replay: read the whole book once, in order, and name every row that cannot be true.

What it proves: every transaction is the one its digest and its key say, its lines sum to zero per unit, each posting
carries the balance that the postings before it make, no account was under its floor, balances and holds agree with the
postings. Somebody who drops the triggers and edits a row is found; somebody who rewrites a transaction with its digest,
every later balance and the balance table makes a book that is true in itself, and is found by the marks that the log
holds: each has the digest of the book up to a transaction (see `flows`). What `gongqi verify log` says of the log then
holds for the book up to the newest mark.

Memory: one integer per account and unit; rows are streamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import BigInteger, cast, func, select
from sqlalchemy.orm import Session

from gongqi.books.evidence import service as evidence
from gongqi.books.ledger import rules
from gongqi.books.ledger.models import Account, Balance, Hold, Posting, Transaction
from gongqi.kernel.verbs import Output

ANCHORED = "ledger.book-anchored"  # the kind of entry that marks how far the book has come
STREAM_ROWS = 5_000
MAX_FINDINGS = 20  # one is a reason to stop trusting; twenty show where to look


class Finding(Output):
    """`row` (`table/key`) is false: `what` is the word for why (text key `ledger.finding.<what>`)."""

    what: str
    row: str
    want: str = ""
    got: str = ""


class UnitSum(Output):
    """`circulating` is what owners hold together; the issuing accounts hold minus that."""

    unit: str
    circulating: int
    sum: int


class CheckOut(Output):
    true: bool
    transactions: int
    postings: int
    accounts: int
    units: list[UnitSum]
    findings: list[Finding]


@dataclass(slots=True)
class Book:
    """What the replay knows so far."""

    owners: dict[str, tuple[str, int | None]]  # account → (unit, floor)
    balances: dict[str, int] = field(default_factory=dict)
    anchors: dict[int, evidence.EntryOut] = field(default_factory=dict)  # by the sequence they reach, not yet passed
    digest: str = rules.EMPTY_BOOK
    transactions: int = 0
    postings: int = 0


def check(session: Session) -> list[Finding]:
    """The first `MAX_FINDINGS` false rows, in the order of the book; empty when it is true."""
    return report(session).findings


def report(session: Session) -> CheckOut:
    accounts = session.execute(select(Account.id, Account.unit, Account.floor))
    anchors = {entry.facts["through"]: entry for entry in evidence.every_of(session, ANCHORED)}
    book = Book({id: (unit, floor) for id, unit, floor in accounts}, anchors=anchors)
    findings: list[Finding] = []
    for finding in _findings(session, book):
        findings.append(finding)
        if len(findings) == MAX_FINDINGS:
            break
    sums: dict[str, list[int]] = {}
    for account, (unit, floor) in book.owners.items():
        amount = book.balances.get(account, 0)
        row = sums.setdefault(unit, [0, 0])
        row[0] += amount if floor is not None else 0
        row[1] += amount
    return CheckOut(
        true=not findings,
        transactions=book.transactions,
        postings=book.postings,
        accounts=len(book.owners),
        units=[UnitSum(unit=unit, circulating=held, sum=total) for unit, (held, total) in sorted(sums.items())],
        findings=findings,
    )


def _findings(session: Session, book: Book) -> Iterator[Finding]:
    yield from _accounts(session)
    yield from _transactions(session, book)
    for entry in book.anchors.values():
        yield Finding(what="anchor-unmet", row=f"evidence_entry/{entry.id}", want=str(entry.facts["through"]))
    yield from _balances(session, book)
    yield from _holds(session, book)


def _accounts(session: Session) -> Iterator[Finding]:
    for id, owner, unit, code in session.execute(select(Account.id, Account.owner, Account.unit, Account.code)):
        if id != f"{owner}:{unit}:{code}":
            yield Finding(what="account-altered", row=f"ledger_account/{id}", want=f"{owner}:{unit}:{code}", got=id)


def _transactions(session: Session, book: Book) -> Iterator[Finding]:
    t = Transaction
    columns = (t.sequence, t.id, t.key, t.payload_digest, t.kind, t.subject, t.facts, t.reverses)
    heads = session.execute(select(*columns).order_by(t.sequence).execution_options(yield_per=STREAM_ROWS))
    lines = select(Posting.sequence, Posting.position, Posting.account_id, Posting.amount, Posting.balance)
    lines = lines.order_by(Posting.sequence, Posting.position).execution_options(yield_per=STREAM_ROWS)
    groups = groupby(session.execute(lines), key=lambda posting: posting.sequence)
    sequence, postings = next(groups, (None, iter(())))
    for head in heads:
        while sequence is not None and sequence < head.sequence:
            yield Finding(what="posting-without-transaction", row=f"ledger_posting/{sequence}")
            sequence, postings = next(groups, (None, iter(())))
        book.transactions += 1
        yield from _anchor(book, head)
        if sequence != head.sequence:
            yield Finding(what="transaction-without-postings", row=f"ledger_transaction/{head.id}")
            continue
        yield from _transaction(book, head, list(postings))
        sequence, postings = next(groups, (None, iter(())))
    if sequence is not None:
        yield Finding(what="posting-without-transaction", row=f"ledger_posting/{sequence}")


def _anchor(book: Book, head: Any) -> Iterator[Finding]:
    book.digest = rules.chained(book.digest, head.sequence, head.id, head.payload_digest)
    entry = book.anchors.pop(head.sequence, None)
    if entry and (entry.facts["digest"], entry.facts["transactions"]) != (book.digest, book.transactions):
        yield Finding(
            what="anchor-false", row=f"evidence_entry/{entry.id}", want=entry.facts["digest"], got=book.digest
        )


def _transaction(book: Book, head: Any, postings: Sequence[Any]) -> Iterator[Finding]:
    name = f"ledger_transaction/{head.id}"
    if head.id != rules.transaction_id(head.key):
        yield Finding(what="key-altered", row=name, want=rules.transaction_id(head.key), got=head.id)
    lines = [(posting.account_id, posting.amount) for posting in postings]
    digest = rules.digest(head.kind, head.subject, lines, head.facts, head.reverses)
    if digest != head.payload_digest:
        yield Finding(what="payload-altered", row=name, want=head.payload_digest, got=digest)
    sums: dict[str, int] = {}
    for posting in postings:
        book.postings += 1
        row = f"ledger_posting/{posting.sequence}/{posting.position}"
        account = posting.account_id
        if account not in book.owners:
            yield Finding(what="account-missing", row=row, got=account)
            continue
        unit = book.owners[account][0]
        sums[unit] = sums.get(unit, 0) + posting.amount
        book.balances[account] = after = book.balances.get(account, 0) + posting.amount
        if posting.balance != after:
            yield Finding(what="running-balance-false", row=row, want=str(after), got=str(posting.balance))
    for unit, total in sums.items():
        if total:
            yield Finding(what="unbalanced", row=name, want=f"0 {unit}", got=f"{total} {unit}")
    for account in sorted({account for account, amount in lines if amount < 0 and account in book.owners}):
        floor = book.owners[account][1]
        if floor is not None and book.balances[account] < floor:
            yield Finding(what="under-floor", row=name, want=f"{account} >= {floor}", got=str(book.balances[account]))


def _balances(session: Session, book: Book) -> Iterator[Finding]:
    stored = {row.account_id: row.amount for row in session.execute(select(Balance.account_id, Balance.amount))}
    for account in sorted(stored.keys() | book.owners.keys()):
        want, got = book.balances.get(account, 0), stored.get(account)
        if want != got:
            yield Finding(what="balance-false", row=f"ledger_balance/{account}", want=str(want), got=str(got))


def _holds(session: Session, book: Book) -> Iterator[Finding]:
    """Held units are those of open holds; each was placed, and ended at most once, by the transactions it names."""

    def moved(transaction: Any, account: Any) -> Any:
        lines = select(cast(func.sum(Posting.amount), BigInteger))
        lines = lines.join(Transaction, Transaction.sequence == Posting.sequence)
        return lines.where(Transaction.id == transaction, Posting.account_id == account).scalar_subquery()

    held: dict[str, int] = {}
    query = select(
        Hold, moved(Hold.placed_by, Hold.held), moved(Hold.ended_by, Hold.held), moved(Hold.ended_by, Hold.payer)
    )
    query = query.order_by(Hold.id).execution_options(yield_per=STREAM_ROWS)
    for hold, reserved, ended, back in session.execute(query):
        name = f"ledger_hold/{hold.id}"
        if reserved != hold.amount or hold.held.rpartition(":")[0] != hold.payer.rpartition(":")[0]:
            yield Finding(what="hold-altered", row=name, want=str(reserved), got=str(hold.amount))
        if hold.state == "open":
            held[hold.held] = held.get(hold.held, 0) + hold.amount
            want = (None, None, 0)
        else:
            want = (rules.transaction_id(f"{hold.id}:end"), -hold.amount, hold.amount - (back or 0))
        got = (hold.ended_by, ended, hold.charged)
        if want != got:
            yield Finding(what="hold-state-false", row=name, want=f"{hold.state} {want}", got=str(got))
    for account in sorted({account for account in book.owners if rules.is_held(account)} | held.keys()):
        want, got = held.get(account, 0), book.balances.get(account, 0)
        if want != got:
            yield Finding(what="held-units-false", row=f"ledger_account/{account}", want=str(want), got=str(got))
