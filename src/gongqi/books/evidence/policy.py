"""Who may see the evidence: everyone its public side. The private side is asked for by `evidence:private:get`."""

from __future__ import annotations

from gongqi.books.evidence.models import EntryRow
from gongqi.kernel.access import Policy, everyone

POLICIES = (Policy(EntryRow, read="evidence:entry:read", rules={"evidence:entry:read": everyone}),)
