"""Two tenants and every way into the house: nobody sees or does what is not theirs.

`ROWS` says for every verb, read, page and endpoint what five people get when they reach for what belongs to the north:
a stranger, the owner of the south (another tenant, who may do everything at home), a plain member of the north, the
north's owner, and the operator. A route that is missing from the table fails the test, and so does a row without a route.

Everything private of the north has the word `CANARY` in its names, titles, texts, paths and contents, and its ids and
digests are written down. The word must never come out to the stranger or the south, by any door. Ids and digests come
out in two places only, which are public by design: the evidence (a log that hides entries proves nothing) and, as bare
ids, the lineage of what is public.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client.client import Client as McpClient
from mcp.client.streamable_http import streamable_http_client

from gongqi.doors.cli import laboratory
from gongqi.doors.cli.push import push_folder
from gongqi.doors.fields import key_field
from gongqi.doors.mcp.server import tool_name
from gongqi.doors.web.api import path_of

CANARY = "kestrel"
UNIT = "CNY-fen"
PEOPLE = ("stranger", "south", "member", "owner", "operator")
OUTSIDERS = ("stranger", "south")
SPLIT = {"service": 2000, "model": 3500, "datasets": 2500, "compute": 1000, "foundation": 1000}
TERMS = {"agreement_zh": "可回传真实结果。", "agreement_en": "True outcomes may be sent back."}
VOTE = {"choice": "approve", "rationale": f"the {CANARY} is sound"}


@dataclass
class World:
    """The north's things. What an act uses up is there once for each person: `self.of[kind][person]`."""

    foundation: Any
    folder: Path
    wait: Callable[..., Any]
    of: dict[str, dict[str, str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)

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
        self._members()
        self._public()
        self._private()
        self._served()
        self._upstream()

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
        self.each("token", lambda person: self.keep(own.verb(
            "members:token:issue", party=self.of["agent"][person], label=f"{CANARY} token", days=1)))
        self.site = self.keep(own.verb(
            "members:site:create", handle=f"{CANARY}-site", name=f"{CANARY} site", role="member", **inside))

        def invited(person: str) -> str:
            given = {"handle": f"{CANARY}-guest-{person}", "name": f"{CANARY} guest", "email": f"{CANARY}@example.org"}
            return self.keep(own.verb("members:person:create", role="member", **given, **inside))

        self.each("guest", invited)
        grants = {each["party"]: each["id"] for each in own.read("members:membership:list", limit=200, **inside)["items"]}
        self.of["membership"] = {person: grants[self.of["guest"][person]] for person in PEOPLE}
        self.session = self.foundation.sign_in(own.party).session

    def _push(self, folder: str, parts: list[laboratory.Part], slug: str, kind: str, lineage: Any = ()) -> tuple[str, str]:
        asset = self.foundation.asset(self.owner, self.north, slug, kind, visibility="public")
        kinds = {part.path: f"{part.component}:{part.license}" for part in parts}
        lineage = [{"relation": relation, "revision": revision} for relation, revision in lineage]
        made = push_folder(
            self.owner, asset, self.folder / folder, message="as it is", kinds=kinds, lineage=lineage)
        return asset, made["id"]

    def _public(self) -> None:
        """What the north gives to all: a dataset and a model, released, so that there is something to call."""
        data = laboratory.make_dataset(self.folder / "data")
        held_out = laboratory.make_evaluation_set(self.folder / "held-out")
        self.data, self.data_revision = self._push("data", data, "records", "dataset")
        _, yardstick = self._push("held-out", held_out, "yardstick", "dataset")
        source = self.folder / "data"
        parts = laboratory.train(
            [source / "data.csv"], self.folder / "model", data_card=source / "README.md", lineage=[])
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
        self.case = self._case(self.submitted)
        self.private.add(self.case)
        lineage = [{"revision": self.revision, "relation": "derived-from"}]
        open_card = f.bring(own, self.north, "README.md", card, component="data-card")
        derived = f.asset(own, self.north, "derived", visibility="public")
        self.derived_revision = own.verb(
            "hub:revision:commit", asset=derived, message="derived", files=[open_card], lineage=lineage)["id"]
        self.derived = self._release(derived, self.derived_revision, "1.0.0")
        self.derived_case = self._case(self.derived)

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
        self.private |= {self.account, self.transaction}
        self.budget = self.keep(own.verb(
            "serving:budget:set", deployment=self.deployment, org=self.north, limit_amount=5_000))
        own.verb("scenarios:agreement:sign", deployment=self.deployment, org=self.north)
        self.features = laboratory.table().features[0]
        answer = own.http.post("/v2/models/diagnosis/infer", json=infer(self.features)).json()
        self.call = answer["parameters"]["call"]
        self.private.add(self.call)
        names = laboratory.table().columns
        self.record = {"record": f"{CANARY}-2", "features": dict(zip(names, self.features, strict=True)), "label": 1}
        own.verb("scenarios:outcome:report", deployment=self.deployment, call=self.call, records=[self.record])
        self.split = self.keep(self.wait(
            lambda: next(iter(own.read("credits:split:list", call=self.call)["items"]), None)))
        self.back = self.keep(own.verb("scenarios:return:start", deployment=self.deployment, asset=self.data))
        self.wait(lambda: own.read("scenarios:return:get", self.back)["finished_at"])

    def _upstream(self) -> None:
        def offer(person: str) -> str:
            made = self.owner.verb("upstream:donation:offer", **donation(self, f"{CANARY}-gift-{person}"))
            self.private.add(made["asset"])
            return self.keep(made)

        self.each("offered", offer)
        self.each("declined", lambda person: offer(f"no-{person}"))
        self.donation = offer("kept")

    # ---- how each comes in

    def http(self, person: str) -> httpx.Client:
        if person == "stranger":
            return self.foundation.client().http
        return self.people[person].http

    def browser(self, person: str) -> httpx.Client:
        cookies = {} if person == "stranger" else {"gongqi_session": self.people[person].secret}
        headers = {"accept": "text/html", "sec-fetch-site": "same-origin"}
        return httpx.Client(base_url=self.foundation.url, cookies=cookies, headers=headers, trust_env=False)


def infer(features: Any, **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, len(features)], "data": list(features)}
    return {"inputs": [tensor]} | ({"parameters": parameters} if parameters else {})


def donation(w: World, slug: str) -> dict[str, Any]:
    return {
        "org": w.north, "slug": slug, "kind": "dataset", "title_zh": slug, "title_en": slug, "license": "CC-BY-4.0",
        "provenance": f"from a {CANARY}", "patent_scope": "donated-work", "patent_text": f"the {CANARY} pledge",
        "schedule": [{"audience": "public", "opens_at": "2027-06-01T00:00:00Z"}],
    }


Given = Callable[[World, str], Any]
KEY = "\0"  # in an endpoint's or a page's input: the query


def nothing(_w: World, _person: str) -> dict[str, Any]:
    return {}


# route → (what stranger, south, member, owner, operator get; the input). Inputs name the north's private things.
VERBS: dict[str, tuple[str, Given]] = {
    "ledger:credit:grant": ("", lambda w, p: {"owner": w.north, "unit": UNIT, "amount": 1}),
    "ledger:transaction:reverse": ("", lambda w, p: {"transaction": w.transaction, "reason": "a mistake"}),
    "members:organisation:create": ("", lambda w, p: {"handle": f"made-by-{p}", "name": "made"}),
    "members:person:create": ("", lambda w, p: {"handle": f"{CANARY}-by-{p}", "name": CANARY, "org": w.north, "role": "member"}),
    "members:agent:create": ("", lambda w, p: {"handle": f"agent-by-{p}", "name": "made", "org": w.north}),
    "members:site:create": ("", lambda w, p: {"handle": f"site-by-{p}", "name": "made", "org": w.north}),
    "members:membership:grant": ("", lambda w, p: {"party": w.of["guest"][p], "org": w.north, "role": "developer"}),
    "members:membership:end": ("", lambda w, p: {"membership": w.of["membership"][p]}),
    "members:party:suspend": ("", lambda w, p: {"party": w.of["agent"][p]}),
    "members:party:restore": ("", lambda w, p: {"party": w.of["suspended"][p]}),
    "members:token:revoke": ("", lambda w, p: {"token": w.of["token"][p]}),
    "members:token:issue": ("", lambda w, p: {"party": w.of["suspended"]["stranger"], "label": "made"}),
    "members:signin:redeem": ("", lambda w, p: {"secret": "gql_nobodys"}),
    "members:signin:link": ("", lambda w, p: {"party": w.of["guest"]["stranger"]}),
    "members:password:set": ("", lambda w, p: {"password": "a long way round the hill"}),
    "members:session:end": ("", lambda w, p: {"session": w.session}),
    "hub:asset:create": ("", lambda w, p: {"org": w.north, "slug": f"{CANARY}-{p}", "kind": "code", "title_zh": CANARY, "title_en": CANARY}),
    "hub:asset:edit": ("", lambda w, p: {"asset": w.dataset, "title_en": f"{CANARY} edited"}),
    "hub:asset:open": ("", lambda w, p: {"asset": w.dataset, "visibility": "private"}),
    "hub:revision:commit": ("", lambda w, p: {"asset": w.dataset, "message": f"{CANARY} {p}", "files": w.files}),
    "hub:release:draft": ("", lambda w, p: {"asset": w.dataset, "revision": w.revision, "name": f"by-{p}"}),
    "hub:release:submit": ("", lambda w, p: {"release": w.of["draft"][p]}),
    "hub:release:publish": ("", lambda w, p: {"release": w.submitted}),
    "hub:release:withdraw": ("", lambda w, p: {"release": w.of["withdrawn"][p], "reason": CANARY}),
    "serving:deployment:create": ("", lambda w, p: {"release": w.release, "name": f"by-{p}", "org": w.north, "unit": UNIT, "price_per_row": 1} | TERMS),
    "serving:deployment:upgrade": ("", lambda w, p: {"deployment": w.hosted, "release": w.release}),
    "serving:deployment:reprice": ("", lambda w, p: {"deployment": w.hosted, "price_per_row": 4}),
    "serving:deployment:retire": ("", lambda w, p: {"deployment": w.hosted}),
    "serving:budget:set": ("", lambda w, p: {"deployment": w.deployment, "org": w.north, "limit_amount": 4_000}),
    "ethics:vote:cast": ("", lambda w, p: {"case": w.case} | VOTE),
    "ethics:recusal:declare": ("", lambda w, p: {"case": w.case, "reason": CANARY}),
    "ethics:case:open": ("", lambda w, p: {"release": w.submitted, "reason": CANARY}),
    "ethics:condition:confirm": ("", lambda w, p: {"case": w.case, "number": 1, "finding": CANARY}),
    "upstream:donation:offer": ("", lambda w, p: donation(w, f"{CANARY}-by-{p}")),
    "upstream:donation:accept": ("", lambda w, p: {"donation": w.of["offered"][p]}),
    "upstream:donation:decline": ("", lambda w, p: {"donation": w.of["declined"][p], "reason": CANARY}),
    "scenarios:agreement:sign": ("", lambda w, p: {"deployment": w.deployment, "org": w.north}),
    "scenarios:outcome:report": ("", lambda w, p: {"deployment": w.deployment, "call": w.call, "records": [w.record]}),
    "scenarios:return:start": ("", lambda w, p: {"deployment": w.deployment, "asset": w.data}),
    "credits:policy:publish": ("", lambda w, p: SPLIT),
}
READS: dict[str, tuple[str, Given]] = {
    "evidence:entry:list": ("", lambda w, p: {"subject": w.dataset}),
    "evidence:entry:get": ("", lambda w, p: {"entry": w.entry}),
    "evidence:entry:proof": ("", lambda w, p: {"entry": w.entry}),
    "evidence:log:checkpoint": ("", nothing),
    "evidence:log:consistency": ("", lambda w, p: {"old": 1, "new": 2}),
    "evidence:log:keys": ("", nothing),
    "evidence:private:get": ("", lambda w, p: {"entry": w.entry}),
    "ledger:account:get": ("", lambda w, p: {"account": w.account}),
    "ledger:account:list": ("", lambda w, p: {"owner": w.north}),
    "ledger:account:statement": ("", lambda w, p: {"account": w.account}),
    "ledger:transaction:get": ("", lambda w, p: {"transaction": w.transaction}),
    "ledger:book:check": ("", nothing),
    "members:party:list": ("", lambda w, p: {"org": w.north}),
    "members:party:get": ("", lambda w, p: {"party": w.site}),
    "members:membership:list": ("", lambda w, p: {"org": w.north}),
    "members:me:show": ("", nothing),
    "members:token:list": ("", lambda w, p: {"party": w.of["agent"]["owner"]}),
    "members:session:list": ("", nothing),
    "hub:asset:list": ("", lambda w, p: {"org": w.north, "limit": 200}),
    "hub:asset:get": ("", lambda w, p: {"asset": w.dataset}),
    "hub:revision:list": ("", lambda w, p: {"asset": w.dataset}),
    "hub:revision:get": ("", lambda w, p: {"revision": w.revision}),
    "hub:release:list": ("", lambda w, p: {"asset": w.dataset}),
    "hub:release:get": ("", lambda w, p: {"release": w.published}),
    "hub:release:check": ("", lambda w, p: {"release": w.published}),
    "hub:release:lineage": ("", lambda w, p: {"release": w.published}),
    "serving:deployment:list": ("", nothing),
    "serving:deployment:get": ("", lambda w, p: {"deployment": w.deployment}),
    "serving:budget:list": ("", lambda w, p: {"org": w.north}),
    "serving:call:list": ("", lambda w, p: {"org": w.north}),
    "serving:call:get": ("", lambda w, p: {"call": w.call}),
    "compliance:verdict:show": ("", lambda w, p: {"release": w.published}),
    "ethics:case:list": ("", lambda w, p: {"release": w.submitted}),
    "ethics:case:get": ("", lambda w, p: {"case": w.case}),
    "ethics:evaluation:get": ("", lambda w, p: {"release": w.submitted}),
    "upstream:donation:list": ("", lambda w, p: {"org": w.north}),
    "upstream:donation:get": ("", lambda w, p: {"donation": w.donation}),
    "upstream:pledge:list": ("", nothing),
    "standards:rule:list": ("", nothing),
    "scenarios:agreement:list": ("", lambda w, p: {"deployment": w.deployment}),
    "scenarios:outcome:list": ("", lambda w, p: {"deployment": w.deployment}),
    "scenarios:return:list": ("", lambda w, p: {"asset": w.data}),
    "scenarios:return:get": ("", lambda w, p: {"back": w.back}),
    "credits:policy:list": ("", nothing),
    "credits:policy:get": ("", lambda w, p: {"policy": w.policy}),
    "credits:split:list": ("", lambda w, p: {"call": w.call}),
    "credits:split:get": ("", lambda w, p: {"split": w.split}),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, found: Any, new_database: Any, wait: Any) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tenants")
    with new_database(folder) as url:
        foundation = found(folder / "home", url)
        yield World(foundation, folder, wait)
        foundation.stop()


def test_w(world):
    import time
    w = world
    w.policy = w.foundation.operator.read("credits:policy:list")["items"][0]["id"]
    w.entry = w.foundation.operator.read("evidence:entry:list", subject=w.donation)["items"][0]["id"]
    for name,(c,given) in {**READS, **VERBS}.items():
        out=[]
        leak=[]
        for p in PEOPLE:
            g=given(w,p)
            if name in READS:
                model=w.foundation.kernel.house.reads[name].input
                path="/api/v1/"+path_of(name)
                if path.endswith("{key}"):
                    path=path.replace("{key}", g[key_field(model)]); g={}
                a=w.http(p).get(path, params=g)
            else:
                a=w.http(p).post("/api/v1/"+path_of(name), json=g)
            n=""
            try:
                d=a.json()
                n="/%d"%len(d["items"]) if "items" in d else ""
                if a.status_code>=400 and d["code"] not in ("access.not-found","access.forbidden","access.sign-in-needed"): n="("+d["code"]+")"
            except Exception: pass
            out.append(str(a.status_code)+n)
            if p in OUTSIDERS:
                if CANARY in a.text.lower() : leak.append(p+":"+a.text[:300])
                ids=[x for x in w.private if x in a.text and x not in json.dumps(given(w,p))]
                if ids: leak.append(p+" ids "+str(ids)+a.text[:200])
        print(name, " ".join(out), *leak, sep=" | ")
