"""What the hub's doors cost: a file of 1 GiB brought by the stock client, over Xet and over Git LFS, and short questions
among a hundred thousand repositories (hub/repositories.py).

    python -m bench hub

The peer is the limit that the machine sets: the same file read, hashed and written once, and flushed. The client runs on
the same machine as the server, and hashes, cuts and packs the file on its side of it; its share is in the figure.
"""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench import Figure
from bench.hub import repositories
from gongqi.doors.cli.client import Client
from gongqi.kernel.blobs import CHUNK_BYTES

SIZE_BYTES = 1 << 30
ROUNDS = 3
LEAST = 0.6
GROWTH_LIMIT_MIB = 128
START_SECONDS = 30
LOOK_SECONDS = 0.02
UPLOAD = """
import sys, time
from huggingface_hub import HfApi
began = time.perf_counter()
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="weights.bin", repo_id=sys.argv[2])
print(time.perf_counter() - began)
"""


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="gongqi-bench-") as folder, serving(Path(folder)) as server:
        speeds: dict[str, list[float]] = {"Xet": [], "LFS": [], "raw": []}
        idle = server.memory_mib()
        with server.watched():
            for number in range(ROUNDS):
                for way, kept in speeds.items():
                    source = Path(folder) / "weights.bin"
                    fill(source)
                    seconds = (
                        hash_and_write(source) if way == "raw" else server.upload(source, f"bench/{way}-{number}", way)
                    )
                    kept.append((SIZE_BYTES >> 20) / seconds)
        raw = statistics.median(speeds["raw"])
        for way in ("Xet", "LFS"):
            value = statistics.median(speeds[way])
            yield Figure(
                f"hub: upload 1 GiB, stock client, {way}", value, "MiB/s", f"≥ 1; ratio ≥ {LEAST}",
                "read, hash and write once", raw, value / raw, least_ratio=LEAST,
            )  # fmt: skip
        yield Figure("hub: memory added by it", server.peak_mib - idle, "MiB", f"≤ {GROWTH_LIMIT_MIB}")
    yield from repositories.run()


class Server:
    """`gongqi serve` as a process of its own, and the operator as its client."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, home: Path) -> None:
        self.url, self.home, self.peak_mib = url, home, 0.0
        self._process = process
        self.token = (home / "operator.token").read_text("ascii").strip()
        Client(url, self.token).verb("members:organisation:create", handle="bench", name="bench")

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, the most memory that the server takes is noted."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(LOOK_SECONDS):
                self.peak_mib = max(self.peak_mib, self.memory_mib())

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def upload(self, source: Path, repo: str, way: str) -> float:
        """How many seconds the stock client takes; its start and the repository's creation are not counted."""
        organisation, name = repo.split("/")
        given = {"name": name.lower(), "organization": organisation, "type": "model"}
        headers = {"authorization": f"Bearer {self.token}"}
        httpx.post(f"{self.url}/api/repos/create", json=given, headers=headers, trust_env=False).raise_for_status()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(self.home / "client"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": str(int(way != "Xet")),
        }
        command = [sys.executable, "-c", UPLOAD, str(source), repo.lower()]
        return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"GONGQI_HOME": str(folder / "home"), "GONGQI_PORT": str(port)}
    command = [sys.executable, "-m", "gongqi", "serve"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}")
        yield Server(process, f"http://127.0.0.1:{port}", folder / "home")
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at:
        try:
            httpx.get(f"{url}/health", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)


def fill(path: Path) -> None:
    """New bytes each time: what is known is not sent."""
    with path.open("wb") as file:
        for _ in range(SIZE_BYTES // CHUNK_BYTES):
            file.write(os.urandom(CHUNK_BYTES))


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
