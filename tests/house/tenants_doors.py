"""What five people get when they reach for the north's things, by endpoint and page: see `test_tenants`."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from tests.house.tenants_table import Given, nothing
from tests.house.world import CANARY, MONTH, TUS, World, announced, infer

KEY = "\0"  # in an endpoint's or a page's input: the query

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
    "GET /billing/taxes": ("200 200 200 200 200", nothing),
    "GET /billing/invoice/{key}": ("404 404 404 200 200", lambda w, p: {"key": w.invoice}),
    "GET /api/v1/billing/invoice/{invoice}/{name}": (
        "404 404 404 200 200",
        lambda w, p: {"invoice": w.invoice, "name": "invoice.xml"},
    ),
    "GET /serving/tail": ("401 200 200 200 200", nothing),
    "GET /serving/engines": ("401 403 403 403 200", nothing),
    "GET /billing": ("200 200 200 200 200", nothing),
    "GET /packs": ("200 200 200 200 200", nothing),
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
STREAMS = {"GET /live", "GET /api/v1/serving/tail"}  # has no end; see below
