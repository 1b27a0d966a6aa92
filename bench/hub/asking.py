"""A client that does almost nothing: requests written beforehand, sent over some connections at once, each timed.

It runs in a process of its own, so that it takes no time from the interpreter that it measures, and looks only at the
status line and the length of an answer. wrk would do, but waits for the body of an answer to HEAD.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

ANSWER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Asked:
    """How many were answered a second, and how long one took, in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float


def ask(port: int, requests: Sequence[str], *, connections: int, seconds: float) -> Asked:
    """Send the requests one after another, each connection waiting for its answer. All must be answered 200."""
    given = json.dumps({"port": port, "requests": list(requests), "connections": connections, "seconds": seconds})
    command = [sys.executable, "-m", "bench.hub.asking"]
    return Asked(**json.loads(subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout))


def _run(port: int, requests: list[str], connections: int, seconds: float) -> Asked:
    waiting = cycle([each.encode() for each in requests])
    selector, sent_at, times = selectors.DefaultSelector(), {}, []
    held: dict[socket.socket, bytes] = {}
    for _ in range(connections):
        line = socket.create_connection(("127.0.0.1", port))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(line, selectors.EVENT_READ)
        line.sendall(next(waiting))
        sent_at[line], held[line] = time.perf_counter(), b""
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        for key, _ in selector.select(1.0):
            line: socket.socket = key.fileobj  # type: ignore[assignment]
            held[line] += line.recv(ANSWER_BYTES)
            if not _is_whole(held[line]):
                continue
            now = time.perf_counter()
            times.append(now - sent_at[line])
            line.sendall(next(waiting))
            sent_at[line], held[line] = now, b""
    cuts = statistics.quantiles(times, n=100)
    return Asked(len(times) / (now - began), cuts[49] * 1e3, cuts[98] * 1e3)


def _is_whole(answer: bytes) -> bool:
    """Whether all of an answer has come; raises what it is when it is not 200."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"bench: answered {answer[:400]!r}")
    if b"x-repo-commit" in head:  # to HEAD
        return True
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


if __name__ == "__main__":
    found = _run(**json.load(sys.stdin))
    json.dump({name: getattr(found, name) for name in Asked.__slots__}, sys.stdout)
