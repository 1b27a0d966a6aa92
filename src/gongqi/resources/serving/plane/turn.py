"""What is said to others during one turn of the event loop is said at its end, one after the other.

Whoever waits for it sleeps, and to wake a process costs more than to tell it something. Between two things that are said
as they come lies the work of a call, and its reader sleeps again meanwhile; said in a row they wake it once.
"""

from __future__ import annotations

import asyncio


class Turn:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._unsaid: list[tuple[asyncio.Transport, bytes]] = []

    def say(self, transport: asyncio.Transport, data: bytes) -> None:
        if not self._unsaid:
            self._loop.call_soon(self.end)
        self._unsaid.append((transport, data))

    def end(self) -> None:
        """Say now what is unsaid: before a connection is closed, say. Who has left meanwhile is told nothing."""
        unsaid, self._unsaid = self._unsaid, []
        for transport, data in unsaid:
            if not transport.is_closing():
                transport.write(data)
