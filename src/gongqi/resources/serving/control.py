"""The control plane's side of the data plane: what it hands over, on request (`plane.snapshot.Control`).

Runs on threads, never on the event loop; each answer is one look or one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog
from sqlalchemy import select

from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.serving import caching, claims, feedback, kept, metering, rations, tallies
from gongqi.resources.serving.aid import aid_of
from gongqi.resources.serving.candidates import stays
from gongqi.resources.serving.crossings import country_of, duties_of
from gongqi.resources.serving.endpoints import version_now
from gongqi.resources.serving.engines.host import socket_of
from gongqi.resources.serving.leases import grant_lease
from gongqi.resources.serving.models import ModelEndpoint, ModelKey, ModelRoute, SpoolMark
from gongqi.resources.serving.plane.opinions import Opinion
from gongqi.resources.serving.plane.snapshot import (
    Claimed,
    Granted,
    Key,
    Rollout,
    Route,
    Server,
    Shadow,
    Snapshot,
    Target,
)
from gongqi.resources.serving.rates import Answer, Ask
from gongqi.resources.serving.rollouts import open_rollouts
from gongqi.resources.serving.routes import tariffs_of
from gongqi.resources.serving.shadows import open_shadows
from gongqi.resources.serving.usage import UsageOut, usage_of_key

CREDENTIALS = "credentials"  # folder in the home
MAX_CREDENTIAL_BYTES = 8192
MILLION = 10**6

log = structlog.get_logger("gongqi.serving.control")


class GatewayControl:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def version(self) -> int:
        return self._kernel.look(version_now)

    def snapshot(self) -> Snapshot:
        return self._kernel.look(lambda ctx: load(ctx, self._kernel.settings.home))

    def report(self, plane: str, told: Mapping[str, Any]) -> None:
        self._kernel.transact(lambda ctx: tallies.report(ctx, plane, told), reason=f"gateway:{plane}")

    def settled(self, plane: str) -> int:
        mark = self._kernel.look(lambda ctx: ctx.session.get(SpoolMark, plane))
        return mark.segment if mark else 0

    def lease(self, plane: str, key: str, unit: str, need_nanos: int, wish_nanos: int, aid: str | None) -> Granted:
        asked = {"key": key, "unit": unit, "need_nanos": need_nanos, "wish_nanos": wish_nanos, "aid": aid}
        return self._kernel.transact(lambda ctx: grant_lease(ctx, plane=plane, **asked), reason=f"gateway:{plane}")

    def draw(self, asks: Sequence[Ask]) -> list[Answer]:
        return self._kernel.transact(lambda ctx: rations.draw(ctx, asks), reason="gateway:rations")

    def claim(self, key: str, name: str, fingerprint: str, call: str) -> Claimed | None:
        return self._kernel.transact(
            lambda ctx: claims.claim(ctx, key=key, name=name, fingerprint=fingerprint, call=call),
            reason="gateway:claim",
        )

    def unclaim(self, key: str, name: str, call: str) -> None:
        self._kernel.transact(lambda ctx: claims.unclaim(ctx, key=key, name=name, call=call), reason="gateway:claim")

    def keep(self, key: str, id: str, document: dict[str, Any]) -> None:
        self._kernel.transact(lambda ctx: kept.keep(ctx, key, id, document), reason="gateway:response")

    def recall(self, key: str, id: str) -> dict[str, Any]:
        return self._kernel.look(lambda ctx: kept.recall(ctx, key, id))

    def forget(self, key: str, id: str) -> None:
        self._kernel.transact(lambda ctx: kept.forget(ctx, key, id), reason="gateway:response")

    def receive(self, key: str, opinion: Opinion) -> dict[str, object]:
        return self._kernel.transact(lambda ctx: feedback.receive(ctx, key, opinion), reason="gateway:feedback")

    def explain(self, key: str, usage: str | None, language: str) -> dict[str, object]:
        def look(ctx: Read) -> dict[str, object]:
            records = usage_of_key(ctx, key, usage)
            return {
                "object": "list",
                "data": [
                    record.model_dump(mode="json")
                    | {
                        "object": "usage",
                        "cost": metering.exact(record.cost_nanos, record.unit),
                        "aid": metering.exact(record.aid_nanos, record.unit),
                        "paid": metering.exact(record.cost_nanos - record.aid_nanos, record.unit),
                        "rule": self._kernel.house.words.text(_rule(record), language),
                        "evidence_url": f"/evidence/entry/{record.evidence}",
                    }
                    for record in records
                ],
            }

        return self._kernel.look(look)


def _rule(record: UsageOut) -> str:
    """By which rule it cost what it cost."""
    return f"serving.ending.{record.ending}.rule" if record.repeats is None else "serving.again.rule"


def load(ctx: Read, home: Path) -> Snapshot:
    """Keys, routes and servers as they are now."""
    endpoints = {
        row.id: row for row in ctx.session.scalars(select(ModelEndpoint).where(ModelEndpoint.state == "ready"))
    }
    servers = {id: server for id, row in endpoints.items() if (server := _server(row, home)) is not None}
    offered: dict[str, dict[str, Route]] = {metering.GENERAL: {}}
    rows = list(ctx.session.scalars(select(ModelRoute).where(ModelRoute.state == "ready").order_by(ModelRoute.name)))
    rollouts, shadows = _rollouts(ctx, endpoints, servers), _shadows(ctx, rows, endpoints, servers)
    for row in rows:
        targets = tuple(
            Target(
                servers[each["endpoint"]],
                each["model"],
                each["weight"],
                each["rank"],
                country_of(endpoints[each["endpoint"]].region or row.region),
            )
            for each in row.targets
            if each["endpoint"] in servers
        )
        if row.tariff is not None and targets:
            for tier, tariff in tariffs_of(row.tariff).items():
                entry = orjson.dumps(_entry(row, tariff))
                offered.setdefault(tier, {})[row.name] = Route(
                    row.id, row.name, row.kind, targets, row.context_tokens, row.output_tokens, tariff, entry,
                    row.has_affinity, rollouts.get(row.id), shadows.get(row.id),
                )  # fmt: skip
    routes = offered.pop(metering.GENERAL)
    tiers = {tier: routes | own for tier, own in offered.items()}
    keys = _keys(ctx, rows)
    regions = {target.region for route in routes.values() for target in route.targets}
    regions |= {each.target.region for each in (*rollouts.values(), *shadows.values())}
    return Snapshot(
        version_now(ctx), keys, routes, frozenset(key.id for key in keys.values()), tiers,
        duties_of(ctx, [key.place for key in keys.values()], regions),
    )  # fmt: skip


def _rollouts(ctx: Read, endpoints: Mapping[str, ModelEndpoint], servers: Mapping[str, Server]) -> dict[str, Rollout]:
    """By route. None where the new server is not there; the next look at the roll-out finds that, too."""
    return {
        row.route: Rollout(
            row.id, _tried(endpoints[row.endpoint], servers[row.endpoint], row.model), row.percent,
            None if row.slow_ms is None else row.slow_ms * 1000,
        )
        for row in open_rollouts(ctx)
        if row.endpoint in servers
    }  # fmt: skip


def _shadows(
    ctx: Read, rows: Sequence[ModelRoute], endpoints: Mapping[str, ModelEndpoint], servers: Mapping[str, Server]
) -> dict[str, Shadow]:
    """By route. A model that has been defined anew may stay in another region now than its shadow."""
    routes = {row.id: row for row in rows}
    found: dict[str, Shadow] = {}
    for row in open_shadows(ctx):
        route, place = routes.get(row.route), (row.endpoint, row.model)
        if route is not None and row.endpoint in servers and stays(route, endpoints[row.endpoint]):
            answered = [
                other.id for other in rows if place in [(each["endpoint"], each["model"]) for each in other.targets]
            ]
            target = _tried(endpoints[row.endpoint], servers[row.endpoint], row.model)
            found[row.route] = Shadow(row.id, target, row.percent, frozenset(answered))
    return found


def _tried(endpoint: ModelEndpoint, server: Server, model: str) -> Target:
    return Target(server, model, weight=1, rank=0, region=country_of(endpoint.region))


def _keys(ctx: Read, routes: Sequence[ModelRoute]) -> dict[bytes, Key]:
    live = select(ModelKey).where(ModelKey.revoked_at.is_(None), ModelKey.expires_at > ctx.now)
    rows = list(ctx.session.scalars(live))
    orgs = {row.org for row in rows}
    parties, tiers = members.parties_of(ctx, orgs), members.tiers_of(ctx, orgs)
    aid = aid_of(ctx, orgs, routes)
    since = caching.since_of(ctx, orgs)
    return {
        bytes.fromhex(row.digest): Key(
            row.id, row.org, row.project, None if row.routes is None else frozenset(row.routes),
            row.requests_per_minute, row.tokens_per_minute, row.parallel, row.expires_at.timestamp(),
            tiers.get(row.org, metering.GENERAL), aid.get((row.org, row.spends), {}),
            0 if row.cache == "off" else row.cache_seconds, row.cache == "always", since.get(row.org, 0),
            (row.region, row.audience),
        )
        for row in rows
        if parties[row.org].state == "active"
    }  # fmt: skip


def _server(row: ModelEndpoint, home: Path) -> Server | None:
    """None when its secret is not there: better no call than one without."""
    if row.engine is not None:
        socket = str(socket_of(home, row.id))
        return Server.within(socket, id=row.id, name=row.name, first_byte_seconds=row.first_byte_seconds)
    credential = None
    if row.credential is not None:
        try:
            with (home / CREDENTIALS / row.credential).open("rb") as file:
                credential = file.read(MAX_CREDENTIAL_BYTES).decode("ascii").strip()
            if not credential.isprintable() or " " in credential:
                raise ValueError("not one line")
        except (OSError, ValueError) as error:
            log.error("the credential of an endpoint cannot be read", endpoint=row.name, error=type(error).__name__)
            return None
    return Server.at(
        row.base_url, id=row.id, name=row.name, private=row.private, credential=credential,
        first_byte_seconds=row.first_byte_seconds, speaks=row.speaks, salts=row.cache_salt,
    )  # fmt: skip


def _entry(row: ModelRoute, tariff: metering.Tariff) -> dict[str, Any]:
    """Its line in the list of models: what OpenAI's and Anthropic's clients know, which do not disturb each other, and
    under `gongqi` what only we say."""
    rates = {"input": tariff.input_nanos, "cached_input": tariff.cached_nanos, "output": tariff.output_nanos}
    price = {"id": tariff.price, "version": tariff.version, "tier": tariff.tier, "unit": tariff.unit}
    price |= {
        f"{name}_per_million_tokens": metering.exact(nanos * MILLION, tariff.unit) for name, nanos in rates.items()
    }
    more = {
        "kind": row.kind, "licence": row.licence, "openness": row.openness, "release": row.release,
        "region": row.region, "context_tokens": row.context_tokens, "output_tokens": row.output_tokens, "price": price,
        "evidence": f"/evidence/entry/{row.evidence}",
    }  # fmt: skip
    if row.agreement is not None:
        more["agreement"] = {
            "url": f"/serving/model/{row.id}",
            **{name: row.agreement[name] for name in ("sha256", "version", "purpose", "retention_days")},
        }
    created = int(row.created_at.timestamp())
    anthropic = {
        "type": "model", "display_name": row.name, "created_at": row.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active", "max_input_tokens": row.context_tokens, "max_tokens": row.output_tokens,
    }  # fmt: skip
    return {"id": row.name, "object": "model", "created": created, "owned_by": row.org} | anthropic | {"gongqi": more}
