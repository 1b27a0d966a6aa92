"""Kill an evaluation at every boundary and in the middle of the run: one result, one case, one entry of each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from sqlalchemy import select

from gongqi.books.evidence.models import EntryRow
from gongqi.governance.ethics.models import Evaluation, ReviewCase
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.flows import FlowRow

pytestmark = [pytest.mark.long, pytest.mark.postgres]

SCRIPT = Path(__file__).with_name("examiners.py")
MAX_LIVES = 80  # two and a half days of the trial's clock: less than a vote lasts
MIDDLE_SECONDS = 0.3  # an evaluation takes longer than this to import what it needs
MUST_DIE_AT = {
    "before handle", "inside handle", "after handle", "claimed ethics.evaluate", "before run",
    "inside run", "after run",
    "before store", "inside store", "after store", "claimed ethics.review", "before settle 1", "inside settle 1",
    "after settle 1", "in the middle of run",
}  # fmt: skip


@pytest.fixture
def examiner(settings: Settings) -> Iterator[Callable[..., dict[str, Any]]]:
    process = subprocess.Popen([sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout

    def order(**what: Any) -> dict[str, Any]:
        line = json.dumps({"home": str(settings.home), "url": settings.database_url, **what})
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield order
    process.stdin.close()
    process.wait(timeout=30)


def test_an_evaluation_killed_anywhere_is_done_once_and_recorded_once(examiner, settings):
    assert examiner(do="prepare")["status"] == 0
    database = Database(settings.database_url)
    died: list[str] = []
    for life in range(1, MAX_LIVES):
        is_middle = "before run" in died and "in the middle of run" not in died
        lived = examiner(do="live", life=life, died=died, alarm=MIDDLE_SECONDS if is_middle else None)
        died += [lived["at"]] if lived["at"] else []
        with database.reading() as session:
            evaluation = session.scalar(select(Evaluation))
            busy = session.scalar(select(FlowRow.id).where(FlowRow.state == "open", FlowRow.owner.is_not(None)))
        if lived["status"] == 0 and evaluation and evaluation.state == "done" and not busy:
            break
    assert died and len(died) == len(set(died)) and set(died) >= MUST_DIE_AT
    with database.reading() as session:
        (evaluation,), (case,) = session.scalars(select(Evaluation)), session.scalars(select(ReviewCase))
        kinds = Counter(session.scalars(select(EntryRow.kind)))
        flows = {row.kind: row.state for row in session.scalars(select(FlowRow))}
    database.close()
    assert evaluation.state == "done"
    assert sha256(rfc8785.dumps(evaluation.result)).hexdigest() == evaluation.result_digest
    assert (case.state, len(case.roster)) == ("open", 2)
    assert (kinds["ethics.evaluation-done"], kinds["ethics.case-opened"]) == (1, 1)
    assert (flows["ethics.evaluate"], flows["ethics.review"]) == ("done", "open")  # the review waits for its votes
