"""Verbs and reads: everything one can do or ask, declared once.

A verb is a name `room:noun:verb` (which is also its permission), an input type, a function and the kind of evidence it
leaves. HTTP route, CLI command, console form and MCP tool are derived from that one declaration; parsing, authorisation,
the transaction, idempotency, evidence and the outbox are written once, here. Domain code never commits.

`Read` and `Write` are two types, so a page cannot write by mistake. Rows are reached by `ctx.find` and `ctx.visible`
only; a verb that returns without having authorised anything is a bug and is treated as one.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_type_hints

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Select, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from gongqi.kernel import flows
from gongqi.kernel.access import PUBLIC, WITHHELD, Actor
from gongqi.kernel.db import Base
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.events import Event, EventRow
from gongqi.kernel.gates import Gate, Verdict
from gongqi.kernel.ids import mint

if TYPE_CHECKING:
    from gongqi.kernel.room import Kernel

MAX_PAGE = 200  # rows a page; more is a reason to use the cursor
MAX_KEY = 200  # characters of an Idempotency-Key

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1  # a BIGINT column
UNSTORABLE = {  # legal JSON that no database of ours can hold
    "nul": "text may not contain the character U+0000",
    "integer_too_large": "an integer must fit in 64 bits",
    "finite_number": "a number must be finite",
}

M = TypeVar("M", bound=Base)
T = TypeVar("T")


class Input(BaseModel):
    """What a verb or read takes. Unknown fields are refused: a typo must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=100_000, allow_inf_nan=False)

    @model_validator(mode="after")
    def _store_anywhere(self) -> Self:
        if fault := _unstorable(self.__dict__):
            raise PydanticCustomError(fault, UNSTORABLE[fault])  # type: ignore[arg-type]
        return self


class Output(BaseModel):
    """What a verb or read gives; may be built straight from a row. Fields of type `Secret` are shown once, never stored."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Paged(Input):
    """A read that lists: at most `limit` rows after `cursor`."""

    limit: int = Field(50, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, max_length=200)


class Page(Output, Generic[T]):
    items: list[T]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Verb:
    name: str
    input: type[Input]
    output: Any
    run: Callable[[Write, Any], Any]
    evidence: str | None
    public: bool
    secret: bool

    @property
    def permission(self) -> str:
        return PUBLIC if self.public else self.name


@dataclass(frozen=True, slots=True)
class ReadVerb:
    name: str
    input: type[Input]
    output: Any
    run: Callable[[Read, Any], Any]


def verb(
    name: str, *, evidence: str | None, public: bool = False, secret: bool = False
) -> Callable[[Callable[[Write, Any], Any]], Verb]:
    """Declare a verb. `evidence` is the kind of entry it leaves, or None for acts that change no public fact (a sign-in).

    `secret`: the output holds something shown only once, so an idempotent replay is refused rather than stored.
    """

    def declare(run: Callable[[Write, Any], Any]) -> Verb:
        hints = get_type_hints(run)
        return Verb(name, hints["input"], hints["return"], run, evidence, public, secret)

    return declare


def read(name: str) -> Callable[[Callable[[Read, Any], Any]], ReadVerb]:
    """Declare a read `room:noun:list`, `room:noun:get` or `room:noun:…`. It authorises by what it finds."""

    def declare(run: Callable[[Read, Any], Any]) -> ReadVerb:
        hints = get_type_hints(run)
        return ReadVerb(name, hints["input"], hints["return"], run)

    return declare


@dataclass(slots=True)
class Caller:
    """Who asks, in which language, and how this request is told apart from others."""

    actor: Actor
    language: str = "en"
    request_id: str = ""
    idempotency_key: str | None = None
    if_match: str | None = None
    address: str = ""


class Read:
    """One moment of the world, as one actor may see it."""

    def __init__(self, kernel: Kernel, session: Session, caller: Caller) -> None:
        self.kernel = kernel
        self.session = session
        self.caller = caller
        self.actor = caller.actor
        self.now: datetime = kernel.clock.now()
        self.authorised: set[str] = set()
        self._known: dict[Any, Any] = {}

    @property
    def language(self) -> str:
        return self.caller.language

    @property
    def blobs(self) -> Any:
        return self.kernel.blobs

    def text(self, key: str, **params: object) -> str:
        return self.kernel.house.words.text(key, self.language, **params)

    def once(self, work: Callable[[Any, str], T], key: str) -> T:
        """`work(self, key)`, worked out once in this moment: the panels of a page ask alike, and are not to be changed by
        what they are given."""
        if (work, key) not in self._known:
            self._known[work, key] = work(self, key)
        return self._known[work, key]

    def require(self, permission: str, org: str | None = None) -> None:
        """Refuse unless the actor holds `permission` (within `org`)."""
        self.authorised.add(permission)
        if not self.actor.may(permission, org):
            raise self._denied(permission)

    def find(self, model: type[M], key: str | None, *, to: str) -> M:
        """The row `key` of `model`, if the actor may do `to` with it.

        Raises: Refused("access.not-found") when it does not exist or may not even be seen,
        Refused("access.forbidden") when it may be seen but not acted upon.
        """
        row = self.session.scalar(self.visible(model, to=to).where(model.__mapper__.primary_key[0] == key))
        if row is None:
            policy = self.kernel.house.policies[model]
            if to != policy.read:
                self.find(model, key, to=policy.read)
                raise self._denied(to)
            raise Refused("access.not-found", kind=model.__tablename__, key=str(key)[:100])
        return row

    def visible(self, model: type[M], *, to: str) -> Select[M]:
        """A select over the rows of `model` with which the actor may do `to`."""
        self.authorised.add(to)
        policy = self.kernel.house.policies.get(model)
        if policy is None:
            raise Broken("kernel.policy-missing", model=model.__tablename__, permission=to)
        return select(model).where(policy.clause(self.actor, to))

    def may(self, permission: str, row: Base | None = None) -> bool:
        """Whether a button should be shown. The verb itself asks again."""
        if row is None:
            return self.actor.may_somewhere(permission)
        model = type(row)
        key = model.__mapper__.primary_key[0]
        clause = self.kernel.house.policies[model].clause(self.actor, permission)
        return self.session.scalar(select(key).where(key == row.id, clause)) is not None  # type: ignore[attr-defined]

    def ask(self, gate: Gate, question: Any) -> Verdict:
        """Put a question to everyone who answers `gate`; their answers join (any deny wins)."""
        answers = {a.source: list(a.answer(self, question)) for a in self.kernel.house.answerers.get(gate.name, ())}
        return Verdict(gate.name, answers)

    def listed(self, model: type[M], output: type[Output], input: Paged, *, to: str) -> Page[Any]:
        """One page of the rows of `model` with which the actor may do `to`, as `output`. A field of `input` that is given
        asks for the rows whose column of that name holds just that; an empty text is not given."""
        query = self.visible(model, to=to)
        for name in type(input).model_fields:
            if name not in Paged.model_fields:
                column, wanted = getattr(model, name), getattr(input, name)
                query = query if wanted in (None, "") else query.where(column == wanted)
        return self.page(query, model.__mapper__.primary_key[0], input, to=output)

    def page(self, query: Select[M], column: Any, input: Paged, *, to: type[Output]) -> Page[Any]:
        """One page of `query`, newest first by the time-ordered `column`, with a cursor that survives inserts."""
        if input.cursor:
            query = query.where(column < _decode_cursor(input.cursor))
        rows = list(self.session.scalars(query.order_by(column.desc()).limit(input.limit + 1)))
        more = len(rows) > input.limit
        rows = rows[: input.limit]
        cursor = _encode_cursor(getattr(rows[-1], column.key)) if more else None
        return Page(items=[to.model_validate(row) for row in rows], next=cursor)

    def _denied(self, permission: str) -> Refused:
        if self.actor.is_anonymous:
            return Refused("access.sign-in-needed", permission=permission)
        return Refused("access.forbidden", permission=permission)


class Write(Read):
    """A `Read` that may also change the world; handed out by the kernel, committed by the kernel."""

    def __init__(self, kernel: Kernel, session: Session, caller: Caller, verb: Verb | None = None) -> None:
        super().__init__(kernel, session, caller)
        self.verb = verb
        self.after_commit: set[str] = set()
        self.recorded: list[str] = []
        self.matched = False  # whether an If-Match of the caller has been compared with a row

    def once(self, work: Callable[[Any, str], T], key: str) -> T:
        """Each time anew: the world may have been changed since, from here."""
        return work(self, key)

    def new_id(self, prefix: str) -> str:
        return mint(prefix, self.now)

    def add(self, row: M) -> M:
        self.session.add(row)
        return row

    def find(self, model: type[M], key: str | None, *, to: str) -> M:
        row = super().find(model, key, to=to)
        if self.caller.if_match and self.verb and to == self.verb.name:
            self._check_match(row)
        return row

    def record(
        self,
        subject: str,
        *,
        kind: str | None = None,
        private: Mapping[str, Any] | None = None,
        withhold: bool = False,
        **facts: Any,
    ) -> str:
        """Leave evidence about `subject`. `facts` become public for ever; `private` stays outside the log, its digest
        goes in. `withhold`: who acts is private too, because that they do is nobody else's business. Returns the
        entry's id."""
        kind = kind or (self.verb.evidence if self.verb else None)
        if kind is None:
            raise Broken("kernel.evidence-kind-missing", subject=subject)
        if withhold:
            private = {"actor": self.actor.id, "request_id": self.caller.request_id, **(private or {})}
        entry = Entry(
            id=self.new_id("ev"),
            kind=kind,
            actor=WITHHELD if withhold else self.actor.id,
            verb=self.verb.name if self.verb else "",
            subject=subject,
            at=self.now,
            facts=facts,
            private=private,
            request_id="" if withhold else self.caller.request_id,
        )
        self.kernel.record(self, entry)
        self.recorded.append(entry.id)
        return entry.id

    def emit(self, event: Event) -> None:
        """Write `event` to the outbox, start its deliveries and wake whoever waits for it."""
        row = EventRow(
            id=self.new_id("evt"),
            kind=event.kind,
            subject=event.subject,
            payload=asdict(event),
            emitted_at=self.now,
        )
        self.session.add(row)
        for handler in self.kernel.house.handlers.get(event.kind, ()):
            flows.start_delivery(self, row.id, handler.name)
        flows.wake_waiters(self.session, f"{event.kind} {event.subject}", self.now, event=row.id)
        self.after_commit.add("")

    def start_flow(self, kind: str, *, key: str, delay_seconds: float = 0, **payload: Any) -> str:
        return flows.start(self, kind, key=key, payload=payload, delay_seconds=delay_seconds)

    def _check_match(self, row: Any) -> None:
        """Optimistic concurrency (RFC 9110 §13.1.1): act only on the version that the caller has seen."""
        version = getattr(row, "version", None)
        if version is None:
            raise Refused("kernel.if-match-unsupported", kind=row.__tablename__)
        self.matched = True
        if not {"*", etag_of(version)} & {tag.strip() for tag in (self.caller.if_match or "").split(",")}:
            raise Refused("kernel.version-changed", kind=row.__tablename__, current=version)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, as the evidence book receives it."""

    id: str
    kind: str
    actor: str
    verb: str
    subject: str
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    private: Mapping[str, Any] | None = None
    request_id: str = ""


class IdempotencyRow(Base):
    """What a caller's key has already done: the answer is replayed, the work is not. A promise for 30 days: `retention`."""

    __tablename__ = "idempotency"

    actor_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(MAX_KEY), primary_key=True)
    verb: Mapped[str]
    payload_digest: Mapped[str]
    response: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(index=True)


@dataclass(frozen=True, slots=True)
class Call:
    """One verb about to be run, for one caller."""

    verb: Verb
    caller: Caller
    input: Input

    def check(self) -> None:
        """What can be refused before a transaction begins."""
        if not self.verb.public and not self.caller.actor.may_somewhere(self.verb.name):
            code = "access.sign-in-needed" if self.caller.actor.is_anonymous else "access.forbidden"
            raise Refused(code, permission=self.verb.name)
        key = self.caller.idempotency_key
        if key is not None and not (0 < len(key) <= MAX_KEY and key.isprintable()):
            raise Refused("kernel.idempotency-key-invalid", limit=MAX_KEY)

    def run(self, ctx: Write) -> Any:
        """Authorise, act, leave evidence; the transaction is the caller's."""
        replayed = _replay(ctx, self.verb, self.input)
        if replayed is not None:
            return replayed
        output = self.verb.run(ctx, self.input)
        if not self.verb.public and self.verb.name not in ctx.authorised:
            raise Broken("kernel.verb-unauthorised", verb=self.verb.name)
        if self.verb.evidence and not ctx.recorded:
            raise Broken("kernel.verb-without-evidence", verb=self.verb.name)
        if self.caller.if_match and not ctx.matched:  # a condition not looked at must not pass for one that held
            raise Refused("kernel.if-match-unsupported", kind=self.verb.name)
        _remember(ctx, self.verb, self.input, output)
        return output


def execute(kernel: Kernel, verb: Verb, caller: Caller, input: Input) -> Any:
    """Run `verb` once: authorise, act, leave evidence, write the outbox, commit. Returns the verb's output."""
    [outcome] = execute_all(kernel, [Call(verb, caller, input)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def execute_all(kernel: Kernel, calls: Sequence[Call]) -> list[Any]:
    """Run each call as `execute` would, sharing a commit where the database can: outputs, or what was raised instead."""
    outcomes: list[Any] = [_refusal(call) for call in calls]
    allowed = [place for place, refusal in enumerate(outcomes) if refusal is None]
    nudges: set[str] = set()  # a hint to look, so one too many does no harm

    def transaction(call: Call) -> Callable[[Session], Any]:
        def run(session: Session) -> Any:
            ctx = Write(kernel, session, call.caller, call.verb)
            output = call.run(ctx)
            nudges.update(ctx.after_commit)
            return output

        return run

    for place, outcome in zip(
        allowed, kernel.db.write_all([transaction(calls[place]) for place in allowed]), strict=True
    ):
        outcomes[place] = outcome
    if nudges:
        kernel.nudge(nudges)
    return outcomes


def _refusal(call: Call) -> Refused | None:
    try:
        call.check()
    except Refused as refusal:
        return refusal
    return None


def query(kernel: Kernel, read: ReadVerb, caller: Caller, input: Input) -> Any:
    """Run a read in its own snapshot."""
    with kernel.db.reading() as session:
        return read.run(Read(kernel, session, caller), input)


def _key(ctx: Write, input: Input) -> str | None:
    """The caller's key. An input with a secret goes without: no digest of ours may cover the secret, and a digest that
    leaves it out would take another password for the same request."""
    has_secret = any(isinstance(value, SecretStr) for value in input.__dict__.values())
    return None if has_secret else ctx.caller.idempotency_key


def _replay(ctx: Write, verb: Verb, input: Input) -> Any | None:
    key = _key(ctx, input)
    row = ctx.session.get(IdempotencyRow, (_owner_of_key(ctx, input), key)) if key else None
    if row is None:
        return None
    if row.verb != verb.name or row.payload_digest != digest_of(input):
        raise Refused("kernel.idempotency-key-reused", key=key, verb=row.verb)
    if row.response is None:
        raise Refused("kernel.secret-shown-once", key=key)
    return verb.output.model_validate_json(row.response)


def _remember(ctx: Write, verb: Verb, input: Input, output: Any) -> None:
    key = _key(ctx, input)
    if not key:
        return
    response = None if verb.secret else output.model_dump_json()
    ctx.add(
        IdempotencyRow(
            actor_id=_owner_of_key(ctx, input),
            key=key,
            verb=verb.name,
            payload_digest=digest_of(input),
            response=response,
            at=ctx.now,
        )
    )


def _owner_of_key(ctx: Write, input: Input) -> str:
    """Strangers share one actor but not their keys: an answer is replayed only to who sends the whole request again."""
    return f"{ctx.actor.id}:{digest_of(input)}" if ctx.actor.is_anonymous else ctx.actor.id


def digest_of(input: Input) -> str:
    return hashlib.sha256(orjson.dumps(input.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _unstorable(value: Any) -> str | None:
    """Which fault of UNSTORABLE is anywhere within `value`."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        return "nul" if "\0" in value else None
    if isinstance(value, int):
        return None if MIN_INTEGER <= value <= MAX_INTEGER else "integer_too_large"
    if isinstance(value, float):
        return None if isfinite(value) else "finite_number"
    if isinstance(value, Mapping):
        return next(filter(None, map(_unstorable, (*value.keys(), *value.values()))), None)
    if isinstance(value, (list, tuple, set, frozenset)):
        return next(filter(None, map(_unstorable, value)), None)
    return None


def etag_of(version: int) -> str:
    return f'"v{version}"'


def _encode_cursor(value: str) -> str:
    return urlsafe_b64encode(value.encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> str:
    try:
        value = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise Refused("kernel.cursor-invalid") from error
    if _encode_cursor(value) != cursor or not value.isprintable():  # the decoder overlooks what is not base 64
        raise Refused("kernel.cursor-invalid")
    return value
