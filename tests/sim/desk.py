"""A foundation whose calls of models are made up, and charged as the gateway charges them: no server, no socket."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gongqi import app
from gongqi.books.ledger import service as ledger
from gongqi.economy.billing import service as billing
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, execute, query
from gongqi.members import service as members
from gongqi.resources.serving.aid import aid_of
from gongqi.resources.serving.leases import grant_lease
from gongqi.resources.serving.metering import NANO
from gongqi.resources.serving.models import ModelRoute
from gongqi.resources.serving.settlement import settle_batch

UNIT = "CNY-fen"
_numbers = itertools.count()


@dataclass
class Desk:
    """What a test needs of a foundation: its verbs and reads, as its operator, and whom to charge."""

    kernel: Kernel
    operator: Any
    clock: FixedClock

    def do(self, verb: str, **values: Any) -> Any:
        declared = self.kernel.house.verbs[verb]
        return execute(self.kernel, declared, Caller(self.operator), declared.input.model_validate(values))

    def ask(self, read: str, **values: Any) -> Any:
        declared = self.kernel.house.reads[read]
        return query(self.kernel, declared, Caller(self.operator), declared.input.model_validate(values))

    def organisation(self, funds: int) -> str:
        name = f"org-{next(_numbers)}"
        org = self.do("members:organisation:create", handle=name, name=name).id
        if funds:
            self.do("ledger:credit:grant", owner=org, unit=UNIT, amount=funds)
        return org

    def priced_route(self) -> str:
        name = f"m-{next(_numbers)}"
        address = {"base_url": "http://127.0.0.1:9/v1", "private": True}
        endpoint = self.do("serving:endpoint:add", name=name, **address).id
        home = self.ask("members:party:list", handle="foundation").items[0].id
        targets = [{"endpoint": endpoint, "model": "m"}]
        route = self.do("serving:route:define", name=name, org=home, context_tokens=100, targets=targets).id
        self.do("billing:price:publish", route=route, unit=UNIT, input_nanos=1, output_nanos=1)
        return route

    def fund(self, amount: int) -> str:
        fund = self.do("billing:fund:open", name=f"fund-{next(_numbers)}", unit=UNIT).id
        if amount:
            self.do("ledger:credit:grant", owner=fund, unit=UNIT, amount=amount)
        return fund

    def package(self, price: int, credit: int, fund: str | None = None, **more: Any) -> str:
        given = {"name": f"package-{next(_numbers)}", "unit": UNIT, "price": price, "credit": credit, "fund": fund}
        return self.do("billing:package:publish", **given, **more).id

    def turn(self) -> None:
        """What is done with packages as time goes by."""
        for work in (billing.end_over, billing.give_back, billing.credit_returned):
            self.kernel.transact(work, reason="test")

    def used(self, org: str, route: str, units: int, **how: str) -> None:
        """A call that costs so many units, settled."""
        client = Client(self, org, **how)
        assert client.call(route, units * NANO, units * NANO)
        client.give_back()
        client.settle()

    def balance(self, owner: str, code: str = "available") -> int:
        return self.kernel.look(lambda ctx: ledger.balance(ctx, ledger.account_id(owner, UNIT, code)))

    def rows(self, query: Any) -> list[Any]:
        return self.kernel.look(lambda ctx: list(ctx.session.scalars(query)))


class Client:
    """One key of one data plane: takes from its lease as the plane does, and has what it did settled in batches."""

    def __init__(self, desk: Desk, org: str, *, spends: str = "credits-first") -> None:
        self.desk, self.org, self.spends = desk, org, spends
        self.plane = f"plane-{next(_numbers)}"
        self.key = desk.do("serving:key:issue", org=org, label="law", unit=UNIT, days=3650, spends=spends).id
        self.records: list[list[Any]] = []
        self.lease, self.left, self.offset = "", 0, 0

    def call(self, route: str, bound: int, cost: int) -> bool:
        """Whether it was admitted."""
        if self.left < bound:
            self.give_back()
            try:
                self.ask(route, bound)
            except Refused as refused:
                assert refused.code in ("serving.funds-too-low", "serving.aid-exhausted")
                return False
        self.left -= cost
        price = ["price", 1, UNIT, 1, 1, 1, cost, self.lease, 1, "general"]
        about = ["e", f"gen_{next(_numbers)}", self.org, self.key, "default", route, None, "complete", 0, 1, 1, 1]
        self.records.append([*about, cost, 0, 0, False, False, *price])
        return True

    def ask(self, route: str, bound: int) -> None:
        def granted(ctx: Any) -> Any:
            aided = aid_of(ctx, {self.org}, ctx.session.scalars(select(ModelRoute)))
            aid = aided.get((self.org, self.spends), {}).get(route)
            wish = max(bound, 20 * NANO)
            asked = {"unit": UNIT, "need_nanos": bound, "wish_nanos": wish, "aid": aid}
            return grant_lease(ctx, plane=self.plane, key=self.key, **asked)

        made = self.desk.kernel.transact(granted, reason="law")
        self.lease, self.left = made.id, made.nanos

    def give_back(self) -> None:
        if self.lease:
            self.records.append(["l", self.lease])
            self.lease, self.left = "", 0

    def settle(self) -> None:
        start, self.offset = self.offset, self.offset + 1
        batch = {"plane": self.plane, "segment": 1, "start": start, "end": self.offset, "records": self.records}
        self.desk.kernel.transact(lambda ctx: settle_batch(ctx, **batch), reason="law")
        self.records = []


@contextlib.contextmanager
def open_desk(folder: Path, url: str) -> Iterator[Desk]:
    told = Settings.from_environment({"GONGQI_HOME": str(folder), "GONGQI_DATABASE_URL": url})
    database, clock, blobs = Database(url), FixedClock(), FolderBlobs(folder / "blobs")
    kernel = Kernel(told, app.house(), database, blobs, record=lambda ctx, entry: None, clock=clock)
    start = members.bootstrap_operator(kernel)
    operator = kernel.look(lambda ctx: members.actor_for_token(ctx, start.token))
    yield Desk(kernel, operator, clock)
    database.close()
