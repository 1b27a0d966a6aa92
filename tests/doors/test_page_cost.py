"""What a page costs in statements, whatever the foundation holds: bounded, and no more for a thousand assets than for two
hundred."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert

from bench.bench_pages import NOW, fill
from gongqi import app
from gongqi.doors.web import live
from gongqi.doors.web.server import build
from gongqi.kernel.config import Settings
from gongqi.kernel.ids import mint
from gongqi.kernel.room import Kernel
from gongqi.members.models import Party
from tests.doors.conftest import Browser, Town

pytestmark = pytest.mark.long

FEW, MANY = 200, 1_000
# A page asks for its rows, and once for the names of each kind it shows. The lineage is walked generation by generation.
MOST = {
    "home": 10, "hub": 11, "asset": 40, "release": 34, "review queue": 12, "deployment": 38, "account": 12, "ledger": 16,
    "evidence": 12, "members": 6, "donations": 10,
}  # fmt: skip
DIRECTORY = 10_000


@contextmanager
def counted(kernel: Kernel) -> Iterator[list[str]]:
    asked: list[str] = []

    def heard(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(kernel.db.reader, "before_cursor_execute", heard)
    yield asked
    event.remove(kernel.db.reader, "before_cursor_execute", heard)


def cost(home: Path, assets: int) -> dict[str, int]:
    """How many statements each page takes the operator, when its names and templates are warm."""
    pages, cookie = fill(home, assets)
    with closing_kernel(home) as kernel:
        client = Town(kernel, None, build(kernel, ()), None).client()  # type: ignore[arg-type]
        client.cookies.set("gongqi_session", cookie)
        browser, costs = Browser(client), {}
        for page, path in pages.items():
            browser.get(path)
            with counted(kernel) as asked:
                assert browser.get(path).status_code == 200, page
            costs[page] = len(asked)
        return costs


@contextmanager
def closing_kernel(home: Path) -> Iterator[Kernel]:
    kernel = app.assemble(Settings.from_environment({"GONGQI_HOME": str(home)}))
    with closing(kernel.db):
        yield kernel


def test_what_a_page_costs_is_bounded_and_does_not_grow_with_the_foundation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "AT_ONCE_SECONDS", 0.0)  # the figures are measured once, as in a large foundation
    monkeypatch.setattr(live, "PERIOD_SECONDS", 600.0)
    monkeypatch.setattr(live, "STALE_SECONDS", 600.0)
    few, many = cost(tmp_path / "few", FEW), cost(tmp_path / "many", MANY)
    assert {page: (few[page], many[page]) for page in many if many[page] > few[page]} == {}
    assert {page: count for page, count in many.items() if count > MOST[page]} == {}


def test_a_directory_of_ten_thousand_is_read_page_by_page(whole: Town, new_browser_of: Any) -> None:
    rows = [
        {
            "id": mint("org", NOW), "kind": "organisation", "handle": f"org-{number}", "name": f"Institute {number}",
            "email": None, "org": None, "state": "active", "created_at": NOW, "version": 1,
        }
        for number in range(DIRECTORY)
    ]  # fmt: skip
    with whole.kernel.db.writer.begin() as connection:
        connection.execute(insert(Party), rows)
    browser = new_browser_of(whole)
    with counted(whole.kernel) as asked:
        first = browser.get("/members")
    assert len(asked) <= MOST["members"]
    assert first.text.count("Institute ") <= 60, "a page, not the directory"
    assert 'rel="first"' not in first.text
    onwards = first.text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = browser.get(onwards)
    assert 'rel="first" href="/members?kind=organisation"' in second.text
    assert not shown(first.text) & shown(second.text)


def shown(page: str) -> set[str]:
    return {part.split('"')[0] for part in page.split('href="/members/organisation/')[1:]}


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT id FROM patent_pledge WHERE org = ? ORDER BY id DESC", "ix_patent_pledge_org_id"),
        ("SELECT * FROM party WHERE kind IN (?) OR id = 'x' ORDER BY id DESC LIMIT 51", "ix_party_id_kind"),
    ],
)  # fmt: skip
def test_sqlite_finds_the_index_made_for_the_question(whole: Town, query: str, index: str) -> None:
    if whole.kernel.db.reader.dialect.name != "sqlite":
        pytest.skip("PostgreSQL chooses by statistics")
    with whole.kernel.db.reader.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", ("x",)).fetchall()
    assert index in str(plan)
