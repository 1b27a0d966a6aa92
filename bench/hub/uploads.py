"""A file of 1 GiB brought by the stock client, over Xet and over Git LFS; and one of 20 GiB that is mostly a hole.

The limit that the machine sets is the same file read, hashed and written once, and flushed. What the client takes for
itself is seen in its run against a sink (sink.py): it hashes, cuts and packs the file on the same two cores.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx

from bench import Figure
from bench.bench_doors import free_port, server
from bench.hub.serving import Server
from gongqi.kernel.blobs import CHUNK_BYTES

SIZE_BYTES = 1 << 30
SPARSE_BYTES = 20 << 30
ROUNDS = 3
LEAST = 0.6
WAYS = ("Xet", "LFS")
ORGANISATION = "bench"
UPLOAD = """
import sys, time
from huggingface_hub import HfApi
began = time.perf_counter()
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="weights.bin", repo_id=sys.argv[2])
print(time.perf_counter() - began)
"""

_numbers = count()


def run(hub: Server, folder: Path) -> Iterator[Figure]:
    """Afterwards the file of the last round is at `weights.bin` in the folder, and in the hub."""
    source, speeds = folder / "weights.bin", dict[str, list[float]]()
    port = free_port()
    sink_url = f"http://127.0.0.1:{port}"
    with server([sys.executable, "-m", "bench.hub.sink"], port, GONGQI_PORT=str(port)):
        for _ in range(ROUNDS):
            fill(source)
            taken = {"raw": hash_and_write(source)}
            for way in WAYS:
                taken[way] = brought(source, hub.url, new_repository(hub), way, folder, hub.token)
                taken[f"{way} into the sink"] = brought(source, sink_url, "bench/sink", way, folder, "none")
            for what, seconds in taken.items():
                speeds.setdefault(what, []).append((SIZE_BYTES >> 20) / seconds)
    middle = {what: statistics.median(kept) for what, kept in speeds.items()}
    for way in WAYS:
        name = f"hub: upload 1 GiB, stock client, {way}"
        ratios = statistics.median(mine / raw for mine, raw in zip(speeds[way], speeds["raw"], strict=True))
        yield Figure(
            name, middle[way], "MiB/s", f"≥ 1; ratio ≥ {LEAST}", "read, hash and write once", middle["raw"], ratios,
            least_ratio=LEAST,
        )  # fmt: skip
        alone = middle[f"{way} into the sink"]
        yield Figure(f"{name}, beside itself", middle[way], "MiB/s", "", "into a sink", alone, middle[way] / alone)


def sparse(hub: Server, folder: Path) -> Iterator[Figure]:
    """One file of 20 GiB, over Git LFS; whoever calls watches the memory."""
    source = folder / "sparse.bin"
    with source.open("wb") as file:
        file.truncate(SPARSE_BYTES)
    seconds = brought(source, hub.url, new_repository(hub), "LFS", folder, hub.token)
    source.unlink()
    yield Figure("hub: upload 20 GiB, sparse, stock client, LFS", (SPARSE_BYTES >> 20) / seconds, "MiB/s", "")


def new_repository(hub: Server) -> str:
    """A new one in a new organisation, which holds nothing: then all that is sent is taken in."""
    organisation = f"{ORGANISATION}-{next(_numbers)}"
    hub.operator.verb("members:organisation:create", handle=organisation, name=organisation)
    given = {"name": "model", "organization": organisation, "type": "model"}
    headers = {"authorization": f"Bearer {hub.token}"}
    httpx.post(f"{hub.url}/api/repos/create", json=given, headers=headers, trust_env=False).raise_for_status()
    return f"{organisation}/model"


def brought(source: Path, url: str, repository: str, way: str, folder: Path, token: str) -> float:
    """How many seconds the stock client takes; its start and the repository's creation are not counted."""
    given = client_environment(url, token, folder / "client") | {"HF_HUB_DISABLE_XET": str(int(way != "Xet"))}
    command = [sys.executable, "-c", UPLOAD, str(source), repository]
    told = subprocess.run(command, env=given, stdout=subprocess.PIPE, check=True).stdout
    return float(told.splitlines()[-1])


def client_environment(url: str, token: str, home: Path) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return mine | {
        "HF_ENDPOINT": url,
        "HF_TOKEN": token,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }


def fill(path: Path) -> None:
    """New bytes each time: what is known is not sent."""
    with path.open("wb") as file:
        for _ in range(SIZE_BYTES // CHUNK_BYTES):
            file.write(os.urandom(CHUNK_BYTES))
        file.flush()
        os.fsync(file.fileno())  # or the disk would still be at it while others are timed


def hash_and_write(source: Path) -> float:
    target, digest, began = source.with_suffix(".copy"), hashlib.sha256(), time.perf_counter()
    with source.open("rb") as file, target.open("wb") as copy:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds
