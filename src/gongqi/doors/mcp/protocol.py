"""The protocol itself: what the official SDK asks of us, answered from the kernel. Loaded when the first agent calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import mcp_types as types
import orjson
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request

from gongqi import __version__
from gongqi.doors.mcp.server import IDEMPOTENCY, offered
from gongqi.doors.web import callers, problems
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import ReadVerb, Verb, execute, query

MAX_BODY_BYTES = 4 * 1024 * 1024


class Protocol:
    """One running protocol over one kernel: `app` answers requests whose `state.actor` is settled."""

    def __init__(self, kernel: Kernel, by_tool: Mapping[str, Verb | ReadVerb]) -> None:
        self.kernel = kernel
        self.by_tool = by_tool
        server = Server(
            "gongqi",
            version=__version__,
            title="Gongqi 公器",
            instructions="The verbs and reads of an open-source foundation. Names are room_noun_verb.",
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        names = {kernel.settings.host, "127.0.0.1", "localhost", "[::1]"}
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=[f"{name}:*" for name in sorted(names)],
            allowed_origins=[f"http://{name}:*" for name in sorted(names)],
        )
        manager = StreamableHTTPSessionManager(
            app=server,
            json_response=True,
            stateless=True,
            security_settings=security,
            max_request_body_size=MAX_BODY_BYTES,
        )
        self.running = manager.run
        self.app = StreamableHTTPASGIApp(manager)

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
