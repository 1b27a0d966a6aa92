"""HEAD of a file and the description of a repository, among a hundred thousand repositories, over 16 connections.

The repositories are written into the database as commits would write them: an organisation for every hundred, each a
model with three files on `main`. Requests name them at random, as strangers behind a proxy would: each has an address of
its own, since one address may not ask so often. The peer is a bare ASGI application on the same server, which puts one
prepared question of the same kind to SQLite.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import insert

from bench import Figure
from bench.bench_doors import free_port, server
from bench.hub.asking import Asked, ask
from gongqi import app
from gongqi.kernel.blobs import Stored
from gongqi.kernel.config import Settings
from gongqi.kernel.ids import mint
from gongqi.kernel.room import Kernel
from gongqi.members.models import Party
from gongqi.resources.hub.catalogue import found_by
from gongqi.resources.hub.models import Asset, Blob, Catalogued, File, Ref, Revision

REPOSITORIES = 100_000
OF_ONE = 100  # organisation
CONNECTIONS = 16
SECONDS = 8.0
WARM_SECONDS = 1.0
QUESTIONS = 20_000
LEAST_PER_SECOND = 2_000
P99_LIMIT_MS = 25
BATCH = 5_000
NOW = datetime.now(UTC) - timedelta(days=1)
FILES = {"README.md": b"---\nlicense: mit\n---\n# One\n", "config.json": b"{}\n", "model.safetensors": bytes(1 << 16)}


def run() -> Iterator[Figure]:
    chance = random.Random(20261129)
    with tempfile.TemporaryDirectory(prefix="gongqi-bench-") as folder:
        home = Path(folder)
        kernel = app.assemble(Settings.from_environment({"GONGQI_HOME": folder}))
        app.prepare(kernel)
        stored = {path: kernel.blobs.put(content) for path, content in FILES.items()}
        fill(kernel, stored, count=REPOSITORIES)
        kernel.db.close()
        heads = [_request("HEAD", f"/{name}/resolve/main/model.safetensors", chance) for name in _names(chance)]
        descriptions = [_request("GET", f"/api/models/{name}", chance) for name in _names(chance)]
        bare = _asked([sys.executable, "-m", "bench.hub.bare", folder], heads)
        serve = [sys.executable, "-m", "gongqi", "serve"]
        for what, requests in (("HEAD resolve", heads), ("repository's description", descriptions)):
            found = _asked(serve, requests, GONGQI_HOME=str(home))
            yield Figure(
                f"hub: {what}, {REPOSITORIES:,} repositories", found.per_second, "per second",
                f"≥ {LEAST_PER_SECOND:,}", "bare ASGI application, one question",
                bare.per_second, found.per_second / bare.per_second,
            )  # fmt: skip
            yield Figure(
                f"hub: {what}, p99 (p50 {found.p50_ms:.1f} ms)", found.p99_ms, "ms", f"≤ {P99_LIMIT_MS}",
                "bare ASGI application, p99", bare.p99_ms, found.p99_ms / bare.p99_ms,
            )  # fmt: skip


def _asked(command: list[str], requests: list[str], **environment: str) -> Asked:
    port = free_port()
    with server(command, port, GONGQI_PORT=str(port), **environment):
        ask(port, requests[::-1], connections=CONNECTIONS, seconds=WARM_SECONDS)
        return ask(port, requests, connections=CONNECTIONS, seconds=SECONDS)


def _names(chance: random.Random) -> Iterator[str]:
    for _ in range(QUESTIONS):
        number = chance.randrange(REPOSITORIES)
        yield f"org-{number // OF_ONE}/model-{number}"


def _request(method: str, path: str, chance: random.Random) -> str:
    address = ".".join(str(chance.randrange(1, 255)) for _ in range(4))
    return f"{method} {path} HTTP/1.1\r\nhost: hub.example\r\nuser-agent: bench\r\nx-forwarded-for: {address}\r\n\r\n"


# --- the repositories ------------------------------------------------------------------------------------------------


def fill(kernel: Kernel, stored: Mapping[str, Stored], *, count: int) -> None:
    """`count` repositories, each with these files."""
    with kernel.db.writer.begin() as connection:
        rows = [{"sha256": each.sha256, "size": each.size, "at": NOW} for each in stored.values()]
        connection.execute(insert(Blob), rows)
    for start in range(0, count, BATCH):
        rows_of: dict[Any, list[dict[str, Any]]] = {
            Party: [],
            Asset: [],
            Revision: [],
            Ref: [],
            File: [],
            Catalogued: [],
        }
        for number in range(start, min(count, start + BATCH)):
            if number % OF_ONE == 0:
                org = mint("org", NOW)
                handle = f"org-{number // OF_ONE}"
                rows_of[Party].append(
                    _row(Party, id=org, kind="organisation", handle=handle, name=handle, state="active")
                )
            asset, revision, at = mint("ast", NOW), mint("rev", NOW), NOW + timedelta(milliseconds=number)
            titles = {"title_zh": "模型", "title_en": "A model", "summary_zh": "", "summary_en": ""}
            given = {
                "org": org,
                "slug": f"model-{number}",
                "kind": "model",
                "visibility": "public",
                "gated": "open",
            } | {"standing": "open"}
            rows_of[Asset].append(_row(Asset, id=asset, created_at=at, **given, **titles))
            card: dict[str, Any] = {"license": "MIT", "tasks": ["image-classification"], "languages": ["zh", "en"]}
            rows_of[Revision].append(
                _row(
                    Revision, id=revision, asset=asset, number=1, digest=sha256(b"%d" % number).hexdigest(), card=card,
                    card_body="# One", card_sha256="0" * 64, message="First", author="per_bench", created_at=at,
                )
            )  # fmt: skip
            rows_of[Ref].append(
                {"asset": asset, "kind": "branch", "name": "main", "revision": revision, "message": "", "at": at}
            )
            terms = found_by(SimpleNamespace(**rows_of[Asset][-1]), card, "# One")  # type: ignore[arg-type]
            rows_of[Catalogued].append({"asset": asset, "digest": "0" * 64, "terms": terms})
            rows_of[File] += [
                _row(File, revision=revision, path=path, sha256=each.sha256, size=each.size)
                for path, each in stored.items()
            ]
        with kernel.db.writer.begin() as connection:
            for table, values in rows_of.items():
                if values:
                    connection.execute(insert(table), values)


def _row(table: Any, **given: Any) -> dict[str, Any]:
    columns = {column.name: None for column in table.__table__.columns}
    first = {"version": 1, "created_at": NOW}
    return {name: given.get(name, first.get(name, value)) for name, value in columns.items()}
