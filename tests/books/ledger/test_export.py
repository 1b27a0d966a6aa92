from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from beancount import loader
from beancount.core.data import Transaction
from beancount.core.inventory import Inventory
from hypothesis import given
from hypothesis import strategies as st

from gongqi.books.ledger import export
from gongqi.books.ledger import service as ledger
from gongqi.books.ledger.service import Line

BEAN_CHECK = str(Path(sys.executable).with_name("bean-check"))


def exported(books: Any) -> str:
    with books.kernel.db.reading() as session:
        return "".join(export.export_beancount(session))


def bean_check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [BEAN_CHECK, "--no-cache", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_bean_check_accepts_the_export_and_confirms_every_balance(books: Any, clock: Any, tmp_path: Path) -> None:
    a, b = books.open("org_01jd3v-x", 100), books.open("site_7")
    fen, gpu = books.open("org_01jd3v-x", 5_000, "CNY-fen"), books.open("site_7", 9, "GPU-second")
    clock.advance(days=3)

    def work(ctx: Any) -> None:
        later = ctx.now + timedelta(minutes=1)
        hold = ledger.reserve(ctx, key="h", payer=a, amount=60, subject='a "quoted" \\ subject\n', expires_at=later)
        ledger.settle(ctx, hold=hold.id, lines=[Line(b, 25)])
        other = ledger.account(ctx, "site_7", "CNY-fen")
        lines = (Line(fen, -7), Line(other, 7), Line(gpu, -1), Line(ledger.account(ctx, "org_z", "GPU-second"), 1))
        ledger.post(ctx, key="two-units", kind="test.exchange", subject="s", postings=lines)

    books.act(work)
    content = exported(books)
    path = tmp_path / "book.beancount"
    path.write_text(content, "utf-8")
    checked = bean_check(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "balance Assets:Org-01jd3v-H-x:Credit:Available 75 CREDIT" in content
    path.write_text(content.replace("Available 75 CREDIT", "Available 76 CREDIT"), "utf-8")
    assert bean_check(path).returncode == 1


def test_beancount_reads_a_total_of_zero_in_every_unit(books: Any) -> None:
    a = books.open("org_a", 100)
    books.move("k", a, books.open("org_b"), 30)
    entries, errors, _ = loader.load_string(exported(books))
    total, count = Inventory(), 0
    for entry in entries:
        if isinstance(entry, Transaction):
            count += 1
            for posting in entry.postings:
                total.add_position(posting)
    assert (errors, count, total.is_empty()) == ([], 2, True)


def test_an_empty_book_is_a_valid_export(books: Any) -> None:
    assert exported(books) == 'option "title" "Gongqi ledger"\n'


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,6}", fullmatch=True)


@given(NAMES, NAMES)
def test_two_accounts_never_share_a_name(one: str, other: str) -> None:
    account = [SimpleNamespace(owner=owner, unit="credit", code="available", floor=0) for owner in (one, other)]
    assert (export._name(account[0]) == export._name(account[1])) == (one == other)
