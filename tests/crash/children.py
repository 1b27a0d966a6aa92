"""Processes that are made to be killed: forked from one that has imported everything once, so that a death costs little.

`serve` is a zygote's whole life: it forks a process for each line of JSON it is told, and says what became of it.
`prepare` runs to its end; `trial` runs to its end or its death and is told what to say on the way; `work` runs until
`kill` sends it SIGKILL and buries it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import structlog

Order = dict[str, Any]
Tell = Callable[[str], None]


def fork(act: Callable[[], None]) -> int:
    """The process id of a child that does this and no more."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        act()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def buried(act: Callable[[], None]) -> int:
    """How a child that did this ended, as `os.waitpid` says it."""
    return os.waitpid(fork(act), 0)[1]


def teller(pipe: int) -> Tell:
    return lambda words: os.write(pipe, f"{words}\n".encode()) and None


def orders() -> Iterator[Order]:
    """What this zygote is told, line by line. Standard output is for replies, so the log goes to the other."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    yield from map(json.loads, sys.stdin)


def reply(**said: Any) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def serve(
    prepare: Callable[[Order], None], trial: Callable[[Order, Tell], None], work: Callable[[Order], None]
) -> None:
    working: set[int] = set()
    for order in orders():
        match order["do"]:
            case "prepare":
                reply(status=buried(partial(prepare, order)))
            case "trial":
                inward, outward = os.pipe()
                child = fork(partial(trial, order, teller(outward)))
                os.close(outward)
                with open(inward, encoding="utf-8") as told:
                    crossings = told.read().splitlines()
                reply(crossings=crossings, status=os.waitpid(child, 0)[1])
            case "work":
                child = fork(partial(work, order))
                working.add(child)
                reply(pid=child)
            case "kill":
                working.discard(order["pid"])
                os.kill(order["pid"], signal.SIGKILL)
                os.waitpid(order["pid"], 0)
                reply()
    for pid in working:
        os.kill(pid, signal.SIGKILL)
