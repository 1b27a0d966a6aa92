"""A gathering becomes a revision exactly once, as a return does (`flows`); and lines leave when their days are over.

The lines are made outside any transaction and stored under their digest, which may happen again; the revision, the end
of the feedback and the end of the gathering are one transaction, which may not.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import select

from gongqi.chain.scenarios.events import FeedbackGathered
from gongqi.chain.scenarios.flows import extend
from gongqi.chain.scenarios.gathering import COMPONENT, card_of, line_of
from gongqi.chain.scenarios.models import Gathering
from gongqi.kernel.errors import Refused
from gongqi.kernel.flows import Flow, Run, Schedule
from gongqi.kernel.room import Kernel
from gongqi.kernel.verbs import Read, Write
from gongqi.members import service as members
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.gates import FileFacts
from gongqi.resources.serving import service as serving

DROP_EVERY_SECONDS = 3600
MAX_DROPPED = 100  # files in one round; the others are for the next
CARD = "README.md"


def bring_feedback(run: Run, gathering: str) -> None:
    which = {"gathering": gathering}
    extend(run, partial(_build, run.kernel, gathering), partial(_commit, **which), partial(_give_up, **which))


def drop_over(run: Run) -> int:
    """Drop from their datasets the files whose days are over."""
    dropped = 0
    for number in range(MAX_DROPPED):
        if not run.write(f"drop-{number}", _drop_one):
            break
        dropped += 1
    return dropped


FLOWS = (Flow("scenarios.gather", bring_feedback), Flow("scenarios.drop-over", drop_over))
SCHEDULES = (Schedule("scenarios.drop-over", DROP_EVERY_SECONDS),)


def _build(kernel: Kernel, gathering: str, _key: str) -> dict[str, Any]:
    """Store the lines and, for a dataset that has none, the card; say what is in them. `file` is None without lines."""
    row, model, said, names, releases, latest = kernel.look(partial(_gather, gathering=gathering))
    lines, aside = [], {}
    for each in said:
        line = line_of(each, model, releases.get(each.release), names.get(each.org))
        if isinstance(line, bytes):
            lines.append(line)
        else:
            aside.setdefault(line, []).append(each.id)
    built = {"parent": latest.number if latest else 0, "set_aside": aside, "file": None, "card": None}
    if not lines:
        return built
    # Sorted by what they say, so that their order says nothing of when they came.
    built["file"] = _stored(kernel, b"".join(sorted(lines)), f"feedback/{row.id}.jsonl")
    if latest is None:
        built["card"] = _stored(kernel, card_of(model, serving.Agreement.model_validate(row.terms)), CARD)
    return built


def _stored(kernel: Kernel, content: bytes, path: str) -> dict[str, Any]:
    stored = kernel.blobs.put(content)
    seen = hub.inspect_blob(kernel.blobs, stored.sha256, path)
    return {
        "path": path, "sha256": stored.sha256, "name": seen.name, "size": seen.size, "findings": list(seen.findings)
    }  # fmt: skip


def _gather(ctx: Read, *, gathering: str) -> Any:
    """The gathering, its model, what it claimed, the names of organisations, where they are said, and of releases, and the
    dataset's present revision."""
    row = _row(ctx, gathering)
    said = serving.claimed_feedback(ctx, gathering)
    names = members.names(ctx, {each.org for each in said}) if row.terms["names_org"] else {}
    releases = {each.release: hub.release_facts(ctx, each.release).name for each in said if each.release}
    model = serving.route_facts(ctx, row.route).name
    return row, model, said, names, releases, hub.latest_revision(ctx, row.asset)


def _commit(ctx: Write, *, gathering: str, built: dict[str, Any]) -> bool:
    """End the gathering with what was built. False when the dataset has moved on, and nothing is done."""
    row = _row(ctx, gathering)
    latest = hub.latest_revision(ctx, row.asset)
    if (latest.number if latest else 0) != built["parent"]:
        return False
    said = serving.claimed_feedback(ctx, gathering)
    aside = {id for ids in built["set_aside"].values() for id in ids}
    row.set_aside = {why: len(ids) for why, ids in sorted(built["set_aside"].items())}
    if built["file"] is not None:
        releases = {each.release for each in said if each.release and each.id not in aside}
        row.revision = _revise(ctx, row, latest, built, releases)
        row.path = built["file"]["path"]
    row.count = serving.end_feedback(ctx, gathering, built["set_aside"])
    row.state, row.finished_at = "done" if row.count else "empty", ctx.now
    untils = [each.until for each in said if each.until and each.id not in aside]
    row.until = min(untils) if untils else None
    ctx.record(
        row.id, kind="scenarios.feedback-gathered", route=row.route, asset=row.asset, revision=row.revision,
        count=row.count, set_aside=row.set_aside,
    )  # fmt: skip
    if row.revision:
        ctx.emit(
            FeedbackGathered(gathering=row.id, route=row.route, asset=row.asset, revision=row.revision, count=row.count)
        )
    return True


def _revise(
    ctx: Write, row: Gathering, latest: hub.RevisionOut | None, built: dict[str, Any], releases: set[str]
) -> str:
    """The dataset's next revision: every file as before, and the lines. Its lineage names the models that answered."""
    files, lineage = [], []
    if latest is not None:
        before = hub.revision_facts(ctx, latest.id)
        files = [_as_before(file) for file in before.files]
        lineage.append((before.revision, "derived-from"))
    for part, component in ((built["card"], "data-card"), (built["file"], COMPONENT)):
        if part is not None:
            inspected = hub.Inspected(part["name"], part["size"], tuple(part["findings"]), ())
            hub.receive_blob(ctx, org=row.org, sha256=part["sha256"], inspected=inspected)
            files.append(hub.FileInput(path=part["path"], component=component, license=None, sha256=part["sha256"]))
    models = {hub.release_facts(ctx, release).revision for release in releases}
    lineage += [(model, "returned-from") for model in sorted(models)]
    message = f"由调用者回流的反馈 {row.claimed - sum(row.set_aside.values())} 条 / feedback that callers sent back"
    return hub.commit_revision(
        ctx, asset=row.asset, message=message, files=files, parent=built["parent"], lineage=lineage
    ).id


def _give_up(ctx: Write, *, gathering: str, reason: str) -> None:
    """End the gathering without effect; its feedback may be taken by another."""
    row = _row(ctx, gathering)
    row.state, row.reason, row.finished_at = "failed", reason, ctx.now
    serving.free_feedback(ctx, gathering)
    ctx.record(row.id, kind="scenarios.gathering-failed", route=row.route, asset=row.asset, reason=reason)


def _drop_one(ctx: Write) -> bool:
    """Commit a revision without the lines whose days are over. False when there are none."""
    over = select(Gathering).where(Gathering.until <= ctx.now, Gathering.dropped.is_(None))
    row = ctx.session.scalar(over.order_by(Gathering.until).limit(1))
    if row is None:
        return False
    latest = hub.latest_revision(ctx, row.asset)
    assert latest is not None, "it had a file"
    before = hub.revision_facts(ctx, latest.id)
    left = [_as_before(file) for file in before.files if file.path != row.path]
    row.dropped = before.revision
    if len(left) < len(before.files):
        try:
            row.dropped = hub.commit_revision(
                ctx, asset=row.asset, message="保留期已过的反馈 / feedback whose days are over", files=left,
                lineage=[(before.revision, "derived-from")],
            ).id  # fmt: skip
        except Refused:  # the dataset is archived: it is asked again until it is open, and nothing else waits for it
            row.until, row.dropped = ctx.now + timedelta(days=1), None
            return True
    ctx.record(row.id, kind="scenarios.feedback-dropped", asset=row.asset, revision=row.dropped)
    return True


def _as_before(file: FileFacts) -> hub.FileInput:
    return hub.FileInput(path=file.path, component=file.component, license=file.license, sha256=file.sha256)


def _row(ctx: Read, gathering: str) -> Gathering:
    row = ctx.session.get(Gathering, gathering)
    assert row is not None, "the gathering is committed before its flow starts"
    return row
