"""What serving asks of the rooms above it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from gongqi.kernel.gates import Gate


@dataclass(frozen=True, slots=True)
class Crossing:
    """Calls of keys that call from one region, forwarded to servers in another, on a day. A region is a country by its two
    letters (ISO 3166-1), or EU; empty where nobody has said. `audience`: whom the answers are shown to, public or
    internal, empty where nobody has said."""

    caller: str
    server: str
    audience: str
    as_of: date


CALL_FORWARD = Gate("serving.call-forward", Crossing)
