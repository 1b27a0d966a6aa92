"""The table of contents: one ordered tuple of rooms, lowest first."""

from __future__ import annotations

from gongqi.books.evidence.room import ROOM as EVIDENCE
from gongqi.books.ledger.room import ROOM as LEDGER
from gongqi.chain.scenarios.room import ROOM as SCENARIOS
from gongqi.chain.standards.room import ROOM as STANDARDS
from gongqi.chain.upstream.room import ROOM as UPSTREAM
from gongqi.economy.billing.room import ROOM as BILLING
from gongqi.economy.credits.room import ROOM as CREDITS
from gongqi.governance.compliance.room import ROOM as COMPLIANCE
from gongqi.governance.ethics.room import ROOM as ETHICS
from gongqi.kernel.retention.room import ROOM as RETENTION
from gongqi.kernel.room import Room
from gongqi.members.room import ROOM as MEMBERS
from gongqi.packs.room import ROOM as PACKS
from gongqi.resources.hub.room import ROOM as HUB
from gongqi.resources.serving.room import ROOM as SERVING

ROOMS: tuple[Room, ...] = (
    RETENTION,
    EVIDENCE,
    LEDGER,
    MEMBERS,
    HUB,
    SERVING,
    COMPLIANCE,
    ETHICS,
    UPSTREAM,
    STANDARDS,
    SCENARIOS,
    BILLING,
    CREDITS,
    PACKS,
)
