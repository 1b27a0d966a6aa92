"""What is read in the files of a revision, and what changed between two: found once, outside any transaction, and kept.

Everything here is for flows and for reads that have authorised; it decides nothing about who may see what.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import delete, or_, select

from gongqi.chain.standards import tables
from gongqi.chain.standards.claims import Table, claimed
from gongqi.chain.standards.donated import DESCRIPTION, LIMIT_BYTES, PATHS
from gongqi.chain.standards.models import Difference, Reading
from gongqi.chain.standards.tables import MAX_TABLES, RECIPE
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read, Write
from gongqi.resources.hub import service as hub

BATCH = 500  # rows looked at in one transaction


class StoredFile(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


def form_of(file: StoredFile) -> str | None:
    """What a file is read as: a table, a donor's own description, or nothing."""
    if file.path in PATHS:
        return DESCRIPTION if file.size <= LIMIT_BYTES else None
    return tables.form_of(file.path)


def readable(files: Iterable[StoredFile]) -> list[tuple[StoredFile, str]]:
    """Descriptions, and the first MAX_TABLES tables in their order, each with its form."""
    forms = [(file, form) for file in files if (form := form_of(file))]
    described = [each for each in forms if each[1] == DESCRIPTION]
    return described + [each for each in forms if each[1] != DESCRIPTION][:MAX_TABLES]


def read_all(kernel: Kernel, files: Sequence[StoredFile]) -> int:
    """Read and keep what has not been read; how many that were. Slow. Raises Unavailable when the machine is too busy."""
    wanted = {(file.sha256, form) for file, form in readable(files)}
    known = kernel.look(lambda ctx: found_in(ctx, wanted))
    for sha256, form in sorted(wanted - known.keys()):
        if kernel.blobs.find(sha256) is None:
            continue  # lost: the check of the store says so, and the other tables are read
        found = tables.describe(kernel.blobs, sha256, form)
        key = {"sha256": sha256, "form": form, "recipe": RECIPE}
        kernel.transact(lambda ctx, key=key, found=found: _keep(ctx, Reading, key, found), reason="standards.read")
    return len(wanted - known.keys())


def compare_all(kernel: Kernel, before: Sequence[StoredFile], after: Sequence[StoredFile]) -> int:
    """Compare and keep the tables that changed under their name and were not compared; how many. As `read_all`."""
    wanted = set(changed_tables(before, after).values())
    known = kernel.look(lambda ctx: differences_in(ctx, wanted))
    for old, new, form in sorted(wanted - known.keys()):
        if None in (kernel.blobs.find(old), kernel.blobs.find(new)):
            continue
        found = tables.compare(kernel.blobs, (old, form), (new, form))
        key = {"before": old, "after": new, "form": form, "recipe": RECIPE}
        kernel.transact(lambda ctx, key=key, found=found: _keep(ctx, Difference, key, found), reason="standards.read")
    return len(wanted - known.keys())


def changed_tables(before: Iterable[StoredFile], after: Iterable[StoredFile]) -> dict[str, tuple[str, str, str]]:
    """By path, (SHA-256 before, after, form) of the tables that are in both under one name and are not the same."""
    old = {file.path: file for file, form in readable(before) if form != DESCRIPTION}
    return {
        file.path: (old[file.path].sha256, file.sha256, form)
        for file, form in readable(after)
        if form != DESCRIPTION and file.path in old and old[file.path].sha256 != file.sha256
    }


def found_in(ctx: Read, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Of these (SHA-256, form), what has been read."""
    digests = {sha256 for sha256, _ in wanted}
    rows = ctx.session.scalars(select(Reading).where(Reading.sha256.in_(digests), Reading.recipe == RECIPE))
    return {(row.sha256, row.form): row.found for row in rows}


def differences_in(ctx: Read, wanted: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Of these (SHA-256 before, after, form), what has been compared."""
    digests = {after for _, after, _ in wanted}
    rows = ctx.session.scalars(select(Difference).where(Difference.after.in_(digests), Difference.recipe == RECIPE))
    return {(row.before, row.after, row.form): row.found for row in rows}


def claimed_tables(ctx: Read, files: Sequence[StoredFile]) -> tuple[Table, ...]:
    """What may be claimed of the tables that have been read."""
    forms = readable(files)
    found = found_in(ctx, {(file.sha256, form) for file, form in forms})
    known = [(file, form) for file, form in forms if form != DESCRIPTION and (file.sha256, form) in found]
    made = (claimed(file.path, form, found[file.sha256, form]) for file, form in known)
    return tuple(table for table in made if table is not None)


def own_description(ctx: Read, files: Sequence[StoredFile]) -> tuple[str, dict[str, Any] | None] | None:
    """The path of a donor's own description and what it was found to say, None while that is not known; None when no
    file is one."""
    forms = sorted(
        (each for each in readable(files) if each[1] == DESCRIPTION), key=lambda each: PATHS.index(each[0].path)
    )
    found = found_in(ctx, {(file.sha256, form) for file, form in forms})
    for file, form in forms:
        said = found.get((file.sha256, form))
        if said is None or said.get("flaw") != "no-description" or file.path == PATHS[0]:
            return file.path, said
    return None


def forget_lost(ctx: Write, *, after: str) -> str | None:
    """Forget what was read in files that are in no revision any more: the place to go on from, None at the end."""
    seen = select(Reading.sha256).where(Reading.sha256 > after).distinct().order_by(Reading.sha256).limit(BATCH)
    digests = list(ctx.session.scalars(seen))
    lost = set(digests) - hub.digests_in_revisions(ctx, digests)
    if lost:
        ctx.session.execute(delete(Reading).where(Reading.sha256.in_(lost)))
        ctx.session.execute(delete(Difference).where(or_(Difference.before.in_(lost), Difference.after.in_(lost))))
    return digests[-1] if len(digests) == BATCH else None


def _keep(ctx: Write, model: type[Reading | Difference], key: dict[str, Any], found: dict[str, Any]) -> None:
    """Keep what was found, unless somebody else has found it meanwhile."""
    if ctx.session.get(model, tuple(key.values())) is None:
        ctx.add(model(**key, found=found, at=ctx.now))
