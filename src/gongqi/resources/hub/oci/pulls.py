"""Pulls: manifests by tag or digest, blobs, tags, and what refers to a manifest.

A blob is given out of a repository when a revision of that asset holds it and the caller may have that revision's files;
so a digest alone opens nothing. A client that pushes may also ask for what its organisation has brought and not yet
committed.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import orjson
from sqlalchemy import select
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Read
from gongqi.resources.hub import refs, tally
from gongqi.resources.hub.access import check_may_have
from gongqi.resources.hub.assets import AssetOut
from gongqi.resources.hub.downloads import send_blob
from gongqi.resources.hub.models import BlobOwner, File, Release, Revision
from gongqi.resources.hub.oci import manifests
from gongqi.resources.hub.oci.door import Call
from gongqi.resources.hub.oci.shelf import Told, document_in, manifest_of, on_shelf, referring_to
from gongqi.resources.hub.rules import MAIN

LATEST = "latest"  # what clients ask for when nobody said what
LOOKED_AT = 50  # revisions that hold the same blob, of which one must be for the caller
PAGE = 1_000
UNCOMMITTED = ""  # bytes that the caller's organisation has brought, and that are in no revision yet
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def manifest(call: Call) -> Response:
    """A manifest, by tag or digest."""
    told = _named(call, call.request.path_params["reference"])
    headers = {"docker-content-digest": f"sha256:{told.digest}", "etag": f'"sha256:{told.digest}"'}
    return Response(told.content, headers=headers, media_type=told.media_type)


def blob(call: Call) -> Response:
    """A file of the asset, whole or in ranges; a config or a document about a release."""
    sha256 = digest_in(call.request.path_params["digest"])

    def look(ctx: Read) -> tuple[str, str | None, tuple[str, bytes] | None]:
        asset = call.repository(ctx)
        if told := on_shelf(ctx, asset.id, sha256):
            return asset.id, None, (told.media_type, told.content)
        if document := document_in(ctx, asset.id, sha256):
            return asset.id, None, document
        return asset.id, holder_of(ctx, asset, sha256), None

    asset, revision, document = call.look(look)
    headers = {"docker-content-digest": f"sha256:{sha256}", "etag": f'"{sha256}"'}
    if revision is not None:
        if revision != UNCOMMITTED:
            tally.note(call.request, call.caller, asset, revision)
        return send_blob(call.request, call.kernel, sha256, headers)
    if document is None:
        raise Refused("hub.oci-blob-unknown", digest=f"sha256:{sha256}")
    return Response(document[1], headers=headers, media_type="application/octet-stream")


def tags(call: Call) -> Response:
    """The names that may be pulled, in order; `n` at a time, after `last`."""
    asked = call.request.query_params
    size = asked.get("n", str(PAGE))
    if not (size.isascii() and size.isdigit()) or len(size) > 9:
        raise Refused("hub.oci-page-invalid")
    count = min(int(size), PAGE)
    names = [name for name in call.look(lambda ctx: _tags(ctx, call)) if name > asked.get("last", "")]
    document = {"name": f"{call.org}/{call.slug}", "tags": names[:count]}
    headers = {}
    if 0 < count < len(names):
        address = f"{call.at('tags', 'list')}?n={count}&last={quote(names[count - 1], safe='')}"
        headers["link"] = f'<{address}>; rel="next"'
    return Response(orjson.dumps(document), headers=headers, media_type="application/json")


def referrers(call: Call) -> Response:
    """What refers to a manifest: the documents of the releases that it is the content of."""
    digest = digest_in(call.request.path_params["digest"])
    asset = call.look(call.repository)
    wanted = call.request.query_params.get("artifactType")
    found = [each for each in referring_to(call.kernel, asset.id, digest) if wanted in (None, each.artifact_type)]
    listed = [
        {
            "mediaType": each.media_type,
            "artifactType": each.artifact_type,
            "digest": f"sha256:{each.digest}",
            "size": len(each.content),
            "annotations": orjson.loads(each.content)["annotations"],
        }
        for each in found
    ]
    index = {"schemaVersion": 2, "mediaType": manifests.INDEX, "manifests": listed}
    headers = {"oci-filters-applied": "artifactType"} if wanted else {}
    return Response(orjson.dumps(index), headers=headers, media_type=manifests.INDEX)


# --- for the pushing side too ----------------------------------------------------------------------------------------


def digest_in(text: str) -> str:
    """Raises Refused hub.oci-digest-invalid."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise Refused("hub.oci-digest-invalid", digest=ascii(text[:80])[1:-1])
    return found[1]


def revision_called(ctx: Read, asset: AssetOut, tag: str) -> Revision:
    """What a tag means: a branch or tag of the asset, a release, or the head of `main`. Raises Refused hub.ref-unknown."""
    release = ctx.visible(Release, to="hub:release:read").where(Release.asset == asset.id, Release.name == tag)
    try:
        return refs.resolve(ctx, asset.id, tag)
    except Refused:
        if row := ctx.session.scalar(release):
            return ctx.session.get_one(Revision, row.revision)
        if tag != LATEST:
            raise
        return refs.resolve(ctx, asset.id, MAIN)


def holder_of(ctx: Read, asset: AssetOut, sha256: str) -> str | None:
    """The newest revision of the asset that has these bytes for the caller, or UNCOMMITTED.

    Raises Refused hub.asset-gated, hub.release-withdrawn.
    """
    query = select(Revision.id).join(File, File.revision == Revision.id)
    query = query.where(Revision.asset == asset.id, File.sha256 == sha256).order_by(Revision.id.desc()).limit(LOOKED_AT)
    refused: Refused | None = None
    for revision in ctx.session.scalars(query).all():
        try:
            check_may_have(ctx, revision)
            return revision
        except Refused as error:
            refused = refused or error
    if ctx.actor.may("hub:blob:add", asset.org) and ctx.session.get(BlobOwner, (sha256, asset.org)):
        return UNCOMMITTED
    if refused:
        raise refused
    return None


def _named(call: Call, reference: str) -> Told:
    if ":" not in reference:

        def look(ctx: Read) -> tuple[AssetOut, str]:
            asset = call.repository(ctx)
            return asset, revision_called(ctx, asset, reference).id

        asset, revision = call.look(look)
        return manifest_of(call.kernel, asset.id, revision)
    digest = digest_in(reference)
    told = call.look(lambda ctx: on_shelf(ctx, call.repository(ctx).id, digest))
    if told is None or told.media_type != manifests.MANIFEST:
        raise Refused("hub.oci-manifest-unknown", digest=reference)
    return told


def _tags(ctx: Read, call: Call) -> list[str]:
    asset = call.repository(ctx)
    names = {ref.name for ref in refs.refs_of(ctx, asset.id)}
    releases = ctx.visible(Release, to="hub:release:read").where(Release.asset == asset.id)
    names |= set(ctx.session.scalars(releases.with_only_columns(Release.name)))
    if names:
        names.add(LATEST)
    return sorted(filter(manifests.TAG.fullmatch, names))
