"""A request's body on its way in: bounded, kept apart, looked into, and only then in the store.

The order is what protects: the right and the room are asked before a byte travels; the bytes go to a private file that
nobody else can name; what arrived is compared with what was declared; a child process inspects the private file; only
then is it placed among the blobs, and noted as the organisation's own. Bytes that are refused were never in the store,
so there is nothing to remove that somebody else might be bringing at the same moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from hashlib import sha256 as sha256_of
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from gongqi.kernel.blobs import CHUNK_BYTES, MAX_BLOB_BYTES, check_digest
from gongqi.kernel.blobs.incoming import MAX_PIECES
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Caller, execute
from gongqi.resources.hub import service
from gongqi.resources.hub.assets import AddBlob, BlobOut, add_blob
from gongqi.resources.hub.inspection import Inspected, inspect_blob, inspect_file
from gongqi.resources.hub.intake import PACE_SECONDS, Intake, Pace, Share, too_slow

if TYPE_CHECKING:
    from gongqi.kernel.blobs.incoming import Upload


async def take_upload(request: Request, kernel: Kernel, caller: Caller, *, sha256: str, org: str, path: str) -> BlobOut:
    """Take the body of `request` as the file `path` of `org`; a refusal leaves nothing behind."""
    check_digest(sha256)
    check_right(caller, org)
    size = declared_length(request)
    intake = intake_of(kernel)
    room = await anyio.to_thread.run_sync(kernel.look, lambda ctx: service.room_for(ctx, org, sha256))
    with intake.admit(org, size=size, room_bytes=room) as share:
        upload: Upload = await anyio.to_thread.run_sync(kernel.blobs.upload)
        with upload:  # left in any way but by `finish`, it is gone; also when the server stops
            await receive(paced(request), upload, share, size)
            await anyio.to_thread.run_sync(lambda: upload.check(sha256=sha256, size=size))
            return await take_in(kernel, caller, upload, sha256=sha256, org=org, path=path)


async def take_in(kernel: Kernel, caller: Caller, upload: Upload, *, sha256: str, org: str, path: str) -> BlobOut:
    """Inspect what has come in as the file `path`, place it in the store and note it as `org`'s own."""

    def work() -> BlobOut:
        upload.check(sha256=sha256)
        return execute(kernel, add_blob, caller, _inspected(upload, org, path, sha256))

    return await anyio.to_thread.run_sync(work, limiter=intake_of(kernel).inspections)


def look_and_place(kernel: Kernel, *, org: str, path: str, content: bytes) -> AddBlob:
    """Inspect bytes that came inside a message and place them in the store; what is returned makes them `org`'s own."""
    room = kernel.look(lambda ctx: service.room_for(ctx, org, sha256_of(content).hexdigest()))
    with intake_of(kernel).admit(org, size=len(content), room_bytes=room), kernel.blobs.upload() as upload:
        upload.feed(content)
        return _inspected(upload, org, path, upload.check().sha256)


def look_again(kernel: Kernel, *, org: str, path: str, digest: str) -> AddBlob:
    """Inspect stored bytes under another name than they came by; what is returned lets `org` commit them so."""
    return _given(org, digest, inspect_blob(kernel.blobs, digest, path))


def intake_of(kernel: Kernel) -> Intake:
    return kernel.parts.setdefault(Intake, Intake())  # counts, of this process: there is nothing to set up


def _inspected(upload: Upload, org: str, path: str, digest: str) -> AddBlob:
    with upload.open() as file:
        seen = inspect_file(file, path)
    upload.finish(sha256=digest)
    return _given(org, digest, seen)


def _given(org: str, digest: str, seen: Inspected) -> AddBlob:
    return AddBlob(
        org=org, sha256=digest, name=seen.name, size=seen.size, findings=list(seen.findings),
        external=list(seen.external),
    )  # fmt: skip


def check_right(caller: Caller, org: str) -> None:
    """The verb asks again; this asks before gigabytes travel."""
    if not caller.actor.may("hub:blob:add", org):
        code = "access.sign-in-needed" if caller.actor.is_anonymous else "access.forbidden"
        raise Refused(code, permission="hub:blob:add")


def declared_length(request: Request) -> int | None:
    """Raises Refused hub.length-invalid, kernel.blob-too-large."""
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not declared.isascii() or not declared.isdigit() or len(declared) > 18:
        raise Refused("hub.length-invalid")
    if int(declared) > MAX_BLOB_BYTES:
        raise Refused("kernel.blob-too-large", limit_bytes=MAX_BLOB_BYTES)
    return int(declared)


async def receive(arriving: AsyncIterator[bytes], upload: Upload, share: Share, size: int | None) -> None:
    """Feed what arrives to an upload: while a thread hashes and writes one part, the next comes in.

    Raises Refused kernel.blob-truncated, hub.quota-exceeded.
    """
    held, held_bytes = list[bytes](), 0  # the server hands over some 64 kB at a time; the disk prefers more
    async with _Feeding(upload) as feeding:
        try:
            async for chunk in arriving:
                share.arrived(len(chunk))
                held.append(chunk)
                held_bytes += len(chunk)
                if held_bytes >= CHUNK_BYTES or len(held) == MAX_PIECES:
                    await feeding.take(held)
                    held, held_bytes = [], 0
            await feeding.take(held)
            await feeding.settle()
        except ClientDisconnect as error:
            await feeding.take(held)  # for who goes on from where it was cut
            await feeding.settle()
            raise Refused("kernel.blob-truncated", got_bytes=upload.size, want_bytes=size) from error


class _Feeding:
    """One part at a time is fed to the upload, by a thread; who leaves waits for it, since the file is closed then."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._under_way: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _Feeding:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._under_way is not None:
            with anyio.CancelScope(shield=True):
                await asyncio.gather(self._under_way, return_exceptions=True)

    async def take(self, part: list[bytes]) -> None:
        """Begin with the next part. Raises what became of the one before."""
        await self.settle()
        self._under_way = asyncio.create_task(anyio.to_thread.run_sync(lambda: self._upload.feed(*part)))

    async def settle(self) -> None:
        if self._under_way is not None:
            await asyncio.shield(self._under_way)
            self._under_way = None


async def paced(request: Request) -> AsyncIterator[bytes]:
    """The body, for as long as it comes fast enough. Raises Refused hub.upload-too-slow."""
    pace, arriving = Pace(time.monotonic()), request.stream()
    while True:
        try:
            async with asyncio.timeout(PACE_SECONDS):  # at half of what anyio's costs, for each few kilobytes
                chunk = await anext(arriving, None)
        except TimeoutError:
            raise too_slow() from None
        if chunk is None:
            return
        pace.arrived(len(chunk), now=time.monotonic())
        yield chunk
