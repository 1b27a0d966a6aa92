"""What tests of flows do with them: begin one, tell it of an event, look at its row and at the notes that it wrote."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from gongqi.kernel.flows import FlowRow


def begin(kernel, key="1", **payload) -> str:
    return kernel.transact(lambda ctx: ctx.start_flow("f", key=key, **payload), reason="test")


def state(kernel, flow_id) -> Any:
    return kernel.look(lambda ctx: ctx.session.get(FlowRow, flow_id))


def notes(kernel, village) -> list[str]:
    return kernel.look(lambda ctx: list(ctx.session.scalars(select(village.Note.text).order_by(village.Note.text))))


def put(village, text):
    return lambda ctx: ctx.add(village.Note(id=ctx.new_id("note"), org="o", text=text)) and None


def emit(kernel, village, note, text):
    kernel.transact(lambda ctx: ctx.emit(village.NoteEdited(note=note, text=text)), reason="test")
