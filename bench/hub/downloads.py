"""A download of 1 GiB over loopback, in one stream and in eight: from us, and from us behind nginx (X-Accel-Redirect).

Behind nginx is the set-up of the operator's manual, read from there. nginx alone serves the very file that the store
holds, as one would without a hub, by turns with ours. The client is `curl`, one for each stream, which throws the bytes
away.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path

from bench import Figure
from bench.hub.serving import Server, nginx, program, serving
from bench.hub.uploads import SIZE_BYTES

STREAMS = (1, 8)
ROUNDS = 3
ALONE = "location /alone/ {{ alias {blobs}/; }}\n"
MANUAL = Path(__file__).parents[2] / "docs" / "en" / "operator.md"


def direct(hub: Server, repository: str, source: Path) -> Iterator[Figure]:
    """From the server itself; `source` is what it has in that repository."""
    with nginx(ALONE.format(blobs=hub.home / "blobs")) as port:
        ours = f"{hub.url}/{_file(repository)}"
        yield from _figures("from us", ours, _alone(port, source), 0.5, hub.token)


def behind(home: Path, repository: str, source: Path) -> Iterator[Figure]:
    """From nginx, to which another server with the same home tells what to send."""
    with serving(home, GONGQI_ACCEL_PREFIX="/blobs") as hub:
        blobs = home / "blobs"
        with nginx(_documented(hub.url, blobs) + ALONE.format(blobs=blobs)) as port:
            ours = f"http://127.0.0.1:{port}/{_file(repository)}"
            yield from _figures("from us behind nginx", ours, _alone(port, source), 0.9, hub.token)


def _documented(url: str, blobs: Path) -> str:
    """What the operator's manual tells nginx, for this server."""
    shown = re.search(r"^```nginx\n.*?\n(.*?)^```$", MANUAL.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert shown
    return shown[1].replace("http://127.0.0.1:8420", url).replace("/srv/gongqi/blobs", str(blobs))


def _file(repository: str) -> str:
    return f"{repository}/resolve/main/weights.bin"


def _alone(port: int, source: Path) -> str:
    with source.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return f"http://127.0.0.1:{port}/alone/{digest[:2]}/{digest[2:4]}/{digest}"


def _figures(what: str, ours: str, alone: str, least: float, token: str) -> Iterator[Figure]:
    for streams in STREAMS:
        speeds: dict[str, list[float]] = {ours: [], alone: []}
        for _ in range(ROUNDS):
            for address, kept in speeds.items():
                kept.append(streams * (SIZE_BYTES >> 20) / fetched([address] * streams, token))
        value, peer = (statistics.median(kept) for kept in speeds.values())
        yield Figure(
            f"hub: download 1 GiB, {streams} at once, {what}", value, "MiB/s", f"≥ 1; ratio ≥ {least}",
            "nginx alone", peer, value / peer, least_ratio=least,
        )  # fmt: skip


def fetched(addresses: list[str], token: str) -> float:
    """Seconds until all of these have come, at the same time."""
    command = [program("curl"), "--noproxy", "*", "-sSf", "-H", f"authorization: Bearer {token}", "-o", os.devnull]
    began = time.perf_counter()
    clients = [subprocess.Popen([*command, address]) for address in addresses]
    ended = [client.wait() for client in clients]
    if any(ended):
        raise RuntimeError(f"bench: {addresses[0]} was refused")
    return time.perf_counter() - began
