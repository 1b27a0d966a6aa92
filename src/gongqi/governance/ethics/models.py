"""The tables of the ethics review: evaluations, review cases, votes, recusals; and inquiries.

Invariants
- A case binds one revision digest, one roster and one quorum, all frozen when it opens.
- Votes and recusals are added, never changed; which of them count is for rules.decide to say.
- `state` only repeats what rules.decide said when it was first not open; it is there for lists.

Personal data: who voted how, and why; who stood aside, and why; who found that no evaluation fits, and why. Reviewers act
in public: the charter says so, and they agree to it when they take the role (GDPR 6(1)(b), PIPL 13(2)). Kept as long as
the release can be used.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Evaluation(Base):
    """A model's release on held-out records. `state`: queued, done, failed, unavailable.

    `job` names model and data by SHA-256; `result_digest` is over the canonical JSON (RFC 8785) of `result`; `code` and
    `params` say why there is no result. `waiver`: why a reviewer found that no evaluation fits the model.
    """

    __tablename__ = "evaluation"

    id: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[str] = mapped_column(unique=True)
    asset: Mapped[str] = mapped_column(index=True)
    org: Mapped[str] = mapped_column(index=True)
    revision: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    dataset_revision: Mapped[str | None]
    state: Mapped[str] = mapped_column(index=True)
    job: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    result_digest: Mapped[str | None] = mapped_column(String(64))
    code: Mapped[str | None]
    params: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    evidence: Mapped[str | None]
    waived_by: Mapped[str | None]
    waived_at: Mapped[datetime | None]
    waiver: Mapped[str | None] = mapped_column(Text)


class ReviewCase(Base):
    """The board's review of one release of this `name`. `state`: open, approved, refused, expired, superseded.

    `number` counts the reviews of a release, of which the last one counts. `conditions`: what the approval asks for,
    fixed at the decision. `evidence`: the decision's entry in the log.
    """

    __tablename__ = "review_case"
    __table_args__ = (UniqueConstraint("release", "number"), Index(None, "state", "id"), Index(None, "org", "id"))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[str]
    number: Mapped[int]
    name: Mapped[str]
    asset: Mapped[str]
    org: Mapped[str]
    revision: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    roster: Mapped[list[Any]]
    quorum: Mapped[int]
    validity_days: Mapped[int]
    opened_at: Mapped[datetime]
    closes_at: Mapped[datetime]
    state: Mapped[str]
    conditions: Mapped[list[Any]]
    decided_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    evidence: Mapped[str | None]


class ReviewVote(Base):
    """One vote as it was cast. `conditions` are asked for by an approving vote: text and due_at (ISO 8601)."""

    __tablename__ = "review_vote"
    __table_args__ = (Index(None, "case", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    case: Mapped[str] = mapped_column(ForeignKey("review_case.id"))
    voter: Mapped[str]
    choice: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64))
    rationale: Mapped[str] = mapped_column(Text)
    conditions: Mapped[list[Any]]
    at: Mapped[datetime]


class ReviewRecusal(Base):
    """A reviewer who stands aside: `org` is the party they belong to, or None when they declared it themselves."""

    __tablename__ = "review_recusal"

    case: Mapped[str] = mapped_column(ForeignKey("review_case.id"), primary_key=True)
    reviewer: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str | None]
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]


class Inquiry(Base):
    """Something about a model in use that wants a person's judgement. `state`: open, closed.

    `subject`: the drift of its `stream` that it was opened for. `outcome`: harmless, watched or acted; `finding`: why.
    """

    __tablename__ = "ethics_inquiry"
    __table_args__ = (Index(None, "route", "id"), Index(None, "org", "id"), Index(None, "state", "id"))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - the mapper reads it once

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str]
    org: Mapped[str]
    release: Mapped[str | None]
    subject: Mapped[str]
    stream: Mapped[str]
    state: Mapped[str]
    opened_at: Mapped[datetime]
    outcome: Mapped[str | None]
    finding: Mapped[str | None] = mapped_column(Text)
    closed_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    evidence: Mapped[str | None]
