"""Repositories: make, find, list, change, move and delete them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Paged, Read
from gongqi.members import service as members
from gongqi.resources.hub import access, addresses, assets
from gongqi.resources.hub.addresses import asset_at
from gongqi.resources.hub.assets import AssetOut
from gongqi.resources.hub.browsing import Commit, commit_at, files_under, heads_of
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.hub.huggingface import forms
from gongqi.resources.hub.huggingface.door import Body, Call, json, of_kind
from gongqi.resources.hub.public import public_commit
from gongqi.resources.hub.rules import FILE_COUNT_LIMIT
from gongqi.resources.hub.search import Sort, search
from gongqi.resources.hub.tally import downloads_of, downloads_of_one

LISTED = 100  # repositories a page when the client names no limit
MOST_LISTED = 200
UNKNOWN_FILTERS = frozenset({"apps", "inference", "inference_provider", "num_parameters"})  # not ignored: told
GATED_ASKED = {"true": "yes", "false": "no"}  # as the client says it → the value of the label
GATED = {"open": False, "auto": "auto", "manual": "manual"}
SORTS: dict[str, Sort] = {  # as the client says it → ours
    "": "fit",
    "_id": "fit",
    "createdAt": "fit",
    "created_at": "fit",
    "downloads": "downloads",
    "lastModified": "changed",
    "last_modified": "changed",
}


class Named(Body):
    """A repository in a body: of the caller's only organisation when it names none."""

    name: str = Field(min_length=1, max_length=130)
    organization: str | None = Field(None, max_length=64)
    type: Literal["model", "dataset"] = "model"


class Create(Named):
    """`private` is how 1.x says it. Nothing said is private: opening is a step of its own here."""

    visibility: Literal["public", "private"] | None = None
    private: bool | None = None


class Move(Body):
    fromRepo: str = Field(max_length=130)
    toRepo: str = Field(max_length=130)
    type: Literal["model", "dataset"] = "model"


class Settings(Body):
    gated: Literal["auto", "manual", False] | None = None
    visibility: Literal["public", "private"] | None = None
    private: bool | None = None


def create(call: Call) -> Response:
    given = call.parse(Create)
    handle, org, slug = call.look(lambda ctx: _place(ctx, given))
    url = f"{call.origin}/{forms.PREFIX[given.type]}{handle}/{slug}"
    made = {"url": url, "name": f"{handle}/{slug}"}
    visibility = given.visibility or ("public" if given.private is False else "private")
    try:
        asset = call.do(
            assets.create, org=org, slug=slug, kind=given.type, title_zh=slug, title_en=slug, visibility=visibility
        )
    except Refused as refused:
        if refused.code != "hub.slug-taken":
            raise
        _, message, _ = call.kernel.house.words.error(refused, call.caller.language)
        return json({"error": message, **made}, 409)  # the client that does not mind reads the address from here
    return json({**made, "id": asset.id})


def delete(call: Call) -> Response:
    given = call.parse(Named)

    def look(ctx: Read) -> AssetOut:
        handle, _, slug = _place(ctx, given)
        return of_kind(asset_at(ctx, handle, slug), given.type)

    call.do(addresses.delete, asset=call.look(look).id)
    return json({})


def move(call: Call) -> Response:
    given = call.parse(Move)

    def look(ctx: Read) -> tuple[AssetOut, str, str]:
        asset = of_kind(asset_at(ctx, *_split(given.fromRepo)), given.type)
        handle, slug = _split(given.toRepo)
        return asset, _organisation(ctx, handle), slug

    asset, org, slug = call.look(look)
    call.do(addresses.move, asset=asset.id, org=org, slug=slug)
    return json({})


def settings(call: Call) -> Response:
    given = call.parse(Settings)
    asset = call.look(call.repository)
    visibility = given.visibility or {True: "private", False: "public", None: None}[given.private]
    if visibility:
        call.do(assets.open_asset, asset=asset.id, visibility=visibility)
    if given.gated is not None:
        call.do(access.gate, asset=asset.id, gated=given.gated or "open")
    return json({})


def info(call: Call) -> Response:
    """A repository at a revision, `main` unless the path says another."""
    name = call.revision("revision") if "rev" in call.request.path_params else "main"

    def look(ctx: Read) -> dict[str, Any]:
        named = {"handle": call.request.path_params["org"], "slug": call.request.path_params["slug"]}
        asset, commit = public_commit(ctx, **named, kind=call.kind, name=name) or call.commit(ctx, name)
        files = files_under(ctx, commit, "", limit=FILE_COUNT_LIMIT)
        id = f"{named['handle']}/{asset.slug}"
        taken = downloads_of_one(ctx, asset.id)
        return {**described(asset, commit, id, taken), "siblings": _siblings(files, with_blobs=call.flag("blobs"))}

    return json(call.look(look))


def auth_check(call: Call) -> Response:
    """Whether the caller gets the files; and with `/write`, whether it may change them."""

    def look(ctx: Read) -> None:
        asset, commit = call.commit(ctx, "main")
        if call.request.url.path.endswith("/write"):
            ctx.require("hub:revision:change", asset.org)
        elif commit.revision:
            access.check_may_have(ctx, commit.revision)

    call.look(look)
    return json({})


def listing(call: Call) -> Response:
    """The repositories that the caller may see and that fit, newest first unless sorted otherwise; paged by `Link`."""
    asked = call.request.query_params
    sort = SORTS.get(asked.get("sort", ""))
    if sort is None:
        raise Refused("hub.hf-sort-unknown", sort=asked["sort"][:40])
    limit = asked.get("limit", str(LISTED))
    paged = Paged(limit=_count(limit), cursor=asked.get("cursor"))
    words = " ".join(asked.getlist("search"))
    if unknown := UNKNOWN_FILTERS & asked.keys():
        raise Refused("hub.hf-filter-unknown", name=min(unknown))
    filters = [*asked.getlist("filter"), *(f"task_categories:{each}" for each in asked.getlist("pipeline_tag"))]
    gated = GATED_ASKED.get(asked.get("gated", "").lower())
    if "gated" in asked and gated is None:
        raise Refused("hub.hf-body-invalid", where="gated", why="neither true nor false")

    def look(ctx: Read) -> tuple[list[dict[str, Any]], str | None]:
        facts = [("kind", call.kind), *map(forms.fact_of, filters), *([("gated", gated)] if gated else [])]
        if author := asked.get("author"):
            org = members.organisation_called(ctx, author)
            if org is None:
                return [], None
            facts.append(("org", org.id))
        page = search(ctx, paged, words=words, facts=facts, sort=sort)
        return list(_described(ctx, page.items)), page.next

    items, following = call.look(look)
    return json(items, headers=call.next_page(cursor=following) if following else None)


def _described(ctx: Read, found: list[AssetOut]) -> Iterable[dict[str, Any]]:
    handles = members.parties_of(ctx, {each.org for each in found})
    heads = heads_of(ctx, found)
    taken = downloads_of(ctx, [each.id for each in found])
    for each in found:
        commit = heads.get(each.id) or commit_at(ctx, each)
        yield described(each, commit, f"{handles[each.org].handle}/{each.slug}", taken[each.id])


def described(asset: AssetOut, commit: Commit, id: str, downloads: tuple[int, int]) -> dict[str, Any]:
    """A repository as clients show it; what they count and we do not, such as likes, is left out."""
    data = forms.card_data(commit.card, asset.kind)
    named = {name: data[name] for name in ("pipeline_tag", "library_name") if isinstance(data.get(name), str)}
    return {
        "_id": asset.id,
        "id": id,
        **({"modelId": id} if asset.kind == "model" else {}),
        "author": id.split("/")[0],
        "sha": commit.oid,
        "private": asset.visibility != "public",
        "gated": GATED[asset.gated],
        "disabled": asset.standing == "withdrawn",
        "createdAt": forms.written(asset.created_at),
        "lastModified": forms.written(commit.at),
        "downloads": downloads[0],
        "downloadsAllTime": downloads[1],
        "tags": forms.tags(commit.card, asset.kind),
        "cardData": data,
        **named,
    }


def _siblings(files: list[FileFacts], *, with_blobs: bool) -> list[dict[str, Any]]:
    if not with_blobs:
        return [{"rfilename": file.path} for file in files]
    lfs = [{"sha256": file.sha256, "size": file.size, "pointerSize": forms.POINTER_BYTES} for file in files]
    return [
        {"rfilename": file.path, "size": file.size, "blobId": file.sha256[:40], "lfs": each}
        for file, each in zip(files, lfs, strict=True)
    ]


def _count(limit: str) -> int:
    """Raises Refused hub.hf-body-invalid."""
    if not re.fullmatch(r"[0-9]{1,9}", limit):
        raise Refused("hub.hf-body-invalid", where="limit", why="not a number")
    return min(max(int(limit), 1), MOST_LISTED)


def _place(ctx: Read, given: Named) -> tuple[str, str, str]:
    """(handle and id of the organisation, name). Raises Refused hub.hf-organisation-needed, hub.address-unknown."""
    handle, slash, slug = given.name.partition("/")
    if given.organization or slash:
        handle, slug = (given.organization, given.name) if given.organization else (handle, slug)
        return handle, _organisation(ctx, handle), slug
    own = ctx.actor.orgs_with("hub:asset:create") & ctx.actor.orgs
    if len(own) != 1:
        raise Refused("hub.hf-organisation-needed", name=given.name[:64])
    [org] = members.parties_of(ctx, own).values()
    return org.handle, org.id, given.name


def _split(address: str) -> tuple[str, str]:
    handle, _, slug = address.partition("/")
    return handle, slug


def _organisation(ctx: Read, handle: str) -> str:
    org = members.organisation_called(ctx, handle)
    if org is None:
        raise Refused("hub.address-unknown", address=handle[:64])
    return org.id
