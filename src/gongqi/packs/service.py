"""The verbs of packs, and what the packs that are loaded answer at the gates below.

An operator loads a pack by its name, its version and its digest: what is loaded is what was looked at. A pack whose own
worked cases fail is refused. What is loaded and what is on this machine may part, when a new version of the product
brings another; until the operator has loaded that, calls that the old one could have spoken of are denied, since nobody
can say what it would have asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from pydantic import Field
from sqlalchemy import select

from gongqi.kernel.access import PUBLIC
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Answer, Citation
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.packs import rules
from gongqi.packs.models import LoadedPack
from gongqi.packs.reading import ReadPack, failures
from gongqi.packs.rules import Finding, Source
from gongqi.packs.shelf import shelf
from gongqi.resources.serving.crossings import changed
from gongqi.resources.serving.endpoints import REGION
from gongqi.resources.serving.gates import Crossing

ANSWERER = "packs"
NAME = r"^[a-z]{2,20}$"
ID = 64
_NAMED = re.compile(r"(?P<name>[a-z]{2,20})@(?P<version>[^@:,\s]{1,40}):(?P<digest>[0-9a-f]{64})")


class LoadPack(Input):
    """`version` and `digest` as the page of packs shows them."""

    name: str = Field(pattern=NAME)
    version: str = Field(min_length=1, max_length=40)
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class OnePack(Input):
    pack: str = Field(max_length=ID)


class AskRules(Input):
    """The rules on a day (today's, where none is given) for calls from a `caller` to a `server`, answers of which are shown
    to an `audience`; what is not said is unknown."""

    caller: str = Field("", pattern=REGION)
    server: str = Field("", pattern=REGION)
    audience: str = Field("", pattern="^(public|internal)?$")
    as_of: date | None = None


class LoadedPackOut(Output):
    id: str
    name: str
    edition: str
    digest: str
    state: str
    loaded_by: str
    loaded_at: datetime
    ended_at: datetime | None
    evidence: str


class ListShelf(Input):
    pass


class ShelvedOut(Output):
    """A pack that came with this version; `failures`: its worked cases that do not come out, which keep it from being
    loaded."""

    name: str
    jurisdiction: str
    version: str
    dated: date
    digest: str
    regions: list[str]
    capabilities: list[str]
    rules: list[str]
    failures: list[str]


class ShelfOut(Output):
    items: list[ShelvedOut]


class SourceOut(Output):
    id: str
    instrument: dict[str, str]
    article: str
    authority: str
    since: date
    url: str


class FindingOut(Output):
    """`state`: applies, not-applicable, unknown; then `missing` are the facts that would tell, and `is_done` says whether
    the duty holds meanwhile."""

    pack: str
    rule: str
    does: str
    state: str
    missing: list[str]
    is_done: bool
    authority: str
    since: date
    zh: str
    en: str
    rests_on: list[SourceOut]


class FindingsOut(Output):
    as_of: date
    items: list[FindingOut]


@verb("packs:pack:load", evidence="packs.pack-loaded")
def load_pack(ctx: Write, input: LoadPack) -> LoadedPackOut:
    """Raises Refused: packs.pack-unknown, packs.pack-differs, packs.case-failed, packs.pack-loaded."""
    ctx.require("packs:pack:load")
    pack = _on_the_shelf(input.name)
    if (pack.version, pack.digest) != (input.version, input.digest):
        raise Refused("packs.pack-differs", pack=pack.name, version=pack.version, digest=pack.digest)
    if failed := failures(pack):
        raise Refused("packs.case-failed", pack=pack.name, case=failed[0])
    before = loaded_now(ctx).get(pack.name)
    if before is not None and before.digest == pack.digest:
        raise Refused("packs.pack-loaded", pack=pack.name)
    if before is not None:
        before.state, before.ended_at = "replaced", ctx.now
    row = ctx.add(
        LoadedPack(
            id=ctx.new_id("pck"), name=pack.name, edition=pack.version, digest=pack.digest, regions=sorted(pack.regions),
            state="loaded", loaded_by=ctx.actor.id, loaded_at=ctx.now, ended_at=None, evidence="",
        )
    )  # fmt: skip
    ctx.session.flush()
    row.evidence = ctx.record(
        row.id, kind="packs.pack-loaded", pack=pack.name, version=pack.version, digest=pack.digest,
        replaces=None if before is None else before.digest,
    )  # fmt: skip
    changed(ctx)
    return LoadedPackOut.model_validate(row)


@verb("packs:pack:unload", evidence="packs.pack-unloaded")
def unload_pack(ctx: Write, input: OnePack) -> LoadedPackOut:
    """Its rules act no more from here on. Raises Refused packs.pack-ended."""
    row = ctx.find(LoadedPack, input.pack, to="packs:pack:unload")
    if row.state != "loaded":
        raise Refused("packs.pack-ended", pack=row.name)
    row.state, row.ended_at = "unloaded", ctx.now
    ctx.session.flush()
    ctx.record(row.id, pack=row.name, version=row.edition, digest=row.digest)
    changed(ctx)
    return LoadedPackOut.model_validate(row)


@read("packs:pack:list")
def list_packs(ctx: Read, input: Paged) -> Page[LoadedPackOut]:
    """What was loaded and when, the latest first."""
    return ctx.page(ctx.visible(LoadedPack, to="packs:pack:read"), LoadedPack.id, input, to=LoadedPackOut)


@read("packs:shelf:list")
def list_shelf(ctx: Read, input: ListShelf) -> ShelfOut:
    """What can be loaded, as `load` wants it named."""
    ctx.require(PUBLIC)
    return ShelfOut(
        items=[
            ShelvedOut(
                name=pack.name, jurisdiction=pack.jurisdiction, version=pack.version, dated=pack.dated,
                digest=pack.digest, regions=sorted(pack.regions), capabilities=list(pack.capabilities),
                rules=[rule.id for rule in pack.rules], failures=failures(pack),
            )
            for pack in shelf().values()
        ]
    )  # fmt: skip


@read("packs:rule:ask")
def ask_rules(ctx: Read, input: AskRules) -> FindingsOut:
    """What the rules of the packs that are loaded say of these facts."""
    ctx.require(PUBLIC)
    as_of = input.as_of or ctx.now.date()
    facts = input.model_dump(exclude={"as_of"})
    items = [
        finding_out(ctx, pack, finding)
        for pack in in_force(ctx)
        for finding in rules.find(pack.rules, facts, as_of, pack.regions)
    ]
    return FindingsOut(as_of=as_of, items=items)


# ---- at the start


def load_named(ctx: Write, setting: str) -> None:
    """What the setting names, `name@version:digest` with commas between, and is not loaded yet. Raises Refused
    packs.setting-invalid, and as `load_pack`."""
    loaded = loaded_now(ctx)
    for text in filter(None, map(str.strip, setting.split(","))):
        named = _NAMED.fullmatch(text)
        if named is None:
            raise Refused("packs.setting-invalid", packs=text[:80])
        row = loaded.get(named["name"])
        if row is None or row.digest != named["digest"]:
            load_pack.run(ctx, LoadPack.model_validate(named.groupdict()))


# ---- for pages and gates


def in_force(ctx: Read) -> list[ReadPack]:
    """The packs that are loaded and are here as they were loaded."""
    return [pack for row, pack in _rows(ctx) if pack is not None and pack.digest == row.digest]


def answer_crossing(ctx: Read, question: Crossing) -> list[Answer]:
    """What the packs ask of calls from one place to another: the gate of the gateway."""
    facts = {"caller": question.caller, "server": question.server, "audience": question.audience}
    answers: list[Answer] = []
    for row, pack in ctx.once(_rows_once, ANSWERER):
        if pack is None or pack.digest != row.digest:
            if pack is None or _may_concern(row, pack, facts):
                answers.append(_denied(row))
            continue
        for finding in rules.find(pack.rules, facts, question.as_of, pack.regions):
            if finding.does and finding.rule.does != "note":
                answers.append(_answer(ctx, finding))
    return answers


def finding_out(ctx: Read, pack: ReadPack, finding: Finding) -> FindingOut:
    rule = finding.rule
    text = ctx.kernel.house.words.text
    return FindingOut(
        pack=pack.name, rule=rule.id, does=rule.does, state=finding.state, missing=list(finding.missing),
        is_done=finding.does, authority=rule.authority, since=rule.since, zh=text(f"packs.rule.{rule.id}", "zh"),
        en=text(f"packs.rule.{rule.id}", "en"), rests_on=[source_out(source) for source in rule.rests_on],
    )  # fmt: skip


def source_out(source: Source) -> SourceOut:
    return SourceOut(
        id=source.id, instrument=dict(source.instrument), article=source.article, authority=source.authority,
        since=source.since, url=source.url,
    )  # fmt: skip


def loaded_now(ctx: Read) -> dict[str, LoadedPack]:
    rows = ctx.session.scalars(select(LoadedPack).where(LoadedPack.state == "loaded").order_by(LoadedPack.id))
    return {row.name: row for row in rows}


def _rows(ctx: Read) -> Iterator[tuple[LoadedPack, ReadPack | None]]:
    """What is loaded, each with the pack of that name that is here now."""
    for name, row in loaded_now(ctx).items():
        yield row, shelf().get(name)


def _rows_once(ctx: Read, _key: str) -> list[tuple[LoadedPack, ReadPack | None]]:
    return list(_rows(ctx))


def _on_the_shelf(name: str) -> ReadPack:
    pack = shelf().get(name)
    if pack is None:
        raise Refused("packs.pack-unknown", pack=name, known=", ".join(shelf()))
    return pack


def _may_concern(row: LoadedPack, pack: ReadPack, facts: dict[str, str]) -> bool:
    """Whether what was loaded could have spoken of such a call, or what is here in its place could."""
    if row.regions is None:
        return True
    regions = pack.regions.union(row.regions)
    return any(not facts[place] or facts[place] in regions for place in rules.PLACES)


def _answer(ctx: Read, finding: Finding) -> Answer:
    """`require`, or `deny` where that is what the rule does. The rule itself is cited first, as what it is."""
    rule = finding.rule
    first = rule.rests_on[0]
    own = Citation(_title(first), first.article, rule.authority, rule.since.isoformat(), first.url)
    rests = [
        Citation(_title(each), each.article, each.authority, each.since.isoformat(), each.url) for each in rule.rests_on
    ]
    params = {"rule": rule.id, "does": rule.does, "is_certain": finding.state == "applies", **_filled(ctx, rule.params)}
    decision = "deny" if rule.does == "deny" else "require"
    return Answer(decision, f"packs.rule.{rule.id}", params, (own, *rests))


def _title(source: Source) -> str:
    """In both languages, since a citation is told to readers of either."""
    return f"{source.instrument['zh']} ({source.instrument['en']})"


def _denied(row: LoadedPack) -> Answer:
    params = {
        "rule": f"{row.name}.altered",
        "does": "deny",
        "is_certain": True,
        "pack": row.name,
        "version": row.edition,
    }
    cite = Citation(f"pack {row.name}", row.edition, "policy", row.loaded_at.date().isoformat(), "/packs")
    return Answer("deny", "packs.altered", params, (cite,))


def _filled(ctx: Read, params: Any) -> Any:
    """With the foundation's name where a rule names it."""
    if isinstance(params, dict):
        return {name: _filled(ctx, each) for name, each in params.items()}
    return (
        params.replace("{foundation}", ctx.kernel.settings.foundation_in("zh")) if isinstance(params, str) else params
    )
