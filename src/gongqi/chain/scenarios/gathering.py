"""Gathering: feedback on the answers of a model becomes the next revision of a dataset, under the terms it was given on.

Each version of a model's data agreement has a dataset of its own, owned by whoever offers the model and as open as the
agreement says, so that what was given under one set of terms is never found under another. A line says what the caller
gave, which release answered and on what day; no key, no person, and no organisation unless the agreement says so. What
holds a secret or obviously personal data does not become a line: it is removed, with the reason.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import orjson
from pydantic import Field
from sqlalchemy import select

from gongqi.chain.scenarios.models import Gathering
from gongqi.chain.scenarios.personal import personal_in, texts_in
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import Answer
from gongqi.kernel.verbs import Input, Output, Page, Paged, Read, Write, read, verb
from gongqi.resources.hub import service as hub
from gongqi.resources.hub.gates import OpeningQuestion
from gongqi.resources.serving import service as serving

ID = 64
GATHER = "scenarios:feedback:gather"
MAX_GATHERED = 5_000  # in one revision; what is left is for the next
COMPONENT = "datasets"
SECRET, PERSONAL, TOO_DEEP = "secret", "personal", "too-deep"
_SLUG_LENGTH = 40


class Gather(Input):
    route: str = Field(max_length=ID)


class OneGathering(Input):
    gathering: str = Field(max_length=ID)


class ListGatherings(Paged):
    route: str | None = Field(None, max_length=ID)
    asset: str | None = Field(None, max_length=ID)


class GatheringOut(Output):
    """Of `claimed`, `count` are lines of `path` in `revision`; `set_aside` says of the others, by reason, how many."""

    id: str
    route: str
    agreement: str
    asset: str
    org: str
    state: str
    claimed: int
    count: int
    set_aside: dict[str, int]
    path: str | None
    revision: str | None
    reason: str | None
    started_by: str
    started_at: datetime
    finished_at: datetime | None
    until: datetime | None
    dropped: str | None


@verb(GATHER, evidence="scenarios.gathering-started")
def gather(ctx: Write, input: Gather) -> GatheringOut:
    """Take the feedback that is waiting on a model's answers into the next revision of its dataset."""
    route = serving.route_facts(ctx, input.route)
    ctx.require(GATHER, route.org)
    terms = route.agreement
    if terms is None:
        raise Refused("scenarios.route-without-agreement", model=route.name)
    running = select(Gathering.id).where(Gathering.route == route.id, Gathering.state == "running")
    if before := ctx.session.scalar(running):
        raise Refused("scenarios.gathering-running", gathering=before)
    id = ctx.new_id("gth")
    claimed = serving.claim_feedback(ctx, route.id, terms.sha256, id, MAX_GATHERED)
    if not claimed:
        raise Refused("scenarios.nothing-to-gather", model=route.name)
    row = ctx.add(
        Gathering(
            id=id, route=route.id, agreement=terms.sha256, terms=terms.model_dump(), org=route.org,
            asset=_dataset(ctx, route, terms), state="running", claimed=claimed, count=0, set_aside={}, path=None,
            revision=None, reason=None, started_by=ctx.actor.id, started_at=ctx.now, finished_at=None, until=None,
            dropped=None,
        )
    )  # fmt: skip
    ctx.session.flush()
    ctx.record(row.id, route=route.id, asset=row.asset, agreement=terms.sha256)
    ctx.start_flow("scenarios.gather", key=row.id, gathering=row.id)
    return GatheringOut.model_validate(row)


@read("scenarios:gathering:list")
def list_gatherings(ctx: Read, input: ListGatherings) -> Page[GatheringOut]:
    return ctx.listed(Gathering, GatheringOut, input, to="scenarios:return:read")


@read("scenarios:gathering:get")
def get_gathering(ctx: Read, input: OneGathering) -> GatheringOut:
    return GatheringOut.model_validate(ctx.find(Gathering, input.gathering, to="scenarios:return:read"))


def answer_opening(ctx: Read, question: OpeningQuestion) -> list[Answer]:
    """What was given on terms goes no further than they say."""
    terms = ctx.session.scalar(select(Gathering.terms).where(Gathering.asset == question.asset).limit(1))
    if terms is None or hub.OPENNESS.index(question.visibility) <= hub.OPENNESS.index(terms["visibility"] or "private"):
        return []
    return [Answer("deny", "feedback-agreed")]


# --- for our flow ----------------------------------------------------------------------------------------------------


def line_of(said: serving.Said, model: str, release: str | None, organisation: str | None) -> bytes | str:
    """The line that says it; or, as text, why it is none."""
    try:
        texts = "\n".join(texts_in(said.content))
    except ValueError:
        return TOO_DEEP
    if hub.secrets_in(texts.encode()):
        return SECRET
    if personal_in(texts):
        return PERSONAL
    told: dict[str, Any] = said.content | {"model": model, "release": release, "date": f"{said.called_at:%Y-%m-%d}"}
    if said.rating is not None:
        told["rating"] = said.rating
    if organisation is not None:
        told["organisation"] = organisation
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def card_of(model: str, terms: serving.Agreement) -> bytes:
    """The card that the dataset begins with. It names no licence: a steward says that, before anything is released."""
    kept = {"zh": "至数据集撤回为止", "en": "until the dataset is withdrawn"}
    if terms.retention_days is not None:
        kept = {"zh": f"{terms.retention_days} 天", "en": f"{terms.retention_days} days"}
    front = {
        "title": {"zh": f"{model} 的反馈", "en": f"Feedback on {model}"},
        "summary": {
            "zh": "调用者对回答的评价、结果与更正。", "en": "What callers said of answers: ratings, outcomes, corrections."
        },
        "provenance": {
            "zh": f"经模型网关按数据协议第 {terms.version} 版收取，摘要 {terms.sha256}；"
            f"用途 {terms.purpose}；保留 {kept['zh']}。",
            "en": f"Taken at the model gateway under version {terms.version} of its data agreement, digest {terms.sha256}; "
            f"purpose {terms.purpose}; kept: {kept['en']}.",
        },
    }  # fmt: skip
    # JSON is YAML; the terms are the body, as they were written.
    yaml = orjson.dumps(front, option=orjson.OPT_INDENT_2).decode()
    return f"---\n{yaml}\n---\n\n## 数据协议 · Data agreement\n\n{terms.text_zh}\n\n{terms.text_en}\n".encode()


def dataset_before(ctx: Read, route: str, agreement: str) -> str | None:
    """The dataset of a model's feedback under an agreement, if there is one."""
    query = select(Gathering.asset).where(Gathering.route == route, Gathering.agreement == agreement)
    return ctx.session.scalar(query.limit(1))


# --- within ----------------------------------------------------------------------------------------------------------


def _dataset(ctx: Write, route: serving.RouteOut, terms: serving.Agreement) -> str:
    if before := dataset_before(ctx, route.id, terms.sha256):
        return before
    plain = re.sub(r"[^a-z0-9]+", "-", route.name.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return hub.create_asset(
        ctx, org=route.org, slug=f"feedback-{plain or 'model'}-{terms.sha256[:8]}", kind="dataset",
        title_zh=f"{route.name} 的反馈", title_en=f"Feedback on {route.name}",
        visibility=terms.visibility or "private",
    ).id  # fmt: skip
