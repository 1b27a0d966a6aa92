"""The MCP door: every verb and read as a tool, `hub:release:publish` → `hub_release_publish`.

Spoken through the official SDK at `/mcp` (streamable HTTP, stateless; both protocol eras). A caller sees exactly the tools
that it may use, so the list is private to its token. A refusal is a result with `isError` that carries the same problem
document as the HTTP API; only a bad token is refused before the protocol begins, with HTTP 401. Retrying agents mint new
ids: pass `_idempotency_key` to make a repeat harmless.

The SDK is a third of everything a server would load, in time and in memory, so it is loaded when the first agent calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gongqi.doors.web import callers, problems
from gongqi.kernel.access import Actor
from gongqi.kernel.errors import GongqiError
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import ReadVerb, Verb

PATH = "/mcp"
IDEMPOTENCY = "_idempotency_key"


class McpDoor:
    """Tools derived from one kernel's house."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        every: list[Verb | ReadVerb] = [*kernel.house.verbs.values(), *kernel.house.reads.values()]
        # Signing in is for people and browsers; a tool list that offers it invites phishing by prompt.
        self.by_tool = {tool_name(each.name): each for each in every if not getattr(each, "public", False)}
        # Stateless: there is no standing stream to GET and no session to DELETE.
        self.routes: list[BaseRoute] = [Route(PATH, endpoint=self, methods=["POST"])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Who calls is settled here, once, before the protocol: RFC 6750 wants 401 for a bad token."""
        # White space around a header's value is no part of it (RFC 9110 §5.5), but our parser leaves what is at its end.
        scope = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}
        request = Request(scope)
        try:
            request.state.actor = await anyio.to_thread.run_sync(callers.bearer, request, self.kernel)
        except GongqiError as error:
            await problems.answer(error, request, self.kernel.house)(scope, receive, send)
            return
        self._wanted.set()
        await self._ready.wait()
        await self._protocol(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._wanted, self._ready = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._speak)
            yield
            tasks.cancel_scope.cancel()

    async def _speak(self) -> None:
        """Load the protocol once somebody wants it, and keep it running in this one task: its own tasks belong to it."""
        await self._wanted.wait()
        protocol = await anyio.to_thread.run_sync(self._load)
        async with protocol.running():
            self._protocol: ASGIApp = protocol.app
            self._ready.set()
            await anyio.sleep_forever()

    def _load(self) -> Any:
        from gongqi.doors.mcp.protocol import Protocol

        return Protocol(self.kernel, self.by_tool)


def tool_name(name: str) -> str:
    return name.replace(":", "_").replace("-", "_")


def offered(actor: Actor, each: Verb | ReadVerb) -> bool:
    """Reads are offered to all, since what they find is authorised row by row; verbs to those who hold them."""
    return isinstance(each, ReadVerb) or actor.may_somewhere(each.name)
