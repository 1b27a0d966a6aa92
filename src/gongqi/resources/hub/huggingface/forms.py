"""How things are written at this door. Pure thought: facts in, the client's JSON and headers out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from gongqi.resources.hub.browsing import Commit, Folder
from gongqi.resources.hub.catalogue import stated_tags
from gongqi.resources.hub.gates import FileFacts

KINDS = {"model": "models", "dataset": "datasets"}  # our kind → the word in the path; others are not served here
PREFIX = {"model": "", "dataset": "datasets/"}  # before a repository's name in addresses outside /api

REGULAR_BYTES = 4 << 20  # a text up to this size travels inside the commit; the card's limit is below
POINTER_BYTES = 134  # of a Git LFS pointer to a file of some megabytes; nobody reads these pointers
SAMPLE_CUT = 3  # bytes of a character that the end of a sample may cut off

# The words of a card that a tag repeats, as the original writes them.
_TAGGED = {"license": "license", "language": "language"}


def upload_mode(size: int, sample: bytes) -> str:
    """`regular` for text that may travel inside the commit, `lfs` for all else."""
    return "regular" if size <= REGULAR_BYTES and is_text(sample) else "lfs"


def is_text(sample: bytes) -> bool:
    if b"\x00" in sample:
        return False
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as fault:
        return fault.start >= len(sample) - SAMPLE_CUT and len(sample) > SAMPLE_CUT
    return True


def entry(item: FileFacts | Folder, change: Commit | None = None) -> dict[str, Any]:
    """A line of a tree. Every file is named by its SHA-256, as an LFS file is: we keep no SHA-1, which can be forged."""
    last = {"lastCommit": {"id": change.oid, "title": title(change), "date": written(change.at)}} if change else {}
    if isinstance(item, Folder):
        return {"type": "directory", "path": item.path, "size": 0, "oid": "0" * 40}
    lfs = {"oid": item.sha256, "size": item.size, "pointerSize": POINTER_BYTES}
    return {"type": "file", "path": item.path, "size": item.size, "oid": item.sha256[:40], "lfs": lfs, **last}


def with_folders(files: Sequence[FileFacts], folder: str, start: str) -> Iterator[FileFacts | Folder]:
    """The files in order, each folder before the first file in it; those that `start` lies in have been named before."""
    previous = start
    for file in files:
        parts = file.path[len(folder) :].split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            path = folder + "/".join(parts[:depth])
            if not previous.startswith(path + "/"):
                yield Folder(path)
        yield file
        previous = file.path


def title(commit: Commit) -> str:
    return (commit.message or "").partition("\n")[0]


def written(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def card_data(card: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The front matter under the names that this hub's clients read."""
    data = dict(card.get("other", {}))
    tasks = list(card.get("tasks", ()))
    if card.get("license"):
        data["license"] = card["license"]
    if card.get("languages"):
        data["language"] = list(card["languages"])
    if tasks and kind == "model":
        data["pipeline_tag"] = tasks[0]
    elif tasks:
        data["task_categories"] = tasks
    return data


def tags(card: Mapping[str, Any], kind: str) -> list[str]:
    """What a repository can be filtered by."""
    data = card_data(card, kind)
    found = [*stated_tags(data)]
    found += [each for each in (data.get("library_name"), data.get("pipeline_tag")) if isinstance(each, str)]
    found += [f"task_categories:{each}" for each in data.get("task_categories", ()) if isinstance(each, str)]
    found += [f"license:{data['license']}"] if "license" in data else []
    found += [f"language:{each}" for each in data.get("language", ())]
    return list(dict.fromkeys(found))


def fact_of(tag: str) -> tuple[str, str]:
    """A filter as a label of the catalogue (name, value)."""
    name, colon, value = tag.partition(":")
    known = {"license": "license", "language": "language", "task_categories": "task", "library": "library"}
    return (known[name], value) if colon and name in known else ("tag", tag)


def ascii_only(text: str) -> str:
    """A sentence as a header can carry it (RFC 9110 §5.5)."""
    return re.sub(r"[^\x20-\x7e]", "?", text)[:1000]
