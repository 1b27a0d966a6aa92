"""Examiners who evaluate a model and open its review, and are made to be killed: real kernels in forked processes.

Run as a script, it is a zygote: it imports once, then forks a process for each line of JSON it is told. `prepare`
submits a model of the worked example; `live` runs a worker on a clock later than any lease of its predecessor, and dies
by SIGKILL at the first boundary that nobody has died at yet, or after `alarm` seconds when that is given.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from children import buried, orders, reply, teller

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.room import ROOM as EVIDENCE
from gongqi.doors.cli import laboratory
from gongqi.governance.compliance.room import ROOM as COMPLIANCE
from gongqi.governance.ethics.room import ROOM as ETHICS
from gongqi.kernel import flows
from gongqi.kernel.access import FOUNDATION, SYSTEM
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.config import Settings
from gongqi.kernel.db import Base, Database
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, Write, execute
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY, parties
from gongqi.members.room import ROOM as MEMBERS
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.room import ROOM as HUB

RESTART_SECONDS = 3600
HOUSE = House.build((EVIDENCE, MEMBERS, HUB, COMPLIANCE, ETHICS), VOCABULARY)


def kernel_on(order: dict[str, Any]) -> Kernel:
    settings = Settings.from_environment({"GONGQI_HOME": order["home"], "GONGQI_DATABASE_URL": order["url"]})
    clock = FixedClock()
    clock.advance(seconds=RESTART_SECONDS * order.get("life", 0))
    blobs = FolderBlobs(settings.home / "blobs")
    kernel = Kernel(settings, HOUSE, Database(settings.database_url), blobs, record=evidence.append, clock=clock)
    kernel.parts[SigningKeys] = SigningKeys.load_or_generate(settings.home / "keys")
    return kernel


def prepare(order: dict[str, Any]) -> None:
    """A foundation with two reviewers, in which a laboratory has just submitted its model."""
    kernel = kernel_on(order)
    Base.metadata.create_all(kernel.db.writer)
    work = Path(order["home"]) / "work"
    laboratory.make_dataset(work / "data")
    laboratory.make_evaluation_set(work / "held-out")
    card = work / "data" / "README.md"
    parts = laboratory.train([work / "data" / "data.csv"], work / "model", data_card=card, lineage=[])

    def commit(ctx: Write, org: str, kind: str, folder: str, given: Any, lineage: Any = ()) -> Any:
        asset = hub.create_asset(ctx, org=org, slug=folder, kind=kind, title_zh=folder, title_en=folder)
        files = []
        for part in given:
            content = (work / folder / part.path).read_bytes()
            digest = sha256(content).hexdigest()
            kernel.blobs.put(content, sha256=digest)
            seen = hub.inspect_blob(kernel.blobs, digest, part.path)
            hub.receive_blob(ctx, org=org, sha256=digest, inspected=seen)
            files.append(hub.FileInput(path=part.path, sha256=digest, component=part.component, license=part.license))
        return hub.commit_revision(ctx, asset=asset.id, message="first", files=files, parent=None, lineage=lineage)

    def found(ctx: Write) -> Any:
        org = parties.add_party(ctx, "organisation", parties.Named(handle="laboratory", name="Laboratory")).id
        for number in (1, 2):
            named = parties.Named(handle=f"reviewer-{number}", name=f"Reviewer {number}")
            parties.add_membership(ctx, parties.add_party(ctx, "person", named).id, FOUNDATION, "reviewer")
        data = commit(ctx, org, "dataset", "data", _data("datasets"))
        held_out = commit(ctx, org, "dataset", "held-out", _data("evaluation-data"))
        lineage = [(data.id, "trained-on"), (held_out.id, "evaluated-on")]
        return commit(ctx, org, "model", "model", parts, lineage)

    model = kernel.transact(found, reason="prepare")
    draft = hub.draft.input(asset=model.asset, revision=model.id, name="1.0.0")
    release = execute(kernel, hub.draft, Caller(SYSTEM), draft)
    execute(kernel, hub.submit, Caller(SYSTEM), hub.OneRelease(release=release.id))


def _data(component: str) -> list[laboratory.Part]:
    return [laboratory.Part("README.md", "data-card", ""), laboratory.Part("data.csv", component, "")]


def live(order: dict[str, Any], tell: Callable[[str], object]) -> None:
    kernel, died = kernel_on(order), set(order["died"])

    def boundary(at: str) -> None:
        if at not in died:
            tell(at)
            os.kill(os.getpid(), signal.SIGKILL)
        if at == "before run" and order["alarm"]:
            tell("in the middle of run")
            threading.Timer(order["alarm"], os.kill, (os.getpid(), signal.SIGKILL)).start()

    flows.boundary = boundary
    Worker(kernel, threads=0).run_until_idle()


def zygote() -> None:
    for order in orders():
        act = partial(prepare, order)
        inward, outward = os.pipe()
        if order["do"] == "live":
            act = partial(live, order, teller(outward))
        status = buried(act)
        os.close(outward)
        os.set_blocking(inward, False)  # an orphaned evaluation may still hold the other end
        try:
            at = os.read(inward, 1000).decode().strip()
        except BlockingIOError:
            at = ""
        os.close(inward)
        reply(status=status, at=at)


if __name__ == "__main__":
    zygote()
