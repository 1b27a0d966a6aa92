"""The ledger's pages, through the console, as a stranger, an owner, an auditor and the operator meet them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import gongqi.doors
from gongqi.books.ledger import pages, rules
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.room import ROOM
from gongqi.doors.web.callers import SESSION_COOKIE
from gongqi.doors.web.server import build as build_web
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, execute
from gongqi.members import VOCABULARY
from gongqi.members import service as members
from gongqi.members.room import ROOM as MEMBERS

DOORS = Path(gongqi.doors.__file__).parent
UNIT = "CNY-fen"


class Town:
    """A hospital paid for its data, an application that pays, and the browser each of them reads with."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.app = build_web(kernel)
        start = members.bootstrap_operator(kernel, token=None)
        self.operator = kernel.look(lambda ctx: members.actor_for_token(ctx, start.token))
        self.hospital = self.organisation("hospital", "Example <Hospital>")
        self.application = self.organisation("application", "Example Application")
        self.sessions = {"operator": self.session(start.link), "": None}
        for handle, org in (("keeper", self.hospital), ("builder", self.application)):
            party = self.do("members:person:create", handle=handle, name=handle, org=org, role="owner")
            self.sessions[handle] = self.session(self.do("members:signin:link", party=party.id).link)
        party = self.do("members:person:create", handle="auditor", name="auditor")
        self.do("members:membership:grant", party=party.id, org="*", role="auditor")
        self.sessions["auditor"] = self.session(self.do("members:signin:link", party=party.id).link)
        self.do("ledger:credit:grant", owner=self.application, unit=UNIT, amount=123_456)
        self.payer = rules.account_id(self.application, UNIT)
        self.receiver = rules.account_id(self.hospital, UNIT)
        self.charge = self.divide("charge", {self.receiver: 700, rules.account_id("org_foundation", UNIT): 300})

    def do(self, verb: str, *, actor: Any = None, **values: Any) -> Any:
        declared = self.kernel.house.verbs[verb]
        return execute(self.kernel, declared, Caller(actor or self.operator), declared.input.model_validate(values))

    def organisation(self, handle: str, name: str) -> str:
        return self.do("members:organisation:create", handle=handle, name=name).id

    def session(self, link: str) -> str:
        return self.do("members:signin:redeem", actor=ANONYMOUS, secret=link.rsplit("/", 1)[1]).secret

    def divide(self, key: str, parts: dict[str, int]) -> str:
        """One charge on the application, shared out; returns the transaction."""

        def work(ctx: Any) -> str:
            for account in parts:
                ledger.account(ctx, *rules.parts_of(account))
            lines = (ledger.Line(self.payer, -sum(parts.values())), *(ledger.Line(*part) for part in parts.items()))
            return ledger.post(ctx, key=key, kind="test.charge", subject=self.application, postings=lines).id

        return self.kernel.transact(work, reason="test")

    def get(self, path: str, who: str = "", language: str = "en", status: int = 200) -> str:
        async def fetch() -> httpx.Response:
            cookies = {SESSION_COOKIE: secret} if (secret := self.sessions[who]) else {}
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", cookies=cookies) as client:
                return await client.get(path, headers={"accept-language": language})

        response = anyio.run(fetch)
        assert response.status_code == status, response.text
        return response.text


@pytest.fixture
def town(build: Callable[..., Kernel]) -> Town:
    words = (DOORS / "words.toml", DOORS / "web" / "words.toml", DOORS / "web" / "fields.toml")
    return Town(build(House.build((ROOM, MEMBERS), VOCABULARY, *words)))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_speaks_both_languages_wholly(town: Town, language: str) -> None:
    for path in ("/ledger", f"/ledger/account/{town.payer}", f"/ledger/transaction/{town.charge}", "/ledger?check=now"):
        page = town.get(path, "operator", language)
        assert ("账本" in page) == (language == "zh")
        assert not [key for key in town.kernel.house.words.texts if f">{key}<" in page or f"{{{key}" in page]
        assert ">ledger." not in page and "{count}" not in page


def test_a_stranger_sees_public_totals_and_no_account(town: Town) -> None:
    page = town.get("/ledger")
    assert 'data-live="ledger.transactions">2<' in page and "1,234.56" in page
    assert "/ledger/account/" not in page and "/sign-in?back=/ledger" in page
    for path in (f"/ledger/account/{town.payer}", f"/ledger/transaction/{town.charge}"):
        town.get(path, status=404)


def test_an_owner_sees_their_accounts_and_not_anothers(town: Town) -> None:
    page = town.get("/ledger", "keeper")
    assert f"/ledger/account/{town.receiver}" in page and town.payer not in page
    assert "/do/ledger/credit/grant" not in page and "check=now" not in page
    town.get(f"/ledger/account/{town.payer}", "keeper", status=404)


def test_the_statement_shows_balance_counterpart_and_picture(town: Town) -> None:
    page = town.get(f"/ledger/account/{town.payer}", "builder")
    assert "1,224.56" in page and "−10.00" in page and "Example &lt;Hospital&gt;" in page
    assert page.count("<figure") == 2  # the balance, and how the charge was shared out
    assert "Example <Hospital>" not in page


def test_a_long_statement_goes_on_and_comes_back(town: Town) -> None:
    for number in range(pages.PAGE + 5):
        town.divide(f"more-{number}", {town.receiver: 1})
    path = f"/ledger/account/{town.payer}"
    first = town.get(path, "builder")
    (onward,) = {part.split('"')[0] for part in first.split(f'href="{path}?cursor=')[1:]}
    second = town.get(f"{path}?cursor={onward}", "builder")
    assert first.count("/ledger/transaction/") == pages.PAGE
    assert second.count("/ledger/transaction/") == 7 and 'rel="next"' not in second


def test_a_transaction_shows_all_its_lines_and_their_fall(town: Town) -> None:
    page = town.get(f"/ledger/transaction/{town.charge}", "keeper")
    assert "+<data" in page and "7.00" in page and "−10.00" in page and "<figure" in page
    assert "/do/ledger/transaction/reverse" not in page
    assert f"/do/ledger/transaction/reverse?transaction={town.charge}" in town.get(
        f"/ledger/transaction/{town.charge}", "operator"
    )


def test_a_reversed_transaction_leads_to_its_reversal_and_back(town: Town) -> None:
    undo = town.do("ledger:transaction:reverse", transaction=town.charge, reason="mistake").id
    undone = town.get(f"/ledger/transaction/{town.charge}", "operator")
    assert f"/ledger/transaction/{undo}" in undone and "/do/ledger/transaction/reverse" not in undone
    assert f"/ledger/transaction/{town.charge}" in town.get(f"/ledger/transaction/{undo}", "operator")


@pytest.mark.parametrize("who", ["operator", "auditor"])
def test_the_book_is_checked_before_the_eyes_of_who_may(town: Town, who: str) -> None:
    page = town.get("/ledger", who)
    assert "seal-proven" in page.split("<h1>")[1].split("</h1>")[0] and "every row agrees" in page
    assert town.payer in page


def test_a_false_book_breaks_the_seal_and_names_the_row(town: Town) -> None:
    if town.kernel.db.writer.dialect.name != "sqlite":
        pytest.skip("the trigger is dropped by name on SQLite")
    with town.kernel.db.writer.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER ledger_posting_update")
        connection.exec_driver_sql("UPDATE ledger_posting SET amount = amount + 1 WHERE amount = 700")
    page = town.get("/ledger?check=now", "auditor")
    assert "seal-broken" in page.split("<h1>")[1].split("</h1>")[0] and "ledger_transaction/" in page


def test_a_long_book_is_checked_only_when_asked(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "CHECKED_AT_ONCE", 1)
    assert "every row agrees" not in town.get("/ledger", "auditor")
    assert "every row agrees" in town.get("/ledger?check=now", "auditor")


def test_only_what_several_receive_is_drawn_as_a_fall() -> None:
    def lines(*amounts: tuple[str, int]) -> list[ledger.LineOut]:
        return [ledger.LineOut(account=account, amount=amount) for account, amount in amounts]

    assert pages.falls_of(lines(("a:credit:available", -5), ("b:credit:available", 5))) == []
    several = lines(("a:credit:x", -3), ("b:credit:x", -2), ("c:credit:x", 1), ("d:credit:x", 4))
    (fall,) = pages.falls_of(several)
    assert (fall.payer, fall.amount, [line.amount for line in fall.parts]) == (None, 5, [4, 1])


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [(123_456, "CNY-fen", "1,234.56"), (-5, "USD-cent", "−0.05"), (0, "CNY-fen", "0.00"), (-1_000, "credit", "−1,000")],
)
def test_an_amount_is_written_in_its_symbol(amount: int, unit: str, text: str) -> None:
    assert rules.written(amount, unit) == text
