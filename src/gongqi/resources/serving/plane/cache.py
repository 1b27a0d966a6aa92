"""Answers that are given again: kept in memory for an organisation that asked for it, for a call that is byte for byte
the same.

Who takes part is said twice: by the key (`serving.keys`: `off`, `asked`, `always`) and by the call (`Cache-Control` as
RFC 9111 has it: `max-age`, `no-cache`, `no-store`). A key that is `asked` keeps the answers of calls that say `max-age`; one
that is `always` also those of calls that leave nothing to chance: embeddings, temperature 0, a seed.

What makes two calls the same is `place`: the organisation and since when it keeps, the API, the route and its servers,
what else of the request is forwarded, and the body's bytes. Nothing of the body is left out and nothing is read into it:
the order of the fields of a schema changes answers, and which of two equal names counts is each server's affair.

Kept is what was delivered whole and well by a server of the first rank. Never kept: calls that offer tools (to give an
answer again would do again what the tool does), calls under a name (`plane.retries`), responses that go on from others.
Of the call itself only a digest is kept.

Law: what is held never exceeds MAX_BYTES, of one organisation TENANT_BYTES; nothing is given to another organisation, nor
older than either the key that kept it or the one that asks allows, nor after `serving:cache:forget`.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from gongqi.resources.serving import metering
from gongqi.resources.serving.plane import request
from gongqi.resources.serving.plane.call import Call, Send
from gongqi.resources.serving.plane.dialect import Headers, Lines
from gongqi.resources.serving.plane.labels import MARKS
from gongqi.resources.serving.plane.snapshot import Key
from gongqi.resources.serving.plane.terms import Hash, Terms

MAX_ANSWER_BYTES = 1 << 20  # of one answer: some 250,000 tokens of text
TENANT_BYTES = 32 << 20  # of one organisation in this process: some 10,000 answers of three pages
MAX_BYTES = 256 << 20  # of all together
MAX_COMING_BYTES = 64 << 20  # of answers under way that may be kept when they have come whole
ENTRY_BYTES = 1024  # what an entry takes beside its answer, generously
MAX_SEEN = 10_000  # entries that are looked at in one turn of the clock: less than a millisecond
NAME = b"gongqi"  # of this cache, in Cache-Status

_HOLDS_TOOLS = (b'"tools"', b'"functions"', b'"mcp_servers"', b'"web_search_options"')
_ERROR = re.compile(rb'"error"[ \t\r\n]*:[ \t\r\n]*[^ \t\r\nn]')  # but null; in a text, quotes are escaped
_SECONDS = re.compile(r'"?(\d{1,9})"?')


class Chance(msgspec.Struct):
    """What of a request says whether the same call may be answered otherwise."""

    temperature: float | None = None
    seed: int | None = None

    @property
    def is_none(self) -> bool:
        return self.seed is not None or self.temperature == 0


class Wish(NamedTuple):
    """What a call wants of the cache: an answer that is no older than `seconds` (0: a new one). `asks`: whether the call
    itself says for how long."""

    seconds: int
    asks: bool


class Entry:
    """An answer. `call` is the one that made it; `until` when it is too old for the key that kept it. `lines`: the marks
    that it was given with (`plane.labels`)."""

    __slots__ = ("at", "body", "call", "kind", "lines", "org", "until")

    def __init__(
        self, org: str, call: str, kind: bytes, body: bytes, at: float, until: float, lines: Lines = ()
    ) -> None:
        self.org = org
        self.call = call
        self.kind = kind
        self.body = body
        self.at = at
        self.until = until
        self.lines = lines

    @property
    def size(self) -> int:
        return len(self.body) + ENTRY_BYTES


class Tenant:
    """What one organisation keeps, what was used longest ago first."""

    __slots__ = ("entries", "since", "size")

    def __init__(self, since: int) -> None:
        self.since = since
        self.entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.size = 0


class Search:
    """One call's look for an answer. Where there is none, `recording` remembers what is sent, to be kept if all is well."""

    __slots__ = ("_cache", "body", "entry", "key", "kind", "lines", "place", "seconds", "size", "status", "wish")

    def __init__(self, cache: Cache, key: Key, wish: Wish, place: bytes) -> None:
        self._cache = cache
        self.key = key
        self.wish = wish
        self.place = place
        self.entry: Entry | None = None
        self.status = b""
        self.kind = b""
        self.lines: Lines = ()
        self.body: list[bytes] | None = None
        self.size = 0

    def headers(self, now: float) -> list[tuple[bytes, bytes]]:
        """What is said of an answer that is given again (RFC 9111, RFC 9211)."""
        entry = self.entry
        assert entry is not None, "there is one"
        age = int(now - entry.at)
        left = int(min(entry.until, entry.at + self.wish.seconds) - now)
        return [(b"age", b"%d" % age), (b"cache-status", b"%s; hit; ttl=%d" % (NAME, left)), *entry.lines]

    def recording(self, send: Send) -> Send:
        """Say how it was, and remember what is sent as long as it is not too much."""
        self.body = []

        async def recorded(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"cache-status", b"%s; %s" % (NAME, self.status)))
                self.kind = dict(message["headers"])[b"content-type"]
                self.lines = [line for line in message["headers"] if line[0] in MARKS]
                if message["status"] != 200:
                    self.drop()
            elif self.body is not None:
                self._remember(message.get("body", b""))
            await send(message)

        return recorded

    def _remember(self, piece: bytes) -> None:
        assert self.body is not None, "it is being remembered"
        self.body.append(piece)
        self.size += len(piece)
        self._cache.coming += len(piece)
        if self.size > MAX_ANSWER_BYTES or self._cache.coming > MAX_COMING_BYTES:
            self.drop()

    def drop(self) -> None:
        self._cache.coming -= self.size
        self.body, self.size = None, 0


class Cache:
    """Of one process. Nothing of it is on disk, so nothing of it outlasts the process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tenants: dict[str, Tenant] = {}
        self._live: Mapping[str, int] = {}
        self.size = 0
        self.coming = 0  # bytes of answers under way

    def search(self, terms: Terms, headers: Headers, control: bytes, asked: Any, body: bytes) -> Search | None:
        """None where the call takes no part. `control`: all that it says as Cache-Control."""
        key = terms.key
        assert terms.place is not None, "the key keeps answers"
        wish = wish_of(key, control)
        if wish is None or not may_be_kept(terms, wish, asked, body):
            return None
        search = Search(self, key, wish, place(terms.place, headers, body))
        search.entry = self._find(search)
        return search

    def _find(self, search: Search) -> Entry | None:
        key, now = search.key, self._clock()
        search.status = b"fwd=miss"
        tenant = self._tenants.get(key.org)
        if tenant is None or tenant.since != key.cache_since:
            return None
        entry = tenant.entries.get(search.place)
        if entry is None or entry.org != key.org:
            return None
        if now >= entry.until:
            search.status = b"fwd=stale"
            self._drop(tenant, search.place)
            return None
        if now - entry.at >= search.wish.seconds:
            search.status = b"fwd=request"
            return None
        tenant.entries.move_to_end(search.place)
        return entry

    def keep(self, search: Search, call: Call) -> None:
        """Keep the answer of this call if it came whole, and well, and from where it should."""
        body = search.body
        if body is None:
            return
        search.drop()
        if call.ending != metering.COMPLETE or not call.was_first_choice:
            return
        whole = b"".join(body)
        if _ERROR.search(whole):  # some servers tell of errors under the status 200
            return
        self.put(search.key, search.place, search.kind, whole, call.id, search.lines)

    def put(self, key: Key, place: bytes, kind: bytes, body: bytes, call: str, lines: Lines = ()) -> None:
        if self._live.get(key.org) != key.cache_since:
            return  # forgotten while it was made
        tenant = self._tenants.get(key.org)
        if tenant is None:
            tenant = self._tenants[key.org] = Tenant(key.cache_since)
        self._drop(tenant, place)
        now = self._clock()
        entry = Entry(key.org, call, kind, body, now, now + key.cache_seconds, lines)
        tenant.entries[place] = entry
        tenant.size += entry.size
        self.size += entry.size
        while tenant.size > TENANT_BYTES:
            self._drop(tenant, next(iter(tenant.entries)))
        while self.size > MAX_BYTES:  # whoever holds most makes room
            largest = max(self._tenants.values(), key=lambda each: each.size)
            self._drop(largest, next(iter(largest.entries)))

    def go_by(self, live: Mapping[str, int]) -> None:
        """Of these organisations alone answers are kept, and none from before their number."""
        self._live = live
        for org, tenant in list(self._tenants.items()):
            if live.get(org) != tenant.since:
                self.size -= tenant.size
                del self._tenants[org]

    def forget_old(self, now: float) -> None:
        """What is too old goes, also when nobody asks for it again: a part of it now, and the rest in turn."""
        seen = 0
        for org in list(self._tenants):
            tenant = self._tenants[org] = self._tenants.pop(org)
            seen += len(tenant.entries)
            for old in [place for place, entry in tenant.entries.items() if now >= entry.until]:
                self._drop(tenant, old)
            if seen > MAX_SEEN:
                break

    def _drop(self, tenant: Tenant, place: bytes) -> None:
        entry = tenant.entries.pop(place, None)
        if entry is not None:
            tenant.size -= entry.size
            self.size -= entry.size


_chance = msgspec.json.Decoder(Chance)


def place(begun: Hash, headers: Headers, body: bytes) -> bytes:
    """Which call it is: `begun` by what all calls of its terms share, ended by all that a server gets to see of it."""
    hashed = begun.copy()
    more = headers.get(b"anthropic-beta", b"")
    hashed.update(b"%d:%s%s" % (len(more), more, body))
    return hashed.digest()


def wish_of(key: Key, control: bytes) -> Wish | None:
    """What the call says, or the key where it says nothing. None: it takes no part."""
    said: dict[str, str] = {}
    for each in control.decode("latin-1").lower().split(","):
        name, _, value = each.strip().partition("=")
        said.setdefault(name.strip(), value.strip())
    if "no-store" in said:
        return None
    seconds, asks = key.cache_seconds, False
    if "max-age" in said:
        found = _SECONDS.fullmatch(said["max-age"])
        limit = int(found[1]) if found else 0
        seconds, asks = min(seconds, limit), limit > 0
    if "no-cache" in said:
        seconds = 0
    return Wish(seconds, asks) if asks or key.cache_always else None


def may_be_kept(terms: Terms, wish: Wish, asked: Any, body: bytes) -> bool:
    """Whether to give the answer to such a call again is to answer it."""
    for mark in _HOLDS_TOOLS:
        if mark in body:
            return False
    if request.hides(body):
        return False
    if terms.dialect.recalled is not None and (asked.store or asked.previous_response_id is not None):
        return False
    if wish.asks or terms.route.kind in ("embeddings", "inference"):
        return True
    try:
        return _chance.decode(body).is_none
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
