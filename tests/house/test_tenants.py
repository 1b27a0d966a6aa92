"""Two tenants and every way into the house: nobody sees or does what is not theirs.

The table says for every verb, read, page and endpoint what five people get when they reach for what is the north's: a
stranger, the owner of the south (another tenant, who may do everything at home), a plain member of the north, the
north's owner, and the operator. A route that is missing from it fails the test, and so does a row without a route.

Everything private of the north has the word `CANARY` in its names, titles, texts, paths and contents, and its ids and
digests are written down. The word must never come out to the stranger or the south, by any door. Ids and digests come
out in two places only, which are public by design: the evidence (a log that hides entries proves nothing) and, as bare
ids, the lineage of what is public.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from mcp.client.client import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from starlette.routing import Mount, Route

from gongqi.doors.cli import laboratory
from gongqi.doors.cli.push import push_folder
from gongqi.doors.fields import fields_of, key_field
from gongqi.doors.mcp.server import tool_name
from gongqi.doors.web.api import path_of

pytestmark = [pytest.mark.long, pytest.mark.postgres]

CANARY = "kestrel"
MOST_PAGES = 40  # some pages of the south's own come last and may be left out
UNIT = "CNY-fen"
PEOPLE = ("stranger", "south", "member", "owner", "operator")
OUTSIDERS = ("stranger", "south")
SPLIT = {"service": 2000, "model": 3500, "datasets": 2500, "compute": 1000, "foundation": 1000}
TUS = {"tus-resumable": "1.0.0"}
MONTH = f"{datetime.now(UTC):%Y-%m}"
ADDRESS = {"street": "1 North Road", "city": "Beijing", "postcode": "100000", "country": "CN"}
TERMS = {"agreement_zh": "可回传真实结果。", "agreement_en": "True outcomes may be sent back."}
VOTE = {"choice": "approve", "rationale": f"the {CANARY} is sound"}


@dataclass
class World:
    """The north's things. What an act uses up is there once for each person: `self.of[kind][person]`."""

    foundation: Any
    folder: Path
    wait: Callable[..., Any]
    of: dict[str, dict[str, str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set, repr=False)
    clients: dict[str, httpx.Client] = field(default_factory=dict, repr=False)
    browsers: dict[str, httpx.Client] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        f = self.foundation
        self.north, self.south = f.organisation("north"), f.organisation("south")
        self.home = f.operator.read("members:party:list", handle="foundation")["items"][0]["id"]
        self.people = {
            "owner": f.person(f"{CANARY}-owner", self.north, "owner", name=f"{CANARY} owner"),
            "member": f.person(f"{CANARY}-member", self.north, "member", name=f"{CANARY} member"),
            "south": f.person("southerner", self.south, "owner"),
            "operator": f.sign_in(f.operator.read("members:me:show")["id"]),
            "reviewer-1": f.person("reviewer-1", "*", "reviewer"),
            "reviewer-2": f.person("reviewer-2", "*", "reviewer"),
        }
        self.owner = self.people["owner"]
        f.operator.verb("credits:policy:publish", **SPLIT)
        self.policy = f.operator.read("credits:policy:list")["items"][0]["id"]
        self._members()
        self._public()
        self._private()
        self._served()
        self._gateway()
        self._upstream()

    def called(self, rev: str) -> dict[str, str]:
        """The dataset as clients of another hub call it."""
        return {"org": "north", "slug": f"{CANARY}-records", "rev": rev}

    def keep(self, made: Mapping[str, Any], name: str = "id") -> str:
        """Note an id of the north's as private."""
        self.private.add(made[name])
        return made[name]

    def each(self, kind: str, make: Callable[[str], str]) -> None:
        self.of[kind] = {person: make(person) for person in PEOPLE}

    def _members(self) -> None:
        own = self.owner
        inside = {"org": self.north}

        def agent(kind: str, person: str) -> str:
            given = {"handle": f"north-{kind}-{person}", "name": "north agent"} | inside
            return own.verb("members:agent:create", role="member", **given)["id"]

        self.each("agent", lambda person: agent("agent", person))
        self.each("suspended", lambda person: agent("suspended", person))
        for each in self.of["suspended"].values():
            own.verb("members:party:suspend", party=each)
        self.each(
            "token",
            lambda person: self.keep(
                own.verb("members:token:issue", party=self.of["agent"][person], label=f"{CANARY} token", days=1)
            ),
        )
        self.site = self.keep(
            own.verb("members:site:create", handle=f"{CANARY}-site", name=f"{CANARY} site", role="member", **inside)
        )

        tier = {"tier": "silver", "reason": f"a {CANARY} sponsor"}
        self.keep(self.foundation.operator.verb("members:tier:set", **tier, **inside))

        def invited(person: str) -> str:
            given = {"handle": f"{CANARY}-guest-{person}", "name": f"{CANARY} guest", "email": f"{CANARY}@example.org"}
            return self.keep(own.verb("members:person:create", role="member", **given, **inside))

        self.each("guest", invited)
        grants = {
            each["party"]: each["id"] for each in own.read("members:membership:list", limit=200, **inside)["items"]
        }
        self.of["membership"] = {person: grants[self.of["guest"][person]] for person in PEOPLE}
        self.each("session", lambda _person: self.foundation.sign_in(own.party).session)

    def _push(
        self, folder: str, parts: list[laboratory.Part], slug: str, kind: str, lineage: Any = ()
    ) -> tuple[str, str]:
        asset = self.foundation.asset(self.owner, self.north, slug, kind, visibility="public")
        kinds = {part.path: f"{part.component}:{part.license}" for part in parts}
        lineage = [{"relation": relation, "revision": revision} for relation, revision in lineage]
        made = push_folder(self.owner, asset, self.folder / folder, message="as it is", kinds=kinds, lineage=lineage)
        return asset, made["id"]

    def _public(self) -> None:
        """What the north gives to all: a dataset and a model, released, so that there is something to call."""
        data = laboratory.make_dataset(self.folder / "data")
        held_out = laboratory.make_evaluation_set(self.folder / "held-out")
        self.data, self.data_revision = self._push("data", data, "records", "dataset")
        _, yardstick = self._push("held-out", held_out, "yardstick", "dataset")
        source = self.folder / "data"
        parts = laboratory.train(
            [source / "data.csv"], self.folder / "model", data_card=source / "README.md", lineage=[]
        )
        lineage = (("trained-on", self.data_revision), ("evaluated-on", yardstick))
        self.model, self.model_revision = self._push("model", parts, "diagnosis", "model", lineage)
        self.release = self._release(self.model, self.model_revision, "1.0.0")
        self.wait(lambda: self._evaluated(self.release))
        self._approve(self.release)
        self.foundation.operator.verb("hub:release:publish", release=self.release)

    def _release(self, asset: str, revision: str, name: str) -> str:
        draft = self.owner.verb("hub:release:draft", asset=asset, revision=revision, name=name)["id"]
        return self.owner.verb("hub:release:submit", release=draft)["id"]

    def _evaluated(self, release: str) -> bool | None:
        answer = self.owner.http.get(f"/api/v1/ethics/evaluation/{release}")
        return True if answer.status_code == 200 and answer.json()["state"] == "done" else None

    def _case(self, release: str) -> str:
        def look() -> str | None:
            items = self.foundation.operator.read("ethics:case:list", release=release)["items"]
            return items[0]["id"] if items else None

        return self.wait(look)

    def _approve(self, release: str) -> None:
        case = self._case(release)
        for number in (1, 2):
            self.people[f"reviewer-{number}"].verb("ethics:vote:cast", case=case, choice="approve", rationale="sound")

    def _private(self) -> None:
        """A dataset behind the door, with every state of a release; and a public model that rests on it."""
        f, own = self.foundation, self.owner
        titles = {"title_zh": f"{CANARY} 记录", "title_en": f"{CANARY} records", "summary_en": f"a {CANARY}"}
        self.dataset = f.asset(own, self.north, f"{CANARY}-records", **titles)
        self.private.add(self.dataset)
        card = (self.folder / "data" / "README.md").read_bytes()
        content = f"record,{CANARY},ill\n{CANARY}-1,1,0\n".encode()
        self.files = [
            f.bring(own, self.north, "README.md", card + f"\nThe {CANARY}.\n".encode(), component="data-card"),
            f.bring(own, self.north, f"{CANARY}.csv", content, component="datasets"),
        ]
        self.private |= {each["sha256"] for each in self.files}
        made = own.verb("hub:revision:commit", asset=self.dataset, message=f"the {CANARY} itself", files=self.files)
        self.revision = self.keep(made)
        self.private.add(made["digest"])
        self.number = made["number"]

        def draft(kind: str) -> str:
            name = f"{len(self.private)}.0.0-{CANARY}"
            return self.keep(own.verb("hub:release:draft", asset=self.dataset, revision=self.revision, name=name))

        self.each("draft", draft)
        self.each("withdrawn", draft)
        for each in self.of["withdrawn"].values():
            own.verb("hub:release:submit", release=each)
        self.submitted = self._release(self.dataset, self.revision, f"1.0.0-{CANARY}")
        self.published = self._release(self.dataset, self.revision, f"2.0.0-{CANARY}")
        self.private |= {self.submitted, self.published}
        self._approve(self.published)
        f.operator.verb("hub:release:publish", release=self.published)
        described = f"/api/v1/standards/release/{self.published}/mlbom.json"
        self.wait(lambda: f.operator.http.get(described).status_code == 200 or None)
        self.table = {"revision": self.revision, "path": f"{CANARY}.csv"}
        self.wait(
            lambda: f.operator.http.get("/api/v1/standards/table/preview", params=self.table).status_code == 200 or None
        )
        self.case = self._case(self.submitted)
        self.private.add(self.case)
        lineage = [{"revision": self.revision, "relation": "derived-from"}]
        open_card = f.bring(own, self.north, "README.md", card, component="data-card")
        derived = f.asset(own, self.north, "derived", visibility="public")
        self.derived_revision = own.verb(
            "hub:revision:commit", asset=derived, message="derived", files=[open_card], lineage=lineage
        )["id"]
        self.derived = self._release(derived, self.derived_revision, "1.0.0")
        self.derived_case = self._case(self.derived)

        given = {"endpoint": "http://127.0.0.1:9", "is_inside": True}
        self.source = f.operator.verb("hub:source:add", name="nowhere", **given)["id"]
        self.each("source", lambda p: f.operator.verb("hub:source:add", name=f"for-{p}", **given)["id"])
        begun = own.verb("hub:import:begin", asset=self.dataset, source=self.source, repo=f"{CANARY}/there")
        self.imported = self.keep(own.verb("hub:import:cancel", import_id=begun["id"]))

    def _served(self) -> None:
        f, own = self.foundation, self.owner
        given = {"release": self.release, "unit": UNIT, "price_per_row": 3} | TERMS
        self.deployment = f.operator.verb("serving:deployment:create", name="diagnosis", org=self.home, **given)["id"]
        self.hosted = own.verb("serving:deployment:create", name="north-diagnosis", org=self.north, **given)["id"]
        grant = f.operator.verb("ledger:credit:grant", owner=self.north, unit=UNIT, amount=10_000)
        self.account = f"{self.north}/{UNIT}/available"
        statement = own.read("ledger:account:list", owner=self.north)["items"]
        self.account = next(each["id"] for each in statement if each["code"] == "available")
        self.transaction = grant["id"]
        spare = f.operator.verb("ledger:credit:grant", owner=self.north, unit=UNIT, amount=7)["id"]
        self.spare = spare
        self.private |= {self.account, self.transaction, self.spare}
        self.budget = self.keep(
            own.verb("serving:budget:set", deployment=self.deployment, org=self.north, limit_amount=5_000)
        )
        own.verb("scenarios:agreement:sign", deployment=self.deployment, org=self.north)
        self.features = laboratory.table().features[0]
        answer = own.http.post("/v2/models/diagnosis/infer", json=infer(self.features)).json()
        self.call = answer["parameters"]["call"]
        self.private.add(self.call)
        names = laboratory.table().columns
        features = dict(zip(names, self.features, strict=True))
        self.record = {"row": 0, "record": f"{CANARY}-2", "features": features, "label": 1}
        own.verb("scenarios:outcome:report", deployment=self.deployment, call=self.call, records=[self.record])
        self.split = self.keep(
            self.wait(lambda: next(iter(own.read("credits:split:list", call=self.call)["items"]), None))
        )
        self.back = self.keep(own.verb("scenarios:return:start", deployment=self.deployment, asset=self.data))
        self.wait(lambda: own.read("scenarios:return:get", self.back)["finished_at"])

    def _gateway(self) -> None:
        """A model that the foundation offers, and keys of the north's; nothing is called."""
        operator = self.foundation.operator.verb
        address = {"base_url": "http://127.0.0.1:9/v1", "private": True}
        self.each(
            "endpoint", lambda person: operator("serving:endpoint:add", name=f"for-{person.lower()}", **address)["id"]
        )
        self.each("route", lambda person: operator("serving:route:define", **route(self, person))["id"])
        prices = {"unit": UNIT, "input_nanos": 1, "output_nanos": 2}
        self.price = operator("billing:price:publish", route=self.of["route"]["owner"], **prices)["id"]
        self.fund = operator("billing:fund:open", name="schools", unit=UNIT)["id"]
        aid = {"org": self.north, "fund": self.fund, "paid_percent": 50, "reason": f"a {CANARY} school"}
        self.each("aid", lambda _person: self.keep(operator("billing:aid:grant", **aid)))
        self.owner.verb("billing:address:set", org=self.north, name=f"{CANARY} Ltd", **ADDRESS)
        label = {"org": self.north, "label": f"{CANARY} key"}
        self.each("key", lambda _person: self.keep(self.owner.verb("serving:key:issue", **label)))

    def _upstream(self) -> None:
        def offer(person: str) -> str:
            made = self.owner.verb("upstream:donation:offer", **donation(self, f"{CANARY}-gift-{person}"))
            self.private.add(made["asset"])
            if person == "operator":  # will be accepted, and a pledge that is accepted is public; its asset is not yet
                return made["id"]
            return self.keep(made)

        self.each("offered", offer)
        self.each("declined", lambda person: offer(f"no-{person}"))
        self.of["given"] = {
            p: self.owner.read("upstream:donation:get", d)["asset"] for p, d in self.of["declined"].items()
        }
        self.donation = offer("kept")
        pledge = {"org": self.north, "patent_scope": "donated-work"}
        self.pledge = self.owner.verb("upstream:pledge:make", **pledge)["id"]
        read = self.foundation.operator.read
        self.entry = read("evidence:entry:list", subject=self.donation)["items"][0]["id"]
        bundle = f"/api/v1/hub/release/{self.published}/bundle"
        self.wait(lambda: self.foundation.operator.http.get(bundle).status_code == 200 or None)
        self.wait(
            lambda: self.owner.http.get(f"/api/v1/evidence/entry/proof?entry={self.entry}").status_code == 200 or None
        )
        self.size = self.foundation.evidence_size()

    # ---- how each comes in

    def http(self, person: str) -> httpx.Client:
        if person not in self.clients:
            self.clients[person] = (self.people.get(person) or self.foundation.client()).http
        return self.clients[person]

    def csrf(self, person: str) -> str:
        """The token that a form shown to this person would have."""
        secret = "" if person == "stranger" else self.people[person].secret
        return hmac.new(secret.encode(), b"csrf", sha256).hexdigest()

    def browser(self, person: str) -> httpx.Client:
        if person not in self.browsers:
            cookies = {} if person == "stranger" else {"gongqi_session": self.people[person].secret}
            headers = {"accept": "text/html", "sec-fetch-site": "same-origin"}
            self.browsers[person] = httpx.Client(
                base_url=self.foundation.url, cookies=cookies, headers=headers, trust_env=False, timeout=30
            )
        return self.browsers[person]


def announced(w: World) -> dict[str, str]:
    """A file for the north, as a tus client announces it."""
    told = {"org": w.north, "path": "new.csv", "sha256": "1" * 64}
    metadata = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in told.items())
    return TUS | {"upload-length": "1", "upload-metadata": metadata}


def infer(features: Any, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, len(features)], "data": list(features)}
    return {"inputs": [tensor]} | ({"parameters": parameters} if parameters else {})


def donation(w: World, slug: str) -> dict[str, Any]:
    return {
        "org": w.north,
        "slug": slug,
        "kind": "dataset",
        "title_zh": slug,
        "title_en": slug,
        "license": "CC-BY-4.0",
        "provenance": f"from a {CANARY}",
        "patent_scope": "donated-work",
        "patent_text": "a pledge",
        "schedule": [{"audience": "public", "opens_at": "2027-06-01T00:00:00Z"}],
    }


def route(w: World, person: str) -> dict[str, Any]:
    targets = [{"endpoint": w.of["endpoint"]["owner"], "model": "m"}]
    return {"name": f"model-{person}", "org": w.home, "context_tokens": 100, "targets": targets}


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
    "serving:endpoint:retire": ("401 404 403 404 200", lambda w, p: {"endpoint": w.of["endpoint"][p]}),
    "serving:route:define": ("401 403 403 403 200", route),
    "serving:route:retire": ("401 403 403 403 200", lambda w, p: {"route": w.of["route"][p]}),
    "serving:key:issue": ("401 403 403 200 200", lambda w, p: {"org": w.north, "label": f"{CANARY} {p}"}),
    "serving:key:revoke": ("401 404 403 200 200", lambda w, p: {"model_key": w.of["key"][p]}),
    "billing:fund:open": ("401 403 403 403 200", lambda w, p: {"name": f"by-{p}", "unit": UNIT}),
    "billing:fund:give": ("401 403 403 200 200", lambda w, p: {"fund": w.fund, "org": w.north, "amount": 1}),
    "billing:aid:grant": (
        "401 403 403 403 200",
        lambda w, p: {"org": w.north, "fund": w.fund, "paid_percent": 50, "reason": f"a {CANARY} school"},
    ),
    "billing:aid:end": ("401 404 403 403 200", lambda w, p: {"aid": w.of["aid"][p]}),
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
    "ledger:account:statement": ("404 404 200/4 200/4 200/4", lambda w, p: {"account": w.account}),
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
    "serving:route:list": ("200/5 200/5 200/5 200/5 200/5", nothing),
    "serving:route:get": ("200 200 200 200 200", lambda w, p: {"route": w.of["route"]["owner"]}),
    "serving:route:targets": ("401 403 403 403 200", lambda w, p: {"route": w.of["route"]["owner"]}),
    "serving:key:list": ("200/0 200/0 200/0 200/5 200/5", lambda w, p: {"org": w.north}),
    "serving:key:get": ("404 404 404 200 200", lambda w, p: {"model_key": w.of["key"]["owner"]}),
    "serving:usage:list": ("200/0 200/0 200/0 200/0 200/0", lambda w, p: {"org": w.north}),
    "serving:usage:get": ("404 404 404 404 404", lambda w, p: {"usage": "gen_none"}),
    "billing:fund:list": ("200/1 200/1 200/1 200/1 200/1", nothing),
    "billing:fund:get": ("200 200 200 200 200", lambda w, p: {"fund": w.fund}),
    "billing:aid:list": ("200/0 200/0 200/5 200/5 200/5", lambda w, p: {"org": w.north}),
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
    "GET /serving/model/{key}": ("200 200 200 200 200", lambda w, p: {"key": w.of["route"]["owner"]}),
    "GET /serving/call/{key}": ("404 404 404 200 200", lambda w, p: {"key": w.call}),
    "GET /compliance/{release}": ("404 404 200 200 200", lambda w, p: {"release": w.published}),
    "GET /ethics": ("200 200 200 200 200", nothing),
    "GET /ethics/case/{key}": ("404 404 200 200 200", lambda w, p: {"key": w.case}),
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


def routes_of(foundation: Any) -> set[str]:
    """Every route of the assembled application: `METHOD path`, or for what is derived from it the verb's name."""
    house = foundation.kernel.house
    found = {*house.verbs, *house.reads, "GET /api/v1/openapi.json"}
    for route in foundation.routes:
        if isinstance(route, Route):
            found |= {f"{method} {route.path}" for method in (route.methods or {"GET", "POST", "DELETE"}) - {"HEAD"}}
        elif isinstance(route, Mount) and route.path == "/static":
            found.add("GET /static/{path}")
        else:
            assert isinstance(route, Mount) and route.path == "/api/v1", route
    return found


@dataclass
class Answer:
    route: str
    person: str
    status: int
    text: str
    sent: str
    items: int | None = None

    @property
    def shown(self) -> str:
        return str(self.status) if self.items is None else f"{self.status}/{self.items}"


def ask(w: World, route: str, person: str, given: Mapping[str, Any], *, browser: bool = False) -> Answer:
    """One request, as `person`."""
    sent = json.dumps(given, default=str)
    if route in VERBS:
        answer = w.http(person).post("/api/v1/" + path_of(route), json=given)
    elif route in READS:
        path, query = "/api/v1/" + path_of(route), dict(given)
        if "{key}" in path:
            path = path.replace("{key}", query.pop(key_field(w.foundation.kernel.house.reads[route].input)))
        answer = w.http(person).get(path, params=query)
    else:
        method, path = route.split(" ")
        values = {
            name: value for name, value in given.items() if name not in ("query", "json", "content", "data", "headers")
        }
        path = re.sub(r"{(\w+)(:\w+)?}", lambda match: quote(values[match[1]], safe="/"), path)
        more = {name: given[name] for name in ("json", "content", "data", "headers") if name in given}
        client = w.browser(person) if browser else w.http(person)
        answer = client.request(method, path, params=given.get("query"), follow_redirects=False, **more)
    listed = answer.json().get("items") if route in READS and answer.status_code == 200 else None
    return Answer(route, person, answer.status_code, answer.text, sent, len(listed) if listed is not None else None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, found: Any, new_database: Any, wait: Any) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tenants")
    with new_database(folder) as url:
        foundation = found(folder / "home", url)
        yield World(foundation, folder, wait)
        foundation.stop()


def everything(w: World) -> Iterator[tuple[str, str, Given, bool]]:
    """(route, what each gets, input, whether a browser asks), what changes things last."""
    for table, browser in ((READS, False), (ENDPOINTS, False), (PAGES, True), (VERBS, False)):
        for route, (wanted, given) in table.items():
            yield route, wanted, given, browser


def leaks(w: World, answer: Answer) -> list[str]:
    """What of the north's private things is in an outsider's answer."""
    found = [CANARY] if CANARY in answer.text.lower() and CANARY not in answer.sent else []
    if not is_public_book(answer.route):
        found += [key for key in w.private if key in answer.text and key not in answer.sent]
    return found


def is_public_book(route: str) -> bool:
    """The evidence, by whichever door; the home page shows its latest entries."""
    return route.startswith(("evidence:", "GET /evidence", "GET /log/")) or route == "GET /"


def test_the_table_names_every_route_and_no_other(world: World) -> None:
    named = {*VERBS, *READS, *ENDPOINTS, *PAGES, *STREAMS}
    assert routes_of(world.foundation) - named == set(), "routes that the table does not name"
    assert named - routes_of(world.foundation) == set(), "rows of no route"


def test_everyone_gets_what_the_table_says_and_nothing_private_comes_out(world: World) -> None:
    wrong: list[str] = []
    for route, wanted, given, browser in everything(world):
        answers = [ask(world, route, person, given(world, person), browser=browser) for person in PEOPLE]
        got = " ".join(answer.shown for answer in answers)
        if got != wanted:
            wrong.append(f"{route}: {got} instead of {wanted}")
        for answer in answers:
            if answer.person in OUTSIDERS and (found := leaks(world, answer)):
                wrong.append(f"{route}: {answer.person} is told {found}: {answer.text[:300]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.long
def test_no_link_leads_an_outsider_to_anything_private(world: World) -> None:
    """Every page that can be reached from the home page by links is read, and says nothing of the north's."""
    for person in OUTSIDERS:
        client, seen, ahead = world.browser(person), set(), ["/"]
        while ahead and len(seen) < MOST_PAGES:
            path = ahead.pop(0)
            seen.add(path)
            answer = client.get(path, follow_redirects=True)
            assert answer.status_code < 500, path
            assert CANARY not in answer.text.lower(), (person, path)
            links = re.findall(r'href="(/[^"#]*)"', answer.text)
            ahead += [link for each in links if (link := unescape(each)) not in {*seen, *ahead} and "lang=" not in link]
        assert {"/hub", "/evidence", "/members"} < seen


def test_lineage_tells_an_outsider_that_a_source_is_there_and_nothing_else_of_it(world: World) -> None:
    for person in OUTSIDERS:
        graph = world.http(person).get("/api/v1/hub/release/lineage", params={"release": world.derived}).json()
        hidden = next(node for node in graph["nodes"] if node["revision"] == world.revision)
        assert hidden["hidden"] and not any(value for key, value in hidden.items() if key not in ("revision", "hidden"))
        for path in (f"/hub/release/{world.derived}", f"/hub/revision/{world.derived_revision}"):
            assert CANARY not in world.browser(person).get(path).text.lower()


def test_forms_refuse_the_other_tenant_as_the_api_does(world: World) -> None:
    browser, wrong = world.browser("south"), []
    for name, (wanted, given) in VERBS.items():
        want = int(wanted.split()[1])
        if want in (200, 410):  # open to all, or what is the south's own
            continue
        typed = typed_as(world.foundation.kernel.house.verbs[name].input, given(world, "south"))
        action = f"/do/{name.replace(':', '/')}"
        answer = browser.post(action, data=typed | {"csrf": world.csrf("south")})
        if answer.status_code != want or (
            CANARY in answer.text.lower().replace(str(typed).lower(), "") and CANARY not in str(typed)
        ):
            wrong.append(f"{name}: {answer.status_code} instead of {want}")
        shown = browser.get(action, params=typed)
        if shown.status_code >= 500 or (CANARY in shown.text.lower() and CANARY not in str(typed)):
            wrong.append(f"{name}: the form itself, {shown.status_code}")
    assert not wrong, "\n".join(wrong)


def typed_as(model: Any, given: Mapping[str, Any]) -> dict[str, str]:
    """An input as its form sends it: rows as `name.0.part`, other structures as JSON."""
    typed: dict[str, str] = {}
    for each in fields_of(model):
        value = given.get(each.name)
        if each.kind == "rows":
            for number, row in enumerate(value or []):
                parts = {part: value for part, value in row.items() if value is not None}
                typed |= {f"{each.name}.{number}.{part}": written(value) for part, value in parts.items()}
        elif value is not None:
            typed[each.name] = written(value)
    return typed


def written(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


@pytest.mark.long
def test_tools_refuse_the_outsiders_as_the_api_does(world: World) -> None:
    async def walk(person: str) -> list[str]:
        wrong = []
        token = {} if person == "stranger" else {"authorization": f"Bearer {world.people[person].secret}"}
        async with httpx.AsyncClient(headers=token, timeout=30, trust_env=False) as http:
            transport = streamable_http_client(world.foundation.url + "/mcp", http_client=http)
            async with McpClient(transport) as tools:
                for name, (wanted, given) in {**READS, **VERBS}.items():
                    want = wanted.split()[PEOPLE.index(person)]
                    if name == "members:signin:redeem" or (name in VERBS and want == "200"):
                        continue  # no tool; what would act once more
                    sent = given(world, person)
                    answer = await tools.call_tool(tool_name(name), sent)
                    told = Answer(name, person, 0, json.dumps(answer.structured_content), json.dumps(sent))
                    status = (answer.structured_content or {}).get("status", 200) if answer.is_error else 200
                    if str(status) != want.partition("/")[0] or leaks(world, told):
                        wrong.append(f"{person} {name}: {status} instead of {want}, {leaks(world, told)}")
        return wrong

    wrong = [each for person in OUTSIDERS for each in asyncio.run(walk(person))]
    assert not wrong, "\n".join(wrong)


def test_the_live_numbers_are_those_of_the_public(world: World) -> None:
    def first(person: str) -> str:
        with world.browser(person).stream("GET", "/live") as stream:
            return next(line for line in stream.iter_lines() if line.startswith("data:"))

    told = {person: json.loads(first(person)[5:]) for person in ("stranger", "south", "operator")}
    assert told["stranger"] == told["south"] == told["operator"]
    assert CANARY not in json.dumps(told)


def test_bytes_of_another_tenant_are_not_had_by_naming_their_digest(world: World) -> None:
    south, file = world.people["south"], world.files[1]
    asset = world.foundation.asset(south, world.south, "borrowed")
    answer = south.http.post("/api/v1/hub/revision/commit", json={"asset": asset, "message": "mine", "files": [file]})
    assert (answer.status_code, answer.json()["code"]) == (422, "hub.blob-unknown")
