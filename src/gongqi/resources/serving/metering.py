"""What a call of a language model costs, and who pays for one that did not end well. Pure thought.

Money. A tariff is in nanos a token: a nano is 10⁻⁹ of a booked unit, so ¥0.0003 a thousand tokens, which is 0.00003 fen
a token, is 30,000 nanos exactly. The cost of a call is a product of integers; **no call is ever rounded**. What an
organisation's calls of one model cost runs up a tab, and the ledger is charged the whole units of that tab; the rest,
less than one unit, is carried to the next settlement. So for each tab, charged = ⌊sum of all costs⌋, however the calls
were cut into batches: rounded once, down, in the payer's favour.

Who pays (`charge`):

| the call ended | with nothing delivered | with content delivered |
|---|---|---|
| complete | what the upstream reports | what the upstream reports |
| client-gone, key-revoked | nothing | the prompt and what was delivered |
| cut, timed-out, killed | nothing | what was delivered, not the prompt |
| refused | nothing | (cannot be) |

Reported numbers are believed up to what was reserved; above it the reserve is charged and the record says `capped`.
Numbers that are missing or make no sense are estimated from what was delivered, and the record says `estimated`. An
error text is never content. Whatever was tried before an answer came, the caller pays once, at the price of the model
it asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from gongqi.kernel.money import UNITS

NANO = 10**9  # nanos in one booked unit
BYTES_A_TOKEN = 4  # an estimate's rate: byte-pair vocabularies average 3.5 to 4.5 bytes of text a token
MAX_NANOS = 10**11  # 100 booked units a token, a thousand times the dearest price known
MAX_TOKENS = 10**7  # of one call; times MAX_NANOS it is still below what a BIGINT holds

GENERAL = "general"  # the tier whose price everybody pays who has no other (`members.tiers`)

COMPLETE, CLIENT_GONE, KEY_REVOKED = "complete", "client-gone", "key-revoked"
CUT, TIMED_OUT, KILLED, REFUSED = "cut", "timed-out", "killed", "refused"
ENDINGS = (COMPLETE, CLIENT_GONE, KEY_REVOKED, CUT, TIMED_OUT, KILLED, REFUSED)
_PROMPT_IS_PAID = frozenset((COMPLETE, CLIENT_GONE, KEY_REVOKED))


class Tokens(NamedTuple):
    """`cached` is the part of `input` that the upstream had in its prompt cache."""

    input: int = 0
    cached: int = 0
    output: int = 0


NONE = Tokens()


@dataclass(frozen=True, slots=True)
class Tariff:
    """Nanos a token, from price list `price`, for callers of `tier`; a call keeps the version that it was made under."""

    price: str
    version: int
    unit: str
    input_nanos: int
    cached_nanos: int
    output_nanos: int
    tier: str = GENERAL


def free(tariff: Tariff) -> Tariff:
    """The same price list's, for what it does not charge."""
    return replace(tariff, input_nanos=0, cached_nanos=0, output_nanos=0)


class Shares(NamedTuple):
    """Nanos: what the caller pays of a cost, and what a fund does."""

    own: int
    aid: int


def shares(nanos: int, paid_percent: int) -> Shares:
    """A cost between the caller, who pays `paid_percent` of it, and a fund, which pays the rest: together the cost, exactly.
    What does not divide is the caller's, so that the shares of a fund never sum to more than its share of the sum."""
    aid = nanos * (100 - paid_percent) // 100
    return Shares(nanos - aid, aid)


class Charge(NamedTuple):
    tokens: Tokens
    nanos: int
    estimated: bool
    capped: bool


FREE = Charge(NONE, 0, estimated=False, capped=False)


def cost(tokens: Tokens, tariff: Tariff) -> int:
    """Nanos, exactly."""
    fresh = tokens.input - tokens.cached
    return (
        fresh * tariff.input_nanos + tokens.cached * tariff.cached_nanos + tokens.output * tariff.output_nanos
    )  # the cached part is part of the input, and is paid once


def reserve(bound: Tokens, tariff: Tariff) -> int:
    """The most that a call within `bound` can cost: as if nothing were cached, or all, whichever is dearer."""
    return bound.input * max(tariff.input_nanos, tariff.cached_nanos) + bound.output * tariff.output_nanos


def sensible(input: object, cached: object, output: object) -> Tokens | None:
    """What an upstream reports, if it can be true: whole numbers, none negative, none beyond all reason."""
    if type(input) is not int or type(cached) is not int or type(output) is not int:
        return None
    if not (0 <= input <= MAX_TOKENS and 0 <= cached <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    return Tokens(input, min(cached, input), output)


def estimated_tokens(text_bytes: int) -> int:
    """Tokens of so many bytes of text, when nobody has counted them."""
    return -(-text_bytes // BYTES_A_TOKEN)


def charge(
    ending: str, *, tariff: Tariff, bound: Tokens, reported: Tokens | None, prompt: int, delivered: int
) -> Charge:
    """What is paid for a call that ended so (the table above).

    `bound` is what was reserved for; `prompt` and `delivered` are estimates in tokens, `delivered` zero when no content
    reached the caller.
    """
    if ending == REFUSED or (ending != COMPLETE and not delivered):
        return FREE
    estimated = reported is None
    if reported is None:
        reported = Tokens(prompt, 0, delivered)
    elif ending != COMPLETE and delivered > reported.output:  # it counts only at the end, which did not come
        reported, estimated = reported._replace(output=delivered), True
    if ending not in _PROMPT_IS_PAID:
        reported = Tokens(0, 0, reported.output)
    capped = reported.input > bound.input or reported.output > bound.output
    if capped:
        input = min(reported.input, bound.input)
        reported = Tokens(input, min(reported.cached, input), min(reported.output, bound.output))
    return Charge(reported, cost(reported, tariff), estimated, capped)


def book(owed_nanos: int, added_nanos: int, limit: int | None = None) -> tuple[int, int]:
    """Whole units now to be charged on a tab (at most `limit`), and the nanos that stay on it."""
    total = owed_nanos + added_nanos
    whole = total // NANO
    if limit is not None:
        whole = min(whole, limit)
    return whole, total - whole * NANO


def exact(nanos: int, unit: str) -> str:
    """An exact amount in the unit's symbol, such as `0.30 CNY`: as many decimals as it takes, at least the unit's."""
    decimals, symbol = UNITS[unit].decimals, UNITS[unit].symbol
    digits = f"{nanos:0{9 + decimals + 1}d}"
    whole, part = digits[: -9 - decimals], digits[-9 - decimals :]
    kept = part.rstrip("0").ljust(decimals, "0")
    return f"{whole}.{kept} {symbol}" if kept else f"{whole} {symbol}"
