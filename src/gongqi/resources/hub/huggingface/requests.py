"""Requests for the files of gated repositories, as their owners handle them with a client.

A user is named by handle. Who asked has shown who they are to the organisation they asked, so that it sees their names;
somebody who did not ask can be let in only by who may know them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import access
from gongqi.resources.hub.assets import AssetOut
from gongqi.resources.hub.huggingface import forms
from gongqi.resources.hub.huggingface.door import Body, Call, json

STATES = {"pending": "pending", "accepted": "granted", "rejected": "refused"}
WORDS = {ours: theirs for theirs, ours in STATES.items()}


class Handled(Body):
    user: str | None = Field(None, max_length=64)
    requestId: str | None = Field(None, max_length=64)
    status: Literal["pending", "accepted", "rejected"]
    rejectionReason: str | None = Field(None, max_length=access.REASON)


class Granted(Body):
    user: str = Field(max_length=64)


def listed(call: Call) -> Response:
    """One page of the requests in this state, newest first."""
    state = STATES.get(call.request.path_params["status"])
    if state is None:
        raise Refused("hub.hf-body-invalid", where="status", why=", ".join(STATES))

    def look(ctx: Read) -> tuple[list[dict[str, Any]], str | None]:
        asset = _own(ctx, call)
        given = {"asset": asset.id, "state": state, "limit": 100, "cursor": call.request.query_params.get("cursor")}
        page = access.list_access.run(ctx, access.ListAccess.model_validate(given))
        who = members.parties_of(ctx, {each.party for each in page.items})
        return [_line(each, who[each.party]) for each in page.items], page.next

    items, following = call.look(look)
    return json(items, headers=call.next_page(cursor=following) if following else None)


def _line(row: access.AccessOut, who: members.PartyOut) -> dict[str, Any]:
    return {
        "requestId": row.id,
        "user": {"_id": who.id, "user": who.handle, "fullname": who.name},
        "status": WORDS[row.state],
        "timestamp": forms.written(row.asked_at),
    }


def handle(call: Call) -> Response:
    given = call.parse(Handled)

    def look(ctx: Read) -> tuple[str, str]:
        asset = _own(ctx, call)
        return asset.id, _who(ctx, asset, given.user, given.requestId)

    asset, party = call.look(look)
    if given.status == "accepted":
        call.do(access.grant, asset=asset, party=party)
    elif given.status == "rejected":
        call.do(access.refuse, asset=asset, party=party, reason=given.rejectionReason)
    else:
        call.do(access.revoke, asset=asset, party=party)
    return json({})


def grant(call: Call) -> Response:
    """Let somebody in who has not asked."""
    given = call.parse(Granted)

    def look(ctx: Read) -> tuple[str, str]:
        asset = _own(ctx, call)
        return asset.id, _who(ctx, asset, given.user, None)

    asset, party = call.look(look)
    call.do(access.grant, asset=asset, party=party)
    return json({})


def _own(ctx: Read, call: Call) -> AssetOut:
    """The repository of a caller who decides about it."""
    asset = call.repository(ctx)
    ctx.require("hub:access:grant", asset.org)
    return asset


def _who(ctx: Read, asset: AssetOut, user: str | None, request: str | None) -> str:
    """The party that asked, or that the caller knows. Raises Refused members.party-unknown, hub.hf-body-invalid."""
    asked = access.asked_by(ctx, asset.id)
    if request is not None and request in asked:
        return asked[request]
    if user is None:
        raise Refused("hub.hf-body-invalid", where="requestId", why="unknown")
    for party in members.parties_of(ctx, asked.values()).values():
        if party.handle == user:
            return party.id
    return members.party_called(ctx, user).id
