"""How long a search takes among a hundred thousand cards, over HTTP, for a stranger, a member and the operator.

The cards are made up, in Chinese and English, of words as unequally frequent as words are (Zipf): some are on every
card, most on a few. A tenth of the assets is private. Asked are rare words and the most frequent, one and several, words
that are on no card together, filters, and the last pages as well as the first. The server is `gongqi serve` itself. The
peer is a scan of the same texts by the database (`LIKE`), which is what one has without a catalogue.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import insert, or_, select

from bench import Figure
from bench.bench_doors import free_port, server
from gongqi import app
from gongqi.kernel.config import Settings
from gongqi.kernel.ids import mint
from gongqi.kernel.room import Kernel
from gongqi.resources.hub.catalogue import found_by
from gongqi.resources.hub.models import Asset, Catalogued, Ref, Revision

CARDS = 100_000
QUESTIONS = 400  # of each reader
BATCH = 5_000
SCANS = 5
HAN, LATIN = 3_000, 20_000  # characters and words to choose from
NOW = datetime.now(UTC) - timedelta(days=1)
LICENCES = ("MIT", "Apache-2.0", "CC-BY-4.0")
TASKS = ("image-classification", "text-generation", "tabular-classification", "translation")


def run() -> list[Figure]:
    chance = random.Random(20261123)
    language = Language(chance)
    with tempfile.TemporaryDirectory() as folder:
        kernel = app.assemble(Settings.from_environment({"GONGQI_HOME": folder}))
        app.prepare(kernel)
        fill(kernel, language, chance)
        scan = statistics.median(scanned(kernel, language.rare(chance)) for _ in range(SCANS)) * 1e3
        kernel.db.close()
        token = (Path(folder) / "operator.token").read_text().strip()
        port = free_port()
        with server([sys.executable, "-m", "gongqi", "serve"], port, GONGQI_HOME=folder, GONGQI_PORT=str(port)):
            readers = {"a stranger": {}, "the operator": {"authorization": f"Bearer {token}"}}
            times = {who: p95(asked(port, headers, language, chance)) for who, headers in readers.items()}
    return [
        Figure(f"search of {CARDS:,} cards by {who}, p95", took, "ms", "≤ 50", "LIKE over the same", scan, took / scan)
        for who, took in times.items()
    ]


def p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1] * 1e3


def asked(port: int, headers: dict[str, str], language: Language, chance: random.Random) -> list[float]:
    """Seconds of each question."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    times, questions = [], language.questions(chance)
    for question in (next(questions) for _ in range(QUESTIONS)):
        started = time.perf_counter()
        connection.request("GET", "/api/v1/hub/asset/search?" + urlencode(question | {"limit": 30}), headers=headers)
        response = connection.getresponse()
        body = response.read()
        times.append(time.perf_counter() - started)
        if response.status != 200:
            raise RuntimeError(f"bench: {question} was answered {response.status}: {body[:200]!r}")
    connection.close()
    return times


def scanned(kernel: Kernel, word: str) -> float:
    """Seconds that the database takes to look for a word in every title and card."""
    texts = (Asset.title_zh, Asset.title_en, Revision.card_body)
    holds = or_(*(text.contains(word) for text in texts))
    question = (
        select(Asset.id).join(Revision, Revision.asset == Asset.id).where(holds).order_by(Asset.id.desc()).limit(30)
    )
    with kernel.db.reading() as session:
        started = time.perf_counter()
        session.execute(question).all()
        return time.perf_counter() - started


class Language:
    """Words of two languages, the more frequent first."""

    def __init__(self, chance: random.Random) -> None:
        self.han = [chr(0x4E00 + each) for each in chance.sample(range(20_000), HAN)]
        syllables = [
            "ba",
            "con",
            "di",
            "er",
            "fu",
            "gra",
            "hel",
            "in",
            "jo",
            "ka",
            "lo",
            "mi",
            "ne",
            "or",
            "pre",
            "tion",
        ]
        self.latin = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(LATIN)]
        self.han_weights = list(accumulate(1 / (place + 10) for place in range(HAN)))
        self.latin_weights = list(accumulate(1 / (place + 10) for place in range(LATIN)))

    def zh(self, chance: random.Random, length: int) -> str:
        return "".join(chance.choices(self.han, cum_weights=self.han_weights, k=length))

    def en(self, chance: random.Random, length: int) -> str:
        return " ".join(chance.choices(self.latin, cum_weights=self.latin_weights, k=length))

    def rare(self, chance: random.Random) -> str:
        return self.zh(chance, 3)

    def questions(self, chance: random.Random) -> Iterator[dict[str, Any]]:
        while True:
            yield {"q": self.zh(chance, 2)}
            yield {"q": self.rare(chance)}
            yield {"q": self.zh(chance, 1)}
            yield {"q": self.en(chance, 1)}
            yield {"q": self.en(chance, 2)}
            yield {"q": f"{self.latin[0]} {self.latin[1]}"}
            yield {"q": f"{self.zh(chance, 2)} {self.en(chance, 1)}"}
            yield {"q": self.en(chance, 1), "task": chance.choice(TASKS), "kind": "model"}
            yield {"license": "mit", "kind": "dataset"}
            yield {"q": self.latin[0], "cursor": f"2-{chance.randint(1, CARDS)}"}


def fill(kernel: Kernel, language: Language, chance: random.Random) -> None:
    with contextlib.closing(kernel.db.writer.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA synchronous=OFF")
    orgs = [mint("org", NOW) for _ in range(CARDS // 100)]
    for start in range(0, CARDS, BATCH):
        rows: dict[Any, list[dict[str, Any]]] = {Asset: [], Revision: [], Ref: [], Catalogued: []}
        for number in range(start, start + BATCH):
            for table, row in one(number, chance.choice(orgs), language, chance):
                rows[table].append(row)
        with kernel.db.writer.begin() as connection:
            for table, values in rows.items():
                connection.execute(insert(table), values)


def one(number: int, org: str, language: Language, chance: random.Random) -> Iterator[tuple[Any, dict[str, Any]]]:
    at = NOW + timedelta(milliseconds=number)
    kind, visibility = ("model", "dataset", "code", "agent")[number % 4], "private" if number % 10 == 0 else "public"
    asset = {
        "id": mint("ast", at), "org": org, "slug": f"asset-{number}", "kind": kind, "visibility": visibility, "version": 1,
        "gated": "open", "standing": "open", "title_zh": language.zh(chance, 8), "title_en": language.en(chance, 4),
        "summary_zh": language.zh(chance, 30), "summary_en": language.en(chance, 12), "created_at": at,
    }  # fmt: skip
    card = {"license": LICENCES[number % 3], "tasks": [TASKS[number % 4]], "languages": ["zh"]}
    body = language.zh(chance, 400) + "。\n" + language.en(chance, 150)
    revision = {
        "id": mint("rev", at), "asset": asset["id"], "number": 1, "digest": f"{number:064x}", "card": card,
        "card_body": body, "card_sha256": "0" * 64, "message": "m", "author": "per_bench", "created_at": at,
    }  # fmt: skip
    yield Asset, asset
    yield Revision, revision
    yield (
        Ref,
        {"asset": asset["id"], "kind": "branch", "name": "main", "revision": revision["id"], "message": "", "at": at},
    )
    yield (
        Catalogued,
        {"asset": asset["id"], "digest": "0" * 64, "terms": found_by(SimpleNamespace(**asset), card, body)},
    )  # type: ignore[arg-type]
