"""A hub with two organisations, an operator, a stranger, and one gate above it whose answer the test decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.kernel.access import ANONYMOUS, FOUNDATION, Actor
from gongqi.kernel.gates import Answer, Answerer
from gongqi.kernel.room import House, Kernel, Room
from gongqi.kernel.verbs import Caller, ReadVerb, Verb, execute, query
from gongqi.members import VOCABULARY
from gongqi.resources.hub.assets import AddBlob, add_blob
from gongqi.resources.hub.gates import RELEASE_PUBLISH
from gongqi.resources.hub.room import ROOM as HUB
from gongqi.resources.hub.service import inspect_blob

HOSPITAL, LABORATORY = "org_hospital", "org_laboratory"
CARD = b"""---
title: {zh: "\xe6\xa0\xb7\xe4\xbe\x8b", en: Sample}
license: CC-BY-4.0
---
# Sample
"""


def actor(name: str, org: str, *grants: str) -> Actor:
    return Actor(id=f"per_{name}", kind="person", name=name, grants={org: frozenset(grants)}, orgs=frozenset({org}))


DONOR = actor("donor", HOSPITAL, "hub:*")
RESEARCHER = actor("researcher", LABORATORY, "hub:*")
OPERATOR = actor("operator", FOUNDATION, "*")
REVIEWER = actor("reviewer", FOUNDATION, "hub:asset:read", "hub:revision:read", "hub:release:read")


@dataclass
class Hub:
    """A kernel, and short ways to act on it. `answer` is what the board says until a test says otherwise."""

    kernel: Kernel
    answer: list[Answer] = field(default_factory=lambda: [Answer("allow", "board.approved")])
    donor: Actor = DONOR
    researcher: Actor = RESEARCHER
    operator: Actor = OPERATOR
    reviewer: Actor = REVIEWER
    stranger: Actor = ANONYMOUS
    hospital: str = HOSPITAL
    laboratory: str = LABORATORY
    card: bytes = CARD

    def do(self, verb: Verb, actor: Actor, *, if_match: str | None = None, **given: Any) -> Any:
        return execute(self.kernel, verb, Caller(actor, if_match=if_match), verb.input(**given))

    def ask(self, read: ReadVerb, actor: Actor, **given: Any) -> Any:
        return query(self.kernel, read, Caller(actor), read.input(**given))

    def bring(self, org: str, path: str, content: bytes, actor: Actor | None = None) -> dict[str, str]:
        """Upload bytes as the endpoint does; returns what a commit says about the file."""
        digest = sha256(content).hexdigest()
        self.kernel.blobs.put(content, sha256=digest)
        seen = inspect_blob(self.kernel.blobs, digest, path)
        given = AddBlob(
            org=org, sha256=digest, name=seen.name, size=seen.size, findings=list(seen.findings),
            external=list(seen.external),
        )  # fmt: skip
        execute(self.kernel, add_blob, Caller(actor or self._keeper(org)), given)
        return {"path": path, "sha256": digest}

    def _keeper(self, org: str) -> Actor:
        return self.donor if org == self.hospital else self.researcher

    def asset(self, org: str = HOSPITAL, **given: Any) -> Any:
        from gongqi.resources.hub import service

        values = {"slug": "wdbc", "kind": "dataset", "title_zh": "样例", "title_en": "Sample", "visibility": "public"}
        return self.do(service.create, self._keeper(org), org=org, **(values | given))

    def revision(self, asset: Any, files: Sequence[dict[str, str]] = (), **given: Any) -> Any:
        from gongqi.resources.hub import service

        listed = [*files, self.bring(asset.org, "README.md", self.card)]
        values = {"asset": asset.id, "message": "as received", "files": listed, "parent": None}
        return self.do(service.commit, self._keeper(asset.org), **(values | given))

    def submitted(self, asset: Any, revision: Any, name: str = "1.0.0") -> Any:
        from gongqi.resources.hub import service

        keeper = self._keeper(asset.org)
        release = self.do(service.draft, keeper, asset=asset.id, revision=revision.id, name=name)
        return self.do(service.submit, keeper, release=release.id)

    def published(self, asset: Any, revision: Any, name: str = "1.0.0") -> Any:
        from gongqi.resources.hub import service

        return self.do(service.publish, self.operator, release=self.submitted(asset, revision, name).id)


@pytest.fixture
def hub(build: Callable[..., Kernel], tmp_path: Path) -> Hub:
    made: Hub

    def board(_ctx: Any, _question: Any) -> list[Answer]:
        return made.answer

    board_room = Room(name="board", folder=tmp_path, answerers=(Answerer(RELEASE_PUBLISH, "test.board", board),))
    kernel = build(House.build((HUB, board_room), VOCABULARY), record=evidence.append)
    kernel.parts[SigningKeys] = SigningKeys.generate()
    made = Hub(kernel)
    return made
