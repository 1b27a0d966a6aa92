"""The ledger's pages: what one holds, the statement of one account, and one transaction with all its lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from gongqi.books.ledger import service, totals
from gongqi.books.ledger.replay import CheckOut
from gongqi.books.ledger.rules import parts_of, written
from gongqi.books.ledger.service import LineOut, StatementRow
from gongqi.kernel.room import Figure, View
from gongqi.kernel.verbs import Page, Read

PAGE = 50
CHECKED_AT_ONCE = 2_000  # transactions replayed in some 20 ms; a longer book is checked when somebody asks for it


@dataclass(frozen=True, slots=True)
class Fall:
    """In one unit, `amount` leaving its payers (one account, or None for several together) for several receivers."""

    unit: str
    payer: str | None
    amount: int
    parts: list[LineOut]


def load_ledger(
    ctx: Read, owner: str | None = None, unit: str | None = None, cursor: str | None = None, check: str | None = None
) -> dict[str, Any]:
    filters = {name: value for name, value in (("owner", owner), ("unit", unit)) if value}
    given = {"limit": PAGE, "cursor": cursor, **filters}
    page = service.list_accounts.run(ctx, service.ListAccounts.model_validate(given))
    count = totals.transactions(ctx)
    return {
        "page": page,
        "filters": {"owner": owner or "", "unit": unit or ""},
        "more": {**filters, "cursor": page.next or ""},
        "held": totals.held(ctx),
        "transactions": count,
        "circulating": totals.circulating(ctx),
        "money": totals.MONEY,
        "may_check": ctx.actor.may("ledger:book:check"),
        "checked": _checked(ctx, asked=check is not None, transactions=count),
        "may_grant": ctx.actor.may("ledger:credit:grant"),
    }


def load_account(ctx: Read, key: str, cursor: str | None = None) -> dict[str, Any]:
    account = service.get_account.run(ctx, service.GetAccount(account=key))
    asked = service.Statement(account=key, limit=PAGE, cursor=cursor)
    page = service.account_statement.run(ctx, asked)
    falls = (fall for row in page.items for fall in falls_of(_lines(account.id, row)))
    return {
        "account": account,
        "page": page,
        "points": _points(page, account.opened_at),
        "write": partial(written, unit=account.unit),
        "fall": next(falls, None),
        "may_grant": ctx.actor.may("ledger:credit:grant"),
    }


def load_transaction(ctx: Read, key: str) -> dict[str, Any]:
    transaction = service.get_transaction.run(ctx, service.GetTransaction(transaction=key))
    falls = falls_of(transaction.lines)
    return {
        "transaction": transaction,
        "lines": [(line, parts_of(line.account)[1]) for line in transaction.lines],
        "falls": falls,
        "writers": {fall.unit: partial(written, unit=fall.unit) for fall in falls},
        "undone_by": totals.undone_by(ctx, transaction.id),
        "may_reverse": ctx.actor.may("ledger:transaction:reverse"),
    }


def falls_of(lines: Sequence[LineOut]) -> list[Fall]:
    """What in these lines can be drawn as a fall: a unit that several accounts receive."""
    falls = []
    for unit in sorted({parts_of(line.account)[1] for line in lines}):
        of_unit = [line for line in lines if parts_of(line.account)[1] == unit]
        payers = [line for line in of_unit if line.amount < 0]
        parts = sorted((line for line in of_unit if line.amount > 0), key=lambda line: -line.amount)
        if len(parts) > 1:
            payer = payers[0].account if len(payers) == 1 else None
            falls.append(Fall(unit, payer, sum(line.amount for line in parts), parts))
    return falls


def _lines(account: str, row: StatementRow) -> list[LineOut]:
    return [LineOut(account=account, amount=row.amount), *row.counterparts]


def _points(page: Page[StatementRow], opened_at: datetime) -> list[tuple[datetime, int]]:
    """The balance after each movement shown, oldest first; from nothing when the page reaches back to the beginning."""
    points = [(row.at, row.balance) for row in reversed(page.items)]
    return points if page.next or not points else [(min(opened_at, points[0][0]), 0), *points]


def _checked(ctx: Read, *, asked: bool, transactions: int) -> CheckOut | None:
    """The replay of the book for those who may have it: at once when it is short, else when asked for."""
    if not ctx.actor.may("ledger:book:check") or not (asked or transactions <= CHECKED_AT_ONCE):
        return None
    return service.check_book.run(ctx, service.CheckBook())


VIEWS = (
    View("/ledger", "ledger_book.html", load_ledger, params=("owner", "unit", "cursor", "check")),
    View("/ledger/account/{key}", "ledger_account.html", load_account, params=("cursor",)),
    View("/ledger/transaction/{key}", "ledger_transaction.html", load_transaction, id_prefix="txn"),
)
FIGURES = (
    Figure("ledger.transactions", "/ledger", totals.transactions),
    Figure("ledger.circulating", "/ledger", totals.circulating),
)
