"""Tiers of membership: who sets them, what stays on record, what is in force when."""

from __future__ import annotations

import pytest

from gongqi.kernel.errors import Refused
from gongqi.members import service


def refused(code: str):
    return pytest.raises(Refused, match=rf"^{code}\(")


def in_force(foundation, org):
    return foundation.kernel.look(lambda ctx: service.tiers_of(ctx, [org])).get(org, "general")


def test_a_tier_holds_from_the_day_it_is_set_to_its_end_and_stays_on_record(foundation):
    org = foundation.organisation("hospital")
    owner = foundation.person("owner-one", org, "owner")
    assert in_force(foundation, org) == "general"
    first = foundation.do(foundation.operator, "members:tier:set", org=org, tier="gold", reason="dues of 2026", days=30)
    assert in_force(foundation, org) == "gold"
    foundation.clock.advance(days=30)
    assert in_force(foundation, org) == "general"
    foundation.do(foundation.operator, "members:tier:set", org=org, tier="silver", reason="half dues")
    foundation.do(foundation.operator, "members:tier:set", org=org, tier="general", reason="left")
    rows = {row.tier: row for row in foundation.ask(owner, "members:tier:list", org=org).items}
    assert rows["gold"].until == first.until and rows["silver"].until == rows["general"].since
    assert rows["gold"].reason == "dues of 2026" and rows["general"].until is None
    assert in_force(foundation, org) == "general"


def test_only_the_foundation_sets_a_tier_and_not_the_one_that_is(foundation):
    org = foundation.organisation("hospital")
    owner = foundation.person("owner-one", org, "owner")
    with refused("access.forbidden"):
        foundation.do(owner, "members:tier:set", org=org, tier="platinum", reason="we are great")
    with refused("members.tier-unchanged"):
        foundation.do(foundation.operator, "members:tier:set", org=org, tier="general", reason="again")
    foundation.do(foundation.operator, "members:tier:set", org=org, tier="gold", reason="dues")
    with refused("members.tier-unchanged"):
        foundation.do(foundation.operator, "members:tier:set", org=org, tier="gold", reason="again")
    with refused("members.party-unknown"):
        foundation.do(foundation.operator, "members:tier:set", org=owner.id, tier="gold", reason="a person")


def test_others_do_not_see_a_tier_nor_is_its_reason_in_the_log(foundation):
    org, other = foundation.organisation("hospital"), foundation.organisation("laboratory")
    stranger = foundation.person("owner-two", other, "owner")
    foundation.do(foundation.operator, "members:tier:set", org=org, tier="gold", reason="a quiet sponsor")
    assert foundation.ask(stranger, "members:tier:list").items == []
    said = [entry for entry in foundation.evidence if entry.kind == "members.tier-set"]
    assert [entry.facts for entry in said] == [{}] and said[0].private["reason"] == "a quiet sponsor"
