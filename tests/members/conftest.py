"""A foundation with its operator, and the ways its people come in: by the same verbs that everyone uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gongqi.kernel.access import ANONYMOUS, Actor
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, Entry, execute, query
from gongqi.members import VOCABULARY, service
from gongqi.members.room import ROOM


@dataclass
class Foundation:
    kernel: Kernel
    clock: FixedClock
    start: service.Bootstrap
    evidence: list[Entry] = field(default_factory=list)

    @property
    def operator(self) -> Actor:
        return self.by_token(self.start.token)

    def by_token(self, secret: str) -> Actor:
        return self.kernel.look(lambda ctx: service.actor_for_token(ctx, secret))

    def by_session(self, secret: str) -> Actor:
        return self.kernel.look(lambda ctx: service.actor_for_session(ctx, secret))

    def do(self, actor: Actor, verb: str, **values: Any) -> Any:
        declared = self.kernel.house.verbs[verb]
        return execute(self.kernel, declared, Caller(actor), declared.input.model_validate(values))

    def ask(self, actor: Actor, read: str, **values: Any) -> Any:
        declared = self.kernel.house.reads[read]
        return query(self.kernel, declared, Caller(actor), declared.input.model_validate(values))

    def redeem(self, link: str) -> Actor:
        secret, browser = link.rsplit("/", 1)[1], "Mozilla/5.0 (X11; Linux) Firefox/140.0"
        return self.by_session(self.do(ANONYMOUS, "members:signin:redeem", secret=secret, user_agent=browser).secret)

    def organisation(self, handle: str) -> str:
        return self.do(self.operator, "members:organisation:create", handle=handle, name=handle.title()).id

    def person(self, handle: str, org: str | None = None, role: str = "member", *, by: Actor | None = None) -> Actor:
        """Invited, then signed in by their link."""
        giver = by or self.operator
        given = {"org": org, "role": role} if org else {}
        party = self.do(giver, "members:person:create", handle=handle, name=f"{handle} Test", **given)
        return self.redeem(self.do(giver, "members:signin:link", party=party.id).link)

    def again(self, actor: Actor) -> Actor:
        """The same person, signed in anew, with the rights they have now."""
        return self.redeem(self.do(self.operator, "members:signin:link", party=actor.id).link)

    def password(self, actor: Actor, password: str) -> None:
        self.do(actor, "members:password:set", password=password)

    def sign_in(self, handle: str, password: str, address: str = "192.0.2.1") -> service.SignedInOut:
        return service.sign_in(self.kernel, Caller(ANONYMOUS, address=address), handle=handle, password=password)


@pytest.fixture
def foundation(build: Callable[..., Kernel], clock: FixedClock) -> Foundation:
    entries: list[Entry] = []
    kernel = build(House.build((ROOM,), VOCABULARY), record=lambda _ctx, entry: entries.append(entry), clock=clock)
    return Foundation(kernel, clock, service.bootstrap_operator(kernel), entries)
