"""What processes report of roll-outs and shadows: sums since each process began, one row for each, put in place of the last.

A report that comes twice changes nothing, and one that is lost is made up for by the next; of a process that dies the
reports of its last second are lost. Nothing is written for a call.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from gongqi.kernel.verbs import Read, Write
from gongqi.resources.serving.rollout_models import ModelRollout, ModelShadow, ModelTally

KEEP_DAYS = 30  # after the last report; what became of a roll-out is in its own row
BATCH = 500


def report(ctx: Write, plane: str, told: Mapping[str, Any]) -> None:
    for subject, figures in sorted(told.items()):
        row = ctx.session.get(ModelTally, (subject, plane))
        if row is None:
            ctx.add(ModelTally(subject=subject, plane=plane, figures=figures, at=ctx.now))
        else:
            row.figures, row.at = figures, ctx.now
    ctx.session.flush()


def reported(ctx: Read, subject: str) -> list[dict[str, Any]]:
    """Of each process that has taken part."""
    rows = select(ModelTally.figures).where(ModelTally.subject == subject).order_by(ModelTally.plane)
    return list(ctx.session.scalars(rows))


def reported_of(ctx: Read, subjects: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """The same of several."""
    rows = ctx.session.execute(
        select(ModelTally.subject, ModelTally.figures)
        .where(ModelTally.subject.in_(subjects))
        .order_by(ModelTally.plane)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.subject, []).append(row.figures)
    return found


def forget_old(ctx: Write) -> int:
    """Delete a batch of what is old and belongs to nothing that still goes on; returns how many."""
    until = ctx.now - timedelta(days=KEEP_DAYS)
    going_on = select(ModelRollout.id).where(ModelRollout.ended_at.is_(None))
    mirrored = select(ModelShadow.id).where(ModelShadow.ended_at.is_(None))
    old = select(ModelTally).where(ModelTally.at < until, ModelTally.subject.not_in(going_on))
    rows = list(
        ctx.session.scalars(old.where(ModelTally.subject.not_in(mirrored)).order_by(ModelTally.at).limit(BATCH))
    )
    for row in rows:
        ctx.session.delete(row)
    return len(rows)
