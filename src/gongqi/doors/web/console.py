"""The console: pages that rooms declare, and a form for every verb, both rendered on the server.

Everything works without JavaScript. A form is derived from the verb's input type, so a verb that exists can be used; a
page shows only the verbs its reader may use. Errors come back on the form with what was typed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio.to_thread
import jinja2
from markupsafe import Markup
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gongqi.doors.fields import fields_of
from gongqi.doors.web import api, callers, charts, problems
from gongqi.doors.web.forms import Drawn, drawn, from_form, typed_in, with_one_more, without_row
from gongqi.doors.web.naming import Naming
from gongqi.doors.web.sent import read_sent
from gongqi.kernel.access import ANONYMOUS, Actor
from gongqi.kernel.errors import GongqiError, Refused, Unavailable
from gongqi.kernel.money import UNITS
from gongqi.kernel.room import Kernel, Panel, Sent, View
from gongqi.kernel.verbs import Caller, Read, Verb, execute
from gongqi.kernel.words import LANGUAGES, tag
from gongqi.members import service as members

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
        self.panels: dict[str, list[Panel]] = {}
        for panel in (panel for room in house.rooms for panel in room.panels):
            self.panels.setdefault(panel.page, []).append(panel)
        paths = {view.path for view in views}
        self.places = [place for place in PLACES if place[0] == "/" or place[0] in paths]
        self.routes = [
            *(Route(view.path, self._page(view), methods=["GET"]) for view in views),
            *(Route(view.path, self._taken(view), methods=["POST"]) for view in views if view.take),
            Route("/do/{room}/{noun}/{word}", self._form_page, methods=["GET"]),
            Route("/do/{room}/{noun}/{word}", self._form_sent, methods=["POST"]),
            Route("/go/{key}", self._go, methods=["GET"]),
        ]

    def render(
        self,
        request: Request,
        actor: Actor,
        template: str,
        values: Mapping[str, Any],
        *,
        status: int = 200,
        ctx: Read | None = None,
    ) -> Response:
        """A page with the words, the rail and the rights of this reader; `ctx` is the moment it shows."""
        language = callers.language_of(request)
        html = self._html(request, actor, template, values, language=language, ctx=ctx)
        response = Response(html, status, media_type="text/html", headers={"content-language": tag(language)})
        if request.query_params.get("lang") in LANGUAGES:
            callers.set_cookie(response, request, callers.LANGUAGE_COOKIE, language, seconds=callers.LANGUAGE_SECONDS)
        return response

    def _html(
        self,
        request: Request,
        actor: Actor,
        template: str,
        values: Mapping[str, Any],
        *,
        language: str,
        ctx: Read | None,
    ) -> str:
        """A template filled with the words and the rights of this reader and the given values."""
        words = self.kernel.house.words
        path = request.url.path

        def t(key: str, **params: object) -> str:
            return words.text(key, language, **params)

        def can(permission: str, row: Any = None) -> bool:
            if not actor.may_somewhere(permission):
                return False
            if row is None or not hasattr(row, "__tablename__"):
                return True
            if ctx is not None:
                return ctx.may(permission, row)
            return self.kernel.look(lambda now: now.may(permission, row), callers.caller(request, actor))

        def look(work: Callable[[Read], Any]) -> Any:
            return work(ctx) if ctx is not None else self.kernel.look(work, callers.caller(request, actor))

        return self.templates.get_template(template).render(
            **{
                "t": t,
                "lang": tag(language),
                "zh": language == "zh",
                "actor": None if actor.is_anonymous else actor,
                "nav": [
                    (href, key, path == href or (href != "/" and path.startswith(href))) for href, key in self.places
                ],
                "csrf": callers.csrf_token(request),
                "path": path,
                "origin": f"{request.url.scheme}://{request.url.netloc}",
                "query": dict(request.query_params),
                "kept": kept_query(request),
                "first_page": f"{path}?{kept_query(request, without='cursor')}".rstrip("?&")
                if "cursor" in request.query_params
                else None,
                "can": can,
                "go": self.address,
                "name_of": Naming(look, self.by_prefix, values),
                "label": lambda name: words.verbs[name].label[language],
                "help": lambda name: words.verbs[name].help[language],
                "foundation": self.kernel.settings.foundation_in(language),
                **values,
            }
        )

    def failed(self, request: Request, error: Exception) -> Response:
        """An error as a page: what happened, what to do, the code and the request id."""
        known = problems.catalogued(error, request.state.request_id, request.url.path)
        try:
            actor = callers.cookie(request, self.kernel)
        except Exception:  # the door: when the database is gone, the page that says so must still come
            actor = ANONYMOUS
        problem = self.problem(request, known)
        response = self.render(request, actor, "error.html", {"problem": problem}, status=problem["status"])
        response.headers.update(problems.headers(known, problem["status"]))
        return response

    def problem(self, request: Request, error: GongqiError) -> dict[str, Any]:
        language, request_id = callers.language_of(request), request.state.request_id
        return problems.document(error, house=self.kernel.house, language=language, request_id=request_id)[1]

    def address(self, key: str) -> str | None:
        """The page of an id, by its prefix."""
        path = self.by_prefix.get(key.partition("_")[0])
        return path.replace("{key}", key) if path else None

    def _page(self, view: View) -> Any:
        async def endpoint(request: Request) -> Response:
            return await anyio.to_thread.run_sync(self._load, request, view)

        return endpoint

    def _taken(self, view: View) -> Any:
        async def endpoint(request: Request) -> Response:
            try:
                actor = await anyio.to_thread.run_sync(callers.cookie, request, self.kernel)
                if actor.is_anonymous:  # before a byte is read
                    raise Refused("web.form-expired")
                sent = await read_sent(request)
            except Exception as error:  # the door
                return await anyio.to_thread.run_sync(self.failed, request, error)
            return await anyio.to_thread.run_sync(self._take, request, view, actor, sent)

        return endpoint

    def _take(self, request: Request, view: View, actor: Actor, sent: Sent) -> Response:
        """Hand what a page's own form brought to its room; a refusal comes back on the page, with what was typed."""
        try:
            callers.check_csrf(request, sent.fields.get("csrf", ""))
            caller = callers.caller(request, actor)
            caller.idempotency_key = sent.fields.get("once") or None
            assert view.take is not None
            return RedirectResponse(view.take(self.kernel, caller, sent, **request.path_params), 303)
        except (Refused, Unavailable, ValidationError) as error:
            return self._load(request, view, sent=sent, refused=problems.catalogued(error, request.state.request_id))
        except Exception as error:  # the door
            return self.failed(request, error)

    def _load(
        self, request: Request, view: View, *, sent: Sent | None = None, refused: GongqiError | None = None
    ) -> Response:
        try:
            actor = callers.cookie(request, self.kernel)
            arguments = dict(request.path_params)
            arguments |= {name: request.query_params[name] for name in view.params if name in request.query_params}
            if any("\x00" in value for value in arguments.values()):
                raise problems.invalid("path", "nul")

            def load(ctx: Read) -> Response:
                values = view.load(ctx, **arguments)
                panels, filled = [], {}
                for panel in self.panels.get(view.template, ()):
                    shown = self._panel(request, actor, panel, panel.load(ctx, **arguments), ctx)
                    if panel.place:
                        filled[panel.place] = shown
                    else:
                        panels.append(shown)
                given = {"panels": panels, "filled": filled, **values}
                if view.take:
                    typed = sent.fields if sent else {}
                    given |= {"typed": typed, "form_key": typed.get("once") or secrets.token_urlsafe(16)}
                    given |= {"problem": self.problem(request, refused) if refused else None}
                status = given["problem"]["status"] if refused else 200
                return self.render(request, actor, view.template, given, status=status, ctx=ctx)

            return self.kernel.look(load, callers.caller(request, actor))
        except Exception as error:  # the door
            return self.failed(request, error)

    def _panel(
        self, request: Request, actor: Actor, panel: Panel, values: Mapping[str, Any] | None, ctx: Read
    ) -> Markup:
        if values is None:
            return Markup()
        language = callers.language_of(request)
        return Markup(self._html(request, actor, panel.template, values, language=language, ctx=ctx))

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
        """The form of a verb, with what was typed and, beside the field it is about, what is wrong with it."""
        problem = self.problem(request, error) if error else None
        wrong: dict[str, str] = {}
        if error and error.code == problems.INVALID:
            place, language = str(error.params["where"]), callers.language_of(request)
            key = f"web.why.{error.params.get('kind')}"
            words = self.kernel.house.words
            wrong[place] = words.text(key, language, **error.params) if words.has(key) else str(error.params["why"])
        values = {
            "verb": verb,
            "word": lambda name: self._word(verb, name, callers.language_of(request)),
            "options": lambda name, enum: self._options(verb, name, enum, callers.language_of(request)),
            "fields": self._own_orgs(request, actor, verb, drawn(fields_of(verb.input), typed, wrong)),
            "back": callers.safe_path(typed["back"]) if typed.get("back") else "",
            "problem": problem,
            "form_key": typed.get("once") or secrets.token_urlsafe(16),  # pressing a button twice acts once
        }
        response = self.render(request, actor, "form.html", values, status=problem["status"] if problem else 200)
        if error and problem:
            response.headers.update(problems.headers(error, problem["status"]))
        return response

    def _own_orgs(self, request: Request, actor: Actor, verb: Verb, fields: list[Drawn]) -> list[Drawn]:
        """Who acts for organisations of their own chooses among them by name; who acts for all types an id."""
        orgs = sorted(actor.orgs_with(verb.name) & actor.orgs)
        if not orgs or actor.may(verb.name):
            return fields
        names = self.kernel.look(lambda ctx: members.names(ctx, orgs), callers.caller(request, actor))
        choices = {"x-choices": [(org, names[org]) for org in orgs], "default": orgs[0]}
        return [
            each | {"schema": {**each["schema"], **choices}}
            if each["name"] == "org" and each["kind"] == "text"
            else each
            for each in fields
        ]

    def _word(self, verb: Verb, name: str, language: str) -> str:
        """The label of a field, or with `.hint` its hint: this verb's own word, else the word all verbs share."""
        words = self.kernel.house.words
        own = f"field.{verb.name}.{name}"
        key = own if words.has(own) else f"field.{name}"
        return "" if name.endswith(".hint") and not words.has(key) else words.text(key, language)

    def _options(self, verb: Verb, name: str, enum: Sequence[str], language: str) -> list[tuple[str, str]]:
        """The values that a field allows, each with its word: this verb's own, else the field's, else the value."""
        words = self.kernel.house.words

        def worded(value: str) -> str:
            keys = (f"option.{verb.name}.{name}.{value}", f"option.{name}.{value}")
            return next((words.text(key, language) for key in keys if words.has(key)), value)

        return [(value, worded(value)) for value in enum]

    def _act(self, request: Request, body: bytes) -> Response:
        try:
            actor = callers.cookie(request, self.kernel)
            verb = self._verb(request)
            typed = typed_in(body)
            callers.check_csrf(request, typed.get("csrf", ""))
            if more := typed.get("more"):
                return self._form(request, actor, verb, with_one_more(typed, more))
            if less := typed.get("less"):
                return self._form(request, actor, verb, without_row(typed, less))
            try:
                output = execute(
                    self.kernel, verb, self._caller(request, actor, verb, typed), from_form(verb.input, typed)
                )
            except (Refused, Unavailable, ValidationError) as error:
                return self._form(request, actor, verb, typed, problems.catalogued(error, request.state.request_id))
            if verb.secret:
                language = callers.language_of(request)
                facts = [(self._word(verb, name, language), value) for name, value in output.model_dump().items()]
                return self.render(request, actor, "secret.html", {"verb": verb, "facts": facts})
            return RedirectResponse(self._after(output, typed.get("back", "")), 303)
        except Exception as error:  # the door
            return self.failed(request, error)

    def _caller(self, request: Request, actor: Actor, verb: Verb, typed: Mapping[str, str]) -> Caller:
        """The form's own key makes a second press harmless. An input with a secret goes without: the key's memory would
        need a digest of it, and a digest of a password can be guessed at leisure."""
        caller = callers.caller(request, actor)
        secret = any(field.is_secret for field in fields_of(verb.input))
        caller.idempotency_key = None if secret else typed.get("once") or None
        return caller

    def _after(self, output: Any, back: str) -> str:
        """Where a form leads: the page it came from, when that is ours, else the page of what it made."""
        if back:
            return callers.safe_path(back)
        return self.address(str(getattr(output, "id", ""))) or "/"


def kept_query(request: Request, without: str = "lang") -> str:
    """The query of this page but one parameter, ready for one more: `a=1&`."""
    kept = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != without])
    return kept + "&" if kept else ""
