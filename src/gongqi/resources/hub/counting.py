"""What counts as a download. Pure thought.

A download is a client that was given bytes of an asset on a day (UTC), however many: one file or all, whole or in
ranges, once or a hundred times. So nobody's loop, resumed line or eight streams make a number larger. A client is
whoever is signed in, else an address; an IPv6 address counts by its network of 64 bits, of which one machine has all.
It counts for the revision that it took first that day. What is only looked at (HEAD, an answer that nothing has
changed) is no download, nor is what another foundation copies, to mirror or import it: its own readers are.

The number is one that can only err downwards on purpose: people behind one address are one. Nothing can keep somebody
from asking from many addresses.

Who it was is not kept. A client of a day is known by a mark, a keyed hash that says nothing without the key of this
home, and marks go when their day is over.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

MIRROR_AGENT = "gongqi-mirror/"  # how a foundation that copies from another begins its User-Agent
RECENT_DAYS = 30  # what clients call `downloads`; the original counts the same days
MARK_BYTES = 16  # a million marks a day collide once in 10^26 days
NETWORK_BITS = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_download(*, method: str, agent: str) -> bool:
    """Whether an answer with bytes of a file in it counts at all."""
    return method == "GET" and not agent.startswith(MIRROR_AGENT)


def day_of(moment: datetime) -> int:
    """Days since 1970, UTC."""
    return (moment - _EPOCH) // timedelta(days=1)


def first_recent(day: int) -> int:
    """The first of the days that are recent on `day`."""
    return day - RECENT_DAYS + 1


def client_of(*, actor: str | None, address: str) -> str:
    """Who takes something: `actor` unless nobody is signed in."""
    if actor is not None:
        return actor
    if ":" in address:
        try:
            return str(ipaddress.ip_network((address, NETWORK_BITS), strict=False))
        except ValueError:
            return address
    return address


def mark_of(seal: Callable[[bytes], bytes], *, client: str, asset: str, day: int) -> bytes:
    """The mark of this client, this asset and this day; `seal` is a keyed hash."""
    return seal(f"gongqi.download.v1\n{day}\n{asset}\n{client}".encode())[:MARK_BYTES]
