"""Signing in to the console: by password, or by a link that works once.

`sign_in` is a function of the door and not a verb, for three reasons. It counts the attempt in a transaction of its own
before it looks at the password, and a refused verb would undo the count. argon2id takes some twenty milliseconds on
purpose, and inside a verb everybody else's writes would wait for it. And a verb is also a tool for agents, which have
no business with people's passwords.

Unknown name, no password yet, suspended, wrong password: same error, same work (a decoy hash is verified).

A link is made by somebody, and whoever made it could use it. So a session begun by somebody else's link says whose it
was (`link_of`), and so do the tokens made in it; what must be one's own act, such as a vote, asks for a sign-in of one's
own: by a password that one set oneself. A first password is one's own, since nobody was there before. One that replaces
another by somebody else's link is public evidence, ends the sessions and bears that mark for `rules.RECOVERY`, in which
its owner finds out. A link made with a token, for its own holder, gives a session that rests on the token.

Source: OWASP Password Storage Cheat Sheet (argon2id, 19 MiB, t=2, p=1); RFC 9106; NIST SP 800-63B-4 §3.1.1, §3.2.2, §5.
"""

from __future__ import annotations

import secrets
import threading
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import Field, SecretStr
from sqlalchemy import and_, delete, not_, select, update

from gongqi.kernel.access import SYSTEM
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import rules
from gongqi.members.actors import LINK_PREFIX, SESSION_PREFIX, new_secret, session_is_live, token_is_live
from gongqi.members.models import Attempt, ConsoleSession, Party, Password, SignInLink, Token

ARGON2_MEMORY_KIBIBYTES = 19 * 1024
ARGON2_PASSES = 2
ARGON2_LANES = 1
MAX_HASHINGS_AT_ONCE = 4  # bounds the memory that guessing can make us use
LINK_PATH = "/sign-in/"

_hasher = PasswordHasher(time_cost=ARGON2_PASSES, memory_cost=ARGON2_MEMORY_KIBIBYTES, parallelism=ARGON2_LANES)
_hashing = threading.BoundedSemaphore(MAX_HASHINGS_AT_ONCE)


class SignedInOut(Output):
    """`secret` is for a cookie or a bearer header; it is given here and never again."""

    secret: str
    session: str
    party: str
    expires_at: datetime


class LinkOut(Output):
    """`link` is the address of a page that asks to use the secret at its end; that works once, until `expires_at`."""

    link: str
    party: str
    expires_at: datetime


class SessionOut(Output):
    id: str
    party: str
    browser: str
    link_of: str | None
    created_at: datetime
    last_seen_at: datetime


class DoneOut(Output):
    id: str


class MakeLink(Input):
    party: str = Field(max_length=64)


class Redeem(Input):
    secret: SecretStr = Field(max_length=100)
    user_agent: str = Field("", max_length=rules.MAX_USER_AGENT)


class SetPassword(Input):
    password: SecretStr = Field(max_length=rules.MAX_PASSWORD)


class EndSession(Input):
    session: str = Field(max_length=64)


class ListSessions(Paged):
    pass


def sign_in(kernel: Kernel, caller: Caller, *, handle: str, password: str, user_agent: str = "") -> SignedInOut:
    """Begin a session for the person `handle`, if this is their password. Not within a transaction.

    Raises: Unavailable("members.too-many-attempts") before anything is looked at; Refused("members.credentials-wrong").
    """
    handle, password = handle.strip().lower()[: rules.MAX_HANDLE], rules.normal_password(password[: rules.MAX_PASSWORD])
    keys = _attempt_keys(handle, caller.address)
    kernel.transact(lambda ctx: _count(ctx, keys), reason=caller.request_id)
    found, decoy = kernel.look(lambda ctx: _password_of(ctx, handle)), _decoy()
    matches = _verify(found[1] if found else decoy, password)
    if found is None or not matches:
        raise Refused("members.credentials-wrong")
    party, stored = found

    def begin(ctx: Write) -> SignedInOut:
        row = ctx.session.get_one(Password, party)
        if _hasher.check_needs_rehash(stored):
            row.hash = _hasher.hash(password)
        _uncount(ctx, keys)
        link_of = row.link_of if row.set_at > ctx.now - rules.RECOVERY else None
        return begin_session(ctx, ctx.session.get_one(Party, party), user_agent, link_of=link_of)

    return kernel.transact(begin, reason=caller.request_id)


@verb("members:signin:redeem", evidence=None, public=True, secret=True)
def redeem(ctx: Write, input: Redeem) -> SignedInOut:
    """Use a one-time link: begins a session. A link holds 256 random bits, so there is nothing to guess or to count."""
    link, party = link_in_force(ctx, input.secret.get_secret_value())
    ctx.session.delete(link)
    party.state = "active"
    return begin_session(ctx, party, input.user_agent, link_of=link.link_of, rests_on=link.rests_on)


@verb("members:signin:link", evidence="members.link-made", secret=True)
def make_link(ctx: Write, input: MakeLink) -> LinkOut:
    """Make a one-time link by which a person signs in. Earlier links of that person stop working."""
    party = ctx.find(Party, input.party, to="members:signin:link")
    if party.state == "suspended":
        raise Refused("members.party-not-active", party=party.id, state=party.state)
    ctx.record(party.id)
    return add_link(ctx, party)


@verb("members:password:set", evidence=None)
def set_password(ctx: Write, input: SetPassword) -> DoneOut:
    """Set one's own password, soon after signing in; ends one's other sessions.

    A recent sign-in stands in for the old password: it also serves who has forgotten it and came by a link, and leaves
    no second place where the old one could be guessed.
    """
    party = ctx.find(Party, ctx.actor.id, to="members:password:set")
    session = ctx.session.get(ConsoleSession, ctx.actor.session or "")
    if session is None or session.created_at <= ctx.now - rules.FRESH_SIGN_IN:
        raise Refused("members.fresh-sign-in-needed", minutes=int(rules.FRESH_SIGN_IN.total_seconds() // 60))
    if session.rests_on:  # or a stolen token would give its thief a way in that outlives it
        raise Refused("members.session-rests-on-token")
    password = rules.normal_password(input.password.get_secret_value())
    rules.check_password(password, handle=party.handle, name=party.name)
    row = ctx.session.get(Password, party.id)
    link_of = session.link_of if row else None
    if link_of:
        ctx.record(party.id, kind="members.password-replaced", link_of=link_of)
    row = row or ctx.add(Password(party=party.id))
    row.hash, row.link_of, row.set_at = _hasher.hash(password), link_of, ctx.now
    others = delete(ConsoleSession).where(ConsoleSession.party == party.id, ConsoleSession.id != session.id)
    ctx.session.execute(others)
    return DoneOut(id=party.id)


@verb("members:session:end", evidence=None)
def end_session(ctx: Write, input: EndSession) -> DoneOut:
    """End a session at once."""
    row = ctx.find(ConsoleSession, input.session, to="members:session:end")
    ctx.session.delete(row)
    return DoneOut(id=row.id)


@read("members:session:list")
def list_sessions(ctx: Read, input: ListSessions) -> Page[SessionOut]:
    """One's own sessions."""
    query = ctx.visible(ConsoleSession, to="members:session:read").where(ConsoleSession.party == ctx.actor.id)
    return ctx.page(query.where(*session_is_live(ctx.now)), ConsoleSession.id, input, to=SessionOut)


def link_in_force(ctx: Read, secret: str) -> tuple[SignInLink, Party]:
    """The link with this secret, and whom it signs in. Raises Refused("members.link-invalid")."""
    link = ctx.session.scalar(select(SignInLink).where(SignInLink.digest == rules.digest(secret)))
    party = ctx.session.get(Party, link.party) if link else None
    if link is None or party is None or link.expires_at <= ctx.now or party.state == "suspended":
        raise Refused("members.link-invalid")
    rests = select(Token.id).where(Token.id == link.rests_on, *token_is_live(Token, ctx.now))
    if link.rests_on and ctx.session.scalar(rests) is None:
        raise Refused("members.link-invalid")
    return link, party


def add_link(ctx: Write, party: Party) -> LinkOut:
    ctx.session.execute(delete(SignInLink).where(SignInLink.party == party.id))
    secret = new_secret(LINK_PREFIX)
    expires_at = ctx.now + rules.LINK_LIFE
    for_oneself = party.id == ctx.actor.id
    row = SignInLink(
        id=ctx.new_id("lnk"),
        digest=rules.digest(secret),
        party=party.id,
        link_of=None if ctx.actor == SYSTEM else ctx.actor.link_of if for_oneself else ctx.actor.id,
        rests_on=ctx.actor.token if for_oneself else None,
        expires_at=expires_at,
    )
    ctx.add(row)
    link = f"{ctx.kernel.settings.origin}{LINK_PATH}{secret}"
    return LinkOut(link=link, party=party.id, expires_at=expires_at)


def begin_session(
    ctx: Write, party: Party, user_agent: str, *, link_of: str | None = None, rests_on: str | None = None
) -> SignedInOut:
    secret = new_secret(SESSION_PREFIX)
    row = ConsoleSession(
        id=ctx.new_id("ses"),
        digest=rules.digest(secret),
        party=party.id,
        browser=rules.summarise_agent(user_agent),
        link_of=link_of,
        rests_on=rests_on,
        created_at=ctx.now,
        last_seen_at=ctx.now,
    )
    ctx.add(row)
    return SignedInOut(secret=secret, session=row.id, party=party.id, expires_at=ctx.now + rules.SESSION_LIFE)


def forget(ctx: Write) -> None:
    """Delete what has had its time: expired sessions and links, and attempts a day old."""
    day_ago = ctx.now - timedelta(days=1)
    ctx.session.execute(delete(ConsoleSession).where(not_(and_(*session_is_live(ctx.now)))))
    ctx.session.execute(delete(SignInLink).where(SignInLink.expires_at <= ctx.now))
    ctx.session.execute(delete(Attempt).where(Attempt.last_at <= day_ago))


def _attempt_keys(handle: str, address: str) -> dict[str, str]:
    """The counter of each kind. Names and addresses are digested: the table is no list of who tried to come in."""
    return {
        "pair": "pair:" + rules.digest(f"{handle}\n{address}"),
        "address": "address:" + rules.digest(address),
        "subject": "subject:" + rules.digest(handle),
    }


def _count(ctx: Write, keys: dict[str, str]) -> None:
    for kind, key in keys.items():
        row = ctx.session.get(Attempt, key)
        before = rules.Attempts(row.count, row.last_at, row.locked_until) if row else None
        if before and (seconds := before.seconds_to_wait(ctx.now)):
            raise Unavailable("members.too-many-attempts", retry_after_seconds=seconds, seconds=seconds)
        after = rules.attempt(before, rules.ATTEMPT_LIMITS[kind], ctx.now)
        row = row or ctx.add(Attempt(key=key))
        row.count, row.last_at, row.locked_until = after.count, after.last_at, after.locked_until


def _uncount(ctx: Write, keys: dict[str, str]) -> None:
    """A right password clears the pair's count and takes its own attempt back from the two wider ones."""
    ctx.session.execute(delete(Attempt).where(Attempt.key == keys["pair"]))
    wider = Attempt.key.in_([keys["address"], keys["subject"]])
    less = {"count": Attempt.count - 1, "locked_until": None}
    ctx.session.execute(update(Attempt).where(wider, Attempt.count > 0).values(less))


def _password_of(ctx: Read, handle: str) -> tuple[str, str] | None:
    row = ctx.session.execute(
        select(Party.id, Password.hash)
        .join(Password, Password.party == Party.id)
        .where(Party.handle == handle, Party.state == "active")
    ).one_or_none()
    return (row.id, row.hash) if row else None


def _verify(stored: str, password: str) -> bool:
    with _hashing:
        try:
            return _hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


@cache
def _decoy() -> str:
    """A hash of nobody's password, with today's parameters: an unknown name costs what a known one costs."""
    return _hasher.hash(secrets.token_urlsafe())
