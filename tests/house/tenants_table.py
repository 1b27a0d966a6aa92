"""What five people get when they reach for the north's things, by verb, read, endpoint and page: see `test_tenants`."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from tests.house.world import (
    ADDRESS,
    CANARY,
    MONTH,
    PEOPLE,
    SPLIT,
    TERMS,
    TUS,
    UNIT,
    VOTE,
    World,
    announced,
    donation,
    infer,
    route,
)

Given = Callable[[World, str], Any]
KEY = "\0"  # in an endpoint's or a page's input: the query


def nothing(_w: World, _person: str) -> dict[str, Any]:
    return {}


# verb → (what stranger, south, member, owner and operator get; the input, which names the north's things).
# `200/4` is a list of four.
VERBS: dict[str, tuple[str, Given]] = {
    "ledger:credit:grant": ("401 403 403 403 200", lambda w, p: {"owner": w.north, "unit": UNIT, "amount": 1}),
    "ledger:transaction:reverse": ("401 404 403 403 200", lambda w, p: {"transaction": w.spare, "reason": "mistake"}),
    "members:organisation:create": ("401 403 403 403 200", lambda w, p: {"handle": f"made-by-{p}", "name": "made"}),
    "members:person:create": (
        "401 403 403 200 200",
        lambda w, p: {"handle": f"{CANARY}-by-{p}", "name": CANARY, "org": w.north, "role": "member"},
    ),
    "members:agent:create": (
        "401 403 403 200 200",
        lambda w, p: {"handle": f"agent-by-{p}", "name": "made", "org": w.north},
    ),
    "members:site:create": (
        "401 403 403 200 200",
        lambda w, p: {"handle": f"site-by-{p}", "name": "made", "org": w.north},
    ),
    "members:membership:grant": (
        "401 403 403 200 200",
        lambda w, p: {"party": w.of["guest"][p], "org": w.north, "role": "developer"},
    ),
    "members:membership:end": ("401 404 403 200 200", lambda w, p: {"membership": w.of["membership"][p]}),
    "members:token:issue": (
        "401 403 403 200 200",
        lambda w, p: {"party": w.of["agent"][p], "label": f"{CANARY} token"},
    ),
    "members:tier:set": (
        "401 403 403 403 200",
        lambda w, p: {"org": w.north, "tier": "gold", "reason": f"a {CANARY} sponsor"},
    ),
    "members:party:suspend": ("401 403 403 200 200", lambda w, p: {"party": w.of["agent"][p]}),
    "members:party:restore": ("401 403 403 200 200", lambda w, p: {"party": w.of["suspended"][p]}),
    "members:token:revoke": ("401 404 404 200 200", lambda w, p: {"token": w.of["token"][p]}),
    "members:signin:redeem": ("410 410 410 410 410", lambda w, p: {"secret": "gql_nobodys"}),
    "members:signin:link": ("401 404 403 200 200", lambda w, p: {"party": w.of["guest"]["stranger"]}),
    "members:session:end": ("401 404 404 200 200", lambda w, p: {"session": w.of["session"][p]}),
    "members:password:set": ("401 200 200 200 403", lambda w, p: {"password": "a long way round the hill"}),
    "hub:asset:create": (
        "401 403 403 200 200",
        lambda w, p: {"org": w.north, "slug": f"{CANARY}-{p}", "kind": "code", "title_zh": CANARY, "title_en": CANARY},
    ),
    "hub:asset:edit": ("401 404 403 200 200", lambda w, p: {"asset": w.dataset, "title_en": f"{CANARY} edited"}),
    "hub:asset:open": ("401 404 403 200 200", lambda w, p: {"asset": w.dataset, "visibility": "private"}),
    "hub:asset:gate": ("401 404 403 200 200", lambda w, p: {"asset": w.dataset, "gated": "open"}),
    "hub:asset:move": ("401 404 403 422 422", lambda w, p: {"asset": w.dataset}),
    "hub:asset:archive": ("401 404 403 200 200", lambda w, p: {"asset": w.of["given"][p], "reason": CANARY}),
    "hub:asset:unarchive": ("401 404 403 409 409", lambda w, p: {"asset": w.dataset}),
    "hub:asset:withdraw": ("401 404 403 200 200", lambda w, p: {"asset": w.of["given"][p], "reason": CANARY}),
    "hub:source:add": (
        "401 403 403 403 200",
        lambda w, p: {"name": f"by-{p}", "endpoint": "http://127.0.0.1:9", "is_inside": True},
    ),
    "hub:source:mirror": ("401 403 403 403 200", lambda w, p: {"source": w.of["source"][p], "limit_bytes": 0}),
    "hub:source:retire": ("401 403 403 403 200", lambda w, p: {"source": w.of["source"][p]}),
    "hub:import:begin": (
        "401 404 403 200 200",
        lambda w, p: {"asset": w.dataset, "source": w.source, "repo": f"{CANARY}/there"},
    ),
    "hub:import:cancel": ("401 404 403 409 409", lambda w, p: {"import_id": w.imported}),
    "hub:import:retry": ("401 404 403 200 409", lambda w, p: {"import_id": w.imported}),
    "hub:asset:delete": ("401 404 403 409 409", lambda w, p: {"asset": w.dataset}),
    "hub:access:request": ("401 404 409 409 409", lambda w, p: {"asset": w.dataset}),
    "hub:access:grant": ("401 404 403 409 409", lambda w, p: {"asset": w.dataset, "party": w.owner.party}),
    "hub:access:refuse": ("401 404 403 409 409", lambda w, p: {"asset": w.dataset, "party": w.owner.party}),
    "hub:access:revoke": ("401 404 403 409 409", lambda w, p: {"asset": w.dataset, "party": w.owner.party}),
    "hub:revision:commit": (
        "401 404 403 200 200",
        lambda w, p: {"asset": w.dataset, "message": f"{CANARY} {p}", "files": w.files},
    ),
    "hub:revision:change": ("401 404 403 409 409", lambda w, p: {"asset": w.dataset, "message": f"{CANARY} {p}"}),
    "hub:ref:create": (
        "401 404 403 200 200",
        lambda w, p: {"asset": w.dataset, "kind": "tag", "name": p, "message": CANARY},
    ),
    "hub:ref:delete": ("401 404 403 409 409", lambda w, p: {"asset": w.dataset, "kind": "branch", "name": "main"}),
    "hub:release:draft": (
        "401 404 403 200 200",
        lambda w, p: {"asset": w.dataset, "revision": w.revision, "name": f"3.0.{PEOPLE.index(p)}"},
    ),
    "hub:release:submit": ("401 404 403 200 200", lambda w, p: {"release": w.of["draft"][p]}),
    "hub:release:publish": ("401 404 403 409 409", lambda w, p: {"release": w.submitted}),
    "hub:quota:set": ("401 403 403 403 200", lambda w, p: {"org": w.north, "limit_bytes": None}),
    "hub:release:withdraw": ("401 404 403 200 200", lambda w, p: {"release": w.of["withdrawn"][p], "reason": CANARY}),
    "serving:deployment:create": (
        "401 403 403 200 200",
        lambda w, p: (
            {"release": w.release, "name": f"by-{p}", "org": w.north, "unit": UNIT, "price_per_row": 1} | TERMS
        ),
    ),
    "serving:deployment:upgrade": ("401 403 403 200 200", lambda w, p: {"deployment": w.hosted, "release": w.release}),
    "serving:deployment:reprice": ("401 403 403 200 200", lambda w, p: {"deployment": w.hosted, "price_per_row": 4}),
    "serving:deployment:retire": ("401 403 403 200 410", lambda w, p: {"deployment": w.hosted}),
    "serving:budget:set": (
        "401 403 403 200 200",
        lambda w, p: {"deployment": w.deployment, "org": w.north, "limit_amount": 4_000},
    ),
    "serving:endpoint:add": (
        "401 403 403 403 200",
        lambda w, p: {"name": f"by-{p}", "base_url": "https://models.example.org/v1"},
    ),
    "serving:endpoint:host": ("401 403 403 403 422", lambda w, p: {"release": w.release, "name": f"host-by-{p}"}),
    "serving:endpoint:retire": ("401 404 403 404 200", lambda w, p: {"endpoint": w.of["endpoint"][p]}),
    "serving:route:define": ("401 403 403 403 200", route),
    "serving:route:retire": ("401 403 403 403 200", lambda w, p: {"route": w.of["route"][p]}),
    "serving:key:issue": ("401 403 403 200 200", lambda w, p: {"org": w.north, "label": f"{CANARY} {p}"}),
    "serving:key:revoke": ("401 404 403 200 200", lambda w, p: {"model_key": w.of["key"][p]}),
    "serving:cache:forget": ("401 403 403 200 200", lambda w, p: {"org": w.north}),
    "ethics:inquiry:close": (
        "401 404 403 403 200",
        lambda w, p: {"inquiry": w.inquiry, "outcome": "watched", "finding": f"the {CANARY} is slow"},
    ),
    "serving:feedback:withdraw": ("401 404 403 200 200", lambda w, p: {"feedback": w.of["said"][p]}),
    "billing:fund:open": ("401 403 403 403 200", lambda w, p: {"name": f"by-{p}", "unit": UNIT}),
    "billing:fund:give": ("401 403 403 200 200", lambda w, p: {"fund": w.fund, "org": w.north, "amount": 1}),
    "billing:aid:grant": (
        "401 403 403 403 200",
        lambda w, p: {"org": w.north, "fund": w.fund, "paid_percent": 50, "reason": f"a {CANARY} school"},
    ),
    "billing:aid:end": ("401 404 403 403 200", lambda w, p: {"aid": w.of["aid"][p]}),
    "billing:package:publish": (
        "401 403 403 403 200",
        lambda w, p: {"name": f"by-{p}", "unit": UNIT, "price": 1, "credit": 1},
    ),
    "billing:package:withdraw": ("401 403 403 403 200", lambda w, p: {"package": w.of["package"][p]}),
    "billing:subscription:start": (
        "401 403 403 200 200",
        lambda w, p: {"org": w.north, "package": w.of["package"]["owner"]},
    ),
    "billing:subscription:end": ("401 404 403 200 200", lambda w, p: {"subscription": w.of["subscription"][p]}),
    "billing:address:set": (
        "401 403 403 200 200",
        lambda w, p: {"org": w.north, "name": f"{CANARY} Ltd", **ADDRESS},
    ),
    "billing:price:publish": (
        "401 403 403 403 200",
        lambda w, p: {"route": w.of["route"]["owner"], "input_nanos": 3, "output_nanos": 4},
    ),
    "ethics:vote:cast": ("401 404 403 403 403", lambda w, p: {"case": w.case} | VOTE),
    "ethics:recusal:declare": ("401 404 403 403 403", lambda w, p: {"case": w.case, "reason": CANARY}),
    "ethics:case:open": ("401 404 403 409 409", lambda w, p: {"release": w.submitted, "reason": CANARY}),
    "ethics:condition:confirm": ("401 404 403 403 409", lambda w, p: {"case": w.case, "number": 1, "finding": CANARY}),
    "upstream:donation:offer": ("401 403 403 200 200", lambda w, p: donation(w, f"{CANARY}-by-{p}")),
    "upstream:pledge:make": (
        "401 403 403 200 200",
        lambda w, p: {"org": w.north, "asset": w.data, "patent_scope": "donated-work", "patent_text": "a promise"},
    ),
    "upstream:pledge:revoke": ("401 403 403 409 409", lambda w, p: {"pledge": w.pledge, "reason": "a reason"}),
    "upstream:donation:reschedule": (
        "401 404 403 200 200",
        lambda w, p: {
            "donation": w.donation,
            "schedule": [{"audience": "public", "opens_at": "2028-06-01T00:00:00Z"}],
            "reason": CANARY,
        },
    ),
    "upstream:donation:accept": ("401 404 403 403 200", lambda w, p: {"donation": w.of["offered"][p]}),
    "upstream:donation:decline": (
        "401 404 403 403 200",
        lambda w, p: {"donation": w.of["declined"][p], "reason": CANARY},
    ),
    "scenarios:agreement:sign": ("401 403 403 409 409", lambda w, p: {"deployment": w.deployment, "org": w.north}),
    "scenarios:outcome:report": (
        "401 404 403 200 404",
        lambda w, p: {"deployment": w.deployment, "call": w.call, "records": [w.record]},
    ),
    "scenarios:feedback:gather": ("401 403 403 403 200", lambda w, p: {"route": w.of["route"]["owner"]}),
    "scenarios:return:start": ("401 403 403 409 409", lambda w, p: {"deployment": w.deployment, "asset": w.data}),
    "credits:policy:publish": ("401 403 403 403 200", lambda w, p: SPLIT),
}
READS: dict[str, tuple[str, Given]] = {
    "evidence:entry:list": ("200/3 200/3 200/3 200/3 200/3", lambda w, p: {"subject": w.dataset}),
    "evidence:entry:get": ("200 200 200 200 200", lambda w, p: {"entry": w.entry}),
    "evidence:entry:proof": ("200 200 200 200 200", lambda w, p: {"entry": w.entry}),
    "evidence:log:checkpoint": ("200 200 200 200 200", nothing),
    "evidence:log:consistency": ("200 200 200 200 200", lambda w, p: {"old": 1, "new": 2}),
    "evidence:log:keys": ("200 200 200 200 200", nothing),
    "evidence:private:get": ("401 403 403 403 200", lambda w, p: {"entry": w.entry}),
    "ledger:account:get": ("404 404 200 200 200", lambda w, p: {"account": w.account}),
    "ledger:account:list": ("200/0 200/0 200/2 200/2 200/2", lambda w, p: {"owner": w.north}),
    "ledger:account:statement": ("404 404 200/10 200/10 200/10", lambda w, p: {"account": w.account}),
    "ledger:transaction:get": ("404 404 200 200 200", lambda w, p: {"transaction": w.transaction}),
    "ledger:book:check": ("401 403 403 403 200", nothing),
    "members:party:list": ("200/10 200/10 200/18 200/18 200/18", lambda w, p: {"org": w.north}),
    "members:party:get": ("404 404 200 200 200", lambda w, p: {"party": w.site}),
    "members:tier:list": ("200/0 200/0 200/1 200/1 200/1", lambda w, p: {"org": w.north}),
    "members:membership:list": ("200/0 200/0 200/18 200/18 200/18", lambda w, p: {"org": w.north}),
    "members:me:show": ("401 200 200 200 200", nothing),
    "members:token:list": ("200/0 200/0 200/0 200/1 200/1", lambda w, p: {"party": w.of["agent"]["owner"]}),
    "members:session:list": ("200/0 200/1 200/1 200/6 200/1", nothing),
    "hub:asset:list": ("200/4 200/4 200/16 200/16 200/16", lambda w, p: {"org": w.north, "limit": 200}),
    "hub:asset:get": ("404 404 200 200 200", lambda w, p: {"asset": w.dataset}),
    "hub:asset:search": ("200/4 200/4 200/16 200/16 200/16", lambda w, p: {"org": w.north, "limit": 200}),
    "hub:access:list": ("200/0 200/0 200/0 200/0 200/0", lambda w, p: {"asset": w.dataset}),
    "hub:revision:list": ("200/0 200/0 200/1 200/1 200/1", lambda w, p: {"asset": w.dataset}),
    "hub:ref:list": ("404 404 200/1 200/1 200/1", lambda w, p: {"asset": w.dataset}),
    "hub:revision:get": ("404 404 200 200 200", lambda w, p: {"revision": w.revision}),
    "hub:revision:compare": ("404 404 200 200 200", lambda w, p: {"before": w.revision, "after": w.revision}),
    "hub:release:list": ("200/0 200/0 200/12 200/12 200/12", lambda w, p: {"asset": w.dataset}),
    "hub:release:get": ("404 404 200 200 200", lambda w, p: {"release": w.published}),
    "hub:release:check": ("404 404 200 200 200", lambda w, p: {"release": w.published}),
    "hub:download:get": ("404 404 200 200 200", lambda w, p: {"asset": w.dataset}),
    "hub:quota:get": ("401 403 403 200 200", lambda w, p: {"org": w.north}),
    "hub:source:list": ("200/0 200/6 200/0 200/6 200/6", nothing),
    "hub:import:list": ("200/0 200/0 200/0 200/1 200/1", lambda w, p: {"asset": w.dataset}),
    "hub:import:get": ("404 404 404 200 200", lambda w, p: {"import_id": w.imported}),
    "hub:release:lineage": ("404 404 200 200 200", lambda w, p: {"release": w.published}),
    "serving:deployment:list": ("200/2 200/2 200/2 200/2 200/2", nothing),
    "serving:deployment:get": ("200 200 200 200 200", lambda w, p: {"deployment": w.deployment}),
    "serving:budget:list": ("200/0 200/0 200/0 200/1 200/1", lambda w, p: {"org": w.north}),
    "serving:call:list": ("200/0 200/0 200/0 200/1 200/1", lambda w, p: {"org": w.north}),
    "serving:call:get": ("404 404 404 200 200", lambda w, p: {"call": w.call}),
    "serving:call:receipt": ("404 404 404 200 200", lambda w, p: {"call": w.call}),
    "serving:endpoint:list": ("200/0 200/0 200/0 200/0 200/5", nothing),
    "serving:endpoint:get": ("404 404 404 404 200", lambda w, p: {"endpoint": w.of["endpoint"]["owner"]}),
    "serving:engine:list": ("401 403 403 403 200/0", nothing),
    "serving:route:list": ("200/6 200/6 200/6 200/6 200/6", nothing),
    "serving:route:get": ("200 200 200 200 200", lambda w, p: {"route": w.of["route"]["owner"]}),
    "serving:route:targets": ("401 403 403 403 200", lambda w, p: {"route": w.of["route"]["owner"]}),
    "serving:key:list": ("200/0 200/0 200/0 200/6 200/6", lambda w, p: {"org": w.north}),
    "serving:key:get": ("404 404 404 200 200", lambda w, p: {"model_key": w.of["key"]["owner"]}),
    "serving:usage:list": ("200/0 200/0 200/0 200/6 200/6", lambda w, p: {"org": w.north}),
    "serving:usage:get": ("404 404 404 200 200", lambda w, p: {"usage": w.used}),
    "serving:feedback:list": ("200/0 200/0 200/0 200/6 200/6", lambda w, p: {"org": w.north}),
    "serving:drift:list": ("200/0 200/0 200/0 200/1 200/1", lambda w, p: {"route": w.watched}),
    "serving:drift:get": ("404 404 404 200 200", lambda w, p: {"drift": w.drift}),
    "ethics:inquiry:list": ("200/0 200/0 200/0 200/1 200/1", lambda w, p: {"route": w.watched}),
    "ethics:inquiry:get": ("404 404 404 200 200", lambda w, p: {"inquiry": w.inquiry}),
    "serving:feedback:get": ("404 404 404 200 200", lambda w, p: {"feedback": w.said}),
    "billing:fund:list": ("200/1 200/1 200/1 200/1 200/1", nothing),
    "billing:fund:get": ("200 200 200 200 200", lambda w, p: {"fund": w.fund}),
    "billing:aid:list": ("200/0 200/0 200/5 200/5 200/5", lambda w, p: {"org": w.north}),
    "billing:package:list": ("200/5 200/5 200/5 200/5 200/5", nothing),
    "billing:subscription:list": ("200/0 200/0 200/5 200/5 200/5", lambda w, p: {"org": w.north}),
    "billing:statement:get": ("401 403 403 200 200", lambda w, p: {"org": w.north, "month": MONTH}),
    "billing:address:get": ("404 404 404 200 200", lambda w, p: {"org": w.north}),
    "billing:price:list": ("200/1 200/1 200/1 200/1 200/1", nothing),
    "billing:price:get": ("200 200 200 200 200", lambda w, p: {"price": w.price}),
    "compliance:verdict:show": ("404 404 200 200 200", lambda w, p: {"release": w.published}),
    "ethics:case:list": ("200/0 200/0 200/1 200/1 200/1", lambda w, p: {"release": w.submitted}),
    "ethics:case:get": ("404 404 200 200 200", lambda w, p: {"case": w.case}),
    "ethics:evaluation:get": ("404 404 404 404 404", lambda w, p: {"release": w.submitted}),
    "upstream:donation:list": ("200/0 200/0 200/11 200/11 200/11", lambda w, p: {"org": w.north}),
    "upstream:donation:get": ("404 404 200 200 200", lambda w, p: {"donation": w.donation}),
    "upstream:pledge:list": ("200/1 200/1 200/1 200/1 200/1", nothing),
    "upstream:pledge:get": ("200 200 200 200 200", lambda w, p: {"pledge": w.pledge}),
    "standards:proof:show": ("404 404 200 200 200", lambda w, p: {"release": w.published}),
    "standards:table:list": ("404 404 200/1 200/1 200/1", lambda w, p: {"revision": w.revision}),
    "standards:table:preview": ("404 404 200 200 200", lambda w, p: w.table),
    "standards:table:compare": ("404 404 200 200 200", lambda w, p: {"before": w.revision, "after": w.revision}),
    "standards:description:show": ("404 404 404 404 404", lambda w, p: {"revision": w.revision}),
    "standards:rule:list": ("200/24 200/24 200/24 200/24 200/24", nothing),
    "scenarios:agreement:list": ("200/0 200/0 200/1 200/1 200/1", lambda w, p: {"deployment": w.deployment}),
    "scenarios:outcome:list": ("200/0 200/0 200/1 200/1 200/1", lambda w, p: {"deployment": w.deployment}),
    "scenarios:gathering:list": ("200/0 200/0 200/0 200/0 200/0", lambda w, p: {"asset": w.data}),
    "scenarios:gathering:get": ("404 404 404 404 404", lambda w, p: {"gathering": "gth_nothing"}),
    "scenarios:return:list": ("200/0 200/0 200/0 200/1 200/1", lambda w, p: {"asset": w.data}),
    "scenarios:return:get": ("404 404 404 200 200", lambda w, p: {"back": w.back}),
    "credits:policy:list": ("200/1 200/1 200/1 200/1 200/1", nothing),
    "credits:policy:get": ("200 200 200 200 200", lambda w, p: {"policy": w.policy}),
    "credits:split:list": ("200/0 200/0 200/1 200/1 200/1", lambda w, p: {"call": w.call}),
    "credits:split:get": ("404 404 200 200 200", lambda w, p: {"split": w.split}),
    "credits:split:receipt": ("404 404 200 200 200", lambda w, p: {"split": w.split}),
}

# What rooms serve as protocols, and what the doors add. An input: the path's parameters, `query`, and a body.
ENDPOINTS: dict[str, tuple[str, Given]] = {
    "GET /log/checkpoint": ("200 200 200 200 200", nothing),
    "GET /log/tile/{path:path}": ("200 200 200 200 200", lambda w, p: {"path": f"entries/000.p/{w.size}"}),
    "PUT /api/v1/hub/blob/{sha256}": (
        "401 403 403 201 201",
        lambda w, p: {"sha256": sha256(b"x").hexdigest(), "query": {"org": w.north, "path": "x"}, "content": b"x"},
    ),
    "GET /api/v1/hub/revision/{key}/file/{path:path}": (
        "404 404 200 200 200",
        lambda w, p: {"key": w.revision, "path": f"{CANARY}.csv"},
    ),
    "GET /api/v1/hub/release/{key}/statement": ("404 404 200 200 200", lambda w, p: {"key": w.published}),
    "OPTIONS /api/v1/hub/upload": ("204 204 204 204 204", nothing),
    "POST /api/v1/hub/upload": ("401 403 403 201 201", lambda w, p: {"headers": announced(w)}),
    "PATCH /api/v1/hub/upload/{ticket}": ("403 403 403 403 403", lambda w, p: {"ticket": "forged", "headers": TUS}),
    "DELETE /api/v1/hub/upload/{ticket}": ("403 403 403 403 403", lambda w, p: {"ticket": "forged", "headers": TUS}),
    "GET /api/v1/hub/blob/{sha256}": (
        "401 403 403 200 200",
        lambda w, p: {"sha256": "0" * 64, "query": {"org": w.north, "path": f"{CANARY}.csv"}},
    ),
    "GET /api/v1/hub/release/{key}/bundle": ("404 404 200 200 200", lambda w, p: {"key": w.published}),
    "GET /api/datasets/{org}/{slug}/xet-write-token/{rev:path}": ("404 404 403 200 200", lambda w, p: w.called("main")),
    "GET /api/datasets/{org}/{slug}/xet-read-token/{rev:path}": ("404 404 404 404 404", lambda w, p: w.called("main")),
    "GET /api/models/{org}/{slug}/xet-write-token/{rev:path}": ("404 404 404 404 404", lambda w, p: w.called("main")),
    "GET /api/models/{org}/{slug}/xet-read-token/{rev:path}": ("404 404 404 404 404", lambda w, p: w.called("main")),
    **{
        f"POST /xet/{{space}}/{{generation}}{path}": (  # a token of the house is none for what is brought
            "401 403 403 403 403",
            lambda w, p: {
                "space": w.dataset,
                "generation": "1",
                "prefix": "default",
                "hash": "0" * 64,
                "content": b"x",
            },
        )
        for path in ("/v1/xorbs/{prefix}/{hash}", "/xorbs/{prefix}/{hash}", "/v1/shards", "/shards")
    },
    "GET /v2": ("200 200 200 200 200", nothing),
    "GET /v2/health/live": ("200 200 200 200 200", nothing),
    "GET /v2/health/ready": ("200 200 200 200 200", nothing),
    "GET /metrics": ("401 403 403 403 200", nothing),
    "GET /v2/models/{name}": ("200 200 200 200 200", lambda w, p: {"name": "diagnosis"}),
    "GET /v2/models/{name}/versions/{version}": (
        "200 200 200 200 200",
        lambda w, p: {"name": "diagnosis", "version": "1.0.0"},
    ),
    "GET /v2/models/{name}/ready": ("200 200 200 200 200", lambda w, p: {"name": "diagnosis"}),
    "GET /v2/models/{name}/versions/{version}/ready": (
        "200 200 200 200 200",
        lambda w, p: {"name": "diagnosis", "version": "1.0.0"},
    ),
    "POST /v2/models/{name}/infer": (
        "401 403 403 200 403",
        lambda w, p: {"name": "diagnosis", "json": infer(w.features, org=w.north)},
    ),
    "POST /v2/models/{name}/versions/{version}/infer": (
        "401 403 403 200 403",
        lambda w, p: {"name": "diagnosis", "version": "1.0.0", "json": infer(w.features, org=w.north)},
    ),
    "GET /api/v1/openapi.json": ("200 200 200 200 200", nothing),
    "GET /health": ("200 200 200 200 200", nothing),
    "GET /static/{path}": ("404 404 404 404 404", lambda w, p: {"path": "../server.py"}),
    "POST /mcp": ("400 400 400 400 400", nothing),
}


def hugging_face(kind: str, slug: str, hidden: bool) -> dict[str, tuple[str, Given]]:
    """The rows of that door for a kind: a dataset that is the north's alone, a model that all may see."""
    api, plain = f"/api/{kind}s", "/datasets/" if kind == "dataset" else "/"
    named, at = f"{api}/{{org}}/{{slug}}", {"org": "north", "slug": slug}
    sees = "404 404 200 200 200" if hidden else "200 200 200 200 200"

    def may(owner: str, member: str = "403") -> str:
        outside = "404 404" if hidden else "401 403"
        return f"{outside} {member} {owner} {owner}"

    def row(wanted: str, **given: Any) -> tuple[str, Given]:
        return wanted, lambda w, p: at | given

    commit = json.dumps({"key": "header", "value": {"summary": CANARY}})
    card = {"path": "README.md", "size": 1, "sample": ""}
    return {
        f"GET {api}": ("200 200 200 200 200", nothing),
        f"GET {named}": row(sees),
        f"GET {named}/revision/{{rev:path}}": row(sees, rev="main"),
        f"PUT {named}/settings": row(may("200"), json={"gated": False}),
        f"GET {named}/auth-check": row(sees),
        f"GET {named}/auth-check/write": row(may("200")),
        f"GET {named}/tree/{{rest:path}}": row(sees, rest="main"),
        f"POST {named}/paths-info/{{rev:path}}": row(sees, rev="main", data={"paths": "README.md"}),
        f"GET {named}/refs": row(sees),
        f"GET {named}/commits/{{rev:path}}": row(sees, rev="main"),
        f"POST {named}/branch/{{name:path}}": row(may("409"), name="main", json={}),
        f"DELETE {named}/branch/{{name:path}}": row(may("409"), name="main"),
        f"POST {named}/tag/{{name:path}}": row(may("422"), name="main", json={"tag": "not/a//name"}),
        f"DELETE {named}/tag/{{name:path}}": row(may("404"), name="nothing"),
        f"POST {named}/super-squash/{{name:path}}": row("403 403 403 403 403", name="main"),
        f"POST {named}/preupload/{{rev:path}}": row(may("200"), rev="main", json={"files": [card]}),
        f"POST {named}/commit/{{rev:path}}": row(may("200"), rev="main", content=commit),
        f"GET {named}/user-access-request/{{status}}": row(may("200"), status="pending"),
        f"POST {named}/user-access-request/handle": row(may("400"), json={"status": "accepted"}),
        f"POST {named}/user-access-request/grant": row(may("404"), json={"user": "nobody"}),
        f"POST {plain}{{org}}/{{slug}}.git/info/lfs/objects/batch": row(
            may("200"), json={"operation": "upload", "objects": []}
        ),
        f"GET {plain}{{org}}/{{slug}}/resolve/{{rest:path}}": row(sees, rest="main/README.md"),
    }


def repository(_w: World, person: str) -> dict[str, Any]:
    return {"json": {"name": f"{CANARY}-of-{person}", "organization": "north", "type": "dataset"}}


def oci(slug: str) -> dict[str, tuple[str, Given]]:
    """The rows of that door for an asset that is the north's alone. Who brings no token is asked for one."""
    named, upload = "/v2/{org}/{slug}", "/v2/{org}/{slug}/blobs/uploads/{ticket}"

    def row(wanted: str, **given: Any) -> tuple[str, Given]:
        return wanted, lambda w, p: {"org": "north", "slug": slug} | given

    def blob(w: World, _person: str) -> dict[str, Any]:
        return {"org": "north", "slug": slug, "digest": f"sha256:{w.files[1]['sha256']}"}

    sees, forged = "401 404 200 200 200", "404 404 404 404 404"
    return {
        "GET /v2/": ("401 200 200 200 200", nothing),
        "GET /v2/token": ("200 200 200 200 200", nothing),
        f"GET {named}/manifests/{{reference}}": row(sees, reference="main"),
        f"PUT {named}/manifests/{{reference}}": row("401 403 403 400 400", reference="main", content=b"{}"),
        f"DELETE {named}/manifests/{{reference}}": row("401 404 403 404 404", reference="nothing"),
        f"POST {named}/blobs/uploads/": row("401 403 403 202 202"),
        **{f"{method} {upload}": row(forged, ticket="forged") for method in ("PATCH", "GET", "DELETE")},
        f"PUT {upload}": row(forged, ticket="forged", query={"digest": f"sha256:{'0' * 64}"}),
        f"GET {named}/blobs/{{digest}}": (sees, blob),
        f"GET {named}/tags/list": row(sees),
        f"GET {named}/referrers/{{digest}}": row(sees, digest=f"sha256:{'0' * 64}"),
    }


ENDPOINTS |= {
    **oci(f"{CANARY}-records"),
    **hugging_face("dataset", f"{CANARY}-records", hidden=True),
    **hugging_face("model", "diagnosis", hidden=False),
    "GET /api/whoami-v2": ("401 200 200 200 200", nothing),
    "POST /api/validate-yaml": ("200 200 200 200 200", lambda w, p: {"json": {"content": ""}}),
    "POST /api/repos/create": ("401 403 403 200 200", repository),
    "DELETE /api/repos/delete": (
        "404 404 403 409 409",
        lambda w, p: {"json": {"name": f"north/{CANARY}-records", "type": "dataset"}},
    ),
    "POST /api/repos/move": (
        "404 404 403 422 422",
        lambda w, p: {
            "json": {"fromRepo": f"north/{CANARY}-records", "toRepo": f"north/{CANARY}-records", "type": "dataset"}
        },
    ),
    "PUT /api/lfs/{ticket}": ("403 403 403 403 403", lambda w, p: {"ticket": "forged"}),
    "POST /api/lfs/{ticket}": ("403 403 403 403 403", lambda w, p: {"ticket": "forged"}),
}
PAGES: dict[str, tuple[str, Given]] = {
    "GET /": ("200 200 200 200 200", nothing),
    "GET /evidence": ("200 200 200 200 200", lambda w, p: {"query": {"subject": w.dataset}}),
    "GET /evidence/entry/{key}": ("200 200 200 200 200", lambda w, p: {"key": w.entry}),
    "GET /ledger": ("200 200 200 200 200", lambda w, p: {"query": {"owner": w.north}}),
    "GET /ledger/account/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.account}),
    "GET /ledger/transaction/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.transaction}),
    "GET /members": ("200 200 200 200 200", nothing),
    "GET /members/organisation/{key}": ("200 200 200 200 200", lambda w, p: {"key": w.north}),
    "GET /members/person/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.owner.party}),
    "GET /members/agent/{key}": ("200 200 200 200 200", lambda w, p: {"key": w.of["agent"]["owner"]}),
    "GET /members/site/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.site}),
    "GET /me": ("401 200 200 200 200", nothing),
    "GET /hub": ("200 200 200 200 200", lambda w, p: {"query": {"org": w.north}}),
    "GET /hub/asset/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.dataset}),
    **{
        f"GET /hub/asset/{{key}}/{page}": ("404 404 200 200 200", lambda w, p: {"key": w.dataset})
        for page in ("files", "releases", "revisions", "lineage", "access")
    },
    "GET /hub/asset/{key}/add": ("404 404 403 200 200", lambda w, p: {"key": w.dataset}),
    "POST /hub/asset/{key}/add": (
        "403 404 403 422 422",
        lambda w, p: {"key": w.dataset, "data": {"csrf": w.csrf(p), "message": "", "listed": "[]"}},
    ),
    "GET /hub/asset/{key}/file": (
        "404 404 200 200 200",
        lambda w, p: {"key": w.dataset, "query": {"path": f"{CANARY}.csv"}},
    ),
    "GET /hub/revision/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.revision}),
    "GET /hub/changes/{before}/{after}": (
        "404 404 200 200 200",
        lambda w, p: {"before": w.revision, "after": w.revision},
    ),
    "GET /standards/table/{revision}/{path:path}": ("404 404 200 200 200", lambda w, p: w.table),
    "GET /hub/release/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.published}),
    "GET /serving": ("200 200 200 200 200", nothing),
    "GET /serving/deployment/{key}": ("200 200 200 200 200", lambda w, p: {"key": w.deployment}),
    "GET /billing/statement/{org}/{month}": ("401 403 403 200 200", lambda w, p: {"org": w.north, "month": MONTH}),
    "GET /api/v1/billing/statement/{org}/{month}/{name}": (
        "401 403 403 200 200",
        lambda w, p: {"org": w.north, "month": MONTH, "name": "statement.csv"},
    ),
    "GET /billing": ("200 200 200 200 200", nothing),
    "GET /serving/models": ("200 200 200 200 200", nothing),
    "GET /serving/model/{key}/calls": ("200 200 200 200 200", lambda w, p: {"key": w.of["route"]["owner"]}),
    "GET /serving/model/{key}/try": ("200 200 200 200 200", lambda w, p: {"key": w.of["route"]["owner"]}),
    "GET /serving/model/{key}": ("200 200 200 200 200", lambda w, p: {"key": w.of["route"]["owner"]}),
    "GET /serving/call/{key}": ("404 404 404 200 200", lambda w, p: {"key": w.call}),
    "GET /compliance/{release}": ("404 404 200 200 200", lambda w, p: {"release": w.published}),
    "GET /ethics": ("200 200 200 200 200", nothing),
    "GET /ethics/case/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.case}),
    "GET /ethics/inquiry/{key}": ("404 404 404 200 200", lambda w, p: {"key": w.inquiry}),
    "GET /ethics/evaluation/{release}": ("404 404 404 404 404", lambda w, p: {"release": w.submitted}),
    "GET /upstream": ("200 200 200 200 200", nothing),
    "GET /upstream/pledge/{key}": ("200 200 200 200 200", lambda w, p: {"key": w.pledge}),
    "GET /upstream/donation/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.donation}),
    "GET /api/v1/standards/release/{key}/{name}": (
        "404 404 200 200 200",
        lambda w, p: {"key": w.published, "name": "mlbom.json"},
    ),
    "GET /standards/policy/{name}": ("200 200 200 200 200", lambda w, p: {"name": "release"}),
    "GET /standards": ("200 200 200 200 200", nothing),
    "GET /scenarios": ("200 200 200 200 200", nothing),
    "GET /credits": ("200 200 200 200 200", nothing),
    "GET /credits/split/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.split}),
    "GET /sign-in": ("200 200 200 200 200", nothing),
    "GET /sign-in/{secret}": ("410 410 410 410 410", lambda w, p: {"secret": "gql_nobodys"}),
    "POST /sign-in": (
        "403 403 403 403 403",
        lambda w, p: {"data": {"handle": f"{CANARY}-owner", "password": "guessed"}},
    ),
    "POST /api/v1/members/signin/password": (
        "401 401 401 401 401",
        lambda w, p: {"json": {"handle": f"{CANARY}-owner", "password": "guessed"}},
    ),
    "POST /sign-in/{secret}": ("403 403 403 403 403", lambda w, p: {"secret": "gql_nobodys", "data": {}}),
    "POST /sign-out": ("403 403 403 403 403", lambda w, p: {"data": {}}),
    "GET /go/{key}": ("303 303 303 303 303", lambda w, p: {"key": w.dataset}),
    "GET /do/{room}/{noun}/{word}": (
        "401 200 403 200 200",
        lambda w, p: {"room": "hub", "noun": "asset", "word": "edit", "query": {"asset": w.dataset}},
    ),
    "POST /do/{room}/{noun}/{word}": (
        "403 404 403 303 303",
        lambda w, p: {
            "room": "hub",
            "noun": "asset",
            "word": "edit",
            "data": {"asset": w.dataset, "title_en": f"{CANARY} again", "csrf": w.csrf(p)},
        },
    ),
}
STREAMS = {"GET /live"}  # has no end; see below
