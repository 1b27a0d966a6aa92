"""The page of standards: what stands between a submission and a release, gate by gate."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from gongqi.chain.standards import service
from gongqi.chain.standards.policies import policies
from gongqi.kernel.errors import Refused
from gongqi.kernel.gates import POLICY_PATH
from gongqi.kernel.room import View
from gongqi.kernel.verbs import Read


def load_standards(ctx: Read) -> dict[str, Any]:
    by_source = groupby(service.rules(ctx), key=lambda rule: rule.source)
    return {"gates": [(source, list(rules)) for source, rules in by_source], "policies": policies().values()}


def load_policy(_ctx: Read, name: str) -> dict[str, Any]:
    if name not in policies():
        raise Refused("access.not-found", kind="policy", key=name[:100])
    return {"policy": policies()[name]}


VIEWS = (
    View("/standards", "standards_list.html", load_standards),
    View(POLICY_PATH + "{name}", "standards_policy.html", load_policy),
)
