"""The files of an asset, folder by folder, at any branch, tag or revision; and one file, with what can be read of it.

Names are seen by whoever sees the asset, contents only by whoever may have them. A file is shown as text when it is
text, escaped and bounded; nothing of it is ever run or rendered here, whatever it says it is. Characters that turn the
direction of writing are spelled out, because source code that reads otherwise than it runs has deceived reviewers
("Trojan Source", CVE-2021-42574).
"""

from __future__ import annotations

import re
from itertools import accumulate, islice
from typing import Any

from gongqi.kernel.errors import Refused
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import browsing, service
from gongqi.resources.hub.asset_pages import frame
from gongqi.resources.hub.rules import MAIN

SHOWN_ENTRIES = 100  # of a folder on one page
SHOWN_BYTES = 128 << 10  # of a text: some two thousand lines
SHOWN_LINES = 2_000
SHOWN_LINE = 1_000  # characters; a longer line is made by a machine, for machines
SHOWN_REFS = 200  # in the list to choose from; others are reached by their address
_TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def load_folder(ctx: Read, key: str, at: str = MAIN, path: str = "", start: str = "") -> dict[str, Any]:
    """Raises Refused hub.ref-unknown, hub.file-absent."""
    values = _at(ctx, key, at)
    commit, folder = values["commit"], f"{path.strip('/')}/" if path.strip("/") else ""
    entries = browsing.entries_in(ctx, commit, folder, start=start, limit=SHOWN_ENTRIES + 1)
    if folder and not entries:
        raise Refused("hub.file-absent", path=folder[:200])
    shown = entries[:SHOWN_ENTRIES]
    files = [each.path for each in shown if not isinstance(each, browsing.Folder)]
    return values | {
        "folder": folder,
        "trail": trail(folder),
        "entries": [(each, isinstance(each, browsing.Folder)) for each in shown],
        "changes": browsing.last_changes(ctx, values["asset"].id, commit, files) if files else {},
        "next": entries[SHOWN_ENTRIES].path if len(entries) > SHOWN_ENTRIES else None,
        "is_first": not start,
    }


def load_file(ctx: Read, key: str, at: str = MAIN, path: str = "") -> dict[str, Any]:
    """Raises Refused hub.ref-unknown, hub.file-absent."""
    values = _at(ctx, key, at)
    commit = values["commit"]
    file = browsing.files_called(ctx, commit, [path]).get(path)
    if file is None:
        raise Refused("hub.file-absent", path=path[:200])
    name = path.rpartition("/")[2]
    closed = _closed(ctx, commit.revision)
    return values | {
        "file": file,
        "name": name,
        "trail": trail(path.rpartition("/")[0]),
        "findings": _findings(ctx, path, service.findings_of(ctx, file.sha256, name)),
        "change": browsing.last_changes(ctx, values["asset"].id, commit, [path]).get(path),
        "closed": closed,
        "shown": None if closed else _preview(ctx, file.sha256, file.size),
    }


def trail(path: str) -> list[tuple[str, str]]:
    """(path, name) of each folder from the top down to `path`."""
    names = [name for name in path.split("/") if name]
    return list(zip(accumulate(names, lambda above, name: f"{above}/{name}"), names, strict=True))


def as_text(content: bytes, *, is_whole: bool) -> list[str] | None:
    """The lines of a text; None for what is none. Of a text that was cut, the last character may be incomplete."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_whole or error.reason != "unexpected end of data":
            return None
        text = content[: error.start].decode("utf-8")
    if _CONTROL.search(text):
        return None
    lines = islice(_TURNING.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text).splitlines(), SHOWN_LINES)
    return [line if len(line) <= SHOWN_LINE else line[:SHOWN_LINE] + "…" for line in lines]


def _at(ctx: Read, key: str, at: str) -> dict[str, Any]:
    """The frame, and the revision that is looked at, with what else there is to choose."""
    values = frame(ctx, key, "files")
    asset = values["asset"]
    commit = browsing.commit_at(ctx, asset, at)
    seen = service.visible_revisions(ctx, [commit.revision]) if commit.revision else {}
    return values | {
        "at": at,
        "commit": commit,
        "revision": seen.get(commit.revision or ""),
        "refs": [(ref.kind, ref.name) for ref in service.refs_of(ctx, asset.id)[:SHOWN_REFS]],
        "names": values["names"] | (members.names(ctx, {commit.author}) if commit.author else {}),
    }


def _closed(ctx: Read, revision: str | None) -> dict[str, Any] | None:
    """Why the contents are not for this reader; None when they are."""
    try:
        service.check_may_have(ctx, revision or "")
    except Refused as refused:
        _, message, remedy = ctx.kernel.house.words.error(refused, ctx.language)
        return {"message": message, "remedy": remedy, "code": refused.code}
    return None


def _findings(ctx: Read, path: str, findings: list[dict[str, Any]]) -> list[str]:
    """What the inspection warns of, in words."""
    return [ctx.text(each["code"], **{"path": path, **each.get("params", {})}) for each in findings]


def _preview(ctx: Read, sha256: str, size: int) -> dict[str, Any]:
    """`lines` of a text, None for other content; `cut` when there is more than is shown."""
    content = b"".join(ctx.blobs.chunks(sha256, end=min(size, SHOWN_BYTES)))
    lines = as_text(content, is_whole=size <= SHOWN_BYTES)
    cut = lines is not None and (size > SHOWN_BYTES or len(lines) == SHOWN_LINES)
    return {"lines": lines, "cut": cut}


VIEWS = (
    View("/hub/asset/{key}/files", "hub_files.html", load_folder, params=("at", "path", "start")),
    View("/hub/asset/{key}/file", "hub_file.html", load_file, params=("at", "path")),
)
