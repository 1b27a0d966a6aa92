"""Registration of the members room, and the vocabulary of roles that every house is built with."""

from __future__ import annotations

from pathlib import Path

from gongqi.kernel.access import Vocabulary
from gongqi.kernel.room import Room
from gongqi.members import service, sessions, tokens
from gongqi.members.flows import FLOWS, SCHEDULES
from gongqi.members.pages import VIEWS
from gongqi.members.policy import POLICIES

VOCABULARY = Vocabulary.load(Path(__file__).with_name("vocabulary.toml"))

ROOM = Room(
    name="members",
    folder=Path(__file__).parent,
    verbs=(
        service.create_organisation,
        service.create_person,
        service.create_agent,
        service.create_site,
        service.grant_membership,
        service.end_membership,
        service.suspend,
        service.restore,
        tokens.issue_token,
        tokens.revoke_token,
        sessions.redeem,
        sessions.make_link,
        sessions.set_password,
        sessions.end_session,
    ),
    reads=(
        service.list_parties,
        service.get_party,
        service.list_memberships,
        service.show_me,
        tokens.list_tokens,
        sessions.list_sessions,
    ),
    policies=POLICIES,
    flows=FLOWS,
    schedules=SCHEDULES,
    views=VIEWS,
)
