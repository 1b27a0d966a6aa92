"""A million calls with a minute in the middle in which nothing can be written to the database: `make bench-gateway-outage`.

Another process holds SQLite's write lock, so that neither leases nor settlements get through. Told at the end: how much
memory the gateway process took beyond what it had under load before, whether each call that was answered is in the books
once, and whether what was charged is the sum of what was logged.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench import gateway_systems
from bench.gateway_systems import free_port, started

CALLS = int(os.environ.get("CALLS", "1_000_000"))
OUTAGE_SECONDS = int(os.environ.get("OUTAGE_SECONDS", "60"))
CONNECTIONS = 32
TURN_SECONDS = 5  # of wrk
DRAIN_SECONDS = 600
NANO = 10**9


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = free_port()
        model = [sys.executable, "-m", "bench.gateway_upstream", str(upstream)]
        with (
            started(model, core=1, port=upstream),
            gateway_systems.server(folder, upstream, core=None) as ours,
            gateway_systems.gateway(ours) as (port, process),
        ):
            script = gateway_systems.script_of(folder, ours.key, "plain")
            book = ours.home / "gongqi.sqlite"
            answered = refused = turns = 0
            outage = threading.Thread(target=lock, args=(book,))
            before_kb = 0
            began = time.monotonic()
            while answered < CALLS or outage.is_alive():
                good, bad = load(script, port)
                answered, refused, turns = answered + good, refused + bad, turns + 1
                if not before_kb and answered > CALLS // 4:
                    before_kb = resident_kb(process.pid)
                    outage.start()
            took = time.monotonic() - began
            rows, ids, owed, charged = books(book, answered)
            drained = time.monotonic() - began - took
            grown = (peak_kb(process.pid) - before_kb) / 1024
    print(f"answered {answered:,} in {took:.0f} s, {refused:,} refused; {OUTAGE_SECONDS} s without the database")
    print(f"memory of the gateway: {before_kb / 1024:.0f} MB before, at most + {grown:.1f} MB")
    lost, double = max(0, answered - ids), rows - ids
    print(f"in the books {drained:.0f} s later: {rows:,} rows, {lost} lost, {double} double")
    print(f"ended while wrk left: {ids - answered} (at most {turns * CONNECTIONS})")
    print(f"charged {charged:,} = logged {owed / NANO:,.3f}, rounded down once: {charged == owed // NANO}")
    kept = grown <= 64 and not lost and not double and ids - answered <= turns * CONNECTIONS and charged == owed // NANO
    sys.exit(0 if kept else 1)


def load(script: Path, port: int) -> tuple[int, int]:
    """(answered well, refused) by one turn of wrk."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{TURN_SECONDS}s", "-s", str(script), url]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) requests in", told)
    assert found is not None, told
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    bad = int(refused[1]) if refused else 0
    return int(found[1]) - bad, bad


def lock(book: Path) -> None:
    """Hold the write lock of the database."""
    connection = sqlite3.connect(book, isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(OUTAGE_SECONDS)
    connection.execute("ROLLBACK")
    connection.close()


def books(book: Path, least: int) -> tuple[int, int, int, int]:
    """(rows, different calls, nanos logged, units charged) once all is settled."""
    reader = sqlite3.connect(f"file:{book}?mode=ro", uri=True)
    deadline, seen = time.monotonic() + DRAIN_SECONDS, -1
    while time.monotonic() < deadline:
        (rows,) = reader.execute("SELECT count(*) FROM model_usage").fetchone()
        if rows >= least and rows == seen:
            break
        seen = rows
        time.sleep(5)
    rows, ids, owed = reader.execute("SELECT count(*), count(DISTINCT id), sum(cost_nanos) FROM model_usage").fetchone()
    (charged,) = reader.execute("SELECT sum(charged) FROM model_tab").fetchone()
    return rows, ids, owed, charged


def resident_kb(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_kb(pid: int) -> int:
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    main()
