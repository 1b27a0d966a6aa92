"""The evidence pages: the log with its seal, and one entry with the proof recomputed before the reader's eyes."""

from __future__ import annotations

from typing import Any

import orjson

from gongqi.books.evidence import service
from gongqi.books.evidence.service import Entries, EntryKey, EntryOut, Log, Nothing
from gongqi.books.evidence.verify import Proven, check_proof
from gongqi.kernel.errors import Refused, Unavailable
from gongqi.kernel.room import Figure, View
from gongqi.kernel.verbs import Read

PAGE = 30
MAX_VALUE_CHARACTERS = 2000  # of one fact on the page; the whole is in the entry


def load_log(
    ctx: Read, kind: str | None = None, subject: str | None = None, cursor: str | None = None
) -> dict[str, Any]:
    filters = {name: value for name, value in (("kind", kind), ("subject", subject)) if value}
    page = service.list_entries.run(ctx, Entries.model_validate({"limit": PAGE, "cursor": cursor, **filters}))
    return {
        "page": page,
        "filters": {"kind": kind or "", "subject": subject or ""},
        "more": {**filters, "cursor": page.next or ""},
        "checkpoint": service.show_checkpoint.run(ctx, Nothing()),
        "keys": service.keyset(ctx)["verifier_keys"],
    }


def load_entry(ctx: Read, key: str) -> dict[str, Any]:
    entry = service.get_entry.run(ctx, EntryKey(entry=key))
    return {"entry": entry, "facts": _facts(entry), **_checked(ctx, key)}


def _checked(ctx: Read, key: str) -> dict[str, Any]:
    """The proof and its check, done now: `state` is proven, claimed (not in the log yet) or broken."""
    try:
        proof = service.proof(ctx, key)
    except Unavailable:
        return {"state": "claimed", "proof": None, "steps": []}
    try:
        proven = check_proof(proof, Log.of(ctx.kernel).keys.public)
    except Refused as error:
        reason = ctx.kernel.house.words.error(error, ctx.language)[1]
        return {"state": "broken", "proof": proof, "steps": [], "reason": reason}
    return {"state": "proven", "proof": proof, "steps": _steps(proof, proven)}


def _steps(proof: dict[str, Any], proven: Proven) -> list[tuple[int, str, str]]:
    """On each floor: its number, the hash that the proof gives (none for the entry itself), and the hash reached."""
    given = ["", *proof["inclusion"]]
    reached = [node.hex() for node in proven.reached]
    return [(floor, *pair) for floor, pair in enumerate(zip(given, reached, strict=True))]


def _facts(entry: EntryOut) -> list[tuple[str, str]]:
    return [(name, _shown(value)) for name, value in entry.facts.items()]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[:MAX_VALUE_CHARACTERS] + "…"


VIEWS = (
    View("/evidence", "evidence_log.html", load_log, params=("kind", "subject", "cursor")),
    View("/evidence/entry/{key}", "evidence_entry.html", load_entry, id_prefix="ev"),
)

FIGURES = (Figure("evidence.size", "/evidence", service.log_size),)
