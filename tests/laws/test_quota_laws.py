"""Laws of what organisations hold, for which the machine looks for counter-examples.

1. Whatever is brought, committed and let go, by however many at once: what is noted of each organisation is what its
   blobs add up to, and never above its limit.
2. A sweep removes no blob that a revision names or that somebody may still commit, and leaves no other.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.kernel.access import FOUNDATION, Actor
from gongqi.kernel.blobs.folder import FolderBlobs
from gongqi.kernel.blobs.garbage import collect
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.db import Base
from gongqi.kernel.errors import Refused
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, execute
from gongqi.members import VOCABULARY
from gongqi.resources.hub import quotas, service
from gongqi.resources.hub.inspection import Inspected
from gongqi.resources.hub.models import Blob, BlobOwner, File, Holding
from gongqi.resources.hub.room import ROOM as HUB

pytestmark = pytest.mark.heavy

LAW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MODELS = Blob.__module__
ORGS = ("org_a", "org_b")
OPERATOR = Actor("per_operator", "person", "operator", grants={FOUNDATION: frozenset({"*"})})
CARD = b"---\nlicense: CC-BY-4.0\n---\n"
CONTENTS = [CARD, *(bytes([number]) * (number + 1) for number in range(6))]
LIMIT = len(CARD) + 12  # not all of them fit
NUMBERS = itertools.count()

ACTS = st.one_of(
    st.tuples(st.just("bring"), st.sampled_from(ORGS), st.sampled_from(CONTENTS)),
    st.tuples(st.just("commit"), st.sampled_from(ORGS), st.sampled_from(CONTENTS)),
    st.tuples(st.just("pass"), st.sampled_from([1, 5, 8]), st.none()),
    st.tuples(st.just("let go"), st.none(), st.none()),
)


@pytest.fixture
def kernel(build: Callable[..., Kernel], tmp_path: Path) -> Kernel:
    made = build(House.build((HUB,), VOCABULARY), record=evidence.append, clock=FixedClock())
    made.parts[SigningKeys] = SigningKeys.generate()
    made.settings = dataclasses.replace(made.settings, quota_bytes=LIMIT)
    return made


class Town:
    """A fresh hub in the same database, and what one may do to it."""

    def __init__(self, kernel: Kernel, folder: Path) -> None:
        self.kernel = kernel
        kernel.blobs = FolderBlobs(folder)
        names = {mapper.class_.__tablename__ for mapper in Base.registry.mappers if mapper.class_.__module__ == MODELS}
        tables = [table for table in reversed(Base.metadata.sorted_tables) if table.name in names]
        kernel.db.write(lambda session: [session.execute(delete(table)) for table in tables])
        titles = {"kind": "dataset", "title_zh": "样例", "title_en": "Sample", "slug": "sample"}
        self.assets = {org: self.do(service.create, org=org, **titles).id for org in ORGS}

    def do(self, verb: Any, **given: Any) -> Any:
        return execute(self.kernel, verb, Caller(OPERATOR), verb.input(**given))

    def act(self, act: tuple[str, Any, Any]) -> None:
        """One act; a refusal for want of room or of the blob is an answer."""
        kind, who, what = act
        try:
            match kind:
                case "bring":
                    self.bring(who, what)
                case "commit":
                    self.commit(who, what)
                case "pass":
                    self.kernel.clock.advance(days=who)
                case _:
                    found = self.kernel.look(lambda ctx: quotas.uncommitted(ctx, now=ctx.now))
                    self.kernel.transact(lambda ctx: quotas.let_go(ctx, found), reason="law")
        except Refused as refused:
            assert refused.code in ("hub.quota-exceeded", "hub.blob-unknown"), refused

    def bring(self, org: str, content: bytes) -> None:
        stored = self.kernel.blobs.put(content)
        for name in ("README.md", "a.txt"):
            seen = Inspected(name, stored.size, (), ())
            self.kernel.transact(
                lambda ctx, seen=seen: service.receive_blob(ctx, org=org, sha256=stored.sha256, inspected=seen),
                reason="law",
            )

    def commit(self, org: str, content: bytes) -> None:
        files = [("README.md", CARD), ("a.txt", content)]
        listed = [{"path": path, "sha256": sha256(each).hexdigest()} for path, each in files]
        self.do(service.commit, asset=self.assets[org], message="m", files=listed)

    def holdings_agree(self) -> bool:
        with self.kernel.db.reading() as session:
            added = select(BlobOwner.org, func.sum(Blob.size), func.count())
            added = added.join(Blob, Blob.sha256 == BlobOwner.sha256).group_by(BlobOwner.org)
            held = {(org, int(size), count) for org, size, count in session.execute(added)}
            noted = select(Holding.org, Holding.used_bytes, Holding.blobs).where(Holding.blobs > 0)
            return held == {tuple(row) for row in session.execute(noted)} and all(size <= LIMIT for _, size, _ in held)

    def in_use(self) -> set[str]:
        with self.kernel.db.reading() as session:
            return {*session.scalars(select(File.sha256)), *session.scalars(select(BlobOwner.sha256))}

    def sweep(self) -> None:
        """The store's two looks, as if the graces had passed."""
        long_ago = time.time() - 10 * 24 * 3600
        for held in self.kernel.blobs.listing():
            os.utime(self.kernel.blobs.path(held.sha256), (long_ago, long_ago))
        for _ in range(2):
            collect(self.kernel.blobs, lambda: quotas.digests_in_use(self.kernel))
            for digest, _since in list(self.kernel.blobs.condemned()):
                os.utime(self.kernel.blobs.root / "condemned" / digest, (long_ago, long_ago))

    def holds(self) -> None:
        assert self.holdings_agree()
        before = self.in_use()
        self.sweep()
        assert {held.sha256 for held in self.kernel.blobs.listing()} == before
        assert set(quotas.digests_in_use(self.kernel)) == before


@LAW
@given(acts=st.lists(ACTS, max_size=30))
def test_one_after_the_other(kernel: Kernel, tmp_path: Path, acts: list[tuple[str, Any, Any]]) -> None:
    town = Town(kernel, tmp_path / f"blobs-{next(NUMBERS)}")
    for act in acts:
        town.act(act)
    town.holds()


@settings(LAW, max_examples=10)
@given(lines=st.lists(st.lists(ACTS, max_size=10), min_size=2, max_size=4))
def test_several_at_once(kernel: Kernel, tmp_path: Path, lines: list[list[tuple[str, Any, Any]]]) -> None:
    town = Town(kernel, tmp_path / f"blobs-{next(NUMBERS)}")

    def live(line: list[tuple[str, Any, Any]]) -> None:
        for act in line:
            town.act(act)

    with ThreadPoolExecutor(len(lines)) as pool:
        list(pool.map(live, lines))
    town.holds()
