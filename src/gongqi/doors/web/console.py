"""The console: pages that rooms declare, and a form for every verb, both rendered on the server.

Everything works without JavaScript. A form is derived from the verb's input type, so a verb that exists can be used; a
page shows only the verbs its reader may use. Errors come back on the form with what was typed.
"""

from __future__ import annotations

import secrets
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio.to_thread
import jinja2
import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gongqi.doors.web import api, callers, charts, problems
from gongqi.kernel.access import Actor
from gongqi.kernel.errors import GongqiError, Refused
from gongqi.kernel.money import UNITS
from gongqi.kernel.room import Kernel, View
from gongqi.kernel.verbs import Input, Read, Verb, execute
from gongqi.kernel.words import tag

MAX_FORM_BYTES = 1024 * 1024
# The places of the rail, in the order of the chain: (path, text key).
PLACES = (
    ("/", "web.nav.home"),
    ("/hub", "web.nav.hub"),
    ("/upstream", "web.nav.upstream"),
    ("/ethics", "web.nav.review"),
    ("/serving", "web.nav.serving"),
    ("/standards", "web.nav.standards"),
    ("/scenarios", "web.nav.scenarios"),
    ("/ledger", "web.nav.ledger"),
    ("/evidence", "web.nav.evidence"),
    ("/members", "web.nav.members"),
)


class Console:
    """Renders the views and forms of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        house = kernel.house
        folders = [Path(__file__).parent / "templates", *(room.folder / "templates" for room in house.rooms)]
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folders),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.templates.globals |= {"charts": charts, "units": UNITS, "verbs": house.verbs}
        views = [view for room in house.rooms for view in room.views]
        self.by_prefix = {view.id_prefix: view.path for view in views if view.id_prefix}
        paths = {view.path for view in views}
        self.places = [place for place in PLACES if place[0] == "/" or place[0] in paths]
        self.routes = [
            *(Route(view.path, self._page(view), methods=["GET"]) for view in views),
            Route("/do/{room}/{noun}/{word}", self._form_page, methods=["GET"]),
            Route("/do/{room}/{noun}/{word}", self._form_sent, methods=["POST"]),
            Route("/go/{key}", self._go, methods=["GET"]),
        ]

    def render(
        self, request: Request, actor: Actor, template: str, values: Mapping[str, Any], *, status: int = 200
    ) -> Response:
        """A page with the words, the rail and the rights of this reader."""
        language = callers.language_of(request)
        words = self.kernel.house.words
        path = request.url.path

        def t(key: str, **params: object) -> str:
            return words.text(key, language, **params)

        def can(permission: str, row: Any = None) -> bool:
            if not actor.may_somewhere(permission):
                return False
            if row is None or not hasattr(row, "__tablename__"):
                return True
            return self.kernel.look(lambda ctx: ctx.may(permission, row), callers.caller(request, actor))

        html = self.templates.get_template(template).render(
            **{
                "t": t,
                "lang": tag(language),
                "zh": language == "zh",
                "actor": None if actor.is_anonymous else actor,
                "nav": [(href, key, path == href or (href != "/" and path.startswith(href))) for href, key in self.places],
                "csrf": callers.csrf_token(request),
                "path": path,
                "query": dict(request.query_params),
                "can": can,
                "go": self.address,
                "label": lambda name: words.verbs[name].label[language],
                "help": lambda name: words.verbs[name].help[language],
                "foundation": self.kernel.settings.foundation,
                **values,
            }
        )
        response = Response(html, status, media_type="text/html", headers={"content-language": tag(language)})
        if request.query_params.get("lang") in ("zh", "en"):
            response.set_cookie(
                callers.LANGUAGE_COOKIE, language, max_age=callers.LANGUAGE_SECONDS, samesite="lax", httponly=True
            )
        return response

    def failed(self, request: Request, error: Exception) -> Response:
        """An error as a page: what happened, what to do, the code and the request id."""
        known = problems.catalogued(error, request.state.request_id)
        language = callers.language_of(request)
        status, problem = problems.document(
            known, house=self.kernel.house, language=language, request_id=request.state.request_id
        )
        actor = callers.cookie(request, self.kernel)
        response = self.render(request, actor, "error.html", {"problem": problem}, status=status)
        response.headers.update(problems.headers(known, status))
        return response

    def address(self, key: str) -> str | None:
        """The page of an id, by its prefix."""
        path = self.by_prefix.get(key.partition("_")[0])
        return path.replace("{key}", key) if path else None

    def _page(self, view: View) -> Any:
        async def endpoint(request: Request) -> Response:
            return await anyio.to_thread.run_sync(self._load, request, view)

        return endpoint

    def _load(self, request: Request, view: View) -> Response:
        try:
            actor = callers.cookie(request, self.kernel)
            arguments = dict(request.path_params)
            arguments |= {name: request.query_params[name] for name in view.params if name in request.query_params}
            if any("\x00" in value for value in arguments.values()):
                raise Refused("kernel.input-invalid", where="path", why="NUL")

            def load(ctx: Read) -> Response:
                return self.render(request, actor, view.template, view.load(ctx, **arguments))

            return self.kernel.look(load, callers.caller(request, actor))
        except Exception as error:  # the door
            return self.failed(request, error)

    async def _go(self, request: Request) -> Response:
        address = self.address(request.path_params["key"])
        if address is None:
            return await anyio.to_thread.run_sync(
                self.failed, request, Refused("access.not-found", kind="page", key=request.path_params["key"][:100])
            )
        return RedirectResponse(address, 303)

    async def _form_page(self, request: Request) -> Response:
        return await anyio.to_thread.run_sync(self._show_form, request)

    async def _form_sent(self, request: Request) -> Response:
        try:
            body = await api.read_body(request, MAX_FORM_BYTES)
        except Refused as error:
            return await anyio.to_thread.run_sync(self.failed, request, error)
        return await anyio.to_thread.run_sync(self._act, request, body)

    def _verb(self, request: Request) -> Verb:
        params = request.path_params
        name = f"{params['room']}:{params['noun']}:{params['word']}"
        if name not in self.kernel.house.verbs:
            raise Refused("web.route-unknown", path=request.url.path[:200])
        return self.kernel.house.verbs[name]

    def _show_form(self, request: Request) -> Response:
        try:
            verb = self._verb(request)
            actor = callers.cookie(request, self.kernel)
            if not verb.public and not actor.may_somewhere(verb.name):
                raise Refused(
                    "access.sign-in-needed" if actor.is_anonymous else "access.forbidden", permission=verb.name
                )
            return self._form(request, actor, verb, dict(request.query_params))
        except Exception as error:  # the door
            return self.failed(request, error)

    def _form(
        self, request: Request, actor: Actor, verb: Verb, typed: Mapping[str, str], error: GongqiError | None = None
    ) -> Response:
        language = callers.language_of(request)
        status, problem = 200, None
        if error:
            status, problem = problems.document(
                error, house=self.kernel.house, language=language, request_id=request.state.request_id
            )
        values = {
            "verb": verb,
            "fields": fields_of(verb.input),
            "typed": typed,
            "problem": problem,
            "form_key": typed.get("form") or secrets.token_urlsafe(16),  # pressing a button twice acts once
        }
        return self.render(request, actor, "form.html", values, status=status)

    def _act(self, request: Request, body: bytes) -> Response:
        typed: dict[str, str] = {}
        actor = callers.cookie(request, self.kernel)
        try:
            verb = self._verb(request)
            pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1000)
            typed = dict(pairs)
            callers.check_csrf(request, typed.pop("csrf", ""))
            back = typed.pop("back", "")
            try:
                caller = callers.caller(request, actor)
                caller.idempotency_key = typed.pop("form", None) or None
                output = execute(self.kernel, verb, caller, from_form(verb.input, typed, pairs))
            except (Refused, ValidationError) as error:
                return self._form(request, actor, verb, typed, problems.catalogued(error, request.state.request_id))
            if verb.secret:
                return self.render(request, actor, "secret.html", {"verb": verb, "output": output.model_dump()})
            return RedirectResponse(self._after(output, back), 303)
        except Exception as error:  # the door
            return self.failed(request, error)

    def _after(self, output: Any, back: str) -> str:
        """Where a form leads: the page it came from, when that is ours, else the page of what it made."""
        if back:
            return callers.safe_path(back)
        return self.address(str(getattr(output, "id", ""))) or "/"


def fields_of(model: type[Input]) -> list[dict[str, Any]]:
    """What a form must ask: name, kind (text, flag, many, json), JSON Schema for the input element, whether needed."""
    properties = model.model_json_schema()["properties"]
    fields = []
    for name, field in model.model_fields.items():
        kind = _kind(field.annotation)
        schema = {"type": "string", "maxLength": MAX_FORM_BYTES} if kind == "json" else properties[name]
        fields.append({"name": name, "kind": kind, "schema": schema, "required": field.is_required()})
    return fields


def _kind(annotation: Any) -> str:
    arguments = [each for each in typing.get_args(annotation) if each is not type(None)]
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType) and len(arguments) == 1:
        return _kind(arguments[0])
    if annotation is bool:
        return "flag"
    if annotation in (int, str) or origin is typing.Literal:
        return "text"
    if origin in (list, tuple) and arguments and arguments[0] is str:
        return "many"
    return "json"


def from_form(model: type[Input], typed: Mapping[str, str], pairs: list[tuple[str, str]]) -> Input:
    """A sent form as input: empty optional fields are absent, lists come one a line, structures as JSON."""
    values: dict[str, Any] = {}
    for field in fields_of(model):
        name, kind = field["name"], field["kind"]
        text = typed.get(name, "").replace("\r\n", "\n")
        if kind == "flag":
            values[name] = name in typed
        elif kind == "many":
            lines = "\n".join(value for key, value in pairs if key == name).splitlines()
            values[name] = [line.strip() for line in lines if line.strip()]
        elif text.strip() == "":
            if field["required"]:
                values[name] = ""
        elif kind == "json":
            try:
                values[name] = orjson.loads(text)
            except orjson.JSONDecodeError as error:
                raise Refused("kernel.input-invalid", where=name, why="JSON") from error
        else:
            values[name] = text
    if any("\x00" in str(value) for value in values.values()):
        raise Refused("kernel.input-invalid", where="form", why="NUL")
    return model.model_validate(values)
