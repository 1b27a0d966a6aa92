"""Bad input through the door: each gets a clear error in both languages, loses nothing, leaves nothing half-visible."""

from __future__ import annotations

import json
import pickle
import re
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from hashlib import sha256
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import sqlalchemy

from gongqi.doors.cli import laboratory
from gongqi.doors.cli.push import push_folder
from gongqi.kernel import clock as machine
from gongqi.kernel.db import Base
from gongqi.kernel.flows import FlowRow

UNIT = "CNY-fen"
# What the machinery writes on its own account, or in order to refuse: nothing that anybody sees as a fact.
RESTLESS = re.compile(r"flow|step|checkpoint|attempt|session|idempotency|sign_in_link|^event$")
HAN = re.compile(r"[\u4e00-\u9fff]")
WRITES, CONNECTIONS = 1_000, 16


class Place:
    """A foundation with a donor's organisation, two reviewers and a third who belongs to the donor; a served model."""

    def __init__(self, foundation: Any, folder: Path, wait: Callable[..., Any]) -> None:
        self.foundation, self.folder, self.wait = foundation, folder, wait
        self.operator = foundation.operator
        self.org = foundation.organisation("donor")
        self.owner = foundation.person("donor-owner", self.org, "owner")
        self.reviewers = [foundation.person(f"reviewer-{number}", "*", "reviewer") for number in (1, 2)]
        self.biased = foundation.person("reviewer-3", "*", "reviewer")
        self.operator.verb("members:membership:grant", party=self.biased.party, org=self.org, role="member")
        self.operator.verb(
            "credits:policy:publish", service=2000, model=3500, datasets=2500, compute=1000, foundation=1000
        )
        self.card = (laboratory.make_dataset(folder / "data") and folder / "data" / "README.md").read_bytes()
        self.numbers = iter(range(1, 1000))

    def asset(self, kind: str = "dataset") -> str:
        return self.foundation.asset(self.owner, self.org, f"asset-{next(self.numbers)}", kind, visibility="public")

    def revision(self, card: bytes | None = None, **licences: str) -> tuple[str, str]:
        """(asset, revision) of a dataset; `data=` is the licence of its table."""
        asset = self.asset()
        files = [
            self.bring("README.md", card or self.card, component="data-card"),
            self.bring("data.csv", b"record,a,ill\nr-1,1,0\n", component="datasets", license=licences.get("data")),
        ]
        made = self.owner.verb("hub:revision:commit", asset=asset, message="as it is", files=files)
        return asset, made["id"]

    def bring(self, path: str, content: bytes, **more: Any) -> dict[str, Any]:
        return self.foundation.bring(self.owner, self.org, path, content, **more)

    def put(self, path: str, content: bytes, digest: str | None = None, **headers: str) -> httpx.Response:
        return self.foundation.put(
            self.owner, self.org, path, content, digest or sha256(content).hexdigest(), **headers
        )

    def submitted(self, asset: str, revision: str, name: str = "1.0.0") -> str:
        release = self.owner.verb("hub:release:draft", asset=asset, revision=revision, name=name)["id"]
        self.owner.verb("hub:release:submit", release=release)
        return release

    def case(self, release: str) -> str:
        def look() -> str | None:
            items = self.operator.read("ethics:case:list", release=release)["items"]
            return items[0]["id"] if items else None

        return self.wait(look)

    def approved(self) -> str:
        """A dataset's release that only waits to be published."""
        release = self.submitted(*self.revision())
        case = self.case(release)
        for reviewer in self.reviewers:
            reviewer.verb("ethics:vote:cast", case=case, choice="approve", rationale="sound")
        return release

    def serve(self) -> None:
        """Donate, review and deploy the worked example's model as `diagnosis`; fund the donor to call it."""
        data, held_out, model = (self.folder / name for name in ("data", "held-out", "model"))
        pushed = []
        for folder, parts in (
            (data, laboratory.make_dataset(data)),
            (held_out, laboratory.make_evaluation_set(held_out)),
        ):
            pushed.append(self._push(self.asset(), folder, parts, []))
        parts = laboratory.train([data / "data.csv"], model, data_card=data / "README.md", lineage=[])
        lineage = zip(pushed, ("trained-on", "evaluated-on"), strict=True)
        asset = self.asset("model")
        revision = self._push(asset, model, parts, [{"revision": r, "relation": how} for r, how in lineage])
        release = self.submitted(asset, revision)

        def evaluated() -> bool | None:
            answer = self.operator.http.get(f"/api/v1/ethics/evaluation/{release}")
            return True if answer.status_code == 200 and answer.json()["state"] == "done" else None

        self.wait(evaluated)
        case = self.case(release)
        for reviewer in self.reviewers:
            reviewer.verb("ethics:vote:cast", case=case, choice="approve", rationale="sound")
        self.operator.verb("hub:release:publish", release=release)
        home = self.operator.read("members:party:list", handle="foundation")["items"][0]["id"]
        self.deployment = self.operator.verb(
            "serving:deployment:create", release=release, name="diagnosis", org=home, unit=UNIT, price_per_row=3,
            agreement_zh="可回传真实结果。", agreement_en="True outcomes may be sent back.",
        )["id"]  # fmt: skip
        self.operator.verb("ledger:credit:grant", owner=self.org, unit=UNIT, amount=1_000)
        self.wait(self._has_come_to_rest)

    def _has_come_to_rest(self) -> bool | None:
        """Whether nothing is under way: what writes the documents of the release would look like what is refused."""
        with self.foundation.kernel.db.reading() as session:
            is_due = FlowRow.wake_at <= self.foundation.kernel.clock.now()
            busy = sqlalchemy.select(FlowRow.id).where(FlowRow.state == "open", is_due | FlowRow.owner.is_not(None))
            return None if session.scalars(busy).first() else True

    def _push(self, asset: str, folder: Path, parts: Any, lineage: list[dict[str, str]]) -> str:
        kinds = {part.path: f"{part.component}:{part.license}" for part in parts}
        return push_folder(self.owner, asset, folder, message="as it is", kinds=kinds, lineage=lineage)["id"]

    def standing(self) -> dict[str, int]:
        """How many rows each table holds: what a refusal must leave as it was."""
        with self.foundation.kernel.db.reading() as session:
            there = sqlalchemy.inspect(session.connection()).get_table_names()
            return {
                table.name: session.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(table))
                for table in (mapper.class_.__table__ for mapper in Base.registry.mappers)
                if table.name in there and not RESTLESS.search(table.name)
            }

    def halves(self) -> list[str]:
        """Files that are not whole: uploads that were begun."""
        return [
            path.name for path in (self.foundation.settings.home / "blobs" / "incoming").rglob("*") if path.is_file()
        ]

    def refuses(self, code: str, status: int, ask: Callable[[], httpx.Response]) -> dict[str, Any]:
        """`ask` is refused with `code`, worded in both languages, and everything is as before."""
        self.wait(self._has_come_to_rest)
        before = self.standing()
        answer = ask()
        assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text[:500]
        problem = answer.json()
        assert problem["request_id"] == answer.headers["x-request-id"]
        zh, en = problem["localized"]["zh"], problem["localized"]["en"]
        for part in ("detail", "remedy"):
            assert HAN.search(zh[part]) and en[part] and not HAN.search(en[part]), problem
            assert "{" not in zh[part] + en[part], "a parameter that was not filled in"
        assert problem["detail"] == en["detail"]
        assert self.standing() == before
        assert self.halves() == []
        return problem


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, found: Any, new_database: Any, wait: Any) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("bad-input")
    with new_database(folder) as url:
        foundation = found(folder / "home", url)
        yield Place(foundation, folder, wait)
        foundation.stop()


@pytest.fixture(scope="module")
def serving(place: Place) -> Place:
    place.serve()
    return place


# ---- licences --------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("licence", "reason"),
    [("Mine-1.0", "compliance.license-unknown"), ("Apache-2.0", "compliance.license-contradiction")],
)
def test_a_licence_that_is_unknown_or_contradicts_the_card_is_told_at_the_gate(
    place, licence: str, reason: str
) -> None:
    release = place.submitted(*place.revision(data=licence))
    case = place.case(release)
    for reviewer in place.reviewers:
        reviewer.verb("ethics:vote:cast", case=case, choice="approve", rationale="sound")
    problem = place.refuses(
        "hub.gates-denied",
        409,
        lambda: place.operator.http.post("/api/v1/hub/release/publish", json={"release": release}),
    )
    assert reason in problem["params"]["reasons"]
    checked = place.operator.read("hub:release:check", release=release)
    told = next(answer for answer in checked["answers"] if answer["reason"] == reason)
    assert told["decision"] == "deny" and HAN.search(told["zh"]) and told["en"] and not HAN.search(told["en"])
    assert place.operator.read("hub:release:get", release)["state"] == "submitted"
    stranger = place.foundation.client()
    assert stranger.http.get(f"/api/v1/hub/release/{release}/bundle").status_code in (404, 409)


# ---- uploads ---------------------------------------------------------------------------------------------------------


def bomb() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", b"\0" * (32 << 20))
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("model.pkl", lambda: pickle.dumps({"weights": [1, 2]}), "hub.pickle"),
        ("weights.bin", lambda: pickle.dumps(print), "hub.pickle"),
        ("data.zip", bomb, "hub.archive-bomb"),
        ("../card.md", lambda: b"up", "hub.path-traversal"),
        ("a/../../b.txt", lambda: b"up", "hub.path-traversal"),
    ],
)
def test_an_upload_that_could_do_harm_is_refused(place, path: str, content: Callable[[], bytes], code: str) -> None:
    made = content()
    place.refuses(code, 422, lambda: place.put(path, made))
    asset = place.asset()
    listed = [{"path": "harmless.txt", "sha256": sha256(made).hexdigest()}]
    place.refuses(
        "hub.blob-unknown", 422,
        lambda: place.owner.http.post(
            "/api/v1/hub/revision/commit", json={"asset": asset, "message": "by a way round", "files": listed}
        ),
    )  # fmt: skip


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname"])
def test_an_onnx_file_with_data_outside_the_asset_is_refused(place, location: str) -> None:
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [tensor])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    place.refuses("hub.onnx-external-outside", 422, lambda: place.put("model.onnx", content))


def test_a_wrong_digest_is_refused_and_the_right_one_is_told(place) -> None:
    content = b"these bytes and no others"
    problem = place.refuses("kernel.digest-mismatch", 422, lambda: place.put("note.txt", content, "0" * 64))
    assert problem["params"]["got"] == sha256(content).hexdigest()
    assert place.put("note.txt", content).status_code == 201


@pytest.mark.heavy
def test_an_upload_cut_at_any_tenth_leaves_nothing_and_can_be_sent_again(place) -> None:
    content = b"half of this " * 100_000
    digest = sha256(content).hexdigest()
    before = place.standing()
    head = (
        f"PUT /api/v1/hub/blob/{digest}?org={place.org}&path=half.txt HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer {place.owner.secret}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    for tenth in range(1, 10):
        with socket.create_connection(("127.0.0.1", place.foundation.port)) as line:
            line.sendall(head.encode() + content[: len(content) * tenth // 10])
            time.sleep(0.1)
        place.wait(lambda: True if not place.halves() else None, seconds=10)
        assert place.standing() == before
    shorter = content[:1000]
    place.refuses("kernel.digest-mismatch", 422, lambda: place.put("half.txt", shorter, digest))
    assert place.put("half.txt", content, digest).status_code == 201


# ---- doing it twice --------------------------------------------------------------------------------------------------


def test_an_idempotency_key_acts_once_and_is_not_had_for_another_act(place) -> None:
    def create(handle: str) -> httpx.Response:
        given = {"handle": handle, "name": "once"}
        return place.operator.http.post(
            "/api/v1/members/organisation/create", json=given, headers={"idempotency-key": "the-same"}
        )

    first = create("once")
    before = place.standing()
    assert create("once").json() == first.json()
    assert place.standing() == before
    place.refuses("kernel.idempotency-key-reused", 409, lambda: create("twice"))
    assert place.operator.read("members:party:list", handle="twice")["items"] == []


def test_two_operators_who_publish_the_same_release_at_once_publish_it_once(place) -> None:
    release = place.approved()
    second = place.foundation.sign_in(place.operator.read("members:me:show")["id"])
    start, answers = threading.Barrier(2), []

    def publish(client: Any) -> None:
        start.wait()
        answers.append(client.http.post("/api/v1/hub/release/publish", json={"release": release}))

    threads = [threading.Thread(target=publish, args=(client,)) for client in (place.operator, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    loser = next(answer for answer in answers if answer.status_code == 409).json()
    assert loser["code"] == "hub.release-already-published"
    assert HAN.search(loser["localized"]["zh"]["detail"]) and loser["localized"]["en"]["detail"]
    published = place.operator.read("evidence:entry:list", kind="hub.release-published", subject=release)["items"]
    assert len(published) == 1


@pytest.mark.heavy
def test_a_thousand_small_writes_at_once_are_all_there(place) -> None:
    """Real connections, as many at once as a busy day has; what was acknowledged is there, once."""
    before = {each["handle"] for each in place.operator.every("members:party:list", kind="organisation", limit=200)}
    clients = [place.foundation.client(place.foundation.token).http for _ in range(CONNECTIONS)]

    def work(lane: int) -> list[str]:
        done = []
        for number in range(lane, WRITES, CONNECTIONS):
            handle = f"small-{number}"
            answer = clients[lane].post("/api/v1/members/organisation/create", json={"handle": handle, "name": handle})
            assert answer.status_code == 200, answer.text
            done.append(answer.json()["id"])
        return done

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        ids = [each for done in pool.map(work, range(CONNECTIONS)) for each in done]
    assert len(set(ids)) == WRITES
    found = list(place.operator.every("members:party:list", kind="organisation", limit=200))
    assert {each["handle"] for each in found} - before == {f"small-{number}" for number in range(WRITES)}
    assert set(ids) <= {each["id"] for each in found}
    kind = "members.organisation-created"
    written = [each["subject"] for each in place.operator.every("evidence:entry:list", kind=kind, limit=200)]
    assert sorted(written) == sorted({*written}) and set(ids) <= {*written}


# ---- votes -----------------------------------------------------------------------------------------------------------


def vote(client: Any, case: str, choice: str = "approve") -> httpx.Response:
    return client.http.post(
        "/api/v1/ethics/vote/cast", json={"case": case, "choice": choice, "rationale": "it is ours"}
    )


def test_the_donors_own_organisation_does_not_vote(place) -> None:
    case = place.case(place.submitted(*place.revision()))
    place.refuses("ethics.conflict-of-interest", 403, lambda: vote(place.biased, case))
    place.refuses("ethics.conflict-of-interest", 403, lambda: vote(place.owner, case))
    assert place.operator.read("ethics:case:get", case)["state"] == "open"


class Calendar(machine.SystemClock):
    """The machine's clock, some days ahead."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.mark.heavy
def test_a_vote_after_closing_is_refused(found: Any, tmp_path: Path, database_url: str, wait: Any) -> None:
    calendar = Calendar()
    foundation = found(tmp_path / "home", database_url, clock=calendar)
    try:
        place = Place(foundation, tmp_path, wait)
        case = place.case(place.approved())
        calendar.ahead = timedelta(days=60)
        late = foundation.back("reviewer-1")  # two months later one signs in again
        before = place.operator.read("ethics:case:get", case)
        place.refuses("ethics.voting-closed", 409, lambda: vote(late, case, "refuse"))
        assert place.operator.read("ethics:case:get", case)["votes"] == before["votes"]
    finally:
        foundation.stop()


# ---- the machine's clock ---------------------------------------------------------------------------------------------


@pytest.fixture
def machine_clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the machine, which somebody sets wrong by `off_seconds`."""
    shaken = SimpleNamespace(off_seconds=0.0, monotonic=time.monotonic)
    shaken.time = lambda: time.time() + shaken.off_seconds
    monkeypatch.setattr(machine, "time", shaken)
    return shaken


def test_a_clock_that_jumps_back_turns_nothing_round(place, machine_clock) -> None:
    made = []
    for number, off_seconds in enumerate((0.0, -86_400.0, -86_400.0, 0.0, -3.0)):
        machine_clock.off_seconds = off_seconds
        made.append(place.foundation.organisation(f"shaken-{number}"))
    assert made == sorted(made), "ids sort as they were made"
    kind = "members.organisation-created"

    def sequenced() -> list[dict[str, Any]] | None:
        items = place.operator.read("evidence:entry:list", kind=kind, limit=5)["items"]
        return items if all(each["index"] is not None for each in items) else None

    entries = sorted(place.wait(sequenced), key=lambda each: each["index"])
    assert [each["subject"] for each in entries] == made
    times = [datetime.fromisoformat(each["at"]) for each in entries]
    assert times == sorted(times)
    assert times[-1] - times[0] < timedelta(minutes=1)


# ---- calls -----------------------------------------------------------------------------------------------------------


def infer(place: Place, content: Any, **headers: str) -> httpx.Response:
    headers = {"content-type": "application/json"} | headers
    return place.owner.http.post("/v2/models/diagnosis/infer", content=content, headers=headers)


def tensor(**change: Any) -> bytes:
    """A right request for one record, or what `change` makes of it."""
    right = {"name": "features", "datatype": "FP32", "shape": [1, 30], "data": list(laboratory.table().features[0])}
    return json.dumps({"inputs": [right | change]}).encode()


@pytest.mark.heavy
def test_a_budget_of_zero_allows_no_call_and_one_above_does(serving) -> None:
    place = serving

    def budget(limit_amount: int) -> None:
        place.owner.verb("serving:budget:set", deployment=place.deployment, org=place.org, limit_amount=limit_amount)

    place.refuses("serving.budget-missing", 402, lambda: infer(place, tensor()))
    budget(0)
    place.refuses("serving.budget-zero", 402, lambda: infer(place, tensor()))
    budget(2)
    place.refuses("serving.budget-exceeded", 402, lambda: infer(place, tensor()))
    budget(3)
    answer = infer(place, tensor())
    assert answer.status_code == 200
    call = answer.json()["parameters"]["call"]
    place.wait(lambda: place.operator.read("credits:split:list", call=call)["items"] or None)
    place.refuses("serving.budget-exceeded", 402, lambda: infer(place, tensor()))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (lambda: tensor(shape=[1, 29], data=[0.5] * 29), 422, "serving.shape-differs"),
        (lambda: tensor(shape=[2, 30]), 422, "serving.element-count"),
        (lambda: tensor(datatype="FP64"), 422, "serving.datatype-differs"),
        (lambda: tensor(datatype="COMPLEX64"), 422, "serving.datatype-unknown"),
        (lambda: tensor(data=["text"] * 30), 422, "serving.data-mistyped"),
        (lambda: tensor(data=[float("nan")] * 30), 422, "serving.number-not-finite"),
        (lambda: tensor(data=[1e39] * 30), 422, "serving.number-out-of-range"),
        (lambda: b'{"inputs": [', 400, "serving.request-malformed"),
    ],
)
def test_a_call_that_is_not_as_the_model_takes_it_costs_nothing(serving, content, status: int, code: str) -> None:
    place = serving
    place.owner.verb("serving:budget:set", deployment=place.deployment, org=place.org, limit_amount=900)
    place.refuses(code, status, lambda: infer(place, content()))


@pytest.mark.heavy
@pytest.mark.parametrize("declared", [True, False])
def test_a_call_of_a_hundred_megabytes_is_refused_long_before_it_has_come(serving, declared: bool) -> None:
    """Declared, it is refused before a byte of it; undeclared, as soon as it is more than is ever taken."""
    size, piece = 100 << 20, b"0," * (1 << 19)

    def ask() -> httpx.Response:
        with socket.create_connection(("127.0.0.1", serving.foundation.port), timeout=30) as line:
            length = f"content-length: {size}" if declared else "transfer-encoding: chunked"
            head = (
                "POST /v2/models/diagnosis/infer HTTP/1.1", "host: 127.0.0.1", "accept-language: en",
                f"authorization: Bearer {serving.owner.secret}", "content-type: application/json", length,
            )  # fmt: skip
            line.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
            for _ in range(0 if declared else 10):
                line.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            reply = HTTPResponse(line)
            reply.begin()
            return httpx.Response(reply.status, headers=dict(reply.headers), content=reply.read())

    problem = serving.refuses("kernel.body-too-large", 413, ask)
    assert problem["params"]["limit_bytes"] < 10 * len(piece)
