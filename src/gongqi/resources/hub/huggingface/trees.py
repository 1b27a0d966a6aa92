"""What is in a repository: files and folders, branches and tags, commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from pydantic import Field
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.members import service as members
from gongqi.resources.hub import refs
from gongqi.resources.hub.browsing import (
    Commit,
    Folder,
    beyond,
    commit_at,
    entries_in,
    files_under,
    history,
    items_called,
    last_changes,
)
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.huggingface import forms
from gongqi.resources.hub.huggingface.door import NAME, Body, Call, json
from gongqi.resources.hub.rules import MAIN

LISTED = 1000  # lines a page
EXPANDED = 50  # with the last change of each
COMMITS = 50
MAX_PATHS = 10_000  # in one question about paths


class StartingPoint(Body):
    startingPoint: str = Field(MAIN, max_length=NAME)


class Tag(Body):
    tag: str = Field(max_length=NAME)
    message: str = Field("", max_length=2000)


def tree(call: Call) -> Response:
    """One page of a folder, or with `recursive` of all that is in it."""
    name, *path = call.tail("tree")
    folder = "/".join(path).strip("/")
    folder += "/" if folder else ""
    expand = call.flag("expand")
    limit = EXPANDED if expand else LISTED
    start = call.request.query_params.get("cursor", "").replace("\0", "")

    def look(ctx: Read) -> tuple[list[dict[str, Any]], str | None]:
        asset, commit = call.commit(ctx, name or MAIN)
        wanted = {"start": start, "limit": limit + 1}
        if call.flag("recursive"):
            found: Sequence[FileFacts | Folder] = files_under(ctx, commit, folder, **wanted)
            items = list(forms.with_folders(found[:limit], folder, start))
        else:
            found = entries_in(ctx, commit, folder, **wanted)
            items = found[:limit]
        if folder and not found and not start:
            raise Refused("hub.file-absent", path=folder[:200])
        following = beyond(found[limit - 1]) if len(found) > limit else None
        return _lines(ctx, asset.id, commit, items, expand=expand), following

    lines, following = call.look(look)
    return json(lines, headers=call.next_page(cursor=following) if following else None)


def paths_info(call: Call) -> Response:
    """Those of the paths in the form that are there."""
    form = parse_qsl(call.body.decode("utf-8", "replace"), max_num_fields=MAX_PATHS + 10)
    paths = [value.replace("\0", "") for name, value in form if name == "paths"]
    expand = ("expand", "true") in [(name, value.lower()) for name, value in form]

    def look(ctx: Read) -> list[dict[str, Any]]:
        asset, commit = call.commit(ctx, call.revision("paths-info"))
        return _lines(ctx, asset.id, commit, list(items_called(ctx, commit, paths)), expand=expand)

    return json(call.look(look))


def _lines(
    ctx: Read, asset: str, commit: Commit, items: Sequence[FileFacts | Folder], *, expand: bool
) -> list[dict[str, Any]]:
    paths = [item.path for item in items if not isinstance(item, Folder)]
    changes = last_changes(ctx, asset, commit, paths) if expand else {}
    return [forms.entry(item, changes.get(item.path)) for item in items]


def list_refs(call: Call) -> Response:
    def look(ctx: Read) -> dict[str, Any]:
        asset = call.repository(ctx)
        oids = refs.targets_of(ctx, asset.id)
        branches = [(name, oid) for kind, name, oid in oids if kind == "branch"]
        branches = branches or [(MAIN, commit_at(ctx, asset).oid)]
        return {
            "branches": [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in branches],
            "tags": [
                {"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for kind, n, oid in oids if kind == "tag"
            ],
            "converts": [],
            "pullRequests": [],
        }

    return json(call.look(look))


def commits(call: Call) -> Response:
    """The commits up to a revision, newest first. An author whom the caller may not know is shown by id."""
    skip = call.request.query_params.get("skip", "0")
    start = int(skip) if skip.isascii() and skip.isdigit() and len(skip) < 9 else 0

    def look(ctx: Read) -> tuple[list[dict[str, Any]], bool]:
        asset, commit = call.commit(ctx, call.revision("commits"))
        found = history(ctx, asset.id, commit, skip=start, limit=COMMITS + 1)
        names = members.names(ctx, {each.author for each in found if each.author})
        lines = [
            {
                "id": each.oid,
                "title": forms.title(each),
                "message": (each.message or "").partition("\n")[2].strip(),
                "date": forms.written(each.at),
                "authors": [{"user": names[each.author]}] if each.author else [],
            }
            for each in found[:COMMITS]
        ]
        return lines, len(found) > COMMITS

    lines, more = call.look(look)
    return json(lines, headers=call.next_page(skip=str(start + COMMITS)) if more else None)


def create_branch(call: Call) -> Response:
    return _create(call, "branch", call.revision("branch"), call.parse(StartingPoint).startingPoint, "")


def delete_branch(call: Call) -> Response:
    return _delete(call, "branch", call.revision("branch"))


def create_tag(call: Call) -> Response:
    """The revision is in the path, the tag's name in the body."""
    given = call.parse(Tag)
    return _create(call, "tag", given.tag, call.revision("tag"), given.message)


def delete_tag(call: Call) -> Response:
    return _delete(call, "tag", call.revision("tag"))


def squash(call: Call) -> Response:
    """History is what others' proofs rest on, so it is not rewritten here."""
    raise Refused("hub.hf-no-squash")


def _create(call: Call, kind: str, name: str, at: str, message: str) -> Response:
    asset = call.look(call.repository)
    call.do(refs.create_ref, asset=asset.id, kind=kind, name=name, at=at, message=message)
    return json({}, 201)


def _delete(call: Call, kind: str, name: str) -> Response:
    asset = call.look(call.repository)
    call.do(refs.delete_ref, asset=asset.id, kind=kind, name=name)
    return json({})
