"""What the data plane goes by: keys, routes and servers as they are at one version. Immutable; swapped by one reference.

The version is written into every usage record, so that a bill can name what was in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from gongqi.resources.serving.metering import GENERAL, Tariff
from gongqi.resources.serving.plane.duties import Duty
from gongqi.resources.serving.plane.opinions import Opinion
from gongqi.resources.serving.rates import Answer, Ask

KEY = "gqk_"  # how the secret of a virtual key begins


@dataclass(frozen=True, slots=True)
class Server:
    """A model server. `private`: operators allow it to be on this machine or a private network. `speaks`: which API
    (`endpoints.SPEAKS`). `socket`: where an engine of this home listens, which has no address. `salts`: it keeps apart by
    `cache_salt` what it remembers of prompts."""

    id: str
    name: str
    tls: bool
    host: str
    port: int
    path: str
    private: bool
    credential: str | None = field(repr=False)
    first_byte_seconds: float
    speaks: str = "openai"
    socket: str | None = None
    salts: bool = False

    @classmethod
    def at(
        cls, base_url: str, *, id: str, name: str, private: bool, credential: str | None, first_byte_seconds: float,
        speaks: str, salts: bool = False,
    ) -> Server:  # fmt: skip
        parts = urlsplit(base_url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        path = parts.path.rstrip("/")
        host = parts.hostname or ""
        return cls(id, name, tls, host, port, path, private, credential, first_byte_seconds, speaks=speaks, salts=salts)

    @classmethod
    def within(cls, socket: str, *, id: str, name: str, first_byte_seconds: float) -> Server:
        """An engine of this home."""
        return cls(id, name, False, "localhost", 80, "/v1", True, None, first_byte_seconds, "openai", socket)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route may be answered: lower `rank` first, `weight` among equals; `model` is its name there, `region` the
    country that it stands in, empty where nobody has said."""

    server: Server
    model: str
    weight: int
    rank: int
    region: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """`percent` of a route's calls go to `target` first. An answer that has not begun within `slow_us` is slow."""

    id: str
    target: Target
    percent: int
    slow_us: int | None = None


@dataclass(frozen=True, slots=True)
class Shadow:
    """`percent` of a route's answered calls are made once more at `target`, for nobody. `routes`: other models that are
    answered there, one of which a key that is narrowed to models must be allowed."""

    id: str
    target: Target
    percent: int
    routes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Route:
    """`entry` is its line in the list of models, as JSON. `has_affinity`: calls that begin alike go to the same server."""

    id: str
    name: str
    kind: str
    targets: tuple[Target, ...]
    context_tokens: int
    output_tokens: int
    tariff: Tariff
    entry: bytes
    has_affinity: bool = False
    rollout: Rollout | None = None
    shadow: Shadow | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key as the plane needs it; `expires_at` in seconds of the epoch, `tier` of who pays;
    `aid`: by route, which grant pays a part. Answers are kept for `cache_seconds` at most, 0: none are; `cache_always`: also
    where the call does not say so; `cache_since`: the version from which on its organisation keeps what it keeps. `place`:
    the region it calls from and whom its answers are shown to."""

    id: str
    org: str
    project: str
    routes: frozenset[str] | None
    requests_per_minute: int
    tokens_per_minute: int
    parallel: int
    expires_at: float
    tier: str = GENERAL
    aid: Mapping[str, str] = field(default_factory=dict)
    cache_seconds: int = 0
    cache_always: bool = False
    cache_since: int = 0
    place: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`keys` by the SHA-256 of the secret; `tiers`: all routes, for the tiers that have prices of their own; `duties` by
    the place of a key and the region of a target, where there are any."""

    version: int
    keys: Mapping[bytes, Key]
    routes: Mapping[str, Route]
    key_ids: frozenset[str] = frozenset()
    tiers: Mapping[str, Mapping[str, Route]] = field(default_factory=dict)
    duties: Mapping[tuple[str, str], Mapping[str, Duty]] = field(default_factory=dict)

    def offered(self, key: Key) -> Mapping[str, Route]:
        """Routes by name, at the prices that hold for this key."""
        return self.tiers.get(key.tier, self.routes)


EMPTY = Snapshot(0, {}, {})


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease as the plane receives it: `nanos` may be spent by calls of this key, in this unit."""

    id: str
    nanos: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """The call that has a name already; `is_over`: answered, or charged for."""

    call: str
    fingerprint: str
    is_over: bool


class Control(Protocol):
    """What the plane asks of the control plane. Each call may block, and is made off the event loop."""

    def version(self) -> int: ...

    def snapshot(self) -> Snapshot: ...

    def report(self, plane: str, told: Mapping[str, Any]) -> None:
        """How roll-outs and shadows have fared in this process since it began, by their id."""
        ...

    def settled(self, plane: str) -> int:
        """The segment of this plane's spool that the books have reached: what is before it is settled."""
        ...

    def lease(self, plane: str, key: str, unit: str, need_nanos: int, wish_nanos: int, aid: str | None) -> Granted:
        """A lease at the full price, whoever pays.

        Raises Refused when the budget or the funds do not reach, Unavailable when it cannot be asked now.
        """
        ...

    def draw(self, asks: Sequence[Ask]) -> list[Answer]:
        """Rations of the limits a minute, in the order of the questions."""
        ...

    def claim(self, key: str, name: str, fingerprint: str, call: str) -> Claimed | None:
        """Make a name this call's; the call that has it when it is another's."""
        ...

    def unclaim(self, key: str, name: str, call: str) -> None:
        """The call that had this name came to nothing and cost nothing."""
        ...

    def keep(self, key: str, id: str, document: dict[str, Any]) -> None:
        """Keep a response that the caller asked to be kept. Raises Refused when it is too much."""
        ...

    def recall(self, key: str, id: str) -> dict[str, Any]:
        """What was kept: `input` and `response`. Raises Refused serving.response-unknown."""
        ...

    def forget(self, key: str, id: str) -> None:
        """Raises Refused serving.response-unknown."""
        ...

    def receive(self, key: str, opinion: Opinion) -> dict[str, object]:
        """Take what a caller says of an answer. Raises Refused; Unavailable while the call is not in the books yet."""
        ...

    def explain(self, key: str, usage: str | None, language: str) -> dict[str, object]:
        """What was settled for a key: one record, or the latest of them. Raises Refused serving.usage-unknown."""
        ...
