"""Opening a donation step by step, each audience at its hour, however long that takes."""

from __future__ import annotations

from datetime import datetime

from gongqi.chain.upstream import service
from gongqi.kernel.flows import Flow, Run


def open_in_stages(run: Run, donation: str) -> None:
    stages = run.write("plan", lambda ctx: service.stages_of(ctx, donation))
    for stage in stages:
        audience = stage["audience"]
        wait = datetime.fromisoformat(stage["opens_at"]) - run.kernel.clock.now()
        run.sleep(f"until {audience}", max(wait.total_seconds(), 0))
        run.write(f"open to {audience}", lambda ctx, audience=audience: service.open_to(ctx, donation, audience))


FLOWS = (Flow(service.OPEN, open_in_stages),)
