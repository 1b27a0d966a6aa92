"""The world of two tenants: a north whose private things all bear one word, a south beside it, and the people between."""

from __future__ import annotations

import hmac
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from gongqi.doors.cli import laboratory
from gongqi.doors.cli.push import push_folder
from gongqi.economy.billing.models import Invoice
from gongqi.packs.shelf import shelf
from gongqi.resources.serving import drift
from gongqi.resources.serving.drifting import Change
from gongqi.resources.serving.settlement import settle_batch
from tests.sim.talk import spooled

CANARY = "kestrel"
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
        """Models that the foundation offers, keys of the north's, and what it said of the one answer that it got."""
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
        self.pack = operator("packs:pack:load", **named("eu"))["id"]
        package = {"unit": UNIT, "price": 1, "credit": 1}
        self.each(
            "package", lambda who: operator("billing:package:publish", name=f"for-{who.lower()}", **package)["id"]
        )
        operator("ledger:credit:grant", owner=self.north, unit=UNIT, amount=100)
        bought = {"org": self.north, "package": self.of["package"]["owner"]}
        self.each("subscription", lambda _who: self.keep(self.owner.verb("billing:subscription:start", **bought)))
        self.owner.verb("billing:address:set", org=self.north, name=f"{CANARY} Ltd", **ADDRESS)
        tax = {"jurisdiction": "AX", "category": "S", "rate_bp": 1900, "article": "an article"}
        buyers: dict[str, str] = dict(zip(PEOPLE, ("AD", "AE", "AF", "AG", "AI"), strict=True))
        self.each("tax", lambda who: operator("billing:tax:publish", **tax, buyer_countries=[buyers[who]])["id"])
        self._invoice()
        label = {"org": self.north, "label": f"{CANARY} key"}
        self.each("key", lambda _person: self.keep(self.owner.verb("serving:key:issue", **label)))
        key = self.owner.verb("serving:key:issue", **label)
        self.keep(key)
        model = operator("serving:route:define", **(route(self, "owner") | TERMS))
        calls = [f"gen_{number:028x}" for number in range(len(PEOPLE) + 1)]
        told = {"org": self.north, "key": key["id"], "route": model["id"], "endpoint": self.of["endpoint"]["owner"]}
        told |= {"at": int(time.time() * 1_000_000), "snapshot": 1}
        batch = {"plane": "plane-1", "segment": 0, "start": 0, "end": 1}
        records = [spooled(id=call, **told) for call in calls]
        kernel = self.foundation.kernel
        kernel.transact(lambda ctx: settle_batch(ctx, records=records, **batch), reason="test")
        self.used = calls[0]
        self.private |= set(calls)
        bearer = {"authorization": f"Bearer {key['secret']}"}

        def say(call: str) -> str:
            said = {"id": call, "agreement": model["agreement"]["sha256"], "correction": f"a {CANARY}"}

            def taken() -> Any:  # once the data plane goes by the key
                answer = httpx.post(f"{self.foundation.url}/v1/feedback", json=said, headers=bearer, trust_env=False)
                return answer.json() if answer.status_code == 202 else None

            return self.keep(self.wait(taken))

        tried = {"endpoint": self.of["endpoint"]["stranger"], "model": "new"}
        rolled = [
            operator("serving:route:define", **(route(self, "owner") | {"name": name}))["id"]
            for name in ("rolled", "back")
        ]
        self.rollout, self.other_rollout = (operator("serving:rollout:begin", route=id, **tried)["id"] for id in rolled)
        self.shadow = operator("serving:shadow:begin", route=rolled[0], **tried)["id"]
        own = route(self, "owner") | {"org": self.north, "name": "watched-model"}
        self.watched = operator("serving:route:define", **own)["id"]
        change = Change(begins=100, before=1000, after=9000, before_count=100, after_count=60)
        kernel.transact(lambda ctx: drift.tell(ctx, self.watched, "latency", change), reason="test")
        read = self.owner.read
        self.drift = self.keep(read("serving:drift:list", route=self.watched)["items"][0])
        self.inquiry = self.keep(
            self.wait(lambda: next(iter(read("ethics:inquiry:list", route=self.watched)["items"]), None))
        )
        self.said = say(calls[0])
        self.of["said"] = {person: say(call) for person, call in zip(PEOPLE, calls[1:], strict=True)}

    def _invoice(self) -> None:
        """One of a month long over; nothing was charged in it, so there is no money to give back."""
        self.invoice = "inv_" + "0" * 26
        party = {
            "org": self.north,
            "name": f"{CANARY} Ltd",
            **ADDRESS,
            "vat_id": None,
            "registration": None,
            "version": 1,
        }
        tax = {"category": "O", "rate_bp": 0, "amount": 7}
        line = tax | {"position": 1, "receiver": self.of["route"]["owner"], "item": CANARY, "net": 7}
        content = {
            "seller": party, "buyer": party, "since": "2020-01-01", "last": "2020-01-31", "lines": [line],
            "subtotals": [tax | {"basis": 7, "tax": 0, "reason": "none", "rule": None}],
        }  # fmt: skip
        row = {
            "id": self.invoice,
            "series": "I2020",
            "position": 1,
            "org": self.north,
            "month": "2020-01",
            "unit": UNIT,
        }
        row |= {"part": 0, "amount": 7, "net": 7, "tax": 0, "content": content, "evidence": "ev_none"}
        kernel = self.foundation.kernel
        kernel.transact(lambda ctx: ctx.add(Invoice(**row, issued_at=ctx.now)) and None, reason="test")
        self.private.add(self.invoice)

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


def named(pack: str) -> dict[str, str]:
    """A pack as an operator names it."""
    here = shelf()[pack]
    return {"name": pack, "version": here.version, "digest": here.digest}
