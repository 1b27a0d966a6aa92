"""A model that people talk to, and what they say of its answers: calls as a data plane's spool tells them, opinions as the
gateway's door reads them. What is said goes the way it goes in a house; only the network is left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from gongqi.resources.serving import settlement
from gongqi.resources.serving.control import GatewayControl
from gongqi.resources.serving.endpoints import version_now
from gongqi.resources.serving.plane import opinions

PLANE = "plane-1"
TERMS = {"agreement_zh": "可回传评价。", "agreement_en": "Ratings may be sent back."}
ENDED = {
    "project": "default", "ending": "complete", "duration_us": 1000, "first_byte_us": 500, "attempts": 1, "input_tokens": 7,
    "cached_tokens": 0, "output_tokens": 5, "is_estimated": False, "is_capped": False, "price": "p", "price_version": 1,
    "unit": "CNY-fen", "input_nanos": 0, "cached_nanos": 0, "output_nanos": 0, "cost_nanos": 0, "lease": None,
    "tier": "general", "repeats": None, "masked": 0,
}  # fmt: skip


def spooled(**told: Any) -> list[Any]:
    """The record of a call that has ended, as a data plane writes it to its spool."""
    row = ENDED | told
    return ["e", *(row[name] for name in settlement._COLUMNS[: settlement.RECORD_FIELDS])]


@dataclass
class Talk:
    """`market` owns the house; `role` offers the models, `callers` are organisations with a key each."""

    market: Any
    role: str = "foundation"
    keys: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    offset: int = 0

    def __post_init__(self) -> None:
        endpoint = self.market.do(
            self.market.operator, "serving:endpoint:add", name="there", base_url="https://models.example.org/v1"
        )
        self.endpoint = endpoint.id
        for role in ("application", "laboratory"):
            made = self.market.do(
                self.market.owner(role), "serving:key:issue", org=self.market.orgs[role], label="talks"
            )
            self.keys[role] = made.id

    def route(self, name: str = "talk", **more: Any) -> Any:
        given = {"org": self.market.orgs[self.role], "context_tokens": 8192} | TERMS | more
        targets = [{"endpoint": self.endpoint, "model": "m"}]
        return self.market.do(self.market.operator, "serving:route:define", name=name, targets=targets, **given)

    def called(self, route: Any, role: str = "application", count: int = 1, **more: Any) -> list[str]:
        """The ids of calls that are in the books, all in one batch; what is given as a list is one each."""
        kernel = self.market.kernel
        now = kernel.clock.now()
        began_us = int(now.timestamp() * 1_000_000)
        ids = [f"gen_{began_us // 1000:012x}{0:08x}{next(self.numbers):08x}" for _ in range(count)]
        records = []
        for place, id in enumerate(ids):
            own = {name: value[place] if isinstance(value, list) else value for name, value in more.items()}
            row = {
                "id": id, "org": self.market.orgs[role], "key": self.keys[role], "route": route.id,
                "endpoint": self.endpoint, "at": began_us + place, "snapshot": kernel.look(version_now),
            } | own  # fmt: skip
            records.append(spooled(**row))
        start, self.offset = self.offset, self.offset + 1
        batch = {"plane": PLANE, "segment": 0, "start": start, "end": self.offset, "records": records}
        kernel.transact(lambda ctx: settlement.settle_batch(ctx, **batch), reason="talk")
        return ids

    def say(self, route: Any, call: str, role: str = "application", **said: Any) -> dict[str, Any]:
        """What the door makes of such a request."""
        body = orjson.dumps({"id": call, "agreement": route.agreement.sha256} | said)
        return GatewayControl(self.market.kernel).receive(self.keys[role], opinions.read(body))

    def feedback(self, **query: Any) -> list[Any]:
        return self.market.ask(self.market.operator, "serving:feedback:list", limit=200, **query).items

    def gather(self, route: Any, actor: Any = None) -> Any:
        """A gathering that has come to its end."""
        by = actor or self.market.owner(self.role)
        made = self.market.do(by, "scenarios:feedback:gather", route=route.id)
        self.market.work()
        return self.market.ask(self.market.operator, "scenarios:gathering:get", gathering=made.id)

    def lines(self, revision: str) -> list[dict[str, Any]]:
        """What a dataset's revision holds, all its files together."""
        files = self.market.ask(self.market.operator, "hub:revision:get", revision=revision).files
        told = [file for file in files if file.path.endswith(".jsonl")]
        content = b"".join(self.market.kernel.blobs.read(file.sha256, limit_bytes=1 << 20) for file in told)
        return [orjson.loads(line) for line in content.splitlines()]
