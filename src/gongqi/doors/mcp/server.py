"""The MCP door: every verb and read as a tool, `hub:release:publish` → `hub_release_publish`.

Spoken through the official SDK at `/mcp` (streamable HTTP, stateless; both protocol eras). A caller sees exactly the
tools that it may use, so the list is private to its token. A refusal is a result with `isError` that carries the same
problem document as the HTTP API; only a bad token is refused before the protocol begins, with HTTP 401. Retrying agents
mint new ids: pass `_idempotency_key` to make a repeat harmless.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import mcp_types as types
import orjson
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gongqi import __version__
from gongqi.doors.web import callers, problems
from gongqi.kernel.access import Actor
from gongqi.kernel.errors import GongqiError, Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import ReadVerb, Verb, execute, query

PATH = "/mcp"
IDEMPOTENCY = "_idempotency_key"
MAX_BODY_BYTES = 4 * 1024 * 1024


class McpDoor:
    """Tools derived from one kernel's house."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        every: list[Verb | ReadVerb] = [*kernel.house.verbs.values(), *kernel.house.reads.values()]
        # Signing in is for people and browsers; a tool list that offers it invites phishing by prompt.
        self.by_tool = {tool_name(each.name): each for each in every if not getattr(each, "public", False)}
        server = Server(
            "gongqi",
            version=__version__,
            title="Gongqi 公器",
            instructions="The verbs and reads of an open-source foundation. Names are room_noun_verb.",
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        host = kernel.settings.host
        names = {host, "127.0.0.1", "localhost", "[::1]"}
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[f"{name}:*" for name in sorted(names)],
            allowed_origins=[f"http://{name}:*" for name in sorted(names)],
        )
        self._manager = StreamableHTTPSessionManager(
            app=server,
            json_response=True,
            stateless=True,
            security_settings=security,
            max_request_body_size=MAX_BODY_BYTES,
        )
        self._app = StreamableHTTPASGIApp(self._manager)
        # Stateless: there is no standing stream to GET and no session to DELETE.
        self.routes: list[BaseRoute] = [Route(PATH, endpoint=self, methods=["POST"])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Who calls is settled here, once, before the protocol: RFC 6750 wants 401 for a bad token."""
        request = Request(scope)
        try:
            request.state.actor = await anyio.to_thread.run_sync(callers.bearer, request, self.kernel)
        except GongqiError as error:
            await problems.answer(error, request, self.kernel.house)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._manager.run():
            yield

    async def _list(self, ctx: Any, _params: Any) -> types.ListToolsResult:
        actor, language = ctx.request.state.actor, callers.language_of(ctx.request)
        tools = [
            self._tool(name, each, language) for name, each in sorted(self.by_tool.items()) if offered(actor, each)
        ]
        return types.ListToolsResult(tools=tools)

    async def _call(self, ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            output = await anyio.to_thread.run_sync(self._run, ctx.request, params.name, dict(params.arguments or {}))
        except Exception as error:  # the door
            return self._refusal(ctx.request, error)
        text = orjson.dumps(output, option=orjson.OPT_INDENT_2).decode()
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], structured_content=output)

    def _run(self, request: Request, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        each = self.by_tool.get(name)
        if each is None:
            raise Refused("mcp.tool-unknown", tool=name[:100])
        caller = callers.caller(request, request.state.actor)
        caller.idempotency_key = arguments.pop(IDEMPOTENCY, None)
        if not isinstance(caller.idempotency_key, str | None):
            raise problems.invalid(IDEMPOTENCY, "string_type")
        input = each.input.model_validate(arguments)
        if isinstance(each, Verb):
            return execute(self.kernel, each, caller, input).model_dump(mode="json")
        return query(self.kernel, each, caller, input).model_dump(mode="json")

    def _refusal(self, request: Request, error: Exception) -> types.CallToolResult:
        request_id = request.state.request_id
        known = problems.catalogued(error, request_id)
        _status, problem = problems.document(
            known, house=self.kernel.house, language=callers.language_of(request), request_id=request_id
        )
        text = orjson.dumps(problem, option=orjson.OPT_INDENT_2).decode()
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text)], structured_content=problem, is_error=True
        )

    def _tool(self, name: str, each: Verb | ReadVerb, language: str) -> types.Tool:
        words = self.kernel.house.words.verbs[each.name]
        schema = each.input.model_json_schema()
        if isinstance(each, Verb):
            schema.setdefault("properties", {})[IDEMPOTENCY] = {"type": "string", "maxLength": 200}
        reads = isinstance(each, ReadVerb)
        return types.Tool(
            name=name,
            title=words.label[language],
            description=words.help[language],
            input_schema=schema,
            annotations=types.ToolAnnotations(read_only_hint=reads, destructive_hint=not reads, open_world_hint=False),
        )


def tool_name(name: str) -> str:
    return name.replace(":", "_").replace("-", "_")


def offered(actor: Actor, each: Verb | ReadVerb) -> bool:
    """Reads are offered to all, since what they find is authorised row by row; verbs to those who hold them."""
    return isinstance(each, ReadVerb) or actor.may_somewhere(each.name)
