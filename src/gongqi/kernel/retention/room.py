"""The registration of what the kernel forgets: a room without a door."""

from pathlib import Path

from gongqi.kernel.retention.flows import FLOWS, SCHEDULES
from gongqi.kernel.room import Room

ROOM = Room(name="retention", folder=Path(__file__).parent, flows=FLOWS, schedules=SCHEDULES)
