"""Identifiers that sort by time and say what they name: `rel_01jd3v…`.

The tail is a UUIDv7 (RFC 9562 §5.7) in lower-case Crockford base 32, 26 characters: index-friendly, unguessable enough
to be unique without a coordinator, but not a secret.
"""

from __future__ import annotations

import secrets
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def mint(prefix: str, now: datetime) -> str:
    """A new id `prefix_` + 26 characters, ordered by millisecond."""
    milliseconds = int(now.timestamp() * 1000) & ((1 << 48) - 1)
    tail = 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return _spelled(prefix, milliseconds << 80 | tail)


def earliest(prefix: str, moment: datetime) -> str:
    """What sorts before every id of that prefix minted at `moment` or later, and after every earlier one."""
    return _spelled(prefix, int(moment.timestamp() * 1000) << 80)


def _spelled(prefix: str, value: int) -> str:
    digits = []
    for _ in range(26):
        digits.append(_ALPHABET[value & 31])
        value >>= 5
    return prefix + "_" + "".join(reversed(digits))
