"""A foundation with made-up calls, and what tests of invoices need beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gongqi.economy.billing import service
from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Caller
from gongqi.resources.serving.metering import NANO
from tests.sim.desk import UNIT, Client, Desk, open_desk

ADDRESS = {"street": "1 North Road", "city": "Berlin", "postcode": "10115", "country": "DE"}
GERMAN, FRENCH, CHINESE = "DE136695976", "FR40303265045", "CN91110000600037341L"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Any]) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("billing")
    with new_database(folder) as url, open_desk(folder, url) as made:
        yield made


def refused(code: str) -> Any:
    return pytest.raises(Refused, match=rf"^{re.escape(code)}\(")


def month(desk: Desk) -> str:
    return f"{desk.clock.now():%Y-%m}"


@dataclass
class Office:
    """Who issues invoices."""

    desk: Desk

    @property
    def home(self) -> str:
        return self.desk.ask("members:party:list", handle="foundation").items[0].id

    def charged(
        self, *fen: int, routes: list[str] | None = None, sets_address: bool = True, **address: Any
    ) -> tuple[str, str, list[str]]:
        """An organisation with an address, a month that is over, and the models that it was charged these amounts for."""
        desk = self.desk
        org = desk.organisation(sum(fen) + 1_000)
        routes = routes or [desk.priced_route() for _ in fen]
        client = Client(desk, org)
        for route, amount in zip(routes, fen, strict=True):
            client.call(route, (amount + 1) * NANO, amount * NANO)
            client.give_back()
        client.settle()
        was = month(desk)
        desk.clock.advance(days=32)
        if sets_address:
            self.address(org, **address)
        return org, was, routes

    def address(self, org: str, **more: Any) -> None:
        self.desk.do("billing:address:set", org=org, **({"name": "A Party"} | ADDRESS | more))

    def tax(self, category: str, rate_bp: int = 0, **more: Any) -> str:
        """A rule of Germany's from now on; it holds for what is charged after it."""
        given = {"jurisdiction": "DE", "article": "UStG § 12(1)"}
        given |= {"category": category, "rate_bp": rate_bp}
        return self.desk.do("billing:tax:publish", **(given | more)).id

    def end_taxes(self) -> None:
        """As if none had been."""
        for each in self.desk.ask("billing:tax:list", limit=200).items:
            if each.until is None:
                self.desk.do("billing:tax:end", tax=each.id)
        self.desk.clock.advance(days=62)

    def issue(self, org: str, was: str, unit: str = UNIT) -> Any:
        return self.desk.do("billing:invoice:issue", org=org, month=was, unit=unit)

    def xml(self, issued: Any) -> bytes:
        asked = service.OneInvoice(invoice=issued.id)
        return service.xml(
            self.desk.kernel.look(lambda ctx: service.get_invoice.run(ctx, asked), Caller(self.desk.operator))
        )


@pytest.fixture
def office(desk: Desk) -> Iterator[Office]:
    made = Office(desk)
    made.address(made.home, name="The Foundation", vat_id=GERMAN)
    yield made
    made.end_taxes()
