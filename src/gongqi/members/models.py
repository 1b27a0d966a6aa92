"""The tables of identity.

Secrets are stored as digests only (see `rules.digest`); passwords as argon2id. What is personal says so, with its
purpose, its basis and how long it is kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from gongqi.kernel.db import Base


class Party(Base):
    """Whoever can act or be acted for: kind is person, organisation, agent or site. state: invited, active, suspended.

    `org`: for an agent or a site the organisation it belongs to; for a person the organisation that invited them.
    `suspended_by`: whose decision a suspension is, the organisation's or ("*") the foundation's.

    Personal data (people): name, handle, email. Purpose: to let members know whom they work with, and to reach them
    about their account. Basis: the membership agreement (GDPR 6(1)(b), PIPL 13(2)). Kept while the membership lasts;
    the log and the ledger hold only the id. The email is shown to the person and to operators.
    """

    __tablename__ = "party"
    __table_args__ = (Index(None, "id", "kind"),)  # whether a row may be seen is told by its kind, without opening it

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    handle: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    email: Mapped[str | None]
    org: Mapped[str | None] = mapped_column(ForeignKey("party.id"), index=True)
    state: Mapped[str] = mapped_column(default="active")
    suspended_by: Mapped[str | None]
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 (SQLAlchemy reads it once)


class Membership(Base):
    """A dated role of one party in one organisation, or in the foundation (`org` is "*"). `until` None: it holds now.

    Ended memberships stay: they say who was affiliated with whom when a decision was taken.
    """

    __tablename__ = "membership"
    __table_args__ = (Index(None, "party", "until"), Index(None, "org", "role"))

    id: Mapped[str] = mapped_column(primary_key=True)
    party: Mapped[str] = mapped_column(ForeignKey("party.id"))
    org: Mapped[str]
    role: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]


class OrganisationTier(Base):
    """A tier of membership that an organisation was given, and why; at most one is in force. `until` None: without end.

    Ended tiers stay: they say by which price a call was charged. `reason` is what an operator wrote, sealed in the log.
    """

    __tablename__ = "organisation_tier"
    __table_args__ = (Index(None, "org", "until"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    org: Mapped[str] = mapped_column(ForeignKey("party.id"))
    tier: Mapped[str]
    reason: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]


class Token(Base):
    """A bearer token of a party. `shown` is its beginning, for telling tokens apart; null `scopes` narrow nothing.

    `org` copies the organisation of an agent or site, so that its owners find the token. `made_by` is the token it was
    made with, which it does not outlive; `link_of` as in ConsoleSession. `last_used_at` is kept to the hour.
    """

    __tablename__ = "token"

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    shown: Mapped[str]
    party: Mapped[str] = mapped_column(ForeignKey("party.id"), index=True)
    org: Mapped[str | None] = mapped_column(index=True)
    label: Mapped[str]
    scopes: Mapped[list[Any] | None]
    issued_by: Mapped[str]
    made_by: Mapped[str | None] = mapped_column(index=True)
    link_of: Mapped[str | None]
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Password(Base):
    """The argon2id hash of a person's password, parameters included; replaced by each change, never logged.

    `link_of`: whose sign-in link it was by which this password replaced an earlier one.
    """

    __tablename__ = "password"

    party: Mapped[str] = mapped_column(ForeignKey("party.id"), primary_key=True)
    hash: Mapped[str]
    link_of: Mapped[str | None]
    set_at: Mapped[datetime]


class SignInLink(Base):
    """A one-time way in, by digest. The row goes when it is used. `link_of` and `rests_on` pass to the session."""

    __tablename__ = "sign_in_link"

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    party: Mapped[str] = mapped_column(ForeignKey("party.id"))
    link_of: Mapped[str | None]
    rests_on: Mapped[str | None]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ConsoleSession(Base):
    """A browser that is signed in. The row goes when the session ends.

    `link_of`: somebody else, by whose link the session began; null when the party signed in by itself, or by the link
    that the server shows as it starts. `rests_on`: the token with which the party made the link for itself; the session
    ends with it, and is as narrow.

    Personal data: when and with which kind of browser a person signed in. Purpose: so that they can recognise and end
    their sessions. Basis: security of the service (GDPR 6(1)(f) and 32, PIPL 51). Kept at most SESSION_LIFE and a day.
    """

    __tablename__ = "console_session"

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    party: Mapped[str] = mapped_column(ForeignKey("party.id"), index=True)
    browser: Mapped[str]
    link_of: Mapped[str | None]
    rests_on: Mapped[str | None]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]


class Attempt(Base):
    """How often a sign-in was tried under one key: a digest of name, address, or both.

    Personal data: the digest of an address can be found by trying them all. Purpose and basis: as for ConsoleSession.
    Kept for a day after the last attempt, and until the next daily sweep.
    """

    __tablename__ = "sign_in_attempt"

    key: Mapped[str] = mapped_column(String(80), primary_key=True)
    count: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(index=True)
    locked_until: Mapped[datetime | None]
