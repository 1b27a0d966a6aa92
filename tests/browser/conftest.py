"""A foundation that has walked the whole chain once, served by a process of its own, and a real browser before it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

import gongqi.app
from gongqi.doors.cli.client import Client
from gongqi.doors.fields import fields_of
from gongqi.economy.billing.models import Invoice
from gongqi.kernel.config import Settings
from gongqi.resources.serving import drift
from gongqi.resources.serving.drifting import Change

CHROMIUM = os.environ.get("GONGQI_TEST_CHROMIUM", "/usr/bin/chromium")
QUIET = (  # no sandbox, because the suite may run as root in a container; nothing that calls home
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
START_SECONDS = 30.0
TOUR_SECONDS = 240.0
STEP_MILLISECONDS = 10_000
EXPECTED = "the server responded with a status of 4"  # said of every refusal, and a refusal is an answer
ASSET_PAGES = ("", "/files", "/releases", "/revisions", "/lineage", "/access", "/add")
LOCALES = {"zh": "zh-CN", "en": "en-GB"}


@dataclass
class Foundation:
    """Where it is, and what a test may do with it besides looking: only what anyone with these tokens may."""

    url: str
    home: Path
    releases: int = 0
    words: Any = field(default_factory=lambda: gongqi.app.house().words)

    server: subprocess.Popen[bytes] | None = None
    is_cut_off: bool = False

    @property
    def environment(self) -> dict[str, str]:
        own = {"GONGQI_HOME": str(self.home), "GONGQI_PORT": self.url.rpartition(":")[2], "GONGQI_URL": self.url}
        rest = {name: value for name, value in os.environ.items() if name != "GONGQI_DATABASE_URL"}
        return rest | own | {"LANG": "C.UTF-8"}

    def start(self) -> None:
        with (self.home / "server.log").open("ab") as log:
            command = (sys.executable, "-m", "gongqi", "serve")
            self.server = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        _wait(self.url, self.server, self.home)

    def stop(self) -> None:
        if self.server:
            self.server.send_signal(signal.SIGINT)
            self.server.wait(START_SECONDS)

    def kill(self) -> None:
        """As a power cut would: nothing is finished or told."""
        assert self.server
        self.server.kill()
        self.server.wait(START_SECONDS)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """While this lasts, the browser's complaints of lost connections are what a test expects."""
        self.is_cut_off = True
        yield
        self.is_cut_off = False

    @property
    def operator(self) -> Client:
        return Client(self.url, (self.home / "operator.token").read_text("ascii").strip())

    def party(self, handle: str) -> str:
        return self.operator.read("members:party:list", handle=handle)["items"][0]["id"]

    def link(self, handle: str) -> str:
        """A fresh one-time link for this person."""
        return self.operator.verb("members:signin:link", party=self.party(handle))["link"]

    def password(self, handle: str) -> str:
        """What the tour kept for this person; a reviewer must sign in with it to vote."""
        file = self.home / "tour" / "first" / f"{handle.removesuffix('-person')}.password"
        return file.read_text("ascii").strip() if file.exists() else ""

    def seat_reviewers(self) -> None:
        """The tour's reviewers sit on the board for the tour alone; here they stay for the tests."""
        for number in (1, 2):
            party = self.party(f"reviewer-{number}-person")
            self.operator.verb("members:membership:grant", party=party, org="*", role="reviewer")

    def submitted(self) -> str:
        """One more release of the hospital's dataset, waiting for the board."""
        self.releases += 1
        asset = self.operator.read("hub:asset:list", kind="dataset")["items"]
        chosen = next(each for each in asset if each["slug"] == "breast-cancer-wisconsin")["id"]
        revision = self.operator.read("hub:revision:list", asset=chosen)["items"][0]["id"]
        name = f"9.{self.releases}.0"
        release = self.operator.verb("hub:release:draft", asset=chosen, revision=revision, name=name)["id"]
        self.operator.verb("hub:release:submit", release=release)
        deadline = time.monotonic() + START_SECONDS
        while not self.operator.read("ethics:case:list", release=release)["items"]:
            assert time.monotonic() < deadline, "no case was opened"
            time.sleep(0.1)
        return release

    def inquiry(self, route: str) -> str:
        """The inquiry that a drift of a model's calls opened. Thousands of calls would lead there; the change is told here,
        as whoever looks for drift tells it, by another process on the same home."""
        told = Settings.from_environment({"GONGQI_HOME": str(self.home)})
        kernel = gongqi.app.assemble(told)
        change = Change(begins=100, before=1000, after=9000, before_count=100, after_count=60)
        kernel.transact(lambda ctx: drift.tell(ctx, route, "latency", change), reason="test")
        kernel.db.close()
        deadline = time.monotonic() + START_SECONDS
        while not (found := self.operator.read("ethics:inquiry:list", route=route)["items"]):
            assert time.monotonic() < deadline, "no inquiry was opened"
            time.sleep(0.1)
        return found[0]["id"]

    def invoice(self, org: str) -> str:
        """An invoice of a month long over, which no test can wait for: written down here as it would have been then."""
        told = Settings.from_environment({"GONGQI_HOME": str(self.home)})
        kernel = gongqi.app.assemble(told)
        party = {
            "org": org, "name": "A Party", "street": "1 North Road", "city": "Beijing", "postcode": "100000",
            "country": "CN",
            "vat_id": "CN91110000MA0000000H", "registration": "91110000MA0000000H", "version": 1,
        }  # fmt: skip
        tax = {"category": "S", "rate_bp": 600, "amount": 106}
        line = tax | {"position": 1, "receiver": "mrt_example", "item": "example", "net": 100}
        content = {
            "seller": party, "buyer": party, "since": "2020-01-01", "last": "2020-01-31", "lines": [line],
            "subtotals": [tax | {"basis": 100, "tax": 6, "reason": "增值税法第十条第三项", "rule": None}],
        }  # fmt: skip
        entry = self.operator.read("evidence:entry:list")["items"][0]["id"]
        row = {"series": "I2020", "position": 1, "org": org, "month": "2020-01", "unit": "CNY-fen", "part": 0}
        row |= {"amount": 106, "net": 100, "tax": 6, "content": content, "evidence": entry}
        made = kernel.transact(
            lambda ctx: ctx.add(Invoice(id=ctx.new_id("inv"), issued_at=ctx.now, **row)).id, reason="test"
        )
        kernel.db.close()
        return made

    def label(self, verb: str, language: str) -> str:
        return self.words.verbs[verb].label[language]

    def longest(self, verb: str, field: str) -> int:
        """How many characters this field of a verb takes."""
        return next(each for each in fields_of(gongqi.app.house().verbs[verb].input) if each.name == field).schema[
            "maxLength"
        ]

    def text(self, key: str, language: str) -> str:
        return self.words.text(key, language)


@pytest.fixture(scope="session")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foundation]:
    home = tmp_path_factory.mktemp("foundation")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Foundation(f"http://127.0.0.1:{port}", home)
    try:
        made.start()
        tour = (sys.executable, "-m", "gongqi", "tour", "--name", "first")
        walked = subprocess.run(tour, env=made.environment, capture_output=True, timeout=TOUR_SECONDS, check=False)
        assert walked.returncode == 0, walked.stdout.decode() + walked.stderr.decode()
        made.seat_reviewers()
        yield made
    finally:
        made.stop()


def _wait(url: str, server: subprocess.Popen[bytes], home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, (home / "server.log").read_text("utf-8")
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server did not answer")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def read(chromium: Browser, foundation: Foundation) -> Iterator[Callable[..., Page]]:
    """`read(language, who=…, width=…, scheme=…, javascript=…)`: a page of a reader's own browser, signed in as `who`.

    Whatever the browser complains of (a script error, a broken policy, a lost resource) fails the test, except what it
    says of an answer that a test expects.
    """
    opened, complaints = [], []

    def open_browser(
        language: str, *, who: str = "", width: int = 1280, scheme: str = "light", javascript: bool = True
    ) -> Page:
        context = chromium.new_context(
            base_url=foundation.url, locale=LOCALES[language], viewport={"width": width, "height": 900},
            color_scheme=scheme, java_script_enabled=javascript,  # type: ignore[arg-type]
        )  # fmt: skip
        opened.append(context)
        context.set_default_timeout(STEP_MILLISECONDS)
        page = context.new_page()

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and EXPECTED not in message.text and not foundation.is_cut_off:
                complaints.append(f"{page.url}: {message.text}")

        def failed(request: Request) -> None:
            if (
                request.failure != "net::ERR_ABORTED" and not foundation.is_cut_off
            ):  # a stream that ends because the reader has gone on
                complaints.append(f"{page.url}: {request.url} {request.failure}")

        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("requestfailed", failed)
        if who:
            if password := foundation.password(who):
                page.goto("/sign-in")
                page.locator("#field-handle").fill(who)
                page.locator("#field-password").fill(password)
            else:
                page.goto(foundation.link(who))
            page.locator("main button[type=submit]").click()
            page.wait_for_url(lambda url: "/sign-in" not in url)
        return page

    yield open_browser
    for context in opened:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def examples(foundation: Foundation) -> dict[str, str]:
    """A real address for every page of the house, by the path its view declares."""
    operator = foundation.operator

    def first(read: str, **query: Any) -> dict[str, Any]:
        return operator.read(read, **query)["items"][0]

    memory = json.loads((foundation.home / "tour" / "first.json").read_text("utf-8"))
    models = operator.read("hub:asset:list", kind="model", limit=200)["items"]  # other tests bring some too
    model = next(each for each in models if each["slug"] == "breast-cancer-diagnosis")
    release = first("hub:release:list", asset=model["id"])
    clearing = next(each for each in operator.every("ledger:account:list") if each["code"] == "clearing")
    statement = first("ledger:account:statement", account=clearing["id"])
    made = {
        "/evidence/entry/{key}": first("evidence:entry:list", kind="hub.release-published")["id"],
        "/ledger/account/{key}": clearing["id"],
        "/ledger/transaction/{key}": statement["transaction"],
        "/members/organisation/{key}": memory["org-hospital"],
        "/members/person/{key}": foundation.party("reviewer-1-person"),
        "/members/agent/{key}": foundation.party("agent"),
        **{f"/hub/asset/{{key}}{page}": f"{model['id']}{page}" for page in ASSET_PAGES},
        "/hub/asset/{key}/file": f"{model['id']}/file?path=train.py",
        "/hub/revision/{key}": release["revision"],
        "/hub/release/{key}": release["id"],
        "/serving/deployment/{key}": first("serving:deployment:list")["id"],
        "/serving/call/{key}": first("serving:call:list", deployment=first("serving:deployment:list")["id"])["id"],
        "/standards/policy/{name}": "release",
        "/compliance/{release}": release["id"],
        "/ethics/case/{key}": first("ethics:case:list", release=release["id"])["id"],
        "/ethics/evaluation/{release}": release["id"],
        "/upstream/donation/{key}": first("upstream:donation:list")["id"],
        "/upstream/pledge/{key}": first("upstream:pledge:list")["id"],
        "/credits/split/{key}": first("credits:split:list")["id"],
    }
    data = next(
        each for each in operator.every("hub:asset:list", kind="dataset") if each["slug"] == "breast-cancer-wisconsin"
    )
    revision = operator.read("hub:revision:list", asset=data["id"])["items"][0]["id"]
    table = operator.read("standards:table:list", revision=revision)["items"][0]["path"]
    outside = {"name": "example", "base_url": "https://models.example.org/v1"}
    target = {"endpoint": operator.verb("serving:endpoint:add", **outside)["id"], "model": "example"}
    given = {"org": memory["org-hospital"], "context_tokens": 8192, "output_tokens": 512, "licence": "Apache-2.0"}
    route = operator.verb("serving:route:define", name="example", targets=[target], **given)["id"]
    operator.verb("billing:price:publish", route=route, input_nanos=30_000, output_nanos=60_000)
    made |= {f"/serving/model/{{key}}{page}": f"{route}{page}" for page in ("", "/calls", "/try")}
    made["/ethics/inquiry/{key}"] = foundation.inquiry(route)
    made["/billing/invoice/{key}"] = foundation.invoice(memory["org-hospital"])
    month = f"{datetime.now(UTC):%Y-%m}"
    return {path: path[: path.index("{")] + key for path, key in made.items()} | {
        "/billing/statement/{org}/{month}": f"/billing/statement/{memory['org-hospital']}/{month}",
        "/hub/changes/{before}/{after}": f"/hub/changes/{revision}/{revision}",
        "/standards/table/{revision}/{path:path}": f"/standards/table/{revision}/{table}",
    }
