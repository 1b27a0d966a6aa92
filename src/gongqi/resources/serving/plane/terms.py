"""What all calls share that one key makes of one model by one API, for as long as one snapshot is gone by.

Made with the first of them, so that a call looks up what it goes by and works out none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Protocol

import orjson

from gongqi.kernel.errors import Refused
from gongqi.resources.serving import metering
from gongqi.resources.serving.plane.climb import Climb
from gongqi.resources.serving.plane.dialect import Dialect
from gongqi.resources.serving.plane.duties import Duty
from gongqi.resources.serving.plane.meters import Meter
from gongqi.resources.serving.plane.shadow import Mirror
from gongqi.resources.serving.plane.snapshot import Key, Route, Shadow, Snapshot


class Hash(Protocol):
    """One of `hashlib`'s, on its way."""

    def copy(self) -> Hash: ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Terms:
    """`route`: with those of its servers alone that the API has a way to, at the price for this key; `aid`: the grant that
    pays a part; `climb`: the roll-out that they take part in; `mirror`: where they are made once more. `whose` and `price`
    are what a record says of them. `place`: how the digest of each call begins, if answers may be kept (`plane.cache`).
    `duties`: by region, None where the law asks nothing of this key's calls."""

    __slots__ = (
        "aid", "climb", "dialect", "duties", "key", "meter", "mirror", "place", "price", "route", "version", "whose",
    )  # fmt: skip

    def __init__(
        self, key: Key, path: str, dialect: Dialect, route: Route, meter: Meter, version: int, climb: Climb | None = None,
        mirror: Mirror | None = None, duties: Mapping[str, Duty] | None = None,
    ) -> None:  # fmt: skip
        tariff = route.tariff
        self.key = key
        self.dialect = dialect
        self.route = route
        self.meter = meter
        self.version = version
        self.climb = climb
        self.mirror = mirror
        self.duties = duties
        self.aid = key.aid.get(route.id)
        self.place = _place(key, path, route, duties) if key.cache_seconds and dialect.alone is None else None
        self.whose = (key.org, key.id, key.project, route.id)
        self.price = (
            tariff.price, tariff.version, tariff.unit, tariff.input_nanos, tariff.cached_nanos, tariff.output_nanos
        )  # fmt: skip


def _place(key: Key, path: str, route: Route, duties: Mapping[str, Duty] | None) -> Hash:
    """Whatever of these changes, another answer may come of the same words. What the list of models says of it is among
    them: another release may stand behind the same address."""
    servers = [
        [
            each.server.id, each.server.tls, each.server.host, each.server.port, each.server.path, each.server.socket,
            each.server.speaks, each.model, each.rank,
        ]
        for each in route.targets
    ]  # fmt: skip
    model = [route.id, route.name, route.kind, route.context_tokens, route.output_tokens, route.entry.decode()]
    law = duties and [key.place, [[region, *duty.rules] for region, duty in sorted(duties.items())]]
    told = orjson.dumps([key.org, key.cache_since, path, model, servers, law])
    return sha256(b"%d:%s" % (len(told), told))


def offered(snapshot: Snapshot, key: Key, name: str) -> Route:
    """Raises Refused serving.route-unknown, also for a model that the key may not use."""
    route = snapshot.offered(key).get(name)
    if route is None or (key.routes is not None and route.id not in key.routes):
        raise Refused("serving.route-unknown", model=name[:100])
    return route


def entry_of(snapshot: Snapshot, key: Key, route: Route) -> bytes:
    """Its line in the list of models, with the rules that act on this key's calls of it."""
    duties = snapshot.duties.get(key.place)
    if duties is None:
        return route.entry
    acting = {
        rule["id"]: rule
        for region in dict.fromkeys(target.region for target in route.targets)
        for rule in (duties[region].rules if region in duties else ())
    }
    rules = orjson.dumps(list(acting.values()))
    return b'%s,"rules":%s}}' % (route.entry[:-2], rules)  # what we say of it stands last in its entry


def is_bound(duties: Mapping[str, Duty] | None, shadow: Shadow | None) -> bool:
    """Whether the law asks something of what would be sent to a shadow: then nothing is."""
    duty = None if duties is None or shadow is None else duties.get(shadow.target.region)
    return duty is not None and (duty.mask is not None or duty.denied is not None)


def within_law(route: Route, duties: Mapping[str, Duty] | None) -> Route:
    """The route, to those of its servers, one on trial included, that the law lets this key call. Raises Refused
    serving.crossing-denied."""
    if duties is None:
        return route
    denied = {region: duty.denied for region, duty in duties.items() if duty.denied is not None}
    targets = tuple([target for target in route.targets if target.region not in denied])
    if not targets and route.targets:
        cited = denied[route.targets[0].region]
        raise Refused("serving.crossing-denied", model=route.name, **cited.spoken)
    rollout = None if route.rollout is not None and route.rollout.target.region in denied else route.rollout
    if len(targets) == len(route.targets) and rollout is route.rollout:
        return route
    return replace(route, targets=targets, rollout=rollout)


def within_reach(dialect: Dialect, route: Route) -> Route:
    """The route, to those of its servers that this API has a way to. Raises Refused: serving.kind-differs,
    serving.api-unspoken."""
    if route.kind != dialect.kind and {route.kind, dialect.kind} != {"chat", "completions"}:
        raise Refused("serving.kind-differs", model=route.name, kind=route.kind)
    targets = tuple([target for target in route.targets if target.server.speaks in dialect.ways])
    if dialect.alone is not None:
        tariff = metering.free(route.tariff)
        return replace(route, targets=targets, tariff=tariff, rollout=None, shadow=None)
    if not targets:
        raise Refused("serving.api-unspoken", model=route.name)
    rollout, shadow = (
        each if each is not None and each.target.server.speaks in dialect.ways else None
        for each in (route.rollout, route.shadow)
    )
    return replace(route, targets=targets, rollout=rollout, shadow=shadow)
