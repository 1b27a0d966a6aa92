"""The first minute of a foundation: someone must exist before anyone can be let in.

Everything is made in one transaction, with evidence, by the system. Calling it again changes nothing that stands, so a
crash between this commit and the writing of `operator.token` is mended by the next start, and so is a token that has
expired meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from gongqi.kernel.access import FOUNDATION
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Write
from gongqi.members import rules
from gongqi.members.actors import actor_for_token
from gongqi.members.models import Party
from gongqi.members.parties import Named, add_membership, add_party
from gongqi.members.sessions import add_link
from gongqi.members.tokens import add_token, revoke_all

OPERATOR_HANDLE = "operator"
TOKEN_LABEL = "operator.token"


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """`token` for scripts; `link`, a one-time sign-in link, for the console."""

    organisation: str
    operator: str
    token: str
    link: str


def bootstrap_operator(kernel: Kernel, *, token: str | None = None) -> Bootstrap:
    """Make sure that the foundation, its operator and a working operator token exist, and make a fresh sign-in link.

    `token` is what `operator.token` holds, if anything: it is kept while it works. Else another is made, and those made
    here before are revoked: only one is ever good.
    Raises: Refused("members.operator-suspended") when the first operator has been suspended by another.
    """

    def make(ctx: Write) -> Bootstrap:
        operator = ctx.session.scalar(select(Party).where(Party.handle == OPERATOR_HANDLE))
        organisation = ctx.session.scalar(select(Party).where(Party.handle == rules.FOUNDATION_HANDLE))
        if operator is None or organisation is None:
            organisation, operator = _found(ctx)
        if operator.state != "active":
            raise Refused("members.operator-suspended")
        secret = token if token and _works(ctx, token, operator.id) else _new_token(ctx, operator)
        ctx.record(operator.id, kind="members.link-made")
        return Bootstrap(organisation.id, operator.id, secret, add_link(ctx, operator).link)

    return kernel.transact(make, reason="members.bootstrap")


def _found(ctx: Write) -> tuple[Party, Party]:
    named = Named(handle=rules.FOUNDATION_HANDLE, name=ctx.kernel.settings.foundation[: rules.MAX_NAME])
    organisation = add_party(ctx, "organisation", named)
    ctx.record(organisation.id, kind="members.organisation-created", handle=organisation.handle, name=organisation.name)
    operator = add_party(ctx, "person", Named(handle=OPERATOR_HANDLE, name="Operator"))
    ctx.record(operator.id, kind="members.person-created", org=None)
    add_membership(ctx, operator.id, FOUNDATION, "operator")
    add_membership(ctx, operator.id, organisation.id, "owner")
    return organisation, operator


def _works(ctx: Write, token: str, operator: str) -> bool:
    try:
        return actor_for_token(ctx, token).id == operator
    except Refused:
        return False


def _new_token(ctx: Write, operator: Party) -> str:
    revoke_all(ctx, operator.id, TOKEN_LABEL)
    until = ctx.now + timedelta(days=rules.TOKEN_MAX_DAYS)
    return add_token(ctx, operator, label=TOKEN_LABEL, scopes=None, until=until)[1]
