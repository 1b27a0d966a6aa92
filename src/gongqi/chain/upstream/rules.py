"""What a donation may promise: when it opens and to whom, which patents it covers, under which licence. Pure thought.

Invariants
- A schedule opens step by step: members no later than the public; each audience once.
- Words of a patent pledge belong to a scope; a scope without words of its own means the foundation's standard words.
- A donation and the card of what is released speak of the same licence: A AND B is B AND A, nothing else is.

Source: the scopes follow the two patent grants in use, Apache-2.0 section 3 (claims necessarily infringed by the work
as donated) and the wider pledges of the Open Invention Network kind (all necessary claims of the field).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from license_expression import ExpressionError, Licensing

from gongqi.kernel.errors import Refused

AUDIENCES = ("members", "public")  # from narrow to wide
LONGEST_WAIT_DAYS = 3650  # a promise for more than ten years outlives those who could keep it

# What boolean.py lets through beside its own error for hostile expressions.
_PARSE_FAULTS = (ExpressionError, LookupError, AttributeError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Stage:
    """From `opens_at` on (None: from acceptance on) the asset is open to `audience`."""

    audience: str
    opens_at: datetime | None


def check_schedule(stages: Sequence[Stage], *, now: datetime) -> tuple[Stage, ...]:
    """The stages, narrow audience first. Raises Refused upstream.schedule-*."""
    audiences = [stage.audience for stage in stages]
    if not stages or len(set(audiences)) != len(audiences):
        raise Refused("upstream.schedule-audiences")
    ordered = tuple(sorted(stages, key=lambda stage: AUDIENCES.index(stage.audience)))
    moments = [stage.opens_at or now for stage in ordered]
    if moments != sorted(moments):
        raise Refused("upstream.schedule-order")
    if moments[-1] > now + timedelta(days=LONGEST_WAIT_DAYS):
        raise Refused("upstream.schedule-too-far", limit_days=LONGEST_WAIT_DAYS)
    return ordered


def check_rescheduled(before: Sequence[Stage], after: Sequence[Stage], *, opened_to: str) -> None:
    """An hour can be moved until it has come. Raises Refused upstream.schedule-opened."""
    opened = AUDIENCES[: AUDIENCES.index(opened_to) + 1] if opened_to in AUDIENCES else ()
    kept = [stage for stage in before if stage.audience in opened]
    if [stage for stage in after if stage.audience in opened] != kept or len(kept) == len(before):
        raise Refused("upstream.schedule-opened", audience=opened_to)


def check_pledge(scope: str, text: str) -> None:
    """Raises Refused upstream.pledge-without-scope. A scope needs no words of the donor's own: ours then stand."""
    if scope == "none" and text.strip():
        raise Refused("upstream.pledge-without-scope")


def check_pledge_terms(beneficiaries: str, named: Sequence[str], revocation: str, notice_days: int | None) -> None:
    """Raises Refused upstream.pledge-named, upstream.pledge-notice."""
    if (beneficiaries == "named") != any(each.strip() for each in named):
        raise Refused("upstream.pledge-named")
    if (revocation == "on-notice") != (notice_days is not None):
        raise Refused("upstream.pledge-notice")


def ending_of(revocation: str, notice_days: int | None, *, against: str | None, has_ended: bool) -> int | None:
    """How a pledge may end that has these terms: after so many days for all, or (None) now and for `against` alone.

    Raises Refused upstream.pledge-irrevocable, upstream.pledge-over, upstream.pledge-against.
    """
    if revocation == "irrevocable":
        raise Refused("upstream.pledge-irrevocable")
    if has_ended:
        raise Refused("upstream.pledge-over")
    if (revocation == "defensive-termination") != (against is not None):
        raise Refused("upstream.pledge-against")
    return notice_days if revocation == "on-notice" else None


def pledge_state(effective_at: datetime, ends_at: datetime | None, *, now: datetime) -> str:
    """pending, active, notice or revoked."""
    if ends_at is not None:
        return "notice" if now < ends_at else "revoked"
    return "active" if effective_at <= now else "pending"


def is_same_licence(offered: str, carried: str | None) -> bool:
    """Whether two expressions grant the same; what cannot be read is the same only when written the same."""
    left, right = " ".join(offered.split()).casefold(), " ".join((carried or "").split()).casefold()
    if left == right:
        return True
    try:
        return _licensing().is_equivalent(left, right)
    except _PARSE_FAULTS:
        return False


@cache
def _licensing() -> Licensing:
    """Reads expressions without a list of known licences: which are known is a question for compliance."""
    return Licensing()
