"""The ledger: who holds what, in every unit, with no posting ever changed."""

from __future__ import annotations

from pathlib import Path

from gongqi.books.ledger import service
from gongqi.books.ledger.flows import FLOWS, SCHEDULES
from gongqi.books.ledger.pages import FIGURES, VIEWS
from gongqi.books.ledger.policy import POLICIES
from gongqi.kernel.room import Room

ROOM = Room(
    name="ledger",
    folder=Path(__file__).parent,
    verbs=(service.grant, service.reverse_transaction),
    reads=(
        service.get_account,
        service.list_accounts,
        service.account_statement,
        service.get_transaction,
        service.check_book,
    ),
    policies=POLICIES,
    flows=FLOWS,
    schedules=SCHEDULES,
    views=VIEWS,
    figures=FIGURES,
)
