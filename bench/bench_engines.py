"""Embeddings by an engine of the foundation's own, beside a bare loop of ONNX Runtime over the same batches.

The model is a BERT of six layers and 384 numbers, its weights drawn from a seed. Two callers bring 32 texts a request over
the engine's socket, so that one waits while the other's batch runs: the engine reads, cuts into tokens, runs, pools and
writes. The loop runs the same rows, as tokens already, in batches of the same size, with as many threads, and does nothing
else. Each has the machine to itself, round about, and the best of three rounds of each counts.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from bench import Figure
from gongqi import migrations
from gongqi.books.evidence import service as evidence
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Database
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.sockets import short_name
from gongqi.resources.serving.engines.batches import MAX_ROWS
from gongqi.resources.serving.engines.encoder import Encoder
from gongqi.resources.serving.engines.host import READY, Host, socket_of
from gongqi.resources.serving.engines.parts import DESCRIBED, MODEL
from tests.sim import market, tiny_models

CALLERS = 2
SECONDS = 6.0
ROUNDS = 3
TEXT = "the quick brown fox jumps over the lazy dog data credit and money flow back to those who gave"
READY_SECONDS = 120.0


def run() -> Iterator[Figure]:
    files = tiny_models.embedder(layers=6, hidden=384, places=512, max_tokens=128)
    texts = [" ".join(TEXT.split()[place % 12 :]) for place in range(MAX_ROWS)]
    with tempfile.TemporaryDirectory() as folder, hosted(Path(folder), files) as place:
        rounds = [(asked(place, texts), looped(files, texts)) for _ in range(ROUNDS)]
        alone = median_ms(place, texts[:1])
    ours, bare = map(max, zip(*rounds, strict=True))
    yield Figure(
        "embeddings of 32 short texts a call, 2 callers: texts/s", ours, "1/s", "≥ 0; at least 0.9 of the loop",
        "ONNX Runtime in a bare loop", bare, ours / bare, 0.9,
    )  # fmt: skip
    yield Figure("embeddings, one short text, alone: p50", alone, "ms", "")


@contextlib.contextmanager
def hosted(folder: Path, files: dict[str, bytes]) -> Iterator[Path]:
    """The socket of an engine that runs these files, as a release of a small market."""
    settings = Settings.from_environment({"GONGQI_HOME": str(folder / "home")})
    settings.prepare_home()
    database = Database(settings.database_url)
    migrations.run(database)

    def build(house: House, **more: Any) -> Kernel:
        blobs = FolderBlobs(settings.home / "blobs")
        return Kernel(settings, house, database, blobs, record=evidence.append, clock=more.get("clock"))

    sold = market.open_market(build)
    asset = sold.asset("laboratory", "embedder", "code")
    brought = [
        sold.bring("laboratory", path, content, "parameters" if path.endswith(".onnx") else "model-metadata")
        for path, content in files.items()
    ]
    release = sold.release("laboratory", asset, sold.revision("laboratory", asset, brought))
    endpoint = sold.do(sold.operator, "serving:endpoint:host", release=release, name="embedder").id
    host = Host(sold.kernel)
    host.start()
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not any(each.state == READY for each in host.states()):
            if time.monotonic() > deadline:
                raise TimeoutError("the engine is not ready")
            time.sleep(0.1)
        yield socket_of(settings.home, endpoint)
    finally:
        host.stop()
        database.close()


class Line(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        with short_name(self.path) as name:
            self.sock.connect(name)


def asked(place: Path, texts: list[str]) -> float:
    """Texts a second that the callers get answered."""
    body = json.dumps({"input": texts, "encoding_format": "base64"})
    counts = [0] * CALLERS
    began = time.perf_counter()

    def caller(number: int) -> None:
        with contextlib.closing(Line(place)) as line:
            while time.perf_counter() - began < SECONDS:
                line.request("POST", "/v1/embeddings", body)
                answer = line.getresponse()
                answer.read()
                assert answer.status == 200
                counts[number] += len(texts)

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(CALLERS)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    return sum(counts) / (time.perf_counter() - began)


def median_ms(place: Path, texts: list[str]) -> float:
    body = json.dumps({"input": texts, "encoding_format": "base64"})
    took = []
    with contextlib.closing(Line(place)) as line:
        for _ in range(100):
            began = time.perf_counter()
            line.request("POST", "/v1/embeddings", body)
            line.getresponse().read()
            took.append(time.perf_counter() - began)
    return float(numpy.median(took)) * 1000


def looped(files: dict[str, bytes], texts: list[str]) -> float:
    """Texts a second of `session.run` over one batch of these, again and again."""
    by_part = {MODEL: files["onnx/model.onnx"]} | {
        part: files[path] for part, path in DESCRIBED.items() if path in files
    }
    encoder = Encoder(by_part)
    rows = sorted(encoder.tokens(texts), key=len, reverse=True)
    width = len(rows[0])
    ids = numpy.array([row + [0] * (width - len(row)) for row in rows], numpy.int64)
    mask = numpy.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], numpy.int64)
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
    session, count, began = encoder._session, 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        session.run(None, given)
        count += len(rows)
    return count / (time.perf_counter() - began)
