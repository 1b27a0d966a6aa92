"""Tokens: how programs come in. Shown once, stored by digest, narrowed by scopes, dated, revocable at once.

Invariants: a token never may what its holder may not (scopes only narrow, `kernel.access`); a token made with a token
reaches no further than that one, expires no later and is revoked with it; and a token makes none for its own holder.
So whoever steals one cannot outlive its revocation by what they made with it. (What they did with it stands, and is in
the evidence.) People make their tokens signed in; owners make those of their organisation's agents and sites.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.members import rules
from gongqi.members.actors import SHOWN_LENGTH, TOKEN_PREFIX, new_secret
from gongqi.members.models import Party, Token

Scope = Annotated[str, Field(pattern=rules.SCOPE_PATTERN, max_length=100)]


class TokenOut(Output):
    id: str
    shown: str
    party: str
    label: str
    scopes: list[str] | None
    issued_by: str
    made_by: str | None
    link_of: str | None
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class IssuedOut(TokenOut):
    """`secret` is given here and never again."""

    secret: str


class IssueToken(Input):
    """For oneself, or for an agent or site `party`, for so many `days`.

    Made with a token, it is narrowed as that one is unless `scopes` say less, and ends with it if not sooner.
    """

    label: str = Field(min_length=1, max_length=80)
    party: str | None = Field(None, max_length=64)
    scopes: list[Scope] | None = Field(None, min_length=1, max_length=rules.MAX_SCOPES)
    days: int = Field(rules.TOKEN_DEFAULT_DAYS, ge=1, le=rules.TOKEN_MAX_DAYS)


class RevokeToken(Input):
    token: str = Field(max_length=64)


class ListTokens(Paged):
    party: str | None = Field(None, max_length=64)


@verb("members:token:issue", evidence="members.token-issued", secret=True)
def issue_token(ctx: Write, input: IssueToken) -> IssuedOut:
    """Make a token; its secret is shown once."""
    party = ctx.find(Party, input.party or ctx.actor.id, to="members:token:issue")
    if party.id == ctx.actor.id and ctx.actor.session is None:
        raise Refused("members.session-needed")
    if party.state != "active":
        raise Refused("members.party-not-active", party=party.id, state=party.state)
    maker = ctx.actor.scopes
    scopes = sorted(set(input.scopes)) if input.scopes is not None else sorted(maker) if maker is not None else None
    for scope in scopes or ():
        _check_known(ctx, scope)
    if maker is not None and scopes is not None and not rules.covers(maker, scopes):
        raise Refused("members.scope-beyond-giver")
    row, secret = add_token(ctx, party, label=input.label, scopes=scopes, until=_end(ctx, input.days))
    return IssuedOut(secret=secret, **TokenOut.model_validate(row).model_dump())


@verb("members:token:revoke", evidence="members.token-revoked")
def revoke_token(ctx: Write, input: RevokeToken) -> TokenOut:
    """End a token at once, and with it every token and session that came of it."""
    row = ctx.find(Token, input.token, to="members:token:revoke")
    if row.revoked_at is not None:
        raise Refused("members.token-revoked", token=row.id)
    _revoke(ctx, row)
    return TokenOut.model_validate(row)


@read("members:token:list")
def list_tokens(ctx: Read, input: ListTokens) -> Page[TokenOut]:
    return ctx.listed(Token, TokenOut, input, to="members:token:read")


def add_token(ctx: Write, party: Party, *, label: str, scopes: list[str] | None, until: datetime) -> tuple[Token, str]:
    secret = new_secret(TOKEN_PREFIX)
    row = Token(
        id=ctx.new_id("tok"),
        digest=rules.digest(secret),
        shown=secret[:SHOWN_LENGTH],
        party=party.id,
        org=party.org if party.kind in rules.MACHINES else None,
        label=label,
        scopes=scopes,
        issued_by=ctx.actor.id,
        made_by=ctx.actor.token,
        link_of=ctx.actor.link_of,
        issued_at=ctx.now,
        expires_at=until,
    )
    ctx.add(row)
    ctx.record(
        row.id, kind="members.token-issued", party=party.id, scopes=scopes, expires_at=row.expires_at.isoformat()
    )
    return row, secret


def revoke_all(ctx: Write, party: str, label: str) -> None:
    """Revoke the live tokens of `party` that bear this label."""
    live = select(Token).where(Token.party == party, Token.label == label, Token.revoked_at.is_(None))
    for row in ctx.session.scalars(live).all():
        _revoke(ctx, row)


def _revoke(ctx: Write, row: Token) -> None:
    """This token and, by generations, those made with it. Sessions that rest on one are ended by that alone."""
    generation = [row]
    while generation:
        for each in generation:
            each.revoked_at = ctx.now
            ctx.record(each.id, kind="members.token-revoked", party=each.party)
        ctx.session.flush()
        made = select(Token).where(Token.made_by.in_([each.id for each in generation]), Token.revoked_at.is_(None))
        generation = list(ctx.session.scalars(made))


def _end(ctx: Read, days: int) -> datetime:
    """When a token made now for so many days ends: with the token it is made with at the latest."""
    wanted = ctx.now + timedelta(days=days)
    latest = ctx.session.scalar(select(Token.expires_at).where(Token.id == ctx.actor.token))
    return min(wanted, latest or wanted)


def _check_known(ctx: Read, scope: str) -> None:
    """A scope that matches nothing is a slip of the pen, and would give a token that quietly may do nothing."""
    house = ctx.kernel.house
    named = {*house.verbs, *house.reads, *(each for policy in house.policies.values() for each in policy.rules)}
    granted = {each for role in house.vocabulary.roles.values() for each in role.grants} - {"*"}
    if not any(rules.overlaps(scope, each) for each in named | granted):
        raise Refused("members.scope-unknown", scope=scope)
