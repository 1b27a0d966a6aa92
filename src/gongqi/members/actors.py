"""From a secret to an actor: what a door asks first, on every request.

One short select and no write. An actor's rights are read anew each time, so revoking a token, ending a session or a
membership, or suspending a party takes effect with the next request. Grants come from current memberships in active
organisations, from foundation roles, and from the `self` role of the party's kind over its own id. A session that
rests on a token lasts no longer and reaches no further than that token.
"""

from __future__ import annotations

import secrets
import string
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, null, or_, select, update
from sqlalchemy.orm import aliased

from gongqi.kernel.access import FOUNDATION, Actor
from gongqi.kernel.errors import Refused
from gongqi.kernel.questions import Question
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read, Write
from gongqi.members import rules
from gongqi.members.models import ConsoleSession, Membership, Party, Token

TOKEN_PREFIX = "gq_"
SESSION_PREFIX = "gqs_"
LINK_PREFIX = "gql_"
SECRET_LENGTH = 43  # base 62: 256 bits
SHOWN_LENGTH = len(TOKEN_PREFIX) + 6  # 36 bits shown tell tokens apart and leave 220

_ALPHABET = string.ascii_letters + string.digits
_Org = aliased(Party)
_Rest = aliased(Token)


def new_secret(prefix: str) -> str:
    """256 random bits behind a prefix by which scanners of leaked secrets can know it."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(SECRET_LENGTH))


def actor_for_token(ctx: Read, secret: str) -> Actor:
    """Who a bearer token stands for.

    Raises: Refused("members.token-invalid") alike for unknown, expired and revoked tokens and suspended parties.
    """
    actor = _actor(ctx, _BY_TOKEN, secret, TOKEN_PREFIX)
    if actor is None:
        raise Refused("members.token-invalid")
    return actor


def actor_for_session(ctx: Read, secret: str) -> Actor:
    """Who a session stands for; `Actor.session` is its id.

    Raises: Refused("members.session-invalid") alike for unknown, ended and expired sessions and suspended parties.
    """
    actor = _actor(ctx, _BY_SESSION, secret, SESSION_PREFIX)
    if actor is None:
        raise Refused("members.session-invalid")
    return actor


def actor_again(ctx: Read, *, token: str | None, session: str | None) -> Actor:
    """Who a token or session, named by its id, stands for now: for what was handed out on the strength of it.

    Raises: Refused("members.token-invalid"), Refused("members.session-invalid").
    """
    actor = _look_up(ctx, _BY_SESSION_ID, session) if session else _look_up(ctx, _BY_TOKEN_ID, token or "")
    if actor is None:
        raise Refused("members.session-invalid" if session else "members.token-invalid")
    return actor


def note_use(kernel: Kernel, secret: str) -> None:
    """Remember that a token or session was just used, coarsely: a write only when the last note is old.

    For a door to call after it has answered. Without it a session ends SESSION_IDLE after the sign-in.
    """
    if secret.startswith(SESSION_PREFIX):
        model, column, every = ConsoleSession, ConsoleSession.last_seen_at, rules.NOTE_USE_EVERY
    else:
        model, column, every = Token, Token.last_used_at, rules.NOTE_TOKEN_EVERY
    digest = rules.digest(secret)

    def stale(now: datetime, every: timedelta = every) -> Any:
        return (model.digest == digest, or_(column.is_(None), column <= now - every))

    if kernel.look(lambda ctx: ctx.session.scalar(select(model.id).where(*stale(ctx.now)))):

        def note(ctx: Write) -> None:
            ctx.session.execute(update(model).where(*stale(ctx.now)).values({column: ctx.now}))

        kernel.transact(note, reason="members.note-use")


def session_is_live(now: datetime) -> tuple[Any, ...]:
    return _session_is_live(now, now - rules.SESSION_LIFE, now - rules.SESSION_IDLE)


def _session_is_live(now: Any, oldest: Any, idlest: Any) -> tuple[Any, ...]:
    foot = select(_Rest.id).where(_Rest.id == ConsoleSession.rests_on, *token_is_live(_Rest, now)).exists()
    firm = or_(ConsoleSession.rests_on.is_(None), foot)
    return (ConsoleSession.created_at > oldest, ConsoleSession.last_seen_at > idlest, firm)


def token_is_live(token: Any, now: Any) -> tuple[Any, Any]:
    return (token.revoked_at.is_(None), token.expires_at > now)


def _looks_like(secret: str, prefix: str) -> bool:
    return secret.startswith(prefix) and len(secret) == len(prefix) + SECRET_LENGTH


def _with_memberships(statement: Any) -> Question:
    """One row a current membership, or one row of nulls."""
    return Question(
        statement.where(Party.state == "active")
        .outerjoin(Membership, and_(Membership.party == Party.id, Membership.until.is_(None)))
        .outerjoin(_Org, _Org.id == Membership.org)
        .add_columns(Party.id, Party.kind, Party.name, Membership.org, Membership.role, _Org.state)
    )


def _by_token(condition: Any) -> Question:
    return _with_memberships(
        select(null().label("session"), Token.id, Token.scopes, Token.link_of)
        .join(Party, Party.id == Token.party)
        .where(condition, *token_is_live(Token, bindparam("now")))
    )


def _by_session(condition: Any) -> Question:
    return _with_memberships(
        select(ConsoleSession.id, ConsoleSession.rests_on, Token.scopes, ConsoleSession.link_of)
        .join(Party, Party.id == ConsoleSession.party)
        .outerjoin(Token, Token.id == ConsoleSession.rests_on)
        .where(condition, *_session_is_live(bindparam("now"), bindparam("oldest"), bindparam("idlest")))
    )


_BY_TOKEN = _by_token(Token.digest == bindparam("key"))
_BY_TOKEN_ID = _by_token(Token.id == bindparam("key"))
_BY_SESSION = _by_session(ConsoleSession.digest == bindparam("key"))
_BY_SESSION_ID = _by_session(ConsoleSession.id == bindparam("key"))


def _actor(ctx: Read, question: Question, secret: str, prefix: str) -> Actor | None:
    return _look_up(ctx, question, rules.digest(secret)) if _looks_like(secret, prefix) else None


def _look_up(ctx: Read, question: Question, key: str) -> Actor | None:
    known = {"key": key, "now": ctx.now}
    limits = {"oldest": ctx.now - rules.SESSION_LIFE, "idlest": ctx.now - rules.SESSION_IDLE}
    rows = question.all(ctx.session, **known, **limits)
    if not rows:
        return None
    session, token, scopes, link_of, party, kind, name, *_ = rows[0]
    held: dict[str, set[str]] = {party: {kind}}
    for *_, org, role, org_state in rows:
        if org is not None and (org == FOUNDATION or org_state == "active"):
            held.setdefault(org, set()).add(role)
    vocabulary = ctx.kernel.house.vocabulary
    return Actor(
        id=party,
        kind=kind,
        name=name,
        session=session,
        grants={place: vocabulary.grants(frozenset(roles)) for place, roles in held.items()},
        orgs=frozenset(held) - {party, FOUNDATION},
        scopes=None if scopes is None else frozenset(scopes),
        token=token,
        link_of=link_of,
    )
