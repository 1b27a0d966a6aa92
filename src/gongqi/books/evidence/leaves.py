"""One entry as bytes: what the log hashes, and what it only holds the digest of.

A leaf is canonical JSON (RFC 8785) of the public facts, so that whoever has the facts can make the leaf again. Private
facts are sealed with a random nonce before they are hashed: a bare digest of a short text (a name, a reason) could be
guessed by trying, and would still give it away after the text itself is erased.

Invariants
- `encode` and `parse` are inverse on leaves of ours; `parse` refuses any other bytes.
- A time has one form: RFC 3339, UTC, microseconds.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson
import rfc8785

from gongqi.books.evidence.tiles import MAX_ENTRY_BYTES
from gongqi.kernel.errors import Broken, Refused
from gongqi.kernel.verbs import Entry

VERSION = 1
NONCE_BYTES = 16
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class Leaf:
    """The public side of an entry. `private_digest` is in lower-case hex, empty when nothing is private."""

    id: str
    kind: str
    actor: str
    verb: str
    subject: str
    at: datetime
    facts: Mapping[str, Any]
    private_digest: str = ""
    request_id: str = ""

    @classmethod
    def of(cls, entry: Entry, private: bytes | None) -> Leaf:
        return cls(
            entry.id,
            entry.kind,
            entry.actor,
            entry.verb,
            entry.subject,
            entry.at.astimezone(UTC),
            entry.facts,
            sha256(private).hexdigest() if private is not None else "",
            entry.request_id,
        )

    @property
    def public(self) -> dict[str, Any]:
        """The entry as JSON; what is empty is left out."""
        optional = {"private_digest": self.private_digest, "request_id": self.request_id}
        return {
            "v": VERSION,
            "id": self.id,
            "kind": self.kind,
            "actor": self.actor,
            "verb": self.verb,
            "subject": self.subject,
            "at": self.at.strftime(_TIME),
            "facts": dict(self.facts),
            **{name: value for name, value in optional.items() if value},
        }

    def encode(self) -> bytes:
        """Raises Broken for facts that JSON cannot carry exactly, Refused for more than a log entry holds."""
        leaf = _canonical(self.public, self.kind)
        if len(leaf) > MAX_ENTRY_BYTES:
            raise Refused("evidence.entry-too-large", size_bytes=len(leaf), limit_bytes=MAX_ENTRY_BYTES)
        return leaf

    @classmethod
    def parse(cls, raw: bytes) -> Leaf:
        """Raises Refused unless `raw` is a leaf as `encode` writes it, to the byte."""
        try:
            leaf = cls.read(raw)
            exact = all(isinstance(name, str) for name in leaf.names) and leaf.encode() == raw
        except (ValueError, TypeError, KeyError, Broken) as error:
            raise Refused("evidence.entry-malformed", detail=str(error)) from error
        if not exact:
            raise Refused("evidence.entry-malformed")
        return leaf

    @classmethod
    def read(cls, raw: bytes) -> Leaf:
        """The same for bytes that are known to be ours, because the log holds them; does not look twice."""
        value = orjson.loads(raw)
        return cls(
            value["id"], value["kind"], value["actor"], value["verb"], value["subject"],
            datetime.fromisoformat(value["at"]), value["facts"],
            value.get("private_digest", ""), value.get("request_id", ""),
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        return self.id, self.kind, self.actor, self.verb, self.subject, self.private_digest, self.request_id


def seal(private: Mapping[str, Any], kind: str) -> bytes:
    """The private facts as they are stored, with the nonce that keeps their digest from being guessed."""
    return _canonical({"facts": dict(private), "nonce": secrets.token_hex(NONCE_BYTES)}, kind)


def unseal(private: bytes) -> dict[str, Any]:
    return orjson.loads(private)["facts"]


def _canonical(value: Mapping[str, Any], kind: str) -> bytes:
    try:
        return rfc8785.dumps(dict(value))
    except rfc8785.CanonicalizationError as error:
        raise Broken("evidence.facts-unwritable", kind=kind, detail=str(error)) from error
