"""How long the console's pages take with a thousand assets in the database, and with a hundred thousand.

Each asset comes with what it brings along: bytes, a revision with its files and its source, a release with its verdict,
a donation, a review, a call, two lines in the ledger, an entry in the log; each organisation has ten people. The rows
are inserted in bulk; the server is `gongqi serve` itself. A reader asks for the same pages a stranger and the operator
see, one after the other on one connection. What is compared is the same page in the small foundation: the ratio of the
medians says whether a page is flat in the number of assets.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import SecretStr
from sqlalchemy import insert

from bench import Figure
from bench.bench_doors import free_port, server
from gongqi import app
from gongqi.books.evidence.leaves import Leaf
from gongqi.books.evidence.models import EntryRow
from gongqi.books.ledger import service as ledger
from gongqi.chain.upstream.models import Donation
from gongqi.governance.ethics.models import ReviewCase, ReviewVote
from gongqi.kernel.access import ANONYMOUS
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base
from gongqi.kernel.ids import mint
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, execute
from gongqi.kernel.worker import Worker
from gongqi.members import sessions
from gongqi.members.models import Membership, Party
from gongqi.resources.hub.catalogue import found_by
from gongqi.resources.hub.gates import RELEASE_PUBLISH
from gongqi.resources.hub.models import (
    Asset,
    Blob,
    BlobOwner,
    Catalogued,
    File,
    Inspection,
    Lineage,
    Ref,
    Release,
    ReleaseDocument,
    Revision,
)
from gongqi.resources.serving.models import Call, Deployment

SMALL, LARGE = 1_000, 100_000
FINDINGS = b'{"completeness": {"percent": 90, "missing": []}, "croissant": null}'
REQUESTS = 200
WARM = 10  # requests that compile templates and statements before anything is measured
ASSETS_PER_ORGANISATION = 100
PEOPLE_PER_ORGANISATION = 10
ASSETS_PER_DEPLOYMENT = 1_000
OPEN_CASES = 20
BATCH = 10_000  # assets filled in one transaction
NOW = datetime.now(UTC) - timedelta(days=1)
CARD = "# What this is\n\n" + "A card says what the asset is, what it is for and what it is not for.\n\n" * 30
WORDS = {"title_zh": "肿块分类", "title_en": "Tumour classifier", "summary_zh": "依测量。", "summary_en": "By thirty."}


def run() -> list[Figure]:
    small, large = measured(SMALL), measured(LARGE)
    figures = []
    for who, page in large:
        times, fewer = large[who, page], small[who, page]
        p95, before = (statistics.quantiles(each, n=20)[-1] * 1e3 for each in (times, fewer))
        ratio = statistics.median(times) / statistics.median(fewer)
        name = f"page {page} as {who}, {LARGE:,} assets, p95"
        figures.append(Figure(name, p95, "ms", "≤ 50", f"{SMALL:,} assets; ratio of medians", before, ratio))
    return figures


def measured(assets: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each request, by (reader, page)."""
    with tempfile.TemporaryDirectory() as folder:
        pages, cookie = fill(Path(folder), assets)
        port = free_port()
        command = [sys.executable, "-m", "gongqi", "serve"]
        with server(command, port, GONGQI_HOME=folder, GONGQI_PORT=str(port)):
            readers = {"stranger": {}, "operator": {"cookie": f"gongqi_session={cookie}"}}
            return {
                (who, page): ask(port, page, path, headers)
                for page, path in pages.items()
                for who, headers in readers.items()
            }


def ask(port: int, page: str, path: str, headers: Mapping[str, str]) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times = []
    for number in range(WARM + REQUESTS):
        started = time.perf_counter()
        connection.request("GET", path, headers={"accept": "text/html", **headers})
        response = connection.getresponse()
        response.read()
        if number >= WARM:
            times.append(time.perf_counter() - started)
        # An account is its owner's; to be told so takes its time too.
        if response.status not in ({404} if page == "account" and not headers else {200}):
            raise RuntimeError(f"bench: {path} answered {response.status}")
    connection.close()
    return times


# ---- the foundation ----------------------------------------------------------------------------------


def fill(home: Path, assets: int) -> tuple[dict[str, str], str]:
    """A foundation with this many assets: the pages to ask for, and a session of the operator."""
    kernel = app.assemble(Settings.from_environment({"GONGQI_HOME": str(home)}))
    link = app.prepare(kernel)
    secret = SecretStr(link.rpartition("/")[2])
    cookie = execute(kernel, sessions.redeem, Caller(ANONYMOUS), sessions.Redeem(secret=secret, user_agent="")).secret
    with contextlib.closing(
        kernel.db.writer.raw_connection()
    ) as connection:  # the one of its pool; durability is for later
        connection.cursor().execute("PRAGMA synchronous=OFF")
    orgs = [mint("org", NOW) for _ in range(assets // ASSETS_PER_ORGANISATION)]
    put(kernel, [Party], people(orgs))
    deployments = [mint("dep", NOW) for _ in range(max(assets // ASSETS_PER_DEPLOYMENT, 1))]
    given = Given(orgs, deployments, assets)
    for start in range(0, assets, BATCH):
        put(kernel, list(given.tables), given.rows(start, min(start + BATCH, assets)))
    lines(kernel, orgs, assets)
    Worker(kernel, threads=0).run_until_idle()  # numbers the entries and signs the log
    kernel.db.close()
    middle = given.middle
    pages = {
        "home": "/", "hub": "/hub", "asset": f"/hub/asset/{middle['asset']}", "release": f"/hub/release/{middle['release']}",
        "review queue": "/ethics", "deployment": f"/serving/deployment/{deployments[0]}",
        "account": f"/ledger/account/{orgs[0]}:CNY-fen:available", "ledger": "/ledger", "evidence": "/evidence",
        "members": "/members", "donations": "/upstream",
    }  # fmt: skip
    return pages, cookie


def put(kernel: Kernel, tables: list[type[Base]], rows: Iterator[tuple[type[Base], dict[str, Any]]]) -> None:
    """The rows into their tables, in the tables' order."""
    sorted_rows: dict[type[Base], list[dict[str, Any]]] = {table: [] for table in tables}
    for table, row in rows:
        sorted_rows.setdefault(table, []).append(row)
    with kernel.db.writer.begin() as connection:
        for table, values in sorted_rows.items():
            if values:
                connection.execute(insert(table), values)


def people(orgs: list[str]) -> Iterator[tuple[type[Base], dict[str, Any]]]:
    common = {"email": None, "state": "active", "created_at": NOW, "version": 1}
    for number, org in enumerate(orgs):
        yield (
            Party,
            {"id": org, "kind": "organisation", "handle": f"org-{number}", "name": f"Institute {number}", "org": None}
            | common,
        )
        for seat in range(PEOPLE_PER_ORGANISATION):
            person, name = mint("per", NOW), f"member-{number}-{seat}"
            yield Party, {"id": person, "kind": "person", "handle": name, "name": name, "org": org} | common
            yield (
                Membership,
                {
                    "id": mint("mem", NOW),
                    "party": person,
                    "org": org,
                    "role": "maintainer",
                    "since": NOW,
                    "until": None,
                },
            )


class Given:
    """What organisations have given: asset by asset, each resting on the one before, in families of ten."""

    tables = (
        Asset, Blob, BlobOwner, Inspection, Revision, Ref, Catalogued, File, Lineage, Release, ReleaseDocument, Donation,
        ReviewCase, ReviewVote, Deployment, Call, EntryRow,
    )  # fmt: skip

    def __init__(self, orgs: list[str], deployments: list[str], assets: int) -> None:
        self.assets = assets
        self.orgs = orgs
        self.deployments = deployments
        self.before = ""
        self.middle: dict[str, str] = {}

    def rows(self, start: int, end: int) -> Iterator[tuple[type[Base], dict[str, Any]]]:
        for number in range(start, end):
            yield from self.one(number, NOW - timedelta(seconds=end - number))

    def one(self, number: int, at: datetime) -> Iterator[tuple[type[Base], dict[str, Any]]]:
        org, digest = self.orgs[number % len(self.orgs)], sha256(str(number).encode()).hexdigest()
        asset, revision, release, entry = (mint(kind, at) for kind in ("ast", "rev", "rel", "ev"))
        dated = {"created_at": at, "version": 1}
        openness = "private" if number % 10 == 0 else "public"
        # The tables of every dataset are read once; a hundred thousand would be read while pages are measured.
        kind = "dataset" if number % 100 == 0 else ("model", "code", "agent", "tool")[number % 4]
        said = {
            "id": asset,
            "org": org,
            "slug": f"asset-{number}",
            "kind": kind,
            "visibility": openness,
            "gated": "open",
        }
        said |= WORDS
        yield Asset, said | dated
        yield Blob, {"sha256": digest, "size": 1000, "at": at}
        yield BlobOwner, {"sha256": digest, "org": org, "at": at}
        yield Inspection, {"sha256": digest, "name": "README.md", "findings": [], "external": [], "at": at}
        yield Revision, {
            "id": revision, "asset": asset, "number": 1, "digest": digest, "card": {"license": "CC-BY-4.0"},
            "card_body": CARD, "card_sha256": digest, "message": "First", "author": org, "created_at": at,
        }  # fmt: skip
        terms = found_by(SimpleNamespace(**said), {"license": "CC-BY-4.0"}, CARD)  # type: ignore[arg-type]
        yield Catalogued, {"asset": asset, "digest": "0" * 64, "terms": terms}
        for path in ("README.md", "data/records.csv", "evaluation/results.json"):
            yield (
                File,
                {
                    "revision": revision,
                    "path": path,
                    "sha256": digest,
                    "size": 1000,
                    "component": None,
                    "license": None,
                },
            )
        if number % 10:
            yield Lineage, {"from_revision": revision, "to_revision": self.before, "relation": "derived-from"}
        yield Ref, {"asset": asset, "kind": "branch", "name": "main", "revision": revision, "message": "", "at": at}
        state = "submitted" if number < OPEN_CASES else "published"
        yield Release, {
            "id": release, "asset": asset, "revision": revision, "org": org, "name": "1.0", "state": state,
            "submitted_at": at, "verdict": verdict() if state == "published" else None, "envelope": None,
            "statement_digest": digest, "evidence": entry, "published_at": at, "published_by": org,
            "withdrawn_at": None, "withdrawn_reason": None,
        } | dated  # fmt: skip
        yield ReleaseDocument, {
            "release": release, "name": "findings.json", "media_type": "application/json", "sha256": digest,
            "size": len(FINDINGS), "content": FINDINGS, "at": at,
        }  # fmt: skip
        yield from self.decided(number, asset, release, revision, org, digest, at)
        yield from self.used(number, release, org, digest, at)
        leaf = Leaf(
            entry, "hub.release-published", org, "hub:release:publish", release, at, {"digest": digest}
        ).encode()
        yield EntryRow, {
            "id": entry, "index": None, "kind": "hub.release-published", "actor": org, "verb": "hub:release:publish",
            "subject": release, "at": at, "leaf": leaf, "private": None,
        }  # fmt: skip
        self.before = revision
        if number % 10 == 5 and not self.middle and number >= self.assets // 2:
            self.middle = {"asset": asset, "release": release}

    def decided(
        self, number: int, asset: str, release: str, revision: str, org: str, digest: str, at: datetime
    ) -> Iterator[tuple[type[Base], dict[str, Any]]]:
        case, later = mint("case", at), at + timedelta(days=14)
        yield Donation, {
            "id": mint("don", at), "asset": asset, "org": org, "license": "CC-BY-4.0", "provenance": "Measured here.",
            "patent_scope": "none", "patent_text": "", "schedule": [], "state": "accepted", "visibility": "public",
            "offered_at": at, "offered_by": org, "decided_at": at, "decided_by": org, "decline_reason": None, "version": 1,
        }  # fmt: skip
        yield ReviewCase, {
            "id": case, "release": release, "number": 1, "name": "1.0", "asset": asset, "org": org, "revision": revision,
            "digest": digest, "roster": [], "quorum": 2, "validity_days": 365, "opened_at": at, "closes_at": later,
            "state": "open" if number < OPEN_CASES else "approved", "conditions": [], "decided_at": at, "expires_at": later,
            "evidence": None, "version": 1,
        }  # fmt: skip
        for _ in range(2):
            yield ReviewVote, {
                "id": mint("vote", at), "case": case, "voter": org, "choice": "approve", "digest": digest,
                "rationale": "The evidence supports the claim.", "conditions": [], "at": at,
            }  # fmt: skip

    def used(
        self, number: int, release: str, org: str, digest: str, at: datetime
    ) -> Iterator[tuple[type[Base], dict[str, Any]]]:
        place = number // ASSETS_PER_DEPLOYMENT
        if number % ASSETS_PER_DEPLOYMENT == 0:
            terms = {
                "text_zh": "只用于改进。",
                "text_en": "For improvement.",
                "purpose": "improvement",
                "retention_days": 365,
                "version": 1,
                "sha256": digest,
            }
            yield Deployment, {
                "id": self.deployments[place], "name": f"service-{place}", "org": org, "asset": "", "release": release,
                "release_name": "1.0", "blob": digest, "unit": "CNY-fen", "price_per_row": 2, "price_version": 1,
                "state": "ready", "agreement": terms, "created_at": at, "version": 1,
            }  # fmt: skip
        yield Call, {
            "id": mint("call", at), "deployment": self.deployments[place], "release": release, "release_name": "1.0",
            "blob": digest, "caller": org, "org": org, "rows": 10, "unit": "CNY-fen", "fee": 20, "price_version": 1,
            "request_sha256": digest, "attempt": 1, "hold": f"hold-{number}", "state": "settled", "at": at, "expires_at": at,
            "ended_at": at, "latency_us": 900, "result_sha256": digest,
        }  # fmt: skip


def verdict() -> dict[str, Any]:
    cite = {
        "source": "Gongqi release policy",
        "article": "card",
        "authority": "policy",
        "date": "2026-11-01",
        "url": "",
    }
    answer = {
        "decision": "allow",
        "reason": "compliance.card-complete",
        "params": {},
        "cites": [cite],
        "evidence": None,
    }
    sources = (
        "hub.lineage",
        "hub.artefact",
        "compliance.licence",
        "compliance.card",
        "ethics.evaluation",
        "ethics.board",
    )
    return {
        "gate": RELEASE_PUBLISH.name,
        "allowed": True,
        "answers": [{"source": source} | answer for source in sources],
    }


def lines(kernel: Kernel, orgs: list[str], assets: int) -> None:
    """A transaction an asset: the foundation grants to every organisation, and each pays the next."""

    def work(ctx: Any, start: int) -> None:
        issuer = ledger.account(ctx, "foundation", "CNY-fen", "issued", floor=None)
        held = [ledger.account(ctx, org, "CNY-fen") for org in orgs]
        ledger.post_many(ctx, [draft(f"bench:grant:{account}", issuer, account, 10**6) for account in held])
        pairs = (
            (number, held[number % len(held)], held[(number + 1) % len(held)])
            for number in range(start, min(start + BATCH, assets))
        )
        ledger.post_many(ctx, [draft(f"bench:{number}", payer, payee, 3) for number, payer, payee in pairs])

    def draft(key: str, payer: str, payee: str, amount: int) -> ledger.Draft:
        return ledger.Draft(
            key, "bench.paid", "bench", (ledger.Line(payer, -amount), ledger.Line(payee, amount)), {"rows": 1}
        )

    for start in range(0, assets, BATCH):
        kernel.transact(lambda ctx, start=start: work(ctx, start), reason="bench")


if __name__ == "__main__":  # fill a home to look at: python -m bench.bench_pages HOME ASSETS
    print(json.dumps(fill(Path(sys.argv[1]), int(sys.argv[2]))))
