"""The tables of scenarios: who agreed to send outcomes back, what they sent, and what became of it.

Invariants
- Nothing is taken from an organisation that has not signed the present version of the deployment's agreement.
- An outcome is the truth about one row of one settled call of the organisation that reports it; a row has at most one.
  Whoever would feed a dataset with inventions pays for asking the model about each of them, under its own name.
- An outcome belongs to at most one return; a return's outcomes are chosen when it starts and do not change.
- A return ends once: done with a revision, empty when nothing fitted, or failed with its outcomes free again. So does a
  gathering, which does the same for feedback on a model's answers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Signature(Base):
    """An organisation agreed to one version of a deployment's data agreement, by its text's digest."""

    __tablename__ = "agreement_signature"
    __table_args__ = (UniqueConstraint("deployment", "org", "agreement_version"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str]
    org: Mapped[str] = mapped_column(index=True)
    agreement_version: Mapped[int]
    text_sha256: Mapped[str] = mapped_column(String(64))
    signed_by: Mapped[str]
    signed_at: Mapped[datetime]


class Outcome(Base):
    """What turned out to be true about one record that a model was asked about.

    May be personal data in the hands of whoever can link `record` to a person. Purpose, basis and retention are those
    of the deployment's data agreement, which the reporting organisation has signed; shown to that organisation, and to
    the one whose dataset it is returned to. Never in evidence, events or logs. `row` of `call` is counted from 0, as in the
    tensors. (Either may be None before revision 0004.)
    """

    __tablename__ = "outcome"
    __table_args__ = (
        UniqueConstraint("deployment", "org", "record"),
        UniqueConstraint("call", "row"),
        Index(None, "deployment", "returned_in", "id"),
        Index(None, "returned_in"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str]
    release: Mapped[str]
    org: Mapped[str]
    call: Mapped[str | None]
    row: Mapped[int | None]
    record: Mapped[str]
    features: Mapped[dict[str, Any]]
    label: Mapped[int]
    reported_by: Mapped[str]
    reported_at: Mapped[datetime]
    returned_in: Mapped[str | None]
    set_aside: Mapped[str | None]


class Return(Base):
    """Outcomes on their way into a dataset. `org` owns the dataset. `state`: running, done, empty, failed."""

    __tablename__ = "outcome_return"
    __table_args__ = (Index(None, "asset", "state"), Index(None, "org", "id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str]
    asset: Mapped[str]
    org: Mapped[str]
    state: Mapped[str]
    claimed: Mapped[int]
    count: Mapped[int]
    set_aside: Mapped[int]
    revision: Mapped[str | None]
    reason: Mapped[str | None]
    started_by: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Gathering(Base):
    """Feedback on its way into a dataset of `org`, all of it given on one `route` under one `agreement`,
    whose text is in `terms`.

    `state`: running, done, empty, failed. Of `claimed`, `count` became lines of `path`, which stays until `until`, when the
    days of the first of them are over; `set_aside` were removed. `dropped`: the revision from which the lines are gone.
    """

    __tablename__ = "feedback_gathering"
    __table_args__ = (Index(None, "route", "state"), Index(None, "org", "id"), Index(None, "until"))

    id: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str]
    agreement: Mapped[str] = mapped_column(String(64))
    terms: Mapped[dict[str, Any]]
    asset: Mapped[str]
    org: Mapped[str]
    state: Mapped[str]
    claimed: Mapped[int]
    count: Mapped[int]
    set_aside: Mapped[dict[str, Any]]
    path: Mapped[str | None]
    revision: Mapped[str | None]
    reason: Mapped[str | None]
    started_by: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    until: Mapped[datetime | None]
    dropped: Mapped[str | None]
