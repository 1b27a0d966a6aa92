"""A foundation small enough to see whole: a hospital, a laboratory, four reviewers, an operator, and the real gates.

The models and data are those of the worked example, made once; `Foundation` acts as people do, through verbs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gongqi.books.evidence import service as evidence
from gongqi.books.evidence.keys import SigningKeys
from gongqi.books.evidence.room import ROOM as EVIDENCE
from gongqi.doors import web
from gongqi.doors.cli import laboratory
from gongqi.governance.compliance.room import ROOM as COMPLIANCE
from gongqi.governance.ethics import sandbox
from gongqi.governance.ethics import service as ethics
from gongqi.governance.ethics.evaluate import Job
from gongqi.governance.ethics.room import ROOM as ETHICS
from gongqi.governance.ethics.tasks import TextJob
from gongqi.kernel.access import ANONYMOUS, FOUNDATION, Actor
from gongqi.kernel.clock import FixedClock
from gongqi.kernel.room import House, Kernel
from gongqi.kernel.verbs import Caller, Entry, ReadVerb, Verb, Write, execute, query
from gongqi.kernel.worker import Worker
from gongqi.members import VOCABULARY, parties
from gongqi.members.room import ROOM as MEMBERS
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.room import ROOM as HUB
from gongqi.resources.serving import engines

DOORS = Path(web.__file__).parent
# An evaluation of texts may fail by what an engine says, which the room of serving words.
DOOR_WORDS = (DOORS.parent / "words.toml", DOORS / "words.toml", Path(engines.__file__).parents[1] / "words.toml")
REVIEWERS = ("reviewer-1", "reviewer-2", "reviewer-3", "reviewer-4")


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two revisions of the dataset, the held-out records, and a model trained on each revision; the workers share them."""
    ours = tmp_path_factory.getbasetemp()
    folder = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "materials"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            make_materials(folder.with_suffix(".making")).rename(folder)
    return folder


def make_materials(folder: Path) -> Path:
    folder.mkdir()
    laboratory.make_dataset(folder / "data-1")
    laboratory.extend_dataset(folder / "data-2", folder / "data-1" / "data.csv", list(laboratory.outcomes()))
    laboratory.make_evaluation_set(folder / "held-out")
    for number in (1, 2):
        data = folder / f"data-{number}"
        laboratory.train([data / "data.csv"], folder / f"model-{number}", data_card=data / "README.md", lineage=[])
    return folder


@pytest.fixture(scope="session")
def evaluations() -> dict[tuple[Any, ...], dict[str, Any]]:
    return {}


@pytest.fixture
def each_evaluation_once(evaluations: dict[tuple[Any, ...], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes give the same result (test_evaluate.py says so), so each is really run once a session."""
    run = sandbox.run_evaluation

    def remembered(job: Job | TextJob, **limits: Any) -> dict[str, Any]:
        files = [*job.files.values()] if isinstance(job, TextJob) else [job.model]
        digests = [sha256(Path(path).read_bytes()).hexdigest() for path in (*files, job.data)]
        paths = ("files", "model", "data")
        key = (*digests, *(repr(value) for name, value in job.to_json().items() if name not in paths))
        if key not in evaluations:
            evaluations[key] = run(job, **limits)
        return evaluations[key]

    monkeypatch.setattr(sandbox, "run_evaluation", remembered)


@dataclass
class Foundation:
    kernel: Kernel
    clock: FixedClock
    materials: Path
    entries: list[Entry]
    orgs: dict[str, str] = field(default_factory=dict)
    people: dict[str, Actor] = field(default_factory=dict)
    stranger: Actor = ANONYMOUS

    def found(self) -> None:
        def make(ctx: Write) -> None:
            for org in ("hospital", "laboratory", "keeper"):
                named = parties.Named(handle=org, name=org.title())
                self.orgs[org] = parties.add_party(ctx, "organisation", named).id
            self._join(ctx, "operator", FOUNDATION, "operator")
            for org in self.orgs:
                self._join(ctx, f"{org}-owner", self.orgs[org], "owner")
            for name in REVIEWERS:
                self._join(ctx, name, FOUNDATION, "reviewer")

        self.kernel.transact(make, reason="test")

    def _join(self, ctx: Write, name: str, org: str, role: str) -> None:
        actor = self.people.get(name)
        if actor is None:
            key = parties.add_party(ctx, "person", parties.Named(handle=name.lower(), name=name)).id
            actor = Actor(key, "person", name)
        parties.add_membership(ctx, actor.id, org, role)
        grants = {**actor.grants, org: VOCABULARY.grants(frozenset({role})) | actor.grants.get(org, frozenset())}
        self.people[name] = Actor(actor.id, "person", name, grants=grants, orgs=frozenset(grants) - {FOUNDATION})

    def join(self, name: str, org: str, role: str = "member") -> None:
        place = self.orgs.get(org, org)
        self.kernel.transact(lambda ctx: self._join(ctx, name, place, role), reason="test")

    def do(self, verb: Verb, who: str, **given: Any) -> Any:
        return execute(self.kernel, verb, Caller(self.people[who]), verb.input(**given))

    def ask(self, read: ReadVerb, who: str | None = None, **given: Any) -> Any:
        actor = self.people[who] if who else self.stranger
        return query(self.kernel, read, Caller(actor), read.input(**given))

    def work(self) -> None:
        Worker(self.kernel).run_until_idle()

    # ---- assets

    def asset(self, org: str, kind: str, slug: str, visibility: str = "public") -> str:
        title = {"title_zh": slug, "title_en": slug}
        who = f"{org}-owner"
        return self.do(
            hub.create, who, org=self.orgs[org], slug=slug, kind=kind, visibility=visibility, **title
        ).id  # fmt: skip

    def commit(
        self, org: str, asset: str, files: dict[str, bytes], parts: Sequence[laboratory.Part], *,
        lineage: Sequence[tuple[str, str]] = (), parent: int | None = None,
    ) -> str:  # fmt: skip
        listed = []
        for part in parts:
            content = files[part.path]
            digest = sha256(content).hexdigest()
            self.kernel.blobs.put(content, sha256=digest)
            seen = hub.inspect_blob(self.kernel.blobs, digest, part.path)
            self.kernel.transact(
                lambda ctx, digest=digest, seen=seen: hub.receive_blob(
                    ctx, org=self.orgs[org], sha256=digest, inspected=seen
                ),
                reason="test",
            )
            said = {"component": part.component or None, "license": part.license or None}
            listed.append({"path": part.path, "sha256": digest, **said})
        sources = [{"revision": revision, "relation": relation} for revision, relation in lineage]
        given = {"asset": asset, "message": "as received", "files": listed, "lineage": sources, "parent": parent}
        return self.do(hub.commit, f"{org}-owner", **given).id

    def read(self, folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.materials / folder).iterdir() if path.is_file()}

    def dataset(self, org: str, folder: str, slug: str, component: str = "datasets", **change: bytes) -> str:
        parts = [
            laboratory.Part("README.md", "data-card", "CC-BY-4.0"), laboratory.Part("data.csv", component, "CC-BY-4.0"),
        ]  # fmt: skip
        return self.commit(org, self.asset(org, "dataset", slug), self.read(folder) | change, parts)

    def model(self, number: int = 1, *, asset: str | None = None, held_out: str | None = None, **change: Any) -> str:
        """A revision of the laboratory's model; `change` replaces files or parts, keys as in the folder."""
        trained_on = self.dataset("hospital", f"data-{number}", f"wdbc-{number}")
        held_out = held_out or self.dataset("keeper", "held-out", f"held-out-{number}", "evaluation-data")
        lineage = change.get("lineage") or [(trained_on, "trained-on"), (held_out, "evaluated-on")]
        asset = asset or self.asset("laboratory", "model", f"classifier-{number}", change.get("visibility", "public"))
        parts = change.get("parts") or laboratory.MODEL_PARTS
        files = self.read(f"model-{number}") | change.get("files", {})
        parent = number - 1 or None
        return self.commit("laboratory", asset, files, parts, lineage=lineage, parent=parent)

    def submit(self, revision: str, name: str = "1.0.0", org: str = "laboratory") -> str:
        asset = self.ask(hub.get_revision, "operator", revision=revision).asset
        release = self.do(hub.draft, f"{org}-owner", asset=asset, revision=revision, name=name).id
        self.do(hub.submit, f"{org}-owner", release=release)
        return release

    # ---- reviews

    def case(self, release: str) -> Any:
        case = max(self.ask(ethics.list_cases, "operator", release=release).items, key=lambda each: each.number)
        return self.ask(ethics.get_case, "operator", case=case.id)

    def vote(self, release: str, who: str, choice: str = "approve", **given: Any) -> Any:
        values = {"case": self.case(release).id, "choice": choice, "rationale": "On the figures."} | given
        return self.do(ethics.cast_vote, who, **values)

    def answers(self, release: str, source: str) -> list[tuple[str, str]]:
        """(decision, reason) of one answerer, now."""
        found = self.ask(hub.check, "operator", release=release)
        return [(each.decision, each.reason) for each in found.answers if each.source == source]

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries]


@pytest.fixture
def foundation(
    build: Callable[..., Kernel], clock: FixedClock, materials: Path, each_evaluation_once: None
) -> Foundation:
    entries: list[Entry] = []

    def record(ctx: Write, entry: Entry) -> None:
        entries.append(entry)
        evidence.append(ctx, entry)

    house = House.build((EVIDENCE, MEMBERS, HUB, COMPLIANCE, ETHICS), VOCABULARY, *DOOR_WORDS)
    kernel = build(house, record=record, clock=clock)
    kernel.parts[SigningKeys] = SigningKeys.generate()
    made = Foundation(kernel, clock, materials, entries)
    made.found()
    return made
