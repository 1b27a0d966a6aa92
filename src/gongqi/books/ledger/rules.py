"""The rules of double entry: what a transaction may be, and what it does to the balances it touches.

Idea: value is never made or lost, only moved. An account is (owner, unit, code); a transaction is a set of lines, each
moving an integer into (+) or out of (-) one account, and the lines of every unit sum to zero. An account has a floor,
zero unless it was opened otherwise; one that issues a unit has none, so its balance is minus what is in circulation.

Invariants
- A key names one transaction for ever: the id of a transaction is a digest of its key, so no two can share a key.
- The payload digest covers all that was decided (kind, subject, lines, facts, what it reverses) and nothing that
  depends on when or how often it was asked, so a retry is recognised and an alteration is found.
- No balance is under its floor after any transaction, in the order of their sequence numbers.
- Held units belong to open holds: only reserve, settle, release and expiry move them.

Sources: L. Pacioli, Summa de arithmetica (1494), tractatus XI; TigerBeetle's two-phase transfers (pending, post, void).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import orjson

from gongqi.kernel.errors import Refused
from gongqi.kernel.money import MAX_AMOUNT, UNITS, unit_named

MAX_LINES = 1_000  # a fee split over a deep lineage stays far below; more is a batch
MAX_BATCH = 10_000  # transactions in one commit: some 0.3 s of the only writer
MAX_KEY = 200  # characters of a key or subject
MAX_FACTS = 32
CACHED_ACCOUNTS = 10_000  # some 2 MB: a batch names the same accounts again and again
CACHED_KINDS = 256
AVAILABLE = "available"
HELD = "held"
ISSUED = "issued"
EMPTY_BOOK = "0" * 64  # what the digest of the first transaction rests on
FOUNDATION = "foundation"  # the owner of the accounts that issue units

Fact = str | int | bool | None
_OWNER = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
_WORD = re.compile(r"[a-z][a-z0-9-]{0,39}")
_KIND = re.compile(r"[a-z]+\.[a-z][a-z0-9-]{0,59}")


class Line(NamedTuple):
    """`amount` booked units into (+) or out of (-) `account`."""

    account: str
    amount: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction before it is posted. `facts` are public: ids, counts and words, never a name or a sentence."""

    key: str
    kind: str
    subject: str
    lines: Sequence[Line]
    facts: Mapping[str, Fact] = field(default_factory=dict)
    evidence: str | None = None
    reverses: str | None = None


def account_id(owner: str, unit: str, code: str = AVAILABLE) -> str:
    """The id of an account says all there is to say, so that nobody has to look it up: `org_01jd…:credit:available`."""
    if not _OWNER.fullmatch(owner):
        raise Refused("ledger.field-malformed", field="owner", value=owner[:MAX_KEY])
    return f"{owner}:{unit_named(unit).code}:{word(code, field='code')}"


def parts_of(account: str) -> tuple[str, str, str]:
    """(owner, unit, code). Raises: Refused("ledger.account-unknown") when `account` cannot be the id of an account."""
    owner, _, rest = account.partition(":")
    unit, _, code = rest.partition(":")
    if not code:
        raise Refused("ledger.account-unknown", account=account[:MAX_KEY])
    return owner, unit, code


@lru_cache(maxsize=CACHED_ACCOUNTS)
def unit_of(account: str) -> str:
    """The unit that `account` holds. Raises: as `parts_of`."""
    return parts_of(account)[1]


@lru_cache(maxsize=CACHED_ACCOUNTS)
def is_held(account: str) -> bool:
    return account.endswith(":" + HELD)


@lru_cache(maxsize=CACHED_KINDS)
def is_kind(kind: str) -> bool:
    return _KIND.fullmatch(kind) is not None


def word(value: str, *, field: str) -> str:
    """A short lower-case word: what becomes public for ever must not be a sentence about somebody."""
    if not _WORD.fullmatch(value):
        raise Refused("ledger.field-malformed", field=field, value=value[:MAX_KEY])
    return value


def written(amount: int, unit: str) -> str:
    """An amount as people read it, in the unit's symbol and without its name: 123456 CNY-fen is 1,234.56."""
    decimals = UNITS[unit].decimals
    whole, part = divmod(abs(amount), 10**decimals)
    return f"{'−' if amount < 0 else ''}{whole:,}" + (f".{part:0{decimals}d}" if decimals else "")


def transaction_id(key: str) -> str:
    return "txn_" + sha256(key.encode()).hexdigest()[:32]


def hold_id(key: str) -> str:
    return "hold_" + sha256(key.encode()).hexdigest()[:32]


def digest(
    kind: str, subject: str, lines: Iterable[tuple[str, int]], facts: Mapping[str, Fact], reverses: str | None
) -> str:
    """SHA-256 of what was decided; the order of the lines is not part of it."""
    payload = [kind, subject, sorted(map(tuple, lines)), dict(facts), reverses]
    return sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).hexdigest()


def chained(before: str, sequence: int, transaction: str, payload_digest: str) -> str:
    """The digest of the book up to this transaction, from that of the book up to the one before it."""
    return sha256(f"{before} {sequence} {transaction} {payload_digest}".encode()).hexdigest()


def digest_of(draft: Draft) -> str:
    return digest(draft.kind, draft.subject, draft.lines, draft.facts, draft.reverses)


def require_sound(draft: Draft) -> None:
    """Refuse a draft that is not a balanced transaction, whatever the balances are."""
    if not 0 < len(draft.key) <= MAX_KEY:
        raise Refused("ledger.field-malformed", field="key", value=draft.key[:MAX_KEY])
    if not is_kind(draft.kind):
        raise Refused("ledger.field-malformed", field="kind", value=draft.kind[:MAX_KEY])
    if not 0 < len(draft.subject) <= MAX_KEY:
        raise Refused("ledger.field-malformed", field="subject", value=draft.subject[:MAX_KEY])
    if len(draft.facts) > MAX_FACTS or not all(map(_is_fact, draft.facts.values())):
        raise Refused("ledger.field-malformed", field="facts", value=", ".join(sorted(draft.facts))[:MAX_KEY])
    if not 2 <= len(draft.lines) <= MAX_LINES:
        raise Refused("ledger.line-count", count=len(draft.lines), limit=MAX_LINES)
    sums: dict[str, int] = {}
    for account, amount in draft.lines:
        require_amount(amount)
        unit = unit_of(account)
        sums[unit] = sums.get(unit, 0) + amount
    for unit, total in sums.items():
        if total:
            raise Refused("ledger.unbalanced", unit=unit, sum=total)


def _is_fact(value: object) -> bool:
    """What every database gives back exactly as it was, so that its digest stays true: no floats, nothing nested."""
    if type(value) is int:
        return -MAX_AMOUNT <= value <= MAX_AMOUNT
    return value is None or type(value) is bool or (type(value) is str and len(value) <= MAX_KEY)


def require_amount(amount: int, *, at_least: int = -MAX_AMOUNT) -> None:
    """Refuse what is not a whole number other than zero within ±MAX_AMOUNT (and not below `at_least`)."""
    if type(amount) is not int or not amount or not at_least <= amount <= MAX_AMOUNT:
        raise Refused("ledger.amount-out-of-range", amount=str(amount)[:MAX_KEY], limit=MAX_AMOUNT)


def weigh(lines: Sequence[Line], balances: dict[str, int], floors: Mapping[str, int | None]) -> list[int]:
    """Apply `lines` to `balances` in place; returns the balance after each line.

    Only the end of a transaction is held against the floors: within it, nobody can look. What only rises is never
    refused, so an account can always be paid.
    """
    running = []
    for account, amount in lines:
        balances[account] = after = balances[account] + amount
        if not -MAX_AMOUNT <= after <= MAX_AMOUNT:
            raise Refused("ledger.amount-out-of-range", amount=str(after), limit=MAX_AMOUNT)
        running.append(after)
    for account, amount in lines:
        floor = floors[account]
        if amount < 0 and floor is not None and balances[account] < floor:
            raise Refused("ledger.balance-too-low", account=account, short=floor - balances[account])
    return running


def settlement(held: str, payer: str, reserved: int, credits: Sequence[Line]) -> tuple[Line, ...]:
    """The lines that end a hold: `credits` to the receivers, the rest back to the payer.

    Raises: Refused("ledger.settle-above-reserve") when the credits exceed what was reserved,
    Refused("ledger.settle-line-invalid") when one is not a gain in the unit of the hold.
    """
    unit = unit_of(payer)
    for account, amount in credits:
        if type(amount) is not int or amount <= 0 or is_held(account) or unit_of(account) != unit:
            raise Refused("ledger.settle-line-invalid", account=account[:MAX_KEY], amount=str(amount)[:MAX_KEY])
    charged = sum(amount for _, amount in credits)
    if charged > reserved:
        raise Refused("ledger.settle-above-reserve", charged=charged, reserved=reserved)
    rest = (Line(payer, reserved - charged),) if charged < reserved else ()
    return (Line(held, -reserved), *(Line(*credit) for credit in credits), *rest)


def reversal(lines: Sequence[Line], payer: str | None) -> tuple[Line, ...]:
    """The lines that undo `lines`.

    A hold ends once, so the reversal of a settlement does not open it again: what came out of the hold goes to `payer`,
    which undoes the reservation with it. Lines that thereby cancel out are left away.
    """
    undone: dict[str, int] = {}
    for account, amount in lines:
        target = payer if payer is not None and is_held(account) else account
        undone[target] = undone.get(target, 0) - amount
    return tuple(Line(account, amount) for account, amount in undone.items() if amount)
