"""A small market: a hospital gives data, a laboratory a model, the foundation serves it, an application pays for it.

Everything goes through verbs. The model is a real ONNX graph over two columns: score = a + b, label = score > 1.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.ledger import service as ledger
from gongqi.kernel.access import FOUNDATION, Actor
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, execute, query
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.assets import AddBlob, add_blob
from gongqi.resources.serving import service as serving
from gongqi.resources.serving.engine import Engine

UNIT = "CNY-fen"
PRICE = 3
CARD = "---\nlicense: CC-BY-4.0\n---\n# {title}\n"
COLUMNS = ("a", "b")
TABLE = "record,a,b,ill\nr-1,0.25,0.5,0\nr-2,1.5,2.0,1\n"
ROOMS = ("books.evidence", "books.ledger", "members", "resources.hub", "resources.serving")


OPERATOR = Actor("per_operator", "person", "Operator", grants={FOUNDATION: frozenset({"*"})})


@cache
def onnx_model(bias: float = 0.0) -> bytes:
    """features FP32 [N, 2] -> label INT64 [N], score FP32 [N]."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["features", "axes"], ["sum"], keepdims=0),
            helper.make_node("Add", ["sum", "bias"], ["score"]),
            helper.make_node("Greater", ["score", "one"], ["above"]),
            helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
        ],
        "sum",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("bias", TensorProto.FLOAT, [], [bias]),
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def body(rows: Sequence[Sequence[float]], **more: Any) -> bytes:
    """An inference request for the model above."""
    flat = [value for row in rows for value in row]
    tensor = {"name": "features", "shape": [len(rows), 2], "datatype": "FP32", "data": flat}
    return orjson.dumps({"inputs": [tensor], **more})


def house(*rooms: str) -> House:
    """The rooms that a market stands on, and more of them by module, such as `economy.credits`."""
    modules = [importlib.import_module(f"gongqi.{name}.room") for name in (*ROOMS, *rooms)]
    web = Path(importlib.import_module("gongqi.doors.web").__file__ or "").parent
    return House.build([module.ROOM for module in modules], VOCABULARY, web.parent / "words.toml", web / "words.toml")


def prepare(kernel: Kernel) -> Kernel:
    kernel.parts[SigningKeys] = SigningKeys.generate()
    kernel.parts[Engine] = Engine(kernel.blobs)
    return kernel


@dataclass
class Market:
    """One kernel and its people. Roles: hospital, laboratory, application, foundation."""

    kernel: Kernel
    orgs: dict[str, str] = field(default_factory=dict)
    operator: Actor = OPERATOR

    def __post_init__(self) -> None:
        for role in ("foundation", "hospital", "laboratory", "application"):
            made = self.do(self.operator, "members:organisation:create", handle=role, name=role.title())
            self.orgs[role] = made.id

    def owner(self, role: str, *grants: str) -> Actor:
        org = self.orgs[role]
        given = {org: frozenset(grants or {"*"})}
        return Actor(f"per_{role}", "person", role.title(), grants=given, orgs=frozenset({org}))

    def do(self, actor: Actor, verb: str, *, key: str | None = None, if_match: str | None = None, **values: Any) -> Any:
        declared = self.kernel.house.verbs[verb]
        caller = Caller(actor, idempotency_key=key, if_match=if_match)
        return execute(self.kernel, declared, caller, declared.input.model_validate(values))

    def ask(self, actor: Actor, read: str, **values: Any) -> Any:
        declared = self.kernel.house.reads[read]
        return query(self.kernel, declared, Caller(actor), declared.input.model_validate(values))

    def work(self, *, sweep: bool = False) -> None:
        """Everything that is due now, on this thread; what a schedule begins only to `sweep`, for that is most of it."""
        house = self.kernel.house
        self.kernel.house = house if sweep else replace(house, schedules=())
        Worker(self.kernel).run_until_idle()
        self.kernel.house = house

    # --- upstream

    def bring(self, role: str, path: str, content: bytes, component: str | None = None) -> dict[str, Any]:
        digest = sha256(content).hexdigest()
        self.kernel.blobs.put(content, sha256=digest)
        seen = hub.inspect_blob(self.kernel.blobs, digest, path)
        given = AddBlob(
            org=self.orgs[role], sha256=digest, name=seen.name, size=seen.size, findings=list(seen.findings),
            external=list(seen.external),
        )  # fmt: skip
        execute(self.kernel, add_blob, Caller(self.owner(role)), given)
        return {"path": path, "sha256": digest, "component": component}

    def asset(self, role: str, slug: str, kind: str, visibility: str = "public") -> str:
        titles = {"title_zh": slug, "title_en": slug}
        values = {"org": self.orgs[role], "slug": slug, "kind": kind, "visibility": visibility}
        return self.do(self.owner(role), "hub:asset:create", **values, **titles).id

    def revision(
        self, role: str, asset: str, files: Sequence[dict[str, Any]], lineage: Sequence[tuple[str, str]] = ()
    ) -> str:
        last = self.kernel.look(lambda ctx: hub.latest_revision(ctx, asset))
        card = self.bring(role, "README.md", CARD.format(title=asset).encode(), "data-card")
        made = self.do(
            self.owner(role), "hub:revision:commit", asset=asset, message="as it is", files=[*files, card],
            lineage=[{"revision": revision, "relation": relation} for revision, relation in lineage],
            parent=last.number if last else None,
        )  # fmt: skip
        return made.id

    def dataset(self, role: str = "hospital", slug: str = "records", table: str = TABLE) -> tuple[str, str]:
        asset = self.asset(role, slug, "dataset")
        return asset, self.revision(role, asset, [self.bring(role, "data.csv", table.encode(), "datasets")])

    def model(
        self, lineage: Sequence[tuple[str, str]], role: str = "laboratory", slug: str = "diagnosis",
        content: bytes | None = None,
    ) -> tuple[str, str]:  # fmt: skip
        """(asset, revision)."""
        asset = self.asset(role, slug, "model")
        file = self.bring(role, "model.onnx", content or onnx_model(), "parameters")
        return asset, self.revision(role, asset, [file], lineage)

    def release(self, role: str, asset: str, revision: str, name: str = "1.0.0") -> str:
        draft = self.do(self.owner(role), "hub:release:draft", asset=asset, revision=revision, name=name)
        self.do(self.owner(role), "hub:release:submit", release=draft.id)
        return self.do(self.operator, "hub:release:publish", release=draft.id).id

    # --- downstream

    def deploy(self, release: str, name: str = "diagnosis", **more: Any) -> Any:
        values = {
            "release": release, "name": name, "org": self.orgs["foundation"], "unit": UNIT, "price_per_row": PRICE,
            "agreement_zh": "可回传真实结果。", "agreement_en": "True outcomes may be sent back.",
        }  # fmt: skip
        return self.do(self.operator, "serving:deployment:create", **(values | more))

    def served(self) -> Any:
        """A deployment of a model trained on the hospital's data; `self.data` is (asset, revision) of the data."""
        self.data = self.dataset()
        self.model_asset, self.model_revision = self.model([(self.data[1], "trained-on")])
        return self.deploy(self.release("laboratory", self.model_asset, self.model_revision))

    def fund(self, amount: int = 1000, role: str = "application") -> None:
        self.do(self.operator, "ledger:credit:grant", owner=self.orgs[role], unit=UNIT, amount=amount)

    def budget(self, deployment: Any, limit_amount: int = 1000, role: str = "application") -> Any:
        values = {"deployment": deployment.id, "org": self.orgs[role], "limit_amount": limit_amount}
        return self.do(self.owner(role), "serving:budget:set", **values)

    def infer(
        self, rows: Sequence[Sequence[float]] = ((1.0, 2.0),), *, name: str = "diagnosis", role: str = "application",
        key: str | None = None, actor: Actor | None = None, version: str | None = None, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        caller = Caller(actor or self.owner(role), idempotency_key=key)
        return serving.infer(self.kernel, caller, name=name, version=version, body=body(rows, **more))

    def calls(self) -> list[Any]:
        return self.ask(self.operator, "serving:call:list").items

    # --- the books

    def balance(self, owner: str, code: str = "available", unit: str = UNIT) -> int:
        account = ledger.account_id(self.orgs.get(owner, owner), unit, code)
        return self.kernel.look(lambda ctx: ledger.balance(ctx, account))

    def book_holds(self) -> bool:
        return not self.ask(self.operator, "ledger:book:check").findings

    def evidence(self, kind: str) -> list[Any]:
        return self.ask(self.operator, "evidence:entry:list", kind=kind, limit=200).items


def open_market(build: Callable[..., Kernel], *rooms: str, clock: Any = None) -> Market:
    kernel = prepare(build(house(*rooms), record=evidence.append, clock=clock))
    market = Market(kernel)
    kernel.transact(evidence.ensure, reason="start")
    return market
