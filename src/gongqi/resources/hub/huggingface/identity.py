"""Who asks, and whether a card is well formed."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub.huggingface.door import Body, Call, json
from gongqi.resources.hub.rules import CARD_LIMIT_BYTES, parse_card

ROLES = (("hub:asset:delete", "admin"), ("hub:revision:change", "write"), ("hub:asset:read", "read"))


class Card(Body):
    content: str = Field(max_length=CARD_LIMIT_BYTES)
    repoType: str | None = Field(None, max_length=20)  # as the client calls our kinds


def whoami(call: Call) -> Response:
    """The caller, and the organisations it belongs to with what it may do there."""

    def look(ctx: Read) -> dict[str, Any]:
        actor = ctx.actor
        if actor.is_anonymous:
            raise Refused("access.sign-in-needed", permission="members:me:show")
        known = members.parties_of(ctx, {actor.id, *actor.orgs})
        orgs = [known[each] for each in sorted(actor.orgs) if each in known]
        may_write = bool(actor.orgs_with("hub:revision:change")) or actor.may("hub:revision:change")
        return {
            "type": "user",
            "id": actor.id,
            "name": known[actor.id].handle,
            "fullname": actor.name,
            "isPro": False,
            "orgs": [
                {"type": "org", "id": org.id, "name": org.handle, "fullname": org.name, "roleInOrg": _role(ctx, org.id)}
                for org in orgs
            ],
            "auth": {"type": "access_token", "accessToken": {"role": "write" if may_write else "read"}},
        }

    return json(call.look(look))


def _role(ctx: Read, org: str) -> str:
    return next((role for verb, role in ROLES if ctx.actor.may(verb, org)), "read")


def validate_card(call: Call) -> Response:
    """What a commit would say of this README.md. A card that cannot be read is an error; one that is silent, a warning."""
    try:
        given = call.parse(Card)
        card = parse_card(given.content.encode(), given.repoType)
    except Refused as refused:
        if not refused.code.startswith("hub.card-"):
            raise
        _, message, remedy = call.kernel.house.words.error(refused, call.caller.language)
        return json({"errors": [{"message": f"{message} {remedy}"}], "warnings": []}, 400)
    said = card.license or card.title or card.tasks or card.other
    silent = [] if said else [{"message": call.kernel.house.words.text("hub.hf.card-silent", call.caller.language)}]
    return json({"errors": [], "warnings": silent})
