"""The model gateway beside its own upstream, nginx and LiteLLM, all in one run: `make bench-gateway`.

`wrk` with one thread and the model server share the second core; what is measured has the first to itself, as one
process. The gateway does all its duties: key, limits, reservation, write-ahead record; the server that settles shares
the core of the load. nginx only checks the key; LiteLLM runs with its master key and without a database. Processor time a
request is read from /proc and says more than the rate where a machine is busy. Peers that are not installed are left
out. What crashes and outages do is not measured here but in `bench.gateway_outage`.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import Figure, gateway_systems
from bench.gateway_systems import BODY, Measured, cpu_seconds, free_port, started

POSTGRES = os.environ.get("GONGQI_TEST_POSTGRES")  # from scripts/with-postgres
RECORDS = 60_000  # that are drained
FIRST_EVENTS = 200
Cases = dict[tuple[str, int], Measured]


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = free_port()
        with started([sys.executable, "-m", "bench.gateway_upstream", str(upstream)], core=1, port=upstream) as model:
            direct = gateway_systems.measure(folder, upstream, "none", model)
            first = first_event(upstream, "none")
            peers = {
                "nginx": gateway_systems.nginx(folder, upstream),
                "LiteLLM": gateway_systems.litellm(folder, upstream),
            }
            with gateway_systems.server(folder / "inside", upstream) as ours:
                inside = gateway_systems.measure(folder, ours.port, ours.key, ours.process)
            with (
                gateway_systems.server(folder / "beside", upstream, core=1) as ours,
                gateway_systems.gateway(ours) as (port, process),
            ):
                before, began = cpu_seconds(ours.process.pid), time.monotonic()
                mine = gateway_systems.measure(folder, port, ours.key, process)
                beside = (cpu_seconds(ours.process.pid) - before) / (time.monotonic() - began)
                added = (first_event(port, ours.key) - first) * 1000
            yield from figures(direct, mine, peers)
            yield from latency(direct, mine, peers["nginx"])
            yield Figure("gateway, first of 40 events, added at p50", added, "ms", "≤ 1")
            yield Figure(
                "gateway in the server's own process, 32 connections: calls/s", inside["plain", 32].rate, "1/s", "",
                "process of its own", mine["plain", 32].rate, inside["plain", 32].rate / mine["plain", 32].rate,
            )  # fmt: skip
            yield Figure("server beside the gateway while it is under load: cores", beside, "", "")
            if POSTGRES is not None:
                yield two_processes(folder / "two", upstream, POSTGRES)
        yield drained(folder / "drain")


def figures(direct: Cases, ours: Cases, peers: dict[str, Cases | None]) -> Iterator[Figure]:
    for kind, connections in (("plain", 1), ("plain", 32), ("stream", 32)):
        case, mine = (kind, connections), ours[kind, connections]
        what = f"gateway, {'40 events' if kind == 'stream' else 'in one piece'}, {connections} connections"
        yield Figure(
            f"{what}: calls/s", mine.rate, "1/s", "", "direct", direct[case].rate, mine.rate / direct[case].rate
        )
        yield Figure(f"{what}: processor time", mine.cpu_us, "µs", "")
        yield Figure(f"{what}: p99", mine.p99_ms, "ms", "≤ 5" if case == ("plain", 32) else "")
        for peer, measured in peers.items():
            if measured is not None:
                theirs = measured[case]
                least = (
                    {"nginx": 0.7 if kind == "stream" else 0.2, "LiteLLM": 100.0}[peer] if connections == 32 else None
                )
                told = "≥ 0; at least the ratio" if least and not (peer == "LiteLLM" and kind == "stream") else ""
                ratio = mine.rate / theirs.rate
                yield Figure(f"{what}: calls/s beside {peer}", mine.rate, "1/s", told, peer, theirs.rate, ratio, least)
                ratio = theirs.cpu_us / mine.cpu_us
                yield Figure(f"{what}: processor time of {peer}", theirs.cpu_us, "µs", "", "ours", mine.cpu_us, ratio)


def latency(direct: Cases, ours: Cases, nginx: Cases | None) -> Iterator[Figure]:
    """What stands between a caller and its model adds, with one connection, at the median."""
    if nginx is not None:
        added, theirs = (case["plain", 1].p50_ms - direct["plain", 1].p50_ms for case in (ours, nginx))
        limit = f"≤ {2.5 * theirs:.3f}; 2.5 times what nginx adds"
        yield Figure("gateway, one connection: added at p50", added, "ms", limit, "nginx", theirs, added / theirs)


def first_event(port: int, key: str) -> float:
    """Seconds until the first event of a stream, at the median, over one connection after the other."""
    body = json.dumps(BODY | {"stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    took = []
    for _ in range(FIRST_EVENTS):
        with socket.create_connection(("127.0.0.1", port)) as line:
            began = time.perf_counter()
            line.sendall(head.encode() + body)
            heard = b""
            while b"data: " not in heard:
                heard += line.recv(65_536)
            took.append(time.perf_counter() - began)
            while b"[DONE]" not in heard:
                heard += line.recv(65_536)
    return statistics.median(took)


def two_processes(folder: Path, upstream: int, database: str) -> Figure:
    """One gateway process on the first core; then a second one, on the core of the load, at the same port."""
    folder.mkdir(parents=True)
    with (
        gateway_systems.server(folder, upstream, core=None, database=database) as ours,
        gateway_systems.gateway(ours) as (port, process),
    ):
        script = gateway_systems.script_of(folder, ours.key, "plain")
        one = gateway_systems.wrk(script, port, 32, process.pid).rate
        with gateway_systems.gateway(ours, core=1, port=port):
            while len(list((ours.home / "spool").iterdir())) < 3:  # until then all that calls is dealt to the first
                time.sleep(0.1)
            both = gateway_systems.wrk(script, port, 32, process.pid).rate
    return Figure(
        "gateway, two processes, PostgreSQL, beside the load on two cores: calls/s", both, "1/s",
        "≥ 0; at least the ratio", "one process", one, both / one, 1.6,
    )  # fmt: skip


def drained(folder: Path) -> Figure:
    """How fast what was written down gets into the books, on SQLite: without a plane, in a process of its own."""
    program = "import sys; from bench.bench_gateway import drain; drain(sys.argv[1])"
    told = subprocess.run([sys.executable, "-c", program, str(folder)], check=True, capture_output=True, text=True)
    seconds, processor = map(float, told.stdout.split()[-2:])
    return Figure(
        "gateway, settlement on SQLite: records/s", RECORDS / seconds, "1/s", "≥ 20,000", "by processor time alone",
        RECORDS / processor, processor / seconds,
    )  # fmt: skip


def drain(folder: str) -> None:
    """Fill a spool, settle it, say how long it took and how much of that was at work."""
    from gongqi import app
    from gongqi.kernel.config import Settings
    from gongqi.resources.serving import settlement
    from gongqi.resources.serving.plane.spool import Spool

    home = Path(folder)
    kernel = app.assemble(Settings.from_environment({"GONGQI_HOME": folder}), migrate=True)
    app.prepare(kernel)
    spool = Spool(home / "spool", "plane_bench", limit_bytes=1 << 40)
    now_us = time.time_ns() // 1000
    for number in range(RECORDS):
        spool.add(
            [
                "e", f"gen_{now_us // 1000 + number // 10:012x}00c0ffee{number:08x}", "org_bench", "mkey_bench",
                "default", "mrt_bench", "mep_bench", "complete", now_us + 100 * number, 1200, 1100, 1, 20, 0, 40, False,
                False, "price_bench", 1, "CNY-fen", 30_000, 30_000, 60_000, 3_000_000, None, 1,
            ]
        )  # fmt: skip
    spool.close()
    began, spent = time.perf_counter(), time.process_time()
    settlement.drain(kernel, home / "spool" / "plane_bench")
    print(time.perf_counter() - began, time.process_time() - spent)
    kernel.db.close()
