"""The registration of members."""

from pathlib import Path

from gongqi.kernel.room import Room
from gongqi.members import service
from gongqi.members.flows import FLOWS, SCHEDULES
from gongqi.members.pages import VIEWS
from gongqi.members.policy import POLICIES

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
        service.set_tier,
        service.suspend,
        service.restore,
        service.issue_token,
        service.revoke_token,
        service.redeem,
        service.make_link,
        service.set_password,
        service.end_session,
    ),
    reads=(
        service.list_parties,
        service.get_party,
        service.list_memberships,
        service.list_tiers,
        service.show_me,
        service.list_tokens,
        service.list_sessions,
    ),
    policies=POLICIES,
    flows=FLOWS,
    schedules=SCHEDULES,
    views=VIEWS,
)
