"""Commits: which way each file is to travel, and then the commit itself.

Bytes inside a commit are inspected and placed as they come. Bytes that were brought before were inspected without their
name, which they bear only now; so they are inspected again under it, unless that has been done. Then one verb makes
the next revision of all of it. A commit that changes nothing answers with the commit that is there, so that a client
which never heard the answer may send it again.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import anyio.to_thread
from pydantic import Field
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Call as VerbCall
from gongqi.kernel.verbs import Read, execute_all
from gongqi.resources.hub import revisions
from gongqi.resources.hub.assets import AddBlob, AssetOut, add_blob, inspected_names
from gongqi.resources.hub.browsing import commit_at, empty_oid, files_called
from gongqi.resources.hub.drafts import drafts_of
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.huggingface import forms
from gongqi.resources.hub.huggingface.door import Body, Call, json
from gongqi.resources.hub.huggingface.lines import PATH, Change, note, read_lines
from gongqi.resources.hub.rebuilding import room_to_hold
from gongqi.resources.hub.rules import OID_LENGTH, check_path
from gongqi.resources.hub.uploads import intake_of, look_again, look_and_place, paced

SAMPLE = 4096  # characters; the client sends the first 512 bytes of a file


class Announced(Body):
    path: str = Field(max_length=PATH)
    size: int = Field(ge=0, le=2**62)
    sample: str = Field("", max_length=SAMPLE)


class Announcement(Body):
    files: list[Announced] = Field(max_length=10_000)


def preupload(call: Call) -> Response:
    """How each file is to be brought. Nothing is ignored: what a .gitignore says is for its owner's machine."""
    given = call.parse(Announcement)

    def look(ctx: Read) -> tuple[str, int, list[dict[str, Any]]]:
        asset, commit = call.commit(ctx, call.revision("preupload"))
        ctx.require("hub:revision:change", asset.org)
        known = files_called(ctx, commit, [file.path for file in given.files])
        return asset.id, room_to_hold(ctx, asset.org), [_mode(file, known.get(file.path)) for file in given.files]

    space, room, modes = call.look(look)
    large = [file.size for file, mode in zip(given.files, modes, strict=True) if mode["uploadMode"] == "lfs"]
    drafts_of(call.kernel).announced(space, call.caller.actor.id, large, room_bytes=room)
    return json({"files": modes})


def _mode(file: Announced, known: FileFacts | None) -> dict[str, Any]:
    """The digest of what is there lets the client leave out what is the same."""
    try:
        sample = b64decode(file.sample)
    except ValueError as error:
        raise Refused("hub.hf-body-invalid", where="sample", why="not base64") from error
    mode = forms.upload_mode(file.size, sample)
    oid = known.sha256 if known and mode == "lfs" else None
    return {"path": file.path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}


async def commit(call: Call) -> Response:
    """Take in a commit. Raises Refused as `hub:revision:change` does."""
    if call.request.query_params.get("create_pr") in ("1", "true"):
        raise Refused("hub.hf-no-pull-requests")
    branch = call.revision("commit")
    asset: AssetOut = await anyio.to_thread.run_sync(call.look, lambda ctx: _writable(ctx, call))
    change, taken = Change(), list[tuple[str, AddBlob]]()
    try:
        async for line in read_lines(paced(call.request)):
            given = note(change, line)
            if given is not None:
                path, content = given
                check_path(path)
                look = partial(look_and_place, call.kernel, org=asset.org, path=path, content=content)
                blob = await anyio.to_thread.run_sync(look, limiter=intake_of(call.kernel).inspections)
                taken.append((path, blob))
    except ClientDisconnect as error:
        raise Refused("hub.hf-commit-cut") from error
    finish = partial(_commit, call, asset, branch, change, taken)
    return await anyio.to_thread.run_sync(finish, limiter=intake_of(call.kernel).inspections)


def _writable(ctx: Read, call: Call) -> AssetOut:
    asset = call.repository(ctx)
    ctx.require("hub:revision:change", asset.org)
    return asset


def _commit(call: Call, asset: AssetOut, branch: str, change: Change, taken: Sequence[tuple[str, AddBlob]]) -> Response:
    renamed = [
        look_again(call.kernel, org=asset.org, path=path, digest=digest)
        for path, digest in call.look(lambda ctx: _unseen(ctx, asset.org, change))
    ]
    adds = [VerbCall(add_blob, call.caller, given) for given in (*(given for _, given in taken), *renamed)]
    for outcome in execute_all(call.kernel, adds):
        if isinstance(outcome, Exception):
            raise outcome
    parent = change.header.parentCommit
    files = {**change.brought, **{path: given.sha256 for path, given in taken}}
    try:
        made = call.do(
            revisions.change,
            asset=asset.id, branch=branch, message=change.header.message,
            files=[{"path": path, "sha256": digest} for path, digest in files.items()],
            removed=change.removed,
            parent="" if parent == empty_oid(asset.id) else parent,
        )  # fmt: skip
        oid = made.digest[:OID_LENGTH]
    except Refused as refused:
        if refused.code != "hub.nothing-changed":
            raise
        oid = call.look(lambda ctx: commit_at(ctx, asset, branch).oid)
    path = call.request.path_params
    url = f"{call.origin}/{forms.PREFIX[asset.kind]}{path['org']}/{path['slug']}/commit/{oid}"
    return json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def _unseen(ctx: Read, org: str, change: Change) -> list[tuple[str, str]]:
    """(path, digest) of what was brought by this organisation and not yet inspected under the name it is to bear.

    What is not this organisation's is left alone: that its bytes are here is not for others to find out.
    """
    seen = inspected_names(ctx, org, set(change.brought.values()))
    wanted = {(PurePosixPath(path).name, digest): path for path, digest in change.brought.items()}
    for path in change.brought:
        check_path(path)
    return [(path, digest) for (name, digest), path in wanted.items() if digest in seen and name not in seen[digest]]
