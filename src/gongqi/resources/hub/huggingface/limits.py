"""How often one caller may ask in a minute: a fair share, so that nobody's loop is everybody's outage.

A fixed window: counts begin anew each minute, so memory is bounded by what one minute brings. Whoever is signed in is
counted as themselves, everyone else by address. The counts are of one process; with several, each allows as many.

Source: draft-ietf-httpapi-ratelimit-headers, in the form that the client reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from gongqi.kernel.errors import Unavailable
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller

WINDOW_SECONDS = 60
ALLOWED = {"api": 6_000, "resolvers": 60_000}  # a hundred questions and a thousand files a second
MAX_COUNTED = 100_000  # callers in one window; those beyond share one count


class Limits:
    def __init__(self, allowed: Mapping[str, int] = ALLOWED) -> None:
        self.allowed = allowed
        self._window = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def count(self, group: str, who: str, *, now: float) -> int:
        """Count one more request; returns how many are left, below zero when it was one too many."""
        window = int(now // WINDOW_SECONDS)
        with self._lock:
            if window != self._window:
                self._window, self._counts = window, {}
            key = (group, who)
            if key not in self._counts and len(self._counts) >= MAX_COUNTED:
                key = (group, "")
            self._counts[key] = count = self._counts.get(key, 0) + 1
        return self.allowed[group] - count


def too_many(kernel: Kernel, caller: Caller, group: str) -> Response | None:
    """The answer to one request too many, or None."""
    limits: Limits = kernel.parts.setdefault(Limits, Limits())
    now = time.time()
    who = caller.address if caller.actor.is_anonymous else caller.actor.id
    if limits.count(group, who, now=now) >= 0:
        return None
    wait = WINDOW_SECONDS - int(now % WINDOW_SECONDS)
    error = Unavailable("hub.hf-too-many", retry_after_seconds=wait, limit=limits.allowed[group], seconds=wait)
    status, message, _ = kernel.house.words.error(error, caller.language)
    quota = f'"fixed window";"{group}";q={limits.allowed[group]};w={WINDOW_SECONDS}'
    headers = {"ratelimit": f'"{group}";r=0;t={wait}', "ratelimit-policy": quota, "retry-after": str(wait)}
    return JSONResponse({"error": message}, status, headers)
