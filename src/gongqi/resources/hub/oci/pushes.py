"""Pushes: a manifest becomes the next revision of its asset.

It states the whole: files that it does not name go, files that are the same stay as they are, with what was said of them
(component, licence) and with the lineage. `latest` and `main` move the head of `main`, the name of a branch moves that
branch, any other tag is put on the new head of `main` and then stays: a tag that means something else already is refused.
A repository that is not there yet is made, private, when the caller may make one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import anyio.to_thread
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gongqi.kernel.errors import Refused
from gongqi.kernel.verbs import Call as VerbCall
from gongqi.kernel.verbs import Read, execute_all
from gongqi.resources.hub import assets, refs, revisions
from gongqi.resources.hub.assets import AssetOut, add_blob, inspected_names
from gongqi.resources.hub.models import Ref, Revision
from gongqi.resources.hub.oci import manifests
from gongqi.resources.hub.oci.door import Call
from gongqi.resources.hub.oci.manifests import Pushed
from gongqi.resources.hub.oci.pulls import LATEST, digest_in, revision_called
from gongqi.resources.hub.oci.shelf import Told, config_of, keep, on_shelf
from gongqi.resources.hub.oci.uploads import organisation
from gongqi.resources.hub.revisions import files_of
from gongqi.resources.hub.rules import MAIN, check_ref
from gongqi.resources.hub.uploads import intake_of, look_again, paced

CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """What a push does: `branch` moves from `head`, None when it has none; `is_tagged` when the tag is put on it.

    `done`: the revision that the tag means already and that is the same.
    """

    branch: str
    head: str | None
    files: Mapping[str, str]
    removed: list[str]
    is_tagged: bool
    done: str | None = None


async def push(call: Call) -> Response:
    """Take a manifest. Its blobs have been brought before."""
    content = bytearray()
    try:
        async for chunk in paced(call.request):
            content += chunk
            if len(content) > manifests.LIMIT_BYTES:
                raise Refused("hub.oci-manifest-too-large", size_bytes=len(content), limit_bytes=manifests.LIMIT_BYTES)
    except ClientDisconnect as error:
        raise Refused("kernel.blob-truncated", got_bytes=len(content), want_bytes=None) from error
    work = partial(_push, call, bytes(content))
    return await anyio.to_thread.run_sync(work, limiter=intake_of(call.kernel).inspections)


def delete(call: Call) -> Response:
    """Take a tag away. What it meant stays."""
    reference = call.request.path_params["reference"]
    if ":" in reference:
        raise Refused("hub.oci-unsupported", what="DELETE sha256")
    asset = call.look(call.repository)
    call.do(refs.delete_ref, asset=asset.id, kind="tag", name=reference)
    return Response(status_code=202)


def _push(call: Call, content: bytes) -> Response:
    reference = call.request.path_params["reference"]
    org = call.look(partial(organisation, call))
    pushed = manifests.parse(content)
    if ":" in reference:
        return _again(call, digest_in(reference), pushed)
    if not manifests.TAG.fullmatch(reference):
        raise Refused("hub.ref-invalid", ref=ascii(reference[:80])[1:-1])
    check_ref(reference)
    config = call.look(lambda ctx: _config(ctx, org, pushed))
    asset = _asset(call, org, pushed)
    _inspect(call, org, pushed)
    step = call.look(lambda ctx: _step(ctx, asset, reference, pushed))
    revision = step.done or _commit(call, asset, step, reference)
    manifest = Told(pushed.digest, manifests.MANIFEST, pushed.artifact_type, content, revision)
    keep(call.kernel, asset.id, [manifest, config_of(pushed.config_type, config)])
    if step.is_tagged and not step.done:
        call.do(refs.create_ref, asset=asset.id, kind="tag", name=reference, at=revision)
    return _taken(call, pushed)


def _again(call: Call, digest: str, pushed: Pushed) -> Response:
    """A manifest without a tag is taken when it is here: what nothing names would be nobody's."""
    if digest != pushed.digest:
        raise Refused("kernel.digest-mismatch", got=pushed.digest, want=digest)

    def is_here(ctx: Read) -> bool:
        asset = _found(ctx, call)
        return asset is not None and on_shelf(ctx, asset.id, digest) is not None

    if not call.look(is_here):
        raise Refused("hub.oci-unsupported", what="PUT sha256")
    return _taken(call, pushed)


def _taken(call: Call, pushed: Pushed) -> Response:
    digest = f"sha256:{pushed.digest}"
    return Response(
        status_code=201, headers={"location": call.at("manifests", digest), "docker-content-digest": digest}
    )


def _asset(call: Call, org: str, pushed: Pushed) -> AssetOut:
    if asset := call.look(partial(_found, call=call)):
        return asset
    titles = {"title_zh": call.slug, "title_en": call.slug}
    return call.do(assets.create, org=org, slug=call.slug, kind=pushed.kind, **titles)


def _found(ctx: Read, call: Call) -> AssetOut | None:
    try:
        return call.repository(ctx)
    except Refused as refused:
        if refused.code != "hub.address-unknown":
            raise
        return None


def _config(ctx: Read, org: str, pushed: Pushed) -> bytes:
    """The config, which was brought as a blob. Raises Refused hub.blob-unknown, kernel.blob-too-large."""
    if pushed.config not in inspected_names(ctx, org, [pushed.config]):
        raise Refused("hub.blob-unknown", path="config", sha256=pushed.config)
    return ctx.blobs.read(pushed.config, limit_bytes=CONFIG_BYTES)


def _inspect(call: Call, org: str, pushed: Pushed) -> None:
    """Look into what was not looked into under the name that the manifest gives it."""
    seen = call.look(lambda ctx: inspected_names(ctx, org, set(pushed.files.values())))
    given = {}
    for path, digest in pushed.files.items():
        name = PurePosixPath(path).name
        if digest in seen and name not in seen[digest] and (digest, name) not in given:
            given[digest, name] = look_again(call.kernel, org=org, path=path, digest=digest)
    for outcome in execute_all(call.kernel, [VerbCall(add_blob, call.caller, each) for each in given.values()]):
        if isinstance(outcome, Exception):
            raise outcome


def _step(ctx: Read, asset: AssetOut, tag: str, pushed: Pushed) -> Step:
    """Raises Refused hub.ref-taken."""
    ctx.require("hub:revision:change", asset.org)
    is_branch = tag in (LATEST, MAIN) or ctx.session.get(Ref, (asset.id, "branch", tag)) is not None
    branch = MAIN if not is_branch or tag == LATEST else tag
    if not is_branch and (meant := _meant(ctx, asset, tag)):
        if {row.path: row.sha256 for row in files_of(ctx, meant.id)} != pushed.files:
            raise Refused("hub.ref-taken", ref=tag)
        return Step(branch, None, {}, [], is_tagged=True, done=meant.id)
    head = refs.head(ctx, asset.id, branch)
    before = {row.path: row.sha256 for row in files_of(ctx, head.id)} if head else {}
    changed = {path: digest for path, digest in pushed.files.items() if before.get(path) != digest}
    removed = [path for path in before if path not in pushed.files]
    return Step(branch, head.id if head else None, changed, removed, is_tagged=not is_branch)


def _meant(ctx: Read, asset: AssetOut, tag: str) -> Revision | None:
    try:
        return revision_called(ctx, asset, tag)
    except Refused:
        return None


def _commit(call: Call, asset: AssetOut, step: Step, tag: str) -> str:
    """The revision that the branch points at afterwards. Raises Refused as `hub:revision:change` does."""
    if step.head and not step.files and not step.removed:
        return step.head
    made = call.do(
        revisions.change, asset=asset.id, branch=step.branch, message=f"Pushed as {tag}", removed=step.removed,
        files=[{"path": path, "sha256": digest} for path, digest in step.files.items()], parent=step.head or "",
    )  # fmt: skip
    return made.id
