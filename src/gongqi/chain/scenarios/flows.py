"""The return: outcomes become the next revision of a dataset, exactly once, whatever happens to the process.

The table is built outside any transaction and its bytes are stored under their digest, which may happen again; the
revision, the marks on the outcomes and the end of the return are one transaction, which may not. Should somebody commit
a revision of the dataset in between, the table is built anew upon it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import select, update

from gongqi.chain.scenarios import rules
from gongqi.chain.scenarios.events import OutcomesReturned
from gongqi.chain.scenarios.models import Outcome, Return
from gongqi.chain.scenarios.service import table_file
from gongqi.kernel.errors import Refused
from gongqi.kernel.flows import Flow, Run
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read, Write
from gongqi.resources.hub import service as hub

MAX_ATTEMPTS = 8  # a dataset that gets eight revisions meanwhile is being worked on; its steward starts again later


def extend(run: Run, build: Callable[..., Any], commit: Callable[..., Any], give_up: Callable[..., Any]) -> None:
    """Build the next revision of a dataset outside of any transaction, and commit it unless the dataset has moved on
    meanwhile; then build it anew. `commit(ctx, built=…)` says whether it did; `give_up(ctx, reason=…)` is the end."""
    try:
        for attempt in range(MAX_ATTEMPTS):
            built = run.call(f"build-{attempt}", build)
            if run.write(f"commit-{attempt}", partial(commit, built=built)):
                return
        reason = "scenarios.dataset-busy"
    except Refused as refusal:  # a dataset that cannot be extended as it is; its steward is told why
        reason = refusal.code
    run.write("give-up", partial(give_up, reason=reason))


def bring_back(run: Run, back: str) -> None:
    extend(run, partial(_build, run.kernel, back), partial(_commit, back=back), partial(_give_up, back=back))


FLOWS = (Flow("scenarios.return", bring_back),)


def _build(kernel: Kernel, back: str, _key: str) -> dict[str, Any]:
    """Store the next table, and say what is in it. `sha256` is None when no outcome fitted."""
    revision, records = kernel.look(partial(_gather, back=back))
    file = table_file(revision)
    table = rules.read_table(kernel.blobs.read(file.sha256, limit_bytes=rules.MAX_TABLE_BYTES))
    extended = rules.extend(table, records)
    built = {
        "parent": revision.number, "previous": revision.revision, "path": file.path, "added": list(extended.added),
        "set_aside": {why: list(ids) for why, ids in extended.set_aside.items()}, "sha256": None,
    }  # fmt: skip
    if not extended.added:
        return built
    stored = kernel.blobs.put(rules.write_table(extended.table))
    seen = hub.inspect_blob(kernel.blobs, stored.sha256, file.path)
    return built | {"sha256": stored.sha256, "size": seen.size, "findings": list(seen.findings), "name": seen.name}


def _gather(ctx: Read, *, back: str) -> tuple[hub.RevisionFacts, list[rules.Record]]:
    """The dataset's present revision, and the outcomes that are to join it."""
    row = _row(ctx, back)
    latest = hub.latest_revision(ctx, row.asset)
    assert latest is not None, "a dataset in a lineage has a revision"
    outcomes = ctx.session.scalars(select(Outcome).where(Outcome.returned_in == back))
    records = [rules.Record(each.id, each.record, each.features, each.label) for each in outcomes]
    return hub.revision_facts(ctx, latest.id), records


def _commit(ctx: Write, *, back: str, built: dict[str, Any]) -> bool:
    """End the return with what was built. False when the dataset has moved on, and nothing is done."""
    row = _row(ctx, back)
    latest = hub.latest_revision(ctx, row.asset)
    if latest is None or latest.number != built["parent"]:
        return False
    for why, ids in built["set_aside"].items():
        _mark(ctx, ids, set_aside=why)
    row.count, row.set_aside = len(built["added"]), row.claimed - len(built["added"])
    row.state, row.finished_at = "done" if row.count else "empty", ctx.now
    if row.count:
        row.revision = _revise(ctx, row, built)
    ctx.record(
        row.id, kind="scenarios.outcomes-returned", deployment=row.deployment, asset=row.asset, revision=row.revision,
        count=row.count, set_aside=row.set_aside,
    )  # fmt: skip
    if row.revision:
        ctx.emit(
            OutcomesReturned(
                back=row.id, deployment=row.deployment, asset=row.asset, revision=row.revision, count=row.count
            )
        )
    return True


def _revise(ctx: Write, row: Return, built: dict[str, Any]) -> str:
    """The dataset's next revision: every file as before but the table. Its lineage names the models that answered."""
    inspected = hub.Inspected(built["name"], built["size"], tuple(built["findings"]), ())
    hub.receive_blob(ctx, org=row.org, sha256=built["sha256"], inspected=inspected)
    before = hub.revision_facts(ctx, built["previous"])
    files = [
        hub.FileInput(
            path=file.path, component=file.component, license=file.license,
            sha256=built["sha256"] if file.path == built["path"] else file.sha256,
        )
        for file in before.files
    ]  # fmt: skip
    joined = select(Outcome.release).where(Outcome.returned_in == row.id, Outcome.set_aside.is_(None)).distinct()
    models = {hub.release_facts(ctx, release).revision for release in ctx.session.scalars(joined)}
    lineage = [(before.revision, "derived-from"), *((model, "returned-from") for model in sorted(models))]
    message = f"由应用回流的真实结果 {row.count} 条 / {row.count} true outcomes returned by applications"
    return hub.commit_revision(
        ctx, asset=row.asset, message=message, files=files, parent=built["parent"], lineage=lineage
    ).id


def _give_up(ctx: Write, *, back: str, reason: str) -> None:
    """End the return without effect; its outcomes may be taken by another."""
    row = _row(ctx, back)
    row.state, row.reason, row.finished_at = "failed", reason, ctx.now
    freed = update(Outcome).where(Outcome.returned_in == back).values(returned_in=None, set_aside=None)
    ctx.session.execute(freed.execution_options(synchronize_session=False))
    ctx.record(row.id, kind="scenarios.return-failed", deployment=row.deployment, asset=row.asset, reason=reason)


def _row(ctx: Read, back: str) -> Return:
    row = ctx.session.get(Return, back)
    assert row is not None, "the return is committed before its flow starts"
    return row


def _mark(ctx: Write, ids: list[str], *, set_aside: str) -> None:
    for start in range(0, len(ids), 500):  # databases bound the parameters of one statement
        some = update(Outcome).where(Outcome.id.in_(ids[start : start + 500])).values(set_aside=set_aside)
        ctx.session.execute(some.execution_options(synchronize_session=False))
