"""Tickets: short-lived permits inside an address, for clients that send no token with the bytes themselves.

A ticket says who may do what with which thing until when, and is sealed with a secret of this home (HMAC-SHA256). It
lets nobody do more than its holder may at that moment: whoever takes it resolves the token or session that it rests on
anew, so that what was revoked since is refused.
"""

from __future__ import annotations

import hmac
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel

SECRET_BYTES = 32
SEAL_BYTES = 32
MAX_TICKET = 2000  # characters


class Seal:
    """The secret, made with the first ticket and kept beside the signing keys, readable to its owner alone."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def load_or_generate(cls, folder: Path) -> Seal:
        path = folder / "tickets.key"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{secrets.token_hex(8)}")
        if not path.exists():
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)  # of two who make one, the first decides
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return cls(path.read_bytes())

    def over(self, text: bytes) -> bytes:
        return hmac.new(self._secret, text, sha256).digest()


def issue(kernel: Kernel, purpose: str, *, seconds: int, **facts: Any) -> str:
    until = int(kernel.clock.now().timestamp()) + seconds
    text = orjson.dumps({"purpose": purpose, "until": until, **facts})
    return urlsafe_b64encode(seal_of(kernel).over(text) + text).decode().rstrip("=")


def accept(kernel: Kernel, purpose: str, ticket: str) -> dict[str, Any]:
    """What a ticket says. Raises Refused hub.ticket-invalid, hub.ticket-expired."""
    try:
        raw = urlsafe_b64decode(ticket[:MAX_TICKET] + "=" * (-len(ticket) % 4))
    except ValueError as error:
        raise Refused("hub.ticket-invalid") from error
    seal, text = raw[:SEAL_BYTES], raw[SEAL_BYTES:]
    if len(ticket) > MAX_TICKET or not hmac.compare_digest(seal, seal_of(kernel).over(text)):
        raise Refused("hub.ticket-invalid")
    facts = orjson.loads(text)
    if facts["purpose"] != purpose:
        raise Refused("hub.ticket-invalid")
    if facts["until"] <= kernel.clock.now().timestamp():
        raise Refused("hub.ticket-expired")
    return facts


def seal_of(kernel: Kernel) -> Seal:
    """The secret of this home."""
    if Seal not in kernel.parts:
        kernel.parts[Seal] = Seal.load_or_generate(kernel.settings.home / "keys")
    return kernel.parts[Seal]
